"""`_native.c`: the engine in C is the engine in Python, and keeps what Python would keep for it."""

from __future__ import annotations

import copy
import gc
import operator
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from both import IN_C, IN_PYTHON, OPERATORS, graph, history, outcome, plain, read, run
from hypothesis import given, settings
from hypothesis import strategies as st
from optional import cases, np
from planted import off_by
from programs import decode
from reference import Program

from micrograd_like import Value, affine, detect_anomaly, engine, grad, ops, topological_order

if not engine.NATIVE:
    pytest.skip("the engine in C was not built, or is not wanted", allow_module_level=True)

from micrograd_like import _native  # type: ignore[attr-defined]


def check_engines(program: Program, kind: str = "Value") -> None:
    """Fail where the engines differ in anything that can be seen of the program."""
    mine, theirs = history(IN_C, program, kind), history(IN_PYTHON, program, kind)
    for in_c, in_python in zip(mine, theirs, strict=True):
        assert in_c == in_python


# --- they are equal -------------------------------------------------------------------------------


def test_the_copy_of_the_package_has_the_engine_in_python() -> None:
    assert (IN_C.engine.NATIVE, IN_PYTHON.engine.NATIVE) == (True, False)
    assert type(IN_PYTHON.Value.__add__).__name__ == "function"
    assert not issubclass(IN_PYTHON.Value, Value)


@given(st.binary(max_size=60), st.sampled_from(["Value", "Plain", "Own"]))
def test_a_program_that_hypothesis_draws_is_the_same_in_both(data: bytes, kind: str) -> None:
    check_engines(decode(data), kind)


def test_programs_of_random_bytes_are_the_same_in_both() -> None:
    rng = random.Random(0)
    for _ in range(150):
        check_engines(decode(rng.randbytes(rng.choice((20, 40, 80)))))


@pytest.mark.parametrize("name", ["__add__", "__mul__", "__truediv__", "__neg__"])
def test_a_wrong_local_derivative_in_one_of_them_is_found(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = getattr(Value, name)

    def wrong(self: Value, *others: Any) -> Value:
        return off_by(1.0 + 2.0**-52, right(self, *others), 0)

    sign = next(key for key, f in OPERATORS.items() if f is getattr(operator, name))
    operands = (0, 1)[: 1 if sign == "neg" else 2]
    program = Program((2.5, 0.3), ((sign, operands), ("mul", (2, 2))))
    check_engines(program)
    monkeypatch.setattr(Value, name, wrong)
    with pytest.raises(AssertionError):
        check_engines(program)


class Strange:
    """Beside a Value: no number, though it takes part in operators."""

    def __radd__(self, other: object) -> str:
        return "taken"

    def __repr__(self) -> str:
        return "Strange()"


class OwnFloat(float):
    pass


class Text(str):
    """With attributes, by which it could close a cycle."""


STRANGE = [
    True, 3, -(2**70), 10**400, Fraction(1, 3), Decimal("0.1"), Decimal("sNaN"), OwnFloat(0.5), "1",
    None, 1j, [1.0], (), {}, b"1", Strange(), 0, 0.0, -0.0, float("inf"), float("nan"), 1e308, -0.5,
    *cases(lambda: [np.float64(0.1), np.float32(0.1), np.int8(-3), np.bool_(True), np.array(2.0),
                    np.ones(2), np.array(["a"]), np.ma.masked_array([1.0, 2.0], [0, 1])]),
]  # fmt: skip


@pytest.mark.parametrize("beside", STRANGE, ids=lambda x: f"{type(x).__name__} {x!r:.20}")
def test_whatever_stands_beside_a_value_there_is_one_outcome(beside: Any) -> None:
    def outcomes(package: Any) -> list[Any]:
        found = []
        for name, x in product(OPERATORS, (2.0, -2.0, 0.0)):
            if name in ("neg", "abs"):
                continue
            v = package.Value(x, "v")
            for args in [(v, beside), (beside, v)]:
                result = outcome(OPERATORS[name], *args)
                found.append(
                    [plain(package, item) for item in result.flat]
                    if hasattr(result, "flat")
                    else plain(package, result)
                )
        v = package.Value(2.0, "v")
        for compare in (operator.lt, operator.le, operator.gt, operator.ge):
            found += [str(outcome(compare, v, beside)), str(outcome(compare, beside, v))]
        acts: list[Callable[[], Any]] = [
            lambda: package.Value(beside), lambda: package.Value(1.0, beside),
            lambda: package.Value(beside, label="v"), lambda: package.Value(1.0, (v,), "+"),
            lambda: setattr(v, "data", beside), lambda: setattr(v, "grad", beside),
            lambda: v.backward(beside),
            lambda: package.affine([v], [beside], v), lambda: package.affine([beside], [v], v),
            lambda: package.affine([v], [1.0], beside), lambda: package.maximum(v, beside),
            lambda: package.topological_order(v, beside), lambda: package.where(beside, v, 1.0),
            lambda: v.leaky_relu(beside), lambda: package.grad(v, beside),
        ]  # fmt: skip
        found += [plain(package, outcome(act)) for act in acts]
        return [*map(str, found), graph(package, v)]

    assert outcomes(IN_C) == outcomes(IN_PYTHON)


@pytest.mark.parametrize(
    "act",
    [
        lambda Value: Value(),
        lambda Value: Value(1.0, "a", label="b"),
        lambda Value: Value(1.0, name="b"),
        lambda Value: Value(label="b"),
        lambda Value: pow(Value(1.0), 2, 3),
        lambda Value: Value(1.0) @ Value(2.0),
        lambda Value: Value(1.0) < None,
        lambda Value: bool(Value(1.0)),
        lambda Value: float(Value(1.0)),
        lambda Value: Value(-1.0, "p").log(),
        lambda Value: Value(-1.0, "p") ** 0.5,
        lambda Value: Value(1.0, "p") / Value(0.0, "q"),
        lambda Value: delattr(Value(1.0), "data"),
        lambda Value: delattr(Value(1.0), "label"),
        lambda Value: delattr(Value(1.0), "op"),
        lambda Value: setattr(Value(1.0), "op", None),
        lambda Value: setattr(Value(1.0), "parents", ()),
        lambda Value: setattr(Value(1.0), "operands", ()),
        lambda Value: setattr(Value(1.0), "local_grads", ()),
        lambda Value: setattr(Value(1.0), "label", None),
        lambda Value: setattr(Value(1.0), "label", ("a",)),
        lambda Value: Value(1.0, Text("a")).label.__class__,
        lambda Value: Value(1.0, None),
        lambda Value: Value(1.0).__order__(set()).__len__(),
        lambda Value: [*map(type, Value(2.0).parents + (Value(2.0) * 1).operands)][1],
        lambda Value: Value.__name__ + Value.__module__[-7:] + Value.__doc__,
        lambda Value: Value.backward.__doc__ + Value.data.__doc__ + Value.operands.__doc__,
    ],
)
def test_refusals_and_answers_are_word_for_word_the_same(act: Callable[[Any], Any]) -> None:
    assert outcome(act, IN_C.Value) == outcome(act, IN_PYTHON.Value)


def test_pickles_of_one_engine_are_read_by_the_other() -> None:
    rng = random.Random(1)
    for _ in range(40):
        program = decode(rng.randbytes(40))
        roots = []
        for package in (IN_C, IN_PYTHON):
            inputs = [package.Value(x, "x") for x in program.inputs]
            results = [*inputs, package.Value(0.0)]
            results += [x for x in run(package, program, inputs) if isinstance(x, package.Value)]
            root = results[-1]
            root.backward()
            roots.append(root)
        want = graph(IN_PYTHON, roots[1])
        for root in roots:
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
                data = pickle.dumps(root, protocol)
                assert graph(IN_C, read(data, IN_C)) == want
                assert graph(IN_PYTHON, read(data, IN_PYTHON)) == want


def test_under_every_mode_the_same_is_told() -> None:
    def heard(package: Any) -> list[Any]:
        said: list[Any] = []

        class Recorder:
            def made(self, node: Any) -> None:
                said.append(("made", node.op.name, len(node.operands)))

            def touched(self, value: Any) -> None:
                said.append(("touched", value.label))

            def compared(self, sign: Any, x: Any, y: Any) -> bool:
                said.append(sign.__name__)
                return True

            def detached(self, value: Any) -> Any:
                said.append("detached")
                return value

        x, y = package.Value(2.0, "x"), package.Value(3.0, "y")
        for silent in (False, True):
            with package.modes.tracing(Recorder()):
                with package.no_grad() if silent else package.modes.apart():
                    z = (x * y + 1.0 - x / y) ** 2.0
                    z = package.affine([x, y], [y, x], -z).tanh() + package.maximum(x, y)
                    z = package.where(x > y, z, x)
                    said.append((z.data, x < 2.0, z == x, z.grad, z.edges, x.detach() is x))
                z.backward()
                package.grad(z, [x])
        return said

    assert str(heard(IN_C)) == str(heard(IN_PYTHON))


# --- memory ---------------------------------------------------------------------------------------


class Own(Value):
    """With attributes, as an optimizer's state."""

    last: Value


class Plain(Value):
    __slots__ = ()


def test_a_node_is_small_and_the_collector_knows_nothing_of_it() -> None:
    x = Value(2.0)
    assert sys.getsizeof(x * x) <= 96
    nodes = [x, x * x, x + 1, x.tanh(), affine([x], [1.0], x), Plain(1.0), Plain(1.0) * x]
    assert not any(map(gc.is_tracked, nodes))
    assert all(map(gc.is_tracked, [Own(1.0), Own(1.0) * x, (x * Own(1.0)) + x, -(Own(1.0) * x)]))
    assert gc.is_tracked(affine([x], [x], Own(1.0)))
    assert gc.is_tracked(ops.maximum(x, Own(1.0)))


@pytest.mark.parametrize("link", [lambda p: p * 2.0, lambda p: affine([p, p], [p, p], p).tanh()])
def test_a_cycle_through_an_attribute_is_collected(link: Callable[[Value], Value]) -> None:
    for watch in (False, True):
        gc.freeze()  # the collector looks at what comes from here on
        before = _native.count_alive()
        if watch:
            with detect_anomaly():
                p = Own(2.0)
                p.last = link(p) + 1.0
        else:
            p = Own(2.0)
            p.last = link(p) + 1.0
        del p
        assert _native.count_alive() > before
        gc.collect()
        assert _native.count_alive() == before


def test_what_a_cycle_is_part_of_stays_while_it_is_used() -> None:
    p = Own(2.0)
    p.last = p * 3.0
    root = p.last + 1.0
    del p
    gc.collect()
    root.backward()
    assert topological_order(root)[0].grad == 3.0


@pytest.mark.parametrize("kind", [Value, Plain, Own])
@pytest.mark.parametrize("watched", [False, True])
def test_deep_chains_of_every_type_are_freed_on_a_small_stack(kind: Any, watched: bool) -> None:
    def task() -> None:
        y = kind(1.0)
        for i in range(3_000 if watched else 60_000):
            y = y * 1.0 if i % 2 else affine([y, y], [1.0, -1.0], y)
            if kind is Plain and not watched and i % 3 == 0:
                y.__class__ = Plain  # as a trace does

    gc.freeze()  # what earlier tests left in cycles stays
    before, size = _native.count_alive(), threading.stack_size(256 * 1024)
    try:
        if watched:
            with detect_anomaly():
                task()
        thread = threading.Thread(target=task)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(size)
    assert _native.count_alive() == before


def test_a_subclass_without_attributes_changes_places_with_value() -> None:
    node = Value(2.0) * 3.0
    node.__class__ = Plain
    assert (type(node), node.data, node.op) == (Plain, 6.0, ops.mul)
    node.__class__ = Value
    assert type(node) is Value
    with pytest.raises(TypeError):
        node.__class__ = Own


def test_an_attribute_of_ones_own_is_refused_with_a_word_on_subclasses_and_labels() -> None:
    plain = (Value(1.0), Value(1.0) * Own(2.0))
    for node in (*plain, IN_PYTHON.Value(1.0), IN_PYTHON.Value(1.0) * 2.0):
        with pytest.raises(AttributeError, match=r"'param_idx'.*subclass of Value.*label"):
            node.param_idx = 3  # type: ignore[attr-defined]
        with pytest.raises(AttributeError, match="parents"):
            node.parents = ()  # type: ignore[misc]
    own = Own(1.0)
    own.last = own * 2.0
    assert own.last.parents == (own,)


@pytest.mark.parametrize("node", [Value(1.0), Value(2.0) * 3.0, Own(1.0), Own(1.0) * 2.0])
def test_the_slots_of_the_engine_in_python_are_not_those_of_a_node_in_c(node: Value) -> None:
    # Their descriptors would take the numbers of a node for objects.
    assert not {*IN_PYTHON.slots.Slots.__slots__} & {*dir(node)}
    own = Own(2.0)
    for name in IN_PYTHON.slots.Slots.__slots__:
        setattr(own, name, None)
    assert ((own * 3.0).data, own.parents) == (6.0, ())


def test_a_constructor_that_does_not_call_values_is_named() -> None:
    class Careless(Value):
        def __init__(self) -> None:
            pass

    x, blank = Value(1.0), Careless()
    for act in (
        lambda: blank.data, lambda: blank + 1.0, lambda: x * blank, lambda: -blank,
        lambda: blank.tanh(), lambda: blank < x, lambda: affine([x], [x], blank),
        lambda: ops.maximum(x, blank), lambda: blank.backward(), lambda: grad(blank, x),
    ):  # fmt: skip
        with pytest.raises(AttributeError, match="'Careless' object has no attribute '_data'"):
            act()


# --- interrupts -----------------------------------------------------------------------------------


def long_chain() -> tuple[Value, Value]:
    x = y = Value(1.0)
    for _ in range(300_000):
        y = y + x
    return x, y


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")
def test_control_c_ends_a_long_sweep_and_changes_nothing() -> None:
    x, y = long_chain()
    x.grad = 7.0
    before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    interrupted = 0
    try:
        for i in range(12):
            try:
                signal.setitimer(signal.ITIMER_REAL, 2e-4 * (1 + i))
                y.backward()
            except KeyboardInterrupt:
                interrupted += x.grad == 7.0
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0.0)
            assert x.grad in (7.0, 300_008.0)
            x.grad = 7.0
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 0


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")
def test_a_handler_that_sweeps_the_same_graph_falsifies_nothing() -> None:
    x, y = long_chain()
    swept = []

    def handler(*_: object) -> None:
        swept.append(grad(y.parents[0], x))
        with pytest.raises(RuntimeError, match="while graphs are swept"):
            y.__init__(1.0)  # type: ignore[misc]

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 5e-4)
        y.backward()
        signal.setitimer(signal.ITIMER_REAL, 5e-4)
        order = topological_order(y)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    assert swept == [300_000.0] * len(swept) != []
    assert x.grad == 300_001.0
    assert len(order) == 300_001


# --- which one it is ------------------------------------------------------------------------------


@pytest.mark.parametrize(("pure", "native"), [("1", "False"), ("", "True")])
def test_the_environment_chooses_the_engine_in_python(pure: str, native: str) -> None:
    program = "from micrograd_like import engine, Value; print(engine.NATIVE, (Value(2) * 3).data)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            **os.environ,
            "MICROGRAD_LIKE_PURE": pure,
            "PYTHONPATH": str(Path(__file__).parent.parent),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{native} 6.0\n"


def test_a_label_is_a_plain_text_which_cannot_close_a_cycle() -> None:
    for kind in (Value, IN_PYTHON.Value):
        x = kind(1.0)
        for label in ("x", "", Text("y")):
            if isinstance(label, Text):
                label.of = x  # type: ignore[attr-defined]
            x.label = label
            assert (x.label, type(x.label)) == (label, str)
            assert x.label is copy.copy(x).label
        for label in (None, (x,), x):
            with pytest.raises(TypeError, match="a label is a text"):
                x.label = label


SECOND = """
from micrograd_like import Value, engine, errors, ops
y = (Value(2.0) * 3.0).tanh()
assert not engine.NATIVE and y.op is ops.tanh
try:
    Value(-1.0).log()
except errors.DomainError:
    print("as it should")
"""


@pytest.mark.parametrize(
    "again",
    [
        "import sys; [sys.modules.pop(name) for name in [*sys.modules] if 'micrograd_' in name]\n"
        f"exec({SECOND!r})",
        "try:\n import _interpreters as i\nexcept ImportError:\n import _xxsubinterpreters as i\n"
        f"assert not i.run_string(i.create(), {SECOND!r})",
    ],
    ids=["imported again", "in another interpreter"],
)
def test_a_second_package_has_the_engine_in_python_which_knows_its_own_rows(again: str) -> None:
    program = f"from micrograd_like import engine; assert engine.NATIVE\n{again}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("as it should\n", "")


@settings(max_examples=30)
@given(st.lists(st.floats(), min_size=1, max_size=6), st.integers(0, 2**12))
def test_affine_is_the_same_in_both(numbers: list[float], form: int) -> None:
    def result(package: Any) -> Any:
        def maybe(i: int, x: float) -> Any:
            return package.Value(x) if form >> i & 1 else x

        ws = [maybe(i, x) for i, x in enumerate(numbers)]
        xs = [maybe(i + 6, x) for i, x in enumerate(reversed(numbers))]
        return plain(package, package.affine(ws, xs, package.Value(0.5)))

    assert result(IN_C) == result(IN_PYTHON)
