"""A program as LaTeX, one equation a statement: Z_1 = X W_1^T + b_1.

The expressions that the printers make are written the way the documents on backpropagation write:
a product of matrices without a sign, elementwise products with ⊙, masks as indicators.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..views.notation import latex_numeral
from .expressions import (
    Assignment,
    Call,
    Expression,
    Item,
    Method,
    Minus,
    Name,
    Number,
    Operation,
    index_text,
    product,
    total,
)
from .tape import Sum, Tape, word

_FUNCTIONS = {
    "tanh": r"\tanh", "exp": r"\exp", "log": r"\ln", "sin": r"\sin", "cos": r"\cos",
    "tan": r"\tan", "sinh": r"\sinh", "cosh": r"\cosh", "arctan": r"\arctan",
    "arcsin": r"\arcsin", "arccos": r"\arccos", "minimum": r"\min", "sigmoid": r"\sigma",
}  # fmt: skip
_SYMBOLS = {"values": r"\theta", "gradient": r"\nabla_{\theta}"}


def equations(assignments: Sequence[Assignment]) -> str:
    """An `aligned` environment: what the program computes, without its copying in and out."""
    rows = " \\\\\n".join(
        f"{_written(each.target)} &= {_written(each.value)}"
        for each in assignments
        if not each.moves
    )
    return f"\\begin{{aligned}}\n{rows}\n\\end{{aligned}}"


def of_tape(tape: Tape, names: Sequence[str]) -> str:
    """The assignments of the tape, over single numbers; `names` are those of the inputs."""
    every = [*names, *(f"t{i + 1}" for i in range(len(tape.assignments)))]

    def operand(x: int | float) -> Expression:
        if isinstance(x, int):
            return Name(every[x])
        return Minus(Number(-x)) if x < 0.0 else Number(x)

    def scaled(c: float, *numbers: int) -> Expression:
        factors = [*[Number(abs(c))] * (abs(c) != 1.0), *map(operand, numbers)]
        return Minus(product(factors)) if c < 0.0 else product(factors)

    lines = []
    for name, assignment in zip(every[tape.inputs :], tape.assignments, strict=True):
        if isinstance(assignment, Sum):
            terms = [scaled(c, a) for a, c in assignment.linear.items()]
            terms += [scaled(c, *pair) for pair, c in assignment.products.items()]
            if assignment.constant != 0.0 or not terms:
                terms.append(operand(assignment.constant))
            value = total(terms)
        else:
            value = Call(word(assignment.op.name), tuple(map(operand, assignment.args)))
        lines.append(Assignment(Name(name), value))
    return equations(lines)


def _name(name: str) -> str:
    """dW1 as dW_1, dt7_2 as dt_{7,2}, a longer name upright."""
    if name.startswith("ones"):
        return r"\mathbf{1}"
    if name in _SYMBOLS:
        return _SYMBOLS[name]
    match = re.fullmatch(r"(d?)([^\W\d_]+)(\d*)(?:_(\d+(?:_\d+)*))?", name)
    if not match:
        return rf"\mathrm{{{name.replace('_', chr(92) + '_')}}}"
    d, stem, *indices = match.groups()
    index = ",".join(i.replace("_", ",") for i in indices if i)
    letter = stem if len(stem) == 1 else rf"\mathrm{{{stem}}}"
    return f"{d}{letter}" + (f"_{{{index}}}" if index else "")


def _written(expression: Expression) -> str:
    match expression:
        case Name(name):
            return _name(name)
        case Number(value):
            return latex_numeral(value, 6)
        case Minus(Operation("*") as operand):
            return f"-{_written(operand)}"
        case Minus(operand):
            return f"-{_factor(operand)}"
        case Operation("+", (first, *rest)):
            signs = (f" - {_factor(t.operand)}" if isinstance(t, Minus) else f" + {_written(t)}"
                     for t in rest)  # fmt: skip
            return _written(first) + "".join(signs)
        case Operation("*", operands):
            return _product(operands)
        case Operation("/", (left, right)):
            return rf"\frac{{{_written(left)}}}{{{_written(right)}}}"
        case Operation("@", (left, right)):
            return _matrix_product(left, right)
        case Operation(">", (left, right)):
            return rf"\mathbf{{1}}[{_written(left)} > {_written(right)}]"
        case Item(array, index):
            if all(part is None or part == slice(None) for part in index):
                return _written(array)  # broadcasting
            return f"{_factor(array)}[{_plain(index_text(index))}]"
        case Method(array, "T" | "transpose"):
            return f"{_factor(array)}^\\top"
        case Method(array, "sum"):
            return rf"\textstyle\sum {_factor(array)}"
        case Method(array, "take", places):
            return f"{_factor(array)}[{_name(places)}]"
        case Method(array):  # of another shape
            return _written(array)
        case Call(function, arguments):
            return _call(function.rpartition(".")[2].rstrip("_"), arguments)
    raise ValueError(f"this is no part of an equation: {expression}")


def _factor(expression: Expression) -> str:
    """What can stand beside a sign of multiplication: in parentheses if it is a sum."""
    written = _written(expression)
    match expression:
        case Minus() | Operation("+") | Method(_, "sum"):
            return rf"\left({written}\right)"
    return written


def _product(factors: Sequence[Expression]) -> str:
    """A number before the rest; a column before a row for their outer product; else ⊙."""
    first, *rest = factors
    signs = [r" \odot "] * len(rest)
    last = ""
    if isinstance(first, Number):
        signs[0] = r"\,"
    elif isinstance(first, Item) and first.index[-1] is None:
        signs[0], last = r"\, ", r"^\top"
    written = f"{_factor(first)}{signs[0]}{_factor(rest[0])}{last}"
    return written + "".join(f"{s}{_factor(x)}" for s, x in zip(signs[1:], rest[1:], strict=True))


def _matrix_product(left: Expression, right: Expression) -> str:
    """A matrix product without a sign; with the vector of ones on its left, the column sums."""
    x, y = _factor(left), _factor(right)
    if (
        isinstance(left, Operation)
        and left.sign == "*"
        and not isinstance(left.operands[0], Number)
    ):
        x = rf"\left({x}\right)"
    if x == y:
        return rf"\lVert {x} \rVert^2"
    if isinstance(left, Name) and left.text.startswith("ones"):
        return rf"\mathbf{{1}}^\top {y}"
    return f"{x}\\, {y}"


def _call(name: str, arguments: Sequence[Expression]) -> str:
    if name == "ones":
        return r"\mathbf{1}"
    written = [_written(argument) for argument in arguments]
    if name == "outer":
        return rf"{_factor(arguments[0])}\, {written[1]}"
    if name == "maximum" and written[1:] == ["0"]:
        return rf"\max\left(0, {written[0]}\right)"
    if name == "heaviside":
        return rf"\mathbf{{1}}[{written[0]} > 0]"
    symbol = _FUNCTIONS.get(name, rf"\mathrm{{{name.replace('_', chr(92) + '_')}}}")
    return rf"{symbol}\left({', '.join(written)}\right)"


def _plain(text: str) -> str:
    return re.sub(r"([_#%&${}])", r"\\\1", text)
