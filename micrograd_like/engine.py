"""`Value`, the order of its graph, the one reverse sweep, and the gradients read off it.

Vocabulary: a node's *parents* are the Values it was computed from (towards the inputs), its
*local derivatives* are the partials with respect to each of them, recorded when the node is made,
and its *adjoint* (cotangent) is the derivative of the swept root with respect to it.
A *topological order* has parents first; the reverse sweep goes through it backwards and adds
adjoint · local derivative to the adjoint of each parent, so that a shared sub-expression is
differentiated once, however many paths lead through it.

Nothing here recurses, and nodes hold no closures or back-pointers: a graph of any depth is freed
by reference counting alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ContextDecorator
from contextvars import ContextVar
from functools import partial
from math import nan
from threading import Lock
from typing import Any, Final, Literal, Self, overload

from . import ops
from .errors import DomainError, InputError, OperandError, StaleGraphError
from .numerics import number
from .ops import Op

# A mode is in force where its context variable has any entries, one for each context that is open;
# the count of those that are open in any thread spares operations the look-up while there are none.
_no_grad_here: ContextVar[tuple[Any, ...]] = ContextVar("no_grad", default=())
_watch_here: ContextVar[tuple[Any, ...]] = ContextVar("watch", default=())  # `anomaly._Watch`es
_modes_open = 0
_modes_lock = Lock()


class Mode(ContextDecorator):
    """A context, or decorator, in which a context variable has one entry more."""

    _variable: ContextVar[tuple[Any, ...]]
    _entry: Any = True

    @classmethod
    def open_here(cls) -> tuple[Any, ...]:
        """The mode's entries."""
        return cls._variable.get()

    @classmethod
    def reopen(cls, entries: tuple[Any, ...]) -> None:
        """Have it have these. They and the count change, or neither: no signal comes between."""
        global _modes_open
        with _modes_lock:
            before = cls._variable.get()
            _modes_open += len(entries) - len(before)
            cls._variable.set(entries)

    def __enter__(self) -> Self:
        before = self.open_here()
        try:
            self.reopen((*before, self._entry))
        except BaseException:  # Ctrl-C, say: without __enter__ there will be no __exit__
            self.reopen(before)
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.reopen(self.open_here()[:-1])


class no_grad(Mode):  # noqa: N801 - the name PyTorch gave it
    """Within this context (or decorated function) results have no parents, as if made by hand.

    >>> x = Value(3.0)
    >>> with no_grad():
    ...     (x * x).parents
    ()
    """

    _variable = _no_grad_here


class Value:
    """A scalar in a computation graph.

    `data` is its number, `grad` the gradient that `backward` left, `label` a name for people.
    `op` is the row of the table that made it (None for a leaf), `parents` the Values it was made
    from, in order and with repetition, and `local_grads` the derivative with respect to each,
    recorded when the node was made. `operands` are the parents with the constants among them.

    Plain numbers in an expression are constants. `==` and `hash` go by identity, `<` and its kin
    compare data, `bool(v)` raises.

    >>> a, b = Value(2.0, label="a"), Value(-3.0, label="b")
    >>> c = a * b + a**2
    >>> c.backward()
    >>> c.data, a.grad, b.grad
    (-2.0, 1.0, 2.0)

    Raises OperandError (a TypeError) for data that is not a real number.
    """

    # One or two operands lie in slots of their own, with the local derivative beside each (None
    # beside a constant): no tuples, which would double a node's memory and triple the cyclic
    # collector's work. A node of more operands has its parents in _a, its local derivatives in
    # _da, both tuples, and in _b its operands if constants are among them.
    __slots__ = ("_a", "_b", "_da", "_data", "_db", "grad", "label", "op")

    # NumPy must leave `array * value` and `scalar * value` to __rmul__.
    __array_ufunc__: Final = None

    _a: Any
    _b: Any
    _da: Any
    _db: float | None
    _data: float
    grad: float
    label: str
    op: Op | None

    def __init__(self, data: Any, label: str = "") -> None:
        self._data = data if data.__class__ is float else number(data)
        self.grad = 0.0
        self.op = None
        self.label = label
        self._a = self._b = self._da = self._db = None

    @property
    def data(self) -> float:
        """The number. Assigning changes it for later operations; nodes already made stay right."""
        return self._data

    @data.setter
    def data(self, data: Any) -> None:
        self._data = data if data.__class__ is float else number(data)

    @property
    def operands(self) -> tuple[Value | float, ...]:
        """What the op was applied to: Values, and floats for constants."""
        if self.op is None:
            return ()
        if self._da.__class__ is tuple:
            return self._a if self._b is None else self._b  # type: ignore[no-any-return]
        return (self._a,) if self._b is None else (self._a, self._b)

    @property
    def parents(self) -> tuple[Value, ...]:
        """The operands that are Values."""
        if self._da.__class__ is tuple:
            return self._a  # type: ignore[no-any-return]
        if self._da is None:
            return () if self._db is None else (self._b,)
        return (self._a,) if self._db is None else (self._a, self._b)

    @property
    def local_grads(self) -> tuple[float, ...]:
        """d(this)/d(parent) for each parent, as it was when the node was made."""
        if self._da.__class__ is tuple:
            return self._da
        if self._da is None:
            return () if self._db is None else (self._db,)
        return (self._da,) if self._db is None else (self._da, self._db)

    # Each operator inlines its partials (as `affine` does): going through the row's functions
    # makes an addition three times slower. tests/test_engine.py compares each with its row.

    def __add__(self, other: Value | float) -> Value:
        if other.__class__ is Value or isinstance(other, Value):
            return _node(self._data + other._data, ops.add, self, other, 1.0, 1.0)
        c = other if other.__class__ is float else number(other)
        return _node(self._data + c, ops.add, self, c, 1.0, None)

    def __radd__(self, other: float) -> Value:
        c = other if other.__class__ is float else number(other)
        return _node(c + self._data, ops.add, c, self, None, 1.0)

    def __sub__(self, other: Value | float) -> Value:
        if other.__class__ is Value or isinstance(other, Value):
            return _node(self._data - other._data, ops.sub, self, other, 1.0, -1.0)
        c = other if other.__class__ is float else number(other)
        return _node(self._data - c, ops.sub, self, c, 1.0, None)

    def __rsub__(self, other: float) -> Value:
        c = other if other.__class__ is float else number(other)
        return _node(c - self._data, ops.sub, c, self, None, -1.0)

    def __mul__(self, other: Value | float) -> Value:
        x = self._data
        if isinstance(other, Value):
            y = other._data
            return _node(x * y, ops.mul, self, other, y, x)
        c = other if other.__class__ is float else number(other)
        return _node(x * c, ops.mul, self, c, c, None)

    def __rmul__(self, other: float) -> Value:
        c = other if other.__class__ is float else number(other)
        return _node(c * self._data, ops.mul, c, self, None, c)

    def __truediv__(self, other: Value | float) -> Value:
        if isinstance(other, Value):
            if y := other._data:
                out = self._data / y
                return _node(out, ops.div, self, other, 1.0 / y, -(out / y))
        elif c := other if other.__class__ is float else number(other):
            return _node(self._data / c, ops.div, self, c, 1.0 / c, None)
        return ops.div(self, other)  # which refuses, and names the culprit

    def __rtruediv__(self, other: float) -> Value:
        c = other if other.__class__ is float else number(other)
        if y := self._data:
            out = c / y
            return _node(out, ops.div, c, self, None, -(out / y))
        return ops.div(c, self)

    def __pow__(self, other: Value | float) -> Value:
        if isinstance(other, Value):
            return ops.power(self, other)
        x, c = self._data, other if other.__class__ is float else number(other)
        try:
            out = ops.power.compute(x, c)
        except (ArithmeticError, ValueError):
            return ops.power(self, c)
        return _node(out, ops.power, self, c, ops.power.partials[0](x, c, out), None)

    # fmt: off
    def __rpow__(self, other: float) -> Value: return ops.power(other, self)
    def __neg__(self) -> Value: return _node(-self._data, ops.neg, self, None, -1.0, None)
    def __pos__(self) -> Value: return self
    def __abs__(self) -> Value: return apply_unary(ops.absolute, self)

    def __lt__(self, other: Value | float) -> bool: return self._data < _datum(other)
    def __le__(self, other: Value | float) -> bool: return self._data <= _datum(other)
    def __gt__(self, other: Value | float) -> bool: return self._data > _datum(other)
    def __ge__(self, other: Value | float) -> bool: return self._data >= _datum(other)

    def exp(self) -> Value: return apply_unary(ops.exp, self)
    def expm1(self) -> Value: return apply_unary(ops.expm1, self)
    def log(self) -> Value: return apply_unary(ops.log, self)
    def log1p(self) -> Value: return apply_unary(ops.log1p, self)
    def sqrt(self) -> Value: return apply_unary(ops.sqrt, self)
    def tanh(self) -> Value: return apply_unary(ops.tanh, self)
    def sigmoid(self) -> Value: return apply_unary(ops.sigmoid, self)
    def relu(self) -> Value: return apply_unary(ops.relu, self)
    def leaky_relu(self, negative_slope: Value | float = 0.01) -> Value:
        return ops.leaky_relu(self, negative_slope)
    def softplus(self) -> Value: return apply_unary(ops.softplus, self)
    def elu(self, alpha: Value | float = 1.0) -> Value: return ops.elu(self, alpha)
    def gelu(self) -> Value: return apply_unary(ops.gelu, self)
    def silu(self) -> Value: return apply_unary(ops.silu, self)
    def erf(self) -> Value: return apply_unary(ops.erf, self)
    def abs(self) -> Value: return apply_unary(ops.absolute, self)
    def sin(self) -> Value: return apply_unary(ops.sin, self)
    def cos(self) -> Value: return apply_unary(ops.cos, self)
    def tan(self) -> Value: return apply_unary(ops.tan, self)
    def asin(self) -> Value: return apply_unary(ops.asin, self)
    def acos(self) -> Value: return apply_unary(ops.acos, self)
    def atan(self) -> Value: return apply_unary(ops.atan, self)
    def sinh(self) -> Value: return apply_unary(ops.sinh, self)
    def cosh(self) -> Value: return apply_unary(ops.cosh, self)
    def asinh(self) -> Value: return apply_unary(ops.asinh, self)
    def acosh(self) -> Value: return apply_unary(ops.acosh, self)
    def atanh(self) -> Value: return apply_unary(ops.atanh, self)
    # fmt: on

    def __bool__(self) -> bool:
        raise OperandError(
            f"the truth of {self!r} is not a function with a gradient: compare its .data, "
            "e.g. `if v.data > 0`"
        )

    def __repr__(self) -> str:
        label = f", label={self.label!r}" if self.label else ""
        return f"Value(data={self._data!r}, grad={self.grad!r}{label})"

    @staticmethod
    def __apply_op__(op: Op, args: Sequence[Any]) -> Value:
        """The node of `op` applied to Values and numbers, at least one of them a Value."""
        operands: list[Any] = [a if isinstance(a, Value) else number(a) for a in args]
        xs = [arg if arg.__class__ is float else arg._data for arg in operands]
        try:
            data = op.evaluate(xs)
        except DomainError as error:
            raise DomainError(op.name, error.domain, xs, [_label(arg) for arg in args]) from None
        if _modes_open and _no_grad_here.get():  # partials may fail, and would be dropped
            return _node(data, op, (), tuple(operands), (), None)
        try:
            if op.arity is None:
                partials = op.partials[0](*xs, data)
            else:
                partials = [
                    None if operand.__class__ is float else partial(*xs, data)
                    for partial, operand in zip(op.partials, operands, strict=True)
                ]
        except (ArithmeticError, ValueError) as error:
            problem = f"a partial of {op.name} fails at {', '.join(map(repr, xs))}: {error}"
            raise InputError(problem) from error
        out = _assemble(data, op, operands, partials)
        return _under_modes(out) if _modes_open else out

    def detach(self) -> Value:
        """A new leaf with the same data and label: a constant, as far as gradients go."""
        return Value(self._data, self.label)

    def backward(self, seed: float = 1.0) -> None:
        """Sweep the graph in reverse: set `grad` on the nodes, and add to it on the leaves.

        `seed` is the adjoint of this node. Calling it twice doubles the leaves' gradients; set
        them to 0 in between (`Module.zero_grad`, or the optimizer's). Raises OperandError (a
        TypeError), and changes nothing, for a seed or a leaf's `grad` that is no number.
        """
        # The sweep of `_reverse_sweep`, with the adjoints in the nodes: that takes a third off it.
        seed = number(seed)
        if _modes_open and (watches := _watch_here.get()):
            watches[-1].foresee(self, seed)
        order = _sort((self,), set())
        leaves = [node for node in order if node.op is None]
        before = [g if isinstance(g := leaf.grad, float) else number(g) for leaf in leaves]
        try:
            for node in order:
                node.grad = 0.0
            self.grad = seed
            for node in reversed(order):
                g = node.grad
                local = node._da
                if local.__class__ is tuple:
                    for parent, d in zip(node._a, local):  # noqa: B905 - equally long
                        parent.grad += g * d
                    continue
                if local is not None:
                    node._a.grad += g * local
                local = node._db
                if local is not None:
                    node._b.grad += g * local
            sums = [leaf.grad + g for leaf, g in zip(leaves, before, strict=True)]
            for leaf, total in zip(leaves, sums, strict=True):
                leaf.grad = total
        except BaseException:  # Ctrl-C, say: what the leaves have gathered must not be in part
            for leaf, g in zip(leaves, before, strict=True):
                leaf.grad = g
            raise

    def __copy__(self) -> Value:
        out = _assemble(self._data, self.op, self.operands, _partials_of(self))
        out.grad, out.label = self.grad, self.label
        return out

    def __deepcopy__(self, memo: dict[Any, Any]) -> Value:
        # One dict of copies lies in the memo, so that roots in one container keep what they share.
        copies: dict[Value, Value]
        copies, seen = memo.setdefault("micrograd_like.Value", ({}, set()))
        for node in _sort((self,), seen):
            operands = [copies[a] if isinstance(a, Value) else a for a in node.operands]
            copies[node] = out = _assemble(node._data, node.op, operands, _partials_of(node))
            out.grad, out.label = node.grad, node.label
        return copies[self]

    def __reduce__(self) -> tuple[Callable[..., Value], tuple[Any, ...]]:
        """One flat list, parents first: pickle would recurse through the parents.

        Leaves are pickled as objects of their own, so that several roots (or a root and a list of
        parameters) pickled together still share them; each root has its own copy of the nodes in
        between.
        """
        if self.op is None:
            return _unpickle_leaf, (self._data, self.grad, self.label)
        order = topological_order(self)
        leaves = [node for node in order if node.op is None]
        nodes = [node for node in order if node.op is not None]
        place = {node: i for i, node in enumerate(leaves + nodes)}
        rows = [
            (
                node._data,
                node.grad,
                node.label,
                node.op,
                [place[a] if isinstance(a, Value) else a for a in node.operands],
                _partials_of(node),
            )
            for node in nodes
        ]
        return _unpickle_graph, (leaves, rows)


_new_value = partial(object.__new__, Value)


def _node(data: float, op: Op, a: Any, b: Any, da: Any, db: float | None) -> Value:
    """A node with its slots as described at `Value.__slots__`; under no_grad a leaf."""
    out = _new_value()
    out._data = data
    out.grad = 0.0
    out.label = ""
    out.op = op
    out._a = a
    out._b = b
    out._da = da
    out._db = db
    return _under_modes(out) if _modes_open else out


def _under_modes(node: Value) -> Value:
    """What the modes that are in force here make of a new node."""
    if watches := _watch_here.get():
        node = watches[-1].made(node)
    if _no_grad_here.get():
        node.op = node._a = node._b = node._da = node._db = None
    return node


def apply_unary(op: Op, x: Value) -> Value:
    """`op(x)` for a row of one argument, in half the time."""
    data = x._data
    try:
        out = op.compute(data)
        d = op.partials[0](data, out)
    except (ArithmeticError, ValueError):
        return op(x)
    if out.__class__ is float and d.__class__ is float:
        return _node(out, op, x, None, d, None)
    return op(x)  # a row of the user's, of integers perhaps


def _assemble(
    data: float, op: Op | None, operands: Sequence[Any], partials: Sequence[Any]
) -> Value:
    """A node of any number of operands; what stands beside a constant in `partials` is ignored."""
    if len(partials) != len(operands):
        name = op.name if op else ""
        raise InputError(
            f"{name} has {len(operands)} operands, its row gave {len(partials)} partials"
        )
    local = [
        None if operand.__class__ is float else d if d.__class__ is float else number(d)
        for operand, d in zip(operands, partials, strict=True)
    ]
    out = Value(data)
    out.op = op
    if len(operands) == 1:
        (out._a,), (out._da,) = operands, local
    elif len(operands) == 2:
        (out._a, out._b), (out._da, out._db) = operands, local
    elif operands:
        out._a = tuple([operand for operand in operands if operand.__class__ is not float])
        out._da = tuple([d for d in local if d is not None])
        out._b = None if len(out._a) == len(operands) else tuple(operands)
    return out


def _partials_of(node: Value) -> list[float | None]:
    """The local derivatives, aligned with the operands: None beside a constant."""
    local = iter(node.local_grads)
    return [next(local) if isinstance(operand, Value) else None for operand in node.operands]


def _unpickle_leaf(data: float, grad: float, label: str) -> Value:
    leaf = Value(data, label)
    leaf.grad = grad
    return leaf


def _unpickle_graph(leaves: list[Value], rows: list[Any]) -> Value:
    nodes = list(leaves)
    for data, grad, label, op, operands, partials in rows:
        arguments = [nodes[a] if a.__class__ is int else a for a in operands]
        node = _assemble(data, op, arguments, partials)
        node.grad, node.label = grad, label
        nodes.append(node)
    return nodes[-1]


def _datum(x: Any) -> float:
    return x if x.__class__ is float else x._data if isinstance(x, Value) else number(x)


def _label(x: Any) -> str:
    return x.label if isinstance(x, Value) else ""


@overload
def affine(  # type: ignore[overload-overlap]
    ws: Sequence[float], xs: Sequence[float], b: float = 0.0
) -> float: ...
@overload
def affine(
    ws: Sequence[Value | float], xs: Sequence[Value | float], b: Value | float = 0.0
) -> Value: ...
def affine(ws: Any, xs: Any, b: Any = 0.0) -> Any:
    """The sum of products b + w1·x1 + ... + wn·xn, added from left to right, as one node.

    Its operands are the ws, then the xs, then b; numbers among them are constants, and of numbers
    alone the result is a number. Raises InputError (a ValueError) if ws and xs differ in length.

    >>> affine([Value(1.0), Value(2.0)], [3.0, 4.0], Value(0.5)).data
    11.5
    """
    try:
        n, count = len(ws), len(xs)
    except TypeError:
        raise OperandError("affine needs a sequence of ws and a sequence of xs") from None
    if n != count:
        raise InputError(f"affine needs one x for each w, got {n} ws and {count} xs")
    inputs: Sequence[Any]
    try:
        z = b._data
        weights = [w._data for w in ws]
        if n and xs[0].__class__ is float and {*map(type, xs)} == {float}:
            inputs = xs
            parents, local = (*ws, b), (*inputs, 1.0)
            operands: tuple[Any, ...] | None = (*ws, *xs, b)
        else:
            inputs = [x._data for x in xs]
            parents, local = (*ws, *xs, b), (*inputs, *weights, 1.0)
            operands = None
    except AttributeError:  # numbers elsewhere among the operands
        return ops.affine_row(*ws, *xs, b)
    for w, x in zip(weights, inputs):  # noqa: B905 - equally long
        z += w * x
    return _node(z, ops.affine_row, parents, operands, local, None)


def topological_order(*roots: Value) -> list[Value]:
    """Every node that the roots depend on, once, parents before the nodes made from them.

    The order is a function of the graph alone: depth first, parents in their order. Raises
    OperandError if a root is not a Value.
    """
    return _sort(roots, set())


def listed(x: Any) -> list[Any]:
    """One Value, or several that can be iterated over, as a list."""
    try:
        items = iter(x)
    except TypeError:  # arrays without an axis have an __iter__ that says so
        return [x]
    return list(items)


def _sort(roots: Iterable[Value], seen: set[Value]) -> list[Value]:
    """The nodes that `seen` does not hold, in topological order; afterwards it holds them too.

    A depth-first search with its own stack, which holds the nodes between the root and the one
    being looked at. A node of many parents keeps its place among them in `unfinished`.
    """
    order: list[Value] = []
    emit, mark = order.append, seen.add
    unfinished: dict[Value, Iterator[Value]] = {}
    for root in roots:
        if not isinstance(root, Value):
            raise OperandError(f"a Value is needed as root of a graph, got {type(root).__name__}")
        if root in seen:
            continue
        mark(root)
        stack: list[Any] = [None]
        push, pop = stack.append, stack.pop
        node: Any = root
        while node is not None:  # met for the first time: go to its first parent
            if (d := node._da).__class__ is tuple:
                unfinished[node] = iter(node._a)
            elif d is not None and (parent := node._a) not in seen:
                mark(parent)
                if parent.op is not None:
                    push(node)
                    node = parent
                    continue
                emit(parent)
            while node is not None:  # met again, or without a first parent: go to the others
                if node._db is not None:
                    if (parent := node._b) not in seen:
                        mark(parent)
                        if parent.op is not None:
                            push(node)
                            node = parent
                            break
                        emit(parent)
                elif node._da.__class__ is tuple:
                    for parent in unfinished[node]:
                        if parent not in seen:
                            mark(parent)
                            if parent.op is not None:
                                break
                            emit(parent)
                    else:
                        emit(node)
                        node = pop()
                        continue
                    push(node)
                    node = parent
                    break
                emit(node)
                node = pop()
    return order


def _reverse_sweep(root: Value, seed: float) -> dict[Value, float]:
    """The adjoint of every node that `root` depends on, when that of `root` is `seed`."""
    order = _sort((root,), set())
    adjoint = dict.fromkeys(order, 0.0)
    adjoint[root] = seed
    for node in reversed(order):
        g = adjoint[node]
        local = node._da
        if local.__class__ is tuple:
            for parent, d in zip(node._a, local):  # noqa: B905 - equally long
                adjoint[parent] += g * d
            continue
        if local is not None:
            adjoint[node._a] += g * local
        local = node._db
        if local is not None:
            adjoint[node._b] += g * local
    return adjoint


def _graph_sweep(root: Value, wrt: Sequence[Value]) -> dict[Value, Value | float]:
    """The adjoints as graphs, of `wrt` and of what lies between them and `root`.

    The rows' partials are evaluated on the nodes themselves. An adjoint that is the same number
    whatever the inputs stays a float; a product with 1 is not written down.
    """
    if _modes_open and (watches := _watch_here.get()) and watches[-1].judges:
        return watches[-1].trusting(_graph_sweep, root, wrt)  # type: ignore[no-any-return]
    order = topological_order(root)
    active = set(wrt)
    for node in order:
        if node.op is not None and node not in active and not active.isdisjoint(node.parents):
            active.add(node)
    adjoint: dict[Value, Value | float] = {root: 1.0}
    for node in reversed(order):
        if node not in active or node.op is None:
            continue
        g = adjoint[node]
        one = g.__class__ is float and g == 1.0
        for parent, d in _partials_now(node):
            if parent not in active:
                continue
            term = g if d.__class__ is float and d == 1.0 else d if one else g * d
            if (before := adjoint.get(parent)) is None:
                adjoint[parent] = term
            else:
                adjoint[parent] = before + term
    return adjoint


def _partials_now(node: Value) -> Iterable[tuple[Value, Any]]:
    """Each parent with the row's partial, evaluated on the operands and the node themselves.

    Raises StaleGraphError if data was changed since the node was made: then its value or its
    recorded local derivatives are not those of its operands any more.
    """
    op, x, y, dx, dy = node.op, node._a, node._b, node._da, node._db
    assert op is not None
    if op.arity == 2 and dx is not None and dy is not None:  # nearly all nodes: in short
        p, q = op.partials
        try:
            d, e = p(x, y, node), q(x, y, node)
            if _datum(d) == dx and _datum(e) == dy and op.compute(x._data, y._data) == node._data:
                return (x, d), (y, e)
        except (ArithmeticError, ValueError):
            pass
    operands = node.operands
    xs = [a if a.__class__ is float else a._data for a in operands]  # type: ignore[union-attr]
    try:
        value = op.compute(*xs)
    except (ArithmeticError, ValueError):
        try:
            value = op.evaluate(xs)
        except DomainError:
            value = nan
    if _same(value, node._data):
        if op.arity is None:
            partials = op.partials[0](*operands, node)
        else:
            partials = [
                partial(*operands, node) if isinstance(operand, Value) else None
                for partial, operand in zip(op.partials, operands, strict=True)
            ]
        pairs = [(a, d) for a, d in zip(operands, partials, strict=True) if isinstance(a, Value)]
        if all(map(_same, [_datum(d) for _, d in pairs], node.local_grads)):
            return pairs
    raise StaleGraphError(
        f"data was changed after {op.name} ({node!r}) was made, so that the graph of its gradient "
        "would not fit: build the graph again, then differentiate it"
    )


def _same(x: float, y: float) -> bool:
    return x == y or (x != x and y != y)


@overload
def grad(root: Value, wrt: Value, create_graph: Literal[False] = False) -> float: ...
@overload
def grad(root: Value, wrt: Value, create_graph: Literal[True]) -> Value: ...
@overload
def grad(
    root: Value, wrt: Iterable[Value], create_graph: Literal[False] = False
) -> list[float]: ...
@overload
def grad(root: Value, wrt: Iterable[Value], create_graph: Literal[True]) -> list[Value]: ...
@overload
def grad(root: Value, wrt: Value | Iterable[Value], create_graph: bool) -> Any: ...
def grad(root: Value, wrt: Value | Iterable[Value], create_graph: bool = False) -> Any:
    """The derivatives of `root` with respect to `wrt`: one for a Value, a list for several.

    `wrt` may be intermediate nodes; the derivative is 0.0 where `root` does not depend on them.
    No node's `.grad` is read or written, so that threads may share parameters. With
    `create_graph=True` the results are Values, to be differentiated again;
    one may be a node of the graph itself, as d(x·y)/dx is y.

    Raises OperandError (a TypeError) for what is not a Value, and with `create_graph=True`
    StaleGraphError (a ValueError) where data was changed after the forward pass.

    >>> x = Value(3.0)
    >>> dy = grad(x**3, x, create_graph=True)
    >>> dy.data, grad(dy, x)
    (27.0, 18.0)
    """
    targets = listed(wrt)
    for target in targets:
        if not isinstance(target, Value):
            raise OperandError(f"gradients are with respect to Values, not {target!r:.60}")
    results: list[Any]
    if create_graph:
        graphs = _graph_sweep(root, targets)
        results = [graphs.get(target, 0.0) for target in targets]
        results = [g if isinstance(g, Value) else Value(g) for g in results]
    else:
        if _modes_open and (watches := _watch_here.get()):
            watches[-1].foresee(root, 1.0, targets)
        adjoints = _reverse_sweep(root, 1.0)
        results = [adjoints.get(target, 0.0) for target in targets]
    return results[0] if isinstance(wrt, Value) else results
