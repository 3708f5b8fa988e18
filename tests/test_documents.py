"""The documents: every formula of the catalogue holds on the engine, every erratum is one."""

from __future__ import annotations

import copy
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import claims
import pytest
from claims import (
    BUNDLED,
    KINDS,
    LOSSES,
    MEASURES,
    STABLE_LOSSES,
    Catalogue,
    Check,
    MismatchError,
    Run,
    SchemaError,
    catalogue_path,
    flat,
    operation,
    read_catalogue,
    run_check,
    run_stress,
)
from errata import TABLE, errata_table
from planted import off_by

from micrograd_like import (
    MicrogradError,
    Op,
    Value,
    engine,
    grad,
    gradients,
    losses,
    ops,
    topological_order,
)
from micrograd_like.optim import SGD

CATALOGUE = read_catalogue(catalogue_path())  # another one, if the environment names it
CHECKS = CATALOGUE.checks()
OURS = read_catalogue(BUNDLED)


# --- the catalogue --------------------------------------------------------------------------------


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_the_engine_agrees_with_the_catalogue(check: Check) -> None:
    run_check(check)


@pytest.mark.parametrize(
    "case", CATALOGUE.stress, ids=lambda case: f"{case['what']}-{case.get('z', case.get('f'))}"
)
def test_the_stable_losses_are_exact_where_the_documents_formulas_fail(
    case: dict[str, Any],
) -> None:
    run_stress(CATALOGUE, case)


def test_the_bundled_catalogue_is_complete() -> None:
    assert len(OURS.checks()) == 379
    assert Counter(claim["verdict"] for claim in OURS.claims) == {"holds": 122, "erratum": 41}
    assert len({str(check) for check in OURS.checks()}) == 379
    assert len(OURS.stress) == 14


def test_the_documents_losses_are_the_librarys() -> None:
    ways = Counter(
        (way, check.body["case"].partition("/")[0])
        for check in OURS.checks()
        for way in claims.ways_of(check)
        if "case" in check.body
    )
    assert {document for way, document in ways if way == LOSSES} == {"000", "001", "004", "x"}
    assert {document for way, document in ways if way == STABLE_LOSSES} == {
        "000", "001", "003", "004", "x",
    }  # fmt: skip


# --- its reader -----------------------------------------------------------------------------------


def test_every_kind_of_check_that_the_schema_names_has_a_function() -> None:
    named = set()
    for kind in CATALOGUE.raw["readme"]["check types"]:
        name = kind.removesuffix("(_not)")
        named |= {name, f"{name}_not"} if name != kind else {name}
    assert named <= set(KINDS)


def test_every_operation_that_the_schema_names_is_one_of_the_engine() -> None:
    (listed,) = re.findall(r"Ops: ([\w ]+)", CATALOGUE.raw["readme"]["programs"])
    assert "softplus" in listed
    for name in listed.split():
        assert isinstance(operation(name, claims.FUNCTIONS), Op)
        assert callable(operation(name, claims.OPERATORS))


def test_the_tolerance_is_the_one_that_the_file_states() -> None:
    assert (OURS.rtol, OURS.atol) == (1e-12, 1e-14)


def test_the_environment_may_name_another_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROGRAD_LIKE_CLAIMS", "elsewhere.json")
    assert catalogue_path() == Path("elsewhere.json")
    monkeypatch.delenv("MICROGRAD_LIKE_CLAIMS")
    assert catalogue_path() == BUNDLED


def small_catalogue(*checks: dict[str, Any], **changes: Any) -> Catalogue:
    """A catalogue of one case: a 3-D array, a literal, what has constants alone, no conventions."""
    program = {
        "arrays": {
            "x": {"shape": [1, 2, 1], "role": "input"},
            "k": {"shape": [], "role": "computed"},
            "z": {"shape": [1, 2, 1], "role": "computed"},
            "y": {"shape": [2], "role": "computed"},
            "r": {"shape": [1, 1], "role": "computed"},
        },
        "constants": {"c_2": 2.0, "c_3": 3},
        "instructions": [
            ["k", "mul", "c_2", "c_3"],
            ["z[0, 0, 0]", "softplus", "x[0,0,0]"],
            ["z[0,1,0]", "mul", "x[0,1,0]", "k"],
            ["y[0]", "mul", "z[0,0,0]", "z[0,0,0]"],
            ["y[1]", "mul", "z[0,1,0]", "z[0,1,0]"],
            ["t1", "add", "y[0]", "y[1]"],
            ["r[0,0]", "div", "t1", 4],
        ],
    }
    raw = {
        "schema": "seed_claims/1",
        "readme": {"tolerance": "rtol 1e-12, atol 1e-14"},
        "programs": {"p": {**program, **changes}},
        "cases": {"c": {"program": "p", "inputs": {"x": [[[0.0], [0.5]]]}}},
        "claims": [{"id": "0", "checks": [{"case": "c", **check} for check in checks]}],
    }
    return Catalogue(raw, 1e-12, 1e-14)


LOG2 = math.log(2.0)


@pytest.mark.parametrize(
    "body",
    [
        {"type": "value", "of": "y", "expected": [LOG2**2, 9.0]},
        {"type": "value", "of": "k", "expected": 6.0},
        {"type": "value", "of": "t1", "expected": LOG2**2 + 9.0},
        {"type": "value", "of": "z[0,1,0]", "expected": 3.0},
        {"type": "shape", "of": "x", "expected": [1, 2, 1]},
        {"type": "shape", "of": "k", "expected": []},
        {"type": "gradient", "of": "r", "wrt": "z", "expected": [[[LOG2 / 2.0], [1.5]]]},
        {"type": "gradient", "of": "r", "wrt": "x", "expected": [[[LOG2 / 4.0], [9.0]]]},
        {"type": "gradient", "of": "r", "wrt": ["t1", "k"], "expected": [0.25, 0.75]},
        {"type": "gradient", "of": "k", "wrt": "x", "expected": [[[0.0], [0.0]]]},
        {"type": "jacobian", "of": "y", "wrt": "z", "expected": [[2.0 * LOG2, 0.0], [0.0, 6.0]]},
        {"type": "jacobian_not", "of": "k", "wrt": "k", "correct": [[1.0]], "printed": [[0.0]]},
        {"type": "elementwise_derivative", "of": "z", "wrt": "x", "expected": [[[0.5], [6.0]]]},
        {
            "type": "directional",
            "of": "r",
            "wrt": "z",
            "direction": [[[2.0], [4.0]]],
            "expected": [[LOG2 + 6.0]],
        },
        # (z + tD)² - z² - 2tzD = t²D²
        {
            "type": "remainder",
            "of": "y",
            "wrt": "z",
            "direction": [[[0.0], [3.0]]],
            "t": [1.0, 0.5],
            "expected": [3.0, 1.5],
        },
        {
            "type": "sgd_sequence",
            "of": "y",
            "order": [1, 1],
            "params": ["x"],
            "lr": 2.0**-7,
            "expected_params": {"x": [[[0.0], [0.5 * 0.4375**2]]]},
            "expected_k": 6.0,
        },
    ],
    ids=lambda body: f"{body['type']}-{body['of']}",
)
def test_the_reader_follows_the_schema_beyond_the_bundled_file(body: dict[str, Any]) -> None:
    (check,) = small_catalogue(body).checks()
    run_check(check)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"type": "hessian", "of": "y"}, "unknown kind of check 'hessian'"),
        ({"type": "property", "of": "y", "name": "sorted"}, "unknown property 'sorted'"),
        ({"type": "count", "of": "r", "expected": {"commas": 1}}, "unknown count 'commas'"),
        ({"type": "gradient", "of": "y", "wrt": "x", "expected": 0.0}, "y has 2 elements"),
    ],
)
def test_what_the_reader_does_not_know_is_no_pass(body: dict[str, Any], says: str) -> None:
    (check,) = small_catalogue(body).checks()
    with pytest.raises(SchemaError, match=says):
        run_check(check)


def test_an_operation_that_the_engine_does_not_have_is_no_pass() -> None:
    body = {"type": "value", "of": "k", "expected": 0.0}
    for name in ("cbrt", "grad", "losses"):
        (check,) = small_catalogue(body, instructions=[["k", name, "c_2"]]).checks()
        with pytest.raises(SchemaError, match=f"no operation '{name}'"):
            run_check(check)


def test_an_unknown_stress_case_or_schema_is_no_pass(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="unknown kind of stress case 'hinge'"):
        run_stress(OURS, {"what": "hinge"})
    path = tmp_path / "claims.json"
    path.write_text(json.dumps({"schema": "claims/9", "readme": {}}), encoding="utf-8")
    with pytest.raises(SchemaError, match="claims/9"):
        read_catalogue(path)


def test_an_input_of_another_shape_than_declared_is_refused() -> None:
    catalogue = small_catalogue()
    catalogue.raw["cases"]["c"]["inputs"]["x"] = [[0.0], [0.5]]
    with pytest.raises(SchemaError, match="the input x has the shape"):
        Run(catalogue, "c")


# --- the checks can fail --------------------------------------------------------------------------


def spoiled(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The check with one of its expectations made wrong, in turn."""
    for key, expected in body.items():
        if key.startswith(("expected", "correct", "of_")):
            for end in (0, -1):
                yield {**body, key: bumped(expected, end)}
    match body["type"]:
        case "descent_not":
            yield {**body, "printed_gradient": bumped(body["printed_gradient"], 0)}
        case "shape_conflict":
            yield {**body, "printed": [5, 5], "other": [5, 5]}
        case "same_gradient":
            yield {**body, "of": "S"}  # a sum, where the mean is the same
        case "gradient_relation":
            for i, relation in enumerate(body["relations"]):
                if relation["rhs_values"]:
                    relations = copy.deepcopy(body["relations"])
                    relations[i]["rhs_values"] = []
                    yield {**body, "relations": relations}
        case "backward_order":
            for earlier, later in body["before"]:
                yield {**body, "before": [[later, earlier]]}
        case "property":
            yield {**body, "of": "y2"}
        case kind if kind.endswith("_not"):
            yield {**body, "printed": body["correct"]}


def bumped(expected: Any, end: int) -> Any:
    """The first or last number in it changed, by much more than the tolerance."""
    if isinstance(expected, dict):
        key = list(expected)[end]
        return {**expected, key: bumped(expected[key], end)}
    if isinstance(expected, list):
        if not expected:
            return [1]
        other = list(expected)
        other[end] = bumped(expected[end], end)
        return other
    return expected + 1 if isinstance(expected, int) else expected + 1e-9 * (1.0 + abs(expected))


@pytest.mark.parametrize("kind", sorted({check.kind for check in OURS.checks()}))
def test_a_check_with_a_wrong_expectation_fails(kind: str) -> None:
    checks = [check for check in OURS.checks() if check.kind == kind]
    for check in checks:
        wrong = list(spoiled(check.body))
        assert wrong
        for body in wrong:
            with pytest.raises(MismatchError):
                run_check(replace(check, body=body))


# --- mistakes planted in the engine ---------------------------------------------------------------


@dataclass(frozen=True)
class Mutant:
    """A mistake that `plant` makes in the package, and a `proof` that fails with it, only.

    A proof fails by an AssertionError, or because the engine itself refuses to go on: it notices
    where an operator and its row disagree.
    """

    plant: Callable[[pytest.MonkeyPatch], None]
    proof: Callable[[], object]


def claims_hold(*names: str) -> Callable[[], None]:
    """The proof that the named claims of the bundled catalogue hold."""
    checks = [check for name in names for check in OURS.checks_of(name)]
    assert checks

    def proof() -> None:
        for check in checks:
            run_check(check)

    return proof


def wrong_sign_in_the_table(row: Op, position: int) -> Callable[[pytest.MonkeyPatch], None]:
    def plant(patch: pytest.MonkeyPatch) -> None:
        partials = list(row.partials)
        right = partials[position]
        partials[position] = lambda *args: -right(*args)
        patch.setattr(row, "partials", tuple(partials))

    return plant


def wrong_local_derivative(name: str, place: int, factor: float) -> Any:
    """The operator's node records a local derivative that is off by a factor."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        right = getattr(Value, name)

        def wrong(self: Value, *other: Any) -> Value:
            return off_by(factor, right(self, *other), place)

        patch.setattr(Value, name, wrong)

    return plant


def step_with_greater_or_equal(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ops.step, "compute", lambda x: 1.0 if x >= 0.0 else 0.0)


def mean_without_its_divisor(patch: pytest.MonkeyPatch) -> None:
    right = losses.mean
    patch.setattr(losses, "mean", lambda values: right(values) * float(len(values)))


def mean_divided_twice(patch: pytest.MonkeyPatch) -> None:
    right = losses.mean
    patch.setattr(losses, "mean", lambda values: right(values) / float(len(values)))


def divisor_missing_in_the_gradient(patch: pytest.MonkeyPatch) -> None:
    """S / m has the right value, and a local derivative of 1."""
    right = Value.__truediv__

    def wrong(self: Value, other: Any) -> Value:
        out = right(self, other)
        return out if isinstance(other, Value) else off_by(other, out, 0)

    patch.setattr(Value, "__truediv__", wrong)


def negative_adjoints(patch: pytest.MonkeyPatch) -> None:
    right = engine.adjoints

    def wrong(root: Value, seed: float = 1.0) -> dict[Value, float]:
        found = right(root, seed)
        return {node: g if node is root else -g for node, g in found.items()}

    patch.setattr(gradients, "adjoints", wrong)


def adjoints_overwritten(patch: pytest.MonkeyPatch) -> None:
    """`=` in place of `+=`: of a node that is used twice, the last use counts."""

    def wrong(root: Value, seed: float = 1.0) -> dict[Value, float]:
        order = topological_order(root)
        adjoint = {**dict.fromkeys(order, 0.0), root: seed}
        for node in reversed(order):
            for parent, local in zip(node.parents, node.local_grads, strict=True):
                adjoint[parent] = adjoint[node] * local
        return adjoint

    patch.setattr(gradients, "adjoints", wrong)


def negative_gradient_graphs(patch: pytest.MonkeyPatch) -> None:
    right = gradients.adjoint_graphs

    def wrong(root: Value, wrt: Any) -> dict[Value, Any]:
        found = right(root, wrt)
        return {node: g if node is root else -g for node, g in found.items()}

    patch.setattr(gradients, "adjoint_graphs", wrong)


def negative_backward(patch: pytest.MonkeyPatch) -> None:
    right = Value.backward
    patch.setattr(Value, "backward", lambda self, seed=1.0: right(self, -seed))


def gradients_that_pile_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SGD, "zero_grad", lambda self: None)


def negative_tangents(patch: pytest.MonkeyPatch) -> None:
    right = claims.jvp

    def wrong(outputs: Any, wrt: Any, direction: Any) -> Any:
        found = right(outputs, wrt, direction)
        return [-g for g in found] if isinstance(found, list) else -found

    patch.setattr(claims, "jvp", wrong)


def ascent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SGD, "rule", lambda self, sqrt, lr: lambda p, g: (p + lr * g,))


# All gradients of a document's network; each uses every row that the document's program does.
BINARY, SOFTMAX = claims_hold("000-32", "000-24"), claims_hold("003-25")
ROWS = ("add", "sub", "mul", "div", "neg", "exp", "log", "tanh", "sigmoid", "relu", "softplus")
SIGNS = {
    f"wrong sign in d({name})/d({argument})": Mutant(
        wrong_sign_in_the_table(ops.TABLE[name], i),
        SOFTMAX if name in ("div", "exp", "relu") else BINARY,
    )
    for name in ROWS
    for i, argument in enumerate(ops.TABLE[name].arguments)
}
INLINED = {
    f"wrong sign in Value.{name}, by operand {place}": Mutant(
        wrong_local_derivative(name, place, -1.0), SOFTMAX if name == "__truediv__" else BINARY
    )
    for name, place in [
        ("__add__", 0),
        ("__add__", 1),
        ("__sub__", 0),
        ("__sub__", 1),
        ("__rsub__", 1),
        ("__mul__", 0),
        ("__mul__", 1),
        ("__truediv__", 0),
        ("__truediv__", 1),
        ("__neg__", 0),
    ]
}
MUTANTS = {
    **SIGNS,
    **INLINED,
    "relu's derivative with >=": Mutant(step_with_greater_or_equal, claims_hold("003-24")),
    "no 1/m in losses.mean": Mutant(mean_without_its_divisor, claims_hold("000-21")),
    "no 1/m in the mean's value": Mutant(mean_without_its_divisor, claims_hold("000-06")),
    "no 1/m in the cross-entropy": Mutant(mean_without_its_divisor, claims_hold("003-10")),
    "1/m twice in losses.mean": Mutant(mean_divided_twice, claims_hold("004-29")),
    "no 1/m in the engine's gradient": Mutant(
        divisor_missing_in_the_gradient, claims_hold("000-35")
    ),
    "wrong sign in the reverse sweep": Mutant(negative_adjoints, BINARY),
    "= for += in the reverse sweep": Mutant(adjoints_overwritten, BINARY),
    "wrong sign in the sweep of graphs": Mutant(negative_gradient_graphs, BINARY),
    "wrong sign in backward": Mutant(negative_backward, BINARY),
    "wrong sign in jvp": Mutant(negative_tangents, claims_hold("004-23")),
    "ascent in SGD": Mutant(ascent, claims_hold("004-32")),
    "zero_grad that does nothing": Mutant(gradients_that_pile_up, claims_hold("004-32")),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mistake_planted_in_the_package_is_found(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant = MUTANTS[name]
    mutant.proof()
    mutant.plant(monkeypatch)
    with pytest.raises((AssertionError, MicrogradError)):
        mutant.proof()


def test_only_claims_about_relu_at_zero_notice_that_its_derivative_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step_with_greater_or_equal(monkeypatch)
    found = set()
    for check in OURS.checks():
        try:
            run_check(check)
        except MismatchError:
            found.add(check.claim)
    assert found == {"001-26", "003-24"}


# --- errata ---------------------------------------------------------------------------------------


def test_the_table_of_errata_is_the_catalogues() -> None:
    assert TABLE.read_text(encoding="utf-8") == errata_table(OURS)


def test_the_table_has_a_row_and_a_witness_for_each_erratum() -> None:
    rows = [line for line in errata_table(OURS).splitlines() if re.match(r"\| \d{3}-", line)]
    errata = [claim["id"] for claim in OURS.claims if claim["verdict"] == "erratum"]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == errata
    for row in rows:
        cells = row.removeprefix("| ").removesuffix(" |").split(" | ")
        assert len(cells) == 5
        assert re.search(r"case \w+", cells[-1])
        assert re.search(r"\d", cells[-1].partition("case ")[2].partition(":")[2])


def test_what_the_table_says_of_the_printed_formulas_is_contradicted_by_the_engine() -> None:
    for check in OURS.checks():
        if check.kind.removesuffix("_not") in MEASURES and check.kind.endswith("_not"):
            for _, got in claims.measure(check):
                assert not check.close(got, check.body["printed"])


def test_a_gradient_in_the_table_is_the_one_that_grad_gives() -> None:
    run = Run(OURS, "000/A")
    gradient = grad(run.scalar("L"), flat(run["Z2"]))
    assert f"`dL/dZ2[1,0]` = {gradient[1]:.6g}, as printed" in errata_table(OURS)
