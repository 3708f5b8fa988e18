"""The table of operations: everything the library knows about calculus.

The law of this file: *no other file mentions a derivative.* To add an operation is to add a row.

A row, an `Op`, says what the operation computes on floats, its partial derivatives, how it is
written, where it is defined and what happens at its kinks. Partials are written in the library's
own operations, so that the same line serves floats (the local derivatives that every node
records) and `Value`s (gradients that are graphs, and can be differentiated again).
Each is a function of the arguments and of the output `out`, and is arranged so that neither it nor
its own derivative cancels or overflows where the true result does not: tanh' is sech², not
1 - tanh², which has no correct digit left at x = 20.

Conventions at kinks (`Op.kink` has them row by row): relu'(0) = abs'(0) = 0,
leaky_relu'(0) = the slope, elu'(0) = alpha, ties of max and min split 1/2 1/2,
hypot'(0, 0) = 0 (hypot(x, 0) is |x|), sqrt'(0) = inf (and likewise asin, acos and acosh at the
ends of their domains), d/dx x**0 = 0 everywhere.
Overflow gives the IEEE 754 infinity. A finite argument without a finite real value raises
`DomainError`; NaN propagates; infinities take their IEEE limits.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, overload

from . import numerics
from .errors import DomainError, InputError, MicrogradError
from .numerics import INF, NAN, number


class Operand(Protocol):
    """Anything but a number that a row can be called on: it applies the operation to itself."""

    @classmethod
    def __apply_op__(cls, op: Op, args: Sequence[Any], /) -> Any: ...


OperandT = TypeVar("OperandT", bound=Operand)

TABLE: dict[str, Op] = {}  # every row by its name, which pickled nodes and model files refer to
BUILTIN: frozenset[str] = frozenset()  # the names of this file's rows, once they are all made


class Op:
    """One row of the table: an operation, its partial derivatives and its notation.

    >>> cube = Op("cube", lambda x: x * x * x, lambda x, out: 3 * x * x, text="@x³")
    >>> cube(2.0)
    8.0

    `compute` maps floats to a float. It may raise what the math module raises: an OverflowError
    becomes the answer of `ieee`, a ValueError or ZeroDivisionError a `DomainError` (for finite
    arguments; for others, the answer of `ieee`, which is NaN unless the row says more, and the one
    that compiled programs give outside the domain).

    `partials` is one function per argument, of the arguments and `out`; a single function for a
    unary row. The function of a variadic row has the form `(*args_and_out)` and returns all the
    partials in a sequence.

    `defaults` complete missing last arguments. `domain` ends the sentence "NAME is defined ...".
    `text`, `latex` and `python` are templates in which `@x` stands for the argument named x in
    the partials; `binding` is how tightly they bind (1 sums, 2 products, 3 negation, 4 powers,
    9 calls). `kink` states the convention where the derivative does not exist.
    """

    __slots__ = (
        "arguments",
        "arity",
        "binding",
        "compute",
        "defaults",
        "domain",
        "ieee",
        "kink",
        "latex",
        "name",
        "partials",
        "python",
        "text",
    )

    def __init__(
        self,
        name: str,
        compute: Callable[..., float],
        partials: Callable[..., Any] | Sequence[Callable[..., Any]],
        *,
        text: str = "",
        latex: str = "",
        python: str = "",
        binding: int = 9,
        domain: str = "on (-inf, inf)",
        ieee: Callable[..., float] | None = None,
        defaults: tuple[float, ...] = (),
        kink: str = "",
    ) -> None:
        if name in BUILTIN:
            raise InputError(f"the table has an op {name!r} already; give yours another name")
        self.partials = (partials,) if callable(partials) else tuple(partials)
        codes = [getattr(partial, "__code__", None) for partial in self.partials]
        names = [code.co_varnames[: code.co_argcount] for code in codes if code]
        # The flag is inspect.CO_VARARGS; importing inspect would take longer than all the rest.
        variadic = len(codes) == 1 and bool(getattr(codes[0], "co_flags", 0) & 0x04)
        if not variadic and [len(n) for n in names] != [len(codes) + 1] * (len(codes) or 1):
            raise InputError(
                f"op {name!r} needs a partial, written as a Python function, for each argument; "
                "each is a function of all the arguments and of the output"
            )
        self.name = name
        self.compute = compute
        self.arguments: tuple[str, ...] = ("xs",) if variadic else names[0][:-1]
        self.arity = None if variadic else len(self.partials)
        self.defaults = defaults
        self.domain = domain
        self.ieee = ieee or (lambda *_: NAN)
        self.binding = binding
        self.kink = kink
        call = ", ".join(f"@{argument}" for argument in self.arguments)
        operator_name = name.replace("_", r"\_")
        self.text = text or f"{name}({call})"
        self.latex = latex or rf"\operatorname{{{operator_name}}}\left({call}\right)"
        self.python = python or f"{name}({call})"
        TABLE[name] = self

    @overload
    def __call__(self, *args: float) -> float: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, *args: OperandT | float) -> OperandT: ...
    def __call__(self, *args: Any) -> Any:
        if len(args) != self.arity:
            args = self.complete(args)
        for arg in args:
            if arg.__class__ is not float:
                return self._dispatch(args)
        try:
            return self.compute(*args)
        except (ArithmeticError, ValueError):
            return self.evaluate(args)

    def _dispatch(self, args: tuple[Any, ...]) -> Any:
        for arg in args:
            apply = getattr(arg, "__apply_op__", None)
            if apply is not None:
                return apply(self, args)
        return self.evaluate([number(arg) for arg in args])

    def complete(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """`args` with the defaults that they leave out; InputError if the number is wrong."""
        if self.arity is None:
            return args
        missing = self.arity - len(args)
        if not 0 <= missing <= len(self.defaults):
            wanted = ", ".join(self.arguments)
            raise InputError(f"{self.name} takes ({wanted}), got {len(args)} arguments")
        return (*args, *self.defaults[len(self.defaults) - missing :])

    def evaluate(self, xs: Sequence[float]) -> float:
        """The value at the floats `xs`. Raises DomainError."""
        try:
            out = self.compute(*xs)
        except OverflowError:
            out = self.ieee(*xs)
        except MicrogradError:
            raise
        except (ValueError, ZeroDivisionError):
            if all(map(math.isfinite, xs)):
                raise DomainError(self.name, self.domain, xs) from None
            out = self.ieee(*xs)
        return out if out.__class__ is float else number(out)

    def __repr__(self) -> str:
        return f"<Op {self.name}>"

    def __reduce__(self) -> tuple[Callable[[str], Op], tuple[str]]:
        return find, (self.name,)

    def __deepcopy__(self, memo: dict[int, Any]) -> Op:
        return self


def find(name: str) -> Op:
    """The row of that name. Raises InputError."""
    try:
        return TABLE[name]
    except KeyError:
        raise InputError(f"the table of operations has no row {name!r}") from None


# --- partials that need more than one expression -------------------------------------------------


def _square(x: Any) -> Any:
    return x * x


def _normpdf(x: Any) -> Any:
    return exp(-0.5 * x * x) * (1.0 / math.sqrt(2.0 * math.pi))


def _two_minus_square(x: Any) -> Any:
    """2 - x², as (√2 - x)(√2 + x) with √2 to twice the precision of a float."""
    return (1.4142135623730951 - x - 9.667293313452913e-17) * (1.4142135623730951 + x)


def _affine_partials(*operands: Any) -> list[Any]:
    n = len(operands) // 2 - 1
    return [*operands[n:-2], *operands[:n], 1.0]


# --- the table ------------------------------------------------------------------------------------
# (Rows that partials refer to before they are made are annotated as Op, for type checkers.)
# fmt: off

# Arithmetic. The engine inlines the partials of the first four for speed.
add = Op("add", operator.add, (lambda x, y, out: 1.0,
                               lambda x, y, out: 1.0),
         text="@x + @y", latex="@x + @y", python="@x + @y", binding=1)
sub = Op("sub", operator.sub, (lambda x, y, out: 1.0,
                               lambda x, y, out: -1.0),
         text="@x - @y", latex="@x - @y", python="@x - @y", binding=1)
mul = Op("mul", operator.mul, (lambda x, y, out: y,
                               lambda x, y, out: x),
         text="@x·@y", latex=r"@x \cdot @y", python="@x * @y", binding=2)
div = Op("div", operator.truediv, (lambda x, y, out: ieee_div(1.0, y),
                                   lambda x, y, out: -ieee_div(out, y)),
         text="@x / @y", latex=r"\frac{@x}{@y}", python="@x / @y", binding=2,
         domain="for a divisor other than 0", ieee=numerics.divide)
neg = Op("neg", operator.neg, lambda x, out: -1.0,
         text="-@x", latex="-@x", python="-@x", binding=3)
power = Op("pow", math.pow, (lambda x, y, out: pow_slope(x, y),
                             lambda x, y, out: damp(ieee_log(x), out)),
           text="@x^@y", latex="@x^{@y}", python="@x ** @y", binding=4, ieee=numerics.pow,
           domain="for x > 0, for x < 0 with an integer exponent and for x = 0 with one >= 0",
           kink="d/dx x**0 = 0 everywhere; at x = 0, d/dx = inf for exponents in (0, 1); "
                "for x < 0, d/dy = NaN; at 0**0, d/dy = -inf")

# Exponentials and logarithms.
exp = Op("exp", math.exp, lambda x, out: out, latex="e^{@x}", ieee=lambda x: INF)
expm1 = Op("expm1", math.expm1, lambda x, out: exp(x), ieee=lambda x: INF)
log = Op("log", math.log, lambda x, out: 1.0 / x, domain="on (0, inf)",
         latex=r"\ln\left(@x\right)", ieee=numerics.log)
log1p = Op("log1p", math.log1p, lambda x, out: 1.0 / (1.0 + x), domain="on (-1, inf)",
           ieee=lambda x: numerics.log(1.0 + x))
logaddexp = Op("logaddexp", numerics.logaddexp, (lambda x, y, out: sigmoid(x - y),
                                         lambda x, y, out: sigmoid(y - x)))
logsumexp = Op("logsumexp", numerics.logsumexp,
               lambda *xs_out: [exp(x - xs_out[-1]) for x in xs_out[:-1]])
sqrt = Op("sqrt", lambda x: math.sqrt(x + 0.0), lambda x, out: ieee_div(0.5, out),
          text="√@x", latex=r"\sqrt{@x}", domain="on [0, inf)", kink="sqrt'(0) = inf")

# Activations.
tanh = Op("tanh", math.tanh, lambda x, out: _square(sech(x)), latex=r"\tanh\left(@x\right)")
sigmoid: Op = Op("sigmoid", numerics.sigmoid, lambda x, out: _square(0.5 * sech(0.5 * x)),
                 text="σ(@x)", latex=r"\sigma\left(@x\right)")
softplus = Op("softplus", numerics.softplus, lambda x, out: sigmoid(x))
relu = Op("relu", lambda x: x if x > 0.0 or x != x else 0.0, lambda x, out: step(x),
          kink="relu'(0) = 0")
leaky_relu = Op("leaky_relu", lambda x, slope: x if x > 0.0 else slope * x,
                (lambda x, slope, out: where(step(x), 1.0, slope),
                 lambda x, slope, out: -relu(-x)),
                defaults=(0.01,), kink="leaky_relu'(0) = the negative slope")
elu = Op("elu", lambda x, alpha: x if x > 0.0 else alpha * math.expm1(x),
         (lambda x, alpha, out: where(step(x), 1.0, alpha * exp(-relu(-x))),
          lambda x, alpha, out: expm1(-relu(-x))),
         defaults=(1.0,), kink="elu'(0) = alpha")
gelu = Op("gelu", lambda x: numerics.damp(x, numerics.normcdf(x)), lambda x, out: gelu_slope(x))
silu = Op("silu", lambda x: numerics.damp(x, numerics.sigmoid(x)),
          lambda x, out: sigmoid(x) + damp(x, _square(0.5 * sech(0.5 * x))))
erf = Op("erf", math.erf, lambda x, out: exp(-(x * x)) * (2.0 / math.sqrt(math.pi)))

# Trigonometry.
sin = Op("sin", math.sin, lambda x, out: cos(x), latex=r"\sin\left(@x\right)")
cos: Op = Op("cos", math.cos, lambda x, out: -sin(x), latex=r"\cos\left(@x\right)")
tan = Op("tan", math.tan, lambda x, out: 1.0 + out * out, latex=r"\tan\left(@x\right)")
asin = Op("asin", math.asin, lambda x, out: ieee_div(1.0, sqrt(one_minus_square(x))),
          latex=r"\arcsin\left(@x\right)", domain="on [-1, 1]", kink="asin'(±1) = inf")
acos = Op("acos", math.acos, lambda x, out: ieee_div(-1.0, sqrt(one_minus_square(x))),
          latex=r"\arccos\left(@x\right)", domain="on [-1, 1]", kink="acos'(±1) = -inf")
atan = Op("atan", math.atan, lambda x, out: _square(1.0 / hypot(1.0, x)),
          latex=r"\arctan\left(@x\right)")
atan2 = Op("atan2", math.atan2, (lambda y, x, out: inversion(x, y),
                                 lambda y, x, out: -inversion(y, x)),
           kink="NaN at (0, 0)")
hypot: Op = Op("hypot", math.hypot, (lambda x, y, out: cosine(x, y),
                                     lambda x, y, out: cosine(y, x)),
               latex=r"\sqrt{@x^2 + @y^2}", kink="hypot'(0, 0) = (0, 0)")

# Hyperbolic functions.
sinh = Op("sinh", math.sinh, lambda x, out: cosh(x), latex=r"\sinh\left(@x\right)",
          ieee=lambda x: math.copysign(INF, x))
cosh: Op = Op("cosh", math.cosh, lambda x, out: sinh(x), latex=r"\cosh\left(@x\right)",
              ieee=lambda x: INF)
asinh = Op("asinh", math.asinh, lambda x, out: 1.0 / hypot(1.0, x))
acosh = Op("acosh", math.acosh, lambda x, out: ieee_div(1.0, sqrt(x - 1.0) * sqrt(x + 1.0)),
           domain="on [1, inf)", kink="acosh'(1) = inf")
atanh = Op("atanh", math.atanh, lambda x, out: 1.0 / one_minus_square(x), domain="on (-1, 1)",
           ieee=lambda x: math.copysign(INF, x) if x in (1.0, -1.0) else NAN)

# Choices.
absolute = Op("abs", math.fabs, lambda x, out: sign(x),
              text="|@x|", latex=r"\left|@x\right|", kink="abs'(0) = 0")
maximum = Op("max", numerics.maximum, (lambda x, y, out: greater(x, y),
                               lambda x, y, out: greater(y, x)),
             latex=r"\max\left(@x, @y\right)", kink="a tie splits 1/2 1/2")
minimum = Op("min", numerics.minimum, (lambda x, y, out: greater(y, x),
                               lambda x, y, out: greater(x, y)),
             latex=r"\min\left(@x, @y\right)", kink="a tie splits 1/2 1/2")

# The neuron's linear part, w·x + b: operands w1 ... wn, x1 ... xn, b.
affine_row = Op("affine", numerics.affine, _affine_partials,
                text="w·x + b", latex=r"w \cdot x + b")

# Rows that only partials use, so that these have derivatives in turn. The ieee_ rows answer where
# div, log and pow refuse: the pole of a derivative is a value, not a mistake of the user's.
ieee_div: Op = Op("ieee_div", numerics.divide, (lambda x, y, out: ieee_div(1.0, y),
                                        lambda x, y, out: -ieee_div(out, y)),
                  text="@x / @y", latex=r"\frac{@x}{@y}", binding=2)
ieee_log: Op = Op("ieee_log", numerics.log, lambda x, out: ieee_div(1.0, x),
                  text="log(@x)", latex=r"\ln\left(@x\right)")
ieee_pow: Op = Op("ieee_pow", numerics.pow, (lambda x, y, out: pow_slope(x, y),
                                     lambda x, y, out: damp(ieee_log(x), out)),
                  text="@x^@y", latex="@x^{@y}", binding=4)
pow_slope: Op = Op("pow_slope", numerics.pow_slope,
                   (lambda x, y, out: damp(pow_slope(x, y - 1.0), y),
                    lambda x, y, out: ieee_pow(x, y - 1.0) + damp(ieee_log(x), out)),
                   text="@y·@x^(@y - 1)", latex=r"@y \cdot @x^{@y - 1}", binding=2)
damp: Op = Op("damp", numerics.damp, (lambda x, w, out: w,  # x·w, and 0 where w is, if x = inf too
                                      lambda x, w, out: x),
              text="@x·@w", latex=r"@x \cdot @w", binding=2)
sech: Op = Op("sech", numerics.sech, lambda x, out: -out * tanh(x))
gelu_slope: Op = Op("gelu_slope", lambda x: numerics.normcdf(x) + numerics.damp(x, _normpdf(x)),
                    lambda x, out: damp(_two_minus_square(x), _normpdf(x)),
                    text="Φ(@x) + @x·φ(@x)", binding=1,
                    latex=r"\Phi\left(@x\right) + @x \cdot \varphi\left(@x\right)")
one_minus_square: Op = Op("one_minus_square", lambda x: (1.0 - x) * (1.0 + x),
                          lambda x, out: -2.0 * x,
                          text="(1 - @x²)", latex=r"\left(1 - @x^2\right)")
cosine: Op = Op("cosine", numerics.cosine,  # x / hypot(x, y): of the polar angle of (x, y)
                (lambda x, y, out: ieee_div(_square(cosine(y, x)), hypot(x, y)),
                 lambda x, y, out: -ieee_div(out * cosine(y, x), hypot(x, y))),
                text="@x / hypot(@x, @y)", latex=r"\frac{@x}{\sqrt{@x^2 + @y^2}}", binding=2)
inversion: Op = Op("inversion", numerics.inversion,  # x / (x² + y²), the real part of 1 / (x + iy)
                   (lambda x, y, out: (inversion(y, x) - out) * (inversion(y, x) + out),
                    lambda x, y, out: -2.0 * out * inversion(y, x)),
                   text="@x / (@x² + @y²)", latex=r"\frac{@x}{@x^2 + @y^2}", binding=2)
step: Op = Op("step", lambda x: 1.0 if x > 0.0 else 0.0 if x <= 0.0 else NAN, lambda x, out: 0.0,
              text="1(@x > 0)", latex=r"\mathbf{1}\left(@x > 0\right)", kink="step(0) = 0")
sign: Op = Op("sign", numerics.sign, lambda x, out: 0.0, kink="sign(0) = 0")
greater: Op = Op("greater", lambda x, y: 1.0 if x > y else 0.0 if x < y else 0.5 if x == y else NAN,
                 (lambda x, y, out: 0.0,
                  lambda x, y, out: 0.0),
                 text="H(@x - @y)", latex=r"H\left(@x - @y\right)", kink="1/2 at a tie")
where: Op = Op("where", lambda condition, x, y: x if condition else y,
               (lambda condition, x, y, out: 0.0,
                lambda condition, x, y, out: condition,
                lambda condition, x, y, out: where(condition, 0.0, 1.0)))
# fmt: on

BUILTIN = frozenset(TABLE)
