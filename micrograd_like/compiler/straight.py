"""The tape as straight-line Python over floats: one line an assignment, standard library only.

`javascript_source.py` prints it in the same way, in another language.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from itertools import islice
from math import isfinite
from typing import Any

from ..ops import BUILTIN, Op
from .rows import unrefusing
from .tape import Call, Sum, Tape, word
from .terms import MOST_TERMS, Signed, joined, ordered, scaled, signed


def emit_straight(
    tape: Tape, names: Sequence[str], blocks: Sequence[tuple[str, int]]
) -> tuple[str, dict[str, Any]]:
    """The source of `program(values)`, and the operations that it calls, by their names there.

    `names` are those of the inputs; `blocks` as in `NumpyPrinter.program`: arrays become lists.
    """
    return StraightPrinter(tape, names).source(blocks)


class StraightPrinter:
    """Prints the assignments of a tape, a line each."""

    def __init__(self, tape: Tape, names: Sequence[str]) -> None:
        self.tape = tape
        self.names = [*names, *(f"t{i + 1}" for i in range(len(tape.assignments)))]
        self.lines: list[str] = []
        self.taken = set(self.names)
        self.called: dict[Op, str] = {}

    def statements(self) -> None:
        """Write the assignments."""
        for number, assignment in enumerate(self.tape.assignments, self.tape.inputs):
            name = self.names[number]
            if isinstance(assignment, Call):
                self.assign(name, self.call(assignment.op, assignment.args))
                continue
            terms = self._terms(assignment)
            parts = [terms[i : i + MOST_TERMS] for i in range(0, len(terms), MOST_TERMS)]
            self.assign(name, joined(parts[0]), *[joined([("", name), *p]) for p in parts[1:]])

    def assign(self, name: str, *texts: str) -> None:
        """Write an assignment, and those that change it at once."""
        self.lines += [f"{name} = {text}" for text in texts]

    def operand(self, x: int | float) -> str:
        """The name of a number of the tape, or a constant."""
        return self.names[x] if isinstance(x, int) else "".join(self.number(x))

    def results(self, blocks: Sequence[tuple[str, int]]) -> list[str]:
        """A text for each block of outputs."""
        outputs = map(self.operand, self.tape.outputs)
        texts = [", ".join(islice(outputs, size or 1)) for _, size in blocks]
        return [
            f"[{text}]" if size else text for text, (_, size) in zip(texts, blocks, strict=True)
        ]

    def _terms(self, assignment: Sum) -> list[Signed]:
        terms = [scaled(c, self.names[a], self.number) for a, c in assignment.linear.items()]
        terms += [
            scaled(c, f"{self.names[a]} * {self.names[b]}", self.number)
            for (a, b), c in assignment.products.items()
        ]
        if assignment.constant != 0.0 or not terms:
            terms.append(self.number(assignment.constant))
        return ordered(terms)

    def source(self, blocks: Sequence[tuple[str, int]]) -> tuple[str, dict[str, Any]]:
        inputs = self.names[: self.tape.inputs]
        for first in range(0, len(inputs), MOST_TERMS):
            part = inputs[first : first + MOST_TERMS]
            taken = "values" if len(part) == len(inputs) else f"values[{first}:{first + len(part)}]"
            self.lines.append(f"[{', '.join(part)}] = {taken}")
        self.statements()
        self.lines.append(f"return {', '.join(self.results(blocks))}")
        body = "\n".join(f"    {line}" for line in self.lines)
        functions = {name: unrefusing(op) for op, name in self.called.items()}
        return f"def program(values):\n{body}\n", functions

    def call(self, op: Op, args: Sequence[int | float]) -> str:
        """An operation applied to numbers of the tape and constants."""
        return f"{self._function(op)}({', '.join(map(self.operand, args))})"

    def number(self, x: float) -> Signed:
        """A number as a term."""
        return signed(x) if isfinite(x) else ("", f'float("{x}")')

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
