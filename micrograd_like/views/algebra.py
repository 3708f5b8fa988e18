"""Operations on names instead of numbers: how they are written, and how they simplify.

An `Expression` is what the rows of the table make of names: applied to expressions, an op gives an
expression, and so do its partials. Each row says how it is written, in a template; the parentheses
follow from what stands beside a placeholder there.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, reduce
from typing import Any, Literal

from .. import ops
from ..engine import Value
from ..errors import MicrogradError, OperandError
from ..numerics import number
from ..ops import Op
from ..words import first_and_last, printable
from .names import (
    concise,
    latex_name,
    latex_numeral,
    latex_text,
    looks_like_a_name,
    numeral,
    superscript,
)


class Slot(str):
    """A text that stands for a number in a formula, which may be negative.

    Where a negative one needs parentheses, it stands between the characters of `IF_NEGATIVE`.
    """


IF_NEGATIVE = "\ue002", "\ue003"  # which no template has

Style = Literal["text", "latex"]
Form = Literal["textbook", "exact"]  # of partials
_Written = tuple[str, float]  # how something is written, and how tightly it binds (`Op.binding`)

_SUMS = (ops.add, ops.sub)
_PRODUCTS = (ops.mul, ops.div, ops.power)
_ARITHMETIC = (*_SUMS, ops.neg, *_PRODUCTS, ops.pow_slope)
# What differs from these at infinity alone, where a derivation takes the numbers of the engine.
_ON_REALS = {ops.damp: ops.mul, ops.ieee_div: ops.div, ops.ieee_pow: ops.power}
_TINY = 2.0**-1022  # floats below it lose digits
_SMALL = 12  # expressions are compared part by part up to this size


@dataclass(eq=False, repr=False, slots=True)
class Expression:
    """A name, a number, or a row of the table applied to expressions; immutable.

    Constants simplify as it is made: 1·x is x, x + 0 is x, x·x is x², signs move outwards.
    """

    name: str = ""
    number: float | None = None
    op: Op | None = None
    operands: tuple[Expression, ...] = ()
    name_in_latex: str = ""
    binding: float = 0.0  # of a symbol such as ∂y/∂x, as in Op; 0 for plain names
    size: int = field(init=False)
    """How many names, numbers and functions it is written with."""
    key: object = field(init=False)
    """Equal for expressions that are alike, if they are small."""

    def __post_init__(self) -> None:
        self.size = sum([e.size for e in self.operands]) + (len(self.operands) < 2)
        self.key = self.name or self.number
        if self.op is not None:
            small = self.size <= _SMALL
            self.key = (self.op, *[e.key for e in self.operands]) if small else ("id", id(self))

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

    def __eq__(self, other: object) -> bool:  # a partial that asks for it takes neither branch
        raise OperandError(f"{self.text} is an expression: what it equals is not known")

    @property
    def text(self) -> str:
        return self.written("text")

    @property
    def latex(self) -> str:
        return self.written("latex")

    def written(
        self,
        style: Style,
        *,
        spaced: bool = False,
        most: int | None = None,
    ) -> str:
        """The expression as text or LaTeX. A shared sub-expression is written each time.

        `spaced` puts spaces around the dot of a product; of a sum with more than `most` terms, or
        an op with more arguments, the first ones and the last are written, and how many there are
        between them.
        """
        terms: dict[int, list[tuple[Op, Expression]]] = {}

        def parts(e: Expression) -> list[Expression]:
            if id(e) not in terms:
                terms[id(e)] = _terms(e, most, _GAPS[style])
            return [part for _, part in terms[id(e)]]

        def applied(op: Op, parts: list[_Written]) -> _Written:
            return write(op, parts, style, spaced=spaced), _binding(op, style)

        done: dict[int, _Written] = {}
        for e in parts_first([self], parts):
            operands = [(op, done[id(part)]) for op, part in terms[id(e)]]
            if e.op is None:
                done[id(e)] = _atom(e, style)
            elif e.op in _SUMS:
                done[id(e)] = operands[0][1]
                for op, operand in operands[1:]:
                    done[id(e)] = applied(op, [done[id(e)], operand])
            else:
                done[id(e)] = applied(e.op, [operand for _, operand in operands])
        return done[id(self)][0]

    def __repr__(self) -> str:
        return f"<Expression {self.text}>"


def apply(op: Op, operands: Sequence[Expression]) -> Expression:
    """`op` of the operands as it stands, not simplified."""
    return Expression(op=op, operands=tuple(operands))


def partials(
    op: Op, operands: Sequence[Expression], out: Expression, form: Form = "textbook"
) -> list[Expression | None]:
    """The partials in that form; None for one that is not written in the table's ops."""
    result: list[Expression | None] = []
    for partial, written in zip(op.partials, op.textbook, strict=True):
        partial = written if form == "textbook" or op.kind == "choice" else partial
        try:
            found = partial(*operands, out)
            result += [_expression(d) for d in (found if op.arity is None else [found])]
        except Exception:  # a row of the user's may do anything with its arguments
            result += [None] * (len(operands) if op.arity is None else 1)
    return result


def _expression(x: Any) -> Expression:
    return x if isinstance(x, Expression) else Expression(number=number(x))


def _chained(op: Op, parts: Iterable[Expression]) -> Expression:
    return reduce(lambda x, y: apply(op, (x, y)), parts)


def parts_first(
    expressions: Iterable[Expression],
    parts: Callable[[Expression], Iterable[Expression]] = lambda e: e.operands,
) -> Iterator[Expression]:
    """The expressions and what they consist of, each once, after its own `parts`.

    There is no recursion, since an expression may be deeper than the stack.
    """
    done: set[int] = set()
    stack = list(expressions)
    while stack:
        e = stack[-1]
        if id(e) in done:
            stack.pop()
        elif missing := [part for part in parts(e) if id(part) not in done]:
            stack += missing
        else:
            done.add(id(e))
            yield e


ONE = Expression(number=1.0)
ZERO = Expression(number=0.0)


# --- writing --------------------------------------------------------------------------------------


def formula(
    node: Value,
    names: Mapping[Value, str | float],
    *,
    digits: int = 15,
    point: bool = True,
    spaced: bool = False,
    most: int | None = None,
) -> str:
    """The node's operation on its operands, as text: a·b, tanh(v1), w·x + b. "" for a leaf.

    `names` has the name of each operand, or the number that stands in its place, or a `Slot` for
    one. Numbers have so many `digits`, and where these are few a `point` as floats have it;
    `spaced` puts spaces around the dot of a product. A sum of more than `most` products, or an
    operation with more arguments, is written with the first three and the last.

    >>> a, b = Value(2.0), Value(-3.0)
    >>> formula(a * b, {a: "a", b: "b"}), formula(a - 1.5, {a: a.data}, digits=4)
    ('a·b', '2.0 - 1.5')
    """

    def spelled(operand: Value | float) -> _Written:
        what = names.get(operand, operand.data) if isinstance(operand, Value) else operand
        if isinstance(what, Slot):
            return what, 3
        if isinstance(what, str):
            return what, 9 if looks_like_a_name(what) else 0
        return _written_number(what, "text", digits, point)

    op, written = node.op, list(map(spelled, node.operands))
    if op is None:
        return ""
    if op is ops.affine_row:
        n = len(written) // 2
        pairs = zip(written[:n], written[n:-1], strict=True)
        terms = [write(ops.mul, pair, spaced=spaced) for pair in pairs]
        terms = first_and_last(terms, "…", most=most)
        if isinstance(bias := node.operands[-1], Value) or bias or not terms:
            terms.append(written[-1][0])
        return " + ".join(terms).replace(" + -", " - ")
    if op.arity is None:
        texts = [text for text, _ in written]
        written = [(text, 9) for text in first_and_last(texts, "…", most=most)]
    return write(op, written, spaced=spaced)


def write(
    op: Op, operands: Sequence[_Written], style: Style = "text", *, spaced: bool = False
) -> str:
    """`op` written with the operands, each a text and how tightly it binds (see `Op.binding`).

    >>> write(ops.mul, [("a", 9), ("-3.0", 3)]), write(ops.power, [("a + b", 1), ("2", 9)])
    ('a·(-3.0)', '(a + b)²')
    """
    template = _template(op, style)
    if spaced and style == "text":
        template = template.replace("·", " · ")
    if op.arity is None:
        joined = ", ".join(text for text, _ in operands)
        return _PLACEHOLDER.sub(lambda _: joined, template).translate(_BACK)
    by_name = dict(zip(op.arguments, operands, strict=True))

    def placed(match: re.Match[str]) -> str:
        caret, name = match.groups()
        if name not in by_name:
            return match[0]
        text, binding = by_name[name]
        if style == "text" and caret and re.fullmatch(r"-?\d+(\.0)?", text):
            return superscript(text.removesuffix(".0"))
        after = _needed_after(template[: match.end(1)].rstrip())
        rest = template[match.end() :].lstrip()
        before = _needed_before(rest)
        if isinstance(text, Slot) and (after > 0 or binding < before):
            return caret + text.join(IF_NEGATIVE)
        if (text.startswith("-") and after > 0) or binding < max(after, before):
            text = f"({text})" if style == "text" else rf"\left({text}\right)"
        return caret + text

    return _PLACEHOLDER.sub(placed, template).translate(_BACK)


# What stands in a template for the @ and · of an operation's name, which are none of its own.
_AWAY, _BACK = str.maketrans("@·", "\ue000\ue001"), str.maketrans("\ue000\ue001", "@·")
_PLACEHOLDER = re.compile(r"(\^?)@([^\W\d]\w*?)(?![^\W⁰¹²³⁴-⁹])")  # @x² is the square of x


@cache
def _template(op: Op, style: Style) -> str:
    """The op's template, whose name may have any characters."""
    call = ", ".join(f"@{argument}" for argument in op.arguments)
    if style == "text":
        name = printable(op.name).translate(_AWAY)
        return f"{name}({call})" if op.text == f"{op.name}({call})" else op.text
    # Where the author of an operation has not said how it is written in LaTeX, its name stands in
    # \operatorname, a macro that GitHub does not let through.
    macro = r"\operatorname{" + op.name.replace("_", r"\_")
    latex = op.latex.replace(macro, r"\mathrm{" + latex_text(op.name).translate(_AWAY))
    return latex.replace(r"\operatorname", r"\mathrm")


@cache
def _binding(op: Op, style: Style) -> float:
    template = _template(op, style)
    if op.binding == 9:
        return _shown(template)
    if re.match(r"@\w+ (?!\\cdot)\\?[a-z]+ @", template):  # a word between operands
        return min(op.binding, 1.9)
    # As text a / b·c would be read in two ways, and a mod b·c as LaTeX, too.
    return min(op.binding, 1.95) if style == "text" and " / " in op.text else op.binding


_ENCLOSED = re.compile(r"\([^()]*\)|\{[^{}]*\}|\[[^][]*\]|\|[^|]*\||⌊[^⌋]*⌋|‖[^‖]*‖|\\l.*\\r\w+")
_BY_SIGNS = (
    (r"^-|@\w+ *[-+±]|[-+±] *@| [-+] ", 1.0),
    ("/", 1.95),
    (r"[·*×]|\\cdot|\\times|^\\frac", 2.0),
    (r"@.+@| ([^\w\s]|\\[a-z]+) ", 1.0),  # of another sign nobody knows how tightly it binds
    # A power of a power, or of a root, needs parentheses.
    (r"^√|^\\sqrt|[⁰¹²³⁴-⁹!'^]$|\^\w$", 4.0),
)


def _shown(template: str) -> float:
    """How tightly it binds by what stands between its parts, where its row does not say so."""
    before = ""
    while template != before:
        before, template = template, _ENCLOSED.sub("", template)
    found = (binding for signs, binding in _BY_SIGNS if re.search(signs, template))
    return next(found, 9.0)


# How tightly an operand must bind after and before what stands in a template, to go without ().
_AFTER = dict.fromkeys(["", *"([{|,>"], 0.0) | {"+": 1.0, "·": 2.0, "t": 2.0, "/": 2.5}  # \cdot
_BEFORE = dict.fromkeys(["", *")]}|,>"], 0.0) | {
    "+": 1.0, "-": 1.0, **dict.fromkeys("^²³⁴⁵⁶⁷⁸⁹⁰¹⁻!", 4.5)
}  # fmt: skip


def _needed_after(before: str) -> float:
    if before.endswith("-"):
        return 1.5 if before.rstrip("-") else 1.95
    return _AFTER.get(before[-1:], 9.0)


def _needed_before(after: str) -> float:
    if after.startswith(r"\right"):
        return 0.0
    if re.match(r"\w|\\(?!cdot|times)[a-z]", after):  # -a mod b would be read in two ways
        return 3.5
    return _BEFORE.get(after[:1], 2.0)


def _written_number(x: float, style: Style, digits: int, point: bool = False) -> _Written:
    text = numeral(x, digits) if point and digits < 15 else concise(x, digits)
    if style == "latex":
        text = latex_numeral(x, digits)
    if text.startswith("-"):
        return text, 3
    return text, 2 if "cdot" in text else 4 if "^" in text else 9


_GAPS = {"text": "… {} more …", "latex": r"\underbrace{{\cdots}}_{{{}}}"}


def _terms(e: Expression, most: int | None, gap: str) -> list[tuple[Op, Expression]]:
    """The operands, or the terms of a sum, each with the op that joins it to the others.

    Of more than `most` these are the first three and the last, around how many are missing.
    """
    terms = []
    while e.op in _SUMS:
        terms.append((e.op, e.operands[1]))
        e = e.operands[0]
    terms = [(ops.add, e), *reversed(terms)] if terms else [(ops.add, x) for x in e.operands]
    return [
        (ops.add, Expression(x, name_in_latex=x, binding=9.0)) if isinstance(x, str) else x
        for x in first_and_last(terms, gap, most=most)
    ]


def _atom(e: Expression, style: Style) -> _Written:
    if e.number is not None:
        return _written_number(e.number, style, 15)
    text = e.name if style == "text" else e.name_in_latex or latex_name(e.name)
    return text, e.binding or (4 if "^" in text else 9) * looks_like_a_name(e.name)


# --- simplification -------------------------------------------------------------------------------


def _folded(op: Op, xs: Sequence[float]) -> float | None:
    """The number that the op makes of numbers; None where it is better written out.

    log(2) rather than 0.693147180559945, log(-2) rather than NaN, and products that underflow.
    """
    try:
        out = op.evaluate(xs)
    except MicrogradError:
        return None
    exact = _TINY <= abs(out) < math.inf
    if out == 0.0:
        exact = op not in _PRODUCTS or xs[0] == 0.0 or (xs[1] == 0.0 and op is ops.mul)
    short = op in _ARITHMETIC or len(f"{out:.15g}") < 10
    return out if short and exact else None


def _simplified(op: Op, operands: list[Expression]) -> Expression:
    op = _ON_REALS.get(op, op)
    x, y = operands[0], operands[-1]
    a, b = x.number, y.number
    numbers = [e.number for e in operands if e.number is not None]
    if len(numbers) == len(operands):
        folded = _folded(op, numbers)
        return apply(op, operands) if folded is None else Expression(number=folded)
    if op is ops.affine_row:
        n = len(operands) // 2
        return sum(map(operator.mul, operands[:n], operands[n:-1]), ZERO) + y
    if op in _SUMS and a == 0.0:
        return y if op is ops.add else -y
    if op in _SUMS and b == 0.0:
        return x
    if op is ops.add and (y.op is ops.neg or (b is not None and b < 0.0)):
        return x - -y
    if op is ops.sub and y.op is ops.neg:
        return x + -y
    if op is ops.neg and x.op is ops.neg:
        return x.operands[0]
    if op is ops.neg and x.op is ops.sub:
        return x.operands[1] - x.operands[0]
    if op is ops.mul:
        return _product(x, y)
    if op in (ops.div, ops.power) and b == 1.0:
        return x
    if op is ops.power and b == 0.0:
        return ONE
    if op is ops.pow_slope and b is not None:
        return y * x ** (b - 1.0)
    return apply(op, operands)


def _coefficient(x: Expression) -> tuple[Expression, float]:
    """What `x` is without the sign and the number in front, and that number."""
    factor = 1.0
    if x.op is ops.neg:
        factor, x = -1.0, x.operands[0]
    if x.op is ops.mul and x.operands[0].number is not None and x.operands[1].number is None:
        factor, x = factor * x.operands[0].number, x.operands[1]
    return (x, factor) if x.number is None else (ONE, factor * x.number)


def _product(x: Expression, y: Expression) -> Expression:
    """x·y with one number, in front, equal factors as powers, and one fraction at most."""
    number = 1.0
    factors: list[tuple[Expression, float]] = []  # and 1 above a fraction bar, -1 below
    stack = [(y, 1.0), (x, 1.0)]
    while stack:
        e, sign = stack.pop()
        if e.op is ops.neg:
            number = -number
            stack.append((e.operands[0], sign))
        elif e.op is ops.mul or e.op is ops.div:
            left, right = e.operands
            stack += [(right, sign if e.op is ops.mul else -sign), (left, sign)]
        elif e.number is None or (sign < 0.0 and e.number == 0.0):
            factors.append((e, sign))
        else:
            folded = _folded(ops.mul if sign > 0.0 else ops.div, (number, e.number))
            factors += [(e, sign)] if folded is None else []
            number = number if folded is None else folded
    if number == 0.0:
        return ZERO
    top, bottom = _powers(factors)
    if abs(number) != 1.0 or not top:
        top.insert(0, Expression(number=abs(number)))
    product = _chained(ops.mul, top)
    if bottom:
        product = apply(ops.div, (product, _chained(ops.mul, bottom)))
    return -product if number < 0.0 else product


def _powers(
    factors: list[tuple[Expression, float]],
) -> tuple[list[Expression], list[Expression]]:
    """The factors above and below a fraction bar, equal ones in one power."""
    pairs = []
    for base, exponent in sorted(factors, key=lambda factor: -factor[1]):
        if base.op is ops.power and (n := base.operands[1].number or 0.0) > 0.0 and n.is_integer():
            base, exponent = base.operands[0], exponent * n
        pairs.append((base, exponent))
    result: tuple[list[Expression], list[Expression]] = ([], [])
    for base, n in _gathered(pairs):
        if n:
            power = (base, _expression(abs(n)))
            result[n < 0.0].append(base if abs(n) == 1.0 else apply(ops.power, power))
    return result


def _gathered(pairs: Iterable[tuple[Expression, float]]) -> list[tuple[Expression, float]]:
    """Each expression once, in the order of first appearance, with the sum of its numbers."""
    found: dict[object, tuple[Expression, float]] = {}
    for e, x in pairs:
        first, before = found.get(e.key, (e, 0.0))
        found[e.key] = first, before + x
    return list(found.values())


def total(terms: Sequence[Expression]) -> Expression:
    """The sum, in the order of first appearance, with equal terms counted: a + b + a is 2·a + b."""
    if len(terms) < 2:
        return terms[0] if terms else ZERO
    products = [count * term for term, count in _gathered(map(_coefficient, terms))]
    # b - a, rather than -a + b.
    first = next((i for i, product in enumerate(products) if _coefficient(product)[1] > 0.0), 0)
    return sum([products[first], *products[:first], *products[first + 1 :]], ZERO)
