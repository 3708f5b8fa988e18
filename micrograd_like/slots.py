"""What a node of the engine in Python holds, and the word for who would have it hold more."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .ops import Op


class Slots:
    """The numbers of a node, and what it was computed from.

    One or two operands lie in slots of their own, with the local derivative beside each (None
    beside a constant): no tuples, which would double a node's memory and triple the cyclic
    collector's work. A node of more operands has its parents in _a, its local derivatives in
    _da, both tuples, and in _b its operands if others are among them.
    """

    __slots__ = ("_a", "_b", "_da", "_data", "_db", "_grad", "_label", "_row")

    _a: Any
    _b: Any
    _da: Any
    _data: float
    _db: float | None
    _grad: float
    _label: str
    _row: Op | None


class Closed(Slots):
    """Slots that say what to do instead where an attribute of one's own is set.

    Setting any takes ten times as long. So a new node is one of `Slots` until it is filled, and the
    engine sets the slots of a finished one by their descriptors.
    """

    __slots__ = ()

    def __setattr__(self, name: str, x: Any) -> None:
        """Set it, or raise AttributeError; that of a plain Value says what to do instead."""
        try:
            set_attribute(self, name, x)
        except AttributeError:
            kind = type(self)
            if hasattr(kind, name) or "__assemble__" not in vars(kind):  # a subclass of Value
                raise
            raise AttributeError(
                f"'Value' object has no attribute '{name}', and takes none: give attributes to a "
                "subclass of Value, or a label to this one"
            ) from None


new_slots = partial(object.__new__, Slots)
set_attribute = object.__setattr__
set_class = object.__dict__["__class__"].__set__
