"""A program as LaTeX, one equation a statement: Z_1 = X W_1^T + b_1.

The expressions that the printers make are written the way the documents on backpropagation write:
a product of matrices without a sign, elementwise products with ⊙, steps as indicators.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from copy import deepcopy
from itertools import count

from ..errors import InputError
from ..views.names import latex_numeral
from . import expressions as ex
from .expressions import Assignment, Expression, Source

_FUNCTIONS = {
    "tanh": r"\tanh", "exp": r"\exp", "log": r"\ln", "sin": r"\sin", "cos": r"\cos",
    "tan": r"\tan", "sinh": r"\sinh", "cosh": r"\cosh", "arctan": r"\arctan",
    "arcsin": r"\arcsin", "arccos": r"\arccos", "minimum": r"\min", "sigmoid": r"\sigma",
}  # fmt: skip
_SYMBOLS = {"values": r"\theta", "gradient": r"\nabla_{\theta}"}


def equations(source: Source | None) -> str:
    """An `aligned` environment: what the program computes, without its copying in and out.

    The gradient's parts and the loss are equations where they are computed as they are put out.
    Raises InputError for loops and for single numbers, which have no such assignments.
    """
    if source is None:
        raise InputError("this is no program of equations: compile it with backend='numpy'")
    assignments = [*source.assignments, *_results(source)]
    parts = [part for each in assignments for part in (each.target, each.value)]
    names = {x.id for part in parts for x in ast.walk(part) if isinstance(x, ast.Name)}
    readable, written = _Readable(names, source.axes), []
    added = [deepcopy(each.value) for each in assignments if each.operator == "+="]
    for each in assignments:
        value = deepcopy(each.value)
        if added and ex.text(each.target) == "gradient":  # so far the decay of all weights
            value = ex.total([value, ex.call("np.concatenate", ast.List(added))])
        if isinstance(value, ast.Subscript) and readable.is_column(value):
            value = value.value  # a column alone is a vector
        target, value = readable.visit(deepcopy(each.target)), readable.visit(value)
        if not each.moves:
            written.append(f"{_written(target)} &= {_written(value)}")
    rows = " \\\\\n".join(written)
    return f"\\begin{{aligned}}\n{rows}\n\\end{{aligned}}"


def _results(source: Source) -> Iterator[Assignment]:
    """What is computed where results are put together, as assignments of its own.

    In a step a part of the gradient is named by its parameter, which stands at the same place among
    the values, or with JAX in a dict; else it is that part of the gradient.
    """
    assigned = {ex.text(each.target): each.value for each in source.assignments}
    named = {ex.text(_unshaped(value)): name for name, value in assigned.items()}
    given = "|".join(name for text, name in named.items() if text.startswith("values"))
    is_step = "," in source.arguments
    for each in source.assignments:
        parts: list[tuple[str, Expression, Expression]] = []  # parameter, place, value
        match each.target, each.value:
            case ast.Name("gradient"), ast.Dict(keys, values):
                for key, value in zip(filter(None, keys), values, strict=True):
                    name = ast.literal_eval(key)
                    place = ex.item(each.target, ex.name(name))
                    parts.append((name, place, assigned.get(f"d_{name}_", value)))
            case ast.Name("gradient"), ast.Call() | ast.Subscript():
                if not ex.text(each.value).startswith("np.empty"):
                    parts.append(("", each.target, each.value))
            case ast.Subscript(), value if ex.text(each.target).startswith("gradient["):
                where = ex.text(_unshaped(each.target)).replace("gradient", "values", 1)
                parts.append((named.get(where, "") if is_step else "", each.target, value))
        for name, place, value in parts if each.moves and each.operator == "=" else ():
            taken = _taken(value)
            adjoint = rf"d({name or given})(_\d+)?"
            if not taken or (is_step and not re.fullmatch(adjoint, taken)):
                target = ex.name(f"d{name}") if name and f"d{name}" not in assigned else place
                yield Assignment(target, value)
    for value in source.results[:1]:
        if isinstance(value, ast.BinOp):  # the mean over the examples
            name = next(new for n in count() if (new := f"loss{'_' * n}") not in assigned)
            yield Assignment(ex.name(name), value)


def _taken(x: Expression) -> str:
    """The array of which it is the whole or a part, if it is nothing else."""
    match x := _unshaped(x):
        case ast.Name(name):
            return name
        case ast.Subscript(array) | ast.Attribute(array, "T"):
            return _taken(array)
        case ast.Call(ast.Attribute(array, "transpose" | "take")) if not _is_library(array):
            return _taken(array)
        case ast.Call(ast.Attribute(_, "hstack"), [ast.List(parts)]):
            return " ".join(map(_taken, parts)) if all(map(_taken, parts)) else ""
    return ""


class _Readable(ast.NodeTransformer):
    """Says what a program says by axes and names as mathematics does.

    Vectors are columns: `v[:, None]` becomes a product of matrices, v wᵀ beside a row w, else v 1ᵀ;
    `v @ A` becomes vᵀ A, and `v @ v` a norm; and the adjoint of X, which programs call dX, `d X`.
    """

    def __init__(self, names: Set[str], axes: Mapping[str, int]) -> None:
        self._axes = axes  # of each name
        self._readable: dict[str, str] = {}
        taken: set[str] = set()
        for name in sorted(names):
            first, of = name[:1], name[1:]  # dX, or if there are several, dX2
            is_adjoint = first == "d" and not names.isdisjoint({of, re.sub(r"_?\d+$", "", of)})
            new = f"d {of}" if is_adjoint else name
            while not name.startswith("ones") and _name(new) in taken:  # X_2 beside X2
                new += "'"
            taken.add(_name(new))
            self._readable[name] = new

    def visit_Name(self, node: ast.Name) -> Expression:
        return ast.Name(self._readable.get(node.id, node.id))

    def visit_BinOp(self, node: ast.BinOp) -> Expression:
        match node:
            case ast.BinOp(ast.Subscript(v) as column, ast.Mult(), w) if (
                self.is_column(column) and self.axes_of(w) == 1
            ):
                return self._product(v, w)
            case ast.BinOp(w, ast.Mult(), ast.Subscript(v) as column) if (
                self.is_column(column) and self.axes_of(w) == 1
            ):
                return self._product(v, w)
            case ast.BinOp(v, ast.MatMult(), w) if (
                ex.text(v) == ex.text(w) and self.axes_of(v) == 1
            ):
                return ex.call("norm", self.visit(v))
            case ast.BinOp(v, ast.MatMult(), w) if self.axes_of(v) == 1 and not _is_ones(v):
                return ast.BinOp(self._row(v), ast.MatMult(), self._column(w))
            case ast.BinOp(ast.Name("ones"), ast.MatMult(), ast.Call(ast.Attribute(x, "reshape"))):
                return ex.method(self.visit(x), "sum", ex.number(0))  # over the examples
            case ast.BinOp(v, ast.MatMult(), w):
                return ast.BinOp(self.visit(v), ast.MatMult(), self._column(w))
        return self.generic_visit(node)  # type: ignore[return-value]

    def visit_Subscript(self, node: ast.Subscript) -> Expression:
        if self.is_column(node):
            return self._product(node.value, ast.Name("ones"))
        return self.generic_visit(node)  # type: ignore[return-value]

    def visit_Call(self, node: ast.Call) -> Expression:
        match node:
            case ast.Call(ast.Attribute(x, "sum"), [axis]) if (axes := self.axes_of(x)) != 1:
                along = ex.text(axis)
                if along == "-1" and axes:
                    return ast.BinOp(self.visit(x), ast.MatMult(), ast.Name("ones"))
                if along == "-2" or (along == "0" and axes == 2):
                    return ast.BinOp(ast.Name("ones"), ast.MatMult(), self.visit(x))
            case ast.Call(ast.Attribute(_, "sum") as of, [_]):  # of a vector: of all
                return ast.Call(self.visit(of), [], [])
            case ast.Call(ast.Attribute(x, "take"), [places]) if (self.axes_of(x) or 1) > 1:
                flat = ex.call("ravel", self.visit(x))  # not its rows, which x[...] would be
                return ast.Call(ast.Attribute(flat, "take"), [self.visit(places)], [])
        return self.generic_visit(node)  # type: ignore[return-value]

    def is_column(self, x: ast.Subscript) -> bool:
        """Whether it is a vector, or in a batch one of each example, as a column."""
        *before, last = ex.index_text(x).split(", ")
        axes = self.axes_of(x)
        return last == "None" and {*before} == {":"} and axes in (len(before) + 1, None)

    def _product(self, v: Expression, w: Expression) -> Expression:
        return ast.BinOp(self._column(v), ast.MatMult(), self._row(w))

    def _row(self, v: Expression) -> Expression:
        return self.visit(v) if self._is_row(v) else ast.Attribute(self.visit(v), "T")

    def _column(self, v: Expression) -> Expression:
        return ast.Attribute(self.visit(v), "T") if self._is_row(v) else self.visit(v)

    def _is_row(self, x: Expression) -> bool:
        """Whether it is a vector that is written as a row, vᵀ A."""
        match x:
            case ast.UnaryOp(_, v):
                return self._is_row(v)
            case ast.BinOp(number, ast.Mult(), v) if self.axes_of(number) == 0:
                return self._is_row(v)
            case ast.BinOp(v, ast.MatMult(), w):
                return self.axes_of(v) == 1 and self.axes_of(w) == 2
        return False

    def axes_of(self, x: Expression) -> int | None:
        """How many axes the value has, as far as it is known."""
        match x:
            case ast.Name(name):
                return 1 if name.startswith("ones") else self._axes.get(name)
            case ast.Constant():
                return 0
            case ast.UnaryOp(_, operand) | ast.Attribute(operand, "T"):
                return self.axes_of(operand)
            case ast.BinOp(left, ast.MatMult(), right):
                a, b = self.axes_of(left), self.axes_of(right)
                return None if not a or not b else max(a, b) if min(a, b) > 1 else a + b - 2
            case ast.BinOp(left, _, right):
                a, b = self.axes_of(left), self.axes_of(right)
                return None if a is None or b is None else max(a, b)
            case ast.Subscript(array, index):
                axes = self.axes_of(array)
                for each in index.elts if isinstance(index, ast.Tuple) else [index]:
                    match each:
                        case ast.Constant(value):
                            axes = axes and axes + (1 if value is None else -1)
                        case ast.Slice():
                            pass
                        case _:
                            chosen = self.axes_of(each)
                            axes = None if axes is None or chosen is None else axes + chosen - 1
                return axes
            case ast.Call(ast.Attribute(_, "reshape"), sizes):
                return len(sizes)
            case ast.Call(ast.Attribute(_, "ravel")):
                return 1
            case ast.Call(ast.Attribute(array, "transpose")):
                return self.axes_of(array)
            case ast.Call(ast.Attribute(_, "sum"), []):
                return 0
            case ast.Call(ast.Attribute(_, "take"), [places]):
                return self.axes_of(places)
            case ast.Call(ast.Attribute(array, "take"), [places, ast.Constant(0)]):
                a, b = self.axes_of(array), self.axes_of(places)
                return None if a is None or b is None else a + b - 1
            case ast.Call(ast.Attribute(array, "astype")):
                return self.axes_of(array)
            case ast.Call(ast.Attribute(_, "ones" | "full" | "outer")):
                return None
            case ast.Call(f, operands, []) if isinstance(f, ast.Name) or _is_library(f):
                known = [axes for axes in map(self.axes_of, operands) if axes is not None]
                return max(known) if known and len(known) == len(operands) else None
        return None


def _is_ones(x: Expression) -> bool:
    """Whether it is the vector 1, of which `_matrix_product` says that it is a row."""
    return ex.has_name(x, "ones")


def _name(name: str) -> str:
    """D W1 as dW_1, d t7_2 as dt_{7,2}, a longer name upright."""
    if name.endswith("'"):
        return f"{_name(name[:-1])}'"
    if name.startswith("d "):
        return f"d{_name(name[2:])}"
    if name.startswith("ones"):
        return r"\mathbf{1}"
    if name in _SYMBOLS:
        return _SYMBOLS[name]
    match = re.fullmatch(r"([^\W\d_]+)(\d*)(?:_(\d+(?:_\d+)*))?", name)
    if not match:
        return rf"\mathrm{{{name.replace('_', chr(92) + '_')}}}"
    stem, *indices = match.groups()
    index = ",".join(i.replace("_", ",") for i in indices if i)
    letter = stem if len(stem) == 1 else rf"\mathrm{{{stem}}}"
    return letter + (f"_{{{index}}}" if index else "")


def _unshaped(x: Expression) -> Expression:
    """Without what only gives it another shape."""
    match x:
        case ast.Subscript(array) if {*ex.index_text(x).split(", ")} <= {":", "None"}:
            return _unshaped(array)
        case ast.Call(ast.Attribute(array, "reshape" | "ravel")) if not _is_library(array):
            return _unshaped(array)
    return x


def _is_library(x: Expression) -> bool:
    """Whether it is np, or jax.nn: what a function is of, not an array that has a method."""
    while isinstance(x, ast.Attribute):
        x = x.value
    return isinstance(x, ast.Name) and x.id in ("np", "jnp", "jax")


def _written(x: Expression) -> str:
    match x := _unshaped(x):
        case ast.Name(name):
            return _name(name)
        case ast.Constant(float() | int() as value):
            return latex_numeral(float(value), None)
        case ast.UnaryOp(ast.USub(), operand):
            return f"-{_factor(operand)}"
        case ast.BinOp(left, ast.Add(), right):
            added = _written(right)
            return f"{_written(left)} + {_factor(right) if added[0] == '-' else added}"
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
        case ast.Call(ast.Attribute(_, "concatenate" | "hstack"), (ast.List(rows), *_)):
            return rf"\left[{', '.join(map(_written, rows))}\right]^\top"
        case ast.Call(ast.Attribute(library, name), arguments, named) if _is_library(library):
            code = rf"\texttt{{{_plain(ex.text(x))}}}"
            return code if named else _call(name.rstrip("_"), arguments)
        case ast.Call(ast.Name(name), arguments, []):
            return _call(name.rstrip("_"), arguments)
        case ast.Attribute(array, "T"):
            return f"{_atom(array)}^\\top"
        case ast.Call(ast.Attribute(array, "transpose"), axes):
            return _permuted(array, [int(ex.text(axis)) for axis in axes])
        case ast.Subscript(array):
            places = x.slice.elts if isinstance(x.slice, ast.Tuple) else [x.slice]
            return f"{_atom(array)}[{', '.join(map(_place, places))}]"
        case ast.Call(ast.Attribute(array, "sum"), along):
            axis = f"_{{{ex.text(along[0])}}}" if along else ""
            return rf"\textstyle\sum{axis} {_factor(array)}"
        case ast.Call(ast.Attribute(array, "take"), (places,) | (places, ast.Constant(0))):
            return f"{_atom(array)}[{_written(places)}]"
    return rf"\texttt{{{_plain(ex.text(x))}}}"


def _place(x: Expression) -> str:
    """A part of an index."""
    is_name = isinstance(x, ast.Name) and x.id.isidentifier()  # ... is none
    return _written(x) if is_name else _plain(ex.text(x))


def _factor(x: Expression) -> str:
    """What can stand beside a sign of multiplication: in parentheses if it is a sum."""
    written = _written(x)
    match x := _unshaped(x):
        case ast.UnaryOp() | ast.BinOp(_, ast.Add() | ast.Sub()):
            return rf"\left({written}\right)"
        case ast.Call(ast.Attribute(_, "sum")):
            return rf"\left({written}\right)"
        case ast.Compare() | ast.BinOp(_, ast.Pow() | ast.Mod() | ast.FloorDiv()):
            return rf"\left({written}\right)"
    return rf"\left({written}\right)" if written[0] == "-" else written


def _atom(x: Expression) -> str:
    """What can have an exponent, or an index: in parentheses if it has signs or has one already."""
    written = _written(x)
    match x := _unshaped(x):
        case ast.Name() | ast.Subscript():
            return written
        case ast.Call() if "^" not in written:
            return written
    return rf"\left({written}\right)"


def _permuted(array: Expression, axes: Sequence[int]) -> str:
    """With its last two axes exchanged a transpose; else it says where each axis comes from."""
    *others, row, column = range(len(axes) or 2)
    if not axes or [*axes] == [*others, column, row]:
        return f"{_atom(array)}^\\top"
    places = ", ".join(map(str, axes))
    return rf"\mathrm{{permute}}_{{{places}}}\left({_written(array)}\right)"


def _product(left: Expression, right: Expression) -> str:
    """A number before the rest; else with ⊙."""
    x, y = _factor(left), _factor(right)
    if isinstance(left, ast.Constant):
        return f"{x}\\,{y}"
    return rf"{x} \odot {y}"


def _is_product(x: Expression) -> bool:
    """Whether it is elementwise, or by a number."""
    return isinstance(x, ast.BinOp) and isinstance(x.op, ast.Mult)


def _matrix_product(left: Expression, right: Expression) -> str:
    """A matrix product without a sign; with the vector of ones on its left, the column sums."""
    x, y = (
        rf"\left({_written(side)}\right)" if _is_product(_unshaped(side)) else _factor(side)
        for side in (left, right)
    )
    if _is_ones(left):
        return rf"\mathbf{{1}}^\top {y}"
    return f"{x}\\, {y}"


def _call(name: str, arguments: Sequence[Expression]) -> str:
    if name == "ones":
        return r"\mathbf{1}"
    written = [_written(argument) for argument in arguments]
    if name == "norm":
        return rf"\lVert {written[0]} \rVert^2"
    if name == "power":
        base = _atom(arguments[0])
        if base.startswith("d"):  # the square of dX is not the adjoint of X squared
            base = rf"\left({base}\right)"
        return rf"{base}^{{{written[1]}}}"
    if name == "sqrt":
        return rf"\sqrt{{{written[0]}}}"
    if name == "fraction":
        return rf"\exp\left({written[0]} - {_factor(arguments[1])}\right)"
    if name == "outer":
        return rf"{_factor(arguments[0])}\, {_atom(arguments[1])}^\top"
    if name == "maximum" and written[1:] == ["0"]:
        return rf"\max\left(0, {written[0]}\right)"
    if name == "heaviside":
        return rf"\mathbf{{1}}[{written[0]} > 0]"
    symbol = _FUNCTIONS.get(name, rf"\mathrm{{{name.replace('_', chr(92) + '_')}}}")
    return rf"{symbol}\left({', '.join(written)}\right)"


def _plain(text: str) -> str:
    return re.sub(r"([_#%&${}])", r"\\\1", text)
