"""Expressions in text, such as "tanh(w1*x1 + b)", made into graphs of Values; nothing is executed.

The text is first read token by token, which refuses whatever is no number, name, function or
arithmetic, and says where. Only then does Python's parser get it, for a tree in which each node is
held against a whitelist again.
"""

from __future__ import annotations

import ast
import difflib
import keyword
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn
from unicodedata import normalize

from .. import ops
from ..engine import Value
from ..errors import ExpressionError, InputError, MicrogradError
from ..ops import Op

MAX_LENGTH: Final = 100_000  # characters; a sum of 5,000 products has half as many
MAX_NESTING: Final = 100  # parentheses within parentheses; Python's tokenizer gives up at 200
# Parentheses, signs, products and powers above one another in the tree; sums are flat, see `parse`.
# Python's parser runs out of stack at about ten times as many.
MAX_HEIGHT: Final = 300

# Rows that serve the partials of others, and the sum of products, which takes two lists: the
# package exports none of them as a function of numbers.
_NOT_FUNCTIONS = frozenset(
    {
        "affine", "cosine", "damp", "gelu_slope", "greater", "ieee_div", "ieee_log", "ieee_pow",
        "inversion", "one_minus_square", "pow_slope", "sech", "sign", "step", "where",
    }
)  # fmt: skip
_OTHER_NAMES = {"maximum": ops.maximum, "minimum": ops.minimum}  # as the package exports them

# Lt and Gt stand for + and - between two terms, see `parse`.
_BINARY: dict[type[ast.AST], Op] = {
    ast.Lt: ops.add,
    ast.Gt: ops.sub,
    ast.Mult: ops.mul,
    ast.Div: ops.div,
    ast.Pow: ops.power,
}

_TOKEN = re.compile(
    r"""
      (?P<space>    [ ]+)
    | (?P<number>   (?: D (?:\. D?)? | \. D ) (?: [eE] [+-]? D )?)
    | (?P<name>     [^\W\d] [\w\u0300-\u036f]*)
    | (?P<operator> \*\* | (?!//) [-+*/])
    | (?P<open>     \()
    | (?P<close>    \))
    | (?P<comma>    ,)
    | (?P<other>    // | .)
    """.replace("D", r"(?:[0-9](?:_?[0-9])*)"),
    re.VERBOSE | re.DOTALL,
)
_NOT_NAMES = {"inf", "infinity", "nan"}
_ADVICE = {
    "^": "use ** for powers",
    "·": "use * for products", "×": "use * for products", "⋅": "use * for products",
    "÷": "use / for quotients", "−": "use - for differences", "–": "use - for differences",
    "√": "use sqrt(...)", "|": "use abs(...)",
    "=": "values of variables come after the expression, as name=number",
    "<": "comparisons have no gradient", ">": "comparisons have no gradient",
    "!": "comparisons have no gradient",
    "[": "use ( and )", "]": "use ( and )", "{": "use ( and )", "}": "use ( and )",
    "\n": "an expression is one line", "\r": "an expression is one line",
    "\t": "use spaces",
    **dict.fromkeys("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "use ** for powers"),
    **dict.fromkeys("₀₁₂₃₄₅₆₇₈₉", "write the index as digits, as in x1"),
}  # fmt: skip


class _Part(NamedTuple):
    """A number, a name, or a row that takes so many of the results before it.

    `offset` is its place in the text, in bytes of UTF-8, as `ast` counts.
    """

    offset: int
    number: float | None = None
    name: str = ""
    op: Op | None = None
    takes: int = 0


class ParsedExpression:
    """An expression that was understood: apply it to operands, or build the graph for numbers.

    `text` is what was parsed, `names` are the variables in it, in order of appearance. Names are
    normalised as Python normalises them (NFKC): µ, the micro sign, is the letter μ.
    """

    __slots__ = ("_parts", "names", "text")

    text: Final[str]
    names: Final[tuple[str, ...]]

    def __init__(self, text: str, parts: Iterable[_Part]) -> None:
        self.text = text
        self._parts = tuple(parts)  # operands first: reverse Polish notation, which needs no tree
        self.names = tuple(dict.fromkeys(part.name for part in self._parts if part.name))

    def apply(self, operands: Mapping[str, Any]) -> Any:
        """The result for an operand a name: Values, floats, or whatever rows can be applied to.

        Raises ExpressionError, under the operation, where a row refuses its arguments.
        """
        results: list[Any] = []
        for part in self._parts:
            if part.op is None:
                results.append(operands[part.name] if part.number is None else part.number)
                continue
            first = len(results) - part.takes
            results[first:] = [_applied(self.text, part, part.op, results[first:])]
        return results.pop()

    def build(self, values: Mapping[str, float]) -> tuple[Value, dict[str, Value]]:
        """The root of the graph, and its leaves by the names that label them.

        Without variables the root is a leaf. Raises InputError if values are missing or left over,
        and ExpressionError where an operation refuses its arguments.

        >>> root, leaves = parse("x**2 + 2*x").build({"x": 3.0})
        >>> root.backward()
        >>> root.data, leaves["x"].grad
        (15.0, 8.0)
        """
        values = {normalize("NFKC", name): value for name, value in values.items()}
        known = set(self.names)
        missing = [name for name in self.names if name not in values]
        if missing:
            given = " ".join(f"{name}=NUMBER" for name in missing[:_SOME])
            raise InputError(f"no value for {_some(missing)}: give {given}")
        unused = [name for name in values if name not in known]
        if unused:
            has = f"only {_some(self.names)}" if self.names else "no variables"
            raise InputError(f"the expression has no {_some(unused)}: it has {has}")
        leaves = {name: Value(values[name], name) for name in self.names}
        root = self.apply(leaves)
        return (root if isinstance(root, Value) else Value(root)), leaves

    def __repr__(self) -> str:
        return f"<ParsedExpression {self.text}>"


def functions() -> dict[str, Op]:
    """The functions of expressions: the table's public rows and those that users added."""
    return {
        **{name: op for name, op in ops.TABLE.items() if name not in _NOT_FUNCTIONS},
        **_OTHER_NAMES,
    }


def parse(text: str) -> ParsedExpression:
    """Parse an expression of numbers, names, + - * / **, parentheses and the table's functions.

    Operations on numbers alone are computed here. Raises ExpressionError, which points at the
    place: for whatever is not understood, for numbers beyond the floats, for text of more than
    100,000 characters, 100 nested parentheses or 300 nested operations other than sums.

    >>> parse("tanh(w*x + b)").names
    ('w', 'x', 'b')
    """
    # Python's parser nests a sum of n terms n deep, and fails at 3,000. A chain of comparisons it
    # keeps in one flat node; and comparisons, which `_check` refuses, bind just looser than sums
    # do. So the + and - between terms go to it as < and >, in the same places.
    source = list(text)
    for place in _check(text):
        source[place] = "<" if text[place] == "+" else ">"
    indent = len(text) - len(text.lstrip(" "))
    try:
        tree = ast.parse("".join(source[indent:]), mode="eval").body
    except SyntaxError as error:  # of numbers such as 007
        message = f"Python's parser says: {error.msg}"
        raise ExpressionError(message, text, indent + max((error.offset or 1) - 1, 0)) from None
    except (RecursionError, MemoryError):  # called with little stack left
        raise ExpressionError("the expression is nested too deeply", text, 0) from None
    return ParsedExpression(text, _parts(text, tree, indent))


def _check(text: str) -> list[int]:
    """The places of the + and - between terms, once every token is found in its place."""
    if len(text) > MAX_LENGTH:
        message = f"the expression has {len(text)} characters, {MAX_LENGTH} is the most"
        raise ExpressionError(message, text, MAX_LENGTH)
    if not text.strip(" "):
        raise ExpressionError("the expression is empty", text, 0)
    signs: list[int] = []
    levels = [_Level(0, call=True)]
    before = "start"
    for match in _TOKEN.finditer(text):
        kind, token, place = match.lastgroup, match[0], match.start()
        level = levels[-1]
        complete = before in ("number", "name", "close")  # an operator may follow, no operand
        if kind == "name":
            _check_name(text, token, place)
        match kind:
            case "space":
                continue
            case "number" | "name" | "open" if complete and (kind, before) != ("open", "name"):
                message = f"an operator is missing before {token[:20]!r} (products need their *)"
                raise ExpressionError(message, text, place)
            case "close" | "comma" if not complete and (kind, before) != ("close", "call"):
                raise ExpressionError(f"an operand is missing before {token!r}", text, place)
            case "number" if math.isinf(float(token)):
                raise ExpressionError("the number is too large for a float", text, place)
            case "operator" if complete and token in "+-":
                signs.append(place)
                level.end_term()
            case "operator":
                if not complete and token not in "+-":
                    raise ExpressionError(f"an operand is missing before {token!r}", text, place)
                level.operators += 1
            case "open":
                if len(levels) > MAX_NESTING:
                    message = f"more than {MAX_NESTING} parentheses are open here"
                    raise ExpressionError(message, text, place)
                levels.append(_Level(place, call=before == "name"))
                if levels[-1].call:
                    kind = "call"
            case "close":
                if len(levels) == 1:
                    raise ExpressionError("this ')' closes nothing", text, place)
                level.end_term()
                levels.pop()
                levels[-1].tallest_group = max(levels[-1].tallest_group, level.height + 1)
            case "comma":
                if len(levels) == 1 or not level.call:
                    message = "a comma belongs between the arguments of a function"
                    raise ExpressionError(f"{message}; decimals have a point", text, place)
                level.end_term()
            case "other":
                _refuse_character(text, token, place)
        if levels[-1].operators + levels[-1].tallest_group > MAX_HEIGHT:
            message = f"more than {MAX_HEIGHT} operations are nested in one another here"
            raise ExpressionError(message, text, place)
        before = kind or ""
    if len(levels) > 1:
        raise ExpressionError("this '(' is never closed", text, levels[-1].place)
    if before == "operator":
        raise ExpressionError("an operand is missing at the end", text, len(text.rstrip(" ")))
    return signs


class _Level:
    """What stands between a pair of parentheses: how high a tree it makes."""

    __slots__ = ("call", "height", "operators", "place", "tallest_group")

    def __init__(self, place: int, call: bool) -> None:
        self.place = place
        self.call = call
        self.height = 0
        self.operators = 0  # of the term being read, which may all be above its tallest group
        self.tallest_group = 0

    def end_term(self) -> None:
        self.height = max(self.height, self.operators + self.tallest_group)
        self.operators = self.tallest_group = 0


def _check_name(text: str, token: str, place: int) -> None:
    if not token.isidentifier():  # x², say
        i = next(i for i, c in enumerate(token) if not ("x" * (i > 0) + c).isidentifier())
        _refuse_character(text, token[i], place + i)
    name = normalize("NFKC", token)
    if keyword.iskeyword(name):
        message = f"{name!r} is a keyword of Python's, which expressions do without"
        raise ExpressionError(message, text, place)
    if name.lower() in _NOT_NAMES:
        raise ExpressionError(f"{name!r} is no number to compute with", text, place)


def _refuse_character(text: str, token: str, place: int) -> NoReturn:
    advice = _ADVICE.get(token, "there are numbers, names, functions, + - * / ** ( and )")
    message = f"{token!a} is" if not token.isprintable() else f"{token!r} is"
    raise ExpressionError(f"{message} not part of an expression: {advice}", text, place)


def _parts(text: str, tree: ast.expr, indent: int) -> list[_Part]:
    """The tree in reverse Polish notation, with its constants computed."""
    source = text.encode()
    known = functions()
    parts: list[_Part] = []
    work: list[ast.expr | _Part] = [tree]
    while work:
        item = work.pop()
        if isinstance(item, _Part):
            _append_folded(text, parts, item)
            continue
        offset = item.col_offset + indent
        match item:
            case ast.Constant(value=int() | float() as number):
                parts.append(_Part(offset, number=float(number)))
            case ast.Name(id=name):
                if name in known:
                    raise _error(f"{name} is a function: write {name}(...)", text, offset)
                parts.append(_Part(offset, name=name))
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                work.append(operand)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                work += [_Part(offset, op=ops.neg, takes=1), operand]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                work += [_operator(source, left, op, right, indent), right, left]
            case ast.Compare(left=left, ops=signs, comparators=terms):
                terms = [left, *terms]
                for i in reversed(range(len(signs))):
                    sign = _operator(source, terms[i], signs[i], terms[i + 1], indent)
                    work += [sign, terms[i + 1]]
                work.append(left)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
                row = known.get(name)
                if row is None:
                    raise _error(_no_function(name, known), text, offset)
                try:
                    row.complete(tuple(args))
                except InputError as error:
                    raise _error(str(error), text, offset) from None
                work += [_Part(offset, op=row, takes=len(args)), *reversed(args)]
            case _:
                raise _error("this is not part of an expression", text, offset)
    return parts


def _operator(source: bytes, left: ast.expr, op: ast.AST, right: ast.expr, indent: int) -> _Part:
    """The part of an operation on two operands, at the operator: only parentheses are around it."""
    assert left.end_col_offset is not None
    gap = source[left.end_col_offset + indent : right.col_offset + indent]
    place = next(i for i, byte in enumerate(gap) if byte in b"+-*/")
    return _Part(left.end_col_offset + indent + place, op=_BINARY[type(op)], takes=2)


def _append_folded(text: str, parts: list[_Part], part: _Part) -> None:
    """Append a row's part, or the number that it makes of numbers."""
    first = len(parts) - part.takes
    numbers = [p.number for p in parts[first:] if p.number is not None]
    if part.op is None or len(numbers) < part.takes:
        parts.append(part)
        return
    number = _applied(text, part, part.op, numbers)
    if not math.isfinite(number):
        arguments = ", ".join(map(repr, numbers))
        message = f"the constant overflows: {part.op.name}({arguments}) is {number!r}"
        raise _error(message, text, part.offset)
    parts[first:] = [_Part(part.offset, number=number)]


def _applied(text: str, part: _Part, op: Op, args: Sequence[Any]) -> Any:
    try:
        if all(arg.__class__ is float for arg in args):
            return op.evaluate(op.complete(tuple(args)))
        return op(*args)
    except MicrogradError as error:
        raise _error(str(error), text, part.offset) from error


def _error(message: str, text: str, offset: int) -> ExpressionError:
    return ExpressionError(message, text, len(text.encode()[:offset].decode()))


_SOME = 8


def _some(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _SOME} more" if len(names) > _SOME else ""
    return ", ".join(names[:_SOME]) + rest


def _no_function(name: str, known: Mapping[str, Op]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"there is no function {name}; did you mean {close[0]}?"
    return (
        f"there is no function {name} (products need their *); there are {', '.join(sorted(known))}"
    )
