"""Gradients held against numbers that the table of derivatives has no part in.

`gradcheck` asks three questions, each of them where it can be answered sharply:

- Are the local derivatives right? Every node's record is compared with the derivative of what its
  operation computes: by the complex step where the operation has a complex form, as those of the
  library have, by central differences where it has none.
- Are they put together rightly? The chain rule is carried out a second time, on those numeric
  local derivatives and with a bound on the error of each; a gradient outside the bound is wrong.
- Is the graph f? f is called again near the inputs, and must give what the recorded graph gives
  there, to rounding. What f computed from `.data` is missing in the graph and shows here.

Second derivatives are the gradient of a graph, that of the gradient, so the first two questions are
asked of this graph; the third one becomes whether the graph of each operation's partials is the
derivative of the operation beside the node, too.

All this costs a few sweeps and a few calls of f, not some for each input. The rounding of a whole
f, which drowns the small ones of a thousand gradients in differences of f itself, is never
divided by a step. `Report.curve` has these differences, for looking at.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from ..engine import Value, topological_order
from ..errors import InputError, MicrogradError
from ..gradients import between, grad, jvp, recomputed
from ..sums import affine
from ..views.algebra import formula
from ..views.names import names
from .curvature import graphs_of_partials, wrong_curvatures
from .differences import Slope
from .measuring import Point, measured
from .neighbourhood import Function, departures, random_direction, replayed, rounding
from .reports import Culprit, Kink, Report, Row, measurement

_ROUNDING = 2.0**-48  # of a sum in the chain rule, relative to its terms: 16 ulp
_IN_PAIRS = 4  # inputs whose second derivatives are all checked; of more, along one direction
_LONGEST_FORMULA = 60


class GradientError(MicrogradError, RuntimeError):
    """A gradient that `gradcheck` found wrong: `report` has what it found, and its culprit."""

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message, report)
        self.report = report

    def __str__(self) -> str:
        return str(self.args[0])


def gradcheck(
    f: Callable[..., Any],
    inputs: Any,
    *,
    second: bool = True,
    raise_exception: bool = True,
    seed: int = 0,
) -> Report:
    """Whether the gradient of `f` at `inputs` is right, and if not, which operation is wrong where.

    `inputs` are f's arguments, called as f(*inputs): numbers, Values, or lists of them, nested as
    you like. An f of one argument gets them as the one list that they are, as `hessian` does.
    Leaves are handed to f themselves, so that a closure over a model's parameters can be checked
    too; their data is moved and put back.

    With `second` the second derivatives are checked as well: of up to four inputs all of them, of
    more those by each input and along one random direction u, which `seed` chooses. Where f has a
    kink, the convention of the gradient is accepted if it lies between the slopes to both sides,
    and the report names it.

    Raises GradientError with the report in it, unless `raise_exception` is False; then the report
    is false. Raises InputError where there is nothing to check: f is not finite at the inputs, has
    several results, or gives two results at the same inputs.

    >>> report = gradcheck(lambda x, y: x * y + x**2, [3.0, 4.0])
    >>> report.ok, [row.gradient for row in report.rows]
    (True, [10.0, 3.0])
    """
    report = _Check(Function(f, inputs), random.Random(seed)).report(second)
    if raise_exception and not report.ok:
        raise GradientError(report.problem, report)
    return report


Measured = Callable[[Value], list[Slope]]  # the numeric local derivatives of a node


class _Chain:
    """The chain rule from `root` to `inputs`, on measured local derivatives.

    For each node in between there is the `adjoint`, a bound on its `error`, and its `size`, the sum
    over all paths of the absolute products of local derivatives. `nodes` are those that matter.
    """

    def __init__(
        self,
        root: Value,
        inputs: Sequence[Value],
        local: Measured,
        doubts: Mapping[Value, float] | None = None,
    ) -> None:
        """`doubts` are what the adjoints of some nodes may be wrong by from the start."""
        self.root, self.inputs, self.local = root, inputs, local
        order = between(root, inputs)
        self.adjoint = adjoint = dict.fromkeys(order, 0.0)
        self.error = error = dict.fromkeys(order, 0.0) | dict(doubts or {})
        size = dict.fromkeys(order, 0.0)
        if order:
            adjoint[root] = size[root] = 1.0
        for node in reversed(order):
            if node.op is None or not (size[node] or error[node]):
                continue
            a, e, s = adjoint[node], error[node], size[node]
            for parent, slope in zip(node.parents, local(node), strict=True):
                if parent not in adjoint:
                    continue
                d, bound = slope.value, slope.bound
                adjoint[parent] += a * d
                size[parent] += s * (abs(d) + (bound if bound < math.inf else 0.0))
                error[parent] += e * abs(d) + ((abs(a) + e) * bound if bound else 0.0)
                error[parent] += _ROUNDING * size[parent]
        self.nodes = [node for node in order if node.op is not None and size[node]]

    def edges(self) -> Iterator[tuple[Value, int, float, Slope]]:
        """A node, the number of a parent of it, the derivative recorded, and the measured one."""
        for node in self.nodes:
            edges = zip(node.edges, self.local(node), strict=True)
            for k, ((parent, recorded), slope) in enumerate(edges):
                if parent in self.adjoint:
                    yield node, k, recorded, slope

    def rows(self, labels: Sequence[str], gradients: Sequence[float]) -> list[Row]:
        """The engine's gradients by the inputs beside the numeric ones."""
        kinked = {node.parents[k] for node, k, _, slope in self.edges() if slope.sides is not None}
        for node in reversed(list(self.adjoint)):
            if node in kinked:
                kinked.update(node.parents)
        infinite = not all(math.isfinite(d) for node in self.adjoint for d in node.local_grads)
        rows = []
        for leaf, gradient, label in zip(self.inputs, gradients, labels, strict=True):
            note = "kink" if leaf in kinked else ""
            numeric, bound = self.adjoint.get(leaf, 0.0), self.error.get(leaf, 0.0)
            if math.isnan(gradient) and infinite:  # an infinite derivative at a kink, times 0
                note, numeric = "kink", math.nan
            rows.append(Row(label, gradient, numeric, math.inf if bound != bound else bound, note))
        return rows


class _Check:
    """What `gradcheck` does with one function."""

    def __init__(self, function: Function, rng: random.Random) -> None:
        self.function, self.rng = function, rng
        self.root, out = function()
        _, again = function()
        if out != again and (out == out or again == again):
            raise InputError(
                f"f gives {out!r} and then {again!r} at the same inputs: what is random in f has "
                "to be seeded there"
            )
        if not math.isfinite(out):
            raise InputError(f"f is {out!r} at the inputs: there is no derivative to check")
        self.inputs = function.leaves
        self.order = topological_order(self.root)
        self.names = names(list(dict.fromkeys([*self.order, *self.inputs])))
        self.local = cache(lambda node: measured(node, rng))
        self.chain = _Chain(self.root, self.inputs, self.local)
        self.kinks = [
            Kink(self._formula(node), _name(node), self.names[node.parents[k]], *slope.sides, used)
            for node, k, used, slope in self.chain.edges()
            if slope.sides is not None
        ]

    def report(self, second: bool) -> Report:
        labels = [f"∂/∂{self.names[x]}" for x in self.inputs]
        rows = self.chain.rows(labels, grad(self.root, self.inputs))
        seconds: list[Row] = []
        culprit, problem = self._verdict(rows, self.chain)
        problem = problem or self._departure(second)
        if second and not problem:
            seconds, culprit, problem = self._second()
        kinks = tuple(self.kinks)
        return Report(tuple(rows), tuple(seconds), kinks, problem, culprit, self.function)

    def _verdict(
        self, rows: Sequence[Row], chain: _Chain, beside: Culprit | None = None
    ) -> tuple[Culprit | None, str]:
        """The culprit, and the sentence about it; "" if all rows are right.

        Without a node whose record is wrong it is the one that is wrong `beside` the inputs.
        """
        wrong = [row for row in rows if not row.ok]
        if not wrong:
            return None, ""
        worst, culprit = wrong[0], self._culprit(chain) or beside
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        what = culprit or (
            "each node's local derivatives are right, and the reverse sweep has not put them "
            "together as the chain rule does"
        )
        said = f"{worst.name} is {worst.gradient!r}, not {measurement(worst)}{more}"
        return culprit, f"{said}: {what}"

    def _formula(self, node: Value) -> str:
        text = formula(node, self.names)
        if len(text) > _LONGEST_FORMULA:
            text = f"{text[: _LONGEST_FORMULA - 1]}…"
        return f"{self.names[node]} = {text}"

    def _culprit(self, chain: _Chain) -> Culprit | None:
        """The first node whose record is wrong."""
        for node, k, recorded, slope in chain.edges():
            right = recorded == slope.value or abs(recorded - slope.value) <= slope.bound
            if right or math.isnan(slope.value):
                continue
            point = Point.of(node)
            place = point.moving[k]
            argument = f"xs[{place}]" if point.op.arity is None else point.op.arguments[place]
            remark = _remark(node, point.partial(place), recorded)
            order, within = (1, "") if chain is self.chain else (2, self._home(node, chain))
            return Culprit(self._formula(node), point.op.name, argument, point.xs, recorded, slope,
                           order, within, remark)  # fmt: skip
        return None

    def _departure(self, second: bool) -> str:
        """What f does that its graph does not; its own branches at the inputs join the kinks."""

        def difference(at: Sequence[float]) -> tuple[float, float]:
            root, there = self.function(at)
            graph = replayed(self.order, dict(zip(self.inputs, at, strict=True)))
            return (0.0 if graph == there else there - graph), 4.0 * rounding(root)

        for found in departures(self.function.at, difference, self.rng):
            leaf = self.inputs[found.i]
            name, gradient = self.names[leaf], self.chain.adjoint.get(leaf, 0.0)
            if found.order == 2:
                if second:
                    return (
                        f"the second derivative of f by {name} is not that of its graph: something "
                        "in f is computed from .data, or detached, and is missing in the graph"
                    )
            elif bool(found.before) != bool(found.after):
                left, right = gradient + found.before, gradient + found.after
                self.kinks.append(Kink("", "f, which branches", name, left, right, gradient))
            else:
                missing = 0.5 * (found.before + found.after)
                return (
                    f"∂/∂{name} is {gradient:.6g}, that of f itself {gradient + missing:.4g}: each "
                    f"operation is right, but a part of f, of slope {missing:.3g}, is missing in "
                    "its graph, as what is computed from .data or detached is"
                )
        return ""

    # --- second derivatives -----------------------------------------------------------------------

    def _second(self) -> tuple[list[Row], Culprit | None, str]:
        """The same check of the graphs of the gradient."""
        gradient = grad(self.root, self.inputs, create_graph=True)
        every, n = [self.names[x] for x in self.inputs], len(self.inputs)
        rows: list[Row] = []
        for i in range(n if n <= _IN_PAIRS else 1):
            if n <= _IN_PAIRS:
                u, graph, first = [float(j == i) for j in range(n)], gradient[i], i
                labels = [f"∂²/∂{every[i]}∂{y}" for y in every]
                labels[i] = f"∂²/∂{every[i]}²"
            else:
                u = random_direction(self.function.at, self.rng)
                graph, first = affine(u, gradient, Value(0.0)), 0
                labels = [f"∂²/∂u∂{y}" for y in every]
            missing, beside = self._missing(u)
            right, doubts = graph, {node: slope.bound for node, slope in missing.items()}
            if missing:
                weights = [slope.value for slope in missing.values()]
                right = affine([1.0, *weights], [graph, *missing], Value(0.0))
            chain = _Chain(right, self.inputs, self.local, doubts)
            found = chain.rows(labels, grad(graph, self.inputs))[first:]
            rows += [replace(row, note="kink") for row in found] if self.kinks else found
            culprit, problem = self._verdict(found, chain, beside)
            if problem:
                direction = "along a random direction u, " if n > _IN_PAIRS else ""
                return rows, culprit, direction + problem
        return rows, None, ""

    def _missing(self, u: Sequence[float]) -> tuple[dict[Value, Slope], Culprit | None]:
        """What the graph of the gradient along `u` lacks: a multiple of each of these nodes.

        That is where the graph of an operation's partials does not go along with the operation. The
        culprit is the first of these operations.
        """
        tangents = dict(zip(self.order, jvp(self.order, self.inputs, u), strict=True))
        missing: dict[Value, Slope] = {}
        culprit = None
        for node in self.chain.nodes:
            first = [tangents[parent] for parent in node.parents]
            if not any(first) or not all(map(math.isfinite, first)):
                continue
            for k, recorded, slope in wrong_curvatures(node, first, self.rng):
                parent, adjoint = node.parents[k], self.chain.adjoint[node]
                before = missing.get(parent, Slope(0.0, 0.0))
                missing[parent] = Slope(
                    before.value + adjoint * (slope.value - recorded),
                    before.bound + abs(adjoint) * slope.bound,
                )
                if culprit is None:
                    by = first[0] if len(first) == 1 else 1.0
                    slope = Slope(slope.value / by, slope.bound / abs(by))
                    remark = ": its derivatives are right here, but not how they change"
                    culprit = Culprit(self._formula(node), _name(node), "", Point.of(node).xs,
                                      recorded / by + 0.0, slope, 2, "", remark)  # fmt: skip
        return missing, culprit

    def _home(self, wrong: Value, chain: _Chain) -> str:
        """Which graph has the node, if it is not that of f; its nodes get names."""
        if wrong in self.chain.adjoint:
            return ""
        self.names = names(list(dict.fromkeys([*self.names, *topological_order(chain.root)])))
        same = Point.of(wrong)
        for node in self.chain.nodes:
            made = topological_order(*graphs_of_partials(node)[1])
            if any(Point.of(n) == same for n in made if n.op is not None):
                return f"the partial of {_name(node)!r} at node {self._formula(node)}"
        return "the graph of the gradient"


def _name(node: Value) -> str:
    assert node.op is not None
    return node.op.name


def _remark(node: Value, said: float | None, recorded: float) -> str:
    """Whether a wrong record is what the operation's partial says."""
    now = recomputed(node)
    if math.isnan(now):
        return ""
    if now != node.data:
        return ": data was changed after the node was made"
    same = said is None or abs(said - recorded) <= 1e-9 * abs(recorded)
    return "" if same else f": the node has not recorded its operation's partial, {said!r}"
