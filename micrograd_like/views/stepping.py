"""The two passes as data, one event a node: `steps`.

`steps` changes nothing: it reads the recorded values and local derivatives, and adds them up in
the order in which `Value.backward` does, so that its gradients are the same to the last bit.
Texts are made when they are asked for, so that large graphs have their steps in seconds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

from ..engine import Value, numbers_of, topological_order
from ..gradients import is_stale
from ..numerics import number
from ..words import first_and_last, fitting, printable
from .algebra import IF_NEGATIVE, Expression, Slot, formula, partials
from .names import factor, looks_like_a_name, names, numeral, superscript

Piece = tuple[str, str] | tuple[str, str, str]
"""A piece of a line: its role, and a text (or `Figure`), or what a ratio has above and below.

The roles are "adjoint", "local" (a local derivative), "result" and "note".
"""
Line = tuple[str, list[Piece]]
"""What a line is, and its pieces: "more" continues the line before, and "note" explains it."""

T = TypeVar("T")

_LONGEST_NAME = 40  # in a formula
_MOST_TERMS = 5  # of a sum, of a call, and of the lines about one node
_SLOT = "\ue004"
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufefc\U00010800-\U00010fff]")


class Figure(str):
    """A number in a line, which a live page writes anew: such a `quantity` of a node or an edge.

    Of a node that is its "value", its "adjoint", the .grad that it "held" and the "total" after the
    backward pass; of an edge what `Transfer` calls so. A negative factor is in parentheses.
    """

    quantity: str
    of: Value | Transfer
    is_factor: bool


def figure(x: float, quantity: str, of: Value | Transfer, is_factor: bool = False) -> Figure:
    """The number as a figure."""
    made = Figure(factor(x) if is_factor else numeral(x))
    made.quantity, made.of, made.is_factor = quantity, of, is_factor
    return made


class Numbers(str):
    """An operation in numbers: see `Writer.slots`."""


@dataclass(eq=False, repr=False, slots=True)
class Transfer:
    """An edge, and what a node hands along it to a parent's adjoint: its own, times the local one.

    `index` is its number among all edges, in the order of the forward pass. `parent` is the operand
    of `child` at place `operand`, `local` the derivative recorded there, and `contribution` the
    product. `adjoint` is the child's, `before` and `after` the parent's.
    """

    index: int
    child: Value
    operand: int
    parent: Value
    local: float
    adjoint: float
    contribution: float
    before: float
    after: float
    writer: Writer

    @property
    def ratio(self) -> tuple[str, str]:
        """The local derivative's name, as what stands above and below: ∂d, ∂a.

        Where a node is an operand twice, as in x·x, ∂y/∂x⁽¹⁾ and ∂y/∂x⁽²⁾ are the derivatives at
        its first and second place.
        """
        name = self.writer.atom(self.parent)
        places = [i for i, a in enumerate(self.child.operands) if a is self.parent]
        if len(places) > 1:
            name += f"⁽{superscript(str(1 + places.index(self.operand)))}⁾"
        return f"∂{self.writer.atom(self.child)}", f"∂{name}"

    @property
    def symbols(self) -> str:
        """The local derivative in symbols; "" where it is just a number, or data was changed."""
        found = self.writer.partials(self.child)[self.operand]
        return "" if found is None or found.number is not None else found.text

    @property
    def partial(self) -> str:
        """The local derivative with its name, in symbols and as a number: ∂d/∂a = b = -3.0."""
        return " = ".join(filter(None, ["/".join(self.ratio), self.symbols, numeral(self.local)]))

    @property
    def pieces(self) -> list[Piece]:
        """The chain rule along this edge, in pieces."""
        ratio = self.writer.ratio
        return [
            ("", *ratio(self.parent)), ("", " += "),
            ("adjoint", *ratio(self.child)), ("", " · "), ("local", *self.ratio), ("", " = "),
            ("adjoint", figure(self.adjoint, "adjoint", self.child, True)), ("", " · "),
            ("local", figure(self.local, "local", self, True)), ("", " = "),
            ("result", figure(self.contribution, "contribution", self)),
        ]  # fmt: skip

    @property
    def formula(self) -> str:
        """The chain rule along this edge: ∂L/∂a += ∂L/∂d · ∂d/∂a = 4.0 · (-3.0) = -12.0."""
        return _plain([("", self.pieces)])

    def __repr__(self) -> str:
        return self.formula


@dataclass(eq=False, repr=False, slots=True)
class Event:
    """One node's turn in one of the passes: number `index` of all the steps, counted from 0.

    In the forward pass a leaf is given or a node computed: `before` is None, `after` its value and
    `adjoint` None. In the backward pass `adjoint`, the derivative of the root with respect to the
    node, is complete: it is handed on to the parents, or added to a leaf's `.grad`. There `before`
    and `after` are the `.grad`: a leaf's adds to what it held, any other starts at 0.
    `edges` are those to the parents, the same ones in both passes.
    """

    index: int
    node: Value
    before: float | None
    after: float
    adjoint: float | None
    edges: Sequence[Transfer]
    writer: Writer

    @property
    def phase(self) -> str:
        """Either "forward" or "backward"."""
        return "forward" if self.adjoint is None else "backward"

    @property
    def name(self) -> str:
        """The node's label in one short line, or v1, v2, ...; unique in the graph."""
        return self.writer.text(self.node)

    @property
    def lines(self) -> list[Line]:
        """The formula about the node, without its edges: the operation, or the adjoint."""
        writer, node, is_leaf = self.writer, self.node, not self.node.op
        if self.adjoint is not None:
            adjoint: Piece = ("adjoint", *writer.ratio(node))
            g = figure(self.adjoint, "adjoint", node)
            lines: list[Line] = [
                ("", [adjoint, ("", " = "), ("result" if is_leaf else "adjoint", g)])
            ]
            if is_leaf and self.before:  # the leaf held a gradient
                lines.append(("", [("", f"{writer.atom(node)}.grad += "), adjoint]))
                held = figure(self.before, "held", node, True)
                g = figure(self.adjoint, "adjoint", node, True)
                total = figure(self.after, "total", node)
                terms: list[Piece] = [("", "= "), ("", held), ("", " + "), ("", g), ("", " = ")]
                lines.append(("more", [*terms, ("result", total)]))
            return lines
        result: Piece = ("result", figure(self.after, "value", node))
        if is_leaf:
            return [("", [("", f"{self.name} = "), result])]
        lines = [("", [("", writer.symbols(node))])]
        if numbers := writer.numbers(node):
            more: list[Piece] = [("", "= "), ("", Numbers(numbers))]
            return [*lines, ("more", more), ("more", [("", "= "), result])]
        note = "(as recorded: data was changed since)"
        return [*lines, ("more", [("", "= "), result]), ("note", [("", note)])]

    @property
    def formula(self) -> str:
        """The lines in one, and in the backward pass one for each edge (see `few`)."""
        edges = [] if self.adjoint is None else few(self.edges)
        return "\n".join([_plain(self.lines), *(f"  {edge}" for edge in edges)])

    def __repr__(self) -> str:
        return self.formula


class Steps(list[Event]):
    """All the events in order of execution; `forward` and `backward` are the two passes."""

    def __init__(self, forward: Sequence[Event], backward: Sequence[Event]) -> None:
        super().__init__([*forward, *backward])
        self.forward = forward
        self.backward = backward

    def __str__(self) -> str:
        """A line for each formula, in ASCII where stdout has nothing else."""
        width = len(str(len(self)))
        indent = "\n" + " " * (width + 2)
        lines: list[str] = []
        for events in (self.forward, self.backward):
            lines.append(events[0].phase)
            lines += [f"{e.index + 1:{width}}  {e}".replace("\n", indent) for e in events]
        return fitting("\n".join(lines))

    def __repr__(self) -> str:
        return f"<{len(self)} steps: print(steps) shows them>"


def steps(root: Value, seed: float = 1.0) -> Steps:
    """The forward and the backward pass through the graph of `root`, one event a node and pass.

    Nothing is computed anew and no `.grad` is touched; `seed` is as in `Value.backward`.
    Raises OperandError (a TypeError) for what is not a Value.

    >>> a, b = Value(2.0, label="a"), Value(-3.0, label="b")
    >>> L = (a * b).tanh()
    >>> L.label = "L"
    >>> print(steps(L))
    forward
    1  a = 2.0
    2  b = -3.0
    3  v1 = a·b = 2.0 · (-3.0) = -6.0
    4  L = tanh(v1) = tanh(-6.0) = -1.0
    backward
    5  ∂L/∂L = 1.0
         ∂L/∂v1 += ∂L/∂L · ∂L/∂v1 = 1.0 · 2.458e-05 = 2.458e-05
    6  ∂L/∂v1 = 2.458e-05
         ∂L/∂a += ∂L/∂v1 · ∂v1/∂a = 2.458e-05 · (-3.0) = -7.373e-05
         ∂L/∂b += ∂L/∂v1 · ∂v1/∂b = 2.458e-05 · 2.0 = 4.915e-05
    7  ∂L/∂b = 4.915e-05
    8  ∂L/∂a = -7.373e-05
    """
    order = _turns(root)
    writer = Writer(root, topological_order(root, untaken=True))  # with the names of a drawing
    # The sweep of `backward`, once more: here each sum is kept as it is before and after each term.
    adjoint = dict.fromkeys(order, 0.0)
    adjoint[root] = number(seed)
    edges: dict[Value, list[Transfer]] = {}
    backward = []
    for index, node in enumerate(reversed(order), len(order)):
        g = adjoint[node]
        edges[node] = transfers = []
        pairs: Any = zip(node.operands, node.operand_grads, strict=True)
        for i, (parent, d) in enumerate(pairs):
            if d is not None:
                before = adjoint[parent]
                adjoint[parent] = after = before + g * d
                transfers.append(Transfer(0, node, i, parent, d, g, g * d, before, after, writer))
        before = 0.0 if node.op else number(node.grad) + 0.0  # which makes 0.0 of -0.0
        after = g if node.op else g + before
        backward.append(Event(index, node, before, after, g, transfers, writer))
    for i, edge in enumerate(chain.from_iterable(edges[node] for node in order)):
        edge.index = i
    forward = [
        Event(i, node, None, node.data, None, edges[node], writer) for i, node in enumerate(order)
    ]
    return Steps(forward, backward)


def _turns(root: Value) -> list[Value]:
    """The graph in topological order, in which a leaf comes right before what first uses it."""
    turns: dict[Value, None] = {}
    for node in topological_order(root):
        if node.op is not None:
            turns |= dict.fromkeys([p for p in node.parents if p.op is None])
            turns[node] = None
    return list(turns) or [root]


# --- writing --------------------------------------------------------------------------------------


class Writer:
    """What the events of one graph share to write themselves: the names of its nodes."""

    def __init__(self, root: Value, order: list[Value]) -> None:
        self._root = root
        self._names = names(order, _inline)

    def text(self, node: Value) -> str:
        """The node's name as it stands in a line: its label, or v1, v2, ... where it has none."""
        return self._names[node]

    def atom(self, node: Value) -> str:
        """The name, in parentheses if it looks like more than a name: (x1·w1)."""
        name = self.text(node)
        return name if looks_like_a_name(name) else f"({name})"

    def ratio(self, node: Value) -> tuple[str, str]:
        """The name of the node's adjoint, as what stands above and below: ∂L, ∂a."""
        return f"∂{self.atom(self._root)}", f"∂{self.atom(node)}"

    def symbols(self, node: Value) -> str:
        """What the node is in terms of the names of its operands: d = a·b. A leaf's is its name."""
        written = formula(node, self._names, most=_MOST_TERMS)
        return " = ".join(filter(None, [self.text(node), written]))

    def numbers(self, node: Value) -> str:
        """The operation in numbers; "" where they do not give the node's value any more."""
        if is_stale(node):
            return ""
        operands = {a: a.data for a in node.operands if isinstance(a, Value)}
        return formula(node, operands, digits=4, spaced=True, most=_MOST_TERMS)

    def slots(self, node: Value) -> list[str | tuple[Value, bool]]:
        """The operation in numbers, as texts and operands, each with whether it is a factor."""
        operands = [a for a in dict.fromkeys(node.operands) if isinstance(a, Value)]
        slots = {a: Slot(f"{_SLOT}{i}{_SLOT}") for i, a in enumerate(operands)}
        written = formula(node, slots, digits=4, spaced=True, most=_MOST_TERMS)
        opened, closed = IF_NEGATIVE
        parts = re.split(f"({opened}?{_SLOT}[0-9]+{_SLOT}{closed}?)", written)
        return [
            (operands[int(part.strip(f"{_SLOT}{opened}{closed}"))], part[0] == opened)
            if _SLOT in part
            else part
            for part in parts
            if part
        ]

    def partials(self, node: Value) -> Sequence[Expression | None]:
        """The local derivative by each operand in symbols; None where data has changed."""
        assert node.op is not None
        if is_stale(node):
            return [None] * len(node.operands)
        operands = [
            Expression(self.text(a))
            if isinstance(a, Value) and a in self._names
            else Expression(number=x)
            for a, x in zip(node.operands, numbers_of(node.operands), strict=True)
        ]
        return partials(node.op, operands, Expression(self.text(node)))


def _inline(name: str) -> str:
    """A name in a line: short, without line ends, its direction kept inside."""
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME - 13]}…{name[-12:]}"  # two names may differ at the end
    name = printable(name)
    # Letters written from right to left would take the rest of the formula along.
    return f"\u2068{name}\u2069" if _RIGHT_TO_LEFT.search(name) else name


def _plain(lines: Sequence[Line]) -> str:
    """Lines as text: a comma stands before one that begins anew, a space before any other."""
    return "".join(
        (" " if kind else ", ") + "".join("/".join(texts) for _, *texts in pieces)
        for kind, pieces in lines
    )[2:]


def few(items: Sequence[T]) -> Sequence[T | str]:
    """The items, of many the first three and the last, with a note between them."""
    return first_and_last(items, "… ({} more)", most=_MOST_TERMS)
