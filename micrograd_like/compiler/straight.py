"""The tape as straight-line Python over floats: one line an assignment, standard library only."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from itertools import islice
from math import isfinite
from typing import Any

from ..ops import BUILTIN, Op
from .rows import unrefusing
from .tape import Call, Sum, Tape, word
from .terms import Signed, joined, ordered, scaled, signed

# Python's compiler recurses into expressions: longer sums are written in several lines.
_MOST_TERMS = 100


def emit_straight(
    tape: Tape, names: Sequence[str], blocks: Sequence[tuple[str, int]]
) -> tuple[str, dict[str, Any]]:
    """The source of `program(values)`, and the operations that it calls, by their names there.

    `names` are those of the inputs; `blocks` as in `NumpyPrinter.program`: arrays become lists.
    """
    return _Printer(tape, names).source(blocks)


class _Printer:
    def __init__(self, tape: Tape, names: Sequence[str]) -> None:
        self.tape = tape
        self.names = [*names, *(f"t{i + 1}" for i in range(len(tape.assignments)))]
        self.taken = set(self.names)
        self.called: dict[Op, str] = {}
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
                args = ", ".join(map(self._operand, assignment.args))
                self.lines.append(f"{name} = {self._function(assignment.op)}({args})")
            else:
                self._sum(name, assignment)
        results = []
        outputs = map(self._operand, self.tape.outputs)
        for _, size in blocks:
            names = ", ".join(islice(outputs, size or 1))
            results.append(f"[{names}]" if size else names)
        self.lines.append(f"return {', '.join(results)}")
        body = "\n".join(f"    {line}" for line in self.lines)
        functions = {name: unrefusing(op) for op, name in self.called.items()}
        return f"def program(values):\n{body}\n", functions

    def _operand(self, x: int | float) -> str:
        return self.names[x] if isinstance(x, int) else "".join(_number(x))

    def _function(self, op: Op) -> str:
        """What the operation is called: its name, or that with _ behind it where that is no other.

        Python's own functions are others, and the name of a user's operation may be any text.
        """
        if op not in self.called:
            name = op.name
            if name not in BUILTIN:
                name = f"{'op_' * name[:1].isdigit()}{word(name)}_"
            elif hasattr(builtins, name):
                name += "_"
            while name in self.taken:
                name += "_"
            self.taken.add(name)
            self.called[op] = name
        return self.called[op]

    def _sum(self, name: str, assignment: Sum) -> None:
        terms = [scaled(c, self.names[a], _number) for a, c in assignment.linear.items()]
        terms += [
            scaled(c, f"{self.names[a]} * {self.names[b]}", _number)
            for (a, b), c in assignment.products.items()
        ]
        if assignment.constant != 0.0 or not terms:
            terms.append(_number(assignment.constant))
        terms = ordered(terms)
        for first in range(0, len(terms), _MOST_TERMS):
            part = terms[first : first + _MOST_TERMS]
            self.lines.append(f"{name} = {joined([('', name), *part] if first else part)}")


def _number(x: float) -> Signed:
    return signed(x) if isfinite(x) else ("", f'float("{x}")')
