"""Graphs copied and pickled, of any depth: as flat lists, parents first, without recursion."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import takewhile
from types import MemberDescriptorType
from typing import Any, Generic, TypeVar

from .modes import innermost, open_blocks, traces

ValueT = TypeVar("ValueT")  # the class that inherits these, which this file does not import


class Copies(Generic[ValueT]):
    """Copying, detaching and pickling. `__order__` lists a graph, `__assemble__` makes a node."""

    __slots__ = ()

    __assemble__: Callable[..., ValueT]

    def __order__(self, seen: set[Any]) -> list[ValueT]:
        raise NotImplementedError

    def __copy__(self) -> ValueT:
        out = _twin(self)
        _give(out, _attributes(self))
        return out  # type: ignore[no-any-return]

    def __deepcopy__(self, memo: dict[Any, Any]) -> ValueT:
        # One dict of copies lies in the memo, so that roots in one container keep what they share.
        copies: dict[Any, ValueT]
        copies, seen = memo.setdefault("micrograd_like.Value", ({}, set()))
        order = self.__order__(seen)
        for node in order:
            known = memo.get(id(node))
            copies[node] = _twin(node, copies) if known is None else known
        for node in order:  # when all are there: an attribute may be what was computed from it
            if attributes := _attributes(node):
                from copy import deepcopy

                _give(copies[node], deepcopy(attributes, memo))
        return copies[self]

    def detach(self: Any) -> ValueT:
        """A new leaf with the same data and label: a constant, as far as gradients go."""
        if open_blocks and (trace := innermost(traces)):
            return trace.detached(self)  # type: ignore[no-any-return]
        leaf: Any = self.__assemble__(self.data, None, (), ())
        leaf.label = self.label
        return leaf  # type: ignore[no-any-return]

    def __reduce__(self: Any) -> tuple[Any, ...]:
        """One flat list, parents first: pickle would recurse through the parents.

        Leaves are pickled as objects of their own, so that several roots (or a root and a list of
        parameters) pickled together still share them; each root has its own copy of the nodes in
        between. One of a subclass has its attributes with it.
        """
        if self.op is None:
            kind, attributes = self.__class__, _attributes(self)
            state = (None, attributes) if attributes else None  # to be set one by one
            if kind.__getstate__ is not object.__getstate__:
                state = self.__getstate__()
            return _leaf, (kind, self.data, self.grad, self.label), state
        order = self.__order__(set())
        leaves = [node for node in order if node.op is None]
        nodes = [node for node in order if node.op is not None]
        place = {node: i for i, node in enumerate(leaves + nodes)}
        rows = [
            (
                node.data,
                node.grad,
                node.label,
                node.op,
                [a if a.__class__ is float else place[a] for a in node.operands],
                node.operand_grads,
            )
            for node in nodes
        ]
        return _restored, (self.__assemble__, leaves, rows)


def _twin(node: Any, copies: dict[Any, Any] | None = None) -> Any:
    """A copy of the node, of the same operands or of their `copies`. It has no attributes yet.

    What is in place of a number is its own copy, as numbers are: nothing flows through another one.
    """
    if hasattr(node, "__passes__"):
        return node
    if node.op is None:
        return _leaf(node.__class__, node.data, node.grad, node.label)
    operands = node.operands
    if copies is not None:
        operands = [a if a.__class__ is float else copies[a] for a in operands]
    out = node.__assemble__(node.data, node.op, operands, node.operand_grads)
    out.grad, out.label = node.grad, node.label
    return out


def _leaf(kind: Any, data: float, grad: float, label: str) -> Any:
    """A leaf of that class, whose own constructor is not called: it takes what it likes."""
    base = next(base for base in kind.__mro__ if "__assemble__" in vars(base))  # Value itself
    leaf = base.__new__(kind)
    base.__init__(leaf, data, label)
    leaf.grad = grad
    return leaf


def _attributes(node: Any) -> dict[str, Any]:
    """What a leaf of a subclass has beside, in its `__dict__` and in slots."""
    return attributes_of(node) if node.op is None else {}


def attributes_of(x: Any) -> dict[str, Any]:
    """What an object has in its `__dict__` and in slots, but for a Value's own."""
    own: dict[str, Any] = getattr(x, "__dict__", {})
    if not (slots := _slots(x.__class__)):
        return own
    return {**{name: getattr(x, name) for name in slots if hasattr(x, name)}, **own}


@lru_cache(512)
def _slots(kind: type) -> list[str]:
    kinds = takewhile(lambda kind: "__assemble__" not in vars(kind), kind.__mro__)
    members = [member for kind in kinds for member in vars(kind).items()]
    return [name for name, member in members if isinstance(member, MemberDescriptorType)]


def _give(node: Any, attributes: dict[str, Any]) -> None:
    for name, x in attributes.items():
        setattr(node, name, x)


def _restored(assemble: Callable[..., Any], leaves: list[Any], rows: list[Any]) -> Any:
    """The root of a graph that was pickled: the last of its nodes."""
    nodes = list(leaves)
    for data, grad, label, op, operands, partials in rows:
        arguments = [a if a.__class__ is float else nodes[a] for a in operands]
        node = assemble(data, op, arguments, partials)
        node.grad, node.label = grad, label
        nodes.append(node)
    return nodes[-1]
