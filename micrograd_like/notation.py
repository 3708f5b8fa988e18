"""How numbers, nodes and operations are written for people, as text and as LaTeX.

An `Expression` is what the rows of the table make of names instead of numbers: applied to
expressions, an op gives an expression, and so do its partials. Each row says how it is written, in
a template; the parentheses follow from what stands beside a placeholder there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Final, Literal

from . import ops
from .engine import Value
from .errors import MicrogradError, OperandError
from .numerics import number
from .ops import Op

Style = Literal["text", "latex"]

_PLACEHOLDER = re.compile(r"@([A-Za-z_]\w*)", re.ASCII)
_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta",
    "η": "eta", "θ": "theta", "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu",
    "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau", "υ": "upsilon", "φ": "phi",
    "χ": "chi", "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta",
    "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Υ": "Upsilon", "Φ": "Phi", "Ψ": "Psi",
    "Ω": "Omega",
}  # fmt: skip
_LATEX_ESCAPES = {
    "\\": r"\backslash ", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
    "_": r"\_", "^": r"\hat{}", "~": r"\sim ", "<": r"{<}", ">": r"{>}", " ": r"\ ",
}  # fmt: skip


def numeral(x: float, digits: int = 4) -> str:
    """`x` to so many significant digits, and as a float: 2.0, 0.7071, -1.5e-07.

    >>> numeral(2.0), numeral(1 / 3), numeral(1e-5), numeral(12345678.0)
    ('2.0', '0.3333', '1e-05', '1.235e+07')
    """
    text = f"{x:.{digits}g}"
    return text if any(c in text for c in ".en") else f"{text}.0"


def latex_numeral(x: float, digits: int = 4) -> str:
    r"""The same in LaTeX: `1.5 \cdot 10^{-7}`; integers lose their point."""
    if math.isnan(x):
        return r"\mathrm{NaN}"
    if math.isinf(x):
        return r"\infty" if x > 0.0 else r"-\infty"
    mantissa, _, exponent = f"{x:.{digits}g}".partition("e")
    return rf"{mantissa} \cdot 10^{{{int(exponent)}}}" if exponent else mantissa


def names(nodes: Sequence[Value]) -> dict[Value, str]:
    """A name for each node: its label, or v1, v2, ... where it has none.

    Of nodes with equal labels the first keeps it, the others get a number after it.
    """
    labels = {node.label for node in nodes}
    taken: set[str] = set()
    result: dict[Value, str] = {}
    counts: dict[str, int] = {}
    for node in nodes:
        stem = node.label or "v"
        name = node.label
        while not name or name in taken:
            counts[stem] = counts.get(stem, 0 if stem == "v" and not node.label else 1) + 1
            name = f"{stem}{'_' if node.label else ''}{counts[stem]}"
            if name in labels:
                name = ""
        taken.add(name)
        result[node] = name
    return result


def latex_name(name: str) -> str:
    r"""A name as a mathematician sets it: w_{10}, \alpha, w^{[0]}_{1,2}; anything else escaped.

    >>> print(latex_name("w10"), latex_name("alpha_1"), latex_name("layers[0].neurons[1].w[2]"))
    w_{10} \alpha_{1} w^{[0]}_{1,2}
    """
    path = re.fullmatch(
        r"(?:.*\.)?layers\[(\d+)\]\.neurons\[(\d+)\]\.(\w+?)(?:\[(\d+)\])?", name, re.ASCII
    )
    if path:
        layer, neuron, stem, place = path.groups()
        index = neuron if place is None else f"{neuron},{place}"
        return f"{_latex_stem(stem)}^{{[{layer}]}}_{{{index}}}"
    indexed = re.fullmatch(
        r"([A-Za-z]+|[^\W\d_])_?((?:\d+|\[\d+\])(?:[_,]?\d+|\[\d+\])*)?('*)", name
    )
    if indexed:
        stem, index, primes = indexed.groups()
        parts = re.findall(r"\d+", index or "")
        return _latex_stem(stem) + primes + (f"_{{{','.join(parts)}}}" if parts else "")
    head, _, tail = name.rpartition(".")
    if head and re.fullmatch(r"\w+(\[\d+\])?", tail, re.ASCII):
        return rf"{latex_name(tail)}^{{\mathrm{{{_escape(head)}}}}}"
    return rf"\mathrm{{{_escape(name)}}}"


def _latex_stem(stem: str) -> str:
    stem = _GREEK.get(stem, stem)
    if stem in _GREEK.values():
        return "\\" + stem
    return stem if len(stem) == 1 else rf"\mathrm{{{_escape(stem)}}}"


def _escape(text: str) -> str:
    return "".join(_LATEX_ESCAPES.get(c, c if c.isprintable() else "?") for c in text)


class Expression:
    """A name, a number, or a row of the table applied to expressions; immutable.

    Constants simplify as it is made: 1·x is x, x + 0 is x, x·x is x², signs move outwards.
    """

    __slots__ = ("name", "number", "op", "operands")

    op: Final[Op | None]
    operands: Final[tuple[Expression, ...]]
    name: Final[str]
    number: Final[float | None]

    def __init__(
        self,
        name: str = "",
        *,
        number: float | None = None,
        op: Op | None = None,
        operands: tuple[Expression, ...] = (),
    ) -> None:
        self.name = name
        self.number = number
        self.op = op
        self.operands = operands

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

    def written(self, style: Style) -> str:
        """The expression as text or LaTeX. A shared sub-expression is written each time."""
        done: dict[int, tuple[str, float]] = {}
        stack = [self]
        while stack:  # parts first, without recursion
            expression = stack[-1]
            missing = [part for part in expression.operands if id(part) not in done]
            if missing:
                stack += missing
                continue
            stack.pop()
            parts = [done[id(part)] for part in expression.operands]
            done[id(expression)] = _written(expression, parts, style)
        return done[id(self)][0]

    def __repr__(self) -> str:
        return f"<Expression {self.text}>"


def _written(e: Expression, parts: list[tuple[str, float]], style: Style) -> tuple[str, float]:
    if e.op is not None:
        return write(e.op, parts, style), _binding(e.op, style)
    if e.number is None:
        return (e.name if style == "text" else latex_name(e.name)), 9
    if style == "latex":
        text = latex_numeral(e.number, 15)
        return text, 2 if "cdot" in text else 9
    return f"{e.number:.15g}", 9


def _binding(op: Op, style: Style) -> float:
    # In LaTeX a power of a power needs parentheses even where the row is written as a call: e^{x}.
    if style == "latex" and re.search(r"\^\{[^{}]*\}$", op.latex):
        return min(op.binding, 4)
    return op.binding


def apply(op: Op, operands: Sequence[Expression]) -> Expression:
    """`op` of the operands as it stands, not simplified; affine as the sum that it is."""
    return Expression(op=op, operands=tuple(operands))


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


def write(op: Op, operands: Sequence[tuple[str, float]], style: Style = "text") -> str:
    """`op` written with the operands, each a text and how tightly it binds (see `Op.binding`).

    >>> write(ops.mul, [("a", 9), ("-3.0", 3)]), write(ops.power, [("a + b", 1), ("2", 9)])
    ('a·(-3.0)', '(a + b)²')
    """
    template = op.text if style == "text" else op.latex
    if op.arity is None:
        if "@" not in template:
            return _write_sum_of_products(operands, style)
        joined = ", ".join(text for text, _ in operands)
        return _PLACEHOLDER.sub(lambda _: joined, template)
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
            pieces.append(text.removesuffix(".0").translate(_SUPERSCRIPTS))
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
        return 1.5 if before.rstrip("-") else 2
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


def _write_sum_of_products(operands: Sequence[tuple[str, float]], style: Style) -> str:
    n = len(operands) // 2
    terms = [write(ops.mul, [w, x], style) for w, x in zip(operands, operands[n:-1], strict=False)]
    *_, (bias, _) = operands
    if bias not in ("0", "0.0") or not terms:
        terms.append(bias)
    return " + ".join(terms).replace(" + -", " - ")


def _expression(x: Any) -> Expression:
    return x if isinstance(x, Expression) else Expression(number=number(x))


def _simplified(op: Op, operands: list[Expression]) -> Expression:
    x = operands[0]
    y = operands[-1]
    a, b = x.number, y.number
    if all(operand.number is not None for operand in operands):
        try:
            return Expression(number=op.evaluate([operand.number or 0.0 for operand in operands]))
        except MicrogradError:
            return apply(op, operands)
    match op.name:
        case "add":
            if a == 0.0 or b == 0.0:
                return y if a == 0.0 else x
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
        case "mul" | "damp":
            return _product(x, y)
        case "div" | "ieee_div":
            if b == 1.0:
                return x
            if x.op is ops.neg or y.op is ops.neg:
                sign = (x.op is ops.neg) != (y.op is ops.neg)
                quotient = ops.div(_unsigned(x), _unsigned(y))
                return -quotient if sign else quotient
            return apply(ops.div, operands)
        case "pow" | "ieee_pow":
            if b == 1.0:
                return x
            return Expression(number=1.0) if b == 0.0 else apply(ops.power, operands)
        case "ieee_log":
            return apply(ops.log, operands)
        case "pow_slope" if b is not None:
            return y * x ** (b - 1.0)
        case "where" if x.number is not None:
            return operands[1] if x.number else operands[2]
    return apply(op, operands)


def _unsigned(x: Expression) -> Expression:
    return x.operands[0] if x.op is ops.neg else x


def _product(x: Expression, y: Expression) -> Expression:
    for one, other in ((x, y), (y, x)):
        if one.number == 0.0:
            return one
        if one.number == 1.0:
            return other
        if one.number is not None and one.number < 0.0:
            return -(Expression(number=-one.number) * other)
        if one.op is ops.neg:
            return -(one.operands[0] * other)
    if y.number is not None:
        x, y = y, x  # numbers come first
    if x.number is not None and y.op is ops.mul and y.operands[0].number is not None:
        return Expression(number=x.number * y.operands[0].number) * y.operands[1]
    if x is y or (x.name and x.name == y.name):
        return x ** Expression(number=2.0)
    return apply(ops.mul, (x, y))
