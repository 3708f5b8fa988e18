"""A graph in symbols: its nodes as names, and the partials along its edges as expressions."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import TypeAlias

from .. import ops
from ..engine import Value, adjoints, topological_order
from ..errors import InputError, OperandError, StaleGraphError
from ..gradients import between, is_stale
from ..ops import Op
from ..words import printable
from . import algebra
from .algebra import Expression
from .names import latex_name, latex_names, latex_text, looks_like_a_name, names

MOST_TERMS = 12  # of a sum with more terms the first three and the last are written

# What a node does with its first operand: leaky_relu with different slopes is different.
_Function: TypeAlias = tuple[Op | None, tuple[Value | float, ...]]


class SymbolicGraph:
    """The graph of `root`, with a symbol for each node.

    `edges` has the nodes between `root` and `wrt`, parents first, and for each of them its parents
    (once for each use) with the partial by that parent. `activation` is as in `derive`.
    """

    def __init__(
        self, root: Value, wrt: Sequence[Value], activation: str | Mapping[str, str]
    ) -> None:
        self.root = root
        self.targets = dict.fromkeys(wrt)  # a set that keeps their order
        self.order = topological_order(root)
        self.uses = Counter(parent for node in self.order for parent in node.parents)
        self.names = names([*dict.fromkeys([*self.order, *wrt])], printable)
        latex = latex_names(self.names.values())
        self._symbols = {
            node: Expression(name, latex=latex[name]) for node, name in self.names.items()
        }
        self._taken = {*latex, *latex.values()}
        self.nodes = {name: node for node, name in self.names.items()}
        self.recorded: dict[str, float] = {}  # symbols of derivatives that are not written out
        self.about: dict[str, Value] = {}  # the node that such a symbol mentions
        self._ratios: dict[tuple[Value, Value], Expression] = {}
        self._slopes: dict[object, Expression] = {}
        self._activations = _activations(activation, self.order)
        # Negations that have no label and are used once are written as -x where they are used.
        self._negations = {
            node
            for node in set(self.order).difference(wrt)
            if node.op is ops.neg and not node.label and self.uses[node] == 1
        }
        # The node that each symbol of an adjoint belongs to.
        self.adjoints = {self.ratio(root, target).name: target for target in wrt}
        active = between(root, wrt)
        self.edges: dict[Value, list[tuple[Value, Expression]]] = {
            node: self._edges(node, active) for node in active
        }

    def symbol(self, node: Value) -> Expression:
        """The node's name."""
        return self._symbols[node]

    def operand(self, operand: Value | float) -> Expression:
        """How it is written as an operand: its name, a number, or the negation of another."""
        negative = False
        while isinstance(operand, Value) and operand in self._negations:
            negative, operand = not negative, operand.operands[0]
        bare = self.symbol(operand) if isinstance(operand, Value) else Expression(number=operand)
        return -bare if negative else bare

    def ratio(self, node: Value, by: Value) -> Expression:
        """The symbol ∂node/∂by."""
        if (node, by) not in self._ratios:
            self._ratios[node, by] = self.fresh(self._ratio(node, by))
        return self._ratios[node, by]

    def _ratio(self, node: Value, by: Value) -> Expression:
        (above, upper), (below, lower) = map(as_factor, map(self.symbol, (node, by)))
        latex = rf"\frac{{\partial {upper}}}{{\partial {lower}}}"
        return Expression(f"∂{above}/∂{below}", latex=latex, binding=2.2)

    def fresh(self, symbol: Expression) -> Expression:
        """The symbol, primed as often as it takes to be that of nothing else."""
        name, latex = symbol.name, symbol.latex
        while not self._taken.isdisjoint((name, latex)):
            name, latex = f"{name}′", f"{latex}{{}}'"
        self._taken |= {name, latex}
        return Expression(name, latex=latex, binding=symbol.binding)

    def operation(self, node: Value, written: Mapping[Value, Expression]) -> Expression:
        """What the node computes, in the names of its operands, or as they are `written`."""
        assert node.op is not None
        operands = [
            written[a] if isinstance(a, Value) and a in written else self.operand(a)
            for a in node.operands
        ]
        if _function(node) in self._activations:
            return _call(*self._activations[_function(node)], operands[0])
        n = len(operands) // 2
        if node.op is ops.affine_row and n > MOST_TERMS:
            sigma = _sigma(operands[:n], operands[n:-1])
            if sigma is not None:
                return algebra.plain_sum([sigma, operands[-1]])
        return algebra.plain(node.op, operands)

    def _edges(self, node: Value, active: Iterable[Value]) -> list[tuple[Value, Expression]]:
        parents = node.parents
        if not any(parent in active for parent in parents):
            return []
        return [
            (parent, d)
            for parent, d in zip(parents, self.partials(node), strict=True)
            if parent in active
        ]

    def partials(self, node: Value) -> list[Expression]:
        """The partial by each parent; a symbol for one that is not written in the table's ops."""
        op, operands = node.op, [self.operand(a) for a in node.operands]
        assert op is not None
        written = algebra.partials(op, operands, self.symbol(node))
        if _function(node) in self._activations and isinstance(node.operands[0], Value):
            written[0] = self._slope(node, operands[0])
        by_parent = [d for a, d in zip(node.operands, written, strict=True) if isinstance(a, Value)]
        return [
            self._unwritten(node, parent, local) if d is None else d
            for d, (parent, local) in zip(by_parent, node.edges, strict=True)
        ]

    def _slope(self, node: Value, x: Expression) -> Expression:
        """The derivative of an activation that is left unspecified: α'(x)."""
        key = (_function(node), node.operands[0])
        if key not in self._slopes:
            name, latex = self._activations[_function(node)]
            slope = self._slopes[key] = self.fresh(_call(f"{name}'", f"{latex}'", x))
            self.recorded[slope.name] = node.local_grads[0]
            self.about[slope.name] = self.nodes[algebra.coefficient(x)[1].name]
        return self._slopes[key]

    def _unwritten(self, node: Value, parent: Value, local: float) -> Expression:
        """A symbol for a partial that only the operation's author knows."""
        symbol = self._ratio(node, parent)
        op = node.op
        assert op is not None
        if (node, parent) in self._ratios and op.arity == 1:  # f'(x), for ∂y/∂x is it
            symbol = _call(f"{op.name}'", f"{latex_name(op.name)}'", self.operand(parent))
        d = self.fresh(symbol)
        if node.parents.count(parent) == 1:
            self._ratios.setdefault((node, parent), d)
        self.recorded[d.name] = local
        self.about[d.name] = node
        return d

    def mentioned(self, expressions: Iterable[Expression]) -> set[Value]:
        """The nodes whose names are in the expressions."""
        found: set[Value] = set()
        for e in algebra.parts_first(expressions):
            if e.name in self.nodes:
                found.add(self.nodes[e.name])
            elif e.name in self.about:
                found.add(self.about[e.name])
        return found

    def values(self) -> dict[str, float]:
        """The numbers for the names."""
        return {**{name: node.data for name, node in self.nodes.items()}, **self.recorded}

    def is_extreme(self) -> bool:
        """Whether an adjoint or a local derivative is not finite, or their product underflows."""
        adjoint = adjoints(self.root)
        for node in self.edges:
            g = adjoint[node]
            products = [(d, g * d) for parent, d in node.edges if parent in self.edges]
            if not isfinite(g) or any(
                not isfinite(product) or (g and d and abs(product) < sys.float_info.min)
                for d, product in products
            ):
                return True
        return False

    def check_fresh(self, nodes: Iterable[Value]) -> None:
        """Raise StaleGraphError unless each is what its op makes of the data of its operands."""
        for node in nodes:
            if is_stale(node):
                assert node.op is not None
                raise StaleGraphError(
                    f"data was changed after {node.op.name} (node {self.names[node]!r}) was made, "
                    "so that the numbers of its derivation would not fit: build the graph again, "
                    "then derive"
                )


def as_factor(name: Expression) -> tuple[str, str]:
    """The name as text and as LaTeX, in parentheses if it looks like more than a name."""
    if looks_like_a_name(name.text):
        return name.text, name.latex
    return f"({name.text})", rf"\left({name.latex}\right)"


def _call(text: str, latex: str, x: Expression) -> Expression:
    return Expression(
        f"{text}({x.written('text', spaced=True)})",
        latex=rf"{latex}\left({x.latex}\right)",
        binding=9,
    )


def _sigma(ws: Sequence[Expression], xs: Sequence[Expression]) -> Expression | None:
    """Σ w[i]·x[i], if the names of both have one index that counts up."""
    w, x = (_counted([e.name for e in factors]) for factors in (ws, xs))
    if w is None or x is None:
        return None
    first, last, shift = w[2], w[2] + len(ws) - 1, x[2] - w[2]
    i = f"i{shift:+d}" if shift else "i"
    (text, latex), (other, other_latex) = _indexed(*w[:2], "i"), _indexed(*x[:2], i)
    return Expression(
        f"Σ{{i={first}…{last}}} {text} · {other}",
        latex=rf"\sum_{{i={first}}}^{{{last}}} {latex} \cdot {other_latex}",
        binding=1.5,
    )


def _counted(names: Sequence[str]) -> tuple[str, str, int] | None:
    """What stands before and after the number in which the names count up, and its first value."""
    for found in reversed(list(re.finditer(r"\d+", names[0]))):
        before, after = names[0][: found.start()], names[0][found.end() :]
        first = int(found[0])
        if all(name == f"{before}{first + i}{after}" for i, name in enumerate(names)):
            return before, after, first
    return None


def _indexed(before: str, after: str, index: str) -> tuple[str, str]:
    """The name with an index in place of its number, as text and as LaTeX: w[i] or x{i}."""
    text = index if before.endswith("[") else f"{{{index}}}"
    stand_in = "91827364"
    latex = latex_name(f"{before}{stand_in}{after}").replace(stand_in, index)
    return f"{before}{text}{after}", latex


def _function(node: Value) -> _Function:
    return node.op, node.operands[1:]


def _activations(
    given: str | Mapping[str, str], order: Sequence[Value]
) -> dict[_Function, tuple[str, str]]:
    """For each function that is left unspecified, its name as text and as LaTeX."""
    if not isinstance(given, str | Mapping):
        raise OperandError(f"activation is a name, such as 'α', not {given!r:.60}")
    functions: dict[Op, dict[_Function, None]] = {}  # in the order of their first use
    for node in order:
        if node.op is not None:
            functions.setdefault(node.op, {})[_function(node)] = None
    if isinstance(given, Mapping):
        name_of = {ops.find(row): _activation(name) for row, name in given.items()}
    elif given:
        name_of = dict.fromkeys(_activation_rows(functions), _activation(given))
    else:
        return {}
    shared = isinstance(given, str) and len(name_of) > 1
    result: dict[_Function, tuple[str, str]] = {}
    row_of: dict[str, Op] = {}
    for op, name in name_of.items():
        different = functions.get(op, {})
        if different and row_of.setdefault(name, op) is not op and not shared:
            raise InputError(
                f"activation has the name {name!r:.60} for both {row_of[name].name} and {op.name}"
            )
        for i, function in enumerate(different, start=1):
            indices = [(op.name, rf"\mathrm{{{latex_text(op.name.replace('_', '-'))}}}")] * shared
            indices += [(f"{i}", f"{i}")] * (len(different) > 1)
            text, latex = name, latex_name(name)
            if indices:
                latex = f"{{{latex}}}" if "_" in latex else latex
                latex += f"_{{{','.join(index for _, index in indices)}}}"
                text = "_".join([text, *(index for index, _ in indices)])
            while (text, latex) in result.values():
                text, latex = f"{text}′", f"{latex}{{}}'"
            result[function] = text, latex
    return result


def _activation(name: object) -> str:
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"activation needs names, such as 'α', not {name!r:.60}")
    return printable(name)


def _activation_rows(used: Iterable[Op]) -> list[Op]:
    """What a single name for the activation stands for, of the rows that a graph has.

    Rows that users add count as activations. In a network of sines, the sine does.
    """
    rows = [
        op
        for op in used
        if op.kind in ("activation", "rectifier") or (op.arity == 1 and op.name not in ops.BUILTIN)
    ]
    return rows or [
        op for op in used if op.arity == 1 and op.text == f"{op.name}(@{op.arguments[0]})"
    ]
