"""The tape as straight-line JavaScript: a module with one function, and no dependency.

Operations are spelled as their rows say, for JavaScript or for Numba: see `javascript.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from operator import eq, ge, gt, le, lt, ne
from typing import Any, Final, NamedTuple

from ..errors import InputError
from ..ops import Op
from .javascript import OURS, number, scripts, template
from .straight import StraightPrinter
from .tape import Sum, Tape
from .terms import Signed

# What a name of a label may not be: words of the language, and what the sources use.
_TAKEN: Final = OURS | {
    "arguments", "Array", "await", "case", "catch", "class", "const", "debugger", "default",
    "delete", "do", "enum", "eval", "example", "export", "extends", "false", "function",
    "implements", "Infinity", "instanceof", "interface", "let", "Math", "NaN", "new", "null",
    "Number", "Object", "package", "parameters", "private", "protected", "public", "RangeError",
    "static", "super", "switch", "this", "throw", "true", "typeof", "undefined", "var", "void",
}  # fmt: skip
_IN_A_LINE = 4  # inputs
# Engines do not optimize longer functions, and refuse far longer ones. What has more names and
# terms is written over arrays, in parts of so many lines.
_LONGEST, _PART = 3000, 50
_SIGNS: Final = {eq: "===", ne: "!==", lt: "<", le: "<=", gt: ">", ge: ">="}


class Indicator(NamedTuple):
    """A number of the tape that is 1 where another input is equal to `choice`, else 0."""

    input: int
    choice: int


class Check(NamedTuple):
    """A comparison of two outputs that must have this outcome."""

    sign: Callable[[Any, Any], Any]
    left: int | float
    right: int | float
    outcome: bool


def spelled(op: Op) -> str:
    """The operation's template in JavaScript. Raises InputError where its row has none."""
    if op.javascript:
        return op.javascript
    if op.numba:
        return template(op.numba)
    raise InputError(
        f"the operation {op.name} does not say how it is written in JavaScript: "
        "give it javascript=, an expression with @ before each argument"
    )


class JavaScriptPrinter(StraightPrinter):
    """Writes a program of values, or a step of parameters and an example."""

    def __init__(self, tape: Tape, names: Sequence[str]) -> None:
        super().__init__(tape, [f"{name}_" if name in _TAKEN else name for name in names])
        sums = [a for a in tape.assignments if isinstance(a, Sum)]
        terms = sum(len(a.linear) + len(a.products) for a in sums)
        self.is_long = len(self.names) + terms > _LONGEST
        if self.is_long:  # the inputs get theirs when it is known where they come from
            self.names = [f"t[{i}]" for i in range(len(self.names))]

    def program(self, blocks: Sequence[tuple[str, int]], jacobian: tuple[int, int] | None) -> str:
        """The source of `program(values)`; a Jacobian is an array of rows."""
        self.inputs("values", 0, self.tape.inputs)
        self.statements()
        if jacobian:
            rows, columns = jacobian
            blocks = [blocks[0], *[("row", columns)] * rows]
        texts = self.results(blocks)
        if jacobian:
            texts[1:] = [f"[{', '.join(texts[1:])}]"]
        return self._module("values", texts)

    def step(
        self,
        parameters: int,
        indicators: Sequence[Indicator],
        choices: Mapping[int, int],
        checks: Sequence[Check],
        blocks: Sequence[tuple[str, int]],
    ) -> str:
        """The source of `program(parameters, example)`; of one block it gives that alone.

        The first inputs are the parameters, and the last ones the indicators, in order.
        """
        given = self.tape.inputs - len(indicators)
        self.inputs("parameters", 0, parameters)
        self.inputs("example", parameters, given)
        for name, (place, choice) in zip(self.names[given:], indicators, strict=False):
            self.assign(name, f"{self.names[place]} === {choice} ? 1 : 0")
        for place, count in choices.items():
            chosen = self.names[place]
            known = f"Number.isInteger({chosen}) && {chosen} >= 0 && {chosen} < {count}"
            self._throw(f"!({known})", f"take chooses by a whole number from 0 to {count - 1}")
        self.statements()
        for sign, left, right, outcome in checks:
            condition = f"{self.operand(left)} {_SIGNS[sign]} {self.operand(right)}"
            unlike = f"!({condition})" if outcome else condition
            self._throw(
                unlike, "the example takes another way than the traced one through branches"
            )
        return self._module("parameters, example", self.results(blocks))

    def _throw(self, condition: str, message: str) -> None:
        self.lines.append(f'if ({condition}) throw new RangeError("{message}")')

    def inputs(self, array: str, first: int, last: int) -> None:
        """Take the inputs from an array: by index, which is faster than all of them at once."""
        if self.is_long:
            self.names[first:last] = [f"{array}[{i}]" for i in range(last - first)]
            return
        for i in range(first, last, _IN_A_LINE):
            some = self.names[i : min(i + _IN_A_LINE, last)]
            taken = [f"{name} = {array}[{i - first + k}]" for k, name in enumerate(some)]
            self.lines.append(f"const {', '.join(taken)}")

    def assign(self, name: str, *texts: str) -> None:
        super().assign(name, *texts)
        if self.is_long:
            return
        first = len(self.lines) - len(texts)
        self.lines[first] = f"{'let' if texts[1:] else 'const'} {self.lines[first]}"

    def call(self, op: Op, args: Sequence[int | float]) -> str:
        texts = list(map(self.operand, args))
        by_name = dict(zip(op.arguments, texts, strict=False))
        if op.arity is None:
            by_name = {op.arguments[0]: f"[{', '.join(texts)}]"}

        def placed(match: re.Match[str]) -> str:
            before, name, after = match.groups()
            text = by_name[name]
            is_alone = before and after  # no operator stands beside it
            return before + (text if is_alone or text[0] != "-" else f"({text})")

        return re.sub(r"([(,] ?|)@(\w+)(?=([,)])?)", placed, spelled(op))

    def number(self, x: float) -> Signed:
        text = number(x)
        return ("-", text[1:]) if text[0] == "-" else ("", text)

    def _module(self, arguments: str, results: Sequence[str]) -> str:
        result = results[0] if len(results) == 1 else f"[{', '.join(results)}]"
        lines, parts = self.lines, []
        if self.is_long:
            heads = []
            for first in range(0, len(lines), _PART):
                heads.append(f"part{first // _PART + 1}({arguments}, t)")
                parts.append(_function(heads[-1], lines[first : first + _PART]))
            lines = [f"const t = new Float64Array({len(self.names)})", *heads]
        program = _function(f"program({arguments})", [*lines, f"return {result}"])
        return "\n\n".join([*scripts([*parts, program]), *parts, f"export {program}"]) + "\n"


def _function(head: str, lines: Sequence[str]) -> str:
    return "\n".join([f"function {head} {{", *[f"  {line};" for line in lines], "}"])


def only_read(*_: Any) -> Any:
    """What a program for JavaScript does in Python. Raises InputError."""
    raise InputError("this program is for JavaScript: its .source runs in a browser, or in Node")


def inlined(source: str) -> str:
    """The source for a script that is no module."""
    return source.replace("\nexport function", "\nfunction").removeprefix("export ")
