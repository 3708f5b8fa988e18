"""Wrong local derivatives, planted in finished graphs: what checks have to find."""

from __future__ import annotations

from typing import Any

from micrograd_like import Value, topological_order


def off_by(factor: float, node: Value, place: int, twins: dict[Any, Value] | None = None) -> Value:
    """The node with a wrong local derivative by the operand at that place, if there is a right one.

    It has `twins` in the place of operands. What has no operands is left as it is.
    """
    slopes: list[float | None] = list(node.operand_grads)
    if not slopes:
        return node
    if (slope := slopes[place]) is not None:
        slopes[place] = slope * factor
    operands = [(twins or {}).get(a, a) for a in node.operands]
    return Value.__assemble__(node.data, node.op, operands, slopes)


def planted(factor: float, root: Value, wrong: Value, place: int) -> Value:
    """The graph of `root` made anew from its leaves, in which the node `wrong` is off."""
    twins: dict[Any, Value] = {}
    for node in topological_order(root, untaken=True):
        times, by = (factor, place) if node is wrong else (1.0, 0)
        twins[node] = off_by(times, node, by, twins)
    return twins[root]
