"""Gradients held against numbers that the table of derivatives has no part in.

`gradcheck` asks three questions. Are the local derivatives right? Every node's record is compared
with the derivative of what its operation computes. Are they put together rightly? The chain rule is
carried out a second time, on those numbers and with a bound on the error of each; a gradient
outside its bound is wrong. Is the graph f? Beside the inputs, f must give what its graph gives.

At a kink any slope between those to both sides is right. Where kinks meet, they may cancel, and the
slopes of the whole graph decide, which differences tell.

Second derivatives are the gradient of a graph, that of the gradient, so the same is asked of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from typing import Any

from ..engine import Value, adjoints, topological_order
from ..errors import InputError, MicrogradError
from ..gradients import between, grad, recomputed
from ..modes import apart, silences
from ..sums import affine
from ..views.algebra import formula
from ..views.names import names
from .function import Function
from .measuring import EXACT, FAILURES, Local, measured
from .reports import Culprit, Kink, Report, Row

_ROUNDING = 2.0**-48  # of a sum in the chain rule, relative to its terms: 16 ulp
_BESIDE = 2.0**-10  # of the inputs, where the gradient is looked at once more
_IN_PAIRS = 4  # inputs whose second derivatives are all checked; of more, along one direction


class GradientError(MicrogradError, RuntimeError):
    """A gradient that `gradcheck` found wrong: `report` has what it found, and its culprit."""

    report: Report


def gradcheck(
    f: Callable[..., Any], inputs: Any, *, second: bool = True, raise_exception: bool = True
) -> Report:
    """Whether the gradient of `f` at `inputs` is right, and if not, which operation is wrong where.

    `inputs` are f's arguments, called as f(*inputs): numbers, Values, or lists of them, nested as
    you like. An f of one argument gets them as the one list that they are, as `hessian` does.
    Leaves are handed to f themselves, so that a closure over a model's parameters can be checked
    too; their data is moved and put back.

    With `second` the second derivatives are checked as well: of up to four inputs all of them, of
    more those by each input and along one direction u. Where an operation has a kink, the
    convention of the gradient is accepted if it lies between the slopes to both sides. Where kinks
    meet, these are the slopes of f itself: relu(x) - relu(-x) is x, and has the derivative 1 at 0.

    Raises GradientError with the report in it, unless `raise_exception` is False; then the report
    is false. Raises InputError where there is nothing to check: f is not finite at the inputs, has
    several results, or gives two results at the same inputs.

    >>> report = gradcheck(lambda x, y: x * y + x**2, [3.0, 4.0])
    >>> report.ok, [row.gradient for row in report.rows]
    (True, [10.0, 3.0])
    """
    with apart(silences):
        start = (function := Function(f, inputs)).at
        try:
            check = _Check(function)
            check.first()
            if second and check.report.ok:
                check.second()
            if second and check.report.ok:
                check.beside()
        finally:
            function.put(start)  # Ctrl-C may have come while they were put back
    if raise_exception and not check.report.ok:
        error = GradientError(check.report.problem)
        error.report = check.report
        raise error
    return check.report


class _Sweep:
    """The chain rule from `root` to `inputs`, on local derivatives that are `measured`.

    For each node in between there is the `adjoint` and a bound on its `error`. `kinks` has the
    nodes that move the root, each with the kinks on its way there, or two of them: in any order,
    the local derivatives by node and place. `locals` is what was measured at nodes that matter.
    """

    def __init__(
        self, root: Value, inputs: Sequence[Value], measured: Callable[[Value], list[Local]]
    ) -> None:
        self.inputs = inputs
        self.kinks: dict[Value, dict[tuple[Value, int], Local]] = {root: {}}
        nodes = between(root, inputs)
        self.adjoint, self.error = dict.fromkeys(nodes, 0.0), dict.fromkeys(nodes, 0.0)
        if nodes:
            self.adjoint[root] = 1.0
        for node in reversed(nodes):
            a, e = self.adjoint[node], self.error[node]
            for local in measured(node):
                parent, slope = local.parent, local.slope
                if parent in nodes:
                    term = a * slope.value
                    self.adjoint[parent] += term
                    off = (abs(a) + e) * slope.bound if a or e else 0.0
                    off += e * abs(slope.value) if e else 0.0
                    self.error[parent] += off + _ROUNDING * abs(term)
                    self._follow(local)
        # What a choice depends on has no adjoint: where it switches, there may be a kink, also
        # where the side that is taken is a number.
        order = topological_order(root, untaken=True)
        choices = [n for n in order if n.op is not None and n.op.kind == "choice"]
        conditions = [n.operands[0] for n in choices if isinstance(n.operands[0], Value)]
        for node in reversed(topological_order(*conditions, untaken=True)):
            for local in measured(node) if node not in nodes else ():
                self._follow(local, True)
        mattering = [node for node, a in self.adjoint.items() if a]
        self.locals = [loc for node in mattering for loc in measured(node) if loc.parent in nodes]

    def _follow(self, local: Local, chooses: bool = False) -> None:
        """Note the kinks that are met on the way from the root through `local`."""
        node, sides = local.node, local.slope.sides
        met: dict[tuple[Value, int], Local] = {}
        turns = chooses and not local.slope.value  # x·x > 0 at 0: on both sides the same holds
        if node in self.kinks and (local.slope.value or sides or turns):
            met |= self.kinks[node]
        elif sides is None or sides[0] != sides[1]:  # a jump moves what chooses by it, if not here
            return
        if sides is not None or turns:
            met[node, local.place] = local
        if len(found := self.kinks.setdefault(local.parent, {})) < 2:
            found |= met

    def rows(
        self, labels: Sequence[str], gradients: Sequence[float], kink: bool = False
    ) -> tuple[Row, ...]:
        """The engine's gradients by the inputs beside the numeric ones."""
        sums, errors = self.adjoint, self.error
        return tuple(
            Row(label, g, sums.get(x, 0.0), errors.get(x, 0.0), kink or bool(self.kinks.get(x)))
            for label, x, g in zip(labels, self.inputs, gradients, strict=True)
        )


class _Check:
    """What `gradcheck` does with one function, and the report on what it has found so far."""

    def __init__(self, function: Function) -> None:
        self.function, self.inputs = function, function.leaves
        self.root, out = function(function.at)
        _, again = function(function.at)
        if out != again and (out == out or again == again):
            raise InputError(
                f"f gives {out!r} and then {again!r} at the same inputs: what is random in f has "
                "to be seeded there"
            )
        if not math.isfinite(out):
            raise InputError(f"f is {out!r} at the inputs: there is no derivative to check")
        self.order = topological_order(self.root, untaken=True)
        self.names = names(list(dict.fromkeys([*self.order, *self.inputs])))
        self.measured = cache(measured)
        self.sweep = _Sweep(self.root, self.inputs, self.measured)
        self.report = Report(function)

    def first(self) -> None:
        """Check the gradient."""
        report = self.report
        for local in self.sweep.locals:
            if (sides := local.slope.sides) is not None:
                at, op, used = self.names[local.parent], local.op.name, local.recorded
                report.kinks += (Kink(self._formula(local), op, at, *sides, used),)
        labels = [f"∂/∂{self.names[x]}" for x in self.inputs]
        rows = enumerate(self.sweep.rows(labels, grad(self.root, self.inputs)))
        report.rows = tuple([self._where_kinks_meet(i, row) for i, row in rows])
        self._judge(report.rows, self.sweep, 1)
        if report.ok:
            self._judge_nan()

        def rounding(root: Value) -> float:
            ulps = [abs(g) * math.ulp(node.data) for node, g in adjoints(root).items()]
            return 32.0 * sum(ulps)

        if not report.ok:
            return
        if found := self.function.departure(self.order, lambda _, number: number, rounding):
            i, lacking = found
            gradient = report.rows[i].gradient
            report.problem = (
                f"{labels[i]} is {gradient:.6g}, that of f itself {gradient + lacking:.4g}: each "
                f"operation is right, but a part of f, of slope {lacking:.3g}, is missing in its "
                "graph, as what is computed from .data or detached is"
            )

    def _judge_nan(self) -> None:
        """Set the problem if a gradient is NaN though no local derivative is: 0·inf, or inf - inf.

        Of what has no derivative by convention, as x**y by y for x < 0, NaN is right.
        """
        locals_, report = self.sweep.locals, self.report
        names = [row.name for row in report.rows if math.isnan(row.gradient)]
        if not names or any(math.isnan(local.recorded) for local in locals_):
            return
        infinite = [local for local in locals_ if math.isinf(local.recorded)]
        by = "".join([f" ({self._formula(x)} has the slope {x.recorded!r})" for x in infinite[:1]])
        report.problem = (
            f"{names[0]} is nan: infinities meet zeros or each other in the chain rule{by}; write "
            "f so that no slope on the way is infinite"
        )

    def _where_kinks_meet(self, i: int, row: Row) -> Row:
        """The row of input `i`, by the slopes of the whole function if there are several kinks.

        Kinks may cancel, as in relu(x) - relu(-x), which is x: there the conventions of the single
        operations need not add up to a derivative.
        """
        if len(self.sweep.kinks.get(self.inputs[i], {})) < 2:
            return row
        unit = max([local.slope.unit for local in self.sweep.locals], default=EXACT)
        slope = self.function.slope(i, partial(self.function.of_graph, self.order), unit)
        if not (slope.bound < math.inf and math.isfinite(row.gradient)):  # an edge, or a pole
            return row
        low, high = sorted(slope.sides or (slope.value, slope.value))
        nearest = max(low, min(row.gradient, high))
        bound = slope.bound + (row.bound if row.bound < math.inf else 0.0)  # sums of thirds round
        return Row(row.name, row.gradient, nearest, bound, slope.sides is not None)

    def second(self) -> None:
        """Check the gradient of the gradient, in the same way."""
        every, u = [self.names[x] for x in self.inputs], self.function.scale
        gradient = grad(self.root, self.inputs, create_graph=True)
        along = affine(u, gradient, Value(0.0))
        order = topological_order(along, untaken=True)
        rounding = sum(v * row.bound for v, row in zip(u, self.report.rows, strict=True))

        def slope(root: Value, _: float) -> float:
            return math.fsum(v * g for v, g in zip(u, grad(root, self.inputs), strict=True))

        if found := self.function.departure(order, slope, lambda _: rounding):
            self.report.problem = (
                f"second derivatives by {every[found[0]]} are not those of the gradient's graph, "
                "where a number is missing: a partial, or f, uses .data, or something detached"
            )
            return
        few = len(every) <= _IN_PAIRS
        graphs = dict(zip(every, gradient, strict=True)) if few else {"u": along}
        for i, (by, graph) in enumerate(graphs.items()):
            sweep = _Sweep(graph, self.inputs, self.measured)
            self.names = names(
                list(dict.fromkeys([*self.names, *topological_order(graph, untaken=True)]))
            )
            labels = [f"∂²/∂{by}∂{y}" if y != by else f"∂²/∂{y}²" for y in every]
            rows = sweep.rows(labels, grad(graph, self.inputs), bool(self.report.kinks))[i:]
            self.report.second += rows
            self._judge(rows, sweep, 2)
            if not self.report.ok:
                return

    def beside(self) -> None:
        """Check the gradient beside the inputs, too.

        A gradient that is right at the inputs alone has a wrong derivative. The graph of the
        gradient does not show that, since it is made of the same partials.
        """
        for t in (_BESIDE, -_BESIDE):
            with suppress(*FAILURES), self.function.moved(t):
                check = _Check(self.function)
                check.first()
                if not check.report.ok:
                    culprit = check.report.culprit
                    self.report.culprit = culprit and replace(culprit, order=2)
                    self.report.problem = (
                        "the gradient is right at the inputs, but its own derivatives are not: "
                        f"beside the inputs {check.report.problem}"
                    )
                return

    def _judge(self, rows: Sequence[Row], sweep: _Sweep, order: int) -> None:
        """Set the problem, if a row is wrong, and the culprit: the first node that is."""
        wrong = [row for row in rows if not row.ok]
        if not wrong:
            return
        for local in sweep.locals:
            recorded, slope, op = local.recorded, local.slope, local.op
            right = recorded == slope.value or abs(recorded - slope.value) <= slope.bound
            if not right and not math.isnan(slope.value):
                changed = local.node.data != recomputed(local.node)
                remark = ": data was changed after the node was made" if changed else ""
                operand = op.arguments[local.place] if op.arity else f"xs[{local.place}]"
                self.report.culprit = Culprit(self._formula(local), op.name, operand, recorded,
                                              slope.value, slope.bound, order, remark)  # fmt: skip
                break
        kinks = sweep.kinks.get(self.inputs[rows.index(wrong[0])], {}) if order == 1 else {}
        places = " and ".join(dict.fromkeys(map(self._formula, kinks.values())))
        what = self.report.culprit or (
            f"kinks meet there, of {places}, and the conventions of the single operations do not "
            "add up to a derivative of f"
            if len(kinks) > 1
            else "each node's local derivatives are right, and the reverse sweep has not put them "
            "together as the chain rule does"
        )
        said = f"{wrong[0].gradient!r}, not {wrong[0].numeric!r} ± {wrong[0].bound:.1g}"
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        self.report.problem = f"{wrong[0].name} is {said}{more}: {what}"

    def _formula(self, local: Local) -> str:
        return f"{self.names[local.node]} = {formula(local.node, self.names, most=4)}"
