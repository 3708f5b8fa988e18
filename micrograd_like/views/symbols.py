"""A graph in symbols: its nodes as names, and the partials along its edges as expressions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .. import ops
from ..engine import Value, topological_order
from ..errors import InputError, OperandError
from ..gradients import between
from ..ops import Op
from ..words import printable
from . import algebra
from .algebra import Expression, Form
from .names import latex_name, looks_like_a_name, names

MOST_TERMS = 12  # of a sum with more terms the first three and the last are written


class SymbolicGraph:
    """The graph of `root`, with a symbol for each node.

    `edges` has the nodes between `root` and `wrt`, parents first, and for each of them its parents
    (once for each use) with the partial by that parent. Options are as in `derive`.
    """

    def __init__(
        self,
        root: Value,
        wrt: Sequence[Value],
        activation: str | Mapping[str, str] = "",
        form: Form = "textbook",
    ) -> None:
        self.root = root
        self.targets = dict.fromkeys(wrt)  # a set that keeps their order
        self.order = topological_order(root, untaken=True)
        self.uses = Counter(a for n in self.order for a in n.operands if isinstance(a, Value))
        self.names = names([*dict.fromkeys([*self.order, *wrt])], printable)
        self._taken: tuple[set[str], set[str]] = (set(), set())  # as text, and as LaTeX
        self.symbols = {node: self.fresh(Expression(name)) for node, name in self.names.items()}
        # The nodes that each symbol is about, and the symbols of slopes.
        self.about = {name: [node] for node, name in self.names.items()}
        self.slopes: set[str] = set()
        self._ratios: dict[tuple[Value, Value], Expression] = {}
        self._slopes: dict[tuple[object, ...], Expression] = {}
        self._activations = _activations(activation, self.order)
        self._form = form
        active = _between(root, wrt)
        self.edges: dict[Value, list[tuple[Value, Expression]]] = {
            node: self._edges(node, active) for node in active
        }

    def operand(self, operand: Value | float) -> Expression:
        """How it is written as an operand: its name, or a number."""
        return self.symbols[operand] if isinstance(operand, Value) else Expression(number=operand)

    def ratio(self, node: Value, by: Value) -> Expression:
        """The symbol ∂node/∂by."""
        if (node, by) not in self._ratios:
            (above, upper), (below, lower) = map(as_factor, (self.symbols[node], self.symbols[by]))
            latex = rf"\frac{{\partial {upper}}}{{\partial {lower}}}"
            symbol = Expression(f"∂{above}/∂{below}", name_in_latex=latex, binding=2.2)
            self._ratios[node, by] = self.fresh(symbol)
        return self._ratios[node, by]

    def fresh(self, symbol: Expression) -> Expression:
        """The symbol, primed as often as it takes to be that of nothing else."""
        written = [symbol.name, symbol.name_in_latex or latex_name(symbol.name)]
        for taken, (i, prime) in zip(self._taken, enumerate(("′", "{}'")), strict=True):
            while written[i] in taken:
                written[i] += prime
            taken.add(written[i])
        return Expression(written[0], name_in_latex=written[1], binding=symbol.binding)

    def operation(self, node: Value, written: Mapping[Value, Expression]) -> Expression:
        """What the node computes, in the names of its operands, or as they are `written`."""
        assert node.op is not None
        operands = [
            written[a] if isinstance(a, Value) and a in written else self.operand(a)
            for a in node.operands
        ]
        if node.op in self._activations:
            return _call(self._activations[node.op], operands[: len(_told(node))])
        return node.op(*operands)

    def _edges(self, node: Value, active: Iterable[Value]) -> list[tuple[Value, Expression]]:
        if node.op is None:
            return []
        places: list[Any] = _flowing(node)
        pairs = zip(places, self.partials(node, places), strict=True)
        return [(a, d) for i, d in pairs if (a := node.operands[i]) in active]

    def partials(self, node: Value, places: Sequence[int]) -> list[Expression]:
        """The partials by these operands; a symbol for one that is not in the table's ops."""
        op, operands = node.op, list(map(self.operand, node.operands))
        assert op is not None
        written = algebra.partials(op, operands, self.symbols[node], self._form)
        if op in self._activations:
            written[: len(_told(node))] = [None for _ in _told(node)]
        return [self._slope(node, i) if (d := written[i]) is None else d for i in places]

    def _slope(self, node: Value, place: int) -> Expression:
        """A symbol for the partial of a function that is not written out: α'(x), f_2'(x, y)."""
        op, operands = node.op, node.operands
        assert op is not None
        key = (op, operands, place)
        if key not in self._slopes:
            name = self._activations.get(op, printable(op.name))
            if op in self._activations:
                operands = _told(node)
            if len(operands) > 1:
                name = f"{name}_{place + 1}"
            slope = self.fresh(_call(name, list(map(self.operand, operands)), "'"))
            self._slopes[key] = slope
            self.slopes.add(slope.name)
            self.about[slope.name] = [a for a in operands if isinstance(a, Value)]
        return self._slopes[key]

    def mentioned(self, expressions: Iterable[Expression]) -> set[Value]:
        """The nodes whose names are in the expressions."""
        parts = algebra.parts_first(expressions)
        return {node for e in parts for node in self.about.get(e.name, ())}


def _flowing(node: Value) -> list[int]:
    """The places of the operands by which there are derivatives: of a choice both sides."""
    first = 1 if node.op is not None and node.op.kind == "choice" else 0
    return [i for i, a in enumerate(node.operands) if i >= first and isinstance(a, Value)]


def _between(root: Value, wrt: Sequence[Value]) -> dict[Value, None]:
    """The nodes between, parents first, on both sides of choices, without what only chooses."""
    active = between(root, wrt, untaken=True)
    reached = {root}
    for node in reversed(active):
        if node in reached:
            reached.update([node.operands[i] for i in _flowing(node)])  # type: ignore[misc]
    return dict.fromkeys(node for node in active if node in reached)


def _told(node: Value) -> tuple[Value | float, ...]:
    """The operands of a function that is left unspecified, without the defaults of its row."""
    assert node.op is not None
    told = node.operands
    return told[:1] if told[1:] == node.op.defaults else told


def as_factor(name: Expression) -> tuple[str, str]:
    """The name as text and as LaTeX, in parentheses if it looks like more than a name."""
    if looks_like_a_name(name.text):
        return name.text, name.latex
    return f"({name.text})", rf"\left({name.latex}\right)"


def _call(name: str, operands: Sequence[Expression], primes: str = "") -> Expression:
    text = ", ".join(operand.written("text", spaced=True) for operand in operands)
    latex = ", ".join(operand.latex for operand in operands)
    return Expression(
        f"{name}{primes}({text})",
        name_in_latex=rf"{latex_name(name)}{primes}\left({latex}\right)",
        binding=9,
    )


def _activations(given: str | Mapping[str, str], order: Sequence[Value]) -> dict[Op, str]:
    """The names of the operations that are left unspecified.

    A single name stands for the activations, and for the unary operations that users add. If a
    graph has several of one name, their own names tell them apart.
    """
    if isinstance(given, Mapping):
        result = {ops.find(row): name for row, name in given.items()}
    elif isinstance(given, str):
        rows = dict.fromkeys(node.op for node in order if node.op is not None and given)
        own = [op for op in rows if op.arity == 1 and op.name not in ops.BUILTIN]
        found = [op for op in rows if op in own or op.kind in ("activation", "rectifier")]
        result = {op: f"{given}_{op.name}" if len(found) > 1 else given for op in found}
    else:
        raise OperandError(f"activation is a name, such as 'α', not {given!r:.60}")
    for name in result.values():
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"activation needs names, such as 'α', not {name!r:.60}")
    others = {node.op for node in order if node.op is not None} - {*result}
    written = Counter([*result.values(), *(op.text.partition("(")[0] for op in others)])
    return {
        op: printable(name if written[name] == 1 else f"{name}_{op.name}")
        for op, name in result.items()
    }
