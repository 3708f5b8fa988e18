"""Expressions in text, such as "tanh(w1*x1 + b)", made into graphs of Values; nothing is executed.

`parse` refuses whatever stands where it may not, and puts numbers, names and operations into the
order in which they are computed. That needs no tree and no recursion, so that parentheses may be
nested as deeply as the text is long.
"""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn
from unicodedata import normalize

from .. import ops
from ..engine import Value
from ..errors import InputError, MicrogradError
from ..ops import Op
from ..words import display_width, meant, printable, several

MAX_LENGTH: Final = 100_000  # characters; a sum of 5,000 products has half as many

_SIGNS = {"+": ops.add, "-": ops.sub, "*": ops.mul, "/": ops.div, "%": ops.mod, "**": ops.power}
_CONSTANTS = {"pi": math.pi, "e": math.e}  # unless they have values given to them
_OTHER_NAMES = {"maximum": ops.maximum, "minimum": ops.minimum}  # as the package exports them

_TOKEN = re.compile(
    r"""
    [ ]* (?:
      (?P<number>   (?: D (?:\. D?)? | \. D ) (?: [eE] [+-]? D )?)
    | (?P<call>     N [ ]* \()
    | (?P<name>     N)
    | (?P<operator> \*\* | (?!//) [-+*/%])
    | (?P<open>     \()
    | (?P<close>    \))
    | (?P<comma>    ,)
    | (?P<other>    // | .)
    )""".replace("D", r"(?:[0-9](?:_?[0-9])*)").replace("N", r"(?:[^\W\d][\w\u0300-\u036f]*+)"),
    re.VERBOSE | re.DOTALL,
)
_ADVICE = {
    "^⁰¹²³⁴⁵⁶⁷⁸⁹⁻": "use ** for powers",
    "·×⋅": "use * for products",
    "−–": "use - for differences",
    "=": "values of variables come after the expression, as name=number",
    "<>!": "comparisons have no gradient",
    "\n\r\t": "an expression is one line with no blanks but spaces",
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
        """The message, the text, at most 72 characters of it around the place, and a caret."""
        start, stop = max(self.column - 36, 0), self.column + 36
        before = "  " + "…" * (start > 0) + printable(self.text[start : self.column])
        after = printable(self.text[self.column : stop]) + "…" * (stop < len(self.text))
        return f"{self.message}\n{before}{after}\n{' ' * display_width(before)}^"


class ParsedExpression:
    """An expression that was understood, of which `build` makes the graph for numbers.

    `text` is what was parsed, `names` are the variables in it, in order of appearance: the names
    that need values, so pi and e are not among them.
    """

    def __init__(self, text: str, parts: Sequence[_Part]) -> None:
        self.text = text
        self._all_names = dict.fromkeys(part for part in parts if isinstance(part, str))
        self.names = tuple(name for name in self._all_names if name not in _CONSTANTS)
        self._parts = parts  # operands before their operation, which needs no tree

    def build(self, values: Mapping[str, float]) -> tuple[Value, dict[str, Value]]:
        """The root of the graph, and its leaves by the names that label them.

        Without variables the root is a leaf; pi and e are variables if they have values. Raises
        InputError if values are missing or left over, and ExpressionError where an operation
        refuses its arguments or, of numbers alone, makes one that is not finite.

        >>> root, leaves = parse("x**2 + 2*x").build({"x": 3.0})
        >>> root.backward()
        >>> root.data, leaves["x"].grad
        (15.0, 8.0)
        """
        missing = [name for name in self.names if name not in values]
        if missing:
            given = " ".join(f"{name}=NUMBER" for name in missing[:_SHOWN])
            raise InputError(f"no value for {several(missing, _SHOWN)}: give {given}")
        leaves = {name: Value(values[name], name) for name in self._all_names if name in values}
        unused = [name for name in values if name not in leaves]
        if unused:
            has = f"only {several(self.names, _SHOWN)}" if self.names else "no variables"
            raise InputError(f"the expression has no {several(unused, _SHOWN)}: it has {has}")
        known: dict[str, Value | float] = {**_CONSTANTS, **leaves}
        results: list[Value | float] = []
        for part in self._parts:
            if isinstance(part, _Operation):
                first = len(results) - part.takes
                results[first:] = [self._applied(part, results[first:])]
            else:
                results.append(known[part] if isinstance(part, str) else part)
        root = results.pop()
        return (root if isinstance(root, Value) else Value(root)), leaves

    def _applied(self, operation: _Operation, operands: Sequence[Value | float]) -> Value | float:
        try:
            result = operation.op(*operands)
            if isinstance(result, float) and not math.isfinite(result):
                call = f"{operation.op.name}({', '.join(map(repr, operands))})"
                raise InputError(f"the constant overflows: {call} is {result!r}")
        except MicrogradError as error:
            raise ExpressionError(str(error), self.text, operation.place) from error
        return result


@dataclass(slots=True)
class _Operation:
    """An operation on so many of the results before it, and its place in the text."""

    op: Op
    takes: int
    place: int


# A number, the name of a variable, or an operation on what is before it.
_Part = float | str | _Operation


def functions() -> dict[str, Op]:
    """The functions of expressions: all operations but internal ones, and those users added."""
    return {name: op for name, op in ops.TABLE.items() if op.kind != "internal"} | _OTHER_NAMES


def parse(text: str) -> ParsedExpression:
    """Parse an expression of numbers, names, + - * / % **, parentheses and the table's functions.

    Names are normalised as Python normalises them (NFKC): µ, the micro sign, is the letter μ.
    Raises ExpressionError, which points at the place: for whatever is not understood, for numbers
    beyond the floats, and for text of more than 100,000 characters.

    >>> parse("tanh(w*x + b)").names
    ('w', 'x', 'b')
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"the text is over {MAX_LENGTH} characters long", text, MAX_LENGTH)
    # Dijkstra's shunting yard. Operands go straight to the result. An operator waits, within its
    # pair of parentheses, until the next one binds no tighter than it does.
    known = functions()
    parts: list[_Part] = []
    waiting: list[_Operation] = []
    # For each parenthesis that is open: how many operations wait outside of it, its place, and
    # whether the last of them is a function, of which these are the parentheses.
    opened: list[tuple[int, int, bool]] = []

    def finish(binding: int) -> None:
        outside = opened[-1][0] if opened else 0
        while len(waiting) > outside and waiting[-1].op.binding >= binding:
            parts.append(waiting.pop())

    before = "start"
    for match in _TOKEN.finditer(text.rstrip(" ")):
        kind = match.lastgroup or ""
        token, place = match[kind], match.start(kind)
        complete = before in ("number", "name", "close")  # an operator may follow, no operand
        if kind in ("call", "name"):
            token = _name(token.rstrip("( "), place, text)
        match kind:
            case "other":
                _refuse_token(token, place, text)
            case "number" | "name" | "call" | "open" if complete:
                message = f"an operator is missing before {token[:20]!r} (products need their *)"
                raise ExpressionError(message, text, place)
            case "number":
                if math.isinf(float(token)):
                    raise ExpressionError("the number is too large for a float", text, place)
                parts.append(float(token))
            case "name":
                if token in known:
                    raise ExpressionError(f"{token} is a function: write {token}(...)", text, place)
                parts.append(token)
            case "call" | "open":
                if kind == "call":
                    waiting.append(_Operation(_function(token, place, text, known), 0, place))
                opened.append((len(waiting), match.end() - 1, kind == "call"))
            case "operator" if not complete and token in "+-":  # a sign
                if token == "-":
                    waiting.append(_Operation(ops.neg, 1, place))
            case _ if not complete and (before, kind) != ("call", "close"):
                raise ExpressionError(f"an operand is missing before {token!r}", text, place)
            case "operator":
                op = _SIGNS[token]
                # Of two alike the left one is first, but 2**3**2 is 2**(3**2).
                finish(op.binding + (op is ops.power))
                waiting.append(_Operation(op, 2, place))
            case "comma":
                if not opened or not opened[-1][2]:
                    raise ExpressionError("commas are for arguments, not decimals", text, place)
                finish(0)
                waiting[-1].takes += 1
            case "close":
                if not opened:
                    raise ExpressionError("this ')' closes nothing", text, place)
                finish(0)
                if opened.pop()[2]:
                    waiting[-1].takes += complete
                    parts.append(waiting.pop())
        before = kind
    if opened:
        raise ExpressionError("this '(' is never closed", text, opened[-1][1])
    if before in ("start", "operator"):
        message = "an operand is missing at the end" if parts else "the expression is empty"
        raise ExpressionError(message, text, len(text.rstrip(" ")))
    finish(0)
    return ParsedExpression(text, parts)


def _function(name: str, place: int, text: str, known: Mapping[str, Op]) -> Op:
    if name in known:
        return known[name]
    there_are = f" (products need their *); there are {', '.join(sorted(known))}"
    advice = meant(name, known) or there_are
    raise ExpressionError(f"there is no function {name}{advice}", text, place)


def _name(token: str, place: int, text: str) -> str:
    if not token.isidentifier():  # x², say
        _refuse_token(token, place, text)
    name = normalize("NFKC", token)
    if keyword.iskeyword(name) or name.lower() in ("inf", "infinity", "nan"):
        message = f"{name!r} is a keyword of Python's, or no number to compute with"
        raise ExpressionError(message, text, place)
    return name


def _refuse_token(token: str, place: int, text: str) -> NoReturn:
    hints = (hint for characters, hint in _ADVICE.items() if not set(characters).isdisjoint(token))
    advice = next(hints, "there are numbers, names, functions, + - * / % ** ( and )")
    raise ExpressionError(f"{token[:20]!r} is not part of an expression: {advice}", text, place)
