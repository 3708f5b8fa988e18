"""What the printers for libraries of arrays write: Python's own syntax trees.

`numpy_source.py` and `jax_source.py` build them from the lifted form; here they become text, and in
`equations.py` LaTeX. Both need to know what is a product of matrices, and what a factor that wants
parentheses, which a tree says and a text does not.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, reduce
from typing import Any

Expression = ast.expr
Index = int | slice | None | str  # a string is the name of an array of indices, or a key in quotes


@dataclass(frozen=True, slots=True)
class Assignment:
    """target = value (or +=, or *=). With `moves` it takes inputs in, or puts results together."""

    target: Expression
    value: Expression
    operator: str = "="
    moves: bool = False


@dataclass(frozen=True)
class Source:
    """`program(arguments)`: what it assigns, what it returns, and the constants that it reads.

    `masked` says that derivatives of kinks are masks, which lose NaN.
    """

    arguments: str
    assignments: Sequence[Assignment]
    results: Sequence[Expression]
    constants: Mapping[str, Any]
    masked: bool

    @cached_property
    def text(self) -> str:
        """The source, as Python."""
        lines = [f"{text(a.target)} {a.operator} {text(a.value)}" for a in self.assignments]
        lines.append(f"return {', '.join(map(text, self.results))}")
        body = "\n".join(f"    {line}" for line in lines)
        return f"def program({self.arguments}):\n{body}\n"

    @property
    def matrix_products(self) -> int:
        """How many products of matrices there are, beside sums and the square of `values`."""
        products = [x for x in self._parts() if isinstance(x, ast.BinOp)]
        return sum(
            isinstance(x.op, ast.MatMult)
            and not any(has_name(side, "ones", "values") for side in (x.left, x.right))
            for x in products
        )

    @property
    def gathers(self) -> int:
        """How often elements are taken, or put, by an array of indices."""
        taken = [x for x in self._parts() if isinstance(x, (ast.Subscript, ast.Call))]
        return sum(
            any(has_name(part, "places") for part in _indices(x))
            if isinstance(x, ast.Subscript)
            else isinstance(x.func, ast.Attribute) and x.func.attr == "take"
            for x in taken
        )

    def _parts(self) -> Iterator[ast.AST]:
        for assignment in self.assignments:
            yield from ast.walk(assignment.target)
            yield from ast.walk(assignment.value)
        for result in self.results:
            yield from ast.walk(result)


# --- trees ----------------------------------------------------------------------------------------


def name(text: str) -> Expression:
    """A name, with its modules before it: x, or np.inf."""
    if "." not in text:
        return ast.Name(text)
    module, _, last = text.rpartition(".")
    return ast.Attribute(name(module), last)


def number(x: float) -> Expression:
    return ast.Constant(x)


def minus(x: Expression) -> Expression:
    return ast.UnaryOp(ast.USub(), x)


def product(*factors: Expression) -> Expression:
    return reduce(lambda x, y: ast.BinOp(x, ast.Mult(), y), factors)


def quotient(x: Expression, y: Expression) -> Expression:
    return ast.BinOp(x, ast.Div(), y)


def matmul(x: Expression, y: Expression) -> Expression:
    return ast.BinOp(x, ast.MatMult(), y)


def total(terms: Sequence[Expression]) -> Expression:
    def added(x: Expression, y: Expression) -> Expression:
        if isinstance(y, ast.UnaryOp):
            return ast.BinOp(x, ast.Sub(), y.operand)
        return ast.BinOp(x, ast.Add(), y)

    return reduce(added, ordered(terms))


def ordered(terms: Sequence[Expression]) -> list[Expression]:
    """What is subtracted comes later: -y + x is one operation more than x - y."""
    leading = next((k for k, term in enumerate(terms) if not isinstance(term, ast.UnaryOp)), 0)
    return [terms[leading], *terms[:leading], *terms[leading + 1 :]]


def above(x: Expression, y: Expression) -> Expression:
    return ast.Compare(x, [ast.Gt()], [y])


def call(function: str, *arguments: Expression) -> Expression:
    return ast.Call(name(function), list(arguments), [])


def method(x: Expression, called: str, *arguments: Expression) -> Expression:
    return ast.Call(ast.Attribute(x, called), list(arguments), [])


def transposed(x: Expression) -> Expression:
    if isinstance(x, ast.Attribute) and x.attr == "T":
        return x.value
    return ast.Attribute(x, "T")


def sizes(*axes: int | Expression) -> Expression:
    """A shape: (2, 3)."""
    return ast.Tuple([ast.Constant(n) if isinstance(n, int) else n for n in axes])


def item(x: Expression, *index: Index) -> Expression:
    parts = [_index(part) for part in index]
    return ast.Subscript(x, parts[0] if len(parts) == 1 else ast.Tuple(parts))


def _index(part: Index) -> Expression:
    if isinstance(part, str):
        return ast.Constant(part[1:-1]) if part.startswith('"') else ast.Name(part)
    if not isinstance(part, slice):
        return ast.Constant(part)
    start = part.start if part.start or part.stop == 1 else None
    step = part.step if part.step != 1 else None
    return ast.Slice(*(None if n is None else ast.Constant(n) for n in (start, part.stop, step)))


def _indices(x: ast.Subscript) -> Sequence[Expression]:
    return x.slice.elts if isinstance(x.slice, ast.Tuple) else [x.slice]


def is_broadcast(x: Expression) -> bool:
    """Whether it only adds axes, as v[:, None] does."""
    if not isinstance(x, ast.Subscript):
        return False
    last = _indices(x)[-1]
    return isinstance(last, ast.Constant) and last.value is None


def has_name(x: ast.AST, *starts: str) -> bool:
    """Whether it is a name alone, that starts so."""
    return isinstance(x, ast.Name) and x.id.startswith(starts)


def signed_terms(x: Expression) -> list[tuple[bool, Expression]]:
    """What a sum consists of, and whether each is subtracted. No recursion: it may be long."""
    found: list[tuple[bool, Expression]] = []
    while isinstance(x, ast.BinOp) and isinstance(x.op, (ast.Add, ast.Sub)):
        found.append((isinstance(x.op, ast.Sub), x.right))
        x = x.left
    return [(False, x), *reversed(found)]


# --- as text --------------------------------------------------------------------------------------


def text(x: Expression) -> str:
    """As Python, with more parentheses than it needs, so that products of matrices stand out."""
    if isinstance(x, ast.Name):
        return x.id
    if isinstance(x, ast.Constant):
        return f'"{x.value}"' if isinstance(x.value, str) else repr(x.value)
    match x:
        case ast.Subscript(value):
            return f"{_factor(value)}[{index_text(x)}]"
        case ast.Attribute(value, attr):
            return f"{_factor(value)}.{attr}"
        case ast.Call(function, arguments):
            return f"{text(function)}({', '.join(map(text, arguments))})"
        case ast.UnaryOp(_, operand):
            return f"-{_negated(operand)}"
        case ast.BinOp(_, ast.Add() | ast.Sub()):
            (_, first), *rest = signed_terms(x)
            others = (f" - {_negated(t)}" if minus else f" + {_term(t)}" for minus, t in rest)
            return _term(first) + "".join(others)
        case ast.BinOp(ast.BinOp(_, ast.Mult()) as left, ast.Mult(), right):
            return f"{text(left)} * {_factor(right)}"
        case ast.BinOp(left, op, right):
            sign = {ast.Mult: "*", ast.Div: "/", ast.MatMult: "@"}[type(op)]
            return f"{_factor(left)} {sign} {_factor(right)}"
        case ast.Compare(left, _, (right,)):
            return f"{_factor(left)} > {_factor(right)}"
        case ast.Slice(start, stop, step):
            ends = ":".join("" if end is None else text(end) for end in (start, stop))
            return ends if step is None else f"{ends}:{text(step)}"
        case ast.List(elements):
            return f"[{', '.join(map(text, elements))}]"
        case ast.Dict(keys, values):
            pairs = zip(filter(None, keys), values, strict=True)
            lines = "".join(f"        {text(key)}: {text(value)},\n" for key, value in pairs)
            return f"{{\n{lines}    }}"
    return ast.unparse(x)


def index_text(x: ast.Subscript) -> str:
    return ", ".join(map(text, _indices(x)))


def _factor(x: Expression) -> str:
    compound = isinstance(x, (ast.BinOp, ast.UnaryOp, ast.Compare))
    return f"({text(x)})" if compound else text(x)


def _term(x: Expression) -> str:
    sum_or_comparison = isinstance(x, ast.Compare) or (
        isinstance(x, ast.BinOp) and isinstance(x.op, (ast.Add, ast.Sub))
    )
    return _factor(x) if sum_or_comparison else text(x)


def _negated(x: Expression) -> str:
    plain = isinstance(x, ast.BinOp) and isinstance(x.op, ast.Mult)
    return text(x) if plain else _factor(x)


# --- templates of the table of operations ---------------------------------------------------------


_Arguments = Mapping[str, Sequence[Expression]]


def filled(template: str, arguments: _Arguments, named: Callable[[str], str]) -> Expression:
    """The template with its arguments put in, and its functions called what `named` says.

    An argument of a variadic operation is all that there are.
    """
    return _put(_parsed(template), arguments, named)


def _put(x: Expression, arguments: _Arguments, named: Callable[[str], str]) -> Expression:
    match x:
        case ast.Name():
            (only,) = arguments[x.id.removeprefix(_ARGUMENT)]
            return only
        case ast.Call(function, [ast.Name(name)]):
            every = arguments[name.removeprefix(_ARGUMENT)]
            return call(named(ast.unparse(function)), *every)
        case ast.Call(function, given):
            parts = [_put(part, arguments, named) for part in given]
            return call(named(ast.unparse(function)), *parts)
        case ast.BinOp(left, op, right):
            return ast.BinOp(_put(left, arguments, named), op, _put(right, arguments, named))
        case ast.UnaryOp(op, operand):
            return ast.UnaryOp(op, _put(operand, arguments, named))
    return x


_ARGUMENT = "argument_"


@cache
def _parsed(template: str) -> Expression:
    return ast.parse(template.replace("@", _ARGUMENT), mode="eval").body
