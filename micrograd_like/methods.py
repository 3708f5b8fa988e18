"""What a Value inherits: operations as methods, `x.tanh()` for `tanh(x)`, and manners."""

from __future__ import annotations

from typing import Any, Final, Generic, Self, TypeVar

from . import ops
from .errors import OperandError
from .ops import Op

ValueT = TypeVar("ValueT")  # the class that inherits these, which this file does not import


class Methods(Generic[ValueT]):
    """Methods that need nothing but a Value's public attributes, and its `__apply_unary__`."""

    __slots__ = ()

    __array_ufunc__: Final = None  # NumPy must leave `array * value` to __rmul__

    data: Any
    grad: Any
    label: str

    def __apply_unary__(self, op: Op) -> ValueT:
        raise NotImplementedError

    # fmt: off
    def __abs__(self) -> ValueT: return self.__apply_unary__(ops.absolute)
    def exp(self) -> ValueT: return self.__apply_unary__(ops.exp)
    def expm1(self) -> ValueT: return self.__apply_unary__(ops.expm1)
    def log(self) -> ValueT: return self.__apply_unary__(ops.log)
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

    def __pos__(self) -> Self:
        return self

    def __bool__(self) -> bool:
        raise OperandError(
            f"the truth of {self!r} is not a function with a gradient: compare its .data, "
            "e.g. `if v.data > 0`"
        )

    def __repr__(self) -> str:
        label = f", label={self.label!r}" if self.label else ""
        return f"Value(data={self.data!r}, grad={self.grad!r}{label})"
