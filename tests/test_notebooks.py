"""The notebooks as they are committed: executed, and showing everything where they are not run.

CI executes them (.ci/run); here they are only read.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell["outputs"]]


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_it_was_executed_from_top_to_bottom_without_an_error(notebook):
    counts = [cell["execution_count"] for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    kinds = {(output["output_type"], output.get("name")) for output in outputs(notebook)}
    assert ("error", None) not in kinds
    assert ("stream", "stderr") not in kinds


def test_its_pictures_show_where_it_is_not_run(notebook):
    """JupyterLab shows nothing for SVG, raw or inline, in a notebook that was only opened."""
    data = [output.get("data", {}) for output in outputs(notebook)]
    assert not any("image/svg+xml" in bundle for bundle in data)
    pages = ["".join(bundle.get("text/html", "")) for bundle in data]
    assert not any(re.search(r"<svg", page) for page in pages)
    pictures = [bundle for bundle in data if "image/png" in bundle]
    assert pictures or any('src="data:image/' in page for page in pages)


def test_it_begins_with_prose_and_asks_a_question(notebook):
    first = notebook["cells"][0]
    assert first["cell_type"] == "markdown"
    assert "".join(first["source"]).startswith("# ")


def test_it_says_nothing_of_the_machine_it_ran_on(notebook):
    text = json.dumps(notebook)
    assert not re.search(r"/(home|root|tmp|work|usr|Users)/", text)
    assert not re.search(r"0x[0-9a-f]{8,}", text)
    assert "iopub" not in text  # times of execution


def test_it_imports_the_library_and_defines_none_of_it(notebook):
    code = "\n".join("".join(cell["source"]) for cell in code_cells(notebook))
    assert "micrograd_like" in code
    assert "class Value" not in code
