"""What a Value inherits: operations as methods, `x.tanh()` for `tanh(x)`, and manners."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

from . import ops
from .errors import OperandError
from .ops import Op

if TYPE_CHECKING:
    from .engine import Value


class Methods:
    """Methods that need nothing but a Value's public attributes, and its `__apply_unary__`."""

    __slots__ = ()

    __array_ufunc__: Final = None  # NumPy must leave `array * value` to __rmul__

    data: Any
    grad: float
    label: str

    def __apply_unary__(self, op: Op) -> Value:
        raise NotImplementedError

    # fmt: off
    def __abs__(self) -> Value: return self.__apply_unary__(ops.absolute)
    def exp(self) -> Value: return self.__apply_unary__(ops.exp)
    def expm1(self) -> Value: return self.__apply_unary__(ops.expm1)
    def log(self) -> Value: return self.__apply_unary__(ops.log)
    def log1p(self) -> Value: return self.__apply_unary__(ops.log1p)
    def sqrt(self) -> Value: return self.__apply_unary__(ops.sqrt)
    def tanh(self) -> Value: return self.__apply_unary__(ops.tanh)
    def sigmoid(self) -> Value: return self.__apply_unary__(ops.sigmoid)
    def relu(self) -> Value: return self.__apply_unary__(ops.relu)
    def leaky_relu(self, negative_slope: Value | float = 0.01) -> Value:
        return ops.leaky_relu(self, negative_slope)  # type: ignore[call-overload,no-any-return]
    def softplus(self) -> Value: return self.__apply_unary__(ops.softplus)
    def elu(self, alpha: Value | float = 1.0) -> Value:
        return ops.elu(self, alpha)  # type: ignore[call-overload,no-any-return]
    def gelu(self) -> Value: return self.__apply_unary__(ops.gelu)
    def silu(self) -> Value: return self.__apply_unary__(ops.silu)
    def erf(self) -> Value: return self.__apply_unary__(ops.erf)
    def abs(self) -> Value: return self.__apply_unary__(ops.absolute)
    def sin(self) -> Value: return self.__apply_unary__(ops.sin)
    def cos(self) -> Value: return self.__apply_unary__(ops.cos)
    def tan(self) -> Value: return self.__apply_unary__(ops.tan)
    def asin(self) -> Value: return self.__apply_unary__(ops.asin)
    def acos(self) -> Value: return self.__apply_unary__(ops.acos)
    def atan(self) -> Value: return self.__apply_unary__(ops.atan)
    def sinh(self) -> Value: return self.__apply_unary__(ops.sinh)
    def cosh(self) -> Value: return self.__apply_unary__(ops.cosh)
    def asinh(self) -> Value: return self.__apply_unary__(ops.asinh)
    def acosh(self) -> Value: return self.__apply_unary__(ops.acosh)
    def atanh(self) -> Value: return self.__apply_unary__(ops.atanh)
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
