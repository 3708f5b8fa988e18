"""What `gradcheck` found: a `Report` of rows, kinks and a culprit, and the U-curve of an input."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..errors import InputError
from ..views.names import numeral
from .differences import Slope, differences
from .measuring import power_of_two
from .neighbourhood import Function

_MOST_ROWS, _MOST_KINKS, _MOST_OPERANDS = 20, 10, 4  # in a text


@dataclass(frozen=True)
class Kink:
    """A node where an operation has no derivative, and the gradient uses `used`, a convention.

    `left` and `right` are the slopes on both sides; NaN beyond the edge of a domain.
    """

    node: str
    op: str
    operand: str
    left: float
    right: float
    used: float

    def __str__(self) -> str:
        edge = math.isnan(self.left) or math.isnan(self.right)
        what = "edge of the domain" if edge else "kink"
        node = f" (node {self.node})" if self.node else ""
        return (
            f"{what} of {self.op} at {self.operand}{node}: slope "
            f"{numeral(self.left)} to the left, {numeral(self.right)} to the right, "
            f"{numeral(self.used)} used"
        )


@dataclass(frozen=True)
class Culprit:
    """The first node at which an operation has a wrong derivative.

    `recorded` is what its partial says, `slope` what its own numbers do. `order` is 2 where second
    derivatives were checked. The node is one of the graph of f, or lies `within` a graph that was
    made of it: the partial of a node, say.
    """

    node: str
    op: str
    operand: str
    at: tuple[float, ...]
    recorded: float
    slope: Slope
    order: int = 1
    within: str = ""
    remark: str = ""

    @property
    def numeric(self) -> float:
        return self.slope.value

    @property
    def bound(self) -> float:
        return self.slope.bound

    def __str__(self) -> str:
        place = f"in {self.within}" if self.within else f"at node {self.node}"
        what = f"d/d{self.operand}" if self.operand else "second derivative"
        point = ", ".join(map(repr, self.at[:_MOST_OPERANDS]))
        point += ", ..." if len(self.at) > _MOST_OPERANDS else ""
        return (
            f"operation {self.op!r} is wrong {place}: its {what} at ({point}) is "
            f"{self.recorded!r}, the numbers that it computes say {measurement(self)}{self.remark}"
        )


@dataclass(frozen=True)
class Row:
    """One derivative: by the engine, and numerically to within `bound`."""

    name: str
    gradient: float
    numeric: float
    bound: float
    note: str = ""

    @property
    def ok(self) -> bool:
        if self.gradient == self.numeric or self.numeric != self.numeric:
            return True
        return self.bound == math.inf or abs(self.gradient - self.numeric) <= self.bound

    @property
    def resolved(self) -> bool:
        """Whether the bound tells a derivative from one that is wrong by a factor of 1.001."""
        return self.bound <= max(1e-4 * abs(self.numeric), 1e-8)

    @property
    def verdict(self) -> str:
        if not self.ok:
            return "WRONG"
        return self.note or ("ok" if self.resolved else "not resolved")


def measurement(x: Culprit | Row) -> str:
    """The number with its bound: 1.0 ± 1e-10."""
    return f"{x.numeric!r} ± {x.bound:.1g}" if x.bound else repr(x.numeric)


@dataclass(frozen=True)
class Report:
    """What `gradcheck` found: true where the gradient is right.

    `rows` has the derivative by each input, `second` second derivatives, `kinks` the nodes where
    the gradient is a convention, `problem` the sentence that says what is wrong ("" if nothing is)
    and `culprit` the operation that is.
    """

    rows: tuple[Row, ...]
    second: tuple[Row, ...] = ()
    kinks: tuple[Kink, ...] = ()
    problem: str = ""
    culprit: Culprit | None = None
    function: Function | None = field(default=None, repr=False, compare=False)

    @property
    def ok(self) -> bool:
        return not self.problem

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        table = [("derivative", "gradient", "numeric", "± bound", "")]
        for rows in (self.rows, self.second):
            shown = rows if len(rows) <= _MOST_ROWS else sorted(rows, key=lambda row: row.ok)
            table += [
                (
                    row.name,
                    f"{row.gradient:.10g}",
                    f"{row.numeric:.10g}",
                    f"{row.bound:.1g}",
                    row.verdict,
                )
                for row in shown[:_MOST_ROWS]
            ]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            f"{line[0]:<{widths[0]}}  {line[1]:>{widths[1]}}  {line[2]:>{widths[2]}}  "
            f"{line[3]:>{widths[3]}}  {line[4]}".rstrip()
            for line in table
        ]
        if len(self.rows) > _MOST_ROWS:
            lines.append(f"... {len(self.rows) - _MOST_ROWS} inputs more")
        lines += map(str, self.kinks[:_MOST_KINKS])
        unresolved = sum(row.verdict == "not resolved" for row in (*self.rows, *self.second))
        if unresolved:
            lines.append(f"{unresolved} derivatives could not be told from wrong ones by numbers")
        return "\n".join([*lines, self.problem or "nothing is wrong"])

    def curve(self, i: int = 0) -> Curve:
        """The central differences of f by input `i` (from 0) over the step: the U-curve.

        It calls f some forty times. Raises InputError if there is no such input.
        """
        function = self.function
        assert function is not None
        if not -len(self.rows) <= i < len(self.rows):
            raise InputError(f"there are {len(self.rows)} inputs, not one of index {i}")
        x = function.at[i]

        def along(t: float) -> float:
            at = [*function.at]
            at[i] = x + t
            return function(at)[1]

        scale = power_of_two(abs(x) or 1.0)
        found = differences(along, scale * 2.0**-40, scale, math.ulp(x))
        return Curve(self.rows[i].name, self.rows[i].gradient, found)


@dataclass(frozen=True)
class Curve:
    """Central differences over the step: truncation falls to the left, rounding rises.

    `slope` is the derivative that extrapolation reads off them, to within its bound.
    """

    name: str
    gradient: float
    slope: Slope

    @property
    def points(self) -> list[tuple[float, float]]:
        """Pairs of a step ε and the distance of the central difference from the gradient."""
        return [(s.step, abs(s.quotient - self.gradient)) for s in self.slope.steps]

    @property
    def step(self) -> float:
        """The ε at which the model allows the least."""
        return min(self.model, key=lambda pair: pair[1], default=(math.nan, 0.0))[0]

    @property
    def model(self) -> list[tuple[float, float]]:
        """Pairs of a step ε and what the error model allows there: truncation + rounding."""
        return [(s.step, s.truncation + s.rounding) for s in self.slope.steps]
