"""`explain`: the chain rule at one node, in symbols and in numbers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from textwrap import wrap

from ..engine import Value, topological_order
from ..gradients import grad, is_stale, values
from ..words import first_and_last, fitting
from .algebra import Expression
from .names import factor, numeral
from .symbols import MOST_TERMS, SymbolicGraph

_WIDTH = 100


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
    values("gradients are those of Values", [node])
    graph = SymbolicGraph(root, [])
    if node not in graph.names:
        graph = SymbolicGraph(root, [node])
    left = graph.ratio(root, node).text
    users = [user for user in topological_order(root) if node in user.parents]
    if node is root:
        line = f"{left} = 1.0"
    elif not users:
        above, below = graph.names[root], graph.names[node]
        line = f"{left} = 0.0: {above} does not depend on {below}"
        if node in topological_order(root, untaken=True):
            place = "in conditions, and on sides that are not taken"
            line = f"{left} = 0.0: {above} depends on {below} only {place}"
    else:
        sides = _sides(graph, node, users)
        line = " = ".join([left, *map(_sum, sides)])
        if len(line) > _WIDTH - len(" = "):  # a line for each side
            indent = len(left) + len(" = ")
            broken = f"\n{'= ':>{indent}}".join(_sum(side, indent, _WIDTH) for side in sides)
            line = f"{left} = {broken}"
        if any(map(is_stale, users)):
            line += "\n(as recorded: data was changed since)"
    print(fitting(line))


def _sides(graph: SymbolicGraph, node: Value, users: list[Value]) -> list[list[str]]:
    """The terms of each side of the equation: ratios, partials, numbers and the result."""
    chain: list[Expression] = []
    symbols: list[Expression] = []
    figures: list[str] = []
    *adjoints, result = grad(graph.root, [*users, node])
    for user, adjoint in zip(users, adjoints, strict=True):
        local = {i: d for i, d in enumerate(user.operand_grads) if user.operands[i] is node}
        places = [i for i, d in local.items() if d is not None]
        partials = graph.partials(user, places)
        if user is graph.root:
            chain += partials
            symbols += partials
        else:
            outer = graph.ratio(graph.root, user)
            chain.append(outer * graph.ratio(user, node))
            symbols += [outer * d for d in partials]
        figures += [f"{factor(adjoint)} · {factor(d)}" for d in local.values() if d is not None]
    sides = [_written(chain), _written(symbols), _written(figures)]
    if sides[0] == sides[1]:
        del sides[0]
    return [*sides, [numeral(result)]]


def _written(terms: Sequence[Expression | str]) -> list[str]:
    """The terms as text; of many the first three and the last."""
    few = first_and_last(terms, "… {} more …", most=MOST_TERMS)
    return [
        e if isinstance(e, str) else e.written("text", spaced=True, most=MOST_TERMS) for e in few
    ]


def _sum(terms: list[str], indent: int = 0, width: int = sys.maxsize) -> str:
    """The terms added up; there are line ends before terms that would leave the width."""
    first, *others = [term.replace(" ", "\xa0") for term in terms]  # no line ends within a term
    signed = [f"-\xa0{term[1:]}" if term.startswith("-") else f"+\xa0{term}" for term in others]
    lines = wrap(" ".join([first, *signed]), max(1, width - indent), break_long_words=False,
                 break_on_hyphens=False)  # fmt: skip
    return f"\n{' ' * indent}".join(lines).replace("\xa0", " ")
