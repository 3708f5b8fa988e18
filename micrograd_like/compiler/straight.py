"""The tape as straight-line Python over floats: one line an assignment, standard library only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from math import isfinite, nan
from typing import Any

from ..errors import DomainError
from ..ops import BUILTIN, Op
from .tape import Call, Sum, Tape, word

# Python's compiler recurses into expressions: longer sums are written in several lines.
_MOST_TERMS = 100


def emit_straight(
    tape: Tape, names: Sequence[str], blocks: Sequence[tuple[str, int]]
) -> tuple[str, dict[str, Any]]:
    """The source of `program(values)`, and the rows that it calls, by their names.

    `names` are those of the inputs; `blocks` as in `emit`, of which arrays become lists.
    """
    return _Writer(tape, names).source(blocks)


def unrefusing(op: Op) -> Callable[..., float]:
    """The row as a function of numbers which answers as IEEE 754 does outside its domain."""

    def function(*args: float) -> float:
        xs = [float(x) for x in args]
        try:
            return op.evaluate(xs)
        except DomainError:
            return op.ieee(*xs)
        except ValueError:  # a row of the user's
            return nan

    def builtin(*xs: float) -> float:
        try:
            return compute(*xs)
        except (ArithmeticError, ValueError):
            return function(*xs)

    compute = op.compute
    return builtin if op.name in BUILTIN else function


class _Writer:
    def __init__(self, tape: Tape, names: Sequence[str]) -> None:
        self.tape = tape
        self.names = [*names, *(f"t{i + 1}" for i in range(len(tape.assignments)))]
        self.ops: dict[str, Op] = {}
        self.rows: dict[str, Any] = {}
        self.lines: list[str] = []

    def source(self, blocks: Sequence[tuple[str, int]]) -> tuple[str, dict[str, Any]]:
        inputs = self.names[: self.tape.inputs]
        for first in range(0, len(inputs), _MOST_TERMS):
            part = inputs[first : first + _MOST_TERMS]
            taken = "values" if len(part) == len(inputs) else f"values[{first}:{first + len(part)}]"
            self.lines.append(f"[{', '.join(part)}] = {taken}")
        for number, assignment in enumerate(self.tape.assignments, self.tape.inputs):
            name = self.names[number]
            if isinstance(assignment, Call):
                self.lines.append(f"{name} = {self._call(assignment)}")
            else:
                self._sum(name, assignment)
        results = []
        outputs = map(self._name, self.tape.outputs)
        for _, size in blocks:
            names = ", ".join(islice(outputs, size or 1))
            results.append(f"[{names}]" if size else names)
        self.lines.append(f"return {', '.join(results)}")
        body = "\n".join(f"    {line}" for line in self.lines)
        return f"def program(values):\n{body}\n", self.rows

    def _name(self, x: int | float) -> str:
        return self.names[x] if isinstance(x, int) else _number(x)

    def _call(self, call: Call) -> str:
        args = ", ".join(map(self._name, call.args))
        return f"{self._row(call.op)}({args})"

    def _row(self, op: Op) -> str:
        # Names of built-in functions, and of the user's rows, which may be any text, end in _.
        name = op.name
        if name in ("abs", "max", "min", "pow"):
            name = f"{name}_"
        elif name not in BUILTIN:
            name = f"{'op_' * name[:1].isdigit()}{word(name)}_"
        while name in self.names or self.ops.setdefault(name, op) is not op:
            name += "_"
        self.rows.setdefault(name, unrefusing(op))
        return name

    def _sum(self, name: str, assignment: Sum) -> None:
        terms = [_term(c, self._name(a)) for a, c in assignment.linear.items()]
        terms += [
            _term(c, f"{self._name(a)} * {self._name(b)}")
            for (a, b), c in assignment.products.items()
        ]
        if assignment.constant != 0.0 or not terms:
            terms.append(_number(assignment.constant))
        leading = next((k for k, term in enumerate(terms) if not term.startswith("-")), 0)
        terms = [terms[leading], *terms[:leading], *terms[leading + 1 :]]
        for first in range(0, len(terms), _MOST_TERMS):
            part = terms[first : first + _MOST_TERMS]
            text = " + ".join([name, *part] if first else part)
            self.lines.append(f"{name} = {text}".replace("+ -", "- "))


def _term(c: float, text: str) -> str:
    if c == 1.0:
        return text
    return f"-{text}" if c == -1.0 else f"{_number(c)} * {text}"


def _number(x: float) -> str:
    return repr(x) if isfinite(x) else f'float("{x}")'
