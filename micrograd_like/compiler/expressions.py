"""What the printers for libraries of arrays write: Python's own syntax trees.

`numpy_source.py` and `jax_source.py` build them from the lifted form; here they become text, and in
`equations.py` LaTeX. Both need to know what is a product of matrices, and what a factor that wants
parentheses, which a tree says and a text does not.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from typing import Any

Expression = ast.expr
Index = int | slice | None | Expression


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

    What is `watched`, if it is said, has a NaN where the results have one that comes of padding.
    `axes` says how many each array has, that of the examples of a batch included.
    """

    arguments: str
    assignments: Sequence[Assignment]
    results: Sequence[Expression]
    constants: Mapping[str, Any]
    watched: Sequence[Expression] = ()
    axes: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def text(self) -> str:
        """The source, as Python."""
        lines = [f"{text(a.target)} {a.operator} {text(a.value)}" for a in self.assignments]
        lines.append(f"return {', '.join(map(text, self.results))}")
        body = "\n".join(f"    {line}" for line in lines)
        return f"def program({self.arguments}):\n{body}\n"

    @property
    def watching(self) -> Source:
        """The same, that returns two things: its results, and a list of what is watched."""
        results = ast.Tuple([*self.results]) if len(self.results) > 1 else self.results[0]
        return replace(self, results=[results, ast.List([*self.watched])])

    @property
    def matrix_products(self) -> int:
        """How many products of matrices there are, beside sums and the square of `values`."""
        return sum(
            isinstance(x, ast.BinOp)
            and isinstance(x.op, ast.MatMult)
            and not any(has_name(side, "ones", "values") for side in (x.left, x.right))
            for x in self._parts()
        )

    @property
    def gathers(self) -> int:
        """How often elements are taken, or put, by an array of indices."""
        return sum(map(_is_gather, self._parts()))

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
    if isinstance(part, ast.expr):
        return part
    if not isinstance(part, slice):
        return ast.Constant(part)
    start = part.start if part.start or part.stop == 1 else None
    step = part.step if part.step != 1 else None
    return ast.Slice(*(None if n is None else ast.Constant(n) for n in (start, part.stop, step)))


def _indices(x: ast.Subscript) -> Sequence[Expression]:
    return x.slice.elts if isinstance(x.slice, ast.Tuple) else [x.slice]


def _is_gather(x: ast.AST) -> bool:
    match x:
        case ast.Subscript():
            return any(has_name(part, "places") for part in _indices(x))
        case ast.Call(ast.Attribute(_, "take"), [index, *_]):
            return has_name(index, "places")
    return False


def is_broadcast(x: Expression) -> bool:
    """Whether it only adds axes, as v[:, None] does."""
    if not isinstance(x, ast.Subscript):
        return False
    last = _indices(x)[-1]
    return isinstance(last, ast.Constant) and last.value is None


def has_name(x: ast.AST, *starts: str) -> bool:
    """Whether it is a name alone, that starts so."""
    return isinstance(x, ast.Name) and x.id.startswith(starts)


# --- as text --------------------------------------------------------------------------------------


# Of each sign how tightly it binds, and how tightly its operands must, to go without parentheses:
# more tightly than Python needs, so that products of matrices stand out.
_SIGNS: dict[type[ast.AST], tuple[str, int, int, int]] = {
    ast.Add: ("+", 1, 1, 2),
    ast.Sub: ("-", 1, 1, 3),
    ast.MatMult: ("@", 2, 4, 4),
    ast.Div: ("/", 2, 4, 4),
    ast.USub: ("-", 2, 0, 3),
    ast.Mult: ("*", 3, 3, 4),
}


def text(x: Expression, tightly: int = 0) -> str:
    """As Python: in parentheses if it does not bind as tightly as it must."""
    match x:
        case ast.Name(name):
            return name
        case ast.Constant(value):
            return f'"{value}"' if isinstance(value, str) else repr(value)
        case ast.Subscript(value):
            return f"{text(value, 4)}[{index_text(x)}]"
        case ast.Attribute(value, attr):
            return f"{text(value, 4)}.{attr}"
        case ast.Call(function, arguments, named):
            given = [*map(text, arguments), *(f"{x.arg}={text(x.value)}" for x in named)]
            return f"{text(function)}({', '.join(given)})"
        case ast.UnaryOp(op, operand) if type(op) in _SIGNS:
            sign, own, _, right = _SIGNS[type(op)]
            written = f"{sign}{text(operand, right)}"
            return f"({written})" if own < tightly else written
        case ast.BinOp(left, op, operand) if type(op) in _SIGNS:
            sign, own, before, after = _SIGNS[type(op)]
            written = f"{text(left, before)} {sign} {text(operand, after)}"
            return f"({written})" if own < tightly else written
        case ast.List(elements):
            return f"[{', '.join(map(text, elements))}]"
        case ast.Dict(keys, values):
            pairs = zip(filter(None, keys), values, strict=True)
            lines = "".join(f"        {text(key)}: {text(value)},\n" for key, value in pairs)
            return f"{{\n{lines}    }}"
    return f"({ast.unparse(x)})" if tightly else ast.unparse(x)


def index_text(x: ast.Subscript) -> str:
    return ", ".join(map(text, _indices(x)))


# --- templates of the table of operations ---------------------------------------------------------


_ARGUMENT = "argument_"  # instead of @


def filled(
    template: str,
    arguments: Mapping[str, Expression | Sequence[Expression]],
    named: Callable[[str], str],
) -> Expression:
    """The template with its arguments put in, and its functions called what `named` says.

    The argument of a variadic operation is all that there are.
    """
    tree = ast.parse(template.replace("@", _ARGUMENT), mode="eval").body
    if isinstance(tree, ast.Compare):  # truth values are no numbers: the sum of two is one of them
        tree = product(tree, number(1.0))
    written: Expression = _Filler(arguments, named).visit(tree)
    return written


class _Filler(ast.NodeTransformer):
    def __init__(self, arguments: Mapping[str, Any], named: Callable[[str], str]) -> None:
        self.arguments = arguments
        self.named = named

    def visit_Name(self, x: ast.Name) -> Any:
        return self.arguments[x.id.removeprefix(_ARGUMENT)]

    def visit_Call(self, x: ast.Call) -> ast.expr:
        arguments = ast.List(x.args)  # in which what is visited may be several
        self.generic_visit(arguments)
        named = [ast.keyword(k.arg, self.visit(k.value)) for k in x.keywords]
        return ast.Call(name(self.named(ast.unparse(x.func))), arguments.elts, named)
