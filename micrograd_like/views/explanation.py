"""`explain`: the chain rule at one node, in symbols and in numbers."""

from __future__ import annotations

from itertools import pairwise

from ..engine import Value
from ..errors import OperandError
from ..gradients import grad
from ..words import first_and_last
from . import algebra
from .algebra import Expression
from .names import factor, numeral
from .symbols import MOST_TERMS, SymbolicGraph

_ONE_LINE = 97  # longer equations have a line for each side
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
    if not isinstance(node, Value):
        raise OperandError(f"gradients are those of Values, not {node!r:.60}")
    graph = SymbolicGraph(root, [], "")
    if node not in graph.names:
        graph = SymbolicGraph(root, [node], "")
    left = graph.ratio(root, node).text
    users = [user for user in graph.order if node in user.parents]
    if node is root:
        print(f"{left} = 1.0")
    elif not users:
        print(f"{left} = 0.0: {graph.names[root]} does not depend on {graph.names[node]}")
    else:
        left, *sides = _sides(graph, node, users)
        line = " = ".join([left, *sides])
        if len(line) > _ONE_LINE:
            indent = " " * len(left)
            line = f"\n{indent} = ".join(_broken(side, len(left) + 3) for side in sides)
            line = f"{left} = {line}"
        print(line)


def _sides(graph: SymbolicGraph, node: Value, users: list[Value]) -> list[str]:
    """The sides of the equation: the derivative, ratios, partials, numbers and the result."""
    chain: list[Expression] = []
    symbols: list[Expression] = []
    figures: list[str] = []
    *adjoints, result = grad(graph.root, [*users, node])
    for user, adjoint in zip(users, adjoints, strict=True):
        places = [i for i, parent in enumerate(user.parents) if parent is node]
        partials = graph.partials(user)
        partials = [partials[i] for i in places]
        if user is graph.root:
            chain.append(algebra.total(partials))
            symbols += partials
        else:
            outer = graph.ratio(graph.root, user)
            chain.append(algebra.plain_product(outer, graph.ratio(user, node)))
            symbols += [algebra.plain_product(outer, d) for d in partials]
        figures += [f"{factor(adjoint)} · {factor(user.local_grads[i])}" for i in places]
    left = graph.ratio(graph.root, node)
    written = [
        side.written("text", spaced=True, most=MOST_TERMS)
        for side in (left, algebra.signed_sum(chain), algebra.signed_sum(symbols))
    ]
    if len(figures) > MOST_TERMS:
        figures = first_and_last(figures, "… {} more …")
    return [*dict.fromkeys(written), " + ".join(figures), numeral(result)]


def _broken(side: str, indent: int) -> str:
    """The sum with line ends before terms that would not fit, each line after `indent` spaces."""
    starts = [0]
    depth = 0
    for i, c in enumerate(side):
        depth += (c in "([") - (c in ")]")
        if depth == 0 and side[i : i + 3] in (" + ", " - "):
            starts.append(i)
    lines = [""]
    for start, end in pairwise([*starts, len(side)]):
        term = side[start:end]
        if start and indent + len(lines[-1]) + len(term) > _WIDTH:
            lines.append(term.lstrip())
        else:
            lines[-1] += term
    return f"\n{' ' * indent}".join(lines)
