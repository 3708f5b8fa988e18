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
leaky_relu'(0) = the slope, elu'(0) = alpha, k arguments of max or min that tie get 1/k each,
hypot'(0, 0) = 0 (hypot(x, 0) is |x|), sqrt'(0) = inf (and likewise asin, acos and acosh at the
ends of their domains), d/dx x**0 = 0 everywhere.
Overflow gives the IEEE 754 infinity. A finite argument without a finite real value raises
`DomainError`; NaN propagates; infinities take their IEEE limits.
"""

from __future__ import annotations

import cmath
import math
import operator
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any, Protocol, TypeVar, overload

from . import analytic, numerics
from .errors import DomainError, InputError, MicrogradError, OperandError, shown
from .numerics import INF, NAN, elementwise, has_axes, holds_objects, number
from .words import meant


class Operand(Protocol):
    """Anything but a number that a row can be called on: it applies the operation to itself."""

    @classmethod
    def __apply_op__(cls, op: Op, args: Sequence[Any], /) -> Any: ...


OperandT = TypeVar("OperandT", bound=Operand)

TABLE: dict[str, Op] = {}  # every row by its name, which pickled nodes and model files refer to
BUILTIN: frozenset[str] = frozenset()  # the names of this file's rows, once they are all made
EVERYWHERE = "on (-inf, inf)"  # the domain of most


_KINDS = ("function", "arithmetic", "activation", "rectifier", "choice", "internal")


class _Documentation(str):
    """The docstring of the class; an operation's own, for `help`, is made from its row."""

    def __get__(self, row: Op | None, owner: type | None = None) -> str:
        if row is None:
            return str(self)
        from .views.manual import manual

        return manual(row)


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
    partials in a sequence. A partial of a choice is None where nothing flows.

    `textbook` has the partials as books write them, where that is different: derivations show them,
    and nothing computes with them.

    `defaults` complete missing last arguments, and `many` is called with any other number of them.
    `domain` ends the sentence "NAME is defined ...". `kink` states the convention where the
    derivative does not exist. `kind` is "arithmetic", "activation", "rectifier" (an activation near
    x on one side and near 0 on the other), "choice" (the second argument where the first is not 0,
    else the third), "internal" (for partials alone) or "function".

    `text` and `latex` are templates for people, in which `@x` stands for the argument named x in
    the partials; `binding` is how tightly they bind (1 sums, 2 products, 3 negation, 4 powers,
    9 calls, or what their signs say). The other templates are for machines, and empty where there
    is no such thing: `array` for arrays (`xp` is NumPy, or jax.numpy, which `jax` overrides),
    `numba` for floats in compiled Python, `javascript` for JavaScript, where `numba` translated is
    not what it should be; a name without a module is a function of the compiler's own
    (`compiler/arrays.py`, `compiler/rows.py`, `compiler/javascript.py`), as a function of
    `numerics.py` is by its name where a row says nothing else. `torch` makes a module of
    `torch.nn`, which it gets. `analytic` is the operation on complex numbers.
    """

    __doc__ = _Documentation(__doc__)

    def __init__(
        self,
        name: str,
        compute: Callable[..., float],
        partials: Callable[..., Any] | Sequence[Callable[..., Any]],
        *,
        text: str = "",
        latex: str = "",
        binding: int = 9,
        domain: str = EVERYWHERE,
        ieee: Callable[..., float] | None = None,
        defaults: tuple[float, ...] = (),
        kink: str = "",
        kind: str = "function",
        array: str = "",
        jax: str = "",
        numba: str = "",
        javascript: str = "",
        torch: Callable[[Any], Any] | None = None,
        analytic: Callable[..., complex] | None = None,
        textbook: Sequence[Callable[..., Any] | None] = (),
        many: Callable[..., Any] | None = None,
        doc: str = "",
    ) -> None:
        if not isinstance(name, str) or not name:
            raise InputError(f"an op's name is a text, not {name!r:.60}")
        if not callable(compute):
            raise InputError(f"op {name!r} needs a function that computes it, not {compute!r:.60}")
        if kind not in _KINDS:
            raise InputError(f"op {name!r} is of no kind {kind!r:.60}{meant(str(kind), _KINDS)}")
        if name in BUILTIN:
            raise InputError(f"the table has an op {name!r} already; give yours another name")
        self.partials = (partials,) if callable(partials) else tuple(partials or ())
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
        self.doc = doc
        self.arguments: tuple[str, ...] = ("xs",) if variadic else names[0][:-1]
        self.arity = None if variadic else len(self.partials)
        self.defaults = defaults
        self.many = many
        self.textbook = [
            form or partial
            for partial, form in zip_longest(self.partials, textbook[: len(self.partials)])
        ]
        self.domain = domain
        self.ieee = ieee or (lambda *_: NAN)
        self.binding = binding
        self.kink = kink
        call = ", ".join(f"@{argument}" for argument in self.arguments)
        operator_name = name.replace("_", r"\_")
        self.text = text or f"{name}({call})"
        self.latex = latex or rf"\operatorname{{{operator_name}}}\left({call}\right)"
        self.kind = kind
        if getattr(compute, "__module__", "") == numerics.__name__:
            own = f"{compute.__name__}({call})"
            array, numba = array or own, numba or own
        self.array = array
        self.jax = jax or array
        self.numba = numba
        self.javascript = javascript
        self.torch = torch
        self.analytic = analytic
        self.origin: tuple[Callable[..., Op], tuple[Any, ...]] | None = None  # if it was generated
        TABLE[name] = self

    @overload
    def __call__(self, *args: float) -> float: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, *args: OperandT | float) -> OperandT: ...
    def __call__(self, *args: Any) -> Any:
        if len(args) != self.arity:
            if self.many:
                return self.many(*args)
            args = self.complete(args)
        for arg in args:
            if arg.__class__ is not float:
                return self._dispatch(args)
        try:
            out = self.compute(*args)
        except (ArithmeticError, ValueError):
            return self.evaluate(args)
        return out if out.__class__ is float else self._number("the result", out)

    def _dispatch(self, args: tuple[Any, ...]) -> Any:
        for arg in args:
            apply = getattr(arg, "__apply_op__", None)
            if apply is not None:
                try:
                    return apply(self, args)
                except OperandError:
                    if not self.arity or not any(map(has_axes, args)):
                        raise
                return elementwise(self, args)
        if self.arity and any(map(holds_objects, args)):  # arrays of Values
            return elementwise(self, args)
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
        return out if out.__class__ is float else self._number("the result", out)

    def _number(self, what: str, x: Any) -> float:
        try:
            return number(x)
        except OperandError as error:
            raise OperandError(f"{what} of {self.name} is no number: {error}") from None

    def partials_at(
        self, operands: Sequence[Any], xs: Sequence[float], out: float
    ) -> list[float | None]:
        """The partials at the floats `xs`, the data of `operands`; None where there is no edge.

        `out` is the output there. Raises InputError if a partial fails, or if there is not one for
        each argument.
        """
        found: Sequence[Any]
        try:
            if self.arity is None:
                found = [*self.partials[0](*xs, out)]
            else:
                found = [
                    None if operand.__class__ is float else partial(*xs, out)
                    for partial, operand in zip(self.partials, operands, strict=True)
                ]
        except (ArithmeticError, ValueError) as error:
            problem = f"a partial of {self.name} fails at {', '.join(map(repr, xs))}: {error}"
            raise InputError(problem) from error
        if len(found) != len(xs):
            raise InputError(f"{self.name} has {len(xs)} operands, and gave {len(found)} partials")
        if self.kind == "choice":
            return list(found)
        return [
            None
            if a.__class__ is float
            else d
            if d.__class__ is float
            else self._number("a partial", d)
            for a, d in zip(operands, found, strict=True)
        ]

    def __repr__(self) -> str:
        return f"<Op {self.name}>"

    def __reduce__(self) -> tuple[Callable[..., Op], tuple[Any, ...]]:
        if self.origin:
            return self.origin
        if self.name in BUILTIN:
            return find, (self.name,)
        return _find_same, (self.name, self.samples())

    def samples(self) -> list[float]:
        """The value and the partials at a few points: what tells operations of one name apart."""
        samples: list[float] = []
        points = (0.3, -1.7, 2.2, 0.9, -0.4, 13.7, -123.4, 5e3, 1e-3)
        for shift in range(len(points)):
            xs = [points[(shift + i) % len(points)] for i in range(self.arity or 3)]
            try:
                out = self.evaluate(xs)
                partials = self.partials_at([None] * len(xs), xs, out)
                samples += [out, *(NAN if d is None else d for d in partials)]
            except Exception:  # whatever an operation of the user's raises
                samples.append(NAN)
        return samples

    def __deepcopy__(self, memo: dict[int, Any]) -> Op:
        return self


def find(name: str) -> Op:
    """The row of that name. Raises InputError."""
    try:
        return TABLE[name]
    except KeyError:
        raise InputError(f"there is no operation {name!r:.60}{meant(name, TABLE)}") from None


def _find_same(name: str, samples: list[float]) -> Op:
    """The row of that name, for a graph that was pickled. Raises InputError if it is another one.

    A user's operation is found by its name, which may be given again to something else.
    """
    op = find(name)
    here = op.samples()
    if len(here) != len(samples) or not all(
        math.isclose(x, y, rel_tol=1e-9) or (x != x and y != y)
        for x, y in zip(here, samples, strict=True)
    ):
        raise InputError(
            f"the graph was pickled with an operation {name!r} that computes something else than "
            f"the operation of that name here: give this one another name, or make it as it was"
        )
    return op


# --- partials that need more than one expression -------------------------------------------------


_ERF_AT_ZERO = 2.0 / math.sqrt(math.pi)  # erf'(0): made anew in each call it would cost a sixth


def _square(x: Any) -> Any:
    return x * x


def _normpdf(x: Any) -> Any:
    return exp(-0.5 * x * x) * (1.0 / math.sqrt(2.0 * math.pi))


def _near(x: Any) -> Any:
    """X where exp(-x²/2) or sech(x/2) is not 0, else a number as good: no 0·inf in any order."""
    if x.__class__ is float and -1500.0 < x < 1500.0:
        return x
    return clip(x, -1500.0, 1500.0)


def _pow_bend(x: Any, y: Any) -> Any:
    """The derivative of y · x**(y - 1) by x.

    For a constant y it is y times that of lower degree, which ends with y = 0: a graph of 0 times
    the derivatives of x**-1 would be NaN at x = 0. Where y may change it is a row of its own.
    """
    if hasattr(x, "__apply_op__") and not hasattr(y, "__apply_op__"):
        return damp(pow_slope(x, y - 1.0), y) if y else 0.0
    return pow_partial(2, 0)(x, y)


def _two_minus_square(x: Any) -> Any:
    """2 - x², as (√2 - x)(√2 + x) with √2 to twice the precision of a float."""
    return (1.4142135623730951 - x - 9.667293313452913e-17) * (1.4142135623730951 + x)


def _shares_of_tie(*xs_out: Any) -> list[Any]:
    *xs, out = xs_out
    ties = [equals(x, out) for x in xs]
    count = ties[0]
    for tie in ties[1:]:
        count = count + tie
    return [ieee_div(tie, count) for tie in ties]


def _affine_partials(*operands: Any) -> list[Any]:
    n = len(operands) // 2 - 1
    return [*operands[n:-2], *operands[:n], 1.0]


# --- the table ------------------------------------------------------------------------------------
# Each row: the calculus first, then how it is written for people, then for machines.
# (Rows that partials refer to before they are made are annotated as Op, for type checkers.)
# fmt: off

# Arithmetic. The engine inlines the partials of the first four for speed.
add = Op("add", operator.add, (lambda x, y, out: 1.0,
                               lambda x, y, out: 1.0),
         text="@x + @y", latex="@x + @y", binding=1, kind="arithmetic",
         array="@x + @y", numba="@x + @y", analytic=operator.add)
sub = Op("sub", operator.sub, (lambda x, y, out: 1.0,
                               lambda x, y, out: -1.0),
         text="@x - @y", latex="@x - @y", binding=1, kind="arithmetic",
         array="@x - @y", numba="@x - @y", analytic=operator.sub)
mul = Op("mul", operator.mul, (lambda x, y, out: y,
                               lambda x, y, out: x),
         text="@x·@y", latex=r"@x \cdot @y", binding=2, kind="arithmetic",
         array="@x * @y", numba="@x * @y", analytic=operator.mul)
div = Op("div", operator.truediv, (lambda x, y, out: ieee_div(1.0, y),
                                   lambda x, y, out: -ieee_div(out, y)),
         text="@x / @y", latex=r"\frac{@x}{@y}", binding=2, kind="arithmetic",
         domain="for a divisor other than 0", ieee=numerics.divide,
         array="@x / @y", numba="@x / @y", analytic=operator.truediv)
mod = Op("mod", operator.mod, (lambda x, y, out: 1.0,
                               lambda x, y, out: -floor_div(x, y)),
         text="@x mod @y", latex=r"@x \bmod @y", binding=2,
         domain="for a divisor other than 0", kink="where it jumps, d/dx = 1 and d/dy = -x/y",
         array="xp.mod(@x, @y)", numba="mod(@x, @y)", analytic=analytic.mod)
neg = Op("neg", operator.neg, lambda x, out: -1.0,
         text="-@x", latex="-@x", binding=3, kind="arithmetic",
         array="-@x", numba="-@x", analytic=operator.neg)
power = Op("pow", math.pow, (lambda x, y, out: pow_slope(x, y),
                             lambda x, y, out: pow_log(x, y)),
           text="@x^@y", latex="@x^{@y}", binding=4, kind="arithmetic", ieee=numerics.pow,
           domain="for x > 0, for x < 0 with an integer exponent and for x = 0 with one >= 0",
           kink="d/dx x**0 = 0 everywhere; at x = 0, d/dx = inf for exponents in (0, 1); "
                "for x < 0, d/dy = NaN; at 0**0, d/dy = -inf",
           array="power(@x, @y)", numba="math.pow(@x, @y)", analytic=analytic.pow,
           textbook=(None, lambda x, y, out: damp(ieee_log(x), out)))

# Exponentials and logarithms.
exp = Op("exp", math.exp, lambda x, out: out, latex="e^{@x}", ieee=lambda x: INF,
         array="xp.exp(@x)", numba="math.exp(@x)", analytic=cmath.exp)
expm1 = Op("expm1", math.expm1, lambda x, out: exp(x), ieee=lambda x: INF,
           array="xp.expm1(@x)", numba="math.expm1(@x)", analytic=analytic.expm1)
log = Op("log", math.log, lambda x, out: 1.0 / x, domain="on (0, inf)",
         latex=r"\ln\left(@x\right)", ieee=numerics.log,
         array="xp.log(@x)", numba="log(@x)", javascript="Math.log(@x)", analytic=cmath.log,
         doc="The natural logarithm of x.")
log2 = Op("log2", math.log2, lambda x, out: (1.0 / math.log(2.0)) / x, domain="on (0, inf)",
          latex=r"\log_{2}\left(@x\right)", ieee=numerics.log,
          array="xp.log2(@x)", numba="math.log2(@x)", analytic=analytic.log2)
log10 = Op("log10", math.log10, lambda x, out: (1.0 / math.log(10.0)) / x, domain="on (0, inf)",
           latex=r"\log_{10}\left(@x\right)", ieee=numerics.log,
           array="xp.log10(@x)", numba="math.log10(@x)", analytic=cmath.log10)
xlogy = Op("xlogy", numerics.xlogy, (lambda x, y, out: ieee_log(y),
                                     lambda x, y, out: ratio(x, y)),
           text="@x·log(@y)", latex=r"@x \cdot \ln\left(@y\right)", binding=2,
           domain="for y > 0, and for x = 0", ieee=lambda x, y: x * numerics.log(y),
           kink="at x = 0, d/dy = 0, also for y = 0, where d/dx = -inf; for y < 0, d/dx = NaN",
           analytic=analytic.xlogy)
log1p = Op("log1p", math.log1p, lambda x, out: 1.0 / (1.0 + x), domain="on (-1, inf)",
           ieee=lambda x: numerics.log(1.0 + x),
           array="xp.log1p(@x)", numba="math.log1p(@x)", analytic=analytic.log1p)
logaddexp = Op("logaddexp", numerics.logaddexp, (lambda x, y, out: sigmoid(lead(x, y)),
                                         lambda x, y, out: sigmoid(lead(y, x))),
               kink="(0, 0) at (-inf, -inf), (1, 1) at (inf, inf)",
               array="xp.logaddexp(@x, @y)", analytic=analytic.logsumexp,
               doc="log(exp(x) + exp(y)), without overflow.")
logsumexp = Op("logsumexp", numerics.logsumexp,
               lambda *xs_out: [fraction(x, xs_out[-1]) for x in xs_out[:-1]],
               kink="0 by -inf, if all are -inf too; 1 by inf",
               analytic=analytic.logsumexp, doc="""log(exp(x) + exp(y) + ...), without overflow.

               Its derivatives exp(x - out) have relative errors of up to |out|·2⁻⁵³, as `out` has
               no room for the logarithm beside a large x; those of logaddexp have not.""")
sqrt = Op("sqrt", lambda x: math.sqrt(x + 0.0), lambda x, out: ieee_div(0.5, out),
          text="√@x", latex=r"\sqrt{@x}", domain="on [0, inf)", kink="sqrt'(0) = inf",
          array="xp.sqrt(@x + 0.0)", numba="math.sqrt(@x + 0.0)", analytic=cmath.sqrt,
          jax="xp.sqrt(xp.where(@x < 0.0, @x, xp.abs(@x)))",  # XLA leaves + 0.0 out
          doc="The square root of x.")

# Activations. (Rectifiers are near x on one side of 0, and near 0 on the other.)
tanh = Op("tanh", math.tanh, lambda x, out: _square(sech(x)),
          latex=r"\tanh\left(@x\right)", kind="activation", torch=lambda nn: nn.Tanh(),
          array="xp.tanh(@x)", numba="math.tanh(@x)", analytic=cmath.tanh,
          textbook=(lambda x, out: 1.0 - out**2,))
sigmoid: Op = Op("sigmoid", numerics.sigmoid, lambda x, out: _square(0.5 * sech(0.5 * x)),
                 text="σ(@x)", latex=r"\sigma\left(@x\right)", kind="activation",
                 jax="jax.nn.sigmoid(@x)", torch=lambda nn: nn.Sigmoid(),
                 analytic=analytic.sigmoid,
                 textbook=(lambda x, out: out * (1.0 - out),),
                 doc="1 / (1 + exp(-x)): between 0 and 1.")
softplus = Op("softplus", numerics.softplus, lambda x, out: sigmoid(x), kind="rectifier",
              array="xp.logaddexp(@x, 0.0)", jax="jax.nn.softplus(@x)",
              torch=lambda nn: nn.Softplus(threshold=40.0),  # PyTorch's own 20 cuts digits off
              analytic=analytic.softplus, doc="log(1 + exp(x)): a smooth relu.")
relu = Op("relu", numerics.relu, lambda x, out: step(x),
          kink="relu'(0) = 0", kind="rectifier",
          array="xp.maximum(@x, 0.0)", jax="jax.nn.relu(@x)",
          torch=lambda nn: nn.ReLU(), analytic=analytic.relu,
          doc="x where it is positive, else 0.")
leaky_relu = Op("leaky_relu", numerics.leaky_relu,
                (lambda x, slope, out: where(step(x), 1.0, slope),
                 lambda x, slope, out: -relu(-x)),
                defaults=(0.01,), kink="leaky_relu'(0) = the negative slope", kind="rectifier",
                torch=lambda nn: nn.LeakyReLU(0.01), analytic=analytic.leaky_relu,
                doc="x where it is positive, else slope·x.")
elu = Op("elu", numerics.elu,
         (lambda x, alpha, out: where(step(x), 1.0, alpha * exp(-relu(-x))),
          lambda x, alpha, out: expm1(-relu(-x))),
         defaults=(1.0,), kink="elu'(0) = alpha", kind="rectifier",
         torch=lambda nn: nn.ELU(1.0), analytic=analytic.elu,
         textbook=(lambda x, alpha, out: where(step(x), 1.0, out + alpha),
                   lambda x, alpha, out: where(step(x), 0.0, expm1(x))),
         doc="x where it is positive, else alpha·(exp(x) - 1).")
gelu = Op("gelu", numerics.gelu, lambda x, out: gelu_slope(x), kind="rectifier",
          torch=lambda nn: nn.GELU(), analytic=analytic.gelu,
          doc="x·Φ(x), where Φ is the normal distribution function.")
silu = Op("silu", numerics.silu,
          lambda x, out: sigmoid(x) + _near(x) * _square(0.5 * sech(0.5 * x)), kind="rectifier",
          torch=lambda nn: nn.SiLU(), analytic=analytic.silu,
          textbook=(lambda x, out: sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x))),),
          doc="x·σ(x), also called swish.")
erf = Op("erf", math.erf, lambda x, out: exp(-_square(_near(x))) * _ERF_AT_ZERO,
         array="erf(@x)", jax="jax.lax.erf(@x)", numba="math.erf(@x)", analytic=analytic.erf,
         textbook=(lambda x, out: exp(-(x**2)) * _ERF_AT_ZERO,))

# Trigonometry.
sin = Op("sin", math.sin, lambda x, out: cos(x), latex=r"\sin\left(@x\right)",
         array="xp.sin(@x)", numba="math.sin(@x)", analytic=cmath.sin)
cos: Op = Op("cos", math.cos, lambda x, out: -sin(x), latex=r"\cos\left(@x\right)",
             array="xp.cos(@x)", numba="math.cos(@x)", analytic=cmath.cos)
tan = Op("tan", math.tan, lambda x, out: 1.0 + out * out, latex=r"\tan\left(@x\right)",
         array="xp.tan(@x)", numba="math.tan(@x)", analytic=cmath.tan)
asin = Op("asin", math.asin, lambda x, out: ieee_div(1.0, sqrt(one_minus_square(x))),
          latex=r"\arcsin\left(@x\right)", domain="on [-1, 1]", kink="asin'(±1) = inf",
          array="xp.arcsin(@x)", numba="math.asin(@x)", analytic=cmath.asin)
acos = Op("acos", math.acos, lambda x, out: ieee_div(-1.0, sqrt(one_minus_square(x))),
          latex=r"\arccos\left(@x\right)", domain="on [-1, 1]", kink="acos'(±1) = -inf",
          array="xp.arccos(@x)", numba="math.acos(@x)", analytic=cmath.acos)
atan = Op("atan", math.atan, lambda x, out: _square(1.0 / hypot(1.0, x)),
          latex=r"\arctan\left(@x\right)",
          array="xp.arctan(@x)", numba="math.atan(@x)", analytic=cmath.atan,
          textbook=(lambda x, out: 1.0 / (1.0 + x**2),))
atan2 = Op("atan2", math.atan2, (lambda y, x, out: inversion(x, y),
                                 lambda y, x, out: -inversion(y, x)),
           kink="NaN at (0, 0)",
           array="xp.arctan2(@y, @x)", numba="math.atan2(@y, @x)", analytic=analytic.atan2)
hypot: Op = Op("hypot", math.hypot, (lambda x, y, out: cosine(x, y),
                                     lambda x, y, out: cosine(y, x)),
               latex=r"\sqrt{@x^2 + @y^2}", kink="hypot'(0, 0) = (0, 0)",
               array="xp.hypot(@x, @y)", numba="math.hypot(@x, @y)", analytic=analytic.hypot,
               textbook=(lambda x, y, out: x / out,
                         lambda x, y, out: y / out), doc="√(x² + y²), without overflow.")

# Hyperbolic functions.
sinh = Op("sinh", math.sinh, lambda x, out: cosh(x), latex=r"\sinh\left(@x\right)",
          ieee=lambda x: math.copysign(INF, x),
          array="xp.sinh(@x)", numba="math.sinh(@x)", analytic=cmath.sinh)
cosh: Op = Op("cosh", math.cosh, lambda x, out: sinh(x), latex=r"\cosh\left(@x\right)",
              ieee=lambda x: INF,
              array="xp.cosh(@x)", numba="math.cosh(@x)", analytic=cmath.cosh)
asinh = Op("asinh", math.asinh, lambda x, out: 1.0 / hypot(1.0, x),
           array="xp.arcsinh(@x)", numba="math.asinh(@x)", analytic=cmath.asinh,
           textbook=(lambda x, out: 1.0 / sqrt(x**2 + 1.0),))
acosh = Op("acosh", math.acosh, lambda x, out: ieee_div(1.0, sqrt(x - 1.0) * sqrt(x + 1.0)),
           domain="on [1, inf)", kink="acosh'(1) = inf",
           array="xp.arccosh(@x)", numba="math.acosh(@x)", analytic=cmath.acosh,
           textbook=(lambda x, out: 1.0 / sqrt(x**2 - 1.0),))
atanh = Op("atanh", math.atanh, lambda x, out: 1.0 / one_minus_square(x), domain="on (-1, 1)",
           ieee=lambda x: math.copysign(INF, x) if x in (1.0, -1.0) else NAN,
           array="xp.arctanh(@x)", numba="math.atanh(@x)", analytic=cmath.atanh)

# Choices.
clip = Op("clip", numerics.clip,
          (lambda x, low, high, out: within(x, low, high),
           lambda x, low, high, out: (1.0 - within(x, low, high)) * within(low, x, high),
           lambda x, low, high, out: (1.0 - within(x, low, high)) * (1.0 - within(low, x, high))),
          kink="at a bound, d/dx = 1 and the bound's is 0",
          array="xp.minimum(xp.maximum(@x, @low), @high)", jax="clip(@x, @low, @high)",
          analytic=analytic.clip, doc="x, but at least low and at most high.")
absolute = Op("abs", math.fabs, lambda x, out: sign(x),
              text="|@x|", latex=r"\left|@x\right|", kink="abs'(0) = 0",
              array="xp.abs(@x)", numba="abs(@x)", analytic=analytic.absolute,
              jax="@x * xp.sign(@x)",  # jax.numpy.abs has the derivative 1 at 0
              doc="The absolute value of x.")
maximum = Op("max", numerics.maximum, (lambda x, y, out: exceeds(x, y),
                               lambda x, y, out: exceeds(y, x)),
             latex=r"\max\left(@x, @y\right)", kink="a tie of k splits 1/k each",
             array="xp.maximum(@x, @y)", analytic=analytic.maximum,
             many=lambda *xs: largest(*xs), doc="The largest argument.")
minimum = Op("min", numerics.minimum, (lambda x, y, out: exceeds(y, x),
                               lambda x, y, out: exceeds(x, y)),
             latex=r"\min\left(@x, @y\right)", kink="a tie of k splits 1/k each",
             array="xp.minimum(@x, @y)", analytic=analytic.minimum,
             many=lambda *xs: smallest(*xs), doc="The smallest argument.")
greater = Op("greater", numerics.greater, (lambda x, y, out: 0.0,
                                   lambda x, y, out: 0.0),
             text="1(@x > @y)", latex=r"\mathbf{1}\left(@x > @y\right)",
             kink="0 at a tie, and its derivative is 0 everywhere",
             analytic=analytic.greater, doc="1 where x is greater than y, else 0; NaN beside NaN.")
# Nothing flows to the side that is not taken, and the condition has no derivative: their partials
# are None, not 0, which times inf would be NaN. Gradients that are graphs have both sides.
where: Op = Op("where", numerics.where, (lambda condition, x, y, out: None,
                               lambda condition, x, y, out: 1.0 if condition else None,
                               lambda condition, x, y, out: None if condition else 1.0),
               kind="choice", analytic=analytic.where,
               textbook=(lambda condition, x, y, out: 0.0,
                         lambda condition, x, y, out: where(condition, 1.0, 0.0),
                         lambda condition, x, y, out: where(condition, 0.0, 1.0)),
               doc="""x where the condition is not 0, else y: a branch that programs do not freeze.

    The condition is a number or a Value, such as greater(a, b): `a > b` is Python's bool, which a
    finished graph keeps for ever; NaN takes x. The side not taken has no part in a gradient. Both
    sides are computed before one is chosen: log(x) in `where(greater(x, 0), log(x), 0)` raises
    where x is negative. Choose the argument, too: `safe = where(greater(x, 0), x, 1)`, then
    `where(greater(x, 0), log(safe), 0)`.

    >>> where(greater(2.0, 1.0), 5.0, 7.0)
    5.0
    """)

# The neuron's linear part, w·x + b: operands w1 ... wn, x1 ... xn, b.
affine_row = Op("affine", numerics.affine, _affine_partials,
                text="w·x + b", latex=r"w \cdot x + b", kind="internal", analytic=analytic.affine)

# Rows that only partials use, so that these have derivatives in turn. The ieee_ rows answer where
# div, log and pow refuse: the pole of a derivative is a value, not a mistake of the user's.
ieee_div: Op = Op("ieee_div", numerics.divide, (lambda x, y, out: ieee_div(1.0, y),
                                        lambda x, y, out: -ieee_div(out, y)),
                  text="@x / @y", latex=r"\frac{@x}{@y}", binding=2, kind="internal",
                  array="@x / @y", numba="@x / @y", analytic=operator.truediv)
ratio: Op = Op("ratio", numerics.ratio, (lambda x, y, out: ieee_div(1.0, y),  # 0 / 0 is 0
                                         lambda x, y, out: -ratio(out, y)),
               text="@x / @y", latex=r"\frac{@x}{@y}", binding=2, kind="internal",
               analytic=operator.truediv)
floor_div: Op = Op("floor_div", numerics.floor_div, (lambda x, y, out: 0.0,
                                                     lambda x, y, out: 0.0),
                   text="⌊@x / @y⌋", kind="internal",
                   latex=r"\left\lfloor \frac{@x}{@y} \right\rfloor", analytic=analytic.floor_div)
ieee_log: Op = Op("ieee_log", numerics.log, lambda x, out: ieee_div(1.0, x),
                  text="log(@x)", latex=r"\ln\left(@x\right)", kind="internal",
                  array="xp.log(@x)", javascript="Math.log(@x)", analytic=cmath.log)
ieee_pow: Op = Op("ieee_pow", numerics.pow, (lambda x, y, out: pow_slope(x, y),
                                     lambda x, y, out: pow_log(x, y)),
                  text="@x^@y", latex="@x^{@y}", binding=4, kind="internal",
                  array="power(@x, @y)", numba="math.pow(@x, @y)", analytic=analytic.pow)
pow_slope: Op = Op("pow_slope", numerics.pow_slope,
                   (lambda x, y, out: _pow_bend(x, y),
                    lambda x, y, out: pow_xy(x, y)),
                   text="@y·@x^(@y - 1)", latex=r"@y \cdot @x^{@y - 1}", binding=2, kind="internal",
                   analytic=analytic.pow_slope,
                   textbook=(lambda x, y, out: damp(pow_slope(x, y - 1.0), y),))
pow_log: Op = Op("pow_log", numerics.pow_log, (lambda x, y, out: pow_xy(x, y),
                                       lambda x, y, out: pow_yy(x, y)),
                 text="@x^@y·log(@x)", latex=r"@x^{@y} \cdot \ln\left(@x\right)", binding=2,
                 kind="internal", analytic=analytic.pow_log)
damp: Op = Op("damp", numerics.damp, (lambda x, w, out: w,  # x·w, and 0 where w is, if x = inf too
                                      lambda x, w, out: x),
              text="@x·@w", latex=r"@x \cdot @w", binding=2, kind="internal",
              analytic=operator.mul)
lead: Op = Op("lead", numerics.lead, (lambda x, y, out: 1.0,
                                      lambda x, y, out: -1.0),
              text="@x - @y", latex="@x - @y", binding=1, kind="internal",
              analytic=operator.sub)
fraction: Op = Op("fraction", numerics.fraction,  # of a sum whose logarithm is `total`
                  (lambda x, total, out: out,
                   lambda x, total, out: -out),
                  text="exp(@x - @total)", latex=r"e^{@x - @total}", kind="internal",
                  ieee=lambda x, total: INF, analytic=analytic.fraction)
sech: Op = Op("sech", numerics.sech, lambda x, out: -out * tanh(x), kind="internal",
              array="1.0 / xp.cosh(@x)", analytic=analytic.sech)
gelu_slope: Op = Op("gelu_slope", numerics.gelu_slope,
                    lambda x, out: _two_minus_square(_near(x)) * _normpdf(_near(x)),
                    text="Φ(@x) + @x·φ(@x)", binding=1, kind="internal",
                    latex=r"\Phi\left(@x\right) + @x \cdot \varphi\left(@x\right)",
                    analytic=analytic.gelu_slope,
                    textbook=(lambda x, out: (2.0 - x**2) * _normpdf(x),))
one_minus_square: Op = Op("one_minus_square", numerics.one_minus_square,
                          lambda x, out: -2.0 * x, kind="internal",
                          text="(1 - @x²)", latex=r"\left(1 - @x^2\right)",
                          array="(1.0 - @x) * (1.0 + @x)", analytic=analytic.one_minus_square)
cosine: Op = Op("cosine", numerics.cosine,  # x / hypot(x, y): of the polar angle of (x, y)
                (lambda x, y, out: ieee_div(_square(cosine(y, x)), hypot(x, y)),
                 lambda x, y, out: -ieee_div(out * cosine(y, x), hypot(x, y))),
                text="@x / hypot(@x, @y)", latex=r"\frac{@x}{\sqrt{@x^2 + @y^2}}", binding=2,
                kind="internal", analytic=analytic.cosine)
inversion: Op = Op("inversion", numerics.inversion,  # x / (x² + y²), the real part of 1 / (x + iy)
                   (lambda x, y, out: (inversion(y, x) - out) * (inversion(y, x) + out),
                    lambda x, y, out: -2.0 * out * inversion(y, x)),
                   text="@x / (@x² + @y²)", latex=r"\frac{@x}{@x^2 + @y^2}", binding=2,
                   kind="internal", analytic=analytic.inversion)
step: Op = Op("step", numerics.step, lambda x, out: 0.0,
              text="1(@x > 0)", latex=r"\mathbf{1}\left(@x > 0\right)", kink="step(0) = 0",
              kind="internal", array="xp.heaviside(@x, 0.0)", jax="step(@x)",
              analytic=analytic.step)
within: Op = Op("within", numerics.within, (lambda x, low, high, out: 0.0,
                                            lambda x, low, high, out: 0.0,
                                            lambda x, low, high, out: 0.0),
                text="1(@low ≤ @x ≤ @high)",
                latex=r"\mathbf{1}\left(@low \le @x \le @high\right)", kink="1 at the bounds",
                kind="internal", analytic=analytic.within)
sign: Op = Op("sign", numerics.sign, lambda x, out: 0.0, kink="sign(0) = 0", kind="internal",
              array="xp.sign(@x)", analytic=analytic.sign)
largest: Op = Op("largest", numerics.largest, _shares_of_tie,  # max and min of any number
                 text="max(@xs)", latex=r"\max\left(@xs\right)", kink="a tie of k splits 1/k each",
                 kind="internal", analytic=analytic.largest)
smallest: Op = Op("smallest", numerics.smallest, _shares_of_tie,
                  text="min(@xs)", latex=r"\min\left(@xs\right)", kink="a tie of k splits 1/k each",
                  kind="internal", analytic=analytic.smallest)
equals: Op = Op("equals", numerics.equals, (lambda x, y, out: 0.0,
                                    lambda x, y, out: 0.0),
                text="1(@x = @y)", latex=r"\mathbf{1}\left(@x = @y\right)", kind="internal",
                analytic=analytic.equals)
exceeds: Op = Op("exceeds", numerics.exceeds,
                 (lambda x, y, out: 0.0,
                  lambda x, y, out: 0.0),
                 text="H(@x - @y)", latex=r"H\left(@x - @y\right)", kink="1/2 at a tie",
                 kind="internal", analytic=analytic.exceeds)
# fmt: on


_pow_partials: dict[tuple[int, int], Op] = {}


def pow_partial(m: int, n: int) -> Op:
    """The row of the derivative of x**y, m times by x and n times by y, such as "pow_xy".

    Rows of higher orders are made when they are asked for. They are rows of their own since at
    x = 0 no chain rule through log(x) and x**y finds them, whose own derivatives are infinite.
    """
    if (m, n) in _pow_partials:
        return _pow_partials[m, n]
    known = {
        (1, 1): ("@x^(@y - 1)·(1 + @y·log(@x))", r"@x^{@y - 1} \cdot \left(1 + @y \ln @x\right)"),
        (2, 0): ("@y·(@y - 1)·@x^(@y - 2)", r"@y \cdot \left(@y - 1\right) \cdot @x^{@y - 2}"),
        (0, 2): ("@x^@y·log(@x)²", r"@x^{@y} \cdot \ln^2 @x"),
    }
    text, latex = known.get((m, n), ("", ""))
    call = f"pow_partial(@x, @y, {m}, {n})"
    row = Op(
        "pow_" + "x" * m + "y" * n,
        lambda x, y: numerics.pow_partial(x, y, m, n),
        (
            lambda x, y, out: pow_partial(m + 1, n)(x, y),
            lambda x, y, out: pow_partial(m, n + 1)(x, y),
        ),
        text=text, latex=latex, binding=2 if text else 9, kind="internal", array=call, numba=call,
        analytic=lambda x, y: analytic.pow_partial(x, y, m, n),
    )  # fmt: skip
    row.origin = pow_partial, (m, n)
    _pow_partials[m, n] = row
    return row


pow_xy: Op = pow_partial(1, 1)
pow_yy: Op = pow_partial(0, 2)

BUILTIN = frozenset(TABLE)
_SHOWN = [x for x, op in globals().items() if isinstance(op, Op) and op.kind != "internal"]
__all__ = ["TABLE", "Op", "find", *_SHOWN]
__dir__ = shown(*__all__)
