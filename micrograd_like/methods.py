"""What a Value inherits: operations as methods, `x.tanh()` for `tanh(x)`, and manners."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from itertools import takewhile
from operator import ge, gt, le, lt
from typing import Any, Final, Generic, Self, TypeVar

from . import ops
from .errors import OperandError, users_frame
from .modes import innermost, open_blocks, touched, traces
from .numerics import elementwise, has_axes, number
from .ops import Op

ValueT = TypeVar("ValueT")  # the class that inherits these, which this file does not import


_SIGNS = {
    ops.add: "+",
    ops.sub: "-",
    ops.mul: "*",
    ops.div: "/",
    ops.mod: "%",
    ops.neg: "-",
    ops.power: "**",
    ops.relu: "ReLU",
}


# What subclasses do not override.
_FIXED = ("data", "grad", "label", "op", "_backward", "__eq__", "__hash__")


def text(label: object) -> str:
    """A label as a plain str. Raises OperandError for what is no text."""
    if not isinstance(label, str):
        raise OperandError(f"a label is a text, not {label!r:.60} of type {type(label).__name__}")
    return str.__str__(label)


def check_constructor(label: object, rest: object, named: Collection[str] = ()) -> str:
    """The label, but for who makes a Value as micrograd does, Value(x, (children,), "op").

    `rest` and the keywords in `named` are the other arguments. Raises OperandError, and TypeError
    for keywords that are not micrograd's.
    """
    for name in named:
        if name not in ("_children", "_op"):
            raise TypeError(f"Value.__init__() got an unexpected keyword argument '{name}'")
    if rest or named or isinstance(label, (tuple, list, set)):
        raise OperandError(
            "a Value is made of data and a label; for an operation of your own, which Value(data, "
            "(children,), 'op') makes in micrograd, write Op('name', compute, partial), and "
            "call it: its derivatives, pictures and programs follow from that"
        )
    return text(label)


class Methods(Generic[ValueT]):
    """Methods that need nothing but a Value's public attributes, and its `__apply_unary__`."""

    __slots__ = ()

    __array_ufunc__: Final = None  # NumPy must leave `array * value` to __rmul__

    data: Any
    grad: Any
    label: str

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse a subclass of Value that overrides what the engine reads in its own way.

        It takes numbers from slots, and knows nodes by identity: gradients would be wrong silently.
        """
        super().__init_subclass__(**options)
        own = list(takewhile(lambda kind: "__assemble__" not in vars(kind), cls.__mro__))
        if not own or cls.__module__.startswith(f"{__package__}."):  # a trace's compare as numbers
            return
        for name in _FIXED:
            base = getattr(cls.__mro__[len(own)], name)
            for kind in own:
                if vars(kind).get(name, base) is not base:
                    raise OperandError(
                        f"{kind.__name__} overrides {name}, which a subclass of Value leaves as it "
                        "is: give it an attribute or a method of another name"
                    )
            if name.startswith("__"):  # where it finds one, @dataclass makes none
                setattr(cls, name, base)

    def __apply_unary__(self, op: Op) -> ValueT:
        raise NotImplementedError

    @property
    def edges(self: Any) -> tuple[tuple[ValueT, float], ...]:
        """Each parent with the local derivative beside it."""
        return tuple(zip(self.parents, self.local_grads, strict=True))

    @property
    def operand_grads(self: Any) -> tuple[float | None, ...]:
        """The local derivative by each operand: None by a constant, and where nothing flows."""
        local = iter(self.local_grads)
        if self.op is None or self.op.kind != "choice":
            return tuple(next(local) if isinstance(a, Methods) else None for a in self.operands)
        condition, *sides = self.operands
        chosen = condition.data if isinstance(condition, Methods) else condition
        taken = 0 if chosen else 1
        if self.parents and sides[taken] is not self.parents[0]:  # data has changed since
            taken = 1 - taken
        return None, *(next(local, None) if i == taken else None for i in range(2))

    # By identity, but for an array, whose elements are asked one by one.

    def __eq__(self, other: Any, /) -> Any:
        if has_axes(other):
            return elementwise(lambda item: self == item, [other]).astype(bool)
        return object.__eq__(self, other)

    def __ne__(self, other: Any, /) -> Any:
        equal = self == other
        return ~equal if has_axes(equal) else not equal

    __hash__ = object.__hash__

    # fmt: off
    def __lt__(self, other: Any, /) -> bool: return _compared(lt, self, other)
    def __le__(self, other: Any, /) -> bool: return _compared(le, self, other)
    def __gt__(self, other: Any, /) -> bool: return _compared(gt, self, other)
    def __ge__(self, other: Any, /) -> bool: return _compared(ge, self, other)

    def __rpow__(self, other: Any, /) -> ValueT: return ops.power(other, self)  # type: ignore[no-any-return]
    def __mod__(self, other: Any, /) -> ValueT: return ops.mod(self, other)  # type: ignore[no-any-return]
    def __rmod__(self, other: Any, /) -> ValueT: return ops.mod(other, self)  # type: ignore[no-any-return]
    def __abs__(self) -> ValueT: return self.__apply_unary__(ops.absolute)
    def exp(self) -> ValueT: return self.__apply_unary__(ops.exp)
    def expm1(self) -> ValueT: return self.__apply_unary__(ops.expm1)
    def log(self) -> ValueT: return self.__apply_unary__(ops.log)
    def log2(self) -> ValueT: return self.__apply_unary__(ops.log2)
    def log10(self) -> ValueT: return self.__apply_unary__(ops.log10)
    def log1p(self) -> ValueT: return self.__apply_unary__(ops.log1p)
    def sqrt(self) -> ValueT: return self.__apply_unary__(ops.sqrt)
    def tanh(self) -> ValueT: return self.__apply_unary__(ops.tanh)
    def sigmoid(self) -> ValueT: return self.__apply_unary__(ops.sigmoid)
    def relu(self) -> ValueT: return self.__apply_unary__(ops.relu)
    def leaky_relu(self, negative_slope: ValueT | float = 0.01) -> ValueT:
        return ops.leaky_relu(self, negative_slope)  # type: ignore[call-overload,no-any-return]
    def softplus(self) -> ValueT: return self.__apply_unary__(ops.softplus)
    def elu(self, alpha: ValueT | float = 1.0) -> ValueT:
        return ops.elu(self, alpha)  # type: ignore[call-overload,no-any-return]
    def gelu(self) -> ValueT: return self.__apply_unary__(ops.gelu)
    def silu(self) -> ValueT: return self.__apply_unary__(ops.silu)
    def erf(self) -> ValueT: return self.__apply_unary__(ops.erf)
    def abs(self) -> ValueT: return self.__apply_unary__(ops.absolute)
    def clip(self, low: ValueT | float, high: ValueT | float) -> ValueT:
        return ops.clip(self, low, high)  # type: ignore[call-overload,no-any-return]
    def sin(self) -> ValueT: return self.__apply_unary__(ops.sin)
    def cos(self) -> ValueT: return self.__apply_unary__(ops.cos)
    def tan(self) -> ValueT: return self.__apply_unary__(ops.tan)
    def asin(self) -> ValueT: return self.__apply_unary__(ops.asin)
    def acos(self) -> ValueT: return self.__apply_unary__(ops.acos)
    def atan(self) -> ValueT: return self.__apply_unary__(ops.atan)
    def sinh(self) -> ValueT: return self.__apply_unary__(ops.sinh)
    def cosh(self) -> ValueT: return self.__apply_unary__(ops.cosh)
    def asinh(self) -> ValueT: return self.__apply_unary__(ops.asinh)
    def acosh(self) -> ValueT: return self.__apply_unary__(ops.acosh)
    def atanh(self) -> ValueT: return self.__apply_unary__(ops.atanh)
    # fmt: on

    # What NumPy calls on the elements of an array of Values: np.arctan(A) asks each for its arctan.
    arcsin, arccos, arctan, arcsinh, arccosh, arctanh = asin, acos, atan, asinh, acosh, atanh

    def arctan2(self, x: Any) -> ValueT:
        return ops.atan2(self, x)  # type: ignore[no-any-return]

    def hypot(self, y: Any) -> ValueT:
        return ops.hypot(self, y)  # type: ignore[no-any-return]

    def __pos__(self) -> Self:
        return self

    conjugate = __pos__  # for variances

    # What micrograd calls them. A node's step of the chain rule is a method: nothing is stored.

    @property
    def _prev(self: Any) -> set[ValueT]:
        return set(self.parents)

    @property
    def _op(self: Any) -> str:
        op, operands = self.op, self.operands
        if op is None:
            return ""
        if op is ops.power and not isinstance(operands[1], Methods):
            exponent = operands[1]
            return f"**{int(exponent) if exponent.is_integer() else exponent}"
        return str(_SIGNS.get(op, op.name))

    @property
    def _backward(self) -> Callable[[], None]:  # which cannot be assigned, as the sweep calls none
        """Add this node's gradient, times the local derivative, to the gradient of each parent."""
        return partial(_backward_of, self)

    def __bool__(self) -> bool:
        raise OperandError(
            f"the truth of {self!r} is not a function with a gradient: compare its .data, "
            "e.g. `if v.data > 0`"
        )

    def __format__(self, spec: str) -> str:
        return format(self.data, spec) if spec else repr(touched(self))

    def __float__(self) -> float:
        raise OperandError(
            f"{self!r} is no plain number: write .data for it (and use the operations of this "
            "library, such as exp(v), where the gradient is wanted)"
        )

    __int__ = __trunc__ = __complex__ = __float__

    def __round__(self, digits: int | None = None) -> float:
        return self.__float__()

    def __repr__(self) -> str:
        label = f", label={self.label!r}" if self.label else ""
        # In a message of the library's no number is used: a trace is told nothing.
        told = traces.set(()) if open_blocks and users_frame()[1] > 2 else None
        try:
            return f"Value(data={self.data!r}, grad={self.grad!r}{label})"
        finally:
            if told is not None:
                traces.reset(told)


def _backward_of(node: Any) -> None:
    for parent, local in node.edges:
        parent.grad += local * node.grad


def _compared(sign: Callable[[float, float], bool], x: Any, y: Any) -> bool:
    """The comparison of two numbers; of one that depends on its inputs a trace keeps a record."""
    if open_blocks and (trace := innermost(traces)):
        return trace.compared(sign, x, y)  # type: ignore[no-any-return]
    return sign(x.data, y.data if isinstance(y, Methods) else number(y))
