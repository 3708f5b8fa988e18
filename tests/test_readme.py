"""README.md and the pages beside the code: blocks print what they say, tables follow the rows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import micrograd_like
from micrograd_like import ops
from micrograd_like.errors import RendererError

ROOT = Path(__file__).parent.parent
PAGES = {
    path: path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted((ROOT / "micrograd_like").rglob("README.md"))]
}
README, CORE = PAGES[ROOT / "README.md"], PAGES[ROOT / "micrograd_like" / "README.md"]
BLOCKS = [
    pytest.param(*block, id=f"{path.parent.name}-{i}")
    for path, page in PAGES.items()
    for i, block in enumerate(
        re.findall(r"```python\n(.*?)```\n(?:```text\n(.*?)```)?", page, re.DOTALL)
    )
]


def test_pages_have_examples_and_the_first_one_is_short():
    assert len(BLOCKS) >= 12
    assert len(PAGES) >= 5
    assert README.count("\n") <= 200  # three screens, and pictures


@pytest.mark.parametrize(("code", "output"), BLOCKS)
def test_a_block_of_the_readme_prints_what_it_says(code, output, tmp_path):
    if "import jax" in code:
        pytest.importorskip("jax", reason="needs the extra jax")
    if "import compile" in code:
        pytest.importorskip("numpy")
    if "import names" in code:
        pytest.importorskip("names", reason="needs the extra data")
    (tmp_path / "example.py").write_text(code, encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.stderr == ""
    assert result.stdout.replace(f"{tmp_path}{os.sep}", "") == output


def test_the_picture_of_the_first_block_is_what_is_drawn(tmp_path):
    from micrograd_like import draw

    code = README.split("```python\n")[1].split("```")[0]
    names = {}
    exec(code, names)
    try:
        drawn = draw(names["y"]).svg
    except RendererError:
        pytest.skip("needs Graphviz")
    shown = (ROOT / "notebooks" / "pictures" / "neuron.svg").read_text(encoding="utf-8")
    words = [sorted(re.findall(r"<text[^>]*>([^<]*)", svg)) for svg in (shown, drawn)]
    assert words[0] == words[1]


def test_the_table_of_conventions_is_that_of_the_rows():
    public = {
        name: op for name, op in ops.TABLE.items() if op.kink and hasattr(micrograd_like, name)
    }
    aliases = {"maximum": ops.maximum, "minimum": ops.minimum}
    rows = [(name, op.kink.replace("**", r"\*\*")) for name, op in {**public, **aliases}.items()]
    for name, kink in rows:
        assert f"| `{name}` | {kink} |" in CORE
    assert CORE.count("\n| `") == len(rows)


def test_the_files_and_sections_that_pages_name_exist():
    contributing = ROOT / ".github" / "CONTRIBUTING.md"
    pages = {**PAGES, contributing: contributing.read_text(encoding="utf-8")}
    for path, page in pages.items():
        for name in re.findall(r"`((?:micrograd_like/|tests/)[\w/]+\.py)\b", page):
            assert (ROOT / name).is_file(), name
        for name in re.findall(r"`((?:views|compiler|training|checks|cli)/[\w/]+\.py)\b", page):
            assert (ROOT / "micrograd_like" / name).is_file() or "NAME" in name, name
        for name, section in re.findall(r"\]\(([\w/.-]+)(?:#([\w-]+))?\)", page):
            assert (path.parent / name).is_file(), name
            headings = re.findall(r"^#+ (.*)", pages.get((path.parent / name).resolve(), ""), re.M)
            slugs = [re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in headings]
            assert not section or section in slugs, f"{name}#{section}"


def test_the_extras_that_the_readme_names_are_in_pyproject():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(project["optional-dependencies"])
    for group in re.findall(r"'\.\[([\w,]+)\]'", README):
        assert set(group.split(",")) <= extras
    everything = " ".join(project["optional-dependencies"]["all"])
    assert all(extra in everything for extra in extras - {"all", "test"})
