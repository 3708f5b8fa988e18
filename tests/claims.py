"""The catalogue of the documents' formulas: its programs as Values, its checks as functions.

The catalogue (`data/seed_claims.json`) holds every formula and claim of five texts on
backpropagation. A *program* is a list of instructions on scalars, a *case* a program with numbers
for its inputs, a *claim* a statement of a document with the *checks* that prove it, or prove it
wrong. The expected numbers were computed elsewhere, with 50 digits; everything held against them
here comes from the engine, through its public names.

`run_check` runs one check in every *way* that applies: with operators and methods (`a - b`,
`z.tanh()`), with the rows of the table as functions (`sub(a, b)`, `tanh(z)`), and, where the
derivative is one of a document's loss, with that loss taken from `losses`.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import operator
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import micrograd_like as ml
from micrograd_like import Op, Value, grad, jacobian, jvp, losses, topological_order
from micrograd_like.optim import SGD

BUNDLED = Path(__file__).parent / "data" / "seed_claims.json"

Numbers = Any  # a float, or nested lists of floats
Array = Any  # a Value, or nested lists of Values

OPERATORS = "operators"
FUNCTIONS = "functions"
LOSSES = "losses"  # of probabilities, as the documents have them
STABLE_LOSSES = "losses of logits"
WAYS = (OPERATORS, FUNCTIONS, LOSSES, STABLE_LOSSES)


class MismatchError(AssertionError):
    """The engine and the catalogue disagree."""


class SchemaError(Exception):
    """The catalogue says something that its reader does not understand."""


def catalogue_path() -> Path:
    """The catalogue that the tests run: the bundled one, unless the environment names another."""
    return Path(os.environ.get("MICROGRAD_LIKE_CLAIMS", BUNDLED))


# --- the file -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Catalogue:
    """The parts of the file as they stand there, and the tolerance that it asks for."""

    raw: dict[str, Any]
    rtol: float
    atol: float

    @property
    def claims(self) -> list[dict[str, Any]]:
        return self.raw["claims"]

    @property
    def stress(self) -> list[dict[str, Any]]:
        return self.raw.get("stress", [])

    def program_of(self, case: str) -> dict[str, Any]:
        return self.raw["programs"][self.raw["cases"][case]["program"]]

    def checks(self) -> list[Check]:
        return [
            Check(self, claim["id"], number, body)
            for claim in self.claims
            for number, body in enumerate(claim["checks"])
        ]

    def checks_of(self, claim: str) -> list[Check]:
        return [check for check in self.checks() if check.claim == claim]


@dataclass(frozen=True)
class Check:
    """One check of one claim; `body` is its entry in the file."""

    catalogue: Catalogue
    claim: str
    number: int
    body: dict[str, Any]

    @property
    def kind(self) -> str:
        return self.body["type"]

    def __str__(self) -> str:
        return f"{self.claim}-check{self.number}-{self.kind}"

    def close(self, got: Numbers, want: Numbers) -> bool:
        """Whether both have the same shape, and each number is within the file's tolerance."""
        rtol = self.body.get("rtol", self.catalogue.rtol)
        atol = self.body.get("atol", self.catalogue.atol)
        return shape_of(got) == shape_of(want) and all(
            x == y or abs(x - y) <= atol + rtol * abs(y)
            for x, y in zip(flat(got), flat(want), strict=True)
        )

    def require(self, got: Numbers, want: Numbers, what: str) -> None:
        if not self.close(got, want):
            raise MismatchError(f"{self}: {what} is {got}, the catalogue has {want}")

    def require_differs(self, got: Numbers, printed: Numbers, what: str) -> None:
        if self.close(got, printed):
            raise MismatchError(f"{self}: {what} is {got}, as the wrong formula says")


@functools.cache
def read_catalogue(path: Path) -> Catalogue:
    raw = json.loads(Path(path).read_text(encoding="utf-8"))
    if not str(raw.get("schema", "")).startswith("seed_claims/1"):
        raise SchemaError(f"the schema is seed_claims/1, got {raw.get('schema')!r}")
    stated = str(raw["readme"].get("tolerance", ""))
    found = dict(re.findall(r"\b(rtol|atol)\s*=?\s*([\d.]+(?:e[-+]?\d+)?)", stated))
    if set(found) != {"rtol", "atol"}:
        raise SchemaError(f"the tolerance states an rtol and an atol, got {stated!r}")
    return Catalogue(raw, float(found["rtol"]), float(found["atol"]))


# --- nested lists ---------------------------------------------------------------------------------


def shape_of(x: Any) -> list[int]:
    """The lengths of nested lists, from the outermost inwards; [] for a scalar."""
    shape = []
    while isinstance(x, list):
        shape.append(len(x))
        if not x:
            break
        x = x[0]
    return shape


def flat(x: Any) -> list[Any]:
    """The elements of nested lists in C order."""
    return [element for item in x for element in flat(item)] if isinstance(x, list) else [x]


def like(x: Any, elements: Iterator[Any]) -> Any:
    """The next elements in the shape of `x`."""
    return [like(item, elements) for item in x] if isinstance(x, list) else next(elements)


def shaped_like(x: Any, elements: Sequence[Any]) -> Any:
    if len(elements) != len(flat(x)):
        raise MismatchError(f"{len(elements)} numbers do not have the shape {shape_of(x)}")
    return like(x, iter(elements))


def data(array: Array) -> Numbers:
    return shaped_like(array, [value.data for value in flat(array)])


def element_names(name: str, shape: Sequence[int]) -> Any:
    """The name of each element of an array, nested like the array: 'W[0,1]', or 'L' of a scalar."""

    def nested(index: tuple[int, ...]) -> Any:
        if len(index) == len(shape):
            return f"{name}[{','.join(map(str, index))}]" if index else name
        return [nested((*index, i)) for i in range(shape[len(index)])]

    return nested(())


# --- programs -------------------------------------------------------------------------------------

SYMBOLS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "neg": operator.neg,
    "pow": operator.pow,
}


def operation(name: str, way: str) -> Callable[..., Any]:
    """The operation as an operator or method of Values, or as a row of the table."""
    row = getattr(ml, name, None)
    if not isinstance(row, Op):
        raise SchemaError(f"the engine has no operation {name!r}")
    if way == FUNCTIONS:
        return row
    return SYMBOLS.get(name) or getattr(Value, name, row)


class Run:
    """A case, run: its program's arrays as Values.

    `leaves` are the Values of the inputs by the names of their elements, made from the case unless
    given. `replaced` has leaves that stand in place of computed elements.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        case: str,
        way: str = OPERATORS,
        *,
        leaves: Mapping[str, Value] | None = None,
        replaced: Mapping[str, Value] | None = None,
    ) -> None:
        self.case = catalogue.raw["cases"][case]
        self.program = catalogue.program_of(case)
        self.way = way
        self.leaves = self._make_leaves() if leaves is None else dict(leaves)
        self._named: dict[str, Value] = {**self.leaves, **(replaced or {})}
        self._losses: dict[str, Value | None] = {}
        constants = {name: float(c) for name, c in self.program.get("constants", {}).items()}

        def operand(name: str | float) -> Value | float:
            if not isinstance(name, str):
                return float(name)
            return constants[name] if name in constants else self._named[_tidy(name)]

        for out, op, *args in self.program["instructions"]:
            if _tidy(out) in (replaced or {}):
                continue
            result = operation(op, way)(*map(operand, args))
            value = result if isinstance(result, Value) else Value(result)  # of constants alone
            value.label = out
            self._named[_tidy(out)] = value

    def _make_leaves(self) -> dict[str, Value]:
        leaves = {}
        for name, numbers in self.case["inputs"].items():
            names = element_names(name, self.shape(name))
            if shape_of(numbers) != shape_of(names):
                raise SchemaError(f"the input {name} has the shape {shape_of(numbers)}")
            for element, number in zip(flat(names), flat(numbers), strict=True):
                leaves[element] = Value(number, label=element)
        return leaves

    def shape(self, name: str) -> list[int]:
        return list(self.program["arrays"][name]["shape"])

    def names(self, name: str) -> Any:
        """The names of the elements of an array; an element's or a temporary's is its own."""
        if name in self.program["arrays"]:
            return element_names(name, self.shape(name))
        return _tidy(name)

    def __getitem__(self, name: str | list[str]) -> Array:
        """The array of that name as nested lists of Values; of a list of names, a list of arrays.

        A loss that the way takes from the library stands in place of the program's.
        """
        if isinstance(name, list):
            return [self[each] for each in name]
        loss = self.loss(name)
        return self.program_array(name) if loss is None else loss

    def loss(self, name: str) -> Value | None:
        """The library's loss in place of the array `name`, if the way asks for it."""
        if name not in self._losses:
            self._losses[name] = document_loss(self, name)
        return self._losses[name]

    def program_array(self, name: str) -> Array:
        names = self.names(name)
        return shaped_like(names, [self._named[element] for element in flat(names)])

    def scalar(self, name: str) -> Value:
        """The only element of an array, whatever its shape: what gradients are taken of."""
        elements = flat(self[name])
        if len(elements) != 1:
            raise SchemaError(f"a gradient is one of a scalar, {name} has {len(elements)} elements")
        return elements[0]


def _tidy(name: str) -> str:
    return name.replace(" ", "")


# --- the documents' losses, from the library ------------------------------------------------------


def document_loss(run: Run, name: str) -> Value | None:
    """The library's loss that the document's loss `name` is, if the run's way asks for it."""
    if run.way not in (LOSSES, STABLE_LOSSES):
        return None
    stable = run.way == STABLE_LOSSES
    arrays, doc, case = run.program["arrays"], run.program.get("doc", ""), run.case
    array = run.program_array
    if name == "L" and "labels" in case and "y2" in arrays:
        return losses.cross_entropy(array("y2"), case["labels"]) if stable else None
    if name in ("Ls", "Lb") and "softmax" in doc and {"f", "y"} <= set(arrays):
        scores, targets = array("f"), array("y")
        if name == "Ls":
            labels = [int(target.data) for target in targets]
            return losses.cross_entropy(scores, labels) if stable else None
        logits = [f1 - f0 for f0, f1 in scores]
        if stable:
            return losses.binary_cross_entropy_with_logits(logits, targets)
        return losses.binary_cross_entropy([z.sigmoid() for z in logits], targets)
    targets = [target for target in ("Y", "y") if target in arrays]
    layers = [int(a[1:]) for a in arrays if re.fullmatch(r"A[1-9]\d*", a)]
    if name in ("L", "C") and ("BCE" in doc or "log A2" in doc) and targets and layers:
        last, target = max(layers), flat(array(targets[0]))  # the last activation is the sigmoid
        if stable:
            return losses.binary_cross_entropy_with_logits(flat(array(f"Z{last}")), target)
        return losses.binary_cross_entropy(flat(array(f"A{last}")), target)
    if name == "C" and "^2/2" in doc and {"A", "T"} <= set(arrays) and not stable:
        halves = run.shape("A")[0] / 2.0  # a sum over the components, where mse has a mean
        return losses.mse(flat(array("A")), flat(array("T"))) * halves
    return None


def ways_of(check: Check) -> list[str]:
    """The ways that apply to a check.

    The library's losses skip some of what the documents' depend on (a loss of logits knows no
    probabilities, one of labels no one-hot rows): derivatives by that are of the documents' only.
    """
    body = check.body
    roots = [body[key] for key in ("of", "a", "b") if isinstance(body.get(key), str)]
    cases = body.get("cases") or [case for case in [body.get("case")] if case]

    def applies(way: str) -> bool:
        for case in cases:
            run = Run(check.catalogue, case, way)
            found = [loss for loss in map(run.loss, roots) if loss is not None]
            skipped = set(topological_order(*flat([run.program_array(name) for name in roots])))
            skipped -= set(topological_order(*found))
            if not found or not skipped.isdisjoint(flat(run[body.get("wrt", [])])):
                return False
        return bool(cases)

    ways = [OPERATORS, FUNCTIONS]
    if check.kind not in ("count", "backward_order"):  # these are about the documents' graphs
        ways += filter(applies, (LOSSES, STABLE_LOSSES))
    return ways


# --- measuring ------------------------------------------------------------------------------------
# What the engine says to a check, once for each of the routes by which it can be asked.

Measured = Iterator[tuple[str, Numbers]]


def measure_value(check: Check, run: Run) -> Measured:
    yield f"the value of {check.body['of']}", data(run[check.body["of"]])


def measure_shape(check: Check, run: Run) -> Measured:
    yield f"the shape of {check.body['of']}", shape_of(run[check.body["of"]])


def measure_gradient(check: Check, run: Run) -> Measured:
    """By `grad`, by the graph of the gradient, by `backward`, and by `jvp` along each axis."""
    of, wrt = run.scalar(check.body["of"]), run[check.body["wrt"]]
    variables = flat(wrt)
    what = f"d{check.body['of']}/d{check.body['wrt']}"
    by_grad = grad(of, variables)
    yield f"{what} by grad", shaped_like(wrt, by_grad)
    graph = grad(of, variables, create_graph=True)
    yield f"{what} by create_graph", shaped_like(wrt, [g.data for g in graph])
    # Along an axis the tangent of an element of wrt that depends on another one moves with it, as
    # its part in the gradient does.
    axes = [[float(i == j) for j in range(len(variables))] for i in range(len(variables))]
    yield f"{what} by jvp", shaped_like(wrt, [jvp(of, variables, axis) for axis in axes])
    for variable in variables:
        variable.grad = 0.0
    of.backward()
    yield f"{what} by backward", shaped_like(wrt, [v.grad for v in variables])


def measure_jacobian(check: Check, run: Run) -> Measured:
    """Rows by `jacobian`, columns by `jvp`."""
    outputs, variables = flat(run[check.body["of"]]), flat(run[check.body["wrt"]])
    what = f"the Jacobian of {check.body['of']} by {check.body['wrt']}"
    yield what, jacobian(outputs, variables)
    axes = [[float(i == j) for j in range(len(variables))] for i in range(len(variables))]
    columns = [jvp(outputs, variables, axis) for axis in axes]
    yield f"{what}, by jvp", [list(row) for row in zip(*columns, strict=True)]


def measure_elementwise_derivative(check: Check, run: Run) -> Measured:
    of, wrt = run[check.body["of"]], run[check.body["wrt"]]
    for what, rows in measure_jacobian(check, run):
        for i, row in enumerate(rows):
            if len(row) != len(rows) or any(x != 0.0 for j, x in enumerate(row) if j != i):
                raise MismatchError(f"{check}: {what} is not diagonal: {rows}")
        yield f"the diagonal of {what}", shaped_like(of, [row[i] for i, row in enumerate(rows)])
    if shape_of(of) != shape_of(wrt):
        raise MismatchError(
            f"{check}: {shape_of(of)} entries are not elementwise in {shape_of(wrt)}"
        )


def measure_directional(check: Check, run: Run) -> Measured:
    """By `jvp`, and as the product of the direction with the rows that `jacobian` gives."""
    of, wrt = run[check.body["of"]], run[check.body["wrt"]]
    direction = check.body["direction"]
    if shape_of(direction) != shape_of(wrt):
        raise SchemaError(f"{check}: the direction has the shape {shape_of(direction)}")
    outputs, variables, along = flat(of), flat(wrt), flat(direction)
    what = f"the derivative of {check.body['of']} along a direction in {check.body['wrt']}"
    yield f"{what}, by jvp", shaped_like(of, jvp(outputs, variables, along))
    products = [inner(row, along) for row in jacobian(outputs, variables)]
    yield f"{what}, by jacobian", shaped_like(of, products)


MEASURES: dict[str, Callable[[Check, Run], Measured]] = {
    "value": measure_value,
    "shape": measure_shape,
    "gradient": measure_gradient,
    "jacobian": measure_jacobian,
    "elementwise_derivative": measure_elementwise_derivative,
    "directional": measure_directional,
}


def inner(xs: Sequence[float], ys: Sequence[float]) -> float:
    return math.fsum(x * y for x, y in zip(xs, ys, strict=True))


def measure(check: Check, way: str = OPERATORS) -> Measured:
    run = Run(check.catalogue, check.body["case"], way)
    return MEASURES[check.kind.removesuffix("_not")](check, run)


def check_measured(check: Check, way: str) -> None:
    for what, got in measure(check, way):
        check.require(got, check.body["expected"], f"{what} ({way})")
    if "zero_preactivations" in check.body:
        run = Run(check.catalogue, check.body["case"], way)
        on_the_kink = [
            index_in(args[0])
            for _, op, *args in run.program["instructions"]
            if op == "relu" and run[args[0]].data == 0.0
        ]
        for index in check.body["zero_preactivations"]:
            if list(index) not in on_the_kink:
                raise MismatchError(f"{check}: relu is asked at 0 in {on_the_kink}, not in {index}")


def check_measured_not(check: Check, way: str) -> None:
    for what, got in measure(check, way):
        check.require(got, check.body["correct"], f"{what} ({way})")
        check.require_differs(got, check.body["printed"], f"{what} ({way})")


def index_in(name: str) -> list[int]:
    """The index in the name of an element: [0, 1] of 'W[0,1]'."""
    return [int(i) for i in re.findall(r"\d+", name.partition("[")[2])]


# --- comparing ------------------------------------------------------------------------------------


def check_equal(check: Check, way: str) -> None:
    a, b = check.body["a"], check.body["b"]
    run = Run(check.catalogue, check.body["case"], way)
    check.require(data(run[a]), data(run[b]), f"{a}, held against {b}, ({way})")
    for name in (a, b):
        check.require(data(run[name]), check.body["expected"], f"{name} ({way})")


def check_same_gradient(check: Check, way: str) -> None:
    names = _names(check.body["wrt"])
    gradients = []
    for case in check.body["cases"]:
        run = Run(check.catalogue, case, way)
        wrt = run[names]
        gradients.append(shaped_like(wrt, grad(run.scalar(check.body["of"]), flat(wrt))))
    if len(gradients) < 2:
        raise SchemaError(f"{check}: one case has nothing to agree with")
    for case, other in zip(check.body["cases"][1:], gradients[1:], strict=True):
        for name, got, want in zip(names, other, gradients[0], strict=True):
            check.require(got, want, f"the gradient by {name} in {case} ({way})")


def check_gradient_relation(check: Check, way: str) -> None:
    run = Run(check.catalogue, check.body["case"], way)
    root = run.scalar(check.body["of"])

    def gradient(name: str) -> float:
        return grad(root, run.scalar(name))

    for relation in check.body["relations"]:
        factors = [gradient(name) for name in relation["rhs_gradients"]]
        factors += [run.scalar(name).data for name in relation["rhs_values"]]
        lhs = relation["lhs"]
        check.require(gradient(lhs), math.prod(factors), f"the gradient by {lhs} ({way})")


def check_euler(check: Check, way: str) -> None:
    run = Run(check.catalogue, check.body["case"], way)
    root = run.scalar(check.body["of"])
    for name in _names(check.body["wrt"]):
        variables = flat(run[name])
        got = inner([v.data for v in variables], grad(root, variables))
        check.require(got, check.body["expected"], f"the sum of {name} · gradient ({way})")


def check_property(check: Check, way: str) -> None:
    if check.body["name"] != "rows_sum_to_one":
        raise SchemaError(f"{check}: unknown property {check.body['name']!r}")
    run = Run(check.catalogue, check.body["case"], way)
    for i, row in enumerate(data(run[check.body["of"]])):
        check.require(math.fsum(row), 1.0, f"the sum of row {i} of {check.body['of']} ({way})")


def _names(names: str | list[str]) -> list[str]:
    return names if isinstance(names, list) else [names]


# --- descending -----------------------------------------------------------------------------------


def check_descent(check: Check, way: str) -> None:
    body = check.body
    values, run = descend(check, way)
    check.require(values, body["expected_of"], f"{body['of']} before and after each step ({way})")
    _require_params(check, run)


def descend(check: Check, way: str = OPERATORS) -> tuple[list[float], Run]:
    """The function's value before each step of gradient descent and after the last, and its run."""
    body = check.body
    run = Run(check.catalogue, body["case"], way)
    optimizer = SGD(flat(run[body["params"]]), lr=body["lr"])
    values = [run.scalar(body["of"]).data]
    for _ in range(body["steps"]):
        optimizer.zero_grad()
        run.scalar(body["of"]).backward()
        optimizer.step()
        run = Run(check.catalogue, body["case"], way, leaves=run.leaves)
        values.append(run.scalar(body["of"]).data)
    return values, run


def check_sgd_sequence(check: Check, way: str) -> None:
    body = check.body
    run = Run(check.catalogue, body["case"], way)
    optimizer = SGD(flat(run[body["params"]]), lr=body["lr"])
    for i in body["order"]:
        optimizer.zero_grad()
        flat(run[body["of"]])[i].backward()
        optimizer.step()
        run = Run(check.catalogue, body["case"], way, leaves=run.leaves)
    _require_params(check, run)
    for key, expected in body.items():
        if key.startswith("expected_") and key != "expected_params":
            name = key.removeprefix("expected_")
            name = body["of"] if name == "of" else name
            check.require(data(run[name]), expected, f"{name} after the pass ({way})")


def _require_params(check: Check, run: Run) -> None:
    expected = check.body["expected_params"]
    if set(expected) != set(check.body["params"]):
        raise SchemaError(f"{check}: expected_params has {sorted(expected)}")
    for name, numbers in expected.items():
        check.require(data(run[name]), numbers, f"{name} in the end ({run.way})")


def check_descent_not(check: Check, way: str) -> None:
    body = check.body
    before, printed, correct = descend_both_ways(check, way)
    check.require(before, body["of_before"], f"{body['of']} before ({way})")
    check.require(printed, body["of_after_printed"], f"{body['of']} after the printed step ({way})")
    check.require(correct, body["of_after_correct"], f"{body['of']} after the right step ({way})")
    if not correct < before < printed:
        raise MismatchError(f"{check}: from {before} the steps lead to {printed} and {correct}")


def descend_both_ways(check: Check, way: str = OPERATORS) -> tuple[float, float, float]:
    """The loss before, after a step along the printed gradient, after one along the engine's."""
    body = check.body
    printed = body["printed_gradient"]
    if isinstance(printed, dict):
        printed = [printed[name] for name in body["params"]]
    found = []
    for gradient in (printed, None):
        run = Run(check.catalogue, body["case"], way)
        optimizer = SGD(flat(run[body["params"]]), lr=body["lr"])
        loss = run.scalar(body["of"])
        if gradient is None:
            loss.backward()
        else:
            for parameter, g in zip(optimizer.params, flat(gradient), strict=True):
                parameter.grad = g
        optimizer.step()
        after = Run(check.catalogue, body["case"], way, leaves=run.leaves)
        found += [loss.data, after.scalar(body["of"]).data]
    return found[0], found[1], found[3]


def check_remainder(check: Check, way: str) -> None:
    """|f(x + tD) - f(x) - t·Df(x)D|₁ / (t·|D|₁) for each t."""
    body = check.body
    run = Run(check.catalogue, body["case"], way)
    wrt, along = run[body["wrt"]], flat(body["direction"])
    names, variables = flat(run.names(body["wrt"])), flat(wrt)
    outputs = flat(run[body["of"]])
    slopes = jvp(outputs, variables, along)
    for t, expected in zip(body["t"], body["expected"], strict=True):
        moved = {
            name: Value(v.data + t * d) for name, v, d in zip(names, variables, along, strict=True)
        }
        leaves = {name: moved.get(name, leaf) for name, leaf in run.leaves.items()}
        there = Run(check.catalogue, body["case"], way, leaves=leaves, replaced=moved)
        remainders = [
            abs(y.data - x.data - t * slope)
            for y, x, slope in zip(flat(there[body["of"]]), outputs, slopes, strict=True)
        ]
        length = t * math.fsum(map(abs, along))
        # The difference has the rounding errors of its terms, and little else left of them for
        # small t: an ulp of each output, twice.
        rounding = 2.0 * math.fsum(math.ulp(x.data) for x in outputs) / length
        got = math.fsum(remainders) / length
        if abs(got - expected) > rounding:
            check.require(got, expected, f"the remainder at t = {t} ({way})")


# --- informative kinds ----------------------------------------------------------------------------


def check_shape_conflict(check: Check, way: str) -> None:
    """What the document combines cannot be combined; where it names arrays, theirs are the shapes.

    `what` reads 'dZ2 A1' or '... times ...' for a product, '... + ...' for a sum, 'dZ2 as db2' for
    one shape in place of another.
    """
    body = check.body
    what, printed, other = body["what"], body["printed"], body["other"]
    run = Run(check.catalogue, body["case"], way)
    pair = re.fullmatch(r"d?(\w+)( as)? d?(\w+)", what)
    if pair and {pair[1], pair[3]} <= set(run.program["arrays"]):
        for name, shape in ((pair[1], printed), (pair[3], other)):
            if shape_of(run[name]) != list(shape):
                raise MismatchError(
                    f"{check}: {name} has the shape {shape_of(run[name])}, not {shape}"
                )
    if (pair and not pair[2]) or " times " in what:
        conflict = not product_exists(printed, other)
    elif " + " in what:
        conflict = not broadcasts(printed, other)
    else:
        conflict = list(printed) != list(other)
    if not conflict:
        raise MismatchError(f"{check}: {printed} and {other} go together as {what!r}")


def product_exists(left: Sequence[int], right: Sequence[int]) -> bool:
    return bool(left) and bool(right) and left[-1] == right[max(0, len(right) - 2)]


def broadcasts(left: Sequence[int], right: Sequence[int]) -> bool:
    pairs = itertools.zip_longest(reversed(left), reversed(right), fillvalue=1)
    return all(m == n or 1 in (m, n) for m, n in pairs)


def check_numbers_equal(check: Check, way: str) -> None:
    """The listed numbers agree; inner products of a residual are the engine's as well.

    'The three inner-product forms with (A2 - y), direction as in ID': with D the direction of claim
    ID in W1 they are R·DZ2[D], (R W2ᵀ)·DA1[D] and (...)·D. Of the loss's mean over m examples, R/m,
    R W2ᵀ/m and the last factor are the gradients by Z2, A1 and W1.
    """
    numbers = check.body["expected"]
    for i, number in enumerate(numbers[1:], 1):
        check.require(number, numbers[0], f"number {i}, held against the first,")
    phrase = re.search(r"\((\w+) - (\w+)\), direction as in ([\w-]+)", check.body["what"])
    if not phrase or len(numbers) != 3:
        return
    output, target, source = phrase.groups()
    run = Run(check.catalogue, check.body["case"], way)
    along = next(c.body for c in check.catalogue.checks_of(source) if c.kind == "directional")
    root, variables, direction = run.scalar(along["of"]), flat(run["W1"]), flat(along["direction"])
    residual = [a.data - t.data for a, t in zip(flat(run[output]), flat(run[target]), strict=True)]
    m = float(run.shape(target)[0])
    forms = [
        inner(residual, jvp(flat(run["Z2"]), variables, direction)),
        m * inner(grad(root, flat(run["A1"])), jvp(flat(run["A1"]), variables, direction)),
        m * inner(grad(root, variables), direction),
    ]
    for got, want in zip(forms, numbers, strict=True):
        check.require(got, want, f"an inner product ({way})")


def check_backward_order(check: Check, way: str) -> None:
    run = Run(check.catalogue, check.body["case"], way)
    sweep = list(reversed(topological_order(run.scalar(check.body["of"]))))
    place = {node: i for i, node in enumerate(sweep)}
    for earlier, later in check.body["before"]:
        if not place[run.scalar(earlier)] < place[run.scalar(later)]:
            raise MismatchError(f"{check}: the sweep comes to {later} before {earlier}")


def check_count(check: Check, way: str) -> None:
    run = Run(check.catalogue, check.body["case"], way)
    counts = graph_counts(run, check.body)
    for name, expected in check.body["expected"].items():
        if name not in counts:
            raise SchemaError(f"{check}: unknown count {name!r}")
        if counts[name] != expected:
            raise MismatchError(f"{check}: {name} is {counts[name]}, the catalogue has {expected}")


LINEAR = ("add", "sub", "neg", "mul", "div")


def graph_counts(run: Run, body: Mapping[str, Any]) -> dict[str, int]:
    """The costs of the reverse sweep, and of one product of local derivatives for every path.

    A factor is a local derivative that is not ±1 by its operation; multiplications join factors,
    and are one fewer than these. Parameters are the inputs named w... and b... .
    """
    instructions = run.program["instructions"]
    used = {_tidy(arg) for _, _, *args in instructions for arg in args if isinstance(arg, str)}
    sinks = [_tidy(out) for out, *_ in instructions if _tidy(out) not in used]
    (root,) = [run.scalar(body["of"])] if "of" in body else [run.scalar(name) for name in sinks]
    arrays = [name for name in run.case["inputs"] if name[0] in "wWbB"]
    parameters = flat(run[body.get("wrt", body.get("params", arrays))])
    order = topological_order(root)
    nodes = [node for node in order if node.op is not None]

    # By node: the paths from the root without a factor, those with factors, and all their factors.
    def sweep(wrt: Sequence[Value]) -> tuple[int, int, int]:
        """The multiplications of one shared sweep to `wrt`, of all paths apart, and activations."""
        active = set(wrt)
        for node in order:
            if not active.isdisjoint(node.parents):
                active.add(node)
        paths = {node: [0, 0, 0, 0] for node in order}
        paths[root] = [1, 0, 0, 0]
        shared = 0
        for node in reversed(nodes):
            if node not in active or node in wrt:
                continue
            bare, loaded, factors, activations = paths[node]
            factor = node.op.name not in ("add", "sub", "neg")
            curved = node.op.name not in LINEAR
            for parent in node.parents:
                if parent not in active:
                    continue
                shared += bool(factor and loaded)
                through = paths[parent]
                through[0] += 0 if factor else bare
                through[1] += loaded + (bare if factor else 0)
                through[2] += factors + (bare + loaded if factor else 0)
                through[3] += activations + (bare + loaded if curved else 0)
        ends = [paths[v] for v in wrt if v in paths]
        apart = sum(factors - loaded for _, loaded, factors, _ in ends)
        return shared, apart, sum(end[3] for end in ends)

    shared, _, _ = sweep(parameters)
    alone = [sweep([parameter]) for parameter in parameters]
    return {
        "op_nodes": len(set(nodes)),
        "backward_visits": len(nodes),
        "partials": len(grad(root, parameters)),
        "multiplications_shared": shared,
        "multiplications_from_scratch": sum(apart for _, apart, _ in alone),
        "alpha_prime_evaluations_shared": sum(node.op.name not in LINEAR for node in nodes),
        "alpha_prime_evaluations_from_scratch": sum(count for _, _, count in alone),
    }


# --- running --------------------------------------------------------------------------------------

KINDS: dict[str, Callable[[Check, str], None]] = {
    **dict.fromkeys(MEASURES, check_measured),
    **dict.fromkeys([f"{kind}_not" for kind in MEASURES], check_measured_not),
    "equal": check_equal,
    "same_gradient": check_same_gradient,
    "gradient_relation": check_gradient_relation,
    "euler": check_euler,
    "property": check_property,
    "descent": check_descent,
    "descent_not": check_descent_not,
    "sgd_sequence": check_sgd_sequence,
    "remainder": check_remainder,
    "shape_conflict": check_shape_conflict,
    "numbers_equal": check_numbers_equal,
    "backward_order": check_backward_order,
    "count": check_count,
}


def run_check(check: Check) -> list[str]:
    """Run a check in every way that applies, and return these ways.

    Raises MismatchError where the engine and the catalogue disagree, SchemaError for a kind of
    check that is not known.
    """
    if check.kind not in KINDS:
        raise SchemaError(f"{check}: unknown kind of check {check.kind!r}")
    ways = ways_of(check)
    for way in ways:
        KINDS[check.kind](check, way)
    return ways


# --- hard single losses ---------------------------------------------------------------------------

# The absolute tolerance of the file is no help here: losses of 1e-18 have digits too.
SMALLEST = math.ulp(0.0)


def run_stress(catalogue: Catalogue, case: Mapping[str, Any]) -> None:
    """A loss whose formula in the documents fails in doubles, by the stable losses."""

    def require(got: Sequence[float], want: Sequence[float], what: str) -> None:
        for x, y in zip(got, want, strict=True):
            if not abs(x - y) <= SMALLEST + catalogue.rtol * abs(y):
                raise MismatchError(f"{what} of {case} is {x!r}")

    if case["what"] == "bce_of_logit":
        z = Value(case["z"])
        loss = losses.binary_cross_entropy_with_logits(z, case["y"])
        variables, gradient = [z], [case["dloss_dz"]]
    elif case["what"] == "softmax_cross_entropy":
        variables = [Value(f) for f in case["f"]]
        loss = losses.cross_entropy(variables, case["label"])
        gradient = case["dloss_df"]
        log_total = ml.logsumexp(*variables)
        require([(f - log_total).exp().data for f in variables], case["p"], "the softmax")
    else:
        raise SchemaError(f"unknown kind of stress case {case['what']!r}")
    require([loss.data], [case["loss"]], "the loss")
    require(grad(loss, variables), gradient, "the gradient")
    require([g.data for g in grad(loss, variables, create_graph=True)], gradient, "its graph")
    loss.backward()
    require([v.grad for v in variables], gradient, "the gradient of backward")
