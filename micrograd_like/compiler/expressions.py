"""What the printers for libraries of arrays write: expressions and assignments, as data.

`numpy_source.py` and `jax_source.py` make them from the lifted form; here they become Python's
text, and in `equations.py` LaTeX. Both need to know what is a product of matrices, and what a
factor that wants parentheses, which data says and text does not.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any


@dataclass(frozen=True, slots=True)
class Name:
    """A variable; or a shape, which is written as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class Number:
    """A number that is neither negative nor infinite nor NaN."""

    value: float


@dataclass(frozen=True, slots=True)
class Minus:
    operand: Expression


@dataclass(frozen=True, slots=True)
class Operation:
    """Operands with a sign between them: +, *, /, @ or >. What is subtracted is a `Minus`."""

    sign: str
    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """array[index]. A string in the index is the name of an array of indices, or a key."""

    array: Expression
    index: tuple[int | slice | str | None, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """function(arguments). The function is one of a library, np.exp say, or has a name alone."""

    function: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Method:
    """array.name(arguments), or array.T."""

    array: Expression
    name: str
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class List:
    """Arrays, to be put together."""

    entries: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A dict of arrays by their names."""

    entries: tuple[tuple[str, Expression], ...]


Expression = Name | Number | Minus | Operation | Item | Call | Method | List | Table


@dataclass(frozen=True, slots=True)
class Assignment:
    """target = value (or +=, or *=). With `moves` it takes inputs in, or puts results together."""

    target: Expression
    value: Expression
    operator: str = "="
    moves: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """`program(arguments)`: what it assigns, what it returns, and the constants that it reads.

    `masked` says that derivatives of kinks are masks, which lose NaN.
    """

    arguments: str
    assignments: Sequence[Assignment]
    results: Sequence[Expression]
    constants: Mapping[str, Any]
    masked: bool

    @property
    def matrix_products(self) -> int:
        """How many products of matrices there are, beside sums and the square of `values`."""
        products = [x for x in self._parts() if isinstance(x, Operation) and x.sign == "@"]
        return sum(not any(map(_is_ones_or_values, x.operands)) for x in products)

    @property
    def gathers(self) -> int:
        """How often elements are taken, or put, by an array of indices."""
        return sum(
            x.name == "take"
            if isinstance(x, Method)
            else isinstance(x, Item) and any(_is_places(part) for part in x.index)
            for x in self._parts()
        )

    def _parts(self) -> Iterator[Expression]:
        stack = [x for a in self.assignments for x in (a.target, a.value)] + [*self.results]
        while stack:
            yield (part := stack.pop())
            match part:
                case Minus(inner) | Item(inner) | Method(inner):
                    stack.append(inner)
                case Operation(_, several) | Call(_, several) | List(several):
                    stack += several
                case Table(entries):
                    stack += [value for _, value in entries]

    @property
    def text(self) -> str:
        """The source, as Python."""
        lines = [f"{text(a.target)} {a.operator} {text(a.value)}" for a in self.assignments]
        lines.append(f"return {', '.join(map(text, self.results))}")
        body = "\n".join(f"    {line}" for line in lines)
        return f"def program({self.arguments}):\n{body}\n"


def _is_ones_or_values(x: Expression) -> bool:
    return isinstance(x, Name) and (x.text.startswith("ones") or x.text == "values")


def _is_places(part: int | slice | str | None) -> bool:
    return isinstance(part, str) and part.startswith("places")


def product(factors: Sequence[Expression]) -> Expression:
    return factors[0] if len(factors) == 1 else Operation("*", tuple(factors))


def matmul(left: Expression, right: Expression) -> Expression:
    return Operation("@", (left, right))


def total(terms: Sequence[Expression]) -> Expression:
    return terms[0] if len(terms) == 1 else Operation("+", tuple(ordered(terms)))


def ordered(terms: Sequence[Expression]) -> list[Expression]:
    """What is subtracted comes later: -y + x is one operation more than x - y."""
    leading = next((k for k, term in enumerate(terms) if not isinstance(term, Minus)), 0)
    return [terms[leading], *terms[:leading], *terms[leading + 1 :]]


def transposed(matrix: Expression) -> Expression:
    if isinstance(matrix, Method) and matrix.name == "T":
        return matrix.array
    return Method(matrix, "T")


# --- as Python ------------------------------------------------------------------------------------


def text(expression: Expression) -> str:
    match expression:
        case Name(name):
            return name
        case Number(value):
            return repr(value)
        case Minus(Operation("*") as operand):
            return f"-{text(operand)}"
        case Minus(operand):
            return f"-{_factor(operand)}"
        case Operation("+", (first, *rest)):
            return _term(first) + "".join(
                f" - {text(term)[1:]}" if isinstance(term, Minus) else f" + {_term(term)}"
                for term in rest
            )
        case Operation(sign, operands):
            return f" {sign} ".join(map(_factor, operands))
        case Item(array, index):
            return f"{_factor(array)}[{index_text(index)}]"
        case Call(function, arguments):
            return f"{function}({', '.join(map(text, arguments))})"
        case Method(array, "T"):
            return f"{_factor(array)}.T"
        case Method(array, name, arguments):
            return f"{_factor(array)}.{name}({arguments})"
        case List(parts):
            return f"[{', '.join(map(text, parts))}]"
        case Table(entries):
            lines = "".join(f'        "{name}": {text(value)},\n' for name, value in entries)
            return f"{{\n{lines}    }}"


def _factor(expression: Expression) -> str:
    written = text(expression)
    return f"({written})" if isinstance(expression, (Minus, Operation)) else written


def _term(expression: Expression) -> str:
    loose = isinstance(expression, Operation) and expression.sign in "+>"
    return _factor(expression) if loose else text(expression)


def index_text(index: Sequence[int | slice | str | None]) -> str:
    return ", ".join(_slice(part) if isinstance(part, slice) else str(part) for part in index)


def _slice(part: slice) -> str:
    if part.stop is None:
        return ":"
    start = "" if part.start == 0 and part.stop > 1 else part.start
    return f"{start}:{part.stop}" + (f":{part.step}" if part.step != 1 else "")


# --- templates of the table of operations ---------------------------------------------------------


@cache
def _parsed(template: str) -> ast.expr:
    return ast.parse(template.replace("@", _ARGUMENT), mode="eval").body


_ARGUMENT = "argument_"


def filled(
    template: str, arguments: Mapping[str, Sequence[Expression]], named: Callable[[str], str]
) -> Expression:
    """The template of an operation with its arguments; `named` is what a function is called."""

    def read(node: ast.expr) -> Expression:
        match node:
            case ast.BinOp(left, ast.Add(), right):
                return Operation("+", (read(left), read(right)))
            case ast.BinOp(left, ast.Sub(), right):
                return Operation("+", (read(left), Minus(read(right))))
            case ast.BinOp(left, ast.Mult(), right):
                return Operation("*", (read(left), read(right)))
            case ast.BinOp(left, ast.Div(), right):
                return Operation("/", (read(left), read(right)))
            case ast.UnaryOp(ast.USub(), operand):
                return Minus(read(operand))
            case ast.Constant(float(value)):
                return Number(value)
            case ast.Call(function, given):
                every = [part for argument in given for part in spread(argument)]
                return Call(named(ast.unparse(function)), tuple(every))
            case ast.Name():
                (only,) = spread(node)
                return only
        raise ValueError(f"a template has no {ast.unparse(node)}: {template}")

    def spread(node: ast.expr) -> Sequence[Expression]:
        """What stands for an argument: of a variadic operation, all that there are."""
        if isinstance(node, ast.Name):
            return arguments[node.id.removeprefix(_ARGUMENT)]
        return [read(node)]

    return read(_parsed(template))
