"""README.md: every block of code prints what it says, and its tables follow the package."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import micrograd_like
from micrograd_like import ops

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```\n(?:```text\n(.*?)```)?", README, re.DOTALL)


def test_the_readme_has_examples():
    assert len(BLOCKS) >= 5
    assert sum(bool(output) for _, output in BLOCKS) >= 5


@pytest.mark.parametrize(("code", "output"), BLOCKS, ids=range(len(BLOCKS)))
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


def test_the_table_of_conventions_is_that_of_the_rows():
    public = {
        name: op for name, op in ops.TABLE.items() if op.kink and hasattr(micrograd_like, name)
    }
    aliases = {"max": ops.maximum, "min": ops.minimum}
    wanted = [f"| `{name}` | {op.kink} |" for name, op in {**public, **aliases}.items()]
    for row in wanted:
        assert row in README
    assert README.count("\n| `") == len(wanted)


def test_the_files_that_the_readme_names_exist():
    contributing = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for name in re.findall(r"`((?:micrograd_like/|tests/)[\w/]+\.py)\b", README + contributing):
        assert (ROOT / name).is_file(), name
    for name in re.findall(r"`((?:views|compiler|training|checks|cli)/[\w/]+\.py)\b", contributing):
        assert (ROOT / "micrograd_like" / name).is_file() or "NAME" in name, name
    for name in re.findall(r"\]\(([\w/.-]+)\)", README):
        assert (ROOT / name).is_file(), name


def test_the_extras_that_the_readme_names_are_in_pyproject():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(project["optional-dependencies"])
    for group in re.findall(r"'\.\[([\w,]+)\]'", README):
        assert set(group.split(",")) <= extras
    everything = " ".join(project["optional-dependencies"]["all"])
    assert all(extra in everything for extra in extras - {"all", "test"})
