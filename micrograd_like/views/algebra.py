"""Operations on names instead of numbers: how they are written, and how they simplify.

An `Expression` is what the rows of the table make of names instead of numbers: applied to
expressions, an op gives an expression, and so do its partials. Each row says how it is written, in
a template; the parentheses follow from what stands beside a placeholder there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from functools import reduce
from typing import Any, Final, Literal

from .. import ops
from ..engine import Value
from ..errors import MicrogradError, OperandError
from ..numerics import number
from ..ops import Op
from ..words import first_and_last
from .names import binding_of, latex_name, latex_numeral, numeral, superscript

Style = Literal["text", "latex"]

_PLACEHOLDER = re.compile(r"@([A-Za-z_]\w*)", re.ASCII)
_OPERATOR_NAME = re.compile(r"\\operatorname\b")

# What divides, and raises to powers, in an expression of the user's refuses poles. In a derivative
# a pole is a value.
_WITH_POLES = {ops.div: ops.ieee_div, ops.power: ops.ieee_pow, ops.log: ops.ieee_log}
_FLAT = 40  # of a sum within a sum: longer ones stay as they are
_SUMS = (ops.add, ops.sub)
_TINY = 2.0**-1022  # floats below it lose digits
_TIMES = (ops.mul, ops.damp)
_POWERS = (ops.power, ops.ieee_pow)
_PRODUCTS = (*_TIMES, ops.div, ops.ieee_div, *_POWERS)
_ARITHMETIC = (*_SUMS, ops.neg, *_PRODUCTS, ops.pow_slope)
# Names, numbers and functions, of an expression that is compared with others part by part.
_SMALL = 12


class Expression:
    """A name, a number, or a row of the table applied to expressions; immutable.

    Constants simplify as it is made: 1·x is x, x + 0 is x, x·x is x², signs move outwards.
    """

    __slots__ = ("_key", "binding", "name", "name_in_latex", "number", "op", "operands", "size")

    op: Final[Op | None]
    operands: Final[tuple[Expression, ...]]
    name: Final[str]
    name_in_latex: Final[str]
    binding: Final[float]  # of a name, how tightly it does if it does not look like one; see Op
    number: Final[float | None]
    size: Final[int]  # how many names, numbers and functions it is written with

    def __init__(
        self,
        name: str = "",
        *,
        number: float | None = None,
        op: Op | None = None,
        operands: tuple[Expression, ...] = (),
        latex: str = "",
        binding: float = 0.0,
    ) -> None:
        self.name = name
        self.name_in_latex = latex
        self.binding = binding
        self.number = number
        self.op = op
        self.operands = operands
        self.size = sum([operand.size for operand in operands]) + (len(operands) < 2)
        self._key: object = name or number

    @staticmethod
    def __apply_op__(op: Op, args: Sequence[Any]) -> Expression:
        return _simplified(op, [_expression(arg) for arg in op.complete(tuple(args))])

    # fmt: off
    def __add__(self, other: Expression | float) -> Expression: return ops.add(self, other)
    def __radd__(self, other: Expression | float) -> Expression: return ops.add(other, self)
    def __sub__(self, other: Expression | float) -> Expression: return ops.sub(self, other)
    def __rsub__(self, other: Expression | float) -> Expression: return ops.sub(other, self)
    def __mul__(self, other: Expression | float) -> Expression: return ops.mul(self, other)
    def __rmul__(self, other: Expression | float) -> Expression: return ops.mul(other, self)
    def __truediv__(self, other: Expression | float) -> Expression: return ops.div(self, other)
    def __rtruediv__(self, other: Expression | float) -> Expression: return ops.div(other, self)
    def __pow__(self, other: Expression | float) -> Expression: return ops.power(self, other)
    def __rpow__(self, other: Expression | float) -> Expression: return ops.power(other, self)
    def __neg__(self) -> Expression: return ops.neg(self)
    # fmt: on

    def __bool__(self) -> bool:
        raise OperandError(f"{self.text} is an expression: it has no truth value")

    @property
    def text(self) -> str:
        return self.written("text")

    @property
    def latex(self) -> str:
        return self.written("latex")

    @property
    def key(self) -> object:
        """Equal for expressions that are alike, if they are small."""
        if self._key is None:
            small = self.size <= _SMALL
            self._key = (self.op, *[e.key for e in self.operands]) if small else ("id", id(self))
        return self._key

    def written(
        self,
        style: Style,
        *,
        numbers: Mapping[str, float] | None = None,
        spaced: bool = False,
        most: int | None = None,
    ) -> str:
        """The expression as text or LaTeX. A shared sub-expression is written each time.

        `numbers` stand in the place of names; `spaced` puts spaces around the dot of a product; of
        a sum with more than `most` terms, or an op with more arguments, the first ones and the last
        are written, and how many there are between them.
        """
        writer = _Writer(style, numbers, spaced, most)
        done: dict[int, tuple[str, float]] = {}
        stack = [self]
        while stack:  # parts first, without recursion
            expression = stack[-1]
            missing = [part for part in writer.parts(expression) if id(part) not in done]
            if missing:
                stack += missing
                continue
            stack.pop()
            done[id(expression)] = writer.write(expression, done)
        return done[id(self)][0]

    def evaluate(
        self, numbers: Mapping[str, float], extremes: list[Expression] | None = None
    ) -> float:
        """The value where names stand for `numbers`. A pole is infinite, as in a derivative.

        `extremes` collects the sub-expressions that are not finite, or underflow: what contains
        them may have another value if its factors are put in another order.
        """
        done: dict[int, float] = {}
        stack = [self]
        while stack:
            expression = stack[-1]
            missing = [part for part in expression.operands if id(part) not in done]
            if missing:
                stack += missing
                continue
            stack.pop()
            if expression.op is not None:
                op = _WITH_POLES.get(expression.op, expression.op)
                xs = [done[id(part)] for part in expression.operands]
                x = op.evaluate(xs)
                if extremes is not None and not _is_tame(op, xs, x):
                    extremes.append(expression)
            else:
                x = numbers[expression.name] if expression.number is None else expression.number
            done[id(expression)] = x
        return done[id(self)]

    def __repr__(self) -> str:
        return f"<Expression {self.text}>"


class _Writer:
    """How `Expression.written` writes one expression, when its parts have been written."""

    def __init__(
        self, style: Style, numbers: Mapping[str, float] | None, spaced: bool, most: int | None
    ) -> None:
        self.style = style
        self.numbers = numbers
        self.spaced = spaced
        self.most = most
        self._chains: dict[int, list[tuple[Op, Expression]]] = {}

    def parts(self, e: Expression) -> Sequence[Expression]:
        """What is written before it."""
        chain = self._chain(e)
        return [part for _, part in _ends(chain)] if chain else e.operands

    def _chain(self, e: Expression) -> list[tuple[Op, Expression]] | None:
        """The terms of a sum, or arguments of an op, that are too many, with what joins them."""
        if self.most is None or e.size <= self.most or e.op is None:
            return None
        if id(e) not in self._chains:
            chain = [(e.op, part) for part in e.operands]
            if e.op in _SUMS:
                rest, chain = e, []
                while rest.op in _SUMS:
                    left, right = rest.operands
                    chain.append((rest.op, right))
                    rest = left
                chain = [(ops.add, rest), *reversed(chain)]
            self._chains[id(e)] = chain
        chain = self._chains[id(e)]
        return chain if len(chain) > self.most else None

    def write(self, e: Expression, done: Mapping[int, tuple[str, float]]) -> tuple[str, float]:
        """The expression, and how tightly it binds."""
        if e.op is None:
            return self._atom(e)
        chain = self._chain(e)
        if chain is None:
            return self._applied(e.op, [done[id(part)] for part in e.operands])
        ends = _ends(chain)
        hidden = len(chain) - len(ends)
        gap = (
            rf"\underbrace{{\cdots}}_{{{hidden}}}"
            if self.style == "latex"
            else f"… {hidden} more …"
        )
        if e.op not in _SUMS:
            parts = [done[id(part)] for _, part in ends]
            return self._applied(e.op, [*parts[:-1], (gap, 9), parts[-1]])
        written = done[id(ends[0][1])]
        for op, part in ends[1:-1]:
            written = self._applied(op, [written, done[id(part)]])
        written = self._applied(ops.add, [written, (gap, 9)])
        return self._applied(ends[-1][0], [written, done[id(ends[-1][1])]])

    def _applied(self, op: Op, parts: list[tuple[str, float]]) -> tuple[str, float]:
        text = write(op, parts, self.style, spaced=self.spaced)
        return text, _binding(op, self.style)

    def _atom(self, e: Expression) -> tuple[str, float]:
        x, digits = e.number, 15
        if x is None:
            if self.numbers is None or e.name not in self.numbers:
                text = e.name if self.style == "text" else e.name_in_latex or latex_name(e.name)
                if e.binding:
                    return text, e.binding
                return text, min(binding_of(e.name), 4 if "^" in text else 9)
            x, digits = self.numbers[e.name], 4
        return _written_number(x, self.style, digits)


def _written_number(x: float, style: Style, digits: int) -> tuple[str, float]:
    """The number, and how tightly it binds. With 15 digits, 1 / 3 is written as a fraction."""
    if digits == 15 and (fraction := _fraction(x)):
        top, bottom = fraction
        if style == "text":
            return f"{top} / {bottom}", 1.95
        return rf"{'-' * (top < 0)}\frac{{{abs(top)}}}{{{bottom}}}", 3 if top < 0 else 4
    if style == "text":
        text = f"{x:.15g}" if digits == 15 else numeral(x, digits)
    else:
        text = latex_numeral(x, digits)
    if text.startswith("-"):
        return text, 3
    return text, 2 if "cdot" in text else 4 if "^" in text else 9


def _fraction(x: float) -> tuple[int, int] | None:
    """Numerator and denominator of a number that is a fraction of small integers, but long.

    1 / 3, and neither 0.25 nor π.
    """
    if not 1e-3 <= abs(x) < 1e3 or len(f"{x:.15g}") < 10:
        return None
    top, bottom = Fraction(x).limit_denominator(1000).as_integer_ratio()
    return (top, bottom) if abs(top / bottom - x) <= 3e-16 * abs(x) else None


def _ends(chain: list[tuple[Op, Expression]]) -> list[tuple[Op, Expression]]:
    return [*chain[:3], chain[-1]]


def _binding(op: Op, style: Style) -> float:
    # In LaTeX a power of a power, or of a root, needs parentheses even where the row is written as
    # a call: e^{x}.
    if style == "latex" and re.search(r"^\\sqrt|\^\{[^{}]*\}$", op.latex):
        return min(op.binding, 4)
    if style == "text" and op.text.startswith("√"):
        return 4
    # As text a / b·c would be read in two ways.
    return min(op.binding, 1.95) if style == "text" and " / " in op.text else op.binding


def apply(op: Op, operands: Sequence[Expression]) -> Expression:
    """`op` of the operands as it stands, not simplified; affine as the sum that it is."""
    if op is not ops.affine_row:
        return Expression(op=op, operands=tuple(operands))
    n = len(operands) // 2
    result = [apply(ops.mul, pair) for pair in zip(operands[:n], operands[n:-1], strict=True)]
    if operands[-1].number != 0.0 or not result:
        result.append(operands[-1])
    return reduce(lambda x, y: apply(ops.add, (x, y)), result)


def partials(op: Op, operands: Sequence[Expression], out: Expression) -> list[Expression | None]:
    """The row's partials as expressions; None for one that is not written in the table's ops."""
    try:
        if op.arity is None:
            return [_expression(d) for d in op.partials[0](*operands, out)]
    except Exception:  # a row of the user's may do anything with its arguments
        return [None] * len(operands)
    result: list[Expression | None] = []
    for partial in op.partials:
        try:
            result.append(_expression(partial(*operands, out)))
        except Exception:
            result.append(None)
    return result


def formula(
    node: Value,
    names: Mapping[Value, str | float],
    *,
    digits: int = 15,
    spaced: bool = False,
    most: int | None = None,
) -> str:
    """The node's operation on its operands, as text: a·b, tanh(v1), w·x + b. "" for a leaf.

    `names` has the name of each operand, or the number that stands in its place. Numbers have so
    many `digits`; `spaced` puts spaces around the dot of a product. A sum of more than `most`
    products, or an operation with more arguments, is written with the first three and the last.

    >>> a, b = Value(2.0), Value(-3.0)
    >>> formula(a * b, {a: "a", b: "b"}), formula(a - 1.5, {a: a.data}, digits=4)
    ('a·b', '2.0 - 1.5')
    """

    def spelled(operand: Value | float) -> tuple[str, float]:
        what = names[operand] if isinstance(operand, Value) else operand
        if isinstance(what, str):
            return what, binding_of(what)
        return _written_number(what, "text", digits)

    def few(texts: list[str]) -> list[str]:
        return texts if most is None or len(texts) <= most else first_and_last(texts, "…")

    op, operands = node.op, node.operands
    if op is None:
        return ""
    if op is ops.affine_row:
        n = len(operands) // 2
        pairs = zip(operands[:n], operands[n:-1], strict=True)
        terms = few([write(ops.mul, list(map(spelled, pair)), spaced=spaced) for pair in pairs])
        bias = operands[-1]
        if isinstance(bias, Value) or bias or not terms:
            terms.append(spelled(bias)[0])
        return " + ".join(terms).replace(" + -", " - ")
    written = list(map(spelled, operands))
    if op.arity is None:
        written = [(text, 9) for text in few([text for text, _ in written])]
    return write(op, written, spaced=spaced)


def write(
    op: Op,
    operands: Sequence[tuple[str, float]],
    style: Style = "text",
    *,
    spaced: bool = False,
) -> str:
    """`op` written with the operands, each a text and how tightly it binds (see `Op.binding`).

    >>> write(ops.mul, [("a", 9), ("-3.0", 3)]), write(ops.power, [("a + b", 1), ("2", 9)])
    ('a·(-3.0)', '(a + b)²')
    """
    # \operatorname is among the macros that GitHub does not let through.
    template = op.text if style == "text" else _OPERATOR_NAME.sub(r"\\mathrm", op.latex)
    if spaced and style == "text":
        template = template.replace("·", " · ")
    if op.arity is None:
        if "@" not in template:
            return _write_sum_of_products(operands, style, spaced)
        joined = ", ".join(text for text, _ in operands)
        return _PLACEHOLDER.sub(lambda _: joined, template)
    if op is ops.greater and "0" in (operands[0][0], operands[1][0]):
        # H(x) and H(-y), not H(x - 0) and H(0 - y).
        bare = "@x" if operands[1][0] == "0" else "-@y"
        template = template.replace("@x - @y", bare)
    by_name = dict(zip(op.arguments, operands, strict=True))
    pieces: list[str] = []
    end = 0
    for match in _PLACEHOLDER.finditer(template):
        if match[1] not in by_name:
            continue
        text, binding = by_name[match[1]]
        before, after = template[: match.start()].rstrip(), template[match.end() :].lstrip()
        needed = max(_needed_after(before), _needed_before(after))
        signed = text.startswith("-") and _needed_after(before) > 0
        pieces.append(template[end : match.start()])
        exponent = before.endswith("^") and re.fullmatch(r"-?\d+(\.0)?", text)
        if exponent and style == "text":
            pieces[-1] = pieces[-1].rstrip("^")
            pieces.append(superscript(text.removesuffix(".0")))
        elif signed or binding < needed:
            pieces.append(f"({text})" if style == "text" else rf"\left({text}\right)")
        else:
            pieces.append(text)
        end = match.end()
    return "".join(pieces) + template[end:]


def _needed_after(before: str) -> float:
    """How tightly an operand must bind that follows `before` in a template, to go without ()."""
    if not before or before[-1] in "([{|,>":
        return 0
    if before[-1] == "+":
        return 1
    if before[-1] == "-":
        return 1.5 if before.rstrip("-") else 1.95
    if before[-1] in "·t":  # ... \cdot
        return 2
    return 2.5 if before[-1] == "/" else 9


def _needed_before(after: str) -> float:
    """The same for what `after` follows."""
    if not after or after[0] in ")]}|,>" or after.startswith(r"\right"):
        return 0
    if after[0] in "+-":
        return 1
    return 4.5 if after[0] in "^²" else 2


def _write_sum_of_products(
    operands: Sequence[tuple[str, float]], style: Style, spaced: bool
) -> str:
    n = len(operands) // 2
    terms = [
        write(ops.mul, [w, x], style, spaced=spaced)
        for w, x in zip(operands, operands[n:-1], strict=False)
    ]
    *_, (bias, _) = operands
    if bias not in ("0", "0.0") or not terms:
        terms.append(bias)
    return " + ".join(terms).replace(" + -", " - ")


def _expression(x: Any) -> Expression:
    return x if isinstance(x, Expression) else Expression(number=number(x))


def _is_tame(op: Op, xs: Sequence[float], out: float) -> bool:
    """Whether the result is finite, and did not underflow."""
    if out == 0.0:
        return op not in _PRODUCTS or xs[0] == 0.0 or (xs[1] == 0.0 and op in _TIMES)
    return _TINY <= abs(out) < math.inf


def _folded(op: Op, xs: Sequence[float]) -> float | None:
    """The number that the op makes of numbers; None where it is better written out.

    log(2) rather than 0.693147180559945, and log(-2) rather than NaN.
    """
    try:
        out = op.evaluate(xs)
    except MicrogradError:
        return None
    exact = abs(xs[-1]) == 1.0 or (op in _TIMES and abs(xs[0]) == 1.0)
    tame = _is_tame(op, xs, out) if op in _PRODUCTS else math.isfinite(out)
    if not tame and not exact and all(map(math.isfinite, xs)):
        return None
    return out if op in _ARITHMETIC or len(f"{out:.15g}") < 10 else None


def _simplified(op: Op, operands: list[Expression]) -> Expression:
    x = operands[0]
    y = operands[-1]
    a, b = x.number, y.number
    numbers = [operand.number for operand in operands if operand.number is not None]
    if len(numbers) == len(operands):
        folded = _folded(op, numbers)
        return apply(op, operands) if folded is None else Expression(number=folded)
    match op.name:
        case "add":
            if a == 0.0 or b == 0.0:
                return y if a == 0.0 else x
            if x.key == y.key:
                return _product(Expression(number=2.0), x)
            if y.op is ops.neg:
                return x - y.operands[0]
            if b is not None and b < 0.0:
                return x - -b
        case "sub":
            if b == 0.0:
                return x
            if a == 0.0:
                return -y
            if y.op is ops.neg:
                return x + y.operands[0]
        case "neg" if x.op is ops.neg:
            return x.operands[0]
        case "neg" if x.op is ops.sub:
            return x.operands[1] - x.operands[0]
        case "mul":
            return _product(x, y)
        case "damp":
            # Where neither is a number it stays: of infinity and 0 it is 0, and their product NaN.
            if _is_constant(x) or b is not None:
                return _product(x, y)
            if x.op is ops.neg or y.op is ops.neg:
                damped = ops.damp(_unsigned(x), _unsigned(y))
                return damped if x.op is y.op else -damped
            if has_coefficient(x):
                return x.operands[0] * ops.damp(x.operands[1], y)
            if has_coefficient(y):
                return y.operands[0] * ops.damp(x, y.operands[1])
        case "div" | "ieee_div":
            if b == 1.0:
                return x
            if x.op is ops.neg or y.op is ops.neg:
                sign = (x.op is ops.neg) != (y.op is ops.neg)
                quotient = ops.div(_unsigned(x), _unsigned(y))
                return -quotient if sign else quotient
        case "pow" | "ieee_pow":
            if b == 1.0:
                return x
            if b == 0.0:
                return Expression(number=1.0)
        case "pow_slope" if b is not None:
            return y * ops.ieee_pow(x, b - 1.0)
        case "cosine" | "inversion":  # odd in the first argument, even in the second
            if x.op is ops.neg or (a is not None and a < 0.0):
                return -op(-x, y)
            if y.op is ops.neg or (b is not None and b < 0.0):
                return op(x, -y)
        case "where" if x.number is not None:
            return operands[1] if x.number else operands[2]
    return apply(op, operands)


def _is_constant(x: Expression) -> bool:
    """Whether it is a finite number, or the logarithm of one."""
    if x.op in (ops.log, ops.ieee_log):
        a = x.operands[0].number
        return a is not None and 0.0 < a < math.inf
    return x.number is not None and math.isfinite(x.number)


def has_coefficient(x: Expression) -> bool:
    """Whether it is a number times something else."""
    return x.op is ops.mul and x.operands[0].number is not None and x.operands[1].number is None


def _unsigned(x: Expression) -> Expression:
    return x.operands[0] if x.op is ops.neg else x


def _product(x: Expression, y: Expression) -> Expression:
    """x·y with one number, in front, equal factors as powers, and one fraction at most."""
    if x.number == 1.0 or y.number == 1.0:
        return y if x.number == 1.0 else x
    coefficient = 1.0
    above: list[Expression] = []
    below: list[Expression] = []
    stack = [(y, above, below), (x, above, below)]
    while stack:
        e, same, other = stack.pop()
        if e.op is ops.neg:
            coefficient = -coefficient
            stack.append((e.operands[0], same, other))
        elif e.op is ops.mul:
            stack += [(part, same, other) for part in reversed(e.operands)]
        elif e.op in (ops.div, ops.ieee_div):
            stack += [(e.operands[1], other, same), (e.operands[0], same, other)]
        elif e.number is None or (same is below and e.number == 0.0):
            same.append(e)
        else:
            op = ops.mul if same is above else ops.ieee_div
            folded = _folded(op, (coefficient, e.number))
            if folded is None:
                same.append(e)
            else:
                coefficient = folded
    if coefficient == 0.0:
        return Expression(number=0.0)
    if float(f"{coefficient:.15g}") in (1.0, -1.0):  # as it would be written: 1.1 · (1 / 1.1), say
        coefficient = math.copysign(1.0, coefficient)
    top, bottom = _powers(above, below)
    fraction = _fraction(abs(coefficient)) if top or bottom else None
    if fraction:
        coefficient = math.copysign(fraction[0], coefficient)
        bottom.insert(0, Expression(number=float(fraction[1])))
    if abs(coefficient) != 1.0 or not top:
        top.insert(0, Expression(number=abs(coefficient)))
    product = _multiplied(top)
    if bottom:
        product = apply(ops.ieee_div, (product, _multiplied(bottom)))
    return -product if coefficient < 0.0 else product


def _multiplied(factors: list[Expression]) -> Expression:
    product = factors[0]
    for factor in factors[1:]:
        product = apply(ops.mul, (product, factor))
    return product


def _powers(
    above: Iterable[Expression], below: Iterable[Expression]
) -> tuple[list[Expression], list[Expression]]:
    """The factors above and below a fraction bar, equal ones in one power."""
    exponents: dict[object, float] = {}
    bases: dict[object, Expression] = {}
    for factors, sign in ((above, 1.0), (below, -1.0)):
        for factor in factors:
            base, exponent = factor, sign
            if factor.op in _POWERS:
                n = factor.operands[1].number
                if n is not None and n > 0.0 and n.is_integer():
                    base, exponent = factor.operands[0], sign * n
            # Numbers are factors that would underflow in one.
            key = base.key if base.number is None else ("number", len(bases))
            bases.setdefault(key, base)
            exponents[key] = exponents.get(key, 0.0) + exponent
    result: tuple[list[Expression], list[Expression]] = ([], [])
    for base, n in zip(bases.values(), exponents.values(), strict=True):
        if n:
            power = (base, Expression(number=abs(n)))
            result[n < 0.0].append(base if abs(n) == 1.0 else apply(ops.ieee_pow, power))
    return result


def total(terms: Iterable[Expression]) -> Expression:
    """The sum, in the order of first appearance, with equal terms counted: a + b + a is 2·a + b."""
    counts: dict[object, float] = {}
    found: dict[object, Expression] = {}
    stack = [(term, 1.0) for term in terms][::-1]
    while stack:
        bare, count = stack.pop()
        if bare.op is ops.neg:
            stack.append((bare.operands[0], -count))
            continue
        if bare.op in _SUMS and bare.size <= _FLAT:
            left, right = bare.operands
            stack += [(right, count if bare.op is ops.add else -count), (left, count)]
            continue
        if has_coefficient(bare):
            assert bare.operands[0].number is not None
            count, bare = count * bare.operands[0].number, bare.operands[1]
        key: object = bare.key
        if bare.number is not None:
            count, bare, key = count * bare.number, Expression(number=1.0), None
        found.setdefault(key, bare)
        counts[key] = counts.get(key, 0.0) + count
    products = [counts[key] * term for key, term in found.items()]
    # b - a, rather than -a + b.
    first = next((i for i, e in enumerate(products) if not _is_negative(e)), 0)
    result = Expression(number=0.0)
    for product in [products[first], *products[:first], *products[first + 1 :]]:
        result = result + product
    return result


def _is_negative(e: Expression) -> bool:
    return e.op is ops.neg or (e.number is not None and e.number <= 0.0)
