"""Random programs: a fixed budget of what `fuzz.py` runs without end, and a machine of random acts.

`python tests/fuzz.py` runs the same checks on other programs, as many as you like.
"""

from __future__ import annotations

import copy
import math
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzz import (
    CHECKS,
    Disagreement,
    Run,
    check_eager,
    check_numba,
    fails,
    report,
    work,
)
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from programs import (
    MAKE,
    OPS,
    RULES,
    Bounded,
    OutsideError,
    UndecidedError,
    decode,
    error_of,
    plain,
    shrunk,
)
from reference import Dual, Program

from micrograd_like import DomainError, Value, grad, no_grad, ops, steps, topological_order
from micrograd_like.errors import StaleGraphError

# --- a fixed budget -------------------------------------------------------------------------------

BUDGET = {
    "eager": 600, "exact": 200, "second": 120, "several": 60, "derived": 100, "python": 60,
    "numpy": 30,
}  # fmt: skip


@pytest.mark.parametrize("name", BUDGET)
def test_programs_of_random_bytes_agree(name: str) -> None:
    if name in ("several", "python", "numpy"):
        pytest.importorskip("numpy")
    figures, failures = work(0, [name], BUDGET[name], math.inf, 1)
    assert not failures, failures[0]
    decided = sum(count for key, count in figures.items() if key.endswith((": decided", "duals")))
    assert decided + figures["eager: by duals and complex step"] > 0.7 * BUDGET[name]


@given(st.binary(max_size=60))
def test_programs_that_hypothesis_draws_agree(data: bytes) -> None:
    program = decode(data)
    for name in ("eager", "second", "derived"):
        error = fails(CHECKS[name], program)
        assert error is None, report(name, program)


def test_a_program_of_many_ops_agrees_in_numba(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numba")
    monkeypatch.setenv("MICROGRAD_LIKE_CACHE", str(tmp_path))
    rng = random.Random(5)
    program = max((decode(rng.randbytes(60), most=7) for _ in range(40)), key=_variety)
    assert check_numba(program) == "decided"


def _variety(program: Program) -> int:
    return len({name for name, _ in program.steps}) if fails(check_eager, program) is None else 0


def test_the_programs_have_every_op_and_every_kind_of_operand() -> None:
    rng = random.Random(0)
    programs = [decode(rng.randbytes(60)) for _ in range(500)]
    found = {name for program in programs for name, _ in program.steps}
    assert found == set(RULES)
    both = [xs for program in programs for _, xs in program.steps if len(xs) == 2]
    assert {tuple(type(a) for a in xs) for xs in both} == {(int, int), (int, float), (float, int)}
    assert any(xs[0] == xs[1] for xs in both)
    assert any(Run(program).refused is not None for program in programs)
    assert any(not math.isfinite(Run(program).root.data) for program in programs)


# --- planted errors are found, and minimised ------------------------------------------------------


def planted(row: str, i: int, factor: float) -> Callable[[pytest.MonkeyPatch], None]:
    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        op = ops.TABLE[row]
        wrong = list(op.partials)
        true = wrong[i]
        wrong[i] = lambda *xs: true(*xs) * factor
        monkeypatch.setattr(op, "partials", tuple(wrong))

    return plant


def wrong_value(monkeypatch: pytest.MonkeyPatch) -> None:
    true = ops.atan.compute
    monkeypatch.setattr(ops.atan, "compute", lambda x: true(x) * (1.0 + 1e-13))


def wrong_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    true = ops.log1p.compute
    monkeypatch.setattr(ops.log1p, "compute", lambda x: true(max(x, -0.999)))


def wrong_order(monkeypatch: pytest.MonkeyPatch) -> None:
    from micrograd_like.compiler import tape

    monkeypatch.setitem(tape._RULES, ops.sub, lambda reader, args: reader.sum(args[::-1]))


@pytest.mark.parametrize(
    ("check", "plant", "smallest"),
    [
        ("eager", planted("hypot", 1, 1.0 + 1e-12), "hypot"),
        ("eager", planted("erf", 0, 1.0 + 1e-11), "erf"),
        ("eager", wrong_value, "atan"),
        ("eager", wrong_domain, "log1p"),
        ("exact", planted("silu", 0, 1.0 + 1e-11), "silu"),
        ("second", planted("sech", 0, 1.0 + 1e-9), "tanh sigmoid sech gelu silu softplus"),
        ("several", planted("sech", 0, 1.0 + 1e-9), "tanh sigmoid sech gelu silu softplus"),
        ("python", wrong_order, "sub"),
        ("numpy", wrong_order, "sub"),
    ],
)
def test_a_planted_error_is_found_and_shrinks_to_the_culprit(
    check: str,
    plant: Callable[[pytest.MonkeyPatch], None],
    smallest: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if check in ("several", "python", "numpy"):
        pytest.importorskip("numpy")
    plant(monkeypatch)
    rng = random.Random(1)
    program = next(
        program
        for program in (decode(rng.randbytes(60)) for _ in range(500))
        if fails(CHECKS[check], program)
    )
    least = shrunk(program, lambda p: isinstance(fails(CHECKS[check], p), Disagreement))
    assert len(least.steps) <= 2
    assert least.steps[-1][0] in smallest.split()


# --- a machine that acts on a graph, beside a model that is nothing but a dictionary --------------


class Model:
    """What the documentation says a node is: numbers, operands, and the derivatives recorded."""

    def __init__(self, data: float, operands: tuple[Any, ...] = (), label: str = "") -> None:
        self.data, self.operands, self.label = data, operands, label
        self.grad = 0.0
        self.locals: tuple[float, ...] = ()
        self.touched = False  # whether data was assigned

    @property
    def parents(self) -> list[Model]:
        return [a for a in self.operands if isinstance(a, Model)]

    def order(self) -> list[Model]:
        found: dict[Model, None] = {}

        def visit(node: Model) -> None:
            if node not in found:
                for parent in node.parents:
                    visit(parent)
                found[node] = None

        visit(self)
        return list(found)

    def adjoints(self, seed: float) -> dict[Model, tuple[float, float]]:
        """The adjoint of every node, and the sum of the magnitudes of its terms."""
        order = self.order()
        total = dict.fromkeys(order, 0.0)
        size = dict.fromkeys(order, 0.0)
        total[self], size[self] = seed, abs(seed)
        for node in reversed(order):
            for parent, d in zip(node.parents, node.locals, strict=True):
                total[parent] += total[node] * d
                size[parent] += size[node] * abs(d)
        return {node: (total[node], size[node]) for node in order}


Pair = tuple[Value, Model]


class Acts(RuleBasedStateMachine):
    """Build, change, differentiate, copy and pickle in any order: engine and model agree."""

    nodes: Bundle[Pair] = Bundle("nodes")
    numbers = st.one_of(st.sampled_from([0.0, 1.0, -2.0, 0.5]), st.floats(-3, 3))
    operands = st.lists(st.one_of(nodes, nodes, numbers), min_size=5, max_size=5)

    def __init__(self) -> None:
        super().__init__()
        self.pairs: list[Pair] = []

    def known(self, pair: Pair) -> Pair:
        self.pairs.append(pair)
        return pair

    @initialize(target=nodes, x=numbers)
    def start(self, x: float) -> Pair:
        return self.leaf(x, "x")

    def leaf(self, x: float, label: str) -> Pair:
        return self.known((Value(x, label), Model(x, label=label)))

    @rule(target=nodes, x=numbers, label=st.sampled_from(["", "w", "b[0]"]))
    def make_a_leaf(self, x: float, label: str) -> Pair:
        return self.leaf(x, label)

    @rule(target=nodes, name=st.sampled_from(OPS), pair=nodes, others=operands, cut=st.booleans())
    def operate(self, name: str, pair: Pair, others: list[Any], cut: bool) -> Pair:
        arity = ops.TABLE[name].arity
        if name == "where":
            name, arity = "max", 2
        chosen = ([pair, *others])[: 5 if arity is None else arity]
        if len(chosen) > 1 and len(self.pairs) % 2:
            chosen.reverse()
        values = [a[0] if isinstance(a, tuple) else a for a in chosen]
        models = tuple(a[1] if isinstance(a, tuple) else a for a in chosen)
        numbers = [Bounded(a.data) if isinstance(a, Model) else a for a in models]
        want = None
        try:
            want = RULES[name](*numbers)
            slopes = []
            for i, x in enumerate(numbers):
                if isinstance(models[i], Model):
                    seeded = Dual(x, Bounded(1.0))
                    y = RULES[name](*numbers[:i], seeded, *numbers[i + 1 :])
                    slopes.append(getattr(y, "tangent", 0.0))
        except OutsideError:
            if want is None:  # else only the slope has a pole there
                with pytest.raises(DomainError):
                    MAKE[name](*values)
            return pair
        except (UndecidedError, OverflowError, ZeroDivisionError):
            return pair
        if max(abs(plain(y)) for y in (want, *slopes)) > 1e3:
            return pair
        if cut and len(self.pairs) % 3 == 0:
            with no_grad():
                node = MAKE[name](*values)
            assert (node.op, node.parents) == (None, ())
            return self.known((node, Model(node.data)))
        node = MAKE[name](*values)
        assert abs(node.data - plain(want)) <= 2.0 * error_of(want)
        for got, slope in zip(node.local_grads, slopes, strict=True):
            assert abs(got - plain(slope)) <= 4.0 * error_of(slope) + 1e-15 * abs(got) + 1e-290
        model = Model(node.data, models)
        model.locals = node.local_grads
        return self.known((node, model))

    @rule(pair=nodes, x=numbers)
    def assign_data(self, pair: Pair, x: float) -> None:
        value, model = pair
        value.data = model.data = x
        model.touched = True

    @rule(pair=nodes)
    def zero_grad(self, pair: Pair) -> None:
        pair[0].grad = pair[1].grad = 0.0

    @rule(pair=nodes, label=st.sampled_from(["", "y", "L"]))
    def label(self, pair: Pair, label: str) -> None:
        pair[0].label = pair[1].label = label

    @rule(pair=nodes, seed=numbers)
    def backward(self, pair: Pair, seed: float) -> None:
        value, model = pair
        replay = {event.node: event.after for event in steps(value, seed).backward}
        value.backward(seed)
        matched = self.matched(pair)
        for node, (total, size) in model.adjoints(seed).items():
            if node.operands:
                node.grad = 0.0
            twin = matched[node]
            assert abs(twin.grad - (node.grad + total)) <= 1e-12 * (size + abs(node.grad)) + 1e-290
            assert twin.grad == replay[twin]
            node.grad = twin.grad

    @rule(pair=nodes, by=st.lists(nodes, min_size=1, max_size=3))
    def differentiate(self, pair: Pair, by: list[Pair]) -> None:
        value, model = pair
        adjoints = model.adjoints(1.0)
        wrt = [v for v, _ in by]
        got = grad(value, wrt)
        for (_, m), slope in zip(by, got, strict=True):
            total, size = adjoints.get(m, (0.0, 0.0))
            assert abs(slope - total) <= 1e-12 * size + 1e-290
        try:
            graphs = grad(value, wrt, create_graph=True)
        except StaleGraphError:
            assert any(node.touched for node in model.order())
            return
        for (_, m), slope, graph in zip(by, got, graphs, strict=True):
            _, size = adjoints.get(m, (0.0, 0.0))
            assert abs(graph.data - slope) <= 1e-12 * size + 1e-290

    @rule(target=nodes, pair=nodes)
    def detach(self, pair: Pair) -> Pair:
        value, model = pair
        return self.known((value.detach(), Model(model.data, label=model.label)))

    @rule(target=nodes, pair=nodes)
    def copy(self, pair: Pair) -> Pair:
        value, model = pair
        twin = copy.copy(value)
        assert all(a is b for a, b in zip(twin.parents, value.parents, strict=True))
        return self.known((twin, copy.copy(model)))

    @rule(target=nodes, pair=nodes, pickled=st.booleans())
    def copy_the_graph(self, pair: Pair, pickled: bool) -> Pair:
        value, model = pair
        twin = pickle.loads(pickle.dumps(value)) if pickled else copy.deepcopy(value)
        assert not {*topological_order(twin)} & {*topological_order(value)}
        return self.known((twin, copy.deepcopy(model)))

    def matched(self, pair: Pair) -> dict[Model, Value]:
        """The node of the engine for each of the model: one to one, with parents in their order."""
        node_of: dict[Model, Value] = {}
        stack = [pair]
        while stack:
            value, model = stack.pop()
            if node_of.setdefault(model, value) is not value:
                raise AssertionError("one node has become two")
            stack += zip(value.parents, model.parents, strict=True)
        assert len({*node_of.values()}) == len(node_of)
        return node_of

    @invariant()
    def engine_and_model_are_in_the_same_state(self) -> None:
        for pair in self.pairs[-3:]:
            for model, value in self.matched(pair).items():
                assert (value.data, value.label) == (model.data, model.label)
                assert value.grad == model.grad
                assert value.local_grads == model.locals


TestActs = Acts.TestCase
TestActs.settings = settings(
    max_examples=40, stateful_step_count=25, suppress_health_check=[HealthCheck.too_slow]
)


def overwritten_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    true = Value.backward

    def backward(self: Value, seed: float = 1.0) -> None:
        for node in topological_order(self):
            node.grad = 0.0
        true(self, seed)

    monkeypatch.setattr(Value, "backward", backward)


def lost_sharing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Value, "__deepcopy__", lambda self, memo: copy.copy(self))


def lost_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Value, "detach", lambda self: Value(self.data))


@pytest.mark.parametrize("plant", [overwritten_gradients, lost_sharing, lost_labels])
def test_the_machine_finds_a_planted_error(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    quick = settings(
        max_examples=200, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Acts, settings=quick)
