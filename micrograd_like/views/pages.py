"""A page that plays the steps of a graph: `player`. Its template is `player.html`."""

from __future__ import annotations

import base64
import html
import json
import os
import re
from copy import deepcopy
from typing import Any

from ..engine import Value, topological_order
from ..errors import InputError
from ..gradients import listed
from ..state import write_atomically
from .drawing import draw
from .names import numeral
from .stepping import Event, Line, few, steps

MOST_STEPS = 20_000  # browsers lay out tables of 10,000 rows, but not of 100,000


class Player:
    """A page that plays the steps. In a notebook it shows itself; `save` writes it to a file.

    `html` is the whole page, which needs nothing but itself.
    """

    def __init__(self, page: str, svg: str, alt: str) -> None:
        self.html = page
        self._svg = svg
        self._alt = alt

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page to a file (UTF-8), whole or not at all. Raises OSError."""
        write_atomically(path, self.html)

    def _repr_html_(self) -> str:
        """The page in a sandboxed frame that lies on the picture.

        Where a notebook is not trusted its frames are taken out, and the picture is what remains;
        where frames are kept but scripts don't run, the page shows the picture by itself. So the
        picture is seen once in every case.
        """
        picture = base64.b64encode(self._svg.encode("utf-8", "replace")).decode()
        return (
            '<div class="micrograd-player" style="position:relative;width:100%;height:640px">'
            f'<img alt="{html.escape(self._alt)}" src="data:image/svg+xml;base64,{picture}" '
            'style="max-width:100%;max-height:100%;background:#fff">'
            f'<iframe title="{html.escape(self._alt)}, step by step" sandbox="allow-scripts" '
            f'srcdoc="{html.escape(self.html)}" style="position:absolute;left:0;top:0;width:100%;'
            'height:100%;border:0;background:#fff"></iframe></div>'
        )

    def __repr__(self) -> str:
        return f"<Player: {self._alt}; save('steps.html') writes the page>"


def player(root: Value, seed: float = 1.0, **drawing: Any) -> Player:
    """A page that goes through `steps(root, seed)` one by one: picture, formula, values, gradients.

    `drawing` are options of `draw`. Raises InputError (a ValueError) for more than 20,000 steps.
    """
    from importlib.resources import files  # takes a tenth of what importing the package does

    passes = steps(root, seed)
    if len(passes) > MOST_STEPS:
        raise InputError(
            f"a page shows at most {MOST_STEPS:,} steps, this graph has {len(passes):,}: "
            "steps(root) gives them as data; or play a node nearer to the inputs"
        )
    place = {event.node: i for i, event in enumerate(passes.forward)}
    # What is drawn is a copy with the gradients that the steps lead to: the page takes them away
    # and gives them back one by one, in boxes that are wide enough for them.
    twins = topological_order(deepcopy(root))
    for twin, event in zip(twins[::-1], passes.backward, strict=True):
        twin.grad = event.after
    for option in ("highlight", "parameters"):
        nodes = listed(drawing.get(option, ()))
        drawing[option] = [twins[place[node]] if node in place else node for node in nodes]
    drawn = draw(twins[-1], **drawing)
    svg = drawn.svg  # before the boxes are asked for: drawing may have to merge some
    name = passes.backward[0].name
    alt = f"Graph of {name}: {len(twins)} nodes"
    data = {
        "nodes": [
            (e.name, e.node.label or e.name, drawn.box(twin), [edge.operand for edge in e.edges])
            for e, twin in zip(passes.forward, twins, strict=True)
        ],
        "events": [_row(event, place) for event in passes],
    }
    parts = {
        "title": html.escape(f"{name}, step by step"),
        "alt": html.escape(alt),
        "svg": svg[max(0, svg.find("<svg")) :],  # without the XML declaration
        "data": json.dumps(data, separators=(",", ":")).replace("<", r"\u003c"),
    }
    template = files(__package__).joinpath("player.html").read_text(encoding="utf-8")
    page = re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)
    return Player(page.encode("utf-8", "replace").decode(), svg, alt)


def _row(event: Event, place: dict[Value, int]) -> tuple[Any, ...]:
    """The event for the page's script: phase, node, caption, lines, parents, changed cells."""
    k = place[event.node]
    parents = [place[edge.parent] for edge in event.edges]
    cells = [(k, event.after)]
    if event.adjoint is not None and event.edges:
        cells = [(k, event.adjoint), *((place[e.parent], e.after) for e in event.edges)]
    column = int(event.phase == "backward")
    lines = event.lines + (_chains(event) if column else [])
    changes = [(node, column, (numeral(x), repr(x))) for node, x in cells]
    return column, k, _caption(event), lines, parents, changes


def _caption(event: Event) -> str:
    name = event.name
    if event.adjoint is None:
        return f"{name} is {'computed' if event.node.op else 'given'}"
    if not event.node.op:
        return f"The gradient of {name} is complete"
    parents = dict.fromkeys(event.writer.text(edge.parent) for edge in event.edges)
    *others, last = few(list(parents))
    return f"{name} hands its gradient on to {', '.join(others)}{' and ' if others else ''}{last}"


def _chains(event: Event) -> list[Line]:
    """A line for each edge of a backward step: the chain rule, and below it what it leads to."""
    lines: list[Line] = []
    for edge in few(event.edges):
        if isinstance(edge, str):
            lines.append(("note", [("", edge)]))
            continue
        symbols = f"{'/'.join(edge.ratio)} = {edge.symbols}; " if edge.symbols else ""
        adjoint = "/".join(event.writer.ratio(edge.parent))
        note = f"{symbols}{adjoint}: {numeral(edge.before)} → {numeral(edge.after)}"
        # A number stays on the line of its sign of equality.
        pieces = [("", " =\xa0") if piece == ("", " = ") else piece for piece in edge.pieces]
        lines.append(("chain", [*pieces, ("note", note)]))
    return lines
