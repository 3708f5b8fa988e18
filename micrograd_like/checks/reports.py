"""What `gradcheck` found: a `Report` of rows, kinks and a culprit, and the U-curve of an input."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..errors import InputError
from ..views.names import numeral
from ..words import fitting
from .function import Function
from .measuring import Slope

_MOST = 20  # rows of a table, and kinks, in a text


@dataclass(frozen=True)
class Kink:
    """A node where the gradient uses a convention, between the slopes on both sides.

    These are NaN beyond the edge of a domain.
    """

    node: str
    op: str
    operand: str
    left: float
    right: float
    used: float

    def __str__(self) -> str:
        left, right, used = map(numeral, (self.left, self.right, self.used))
        edge = math.isnan(self.left) or math.isnan(self.right)
        return (
            f"{'edge of the domain' if edge else 'kink'} of {self.op} at {self.operand} "
            f"(node {self.node}): slope {left} to the left, {right} to the right, {used} used"
        )


@dataclass(frozen=True)
class Culprit:
    """The first node whose operation has a wrong derivative by its operand named `operand`.

    `recorded` is what the node has, `numeric` ± `bound` what the operation's own numbers say.
    `order` is 2 where second derivatives were checked.
    """

    node: str
    op: str
    operand: str
    recorded: float
    numeric: float
    bound: float
    order: int = 1
    remark: str = ""

    def __str__(self) -> str:
        return (
            f"operation {self.op!r} is wrong at node {self.node}: its d/d{self.operand} is "
            f"{self.recorded!r}, the numbers that it computes say {self.numeric!r} "
            f"± {self.bound:.1g}{self.remark}"
        )


@dataclass(frozen=True)
class Row:
    """One derivative: by the engine, and numerically to within `bound`."""

    name: str
    gradient: float
    numeric: float
    bound: float
    kink: bool = False

    @property
    def verdict(self) -> str:
        """The last column: WRONG, kink, ok or, where a wrong one would pass too, not resolved."""
        if not self.ok:
            return "WRONG"
        resolved = Slope(self.numeric, self.bound).resolved
        return "kink" if self.kink else "ok" if resolved else "not resolved"

    @property
    def ok(self) -> bool:
        if math.isnan(self.numeric) or not self.bound < math.inf:
            return True  # nothing is known
        return self.gradient == self.numeric or abs(self.gradient - self.numeric) <= self.bound


@dataclass
class Report:
    """What `gradcheck` found: true where the gradient is right.

    `rows` has the derivative by each input, `second` second derivatives, `kinks` the nodes where
    the gradient is a convention, `problem` the sentence that says what is wrong ("" if nothing is)
    and `culprit` the operation that is.
    """

    function: Function = field(repr=False, compare=False)
    rows: tuple[Row, ...] = ()
    second: tuple[Row, ...] = ()
    kinks: tuple[Kink, ...] = ()
    problem: str = ""
    culprit: Culprit | None = None

    @property
    def ok(self) -> bool:
        return not self.problem

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        table: list[tuple[str, ...]] = [("derivative", "gradient", "numeric", "± bound", "")]
        for rows in (self.rows, self.second):
            shown = sorted(rows, key=lambda row: row.ok) if len(rows) > _MOST else rows
            for row in shown[:_MOST]:
                numbers = f"{row.gradient:.10g}", f"{row.numeric:.10g}", f"{row.bound:.1g}"
                table.append((row.name, *numbers, row.verdict))
        width, *widths = (max(map(len, column)) for column in zip(*table, strict=True))
        lines = [
            "  ".join([name.ljust(width), *map(str.rjust, numbers, widths), verdict]).rstrip()
            for name, *numbers, verdict in table
        ]
        if len(self.rows) > _MOST:
            lines.append(f"... {len(self.rows) - _MOST} inputs more")
        kinks = map(str, self.kinks[:_MOST])
        return fitting("\n".join([*lines, *kinks, self.problem or "nothing is wrong"]))

    def curve(self, i: int = 0) -> Curve:
        """The U-curve of input `i`, from some forty calls of f. InputError if there is none."""
        if not 0 <= i < len(self.rows):
            raise InputError(f"there are {len(self.rows)} inputs, not one of index {i}")
        row, slope = self.rows[i], self.function.slope(i, lambda at: self.function(at)[1])
        points = [(h, abs(quotient - row.gradient)) for h, quotient, _ in slope.steps]
        model = [(h, allowed) for h, _, allowed in slope.steps]
        step, _ = min(model, key=lambda pair: pair[1], default=(math.nan, 0.0))
        return Curve(row.name, row.gradient, slope, points, model, step)


@dataclass(frozen=True)
class Curve:
    """Central differences over the step: truncation falls to the left, rounding rises.

    `points` are pairs of a step ε and the distance of the central difference from the gradient,
    those of `model` have what the error model allows there: least at the ε of `step`. `slope` is
    the derivative that extrapolation reads off them, to within its bound.
    """

    name: str
    gradient: float
    slope: Slope
    points: list[tuple[float, float]]
    model: list[tuple[float, float]]
    step: float
