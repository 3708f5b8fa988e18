"""A program as LaTeX, one equation a statement: Z_1 = X W_1^T + b_1.

The expressions that the printers make are written the way the documents on backpropagation write:
a product of matrices without a sign, elementwise products with ⊙, steps as indicators.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from ..errors import InputError
from ..views.names import latex_numeral
from . import expressions as ex
from .expressions import Assignment, Expression

_FUNCTIONS = {
    "tanh": r"\tanh", "exp": r"\exp", "log": r"\ln", "sin": r"\sin", "cos": r"\cos",
    "tan": r"\tan", "sinh": r"\sinh", "cosh": r"\cosh", "arctan": r"\arctan",
    "arcsin": r"\arcsin", "arccos": r"\arccos", "minimum": r"\min", "sigmoid": r"\sigma",
}  # fmt: skip
_SYMBOLS = {"values": r"\theta", "gradient": r"\nabla_{\theta}"}


def equations(assignments: Sequence[Assignment] | None) -> str:
    """An `aligned` environment: what the program computes, without its copying in and out.

    Raises InputError for loops and for single numbers, which have no such assignments.
    """
    if assignments is None:
        raise InputError("this is no program of equations: compile it with backend='numpy'")
    rows = " \\\\\n".join(
        f"{_written(each.target)} &= {_written(each.value)}"
        for each in assignments
        if not each.moves
    )
    return f"\\begin{{aligned}}\n{rows}\n\\end{{aligned}}"


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


def _written(x: Expression) -> str:
    match x:
        case ast.Name(name):
            return _name(name)
        case ast.Constant(float() | int() as value):
            return latex_numeral(float(value), 6)
        case ast.UnaryOp(ast.USub(), ast.BinOp(_, ast.Mult()) as operand):
            return f"-{_written(operand)}"
        case ast.UnaryOp(ast.USub(), operand):
            return f"-{_factor(operand)}"
        case ast.BinOp(left, ast.Add(), right):
            return f"{_written(left)} + {_written(right)}"
        case ast.BinOp(left, ast.Sub(), right):
            return f"{_written(left)} - {_factor(right)}"
        case ast.BinOp(left, ast.MatMult(), right):
            return _matrix_product(left, right)
        case ast.BinOp(ast.UnaryOp(ast.USub(), left), ast.Mult(), right):
            return f"-{_product(left, right)}"
        case ast.BinOp(left, ast.Mult(), right):
            return _product(left, right)
        case ast.BinOp(left, ast.Div(), right):
            return rf"\frac{{{_written(left)}}}{{{_written(right)}}}"
        case ast.Attribute(array, "T") | ast.Call(ast.Attribute(array, "transpose")):
            return f"{_factor(array)}^\\top"
        case ast.Subscript(array) if ex.is_broadcast(x):
            return _written(array)
        case ast.Subscript(array):
            return f"{_factor(array)}[{_plain(ex.index_text(x))}]"
        case ast.Call(ast.Attribute(array, "sum")):
            return rf"\textstyle\sum {_factor(array)}"
        case ast.Call(ast.Attribute(array, "take"), (places,)):
            return f"{_factor(array)}[{_written(places)}]"
        case ast.Call(ast.Attribute(array, "reshape" | "ravel")):
            return _written(array)
        case ast.Call(ast.Attribute(_, "concatenate"), (ast.List(rows), *_)):
            return rf"\left[{', '.join(map(_written, rows))}\right]^\top"
        case ast.Call(ast.Name(name) | ast.Attribute(_, name), arguments, []):
            return _call(name.rstrip("_"), arguments)
    return rf"\texttt{{{_plain(ex.text(x))}}}"


def _factor(x: Expression) -> str:
    """What can stand beside a sign of multiplication: in parentheses if it is a sum."""
    written = _written(x)
    match x:
        case ast.UnaryOp() | ast.BinOp(_, ast.Add() | ast.Sub()):
            return rf"\left({written}\right)"
        case ast.BinOp(ast.UnaryOp(), ast.Mult()) | ast.Call(ast.Attribute(_, "sum")):
            return rf"\left({written}\right)"
        case ast.Compare() | ast.BinOp(_, ast.Pow() | ast.Mod() | ast.FloorDiv()):
            return rf"\left({written}\right)"
    return written


def _product(left: Expression, right: Expression) -> str:
    """A number before the rest; a column before a row for their outer product; else ⊙."""
    x, y = _factor(left), _factor(right)
    if isinstance(left, ast.Constant):
        return f"{x}\\,{y}"
    if ex.is_broadcast(left):
        return f"{x}\\, {y}^\\top"
    return rf"{x} \odot {y}"


def _matrix_product(left: Expression, right: Expression) -> str:
    """A matrix product without a sign; with the vector of ones on its left, the column sums."""
    x, y = _factor(left), _factor(right)
    if "odot" in x and not x.startswith(r"\left("):
        x = rf"\left({x}\right)"
    if x == y:
        return rf"\lVert {x} \rVert^2"
    if ex.has_name(left, "ones"):
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
