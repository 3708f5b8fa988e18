r"""`derive`: the chain rule as text and as LaTeX.

The calculus is that of the table: the rows' partials, evaluated on `Expression`s in the place of
numbers. What is left to do here is to multiply along the paths of the graph and to add the paths
up, and to choose which sub-expressions get names, so that the result is as long as the graph and
not as the number of paths through it.

A derivation in one variable is written from the outside inwards, as one does by hand:

>>> from micrograd_like import Value
>>> w, x = Value(0.5, label="w"), Value(2.0, label="x")
>>> z = w * x
>>> z.label = "z"
>>> y = z.tanh()
>>> y.label = "y"
>>> print(derive(y, w, activation="α"))
z = w · x
y = α(z)
∂y/∂w = ∂y/∂z · ∂z/∂w
∂y/∂w = α'(z) · x

One in several variables names the adjoints that its results share, δ with the index of the node:

>>> print(derive(y, [w, x]))
z = w · x
y = tanh(z)
δ_z = sech(z)²
∂y/∂w = δ_z · x
∂y/∂x = δ_z · w
"""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Final, NamedTuple

from .. import ops
from ..engine import Value
from ..errors import InputError, OperandError
from ..gradients import grad, listed
from ..words import first_and_last
from . import algebra
from .algebra import Expression, Style
from .names import latex_numeral, numeral
from .symbols import MOST_TERMS, SymbolicGraph, as_factor

_INLINE = 60  # of at most so many names and functions, a result in one variable is one line
_LONG = 32  # an adjoint of more than that gets a name, even if it is used only once
_MOST_LINES = 400  # of definitions, of adjoints and of results, each

_ONE = Expression(number=1.0)
_ZERO = Expression(number=0.0)


class Equation(NamedTuple):
    """`symbol` = `expression`, in names of nodes and symbols of earlier equations."""

    symbol: Expression
    expression: Expression


class Derivation:
    """The derivative of one node with respect to others; `derive` makes it.

    `equations` are the named adjoints and then the derivatives, in an order in which they can be
    computed. `text` and `latex` are the derivation for people, and so is its display in a
    notebook; `str` is the text.
    """

    equations: Final[tuple[Equation, ...]]

    def __init__(
        self,
        root: Value,
        wrt: Sequence[Value],
        activation: str | Mapping[str, str],
        numbers: bool,
        single: bool,
    ) -> None:
        self._wrt = list(wrt)
        self._single = single
        self._numbers = numbers
        graph = self._graph = SymbolicGraph(root, wrt, activation)
        inline = _in_one_line(graph) if len(graph.targets) == 1 else None
        self.equations = (inline,) if inline else tuple(_shared(graph))
        self._glue = _glue(graph, self.equations)
        self._chain, self._chain_values = (
            _chain_rule(graph, self._glue, inline) if inline else ([], [])
        )
        if numbers:
            graph.check_fresh(graph.order)

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many paths the derivation adds up, and what multiplying along them costs.

        `paths`: from the node to the variables, over all of them; `path_by_path`: multiplications
        if the local derivatives along each path are multiplied for it alone; `unshared`: if each
        derivative is computed on its own, from the root, adding at each node before going on, but
        with nothing stored for a second use; `shared`: if the adjoint of each node is computed
        once, as in `backward`. A local derivative counts as one factor, and multiplying with 1 or
        -1 as nothing.

        On a chain of n diamonds the first three grow like 2^n, `shared` like n. They are found
        by going through the graph once.
        """
        return _counts(self._graph)

    def evaluate(self) -> float | list[float]:
        """The derivatives by evaluating the equations: one number, or a list as `wrt` was one.

        Equations are written as one writes them for real numbers: 0 · x is 0. Where a number on the
        way is not finite, or underflows, floats may differ from that; then these are the numbers
        of `grad`.

        Raises StaleGraphError if data was changed after the forward pass.
        """
        graph = self._graph
        graph.check_fresh(graph.edges)
        values = self._values()
        results = [values[graph.ratio(graph.root, target).name] for target in self._wrt]
        return results[0] if self._single else results

    def _values(self) -> dict[str, float]:
        graph = self._graph
        values = graph.values()
        extremes: list[Expression] = []
        for symbol, expression in self.equations:
            values[symbol.name] = expression.evaluate(values, extremes)
        if extremes or graph.is_extreme():
            adjoints = grad(graph.root, graph.adjoints.values())
            values.update(zip(graph.adjoints, adjoints, strict=True))
        return values

    @property
    def text(self) -> str:
        """One equation a line: what is referred to, named adjoints, and the results last."""
        return "\n".join(self._lines("text"))

    @property
    def latex(self) -> str:
        r"""The same as an `aligned` environment, without the $$ around it."""
        lines = " \\\\\n".join(self._lines("latex"))
        return f"\\begin{{aligned}}\n{lines}\n\\end{{aligned}}"

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        symbols = [e.symbol.text for e in self.equations[-len(self._graph.targets) :]]
        return f"<Derivation of {', '.join(first_and_last(symbols, '… {} more …'))}>"

    def _repr_latex_(self) -> str:
        return f"$$\n{self.latex}\n$$"

    def _lines(self, style: Style) -> Iterator[str]:
        values = None
        if self._numbers:
            self._graph.check_fresh(self._graph.order)
            values = self._values()
            for symbol, d in self._chain_values:
                values.setdefault(symbol.name, d.evaluate(values))
        n = len(self.equations) - len(self._graph.targets)
        named, results = self.equations[:n], self.equations[n:]
        for equations in (self._definitions(), named, [*self._chain, *results]):
            yield from _written(equations, style, values)

    def _definitions(self) -> list[Equation]:
        """The nodes that the equations refer to, in terms of one another, parents first."""
        graph = self._graph
        equations = [*self.equations, *self._chain]
        inside = {graph.root, *graph.mentioned(e for _, e in equations)}
        for node in reversed(graph.order):
            if node in inside:
                inside.update(node.parents)
        written: dict[Value, Expression] = {}
        result = []
        for node in graph.order:
            if node.op is None or node not in inside:
                continue
            operation = graph.operation(node, written)
            if node in self._glue:
                written[node] = operation
            else:
                result.append(Equation(Expression(graph.names[node]), operation))
        return result


def derive(
    y: Value,
    wrt: Value | Iterable[Value],
    *,
    activation: str | Mapping[str, str] = "",
    numbers: bool = False,
) -> Derivation:
    """The derivation of ∂y/∂w for the Value, or each of the Values, in `wrt`.

    `activation` leaves the activation functions of the graph unspecified and gives the name they
    are written with, or one name for each operation: {"tanh": "α", "sigmoid": "σ"}. A single name
    for different functions gets their names as indices. With `numbers` each line is followed by
    itself with numbers for the symbols.

    In the derivatives of `max` and `min`, H is the Heaviside step with H(0) = 1/2: a tie splits in
    halves. 1(x > 0), in that of relu, is 0 at 0. A negation that has no label and is used once has
    no line of its own.

    The result is symbols: what data the nodes hold does not matter to it, except where numbers are
    asked for. Raises OperandError (a TypeError) for what is not a Value; InputError (a ValueError)
    for an empty `wrt`, and for an `activation` that is no name, or the same one for two functions
    of the graph; with `numbers`, StaleGraphError (a ValueError) if data was changed after the
    forward pass.
    """
    targets = listed(wrt)
    for target in targets:
        if not isinstance(target, Value):
            raise OperandError(f"derivations are with respect to Values, not {target!r:.60}")
    if not targets:
        raise InputError("derive needs at least one Value to derive with respect to")
    return Derivation(y, targets, activation, numbers, isinstance(wrt, Value))


# --- one variable: from the root inwards ----------------------------------------------------------


def _in_one_line(graph: SymbolicGraph) -> Equation | None:
    """The derivative with nothing named; None if that is long."""
    (target,) = graph.targets
    left = graph.ratio(graph.root, target)
    if not graph.edges:
        return Equation(left, _ZERO)
    links = (
        (node, {parent: algebra.total(ds) for parent, ds in _grouped(edges).items()})
        for node, edges in graph.edges.items()
        if node is not target
    )
    result = _nested(links, _branching(graph), target, operator.mul, algebra.total)
    return None if result is None else Equation(left, result)


def _nested(
    links: Iterable[tuple[Value, Mapping[Value, Expression]]],
    branching: set[Value],
    target: Value,
    times: Callable[[Expression, Expression], Expression],
    plus: Callable[[Sequence[Expression]], Expression],
) -> Expression | None:
    """The derivative of the last node by `target`, from the partials of each by the ones before it.

    Where ways part and meet again, what lies between is a factor in parentheses:
    (a·b + c·d)·e, and not a·b·e + c·d·e. None if it is long.
    """
    factors: dict[Value, dict[Value, Expression]] = {}
    result = {target: _ONE}
    node = target
    for node, by_parent in links:
        parts: list[tuple[Value, Expression]] = []
        for parent, d in by_parent.items():
            if parent is target or parent in branching:
                parts.append((parent, d))
            else:
                parts += [(base, times(d, factor)) for base, factor in factors[parent].items()]
        factors[node] = {base: plus(ds) for base, ds in _grouped(parts).items()}
        result[node] = plus([times(d, result[base]) for base, d in factors[node].items()])
        if result[node].size > _INLINE:
            return None
    return result[node]


def _grouped(pairs: Iterable[tuple[Value, Expression]]) -> dict[Value, list[Expression]]:
    result: dict[Value, list[Expression]] = {}
    for node, d in pairs:
        result.setdefault(node, []).append(d)
    return result


def _branching(graph: SymbolicGraph) -> set[Value]:
    """The nodes that several others use, on the way to the root."""
    users = Counter(parent for edges in graph.edges.values() for parent in dict(edges))
    return {node for node, count in users.items() if count > 1}


def _chain_rule(
    graph: SymbolicGraph, glue: set[Value], result: Equation
) -> tuple[list[Equation], list[Equation]]:
    """The chain rule in ratios, and with the local derivatives in them, as far as these differ.

    Then what the ratios are.
    """
    if not graph.edges:
        return [], []
    (target,) = graph.targets
    # By the nodes that are not glue: the partials of each node, and the ratios they are.
    local: dict[Value, dict[Value, Expression]] = {}
    ratios: dict[Value, dict[Value, Expression]] = {}
    values: list[Equation] = []
    below: dict[Value, set[Value]] = {target: {target}}
    for node, edges in graph.edges.items():
        if node is target:
            continue
        terms: list[tuple[Value, Expression]] = []
        for parent, d in edges:
            if parent in glue:
                terms += [(p, algebra.plain_product(d, e)) for p, e in local[parent].items()]
            else:
                terms.append((parent, d))
        local[node] = {p: algebra.plain_sum(ds) for p, ds in _grouped(terms).items()}
        if node in glue:
            continue
        below[node] = {node}.union(*(below[p] for p in local[node]))
        ratios[node] = {}
        for p, d in local[node].items():
            ratios[node][p] = d
            # Beside other ways from the node to p, ∂node/∂p would not mean this one alone.
            if not any(p in below[q] for q in local[node] if q is not p):
                ratio = graph.ratio(node, p)
                values.append(Equation(ratio, d))
                if ratio.name not in graph.recorded:
                    ratios[node][p] = ratio
    branching = _branching(graph)
    partials = {node: local[node] for node in ratios}
    seen = {_letters(result.symbol), _letters(result.expression)}
    lines = []
    for links in (ratios, partials):
        side = _nested(links.items(), branching, target, algebra.plain_product, algebra.plain_sum)
        if side is not None and _letters(side) not in seen:
            lines.append(Equation(result.symbol, side))
            seen.add(_letters(side))
    return lines, values


def _letters(e: Expression) -> str:
    """The same for expressions that differ in the order of terms only, or in parentheses."""
    return "".join(sorted(re.sub(r"[-+() ]", "", e.text)))


# --- several variables: adjoints that are shared get names ----------------------------------------


def _shared(graph: SymbolicGraph) -> list[Equation]:
    """The adjoints used more than once, from the root on, then the derivatives."""
    symbols = _adjoint_symbols(graph)
    # A glue node has the adjoint of the node that it is glued to, and that gives it its name.
    namesake: dict[Value, Value] = {}
    # For each node: by adjoint of the nodes that use it, the sum of the partials.
    pending: dict[Value, dict[object, tuple[Expression, list[Expression]]]] = {
        graph.root: {"": (_ONE, [_ONE])}
    }
    equations: list[Equation] = []
    derivatives: dict[Value, Expression] = {}
    for node, edges in reversed(graph.edges.items()):
        groups = reversed(pending.pop(node).values())
        adjoint = algebra.total([g * algebra.total(ds[::-1]) for g, ds in groups])
        shared = len(edges) + (node in graph.targets) > 1
        if edges and not _is_atom(graph, adjoint) and (shared or adjoint.size > _LONG):
            symbol = graph.fresh(symbols[namesake.get(node, node)])
            graph.adjoints[symbol.name] = node
            equations.append(Equation(symbol, adjoint))
            adjoint = symbol
        if node in graph.targets:
            derivatives[node] = adjoint
        for parent, d in edges:
            group = pending.setdefault(parent, {}).setdefault(adjoint.key, (adjoint, []))
            group[1].append(d)
            glued = not parent.label and d.number == 1.0
            namesake[parent] = namesake.get(node, node) if glued else parent
    return equations + [
        Equation(graph.ratio(graph.root, target), derivatives.get(target, _ZERO))
        for target in graph.targets
    ]


def _adjoint_symbols(graph: SymbolicGraph) -> dict[Value, Expression]:
    """δ20 for the adjoint of z20, and δ_x for one whose index is missing, or not its own."""
    # A node that is used once has no name for its adjoint, if there are others with the index.
    by_index: dict[bool, dict[str, list[Value]]] = {True: {}, False: {}}
    symbols: dict[Value, Expression] = {}
    for node, edges in graph.edges.items():
        text, latex = as_factor(graph.symbol(node))
        symbols[node] = Expression(f"δ_{text}", latex=rf"\delta_{{{latex}}}", binding=9)
        indexed = re.fullmatch(r"[^\W\d_]_?(\d[\d_]*(?:\[[\d, ]+\])*)", graph.names[node])
        if indexed:
            used_once = len(edges) + (node in graph.targets) == 1
            by_index[used_once].setdefault(indexed[1], []).append(node)
    for index, nodes in {**by_index[True], **by_index[False]}.items():
        linear = [node for node in nodes if graph.names[node].startswith("z")]
        if len(linear) == 1 or len(nodes) == 1:
            symbols[(linear or nodes)[0]] = Expression(f"δ{index}")
    return symbols


def _is_atom(graph: SymbolicGraph, e: Expression) -> bool:
    """Whether it is a number or a name, of a node or an adjoint, with or without a sign."""
    bare = e.operands[0] if e.op is ops.neg else e
    return bare.op is None and bare.name not in graph.recorded


def _glue(graph: SymbolicGraph, equations: Sequence[Equation]) -> set[Value]:
    """The nodes without a label that are used once, and not mentioned: v1 in z = v1 + b."""
    kept = {graph.root, *graph.targets, *graph.mentioned(e for _, e in equations)}
    size: dict[Value, int] = {}
    for node in graph.order:
        if node.op is not None and not node.label and node not in kept and graph.uses[node] == 1:
            written = sum(size.get(a, 1) if isinstance(a, Value) else 1 for a in node.operands)
            if node.op in (ops.add, ops.sub):  # many terms are not all written
                size[node] = min(written, MOST_TERMS)
            elif written <= MOST_TERMS:
                size[node] = written
    return set(size)


def _counts(graph: SymbolicGraph) -> dict[str, int]:
    totals = dict.fromkeys(("paths", "path_by_path", "unshared", "shared"), 0)
    # For each node: paths from the root, factors on them, paths without a factor, multiplications
    # of its adjoint written out, and whether the adjoint is 1 or -1. Each is dropped when it has
    # been passed on: a path count may have as many bits as the graph has nodes.
    state = {graph.root: (1, 0, 1, 0, True)}
    for node, edges in reversed(graph.edges.items()):
        paths, factors, bare, written, unit = state.pop(node)
        if node in graph.targets:
            totals["paths"] += paths
            totals["path_by_path"] += factors - (paths - bare)
            totals["unshared"] += written
        for parent, d in edges:
            trivial = d.number in (1.0, -1.0)
            multiplies = not trivial and not unit
            totals["shared"] += multiplies
            before = state.get(parent, (0, 0, 0, 0, True))
            state[parent] = (
                before[0] + paths,
                before[1] + factors + (0 if trivial else paths),
                before[2] + (bare if trivial else 0),
                before[3] + written + multiplies,
                before[0] == 0 and trivial and unit,
            )
    return totals


_GAPS = {"text": "⋮ ({} more)", "latex": r"&\ \ \vdots\quad\text{{({} more)}}"}


def _written(
    equations: Sequence[Equation], style: Style, values: Mapping[str, float] | None
) -> Iterator[str]:
    """The equations, each followed by itself in numbers if there are `values`.

    In LaTeX the left side is not repeated where it is that of the line before.
    """
    before = ""
    for equation in first_and_last(equations, _GAPS[style], _MOST_LINES // 2, _MOST_LINES // 2):
        if isinstance(equation, str):
            before = ""
            yield equation
            continue
        symbol, expression = equation
        if style == "text":
            left = f"{symbol.text} = "
        else:
            left = "&= " if symbol.text == before else f"{symbol.latex} &= "
            before = symbol.text
        symbols = expression.written(style, spaced=True, most=MOST_TERMS)
        yield left + symbols
        if values is None:
            continue
        numbers = expression.written(style, numbers=values, spaced=True, most=MOST_TERMS)
        value = values.get(symbol.name)
        if value is None:
            value = expression.evaluate(values)
        if numbers == symbols and expression.number in (None, value):
            continue
        result = numeral(value) if style == "text" else latex_numeral(value)
        left = left if style == "text" else "&= "
        yield left + (result if numbers in (symbols, result) else f"{numbers} = {result}")
