"""Expressions in text, such as "tanh(w1*x1 + b)", made into graphs of Values; nothing is executed.

Read `parse` first. `_tokens` cuts the text into numbers, names and signs, and refuses whatever
stands where it may not; `parse` puts them into the order in which they are computed, which needs no
tree and no recursion, so that parentheses may be nested as deeply as the text is long.
"""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn
from unicodedata import normalize

from .. import ops
from ..engine import Value
from ..errors import InputError, MicrogradError
from ..ops import Op
from ..words import display_width, printable, several

MAX_LENGTH: Final = 100_000  # characters; a sum of 5,000 products has half as many

_SIGNS = {"+": ops.add, "-": ops.sub, "*": ops.mul, "/": ops.div, "**": ops.power}
_OTHER_NAMES = {"maximum": ops.maximum, "minimum": ops.minimum}  # as the package exports them

_TOKEN = re.compile(
    r"""
      (?P<space>    [ ]+)
    | (?P<number>   (?: D (?:\. D?)? | \. D ) (?: [eE] [+-]? D )?)
    | (?P<call>     N [ ]* \()
    | (?P<name>     N)
    | (?P<operator> \*\* | (?!//) [-+*/])
    | (?P<open>     \()
    | (?P<close>    \))
    | (?P<comma>    ,)
    | (?P<other>    // | .)
    """.replace("D", r"(?:[0-9](?:_?[0-9])*)").replace("N", r"(?:[^\W\d][\w\u0300-\u036f]*+)"),
    re.VERBOSE | re.DOTALL,
)
_NOT_NAMES = {"inf", "infinity", "nan"}
_ADVICE = {
    character: advice
    for characters, advice in (
        ("^⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "use ** for powers"),
        ("·×⋅", "use * for products"),
        ("÷", "use / for quotients"),
        ("−–", "use - for differences"),
        ("√", "use sqrt(...)"),
        ("|", "use abs(...)"),
        ("=", "values of variables come after the expression, as name=number"),
        ("<>!", "comparisons have no gradient"),
        ("[]{}", "use ( and )"),
        ("\n\r", "an expression is one line"),
        ("\t", "use spaces"),
        ("₀₁₂₃₄₅₆₇₈₉", "write the index as digits, as in x1"),
    )
    for character in characters
}
_SHOWN = 8  # names in a message


class ExpressionError(MicrogradError, ValueError):
    """An expression in `text` that is not understood, or cannot be computed, at `column` (from 0).

    >>> print(ExpressionError("an operand is missing", "a + * b", 4))
    an operand is missing
      a + * b
          ^
    """

    def __init__(self, message: str, text: str, column: int) -> None:
        self.message = message
        self.text = text
        self.column = column
        super().__init__(message, text, column)

    def __str__(self) -> str:
        return f"{self.message}\n{self.excerpt()}"

    def excerpt(self, width: int = 80) -> str:
        """The text, or as much of it around the place as fits, above a line with a caret."""
        start = last = min(self.column, len(self.text))
        stop = min(start + 1, len(self.text))
        room = width - len("  ") - 2 * len("…") - max(display_width(self.text[start:stop]), 1)
        more = True
        while more:
            more = False
            if start and (w := display_width(self.text[start - 1])) <= room:
                start, room, more = start - 1, room - w, True
            if stop < len(self.text) and (w := display_width(self.text[stop])) <= room:
                stop, room, more = stop + 1, room - w, True
        left, right = "…" * (start > 0), "…" * (stop < len(self.text))
        shown = printable(self.text[start:stop])
        indent = 2 + len(left) + display_width(self.text[start:last])
        return f"  {left}{shown}{right}\n{' ' * indent}^"


class ParsedExpression:
    """An expression that was understood: apply it to operands, or build the graph for numbers.

    `text` is what was parsed, `names` are the variables in it, in order of appearance. Names are
    normalised as Python normalises them (NFKC): µ, the micro sign, is the letter μ.
    """

    __slots__ = ("_parts", "names", "text")

    text: Final[str]
    names: Final[tuple[str, ...]]

    def __init__(self, text: str, parts: Sequence[_Part]) -> None:
        self.text = text
        self._parts = tuple(parts)  # operands before their operation, which needs no tree
        self.names = tuple(dict.fromkeys(part for part in parts if isinstance(part, str)))

    def apply(self, operands: Mapping[str, Any]) -> Any:
        """The result for an operand a name: Values, floats, or whatever operations apply to.

        Raises ExpressionError, under the operation, where one refuses its arguments.
        """
        results: list[Any] = []
        place = 0
        try:
            for part in self._parts:
                if isinstance(part, _Operation):
                    place, first = part.place, len(results) - part.takes
                    results[first:] = [part.op(*results[first:])]
                else:
                    results.append(operands[part] if isinstance(part, str) else part)
        except MicrogradError as error:
            raise ExpressionError(str(error), self.text, place) from error
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
            given = " ".join(f"{name}=NUMBER" for name in missing[:_SHOWN])
            raise InputError(f"no value for {several(missing, _SHOWN)}: give {given}")
        unused = [name for name in values if name not in known]
        if unused:
            has = f"only {several(self.names, _SHOWN)}" if self.names else "no variables"
            raise InputError(f"the expression has no {several(unused, _SHOWN)}: it has {has}")
        leaves = {name: Value(values[name], name) for name in self.names}
        root = self.apply(leaves)
        return (root if isinstance(root, Value) else Value(root)), leaves

    def __repr__(self) -> str:
        return f"<ParsedExpression {self.text}>"


def functions() -> dict[str, Op]:
    """The functions of expressions: all operations but internal ones, and those users added."""
    return {name: op for name, op in ops.TABLE.items() if op.kind != "internal"} | _OTHER_NAMES


def parse(text: str) -> ParsedExpression:
    """Parse an expression of numbers, names, + - * / **, parentheses and the table's functions.

    Operations on numbers alone are computed here. Raises ExpressionError, which points at the
    place: for whatever is not understood, for numbers beyond the floats, and for text of more than
    100,000 characters. Parentheses and signs may be nested as deeply as the text is long.

    >>> parse("tanh(w*x + b)").names
    ('w', 'x', 'b')
    """
    if len(text) > MAX_LENGTH:
        message = f"the expression has {len(text)} characters, {MAX_LENGTH} is the most"
        raise ExpressionError(message, text, MAX_LENGTH)
    # Dijkstra's shunting yard. Operands go straight to the result. An operator waits, within its
    # pair of parentheses, until the next one binds no tighter than it does.
    known = functions()
    parts: list[_Part] = []
    levels = [_Level()]
    for kind, token, place in list(_tokens(text)):  # all of them are read before one is computed
        level = levels[-1]
        match kind:
            case "number":
                parts.append(_number(token, place, text))
            case "name":
                if token in known:
                    raise ExpressionError(f"{token} is a function: write {token}(...)", text, place)
                parts.append(token)
            case "sign" if token == "-":
                level.waiting.append(_Operation(ops.neg, 1, place))
            case "operator":
                op = _SIGNS[token]
                # Of two alike the left one is first, but 2**3**2 is 2**(3**2).
                _finish(level, op.binding + (op is ops.power), parts, text)
                level.waiting.append(_Operation(op, 2, place))
            case "open":
                levels.append(_Level())
            case "call":
                levels.append(_Level(token, place, len(parts)))
            case "comma":
                _finish(level, 0, parts, text)
                level.commas += 1
            case "close":
                _finish(level, 0, parts, text)
                levels.pop()
                if level.function:
                    op = _function(level.function, level.place, text, known)
                    takes = level.commas + 1 if len(parts) > level.start else 0
                    _append(_Operation(op, takes, level.place), parts, text)
    _finish(levels[-1], 0, parts, text)
    return ParsedExpression(text, parts)


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """The tokens with their kinds and places, each where it may stand. Raises ExpressionError.

    The kinds are those of _TOKEN but for `space` and `other`, and `sign` is a + or - before its one
    operand. The token of a call is the name of the function. Names are normalised.
    """
    unclosed: list[tuple[str, int]] = []  # the kinds and places of the parentheses that are open
    before = "start"
    for match in _TOKEN.finditer(text):
        kind, token, place = match.lastgroup or "", match[0], match.start()
        complete = before in ("number", "name", "close")  # an operator may follow, no operand
        if kind in ("call", "name"):
            token = _name(token.rstrip("( "), place, text)
        match kind:
            case "space":
                continue
            case "number" | "name" | "call" | "open" if complete:
                message = f"an operator is missing before {token[:20]!r} (products need their *)"
                raise ExpressionError(message, text, place)
            case "operator" if not complete and token in "+-":
                kind = "sign"
            case "close" if before == "call":  # of f()
                unclosed.pop()
            case "operator" | "comma" | "close" if not complete:
                raise ExpressionError(f"an operand is missing before {token!r}", text, place)
            case "open" | "call":
                unclosed.append((kind, match.end() - 1))
            case "comma" if not unclosed or unclosed[-1][0] != "call":
                message = "a comma belongs between the arguments of a function"
                raise ExpressionError(f"{message}; decimals have a point", text, place)
            case "close":
                if not unclosed:
                    raise ExpressionError("this ')' closes nothing", text, place)
                unclosed.pop()
            case "other":
                _refuse_character(token, place, text)
        yield kind, token, place
        before = kind
    if before == "start":
        raise ExpressionError("the expression is empty", text, 0)
    if unclosed:
        raise ExpressionError("this '(' is never closed", text, unclosed[-1][1])
    if before in ("operator", "sign"):
        raise ExpressionError("an operand is missing at the end", text, len(text.rstrip(" ")))


class _Operation(NamedTuple):
    """A row of the table, applied to so many of the results before it; its place in the text."""

    op: Op
    takes: int
    place: int


# A number, the name of a variable, or an operation on what is before it.
_Part = float | str | _Operation


class _Level:
    """What stands between a pair of parentheses, or outside of all.

    `function` is the name at `place` if the parentheses are those of a call, and `start` counts the
    parts before them. `waiting` has the operators whose right operand is not complete yet.
    """

    __slots__ = ("commas", "function", "place", "start", "waiting")

    def __init__(self, function: str = "", place: int = 0, start: int = 0) -> None:
        self.function = function
        self.place = place
        self.start = start
        self.commas = 0
        self.waiting: list[_Operation] = []


def _finish(level: _Level, binding: int, parts: list[_Part], text: str) -> None:
    """Append the operators that wait in the level and bind at least so tightly."""
    while level.waiting and level.waiting[-1].op.binding >= binding:
        _append(level.waiting.pop(), parts, text)


def _append(operation: _Operation, parts: list[_Part], text: str) -> None:
    """Append the operation or, if its operands are numbers, the number that it makes of them.

    Raises ExpressionError for a wrong number of operands, and where that number is not finite.
    """
    op, takes, place = operation
    first = len(parts) - takes
    operands = parts[first:]  # the ends of them, where they are operations themselves
    try:
        completed = op.complete(tuple(operands))
        if not all(isinstance(operand, float) for operand in operands):
            parts.append(operation)
            return
        number = op.evaluate(completed)
    except MicrogradError as error:
        raise ExpressionError(str(error), text, place) from error
    if not math.isfinite(number):
        arguments = ", ".join(map(repr, operands))
        message = f"the constant overflows: {op.name}({arguments}) is {number!r}"
        raise ExpressionError(message, text, place)
    parts[first:] = [number]


def _number(token: str, place: int, text: str) -> float:
    digits = token.replace("_", "")
    if digits.isdigit() and digits.lstrip("0") not in ("", digits):
        raise ExpressionError("a whole number is written without leading zeros", text, place)
    number = float(token)
    if math.isinf(number):
        raise ExpressionError("the number is too large for a float", text, place)
    return number


def _function(name: str, place: int, text: str, known: Mapping[str, Op]) -> Op:
    if name in known:
        return known[name]
    from difflib import get_close_matches  # late: only who mistypes waits for it

    close = get_close_matches(name, known, n=1)
    advice = f" (products need their *); there are {', '.join(sorted(known))}"
    if close:
        advice = f"; did you mean {close[0]}?"
    raise ExpressionError(f"there is no function {name}{advice}", text, place)


def _name(token: str, place: int, text: str) -> str:
    if not token.isidentifier():  # x², say
        i = next(i for i, c in enumerate(token) if not ("x" * (i > 0) + c).isidentifier())
        _refuse_character(token[i], place + i, text)
    name = normalize("NFKC", token)
    if keyword.iskeyword(name):
        message = f"{name!r} is a keyword of Python's, which expressions do without"
        raise ExpressionError(message, text, place)
    if name.lower() in _NOT_NAMES:
        raise ExpressionError(f"{name!r} is no number to compute with", text, place)
    return name


def _refuse_character(token: str, place: int, text: str) -> NoReturn:
    advice = _ADVICE.get(token, "there are numbers, names, functions, + - * / ** ( and )")
    message = f"{token!a} is" if not token.isprintable() else f"{token!r} is"
    raise ExpressionError(f"{message} not part of an expression: {advice}", text, place)
