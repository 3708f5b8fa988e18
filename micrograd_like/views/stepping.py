"""The two passes as data, one event a node: `steps`.

`steps` changes nothing: it reads the recorded values and local derivatives, and adds them up in
the order in which `Value.backward` does, so that its gradients are the same to the last bit.
Texts are made when they are asked for, so that large graphs have their steps in seconds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, TypeVar

from ..engine import Value, topological_order
from ..gradients import is_stale
from ..numerics import number
from ..words import first_and_last
from .algebra import Expression, formula, partials
from .names import factor, looks_like_a_name, names, numeral, superscript

Piece = tuple[str, str] | tuple[str, str, str]
"""A piece of a line: its role, and a text, or what stands above and below the bar of a ratio.

The roles are "adjoint", "local" (a local derivative), "result" and "note".
"""
Line = tuple[str, list[Piece]]
"""What a line is, and its pieces: "more" continues the line before, and "note" explains it."""

T = TypeVar("T")

_LONGEST_NAME = 40  # in a formula
_MOST_TERMS = 5  # of a sum, of a call, and of the lines about one node
_LONGEST_PASS = 40  # in a `repr`
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_RIGHT_TO_LEFT = re.compile(
    "[\u0590-\u08ff\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufefc\U00010800-\U00010fff]"
)


@dataclass(eq=False, repr=False, slots=True)
class Transfer:
    """An edge, and what a node hands along it to a parent's adjoint: its own, times the local one.

    `parent` is the operand of `child` at place `operand`, `local` the derivative recorded there,
    and `contribution` the product. `adjoint` is the child's, `before` and `after` the parent's.
    """

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
        return self.writer.partial(self.child, self.operand)

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
            ("adjoint", factor(self.adjoint)), ("", " · "), ("local", factor(self.local)),
            ("", " = "), ("result", numeral(self.contribution)),
        ]  # fmt: skip

    @property
    def formula(self) -> str:
        """The chain rule along this edge: ∂L/∂a += ∂L/∂d · ∂d/∂a = 4.0 · (-3.0) = -12.0."""
        return _plain([("", self.pieces)])

    def __str__(self) -> str:
        return self.formula

    def __repr__(self) -> str:
        return f"<Transfer {self.formula}>"


@dataclass(eq=False, repr=False, slots=True)
class Event:
    """One node's turn in one of the passes: number `index` of all the steps, counted from 0.

    `before` and `after` are the node's value (None before it is computed) in the forward pass and
    its `.grad` in the backward pass: a leaf's adds to what it held, any other starts at 0.
    `edges` are those to its parents, the same ones in both passes.
    """

    phase: ClassVar[str]

    index: int
    node: Value
    before: float | None
    after: float
    edges: Sequence[Transfer]
    writer: Writer

    @property
    def name(self) -> str:
        """The node's label, or v1, v2, ... where it has none; unique in the graph."""
        return self.writer.name(self.node)

    @property
    def lines(self) -> list[Line]:
        """The formula about the node, without its edges."""
        raise NotImplementedError

    @property
    def formula(self) -> str:
        """The lines in one."""
        return _plain(self.lines)

    def __str__(self) -> str:
        return self.formula

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.index}: {self.formula}>"


class Forward(Event):
    """A leaf is given, or a node computed."""

    __slots__ = ()
    phase = "forward"

    @property
    def symbols(self) -> str:
        """What the node is in terms of its operands: d = a·b. A leaf's is its name."""
        return self.writer.symbols(self.node)

    @property
    def numbers(self) -> str:
        """The same with numbers for names; "" for a leaf, and where data was changed since."""
        return self.writer.numbers(self.node)

    @property
    def lines(self) -> list[Line]:
        """Symbols, numbers and result: d = a·b = 2.0 · (-3.0) = -6.0."""
        result: Piece = ("result", numeral(self.after))
        if not self.node.op:
            return [("", [("", f"{self.symbols} = "), result])]
        numbers = self.numbers
        lines: list[Line] = [("", [("", self.symbols)])]
        if numbers:
            lines.append(("more", [("", f"= {numbers}")]))
        lines.append(("more", [("", "= "), result]))
        if not numbers:
            lines.append(("note", [("", "(as recorded: data was changed since)")]))
        return lines


@dataclass(eq=False, repr=False, slots=True)
class Backward(Event):
    """A node's adjoint is complete: it is handed on to its parents, or added to a leaf's `.grad`.

    `adjoint` is the derivative of the root with respect to the node.
    """

    phase = "backward"

    adjoint: float

    @property
    def symbols(self) -> str:
        """The adjoint's name: ∂L/∂a."""
        return "/".join(self.writer.ratio(self.node))

    @property
    def lines(self) -> list[Line]:
        """The node's adjoint, and what becomes of the `.grad` of a leaf that held something."""
        adjoint: Piece = ("adjoint", *self.writer.ratio(self.node))
        role = "adjoint" if self.node.op else "result"
        lines: list[Line] = [("", [adjoint, ("", " = "), (role, numeral(self.adjoint))])]
        if not self.node.op and self.before:
            grad = f"{self.writer.atom(self.node)}.grad += "
            numbers = f"= {factor(self.before)} + {factor(self.adjoint)} = "
            lines.append(("", [("", grad), adjoint]))
            lines.append(("more", [("", numbers), ("result", numeral(self.after))]))
        return lines

    @property
    def formula(self) -> str:
        """The adjoint, and a line for each edge; of many edges the first three and the last."""
        return "\n".join([_plain(self.lines), *(f"  {edge}" for edge in few(self.edges))])


class Steps(list[Event]):
    """All the events in order of execution; `forward` and `backward` are the two passes."""

    def __init__(self, forward: Sequence[Forward], backward: Sequence[Backward]) -> None:
        super().__init__([*forward, *backward])
        self.forward = forward
        self.backward = backward

    def _text(self, longest: int) -> str:
        """A line for each formula; of longer passes the first and the last ones."""
        width = len(str(len(self)))
        indent = "\n" + " " * (width + 2)
        gap = "... {} more; print(steps) shows all"
        lines: list[str] = []
        for events in (self.forward, self.backward):
            shown = events if len(events) <= longest else first_and_last(events, gap, 20, 10)
            lines.append(events[0].phase)
            lines += [
                e if isinstance(e, str) else f"{e.index + 1:{width}}  {e}".replace("\n", indent)
                for e in shown
            ]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self._text(len(self))

    def __repr__(self) -> str:
        """The text, of which a long pass shows the first and the last lines."""
        return self._text(_LONGEST_PASS)


def steps(root: Value, seed: float = 1.0) -> Steps:
    """The forward and the backward pass through the graph of `root`, one event a node and pass.

    Nothing is computed anew and no `.grad` is touched; `seed` is as in `Value.backward`.
    Raises OperandError (a TypeError) for what is not a Value.

    >>> a, b = Value(2.0, label="a"), Value(-3.0, label="b")
    >>> L = (a * b).tanh()
    >>> L.label = "L"
    >>> steps(L)
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
    order = topological_order(root)
    writer = Writer(root, order)
    # The sweep of `backward`, once more: here each sum is kept as it is before and after each term.
    adjoint = dict.fromkeys(order, 0.0)
    adjoint[root] = number(seed)
    edges: dict[Value, list[Transfer]] = {}
    for node in reversed(order):
        g = adjoint[node]
        pairs = iter(node.edges)
        edges[node] = transfers = []
        for i, operand in enumerate(node.operands):
            if isinstance(operand, Value):
                parent, d = next(pairs)
                before = adjoint[parent]
                adjoint[parent] = after = before + g * d
                transfers.append(Transfer(node, i, parent, d, g, g * d, before, after, writer))
    forward = [
        Forward(i, node, None, node.data, edges[node], writer) for i, node in enumerate(order)
    ]
    backward = []
    for i, node in enumerate(reversed(order), len(order)):
        g = adjoint[node]
        before = 0.0 if node.op else number(node.grad) + 0.0  # which makes 0.0 of -0.0
        after = g if node.op else g + before
        backward.append(Backward(i, node, before, after, edges[node], writer, g))
    return Steps(forward, backward)


# --- writing --------------------------------------------------------------------------------------


class Writer:
    """What the events of one graph share to write themselves: the names, made at the first use."""

    def __init__(self, root: Value, order: list[Value]) -> None:
        self._root = root
        self._order = order
        self._last: tuple[Value, Sequence[Expression | None]] | None = None

    @cached_property
    def _names(self) -> dict[Value, str]:
        return names(self._order)

    @cached_property
    def _texts(self) -> dict[Value, str]:
        return {node: _inline(name) for node, name in self._names.items()}

    def name(self, node: Value) -> str:
        """The node's label, or v1, v2, ... where it has none."""
        return self._names[node]

    def text(self, node: Value) -> str:
        """The name as it stands in a line."""
        return self._texts[node]

    def atom(self, node: Value) -> str:
        """The name, in parentheses if it looks like more than a name: (x1·w1)."""
        name = self.text(node)
        return name if looks_like_a_name(name) else f"({name})"

    def ratio(self, node: Value) -> tuple[str, str]:
        """The name of the node's adjoint, as what stands above and below: ∂L, ∂a."""
        return f"∂{self.atom(self._root)}", f"∂{self.atom(node)}"

    def symbols(self, node: Value) -> str:
        """What the node is in terms of the names of its operands: d = a·b. A leaf's is its name."""
        written = formula(node, self._texts, most=_MOST_TERMS)
        return " = ".join(filter(None, [self.text(node), written]))

    def numbers(self, node: Value) -> str:
        """The operation in numbers; "" where they do not give the node's value any more."""
        if is_stale(node):
            return ""
        operands = {a: a.data for a in node.operands if isinstance(a, Value)}
        return formula(node, operands, digits=4, spaced=True, most=_MOST_TERMS)

    def partial(self, node: Value, i: int) -> str:
        """The local derivative by operand i in symbols, "" if it is a number or data has changed.

        The last node's are kept: each of a thousand edges into a sum would make all of them.
        """
        if self._last is None or self._last[0] is not node:
            self._last = node, self._partials(node)
        partial = self._last[1][i]
        return "" if partial is None or partial.number is not None else partial.text

    def _partials(self, node: Value) -> Sequence[Expression | None]:
        assert node.op is not None
        if is_stale(node):
            return [None] * len(node.operands)
        operands = [
            Expression(self.text(a)) if isinstance(a, Value) else Expression(number=a)
            for a in node.operands
        ]
        return partials(node.op, operands, Expression(self.text(node)))


def _inline(name: str) -> str:
    """A name in a line: short, without line ends, its direction kept inside."""
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME - 13]}…{name[-12:]}"  # two names may differ at the end
    name = _CONTROLS.sub(" ", name)
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
    return items if len(items) <= _MOST_TERMS else first_and_last(items, "… ({} more)")
