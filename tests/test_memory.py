"""Memory: graphs are freed at once, without the collector, and training holds no more than a batch.

With MICROGRAD_LIKE_FULL=1 in the environment there are 10,000 training steps, elsewhere 1,000.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import importlib
import io
import os
import pickle
import tracemalloc
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from micrograd_like import (
    Value,
    compile,
    compile_step,
    derive,
    draw,
    engine,
    explain,
    grad,
    hessian,
    jacobian,
    losses,
    nn,
    no_grad,
    optim,
    player,
    steps,
    training,
)
from micrograd_like.errors import InputError, MicrogradError

STEPS = 10_000 if os.environ.get("MICROGRAD_LIKE_FULL") == "1" else 1_000


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.freeze()  # what is there already need not be looked through
    gc.disable()
    yield
    gc.enable()


def chain(n: int) -> Value:
    x = y = Value(0.5, "x")
    for _ in range(n):
        y = (y * x).tanh() + x
    return y


MODEL = nn.MLP(2, [4, 1], seed=0)
DATA = [[0.1 * i, 1.0 - 0.2 * i] for i in range(8)], [float(i % 2) for i in range(8)]


def loss() -> Value:
    return losses.mean([losses.mse(MODEL(x), t) for x, t in zip(*DATA, strict=True)])


def failing_backward() -> None:
    """An exception in a sweep, with the tracebacks that it holds."""
    y = chain(50)
    failed = False
    try:  # pytest.raises would hold the frames in a cycle of its own
        y.backward(None)  # type: ignore[arg-type]
    except TypeError:
        failed = True
    assert failed


def failing_operation() -> None:
    y = chain(50)
    with contextlib.suppress(MicrogradError):
        (-(y * y)).log()
    with contextlib.suppress(MicrogradError):
        y + "1"  # type: ignore[operator]


def trained(**options: Any) -> Callable[[], object]:
    return lambda: training.fit(MODEL, *DATA, loss="mse", epochs=2, batch_size=4, **options)


def saved() -> None:
    MODEL.load_state_dict(pickle.loads(pickle.dumps(MODEL.state_dict())))
    with contextlib.suppress(MicrogradError):
        MODEL.load_state_dict({"nothing": 1.0})


def optimized(kind: Callable[..., optim.Optimizer]) -> Callable[[], None]:
    def run() -> None:
        optimizer = kind(MODEL.parameters(), lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()

    return run


def explained() -> None:
    y = chain(20)
    with contextlib.redirect_stdout(io.StringIO()):
        explain(y.parents[0], y)


def compiled(backend: Any, root: Callable[[], Value] = loss) -> Callable[[], None]:
    def run() -> None:
        parameters = MODEL.parameters()
        program = compile(root(), parameters, parameters, backend=backend)
        values = [p.data for p in parameters]
        program(values)
        program([values, values])
        with contextlib.suppress(MicrogradError):
            program([1.0])
        program.report()
        if backend in ("numpy", "jax"):
            program.equations()

    return run


def stepped() -> None:
    step = compile_step(MODEL, losses.mse, (DATA[0][0], DATA[1][0]))
    step(*DATA)
    step.evaluate(*DATA)


def played() -> None:
    page = player(chain(5))
    with contextlib.suppress(InputError):
        player(chain(4_000))
    assert page.html


USES: dict[str, Callable[[], object]] = {
    "backward": lambda: chain(100).backward(),
    "grad": lambda: grad(chain(100), MODEL.parameters()),
    "backward that fails": failing_backward,
    "operation that fails": failing_operation,
    "create_graph": lambda: grad(loss(), MODEL.parameters(), create_graph=True),
    "jacobian": lambda: jacobian([loss()], MODEL.parameters()),
    "hessian": lambda: hessian(lambda x: x[0] * x[1].tanh(), [1.0, 2.0]),
    "no_grad": no_grad()(loss),
    "copies": lambda: (copy.deepcopy(chain(100)), pickle.loads(pickle.dumps(chain(100)))),
    "draw": lambda: draw(chain(20)).source,
    "svg": lambda: draw(chain(3)).svg,
    "steps": lambda: str(steps(chain(20))),
    "player": played,
    "derive": lambda: derive(loss(), MODEL.parameters()[:2]).text,
    "explain": explained,
    "compile, numpy": compiled("numpy"),
    "compile, python": compiled("python"),
    **({"compile, numba": compiled("numba")} if find_spec("numba") else {}),
    "compile_step": stepped,
    "SGD": optimized(optim.SGD),
    "Adam": optimized(optim.Adam),
    "state": saved,
    "fit": trained(),
    "fit, compiled": trained(engine="compiled"),
}


@pytest.mark.parametrize("use", USES)
def test_the_collector_finds_nothing(use: str) -> None:
    for _ in range(2):  # caches are filled, modules loaded
        USES[use]()
    gc.freeze()
    gc.disable()
    try:
        USES[use]()
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_the_collector_would_find_a_cycle() -> None:
    class Linked(Value):
        other: Value

    x = Linked(1.0)
    x.other = x * 2.0
    del x
    assert gc.collect() >= 1


@pytest.fixture
def traced(no_collector: None) -> Iterator[Callable[[], int]]:
    """The bytes that are allocated."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()


def test_dropping_the_root_returns_all_memory_at_once(traced: Callable[[], int]) -> None:
    chain(1_000)
    before = traced()
    y = chain(5_000)
    held = traced() - before
    del y
    assert held > 1_000_000
    assert abs(traced() - before) < 1_000  # what tracing itself holds


def test_memory_is_flat_over_training_steps(traced: Callable[[], int]) -> None:
    model = nn.MLP(2, [3, 1], seed=0)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    peaks = []
    for _ in range(10):
        tracemalloc.reset_peak()
        for i in range(STEPS // 10):
            optimizer.zero_grad()
            losses.mse(model([0.1 * (i % 7), 1.0]), 1.0).backward()
            optimizer.step()
        peaks.append(tracemalloc.get_traced_memory()[1])
    assert max(peaks[1:]) - min(peaks[1:]) < 2_000
    assert gc.collect() == 0


def test_a_leak_of_a_float_a_step_is_noticed(traced: Callable[[], int]) -> None:
    before = traced()
    leak = [float(i) for i in range(STEPS // 10)]
    assert traced() - before > 2_000
    del leak


@pytest.mark.parametrize("backend", ["numpy", "python"])
def test_a_program_keeps_nothing_of_the_gradients_graph(backend: Any) -> None:
    if backend == "numpy":
        pytest.importorskip("numpy")

    def alive() -> int:
        if engine.NATIVE:  # whose nodes the collector does not know
            return importlib.import_module("micrograd_like._native").count_alive()  # type: ignore
        return sum(isinstance(thing, Value) for thing in gc.get_objects())

    model = nn.MLP(2, [3, 1], seed=0)
    root = model([0.5, -1.0]) ** 2
    before = alive()
    program = compile(root, model.parameters(), model.parameters(), backend=backend)
    assert alive() == before
    assert program is not None
