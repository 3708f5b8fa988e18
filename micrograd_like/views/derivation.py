r"""`derive` and `explain`: the chain rule as text and as LaTeX.

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

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from math import isfinite, isnan
from typing import Final, NamedTuple

from .. import ops
from ..engine import Value, topological_order
from ..errors import InputError, MicrogradError, OperandError, StaleGraphError
from ..gradients import grad, listed
from ..ops import Op
from ..words import printable
from . import notation
from .notation import Expression, Style, numeral

# What `activation="α"` stands for, beside the rows that users add.
_ACTIVATIONS = frozenset(
    ("tanh", "sigmoid", "softplus", "relu", "leaky_relu", "elu", "gelu", "silu")
)
_INLINE = 60  # of at most so many names and functions, a result in one variable is one line
_LONG = 32  # an adjoint of more than that gets a name, even if it is used only once
_MOST_TERMS = 12
_MOST_LINES = 400  # of definitions, of adjoints and of results, each
_WIDTH = 100

_ONE = Expression(number=1.0)
_ZERO = Expression(number=0.0)


class Equation(NamedTuple):
    """`symbol` = `expression`, in names of nodes and symbols of earlier equations."""

    symbol: Expression
    expression: Expression


class _Graph:
    """The nodes between `wrt` and the root, with the partials along their edges as expressions."""

    def __init__(
        self, root: Value, wrt: Sequence[Value], activation: str | Mapping[str, str]
    ) -> None:
        self.root = root
        self.order = topological_order(root)
        known = set(self.order)
        self.names = notation.names(
            [*self.order, *(node for node in dict.fromkeys(wrt) if node not in known)], printable
        )
        latex = notation.latex_names(self.names.values())
        self._symbols = {
            node: Expression(name, latex=latex[name]) for node, name in self.names.items()
        }
        self._taken = set(latex), set(latex.values())
        self.nodes = {name: node for node, name in self.names.items()}
        self.recorded: dict[str, float] = {}  # symbols of derivatives that are not written out
        self.about: dict[str, list[Value]] = {}  # the nodes that these symbols mention
        self.adjoints: dict[str, Value] = {}  # the nodes whose adjoints have these symbols
        self._ratios: dict[tuple[Value, Value], Expression] = {}
        self._slopes: dict[object, Expression] = {}
        self._activations = _activations(activation, self.order)
        uses: dict[Value, int] = {}
        for node in self.order:
            for parent in node.parents:
                uses[parent] = uses.get(parent, 0) + 1
        # Negations without a name of their own are written out.
        self._negations = {
            node
            for node in known.difference(wrt)
            if node.op is ops.neg and not node.label and uses.get(node) == 1
        }
        for target in wrt:
            self.adjoints[self.ratio(root, target).name] = target
        active = set(wrt) & known
        for node in self.order:
            if node not in active and not active.isdisjoint(node.parents):
                active.add(node)
        self.active = active
        self.edges: dict[Value, list[tuple[Value, Expression]]] = {
            node: self._edges(node) for node in self.order if node in active
        }

    def symbol(self, node: Value) -> Expression:
        """The node's name."""
        return self._symbols[node]

    def operand(self, operand: Value | float) -> Expression:
        """How it is written as an operand: its name, a number, or the negation of another."""
        sign = _ONE
        while isinstance(operand, Value) and operand in self._negations:
            sign, operand = -sign, operand.operands[0]
        bare = self.symbol(operand) if isinstance(operand, Value) else Expression(number=operand)
        return sign * bare

    def _mentions(self, operands: Iterable[Value | float]) -> list[Value]:
        return [self.nodes[e.name] for e in map(_bare, map(self.operand, operands)) if e.name]

    def ratio(self, node: Value, by: Value) -> Expression:
        """The symbol ∂node/∂by."""
        if (node, by) not in self._ratios:
            self._ratios[node, by] = self.fresh(self._ratio(node, by))
        return self._ratios[node, by]

    def _ratio(self, node: Value, by: Value) -> Expression:
        (above, upper), (below, lower) = map(_factor_of, map(self.symbol, (node, by)))
        latex = rf"\frac{{\partial {upper}}}{{\partial {lower}}}"
        return Expression(f"∂{above}/∂{below}", latex=latex, binding=2.2)

    def fresh(self, symbol: Expression) -> Expression:
        """The symbol, primed as often as it takes to be that of nothing else."""
        names, latexes = self._taken
        name, latex = symbol.name, symbol.latex
        while name in names:
            name += "′"
        if name != symbol.name:
            latex += "{}'"
        while latex in latexes:
            latex += "{}'"
        names.add(name)
        latexes.add(latex)
        return Expression(name, latex=latex, binding=symbol.binding)

    def operation(self, node: Value, written: Mapping[Value, Expression]) -> Expression:
        """What the node computes, in the names of its operands, or as they are `written`."""
        operands = [
            written[a] if isinstance(a, Value) and a in written else self.operand(a)
            for a in node.operands
        ]
        op = node.op
        assert op is not None
        if _function(node) in self._activations:
            name, latex = self._activations[_function(node)]
            x = operands[0]
            return Expression(
                f"{name}({x.written('text', spaced=True)})",
                latex=rf"{latex}\left({x.latex}\right)",
                binding=9,
            )
        if op is not ops.affine_row:
            return _tidy(op, operands)
        n = len(operands) // 2
        terms = [_times(w, x) for w, x in zip(operands[:n], operands[n:-1], strict=True)]
        if n > _MOST_TERMS:
            sigma = _sigma(operands[:n], operands[n:-1])
            terms = terms if sigma is None else [sigma]
        if operands[-1].number != 0.0 or not terms:
            terms.append(operands[-1])
        return _plus(terms)

    def _edges(self, node: Value) -> list[tuple[Value, Expression]]:
        """The node's active parents, once for each use, and the partial by each."""
        active = self.active
        if node.op is None or active.isdisjoint(node.parents):
            return []
        by_operand = self.partials(node)
        return [
            (parent, d)
            for parent, d in zip(node.operands, by_operand, strict=True)
            if isinstance(parent, Value) and parent in active
        ]

    def partials(self, node: Value) -> list[Expression]:
        """The partial by each operand; a symbol for one that is not written in the table's ops."""
        op = node.op
        assert op is not None
        operands = [self.operand(a) for a in node.operands]
        recorded = iter(node.local_grads)
        written: list[Expression | None]
        function = _function(node)
        if function in self._activations:
            name, latex = self._activations[function]
            x = operands[0]
            key = (function, node.operands[0])
            if key not in self._slopes:
                slope = rf"{latex}'\left({x.latex}\right)"
                slope_of_x = Expression(f"{name}'({x.text})", latex=slope, binding=9)
                self._slopes[key] = self.fresh(slope_of_x)
            if isinstance(node.operands[0], Value):
                self.recorded[self._slopes[key].name] = node.local_grads[0]
            self.about[self._slopes[key].name] = self._mentions(node.operands[:1])
            rest = notation.partials(op, operands, self.symbol(node))[1:]
            written = [self._slopes[key], *rest]
        else:
            written = notation.partials(op, operands, self.symbol(node))
        result = []
        for operand, d in zip(node.operands, written, strict=True):
            value = next(recorded) if isinstance(operand, Value) else 0.0
            if d is None:
                d = _ZERO
                if isinstance(operand, Value):
                    symbol = self._ratio(node, operand)
                    if (node, operand) in self._ratios and op.arity == 1:  # f'(x), for ∂y/∂x is it
                        row, (x,) = notation.latex_name(op.name), operands
                        latex = rf"{row}'\left({x.latex}\right)"
                        symbol = Expression(f"{op.name}'({x.text})", latex=latex, binding=9)
                    d = self.fresh(symbol)
                    if sum(a is operand for a in node.operands) == 1:
                        self._ratios.setdefault((node, operand), d)
                    self.recorded[d.name] = value
                    self.about[d.name] = [node]
            result.append(d)
        return result

    def values(self) -> dict[str, float]:
        """The numbers for the names."""
        return {**{name: node.data for name, node in self.nodes.items()}, **self.recorded}

    def is_extreme(self) -> bool:
        """Whether an adjoint or a local derivative is not finite, or their product underflows."""
        nodes = list(self.edges)
        for node, adjoint in zip(nodes, grad(self.root, nodes), strict=True):
            if not isfinite(adjoint):
                return True
            for parent, d in zip(node.parents, node.local_grads, strict=True):
                product = adjoint * d
                underflows = adjoint and d and abs(product) < sys.float_info.min
                if parent in self.active and (underflows or not isfinite(product)):
                    return True
        return False

    def check_fresh(self, nodes: Iterable[Value]) -> None:
        """Raise StaleGraphError unless each is what its op makes of the data of its operands."""
        for node in nodes:
            if node.op is not None:
                _check_fresh(node, self.names[node])


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
        graph = self._graph = _Graph(root, wrt, activation)
        targets = self._targets = list(dict.fromkeys(wrt))
        inline = _in_one_line(graph, targets[0]) if len(targets) == 1 else None
        self.equations = (inline,) if inline else tuple(_shared(graph, targets))
        self._glue = _glue(graph, targets, self.equations)
        self._chain: list[Equation] = []
        self._chain_values: list[Equation] = []
        if inline:
            self._chain, self._chain_values = _chain_rule(
                graph, targets[0], self._glue, self.equations[0]
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
        return _counts(self._graph, self._targets)

    def evaluate(self) -> float | list[float]:
        """The derivatives by evaluating the equations: one number, or a list as `wrt` was one.

        Equations are written as one writes them for real numbers: 0 · x is 0. Where a number on the
        way is not finite, or underflows, floats may differ from that; then these are the numbers
        of `grad`.

        Raises StaleGraphError if data was changed after the forward pass.
        """
        graph = self._graph
        graph.check_fresh(node for node in graph.order if node in graph.active)
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
            values.update(
                zip(graph.adjoints, grad(graph.root, graph.adjoints.values()), strict=True)
            )
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
        symbols = [e.symbol.text for e in self.equations[-len(self._targets) :]]
        gap = [f"… {len(symbols) - 4} more …"] if len(symbols) > 4 else []
        shown = [*symbols[:3], *gap, *symbols[3:][-1:]]
        return f"<Derivation of {', '.join(shown)}>"

    def _repr_latex_(self) -> str:
        return f"$$\n{self.latex}\n$$"

    def _lines(self, style: Style) -> Iterator[str]:
        values = None
        if self._numbers:
            self._graph.check_fresh(self._graph.order)
            values = self._values()
            for symbol, d in self._chain_values:
                values.setdefault(symbol.name, d.evaluate(values))
        n = len(self.equations) - len(self._targets)
        named, results = self.equations[:n], self.equations[n:]
        for equations in (self._definitions(), named, [*self._chain, *results]):
            half = _MOST_LINES // 2
            hidden = len(equations) - 2 * half
            if hidden <= 0:
                yield from _written(equations, style, values)
                continue
            yield from _written(equations[:half], style, values)
            gap = rf"&\ \ \vdots\quad\text{{({hidden} more)}}" if style == "latex" else ""
            yield gap or f"⋮ ({hidden} more)"
            yield from _written(equations[-half:], style, values)

    def _definitions(self) -> list[Equation]:
        """The nodes that the equations refer to, in terms of one another, parents first."""
        graph, glue = self._graph, self._glue
        shown = {graph.root, *_mentioned(graph, [*self.equations, *self._chain])}
        inside = set(shown)
        for node in reversed(graph.order):
            if node in inside:
                inside.update(node.parents)
        written: dict[Value, Expression] = {}
        result = []
        for node in graph.order:
            if node.op is None or node not in inside:
                continue
            operation = graph.operation(node, written)
            if node in glue:
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
    are written with, or one name for each row of the table: {"tanh": "α", "sigmoid": "σ"}. A single
    name for different functions gets their names as indices. With `numbers` each line is followed
    by itself with numbers for the symbols.

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


def explain(node: Value, root: Value) -> None:
    """Print the chain rule at `node`: its gradient, summed over the nodes of root's graph using it.

    The numbers are the local derivatives that the nodes recorded and the gradients of `grad`;
    no `.grad` is read or written.

    >>> a, b = Value(2.0, label="a"), Value(-3.0, label="b")
    >>> d = a * b
    >>> d.label = "d"
    >>> L = d * d + a
    >>> L.label = "L"
    >>> explain(d, L)
    ∂L/∂d = ∂L/∂v1 · ∂v1/∂d = ∂L/∂v1 · d + ∂L/∂v1 · d = 1.0 · (-6.0) + 1.0 · (-6.0) = -12.0

    Raises OperandError (a TypeError) for what is not a Value.
    """
    if not isinstance(node, Value):
        raise OperandError(f"gradients are those of Values, not {node!r:.60}")
    graph = _Graph(root, [], "")
    if node not in graph.names:
        graph = _Graph(root, [node], "")
    if node is not root and not any(node in user.parents for user in graph.order):
        names = graph.names
        print(
            f"{graph.ratio(root, node).text} = 0.0: {names[root]} does not depend on {names[node]}"
        )
        return
    lines = _explanation(graph, node, root)
    if sum(map(len, lines)) + 3 * len(lines) <= _WIDTH:
        print(" = ".join(lines))
    else:
        left, *sides = lines
        indent = len(left) + 3
        print(left, "=", f"\n{' ' * len(left)} = ".join(_broken(side, indent) for side in sides))


def _explanation(graph: _Graph, node: Value, root: Value) -> list[str]:
    """The sides of the equation, from left to right."""
    left = graph.ratio(root, node).text
    if node is root:
        return [left, "1.0"]
    users = [user for user in graph.order if node in set(user.parents)]
    chain: list[Expression] = []
    symbols: list[Expression] = []
    figures: list[str] = []
    for user, adjoint in zip(users, grad(root, users), strict=True):
        outer = _ONE if user is root else graph.ratio(root, user)
        places = [i for i, a in enumerate(user.operands) if a is node]
        by_operand = graph.partials(user)
        chain.append(
            by_operand[places[0]]
            if user is root and len(places) == 1
            else _total([by_operand[i] for i in places])
            if user is root
            else _times(outer, graph.ratio(user, node))
        )
        symbols += [_times(outer, by_operand[i]) for i in places]
        local = [d for a, d in zip(user.parents, user.local_grads, strict=True) if a is node]
        figures += [f"{_factor(adjoint)} · {_factor(d)}" for d in local]
    sides = [left]
    for side in (_joined(chain), _joined(symbols)):
        written = side.written("text", spaced=True, most=_MOST_TERMS)
        if written != sides[-1]:
            sides.append(written)
    if len(figures) > _MOST_TERMS:
        figures = [*figures[:3], f"… {len(figures) - 4} more …", figures[-1]]
    sides.append(" + ".join(figures))
    return [*sides, numeral(grad(root, node))]


def _broken(side: str, indent: int) -> str:
    """The sum with line ends before terms that would not fit, each line after `indent` spaces."""
    starts = [0]
    depth = 0
    for i, c in enumerate(side):
        depth += (c in "([") - (c in ")]")
        if depth == 0 and side[i : i + 3] in (" + ", " - "):
            starts.append(i)
    terms = [side[i:j] for i, j in pairwise([*starts, len(side)])]
    lines = [terms[0]]
    for term in terms[1:]:
        if indent + len(lines[-1]) + len(term) > _WIDTH:
            lines.append(term.lstrip())
        else:
            lines[-1] += term
    return f"\n{' ' * indent}".join(lines)


def _factor(x: float) -> str:
    text = numeral(x)
    return f"({text})" if text.startswith("-") else text


# --- one variable: from the root inwards ----------------------------------------------------------


def _in_one_line(graph: _Graph, target: Value) -> Equation | None:
    """The derivative with nothing named; None if that is long."""
    root = graph.root
    left = graph.ratio(root, target)
    if root not in graph.active or root is target:
        return Equation(left, _ONE if root is target else _ZERO)
    links = (
        (node, {p: _total(ds) for p, ds in _by_parent(edges).items()})
        for node, edges in graph.edges.items()
        if node is not target
    )
    result = _nested(links, _branching(graph), target, lambda x, y: x * y, _total)
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
        parts: dict[Value, list[Expression]] = {}
        for parent, d in by_parent.items():
            if parent is target or parent in branching:
                parts.setdefault(parent, []).append(d)
            else:
                for base, factor in factors[parent].items():
                    parts.setdefault(base, []).append(times(d, factor))
        factors[node] = {base: plus(ds) for base, ds in parts.items()}
        result[node] = plus([times(d, result[base]) for base, d in factors[node].items()])
        if result[node].size > _INLINE:
            return None
    return result[node]


def _branching(graph: _Graph) -> set[Value]:
    """The nodes that several others use, on the way to the root."""
    users: dict[Value, int] = {}
    for edges in graph.edges.values():
        for parent in {parent for parent, _ in edges}:
            users[parent] = users.get(parent, 0) + 1
    return {node for node, count in users.items() if count > 1}


def _chain_rule(
    graph: _Graph, target: Value, glue: set[Value], result: Equation
) -> tuple[list[Equation], list[Equation]]:
    """The chain rule in ratios, and with the local derivatives in them, as far as these differ.

    Then what the ratios are.
    """
    root = graph.root
    if root not in graph.active or root is target:
        return [], []
    # By the nodes that are not glue: the partials of each node, and the ratios they are.
    local: dict[Value, dict[Value, Expression]] = {}
    ratios: dict[Value, dict[Value, Expression]] = {}
    values: list[Equation] = []
    below: dict[Value, set[Value]] = {target: {target}}
    for node, edges in graph.edges.items():
        if node is target:
            continue
        terms: dict[Value, list[Expression]] = {}
        for parent, d in edges:
            if parent in glue:
                for p, e in local[parent].items():
                    terms.setdefault(p, []).append(_times(d, e))
            else:
                terms.setdefault(parent, []).append(d)
        local[node] = {p: _plus(ds) for p, ds in terms.items()}
        if node in glue:
            continue
        below[node] = {node}.union(*(below[p] for p in terms))
        ratios[node] = {}
        for p, d in local[node].items():
            # Beside other ways from the node to p, ∂node/∂p would not mean this one alone.
            if any(p in below[q] for q in terms if q is not p):
                ratios[node][p] = d
            else:
                ratio = graph.ratio(node, p)
                ratios[node][p] = d if ratio.name in graph.recorded else ratio
                values.append(Equation(ratio, d))
    branching = _branching(graph)
    partials = {node: local[node] for node in ratios}
    seen = {_letters(result.symbol), _letters(result.expression)}
    lines = []
    for links in (ratios, partials):
        side = _nested(links.items(), branching, target, _times, _plus)
        if side is not None and _letters(side) not in seen:
            lines.append(Equation(result.symbol, side))
            seen.add(_letters(side))
    return lines, values


def _letters(e: Expression) -> str:
    """The same for expressions that differ in the order of terms only, or in parentheses."""
    return "".join(sorted(re.sub(r"[-+() ]", "", e.text)))


def _by_parent(edges: Sequence[tuple[Value, Expression]]) -> dict[Value, list[Expression]]:
    result: dict[Value, list[Expression]] = {}
    for parent, d in edges:
        result.setdefault(parent, []).append(d)
    return result


# --- several variables: adjoints that are shared get names ----------------------------------------


def _shared(graph: _Graph, targets: Sequence[Value]) -> list[Equation]:
    """The adjoints used more than once, from the root on, then the derivatives."""
    root = graph.root
    wanted = set(targets)
    symbols = _adjoint_symbols(graph, wanted)
    # A glue node has the adjoint of the node that it is glued to, and that gives it its name.
    namesake: dict[Value, Value] = {}
    # For each node: by adjoint of the nodes that use it, the sum of the partials.
    pending: dict[Value, dict[object, tuple[Expression, list[Expression]]]] = {}
    if root in graph.active:
        pending[root] = {"": (_ONE, [_ONE])}
    equations: list[Equation] = []
    derivatives: dict[Value, Expression] = {}
    for node in reversed(graph.order):
        if node not in pending:
            continue
        groups = pending.pop(node)
        adjoint = _total([g * _total(ds[::-1]) for g, ds in reversed(groups.values())])
        edges = graph.edges[node]
        if edges and not _is_atom(graph, adjoint):
            shared = len(edges) + (node in wanted) > 1
            if shared or adjoint.size > _LONG:
                symbol = graph.fresh(symbols[namesake.get(node, node)])
                graph.adjoints[symbol.name] = node
                equations.append(Equation(symbol, adjoint))
                adjoint = symbol
        if node in wanted:
            derivatives[node] = adjoint
        for parent, d in edges:
            group = pending.setdefault(parent, {}).setdefault(adjoint.key, (adjoint, []))
            group[1].append(d)
            if not parent.label and d.number == 1.0:
                namesake[parent] = namesake.get(node, node)
            else:
                namesake[parent] = parent
    for target in targets:
        result = derivatives.get(target, _ZERO)
        equations.append(Equation(graph.ratio(root, target), result))
    return equations


def _adjoint_symbols(graph: _Graph, wanted: set[Value]) -> dict[Value, Expression]:
    """δ20 for the adjoint of z20, and δ_x for one whose index is missing, or not its own."""
    by_index: tuple[dict[str, list[Value]], dict[str, list[Value]]] = ({}, {})
    for node, edges in graph.edges.items():
        indexed = re.fullmatch(r"[^\W\d_]_?(\d[\d_]*(?:\[[\d, ]+\])*)", graph.names[node])
        used_once = len(edges) + (node in wanted) == 1
        if indexed:
            by_index[used_once].setdefault(indexed[1], []).append(node)
    symbols: dict[Value, Expression] = {}
    for index, nodes in {**by_index[True], **by_index[False]}.items():
        linear = [node for node in nodes if graph.names[node].startswith("z")]
        if len(linear) == 1 or len(nodes) == 1:
            symbols[(linear or nodes)[0]] = Expression(f"δ{index}")
    for node in graph.edges:
        if node not in symbols:
            text, latex = _factor_of(graph.symbol(node))
            symbols[node] = Expression(f"δ_{text}", latex=rf"\delta_{{{latex}}}", binding=9)
    return symbols


def _is_atom(graph: _Graph, e: Expression) -> bool:
    """Whether it is a number or a name, of a node or an adjoint, with or without a sign."""
    bare = _bare(e)
    return bare.op is None and bare.name not in graph.recorded


def _bare(e: Expression) -> Expression:
    return e.operands[0] if e.op is ops.neg else e


# --- the nodes that are worth a line of their own -------------------------------------------------


def _mentioned(graph: _Graph, equations: Iterable[Equation]) -> set[Value]:
    """The nodes whose names are in the expressions."""
    mentioned: set[Value] = set()
    seen: set[int] = set()
    pending = [expression for _, expression in equations]
    while pending:
        e = pending.pop()
        if id(e) in seen:
            continue
        seen.add(id(e))
        pending += e.operands
        if e.name in graph.nodes:
            mentioned.add(graph.nodes[e.name])
        mentioned.update(graph.about.get(e.name, ()))
    return mentioned


def _glue(graph: _Graph, targets: Sequence[Value], equations: Sequence[Equation]) -> set[Value]:
    """The nodes without a label that are used once, and not mentioned: v1 in z = v1 + b."""
    kept = {graph.root, *targets, *_mentioned(graph, equations)}
    uses: dict[Value, int] = {}
    for node in graph.order:
        for parent in node.parents:
            uses[parent] = uses.get(parent, 0) + 1
    size: dict[Value, int] = {}
    for node in graph.order:
        if node.op is not None and not node.label and node not in kept and uses[node] == 1:
            written = sum(size.get(a, 1) if isinstance(a, Value) else 1 for a in node.operands)
            if node.op in (ops.add, ops.sub):  # many terms are not all written
                size[node] = min(written, _MOST_TERMS)
            elif written <= _MOST_TERMS:
                size[node] = written
    return set(size)


# --- counting -------------------------------------------------------------------------------------


def _counts(graph: _Graph, targets: Sequence[Value]) -> dict[str, int]:
    root = graph.root
    wanted = set(targets)
    totals = dict.fromkeys(("paths", "path_by_path", "unshared", "shared"), 0)
    # For each node: paths from the root, factors on them, paths without a factor, multiplications
    # of its adjoint written out, and whether the adjoint is 1 or -1. Each is dropped when it has
    # been passed on: a path count may have as many bits as the graph has nodes.
    state = {root: (1, 0, 1, 0, True)} if root in graph.active else {}
    for node in reversed(graph.order):
        if node not in state:
            continue
        paths, factors, bare, written, unit = state.pop(node)
        if node in wanted:
            totals["paths"] += paths
            totals["path_by_path"] += factors - (paths - bare)
            totals["unshared"] += written
        for parent, d in graph.edges[node]:
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


# --- writing --------------------------------------------------------------------------------------


def _written(
    equations: Iterable[Equation], style: Style, values: Mapping[str, float] | None
) -> Iterator[str]:
    """The equations, each followed by itself in numbers if there are `values`.

    In LaTeX the left side is not repeated where it is that of the line before.
    """
    before = ""
    for symbol, expression in equations:
        if style == "text":
            left = f"{symbol.text} = "
        else:
            left = "&= " if symbol.text == before else f"{symbol.latex} &= "
            before = symbol.text
        symbols = expression.written(style, spaced=True, most=_MOST_TERMS)
        yield left + symbols
        if values is None:
            continue
        numbers = expression.written(style, numbers=values, spaced=True, most=_MOST_TERMS)
        value = values.get(symbol.name)
        if value is None:
            value = expression.evaluate(values)
        if numbers == symbols and expression.number in (None, value):
            continue
        result = numeral(value) if style == "text" else notation.latex_numeral(value)
        left = left if style == "text" else "&= "
        yield left + (result if numbers in (symbols, result) else f"{numbers} = {result}")


def _times(x: Expression, y: Expression) -> Expression:
    """The product as it stands, but for numbers and signs."""
    if any(e.number is not None or e.op is ops.neg or notation.has_coefficient(e) for e in (x, y)):
        return x * y
    factors = []
    while y.op is ops.mul:  # a·(b·c) as a·b·c
        y, last = y.operands
        factors.append(last)
    for factor in (y, *reversed(factors)):
        x = notation.apply(ops.mul, (x, factor))
    return x


def _plus(terms: Sequence[Expression]) -> Expression:
    """The sum as it stands, but for signs and numbers."""
    numbers = [term.number for term in terms if term.number is not None]
    if len(numbers) > 1 or 0.0 in numbers:
        number, counted = Expression(number=sum(numbers)), False
        kept = []
        for term in terms:
            if term.number is None:
                kept.append(term)
            elif not counted:
                counted = True
                kept += [number] * (number.number != 0.0)
        terms = kept or [number]
    return _joined(terms)


def _joined(terms: Sequence[Expression]) -> Expression:
    """The sum as it stands, but for signs."""
    result = terms[0]
    for term in terms[1:]:
        result = _signed(ops.add, result, term)
    return result


def _signed(op: Op, x: Expression, y: Expression) -> Expression:
    """The sum or difference, as x - y for x + -y, and x + y for x - -y."""
    if _is_negative(y):
        op = ops.sub if op is ops.add else ops.add
        y = -1.0 * y
    return notation.apply(op, (x, y))


def _tidy(op: Op, operands: Sequence[Expression]) -> Expression:
    """The operation as it stands, but for x + 0, 1 · x, x + -y and the like."""
    if op not in (ops.add, ops.sub, ops.mul):
        return notation.apply(op, operands)
    x, y = operands
    unit = 1.0 if op is ops.mul else 0.0
    if y.number == unit:
        return x
    if x.number == unit:
        return -y if op is ops.sub else y
    return notation.apply(op, operands) if op is ops.mul else _signed(op, x, y)


def _is_negative(e: Expression) -> bool:
    e = e.operands[0] if notation.has_coefficient(e) else e
    return e.op is ops.neg or (e.number is not None and e.number < 0.0)


def _total(terms: Sequence[Expression]) -> Expression:
    return terms[0] if len(terms) == 1 else notation.total(terms)


def _sigma(ws: Sequence[Expression], xs: Sequence[Expression]) -> Expression | None:
    """Σ w[i]·x[i], if the names of both have one index that counts up."""
    patterns = [_pattern([e.name for e in factors]) for factors in (ws, xs)]
    if None in patterns:
        return None
    (w, first), (x, start) = patterns  # type: ignore[misc]
    shift = start - first
    last = first + len(ws) - 1
    i = f"i{shift:+d}" if shift else "i"
    text = f"Σ{{i={first}…{last}}} {_braced(w, 'i')} · {_braced(x, i)}"
    latex = rf"\sum_{{i={first}}}^{{{last}}} {_indexed(w, 'i')} \cdot {_indexed(x, i)}"
    return Expression(text, latex=latex, binding=1.5)


def _pattern(names: Sequence[str]) -> tuple[str, int] | None:
    """The names with %s for the number in which they differ, and its first value."""
    for found in reversed(list(re.finditer(r"\d+", names[0]))):
        before, after = names[0][: found.start()], names[0][found.end() :]
        first = int(found[0])
        if all(name == f"{before}{first + i}{after}" for i, name in enumerate(names)):
            escaped = [part.replace("%", "%%") for part in (before, after)]
            return "%s".join(escaped), first
    return None


def _braced(pattern: str, index: str) -> str:
    """x{i} where x[i] has brackets of its own."""
    return pattern % (index if "[%s" in pattern else f"{{{index}}}")


def _indexed(pattern: str, index: str) -> str:
    stand_in = "91827364"
    return notation.latex_name(pattern % stand_in).replace(stand_in, index)


def _factor_of(name: Expression) -> tuple[str, str]:
    """The name as text and as LaTeX, in parentheses if it looks like more than a name."""
    if notation.looks_like_a_name(name.text):
        return name.text, name.latex
    return f"({name.text})", rf"\left({name.latex}\right)"


def _function(node: Value) -> tuple[Op | None, tuple[Value | float, ...]]:
    """What the node does with its first operand: leaky_relu with different slopes is different."""
    return node.op, node.operands[1:]


def _activations(
    given: str | Mapping[str, str], order: Sequence[Value]
) -> dict[object, tuple[str, str]]:
    """For each function that is left unspecified, its name as text and as LaTeX."""
    if not isinstance(given, str | Mapping):
        raise OperandError(f"activation is a name, such as 'α', not {given!r:.60}")
    if not given:
        return {}
    by_row: dict[Op, str]
    functions: dict[Op, list[object]] = {}
    for node in order:
        if node.op is not None:
            functions.setdefault(node.op, []).append(_function(node))
    if isinstance(given, Mapping):
        by_row = {ops.find(row): _activation(name) for row, name in given.items()}
    else:
        rows = [op for op in functions if op.name in _ACTIVATIONS or _is_made_up(op)]
        if not rows:  # a network of sines
            rows = [
                op
                for op in functions
                if op.arity == 1 and op.text == f"{op.name}(@{op.arguments[0]})"
            ]
        by_row = dict.fromkeys(rows, _activation(given))
    shared = not isinstance(given, Mapping) and len(by_row) > 1
    result: dict[object, tuple[str, str]] = {}
    row_of: dict[str, Op] = {}
    for op, name in by_row.items():
        different = list(dict.fromkeys(functions.get(op, ())))
        if different and row_of.setdefault(name, op) is not op and not shared:
            raise InputError(
                f"activation has the name {name!r:.60} for both {row_of[name].name} and {op.name}"
            )
        for i, function in enumerate(different, start=1):
            indices = [(op.name, rf"\mathrm{{{op.name.replace('_', '-')}}}")] * shared
            indices += [(f"{i}", f"{i}")] * (len(different) > 1)
            text, latex = name, notation.latex_name(name)
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


def _is_made_up(op: Op) -> bool:
    return op.arity == 1 and op.name not in ops.BUILTIN


def _check_fresh(node: Value, name: str) -> None:
    """Raise StaleGraphError unless the node is what its op makes of the data of its operands."""
    op = node.op
    assert op is not None
    xs = [a.data if isinstance(a, Value) else a for a in node.operands]
    try:
        value = op.evaluate(xs)
    except MicrogradError:
        value = float("nan")
    if value == node.data or (isnan(value) and isnan(node.data)):
        return
    raise StaleGraphError(
        f"data was changed after {op.name} (node {name!r}) was made, so that the numbers of its "
        "derivation would not fit: build the graph again, then derive"
    )
