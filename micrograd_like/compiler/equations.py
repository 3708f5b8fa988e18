"""A program's source as LaTeX, one equation a statement: Z_1 = X W_1^T + b_1.

The source is Python's; its syntax tree is written the way the documents on backpropagation write:
a product of matrices without a sign, elementwise products with ⊙, masks as indicators.
"""

from __future__ import annotations

import ast
import re

from ..views.names import latex_numeral

_FUNCTIONS = {
    "tanh": r"\tanh", "exp": r"\exp", "log": r"\ln", "sin": r"\sin", "cos": r"\cos",
    "tan": r"\tan", "sinh": r"\sinh", "cosh": r"\cosh", "arctan": r"\arctan",
    "arcsin": r"\arcsin", "arccos": r"\arccos", "minimum": r"\min", "sigmoid_": r"\sigma",
}  # fmt: skip
_SYMBOLS = {"values": r"\theta", "gradient": r"\nabla_{\theta}"}
_SKIPPED = {"reshape", "ravel"}


def equations(source: str) -> str:
    """An `aligned` environment: what the program computes, without its copying in and out."""
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    lines = []
    for statement in function.body:
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            continue
        if _is_copy(statement.value):
            continue
        left, (right, _) = _name(statement.targets[0].id), _written(statement.value)
        lines.append(f"{left} &= {right}")
    rows = " \\\\\n".join(lines)
    return f"\\begin{{aligned}}\n{rows}\n\\end{{aligned}}"


def _is_copy(value: ast.expr) -> bool:
    """Whether it only takes numbers out of an argument, or makes room for results."""
    names = {node.id for node in ast.walk(value) if isinstance(node, ast.Name)}
    match value:
        case ast.Dict():
            return True
        case ast.Call(func=ast.Attribute(attr="empty" | "ones" | "hstack" | "column_stack")):
            return True
    arithmetic = any(isinstance(node, ast.BinOp) for node in ast.walk(value))
    return not arithmetic and bool(names & {"values", "examples"})


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


# The written form, and whether it can be a factor as it is.
_Written = tuple[str, bool]


def _written(node: ast.expr) -> _Written:
    match node:
        case ast.Name(id=name):
            return _name(name), True
        case ast.Constant(value=float() | int() as value):
            return latex_numeral(float(value), 6), True
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return f"-{_factor(operand)}", False
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return f"{_written(left)[0]} + {_written(right)[0]}", False
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return f"{_written(left)[0]} - {_factor(right)}", False
        case ast.BinOp(left=left, op=ast.MatMult(), right=right):
            return _product(left, right), True
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            if isinstance(left, ast.UnaryOp) and isinstance(left.operand, ast.Constant):
                return f"-{_factor(left.operand)}\\,{_factor(right)}", False
            if isinstance(left, ast.Constant):
                return f"{_factor(left)}\\,{_factor(right)}", True
            if _is_column(left):  # an outer product
                return f"{_factor(left)}\\, {_factor(right)}^\\top", True
            return rf"{_factor(left)} \odot {_factor(right)}", True
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return rf"\frac{{{_written(left)[0]}}}{{{_written(right)[0]}}}", True
        case ast.Compare(left=left, ops=[ast.Gt()], comparators=[right]):
            return rf"\mathbf{{1}}[{_written(left)[0]} > {_written(right)[0]}]", True
        case ast.Attribute(value=value, attr="T"):
            return f"{_factor(value)}^\\top", True
        case ast.Subscript(value=value, slice=index):
            return _subscript(value, index)
        case ast.Call():
            return _call(node)
    return rf"\texttt{{{_plain(ast.unparse(node))}}}", True


def _product(left: ast.expr, right: ast.expr) -> str:
    """A matrix product without a sign; with the vector of ones on its left, the column sums."""
    x, y = _factor(left), _factor(right)
    if "odot" in x and not x.startswith(r"\left("):
        x = rf"\left({x}\right)"
    if x == y:
        return rf"\lVert {x} \rVert^2"
    if isinstance(left, ast.Name) and left.id.startswith("ones"):
        return rf"\mathbf{{1}}^\top {y}"
    return f"{x}\\, {y}"


def _is_column(node: ast.expr) -> bool:
    """Whether it is v[:, None]."""
    return (
        isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Tuple)
        and isinstance(node.slice.elts[-1], ast.Constant)
        and node.slice.elts[-1].value is None
    )


def _factor(node: ast.expr) -> str:
    text, is_factor = _written(node)
    return text if is_factor and not text.startswith("-") else rf"\left({text}\right)"


def _subscript(value: ast.expr, index: ast.expr) -> _Written:
    parts = index.elts if isinstance(index, ast.Tuple) else [index]
    if all((isinstance(p, ast.Slice) and p.lower is None and p.upper is None) or
           (isinstance(p, ast.Constant) and p.value is None) for p in parts):  # fmt: skip
        return _written(value)  # broadcasting
    shown = ", ".join(_plain(ast.unparse(part)) for part in parts)
    return f"{_factor(value)}[{shown}]", True


def _call(node: ast.Call) -> _Written:
    arguments = [_written(a)[0] for a in node.args]
    match node.func:
        case ast.Attribute(value=ast.Name(id="np" | "jnp"), attr="maximum") if arguments[1:] == [
            "0"
        ]:
            return rf"\max\left(0, {arguments[0]}\right)", True
        case ast.Attribute(value=ast.Name(id="np" | "jnp"), attr="heaviside"):
            return rf"\mathbf{{1}}[{arguments[0]} > 0]", True
        case ast.Attribute(value=ast.Name(id="np" | "jnp"), attr=name):
            pass
        case ast.Attribute(value=ast.Attribute(value=ast.Name(id="jax")), attr=name):
            name = {"sigmoid": "sigmoid_"}.get(name, name)
        case ast.Attribute(value=value, attr="sum"):
            return rf"\textstyle\sum {_factor(value)}", False
        case ast.Attribute(value=value, attr=name) if name in _SKIPPED:
            return _written(value)
        case ast.Attribute(value=value, attr="take"):
            return f"{_factor(value)}[{arguments[0]}]", True
        case ast.Name(id=name):
            pass
        case _:
            return rf"\texttt{{{_plain(ast.unparse(node))}}}", True
    plain = name.rstrip("_").replace("_", r"\_")
    symbol = _FUNCTIONS.get(name, rf"\mathrm{{{plain}}}")
    return rf"{symbol}\left({', '.join(arguments)}\right)", True


def _plain(text: str) -> str:
    return re.sub(r"([_#%&${}])", r"\\\1", text)
