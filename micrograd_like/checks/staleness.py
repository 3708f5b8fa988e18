"""`stale`: the nodes of a graph that data was changed around."""

from __future__ import annotations

from ..engine import Value, topological_order
from ..gradients import is_stale


def stale(root: Value) -> list[Value]:
    """The nodes, parents first, whose record no longer fits the data of their operands.

    Data was assigned after they were made. `root.backward()` goes by the record: it is right for
    the numbers that the graph was made with. What `where` did not take is looked at, too, as graphs
    of gradients have it. Raises OperandError for what is not a Value.

    >>> x = Value(3.0)
    >>> y = x * x
    >>> z = y + 1.0
    >>> x.data = 4.0
    >>> stale(z) == [y]
    True
    """
    return [node for node in topological_order(root, untaken=True) if is_stale(node)]
