"""A graph as a program for a page: what each node and each local derivative is, from the leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..compiler.javascript_source import JavaScriptPrinter, inlined
from ..compiler.tape import Call, Sum, Tape, lasting_edges
from ..engine import Value, topological_order
from ..errors import InputError
from ..gradients import is_stale
from .stepping import Event

MOST_NODES = 3_000
"""More of them a page does not compute anew while a slider moves."""


def live_program(root: Value, forward: Sequence[Event], others: Sequence[Value] = ()) -> str:
    """A function in JavaScript, `program(leaves)`, to `[values, locals]`: of nodes, of edges.

    Leaves, nodes and edges are in the order of the events; after those nodes come the `others`. One
    line is one operation, as the engine computes it: nothing is simplified. Raises InputError, with
    the reason, where a page could not do what the engine does.
    """
    nodes = [event.node for event in forward]
    leaves = [node for node in nodes if node.op is None]
    if len(nodes) > MOST_NODES:
        raise InputError(f"it has more than {MOST_NODES:,} nodes")
    try:
        locals_ = _locals(root, forward)
    except Exception as error:  # a row of the user's may do anything with its arguments
        raise InputError(str(error)) from None
    if not locals_:
        raise InputError("nothing is computed")
    number: dict[Value, int | float] = {leaf: i for i, leaf in enumerate(leaves)}
    assignments: list[Sum | Call] = []
    graphs = [d for d in locals_ if isinstance(d, Value)]
    for node in topological_order(root, *graphs, untaken=True):
        if node in number:
            continue
        if is_stale(node):  # in a condition, or on a side not taken: elsewhere `_locals` refuses it
            raise InputError("data was changed after the forward pass")
        if node.op is None:  # which the graph does not depend on, as it is
            number[node] = node.data
            continue
        args = [number[a] if isinstance(a, Value) else a for a in node.operands]
        number[node] = len(leaves) + len(assignments)
        assignments.append(Call(node.op, tuple(args)))
    outputs = [number[x] if isinstance(x, Value) else x for x in (*nodes, *others, *locals_)]
    tape = Tape(len(leaves), assignments, outputs, {}, {}, len(nodes))
    names = [f"x{i + 1}" for i in range(len(leaves))]  # labels are no part of the page's scripts
    blocks = [("values", len(nodes) + len(others)), ("locals", len(locals_))]
    return inlined(JavaScriptPrinter(tape, names).program(blocks, None))


def _locals(root: Value, forward: Sequence[Event]) -> list[Value | float]:
    """The local derivative along each edge, as a graph or a number."""
    # The edges begin at the leaves, and where a choice took a number.
    partials = lasting_edges(root, [event.node for event in forward if not event.edges])
    found: list[Any] = []
    for event in forward:
        node, edges = event.node, event.edges
        if not edges:
            continue
        # A choice hands all on to the side that is taken; the other one makes another graph.
        found += partials[node][1] or [edge.local for edge in edges]
    return found
