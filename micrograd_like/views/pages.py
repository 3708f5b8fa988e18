"""A page that plays the steps of a graph: `player`. Its template is `player.html`."""

from __future__ import annotations

import base64
import html
from copy import deepcopy
from math import isfinite
from typing import Any

from ..engine import Value, topological_order
from ..errors import InputError
from ..gradients import listed
from ..ops import EVERYWHERE
from .algebra import Expression
from .drawing import NEGATIVE, POSITIVE, UNDEFINED, draw
from .names import numeral
from .page import Page, filled
from .stepping import Event, Figure, Line, Numbers, Piece, Steps, Writer, few, figure, steps

MOST_STEPS = 20_000  # browsers lay out tables of 10,000 rows, but not of 100,000
_MOST_IN_TITLE = 40  # nodes, and names


class Player(Page):
    """A page that plays the steps. In a notebook it shows itself; `save` writes it to a file."""

    def __init__(self, page: str, title: str, svg: str) -> None:
        super().__init__(page, title)
        self._svg = svg

    def _repr_html_(self) -> str:
        """The page in a sandboxed frame that lies on the picture.

        Where a notebook is not trusted its frames are taken out, and the picture is what remains,
        with what to do; where frames are kept but scripts don't run, the page shows the picture by
        itself. So the picture is seen once in every case.
        """
        picture = base64.b64encode(self._svg.encode("utf-8", "replace")).decode()
        style = "grid-area:1/1;width:100%;height:640px;background:#fff"
        return (
            '<div class="micrograd-player" style="display:grid;width:100%">'
            '<div style="grid-area:1/1;min-width:0">'
            f'<img alt="{html.escape(self.title)}" src="data:image/svg+xml;base64,{picture}" '
            'style="max-width:100%;max-height:560px;background:#fff">'
            "<p>Run this cell to go through the steps.</p></div>"
            f"{self.framed(f'{self.title}, step by step', style)}</div>"
        )

    def __repr__(self) -> str:
        return f"<Player: {self.title}; save('steps.html') writes the page>"


def player(root: Value, seed: float = 1.0, **drawing: Any) -> Player:
    """A page that goes through `steps(root, seed)` one by one: picture, formula, values, gradients.

    In it every leaf has a slider, and values, local derivatives and gradients follow, by a program
    of the compiler's; the side that an `if` of Python's took stays. It is a replay for more than
    3,000 nodes, where data was changed after the forward pass, and where an operation has no
    spelling in JavaScript.

    `drawing` are options of `draw`, but for `hide`: a page shows its numbers. Raises InputError (a
    ValueError) for more than 20,000 steps.
    """
    from .live import live_program  # the compiler, which to look at graphs nobody needs else

    if "hide" in drawing:
        raise InputError("a page shows all numbers: hide is for draw")
    passes = steps(root, seed)
    if len(passes) > MOST_STEPS:
        raise InputError(
            f"a page shows at most {MOST_STEPS:,} steps, this graph has {len(passes):,}: "
            "steps(root) gives them as data; or play a node nearer to the inputs"
        )
    # What is drawn is a copy with the gradients that the steps lead to: the page takes them away
    # and gives them back one by one.
    twins = dict(
        zip(*[topological_order(x, untaken=True) for x in (root, deepcopy(root))], strict=True)
    )
    for event in passes.backward:
        twins[event.node].grad = event.after
    for option in ("highlight", "parameters"):
        nodes = listed(drawing.get(option, ()))
        drawing[option] = [twins.get(node, node) for node in nodes]
    drawn = draw(twins[root], **{"room": True, **drawing})
    svg = drawn.svg  # before the boxes are asked for: drawing may have to merge some
    name = _title(root, passes.backward[0].writer)
    alt = f"Graph of {name}: {len(twins)} nodes"
    boxes = {node: drawn.box(twin) for node, twin in twins.items()}
    # What only a condition depends on, and what `where` does not take, has no steps.
    computed = {event.node for event in passes.forward}
    others = [node for node in twins if node not in computed]
    data, program = _data(passes, others, boxes), "null"
    try:
        live = live_program(root, passes.forward, others)
        program = f"(() => {{\n{live}return program;\n}})()"
    except InputError as error:
        data["replay"] = str(error)
    page = filled(
        __package__,
        "player.html",
        f"{name}, step by step",
        data,
        alt=html.escape(alt),
        svg=svg[max(0, svg.find("<svg")) :],  # without the XML declaration
        program=program,
    )
    return Player(page, alt, svg)


def _title(root: Value, writer: Writer) -> str:
    """The root's label, or what it is an expression of, in names, if that is short."""
    if root.label or root.op is None:
        return writer.text(root)
    order = topological_order(root, untaken=True)
    if len(order) <= _MOST_IN_TITLE:
        written: dict[Value, Expression] = {}
        for node in order:
            if node.op is None or node.label:
                written[node] = Expression(writer.text(node))
                continue
            operands = [written[a] if isinstance(a, Value) else a for a in node.operands]
            written[node] = node.op(*operands)
        if written[root].size <= _MOST_IN_TITLE:
            return written[root].text
    return writer.symbols(root).partition(" = ")[2]


def _data(passes: Steps, others: list[Value], boxes: dict[Value, str]) -> dict[str, Any]:
    """What the page's script has: the graph, its numbers, and the lines of each event."""
    nodes = [event.node for event in passes.forward]
    place = {node: i for i, node in enumerate([*nodes, *others])}
    edges = [edge for event in passes.forward for edge in event.edges]
    domains = {
        str(place[node]): (
            f"{node.op.name} is defined {node.op.domain}",
            [_json(a) for a in node.operands if not isinstance(a, Value)],
        )
        for node in nodes
        if node.op and node.op.domain != EVERYWHERE
    }
    return {
        "nodes": [
            (e.name, e.node.label or e.name, boxes[e.node], e.node.op is None)
            for e in passes.forward
        ],
        "edges": [(place[e.child], e.operand, place[e.parent]) for e in edges],
        "others": [boxes[node] for node in others],
        "values": [_json(node.data) for node in (*nodes, *others)],
        "locals": [_json(edge.local) for edge in edges],
        "held": [_json(event.before) for event in reversed(passes.backward)],
        "seed": _json(passes.backward[0].adjoint),
        "choices": [
            (place[node], place[condition])
            for node in nodes
            if node.op and node.op.kind == "choice"
            for condition in node.operands[:1]
            if isinstance(condition, Value)
        ],
        "domains": domains,
        "colors": [POSITIVE, NEGATIVE, UNDEFINED],
        "events": [_row(event, place) for event in passes],
    }


def _json(x: float | None) -> float | str | None:
    """The number for JSON, which has neither NaN nor infinities."""
    return x if x is None or isfinite(x) else numeral(x)


def _row(event: Event, place: dict[Value, int]) -> tuple[Any, ...]:
    """The event for the page's script: phase, node, caption, lines."""
    column = int(event.phase == "backward")
    lines = [
        (kind, [part for piece in pieces for part in _parts(piece, event, place)])
        for kind, pieces in event.lines + (_chains(event) if column else [])
    ]
    return column, place[event.node], _caption(event), lines


def _parts(piece: Piece, event: Event, place: dict[Value, int]) -> list[tuple[Any, ...]]:
    """The piece; instead of a number, which it is, of which node or edge, and if it is a factor."""
    role, text = piece[:2]
    if isinstance(text, Figure):
        i = place[text.of] if isinstance(text.of, Value) else text.of.index
        return [(role, (text.quantity, i, int(text.is_factor)))]
    if isinstance(text, Numbers):
        parts = event.writer.slots(event.node)
        return [
            (role, part if isinstance(part, str) else ("value", place[part[0]], int(part[1])))
            for part in parts
        ]
    return [piece]


def _caption(event: Event) -> str:
    name = event.name
    if event.adjoint is None:
        return f"{name} is {'computed' if event.node.op else 'given'}"
    if not event.node.op:
        return f"The gradient of {name} is complete"
    if not event.edges:
        return f"{name} took a number, which needs no gradient"
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
        # A number stays on the line of its sign of equality.
        pieces = [("", " =\xa0") if piece == ("", " = ") else piece for piece in edge.pieces]
        adjoint = "/".join(event.writer.ratio(edge.parent))
        pieces += [
            ("note", f"{symbols}{adjoint}: "), ("note", figure(edge.before, "before", edge)),
            ("note", " → "), ("note", figure(edge.after, "after", edge)),
        ]  # fmt: skip
        lines.append(("chain", pieces))
    return lines
