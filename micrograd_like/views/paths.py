"""The chain rule: partials multiplied along the paths of a graph in symbols, and added up.

There is a path for each way from the root to a variable, and there may be more paths than atoms in
the universe. So they are added up where they meet: in one variable from the variable on, with
parentheses around what lies between two nodes that all ways go through; in several from the root
on, with names for the adjoints that are used more than once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from .. import ops
from ..engine import Value
from . import algebra
from .algebra import ONE, ZERO, Expression
from .symbols import MOST_TERMS, SymbolicGraph, as_factor

# Sizes are numbers of names and functions, as in `Expression.size`.
_INLINE = 60  # a result in one variable is one line up to this size
_LONG = 32  # an adjoint that is larger gets a name, even if it is used only once


class Equation(NamedTuple):
    """`symbol` = `expression`, in names of nodes and symbols of earlier equations."""

    symbol: Expression
    expression: Expression


# --- one variable: from the root inwards ----------------------------------------------------------


def in_one_line(graph: SymbolicGraph) -> Equation | None:
    """The derivative with nothing named; None if that is long."""
    (target,) = graph.targets
    left = graph.ratio(graph.root, target)
    if not graph.edges:
        return Equation(left, ZERO)
    links = (
        (node, {parent: algebra.total(ds) for parent, ds in _grouped(edges).items()})
        for node, edges in graph.edges.items()
        if node is not target
    )
    result = _nested(links, _branching(graph), target, algebra.total)
    return None if result is None else Equation(left, result)


def _nested(
    links: Iterable[tuple[Value, Mapping[Value, Expression]]],
    branching: set[Value],
    target: Value,
    plus: Callable[[Sequence[Expression]], Expression],
) -> Expression | None:
    """The derivative of the last node by `target`, from the partials of each by the ones before it.

    Where ways part and meet again, what lies between is a factor in parentheses:
    (a·b + c·d)·e, and not a·b·e + c·d·e. None if it is long.
    """
    factors: dict[Value, dict[Value, Expression]] = {}
    result = {target: ONE}
    node = target
    for node, by_parent in links:
        parts: list[tuple[Value, Expression]] = []
        for parent, d in by_parent.items():
            if parent is target or parent in branching:
                parts.append((parent, d))
            else:
                parts += [(base, d * factor) for base, factor in factors[parent].items()]
        factors[node] = {base: plus(ds) for base, ds in _grouped(parts).items()}
        result[node] = plus([d * result[base] for base, d in factors[node].items()])
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


def in_ratios(graph: SymbolicGraph, hidden: set[Value], result: Equation) -> list[Equation]:
    """The chain rule in ratios, and with the partials that the ratios are, where these differ.

    The nodes in `hidden` have no line of their own, and no ratio.
    """
    if not graph.edges:
        return []
    (target,) = graph.targets
    # The partials of each node by those below it that have a line of their own, and the ratios
    # that these partials are.
    local: dict[Value, dict[Value, Expression]] = {}
    ratios: dict[Value, dict[Value, Expression]] = {}
    below: dict[Value, set[Value]] = {target: {target}}
    for node, edges in graph.edges.items():
        if node is target:
            continue
        terms: list[tuple[Value, Expression]] = []
        for parent, d in edges:
            if parent in hidden:
                terms += [(p, d * e) for p, e in local[parent].items()]
            else:
                terms.append((parent, d))
        local[node] = {p: sum(ds, ZERO) for p, ds in _grouped(terms).items()}
        if node in hidden:
            continue
        below[node] = {node}.union(*(below[p] for p in local[node]))
        ratios[node] = {}
        for p, d in local[node].items():
            ratios[node][p] = d
            # Beside other ways from the node to p, ∂node/∂p would not mean this one alone.
            if not any(p in below[q] for q in local[node] if q is not p):
                ratios[node][p] = graph.ratio(node, p)
    branching = _branching(graph)
    partials = {node: local[node] for node in ratios}
    seen = {_letters(result.symbol), _letters(result.expression)}
    lines = []
    for links in (ratios, partials):
        side = _nested(links.items(), branching, target, lambda terms: sum(terms, ZERO))
        if side is not None and _letters(side) not in seen:
            lines.append(Equation(result.symbol, side))
            seen.add(_letters(side))
    return lines


def _letters(e: Expression) -> str:
    """A text that is the same for expressions that differ in the order of their terms alone."""
    return "".join(sorted(re.sub(r"[-+() ]", "", e.text)))


# --- several variables: adjoints that are shared get names ----------------------------------------


def by_adjoints(graph: SymbolicGraph) -> list[Equation]:
    """The adjoints used more than once, from the root on, then the derivatives."""
    symbols, named = _adjoint_symbols(graph), {node: node for node in graph.edges}
    # For each node: by adjoint of the nodes that use it, the sum of the partials.
    pending: dict[Value, dict[object, tuple[Expression, list[Expression]]]] = {
        graph.root: {"": (ONE, [ONE])}
    }
    equations: list[Equation] = []
    derivatives: dict[Value, Expression] = {}
    for node, edges in reversed(graph.edges.items()):
        groups = reversed(pending.pop(node).values())
        adjoint = algebra.total([g * algebra.total(ds[::-1]) for g, ds in groups])
        shared = len(edges) + (node in graph.targets) > 1
        if edges and not _is_atom(graph, adjoint) and (shared or adjoint.size > _LONG):
            symbol = graph.fresh(symbols[named[node]])
            graph.about[symbol.name] = [named[node]]
            equations.append(Equation(symbol, adjoint))
            adjoint = symbol
        if node in graph.targets:
            derivatives[node] = adjoint
        for parent, d in edges:
            group = pending.setdefault(parent, {}).setdefault(adjoint.key, (adjoint, []))
            group[1].append(d)
            if d.number == 1.0 and not parent.label and graph.uses[parent] == 1:
                named[parent] = named[node]  # a term without a name has the adjoint of its sum
    return equations + [
        Equation(graph.ratio(graph.root, target), derivatives.get(target, ZERO))
        for target in graph.targets
    ]


def _adjoint_symbols(graph: SymbolicGraph) -> dict[Value, Expression]:
    """δ20 for the adjoint of z20, and δ_x for one whose index is missing, or not its own."""
    by_index: dict[str, list[Value]] = {}
    symbols: dict[Value, Expression] = {}
    for node, edges in graph.edges.items():
        text, latex = as_factor(graph.symbols[node])
        symbols[node] = Expression(f"δ_{text}", name_in_latex=rf"\delta_{{{latex}}}", binding=9)
        indexed = re.fullmatch(r"[^\W\d_]_?(\d[\d_]*(?:\[[\d, ]+\])*)", graph.names[node])
        if indexed and edges:
            by_index.setdefault(indexed[1], []).append(node)
    for index, nodes in by_index.items():
        linear = [node for node in nodes if graph.names[node][0] in "zZ"]
        if len(linear) == 1 or len(nodes) == 1:
            symbols[(linear or nodes)[0]] = Expression(f"δ{index}")
    return symbols


def _is_atom(graph: SymbolicGraph, e: Expression) -> bool:
    """Whether it is a number or a name, of a node or an adjoint, with or without a sign."""
    bare = e.operands[0] if e.op is ops.neg else e
    return bare.op is None and bare.name not in graph.slopes


def inlined(graph: SymbolicGraph, equations: Sequence[Equation]) -> set[Value]:
    """The nodes that are written out where they are used, and have no line: v1 in z = v1 + b.

    They have no label, are used once, are short, and no equation mentions them.
    """
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


def counts(graph: SymbolicGraph) -> dict[str, int]:
    """How many paths there are, and multiplications along them: see `Derivation.counts`."""
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
