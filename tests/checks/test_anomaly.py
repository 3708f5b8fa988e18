"""anomaly.py, and the warnings: the first NaN or infinity, and the classic mistakes, are named."""

from __future__ import annotations

import asyncio
import copy
import gc
import linecache
import math
import pickle
import sys
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from micrograd_like import (
    Op,
    Value,
    affine,
    compile,
    detect_anomaly,
    draw,
    errors,
    exp,
    grad,
    greater,
    hessian,
    hypot,
    jacobian,
    leaky_relu,
    log,
    logaddexp,
    logsumexp,
    losses,
    maximum,
    nn,
    no_grad,
    ops,
    pow,
    sqrt,
    tanh,
    topological_order,
    training,
    value_and_grad,
    where,
)
from micrograd_like.checks.anomaly import AnomalyError

INF, NAN = math.inf, math.nan
ANY = st.sampled_from(
    [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -3.0, 710.0, 1e-320, 1e155, -1e155, 1e308, -1e308]
)
UNARY = [ops.tanh, ops.relu, ops.sigmoid, ops.softplus, ops.exp, ops.sin, ops.absolute, ops.sinh]
BINARY = [ops.add, ops.sub, ops.mul, ops.hypot, ops.maximum, ops.logaddexp]


def anomaly(f: Callable[[], Any]) -> AnomalyError:
    """What `f` raises under detect_anomaly."""
    with pytest.raises(AnomalyError) as caught, detect_anomaly():
        f()
    return caught.value


def line_of(error: AnomalyError) -> str:
    assert error.made_at is not None
    assert error.made_at.filename == __file__
    assert error.made_at.line == linecache.getline(__file__, error.made_at.lineno or 0).strip()
    return str(error.made_at.line)


# --- forward --------------------------------------------------------------------------------------


def test_an_overflow_raises_with_node_op_operands_path_and_line() -> None:
    q = Value(40.0, label="q")

    def attend() -> None:
        scores = [q * 20.0, q * 5.0]
        weights = [exp(s) for s in scores]
        (weights[0] / (weights[0] + weights[1])).backward()

    error = anomaly(attend)
    assert error.node.op is ops.exp
    assert error.node.data == INF
    assert error.__suppress_context__  # math.exp's OverflowError
    assert error.path == [error.node, error.node.parents[0], q]
    assert line_of(error) == "weights = [exp(s) for s in scores]"
    assert str(error).splitlines()[:5] == [
        "exp makes inf in the forward pass",
        "  node: v2 = exp(v1) = exp(800.0) = inf",
        "  operands: v1 = 800.0",
        "  nearest label: v2 ← v1 ← q",
        "  made at",
    ]
    assert "v2" in draw(error.node).source  # the names are those of the picture


@pytest.mark.parametrize(
    ("make", "op"),
    [
        (lambda x: x * 1e308, "mul"),
        (lambda x: 1e308 * x, "mul"),
        (lambda x: x * x * x * (x * 1e308), "mul"),
        (lambda x: x + 1.7e308 + 1.7e308, "add"),
        (lambda x: -1.7e308 - (x + 1.7e308), "sub"),
        (lambda x: x / 5e-324, "div"),
        (lambda x: 1e300 / (x * 1e-300), "div"),
        (lambda x: x**2000, "pow"),
        (lambda x: 1e300**x, "pow"),
        (lambda x: (x * 1e3).exp(), "exp"),
        (lambda x: affine([x * 1e200], [x * 1e200], x), "affine"),
        (lambda x: affine([x * 1e200], [1e200], 0.0), "affine"),
        (lambda x: hypot(x + 1.7e308, x + 1.7e308), "hypot"),
        (lambda x: leaky_relu(-(x + 1e308), 1e300), "leaky_relu"),
        (lambda x: logaddexp(x, x) * 1e308 * 10.0, "mul"),
        (lambda x: sum([x * 1e308, x * 1e308]), "mul"),
    ],
)
@pytest.mark.parametrize("off", [False, True])
def test_every_way_to_make_a_node_is_watched(
    make: Callable[[Value], Value], op: str, off: bool
) -> None:
    """Under no_grad too, where no node is made in the end."""

    def run() -> Value:
        if not off:
            return make(Value(2.0))
        with no_grad():
            return make(Value(2.0))

    assert not math.isfinite(run().data)
    error = anomaly(run)
    assert error.node.op is not None
    assert error.node.op.name == op
    assert f"{op} makes " in str(error)
    assert line_of(error).startswith("(lambda x:")


expressions = st.recursive(
    st.tuples(st.just("leaf"), ANY),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(UNARY), inner),
        st.tuples(st.sampled_from(BINARY), inner, inner),
        st.tuples(st.just("constant"), st.sampled_from([ops.add, ops.mul]), inner, ANY),
    ),
    max_leaves=12,
)


def build(e: Any, nodes: list[Value]) -> Value:
    """The expression's Value; all nodes are appended to `nodes` in the order they are made in."""
    if e[0] == "leaf":
        return Value(e[1])
    if e[0] == "constant":
        node = e[1](build(e[2], nodes), e[3])
    else:
        node = e[0](*[build(operand, nodes) for operand in e[1:]])
    nodes.append(node)
    return node


@given(expressions, ANY)
def test_the_first_number_that_is_not_finite_raises_and_no_other(e: Any, seed: float) -> None:
    """An independent account: unwatched, node by node; then the adjoints, transfer by transfer."""
    plain: list[Value] = []
    root = build(e, plain)
    bad = next((i for i, node in enumerate(plain) if not math.isfinite(node.data)), None)
    watched: list[Value] = []
    if bad is not None:
        error = anomaly(lambda: build(e, watched))
        assert len(watched) == bad  # it raised when it made that one
        assert repr(error.node) == repr(plain[bad])
        return
    with detect_anomaly():
        twin = build(e, watched)
    assert [node.data for node in watched] == [node.data for node in plain]
    order, twins = topological_order(root), topological_order(twin)
    adjoint = dict.fromkeys(order, 0.0)
    adjoint[root] = seed
    culprit = None
    for node in reversed(order):
        for parent, d in zip(node.parents, node.local_grads, strict=True):
            adjoint[parent] += adjoint[node] * d
            if culprit is None and not math.isfinite(adjoint[parent]):
                culprit = node
    for node in twins:
        node.grad = 7.0
    if culprit is None:
        with detect_anomaly():
            twin.backward(seed)
        root.backward(seed)
        now = [node.grad - (0.0 if node.op else 7.0) for node in twins]
        assert now == pytest.approx([node.grad for node in order], abs=1e-14, rel=1e-14)
    else:
        error = anomaly(lambda: twin.backward(seed))
        assert error.node is twins[order.index(culprit)]
        assert [node.grad for node in twins] == [7.0] * len(twins)


def test_the_leaf_is_to_blame_if_the_number_is_its_own() -> None:
    w = Value(NAN, label="w")
    error = anomaly(lambda: tanh(w * 2.0))
    assert error.node is w
    assert error.path == [w]
    assert line_of(error) == "error = anomaly(lambda: tanh(w * 2.0))"
    assert str(error).splitlines()[:3] == [
        "nan in a leaf enters the forward pass",
        "  node: w = nan",
        "  used in: v1 = w·2 = nan · 2.0 = nan",
    ]
    w.data = INF
    assert anomaly(lambda: affine([w], [1.0])).node is w
    assert anomaly(lambda: w - w).node is w
    with detect_anomaly():
        assert tanh(w).data == 1.0  # nothing that is not finite has been computed


def test_a_node_from_before_is_to_blame_if_the_number_is_its_own() -> None:
    before = Value(1e308) * 10.0
    error = anomaly(lambda: before + 1.0)
    assert error.node is before
    assert "inf in a node made before enters the forward pass" in str(error)


def test_an_infinite_plain_number_is_intended_and_nan_is_not() -> None:
    x = Value(1.0, label="x")
    with detect_anomaly():
        masked = x + -INF
        assert masked.data == -INF
        assert (masked * 2.0 + x).data == -INF
        assert exp(masked).data == 0.0
        assert maximum(x, -INF).data == 1.0
        loss = logsumexp(masked, x) + exp(masked)
        loss.backward()
        assert x.grad == 1.0
        with no_grad():
            assert (x + -INF + x).data == -INF
    assert anomaly(lambda: masked - masked).node.op is ops.sub
    error = anomaly(lambda: x * NAN)
    assert error.node.op is ops.mul
    assert "the number nan" in str(error)


def test_a_refusal_stays_a_refusal() -> None:
    with detect_anomaly(), pytest.raises(errors.DomainError):
        log(Value(0.0))
    with detect_anomaly(), pytest.raises(errors.OperandError):
        grad(3.0, Value(1.0))  # type: ignore[call-overload]


# --- backward -------------------------------------------------------------------------------------


def norm() -> tuple[Value, Value]:
    x = Value(0.0, label="x")
    length = sqrt(x * x)
    loss = (length - 1.0) ** 2
    loss.label = "loss"
    return x, loss


def test_a_pole_raises_with_the_chain_rule_and_touches_no_grad() -> None:
    def sweep() -> None:
        nonlocal leaf
        leaf, loss = norm()
        leaf.grad = 0.25
        loss.backward()

    leaf = Value(0.0)
    error = anomaly(sweep)
    assert error.node.op is ops.sqrt
    assert line_of(error) == "length = sqrt(x * x)"
    assert [node.label for node in error.path] == ["", "", "x"]
    assert leaf.grad == 0.25
    assert str(error).splitlines()[:7] == [
        "sqrt makes -inf in the backward pass",
        "  node: v2 = √v1 = √0.0 = 0.0",
        "  chain rule: ∂loss/∂v1 += ∂loss/∂v2 · ∂v2/∂v1 = (-2.0) · inf = -inf",
        "  local derivative: ∂v2/∂v1 = 0.5 / v2 = inf",
        "  operands: v1 = 0.0",
        "  nearest label: v2 ← v1 ← x",
        "  made at",
    ]


@pytest.mark.parametrize(
    "differentiate",
    [
        lambda x, loss: loss.backward(),
        lambda x, loss: grad(loss, x),
        lambda x, loss: grad(loss, [x], create_graph=True),
        lambda x, loss: grad(loss, (v for v in [x])),
        lambda x, loss: jacobian([loss], [x]),
        lambda x, loss: hessian(loss, x),
        lambda x, loss: value_and_grad(lambda v: sqrt(v * v))(0.0),
        lambda x, loss: compile(loss, [x], [x]),
    ],
)
def test_every_backward_pass_is_watched(differentiate: Callable[[Value, Value], Any]) -> None:
    assert anomaly(lambda: differentiate(*norm())).node.op is ops.sqrt


def test_the_largest_derivative_is_no_anomaly() -> None:
    x = Value(0.5)
    with detect_anomaly():
        y = x * 1.7e308
        y.backward()
        assert x.grad == grad(y, x) == 1.7e308


def test_a_second_derivative_raises_where_the_first_is_fine() -> None:
    x = Value(0.0, label="x")
    y = x**1.5
    with detect_anomaly():
        slope = grad(y, x, create_graph=True)
        assert slope.data == 0.0
        with pytest.raises(AnomalyError) as caught:
            grad(slope, x)
        with pytest.raises(AnomalyError):
            exp(x + 1000.0)  # what is no part of a gradient's graph is judged again
    assert line_of(caught.value) == "slope = grad(y, x, create_graph=True)"


def test_what_nobody_asked_for_is_not_judged() -> None:
    """d(x^y)/dy is NaN for x < 0, and its graph has a logarithm of a negative number."""
    x, y = Value(-2.0), Value(3.0)
    with detect_anomaly():
        power = pow(x, y)
        assert grad(power, x) == 12.0
        slope = grad(power, x, create_graph=True)
        assert (slope.data, grad(slope, x)) == (12.0, -12.0)
        assert jacobian(power, [x]) == [12.0]
        assert compile(power, [x, y], [x], backend="python")([-2.0, 3.0])[1] == [12.0]
    assert anomaly(lambda: grad(power, y)).node is power


def test_zero_times_infinity_names_the_pole() -> None:
    x = Value(0.0, label="x")
    error = anomaly(lambda: grad(sqrt(x) * 0.0, x))
    assert error.node.op is ops.sqrt
    assert "= 0.0 · inf = nan" in str(error)


@pytest.mark.parametrize("label", ["", "x"])
def test_a_choice_on_the_way_is_no_trouble(label: str) -> None:
    x = Value(3.0, label=label)
    with pytest.raises(AnomalyError, match="exp makes inf"), detect_anomaly():
        exp(where(greater(x, 0.0), x, x * x) * 1000.0)
    with pytest.raises(AnomalyError, match="sqrt"), detect_anomaly():
        (sqrt(where(greater(x, 5.0), x, x - 3.0)) * 0.0).backward()


def test_the_infinity_is_named_and_not_the_nan_further_down() -> None:
    x = Value(0.0, label="x")
    error = anomaly(lambda: (sqrt(x * 1.0 - x) * 2.0).backward())
    assert error.node.op is ops.sqrt
    assert "2.0 · inf = inf" in str(error)


def test_a_sum_of_adjoints_that_overflows_raises() -> None:
    x = Value(1e-300)
    error = anomaly(lambda: (x * 1.2e308 + x * 1.2e308).backward())
    assert "adding up an adjoint makes inf in the backward pass" in str(error)


@pytest.mark.parametrize("seed", [INF, NAN])
def test_a_seed_that_is_not_finite_raises(seed: float) -> None:
    error = anomaly(lambda: (Value(1.0) * 2.0).backward(seed))
    assert f"starts with {seed!r}" in str(error)


def test_a_graph_made_before_is_watched_but_has_no_line() -> None:
    _, loss = norm()
    error = anomaly(loss.backward)
    assert error.node.op is ops.sqrt
    assert error.made_at is None
    assert "build the graph inside it" in str(error)


def test_a_nearest_label_may_lie_behind_the_node_and_there_may_be_none() -> None:
    def run(label: str) -> AnomalyError:
        loss = sqrt(Value(0.0)) * 3.0
        loss.label = label
        return anomaly(loss.backward)

    assert "nearest label: v2 → loss" in str(run("loss"))
    assert run("").path == []
    assert "label" not in str(run(""))


def test_a_node_of_many_operands_shows_the_largest() -> None:
    ws = [Value(float(i), label=f"w{i}") for i in range(50)]
    ws[33].data = -1e300
    message = str(anomaly(lambda: affine(ws, [1e300] * 50)))
    assert "operands: w33 = -1e+300, the number 1e+300, w49 = 49.0" in message
    assert " more" in message
    assert max(map(len, message.splitlines())) < 300
    message = str(anomaly(lambda: affine(ws, [1.0] * 20 + [NAN] + [1.0] * 29)))
    assert "operands: the number nan, w33 = -1e+300" in message


def test_a_long_way_to_the_label_is_shortened_and_found_without_recursion() -> None:
    def chain() -> None:
        v = Value(1.0, label="start")
        for _ in range(20_000):
            v = v + 0.0
        v * 1e308 * 10.0

    error = anomaly(chain)
    assert len(error.path) == 20_003
    assert "nearest label: v20002 ← v20001 ← v20000 … (19997 more) ← v2 ← v1 ← start" in str(error)


# --- the context ----------------------------------------------------------------------------------


def overflow() -> Value:
    return Value(1e308) * 10.0


def test_it_nests_and_ends_with_an_exception_and_decorates() -> None:
    context = detect_anomaly()
    with context:
        with detect_anomaly(), context:
            pass
        with pytest.raises(AnomalyError):
            overflow()
    assert overflow().data == INF
    with pytest.raises(ZeroDivisionError), detect_anomaly():
        raise ZeroDivisionError
    assert overflow().data == INF
    decorated = detect_anomaly()(overflow)
    assert decorated.__name__ == "overflow"
    with pytest.raises(AnomalyError):
        decorated()
    assert overflow().data == INF


def test_it_holds_in_its_own_thread_only() -> None:
    inside, checked = threading.Event(), threading.Event()
    seen: list[float] = []

    def other() -> None:
        inside.wait(10)
        seen.append(overflow().data)
        with no_grad():
            seen.append(overflow().data)
        checked.set()

    thread = threading.Thread(target=other)
    thread.start()
    with detect_anomaly():
        inside.set()
        checked.wait(10)
        with pytest.raises(AnomalyError):
            overflow()
    thread.join()
    assert seen == [INF, INF]


def test_it_holds_in_its_own_task_only() -> None:
    async def watched() -> bool:
        with detect_anomaly():
            await asyncio.sleep(0)
            try:
                overflow()
            except AnomalyError:
                return True
        return False

    async def unwatched() -> bool:
        await asyncio.sleep(0)
        return overflow().data == INF

    async def both() -> list[bool]:
        return await asyncio.gather(watched(), unwatched(), watched())

    assert asyncio.run(both()) == [True, True, True]


def test_nodes_made_inside_are_values_like_others() -> None:
    def make() -> tuple[Value, Value]:
        x = Value(0.5, label="x")
        y = tanh(x * x + 2.0) / x
        return x, affine([y, x], [x, 2.0], y)

    x0, plain = make()
    with detect_anomaly():
        x1, watched = make()
    assert isinstance(watched, Value)
    assert repr(watched) == repr(plain)
    assert draw(watched).source == draw(plain).source
    order, twins = topological_order(plain), topological_order(watched)
    assert [(v.op, v.data, v.local_grads) for v in order] == [
        (v.op, v.data, v.local_grads) for v in twins
    ]
    assert watched != plain
    assert len({watched, plain, watched}) == 2
    assert grad(watched, x1) == grad(plain, x0)
    assert (watched + plain).data == 2.0 * plain.data
    assert hessian(watched, x1) == hessian(plain, x0)
    for other in (pickle.loads(pickle.dumps(watched)), copy.deepcopy(watched), copy.copy(watched)):
        assert other.__class__ is Value
        assert repr(other) == repr(plain)
    program, twin = (
        compile(v, [x], [x], backend="python") for x, v in ((x0, plain), (x1, watched))
    )
    assert program.source == twin.source


def test_a_graph_made_inside_is_freed_without_the_collector() -> None:
    gc.freeze()
    gc.disable()
    try:
        with detect_anomaly():
            y = Value(1.0)
            for _ in range(1000):
                y = y * 1.0
            before = sys.getallocatedblocks()
            del y
            assert before - sys.getallocatedblocks() > 1000
    finally:
        gc.enable()


def test_the_error_is_an_arithmetic_error_and_travels() -> None:
    error = anomaly(overflow)
    assert isinstance(error, FloatingPointError)
    assert isinstance(error, errors.MicrogradError)
    assert type(error) is errors.AnomalyError
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert (again.node.data, again.made_at) == (INF, error.made_at)


def test_a_row_of_the_users_is_watched(made_up: Callable[..., Op]) -> None:
    cube = made_up("cube", lambda x: x * x * x, lambda x, out: 3.0 * x * x)
    assert anomaly(lambda: cube(Value(1e200))).node.op is cube
    pole = made_up("pole", lambda x: 0.0 * x, lambda x, out: INF)
    with detect_anomaly():
        y = pole(Value(1.0))
    assert anomaly(y.backward).node is y


def test_fit_raises_where_the_number_begins_and_keeps_the_parameters() -> None:
    model = nn.MLP(1, [2, 1], activation=None, seed=0)
    model.layers[0].neurons[1].w[0].data = 1e308
    before = [p.data for p in model.parameters()]
    error = anomaly(
        lambda: training.fit(model, [[20.0], [1.0]], [1.0, 0.0], loss="mse", epochs=1, seed=1)
    )
    assert error.node.op is ops.affine_row
    assert "layers[0].neurons[1].w[0]" in str(error)
    assert [p.data for p in model.parameters()] == before
    with detect_anomaly():
        model = nn.MLP(1, [2, 1], seed=0)
        history = training.fit(model, [[2.0], [1.0]], [1.0, 0.0], loss=losses.mse, epochs=2)
    assert len(history) == 2


def test_a_graph_kept_alive_across_steps_is_freed_once_it_is_let_go() -> None:
    """What the README says of `total += loss`: it keeps all graphs, `total += loss.data` none."""
    w = Value(1.0)

    def kept(add: Callable[[Any, Value], Any]) -> int:
        gc.freeze()
        tracemalloc.start()
        total: Any = 0.0
        for _ in range(300):
            total = add(total, (w * 2.0 - 1.0) ** 2)
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert len(repr(total)) < 100
        return size

    assert kept(lambda total, loss: total + loss) > 300 * 4 * 96
    assert kept(lambda total, loss: total + loss.data) < 5_000
