"""Graphviz in WebAssembly: what `draw` and `player` give in Pyodide, where nothing is installed."""

from __future__ import annotations

import hashlib
import inspect
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import in_pyodide
import pytest

from micrograd_like import Value, draw, nn, player
from micrograd_like.views import drawing

FOLDER = Path(drawing.__file__).parent / "viz_js"


def network() -> Value:
    model = nn.MLP(2, [3, 1], seed=0)
    loss = (model([Value(1.0, "x1"), Value(-2.0, "x2")]) - 1.0) ** 2 * 3.0
    loss.backward()
    return loss


def in_there(expression: str) -> str:
    """An expression of `network()`, evaluated in Pyodide."""
    program = (
        "from micrograd_like import Value, draw, nn, player, tanh\n"
        f"from micrograd_like.errors import RendererError\n{inspect.getsource(network)}\n"
    )
    return str(in_pyodide.ran(program + expression))


OPTIONS = [
    "collapse='none'",
    "collapse='neuron', direction='TB'",
    "collapse='layer', hide='grad', show_constants=False",
    "collapse='none', max_nodes=9",
]


def skeleton(svg: str) -> list[tuple[str | None, ...]]:
    """All that a page finds in a picture: groups, their titles, texts and shapes, in order."""
    return [
        (part.tag.rpartition("}")[2], part.get("id"), part.get("class"), (part.text or "").strip())
        for part in ElementTree.fromstring(svg).iter()
    ]


@pytest.mark.parametrize("options", OPTIONS)
def test_a_picture_has_the_structure_that_graphviz_gives_it_elsewhere(
    options: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = shutil.which("graphviz-pure") or shutil.which(
        "graphviz-pure", path=str(Path(sys.executable).parent)
    )
    if port is None:
        pytest.skip("graphviz-pure is not installed")
    monkeypatch.setattr(drawing, "renderer", lambda: port)
    here: drawing.Drawing = eval(f"draw(network(), {options})", {**globals()})
    assert skeleton(in_there(f"draw(network(), {options}).svg")) == skeleton(here.svg)


def test_a_page_and_what_is_saved_are_those_that_are_made_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drawing, "rendered", in_pyodide.rendered)
    assert (
        in_there("player(network(), collapse='none').html")
        == player(network(), collapse="none").html
    )
    saved = in_there("draw(network()).save('/tmp/network.svg').read_text()")
    assert saved == draw(network()).svg
    assert in_there("draw(network())._repr_html_()") == draw(network())._repr_html_()


def test_what_graphviz_cannot_do_is_an_error_and_the_next_picture_is_drawn() -> None:
    for attempt, words in (
        ("draw(network()).save('/tmp/x.png')", "RendererError: .* cannot write 'png'"),
        ("draw(network()).show()", "RendererError: no browser sees the files"),
        (
            "from micrograd_like.views.drawing import rendered\nrendered('digraph {', 'svg')",
            "RendererError: .* cannot write 'svg': syntax error in line 1",
        ),
    ):
        with pytest.raises(RuntimeError, match=words):
            in_there(attempt)
        assert in_there("draw(network()).svg").startswith("<?xml")


def test_a_graph_that_could_take_too_long_is_cut_at_once() -> None:
    """Nothing stops a layout in Pyodide."""
    said = in_there(
        "import warnings\nx = Value(1.0)\nfor _ in range(1000): x = tanh(x)\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    svg = draw(x, max_nodes=2000).svg\n"
        "f'{caught[0].message}: {svg}'"
    )
    assert said.startswith("the layout of 1,001 boxes may take longer than 8 seconds: 250 are")
    assert "751 more nodes" in said


def test_what_is_vendored_is_what_was_published() -> None:
    digest = hashlib.sha256((FOLDER / "backend.js").read_bytes()).hexdigest()
    assert digest in (FOLDER / "LICENSE").read_text(encoding="utf-8")
