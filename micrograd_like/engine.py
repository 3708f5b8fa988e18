"""`Value`, a number that remembers how it was computed, the order of its graph, and the sweep.

Vocabulary: a node's *parents* are the Values it was computed from (towards the inputs), its
*local derivatives* are the partials with respect to each of them, recorded when the node is made,
and its *adjoint* (cotangent) is the derivative of the swept root with respect to it.
A *topological order* has parents first; the reverse sweep goes through it backwards and adds
adjoint · local derivative to the adjoint of each parent, so that a shared sub-expression is
differentiated once, however many paths lead through it.

Nothing recurses, and no node knows its users: reference counting alone frees graphs of any depth.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from . import modes, ops
from .copying import Copies
from .errors import DomainError, OperandError, shown
from .methods import Methods, ValueT, check_constructor, text
from .modes import innermost, land, open_blocks, silences, touched
from .numerics import number, number_in
from .slots import Closed, Slots, new_slots, set_attribute, set_class

__all__ = ["Value", "topological_order"]
__dir__ = shown("NATIVE", *__all__)


class Value(Methods["Value"], Copies["Value"], Closed):
    """A scalar in a computation graph.

    `data` is its number, `grad` the gradient that `backward` left, `label` a name for people.
    `op` is the operation that made it (None for a leaf), `parents` the Values it was made from, in
    order and with repetition, `local_grads` the derivative with respect to each, recorded when the
    node was made, and `operands` the parents with the constants, plain numbers, among them.

    `==` and `hash` go by identity, `<` and its kin compare data, `bool(v)` raises. What is no real
    number raises OperandError (a TypeError) as data.

    >>> a, b = Value(2.0, label="a"), Value(-3.0, label="b")
    >>> c = a * b + a**2
    >>> c.backward()
    >>> c.data, a.grad, b.grad
    (-2.0, 1.0, 2.0)
    """

    __slots__: tuple[str, ...] = ()

    def __init__(self, data: Any, label: str = "", *rest: Any, **named: Any) -> None:
        if label.__class__ is not str or rest or named:
            label = check_constructor(label, rest, named)
        data = data if data.__class__ is float else number(data)
        if self.__class__ is Value:
            set_class(self, Slots)
            self._data, self._grad, self._label = data, 0.0, label
            self._row = self._a = self._b = self._da = self._db = None
            self.__class__ = Value
        else:
            slots = {**dict.fromkeys(Slots.__slots__), "_data": data, "_grad": 0.0, "_label": label}
            for slot, x in slots.items():
                set_attribute(self, slot, x)

    @property
    def data(self) -> float:
        """The number. Assigning changes it for later operations; nodes already made stay right."""
        return touched(self)._data if open_blocks else self._data

    @data.setter
    def data(self, data: Any) -> None:
        data = data if data.__class__ is float else number(data)
        set_slot_of_data(touched(self) if open_blocks else self, data)

    @property
    def grad(self) -> float:
        """The gradient that `backward` left. Assigning what is no number raises OperandError."""
        return touched(self)._grad if open_blocks else self._grad

    @grad.setter
    def grad(self, grad: Any) -> None:
        if open_blocks:
            land((self,))
        set_slot_of_grad(self, grad if grad.__class__ is float else number(grad))

    @property
    def label(self) -> str:
        """A name for people. Assigning what is no text raises OperandError."""
        return self._label

    @label.setter
    def label(self, label: str) -> None:
        self._label = label if label.__class__ is str else text(label)

    @property
    def op(self) -> ops.Op | None:
        return self._row

    @property
    def operands(self) -> tuple[Value | float, ...]:
        """What the op was applied to: Values, and floats for constants."""
        if self._row is None:
            return ()
        if self._da.__class__ is tuple:
            return self._a if self._b is None else self._b  # type: ignore[no-any-return]
        return (self._a,) if self._b is None else (self._a, self._b)

    @property
    def parents(self) -> tuple[Value, ...]:
        """The operands that are Values, without what `where` did not take, or chose by."""
        if self._da.__class__ is tuple:
            return self._a  # type: ignore[no-any-return]
        first = () if self._da is None else (self._a,)
        return first if self._db is None else (*first, self._b)

    @property
    def local_grads(self) -> tuple[float, ...]:
        """d(this)/d(parent) for each parent, as it was when the node was made."""
        return slopes_of(touched(self))

    # Each inlines its partials, as `affine` does: a third of the time. A test compares the rows.
    def __add__(self, other: Value | float, /) -> Value:
        if other.__class__ is Value or isinstance(other, Value):
            return new_node(self._data + other._data, ops.add, self, other, 1.0, 1.0)
        if (c := other if other.__class__ is float else number_in(other)) is None:
            return ops.add(self, other)
        return new_node(self._data + c, ops.add, self, c, 1.0, None)

    def __radd__(self, other: float, /) -> Value:
        if (c := other if other.__class__ is float else number_in(other)) is None:
            return ops.add(other, self)
        return new_node(c + self._data, ops.add, c, self, None, 1.0)

    def __sub__(self, other: Value | float, /) -> Value:
        if other.__class__ is Value or isinstance(other, Value):
            return new_node(self._data - other._data, ops.sub, self, other, 1.0, -1.0)
        if (c := other if other.__class__ is float else number_in(other)) is None:
            return ops.sub(self, other)
        return new_node(self._data - c, ops.sub, self, c, 1.0, None)

    def __rsub__(self, other: float, /) -> Value:
        if (c := other if other.__class__ is float else number_in(other)) is None:
            return ops.sub(other, self)
        return new_node(c - self._data, ops.sub, c, self, None, -1.0)

    def __mul__(self, other: Value | float, /) -> Value:
        x = self._data
        if isinstance(other, Value):
            y = other._data
            return new_node(x * y, ops.mul, self, other, y, x)
        if (c := other if other.__class__ is float else number_in(other)) is None:
            return ops.mul(self, other)
        return new_node(x * c, ops.mul, self, c, c, None)

    def __rmul__(self, other: float, /) -> Value:
        if (c := other if other.__class__ is float else number_in(other)) is None:
            return ops.mul(other, self)
        return new_node(c * self._data, ops.mul, c, self, None, c)

    def __truediv__(self, other: Value | float, /) -> Value:
        if isinstance(other, Value):
            if y := other._data:
                out = self._data / y
                return new_node(out, ops.div, self, other, 1.0 / y, -(out / y))
        elif c := other if other.__class__ is float else number_in(other):
            return new_node(self._data / c, ops.div, self, c, 1.0 / c, None)
        return ops.div(self, other)  # which refuses, and names the culprit

    def __rtruediv__(self, other: float, /) -> Value:
        c = other if other.__class__ is float else number_in(other)
        if c is None or not (y := self._data):
            return ops.div(other, self)
        out = c / y
        return new_node(out, ops.div, c, self, None, -(out / y))

    def __pow__(self, other: Value | float, /) -> Value:
        c = other if other.__class__ is float else number_in(other)
        x = self._data
        try:
            out = ops.power.compute(x, c)
        except (ArithmeticError, TypeError, ValueError):  # c is None beside a Value, say
            return ops.power(self, other)
        return new_node(out, ops.power, self, c, ops.power.partials[0](x, c, out), None)

    def __neg__(self) -> Value:
        return new_node(-self._data, ops.neg, self, None, -1.0, None)

    @staticmethod
    def __apply_op__(op: ops.Op, args: Sequence[Any]) -> Value:
        """The node of `op` applied to Values and numbers, at least one of them a Value."""
        operands: list[Any] = [a if isinstance(a, Value) else number(a) for a in args]
        xs = numbers_of(operands)
        try:
            data = op.evaluate(xs)
        except DomainError as error:
            labels = [getattr(a, "label", "") for a in operands]
            raise DomainError(op.name, error.domain, xs, labels) from None
        if open_blocks and innermost(silences):  # partials may fail, and would be dropped
            return new_node(data, op, (), tuple(operands), (), None)
        out = Value.__assemble__(data, op, operands, op.partials_at(operands, xs, data))
        return _under_modes(out) if open_blocks else out

    def __apply_unary__(self, op: ops.Op) -> Value:
        """`op(self)` for an operation of one argument, in half the time."""
        try:
            out = op.compute(data := self._data)
            d = op.partials[0](data, out)
        except (ArithmeticError, ValueError):
            return op(self)
        if out.__class__ is float and d.__class__ is float:
            return new_node(out, op, self, None, d, None)
        return op(self)  # an operation of the user's, of integers perhaps

    @staticmethod
    def __assemble__(
        data: float, op: ops.Op | None, operands: Sequence[Any], partials: Sequence[float | None]
    ) -> Value:
        """A node, whatever the mode; None stands beside constants and where nothing flows."""
        out = Value(data)
        out._row = op
        if len(operands) > 2:
            out._a = tuple([a for a, d in zip(operands, partials, strict=True) if d is not None])
            out._da = tuple([d for d in partials if d is not None])
            out._b = None if len(out._a) == len(operands) else tuple(operands)
        elif len(operands) == 2:
            (out._a, out._b), (out._da, out._db) = operands, partials
        elif operands:
            (out._a,), (out._da,) = operands, partials
        return out

    def __order__(self, seen: set[Value]) -> list[Value]:
        return topological_order(self, seen=seen, untaken=True)

    def backward(self, seed: float = 1.0) -> None:
        """Sweep the graph in reverse: set `grad` on the nodes, and add to it on the leaves.

        `seed` is the adjoint of this node. Calling it twice doubles the leaves' gradients; set
        them to 0 in between (`Module.zero_grad`, or the optimizer's). Threads may sweep graphs of
        their own that share leaves. Raises OperandError (a TypeError) for a seed that is no number.
        """
        modes.swept(self, seed := number(seed))
        with modes.sweeping:  # one sweep at a time: threads may share leaves
            before: list[tuple[Value, float]] = []
            try:
                for node, g in adjoints(self, seed).items():
                    if node._row is None:
                        before.append((node, node._grad))
                        # Nothing comes between the two: a signal handler may sweep, too.
                        set_slot_of_grad(node, node._grad + g)
                    else:
                        set_slot_of_grad(node, g)
            except BaseException:  # Ctrl-C, say: leaves change all together, or not at all
                for leaf, grad in before:
                    leaf._grad = grad
                raise


slot_of_data = vars(Slots)["_data"].__get__  # for long lists; TypeError for what is no Value
set_slot_of_data = vars(Slots)["_data"].__set__
set_slot_of_grad = vars(Slots)["_grad"].__set__


def new_node(data: float, op: ops.Op, a: Any, b: Any, da: Any, db: float | None) -> Value:
    """A node with its slots as described at `Slots`; under no_grad a leaf."""
    out: Any = new_slots()
    out._data, out._grad = data, 0.0
    out._label, out._row = "", op
    out._a, out._b = a, b
    out._da, out._db = da, db
    out.__class__ = Value
    return _under_modes(out) if open_blocks else out


def _under_modes(node: Value) -> Value:
    """What the modes that are in force here make of a new node."""
    node = modes.made(node)
    if (blocks := silences.get()) and (blocks[-1].is_open or innermost(silences)):
        node._row = node._a = node._b = node._da = node._db = None
    return node


def node_as(kind: type[ValueT], node: Value) -> ValueT:
    """The same node as one of a subclass."""
    out = object.__new__(kind)
    for slot in Slots.__slots__:
        setattr(out, slot, getattr(node, slot))
    return out


def numbers_of(operands: Collection[Any]) -> list[float]:
    """The data of Values, and floats as they are."""
    if open_blocks:
        land(operands)
    return [x if x.__class__ is float else x._data for x in operands]


def packed(values: Collection[Any]) -> bytearray:
    """The same as doubles one after another, of which arrays are made without a list."""
    return bytearray(array("d", numbers_of(values)))


def slopes_of(node: Value) -> tuple[float, ...]:
    """The node's `local_grads`, for what is part of the engine: a trace is told nothing."""
    local = node._da if node._da.__class__ is tuple else (node._da, node._db)
    return local if None not in local else tuple([d for d in local if d is not None])


def operands_of(nodes: Iterable[Value]) -> list[tuple[Value | float, ...]]:
    """The operands of each node, where graphs are long: twice as fast as one at a time."""
    return [
        node.operands if node._b is None or node._da.__class__ is tuple else (node._a, node._b)
        for node in nodes
    ]


def topological_order(
    *roots: Value, seen: set[Value] | None = None, untaken: bool = False
) -> list[Value]:
    """Every node that the roots depend on, once, parents before the nodes made from them.

    The order is a function of the graph alone: depth first, parents in their order. Nodes that
    `seen` holds are left out, and then it holds the others. With `untaken` there is also what the
    side was computed from that `where` did not take. Raises OperandError for what is no Value.
    """
    seen = set() if seen is None else seen
    order: list[Value] = []
    for root in roots:
        if not isinstance(root, Value):
            raise OperandError(f"a Value is needed as root of a graph, got {type(root).__name__}")
        todo: list[Any] = [root]
        push, pop = todo.append, todo.pop
        while todo:
            if (node := pop()) is None:  # all that the next one depends on is in the order
                order.append(pop())
            elif node not in seen:
                seen.add(node)
                if node._row is None:
                    order.append(node)
                    continue
                todo += (node, None)
                if (local := node._da).__class__ is tuple:
                    whole = untaken and node._b is not None  # else parents are all its operands
                    among = [a for a in node._b if a.__class__ is not float] if whole else node._a
                    todo += among[::-1]
                else:
                    if node._db is not None:
                        push(node._b)
                    if local is not None:
                        push(node._a)
    return order


def adjoints(root: Value, seed: float = 1.0) -> dict[Value, float]:
    """The adjoint of every node that `root` depends on, when that of `root` is `seed`."""
    order = topological_order(root)
    adjoint = dict.fromkeys(order, 0.0)
    adjoint[root] = seed
    for node in reversed(order):
        g = adjoint[node]
        if (local := node._da).__class__ is tuple:
            for parent, d in zip(node._a, local):  # noqa: B905 - equally long
                adjoint[parent] += g * d
        elif local is not None:
            adjoint[node._a] += g * local
        if (local := node._db) is not None:
            adjoint[node._b] += g * local
    return adjoint


# `_native.c` does the same in C. Where it was built it takes over, unless it is asked not to.
NATIVE = False
if not (TYPE_CHECKING or os.environ.get("MICROGRAD_LIKE_PURE")):
    try:
        from ._native import Value, adjoints, node_as, numbers_of, operands_of, packed
        from ._native import set_slot_of_grad, slopes_of, topological_order

        NATIVE = True
    except ImportError:  # there was no compiler
        pass
