"""batches.py: what is larger than memory trains like lists, and what is wrong is named in time."""

import math
import subprocess
import sys
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from micrograd_like import MicrogradError, losses, nn, no_grad, optim, training
from micrograd_like.datasets import moons

DATA = moons(40)
PAIRS = [(DATA.X[i : i + 9], DATA.y[i : i + 9]) for i in range(0, 40, 9)]  # the last has four


def network():
    return nn.MLP(2, [4, 2], seed=0)


def bits(model):
    return [p.data.hex() for p in model.parameters()]


@pytest.fixture
def mapped(tmp_path):
    numpy = pytest.importorskip("numpy")

    def save(rows, dtype=float):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npy"
        numpy.save(path, numpy.array(rows, dtype))
        return numpy.load(path, mmap_mode="r")

    return save


# --- memory-mapped arrays -------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["eager", "compiled"])
@pytest.mark.parametrize(
    "options", [{}, {"batch_size": 7, "validation": 0.3}, {"batch_size": None}], ids=str
)
@pytest.mark.parametrize("which", ["X", "y", "both"])
def test_a_memory_mapped_array_trains_like_lists_to_the_bit(mapped, engine, options, which):
    runs = []
    for late in (False, True):
        model = network()
        X = mapped(DATA.X) if late and which != "y" else DATA.X
        y = mapped(DATA.y, int) if late and which != "X" else DATA.y
        history = training.fit(model, X, y, epochs=3, engine=engine, seed=5, **options)
        runs.append((bits(model), history.loss, history.accuracy, history.validation_accuracy))
        if options.get("validation"):
            assert len(history.validation_loss) == 3
    assert runs[0] == runs[1]


@settings(max_examples=30)
@given(rows=st.integers(2, 30), size=st.integers(1, 12), fraction=st.sampled_from([None, 0.5]))
def test_rows_are_visited_in_the_same_order(tmp_path_factory, rows, size, fraction):
    numpy = pytest.importorskip("numpy")
    path = tmp_path_factory.getbasetemp() / "order.npy"
    numpy.save(path, numpy.arange(float(rows)))
    orders = []
    for X in ([float(i) for i in range(rows)], numpy.load(path, mmap_mode="r")):
        seen = []

        def loss(out, target, seen=seen):
            seen.append(target)
            return out * 0.0

        training.fit(nn.MLP(1, [1], seed=0), X, X, loss=loss, epochs=2, batch_size=size,
                     validation=fraction)  # fmt: skip
        orders.append(seen)
    assert orders[0] == orders[1]


def test_views_and_other_types_of_a_memory_mapped_array_are_read_late_too(mapped):
    numpy = pytest.importorskip("numpy")
    table = mapped([[*row, label] for row, label in zip(DATA.X, DATA.y, strict=True)])
    runs = []
    for X, y in (
        (DATA.X, [float(t) for t in DATA.y]),
        (table[:, :2], table[:, 2]),
        (numpy.asarray(table)[:, :2], table[:, 2:]),
    ):
        model = network()
        training.fit(model, X, y, epochs=2)
        runs.append(bits(model))
    assert runs[0] == runs[1] == runs[2]
    single = mapped(DATA.X, "float32")
    model, twin = network(), network()
    training.fit(model, single, DATA.y, epochs=1)
    training.fit(twin, single.tolist(), DATA.y, epochs=1)
    assert bits(model) == bits(twin)


LARGER_THAN_MEMORY = """
import resource, sys
import numpy as np
from micrograd_like import losses, nn, training

X = np.lib.format.open_memmap(sys.argv[1], mode="w+", dtype=float, shape=(25_000, 1_000))
y = np.zeros(len(X))
X = np.load(sys.argv[1], mmap_mode="r")  # 200 MB, none of them on the disk: the file has a hole
batches = 0

def loss(out, target):
    global batches
    batches += 1
    if batches == 150:
        raise KeyboardInterrupt
    return losses.mse(out, target)

model = nn.MLP(1_000, [1], seed=0)
used = int(next(line for line in open("/proc/self/status") if "VmData" in line).split()[1])
limit = used * 1024 + 50_000_000
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
history = training.fit(model, X, y, loss=loss, batch_size=8, epochs=1, validation=0.2)
assert history.interrupted and batches == 150
try:
    training.fit(model, np.array(X), y, loss="mse", epochs=1)
except MemoryError:
    print("the limit holds")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is Linux's")
def test_training_on_200_megabytes_takes_less_than_50(tmp_path):
    pytest.importorskip("numpy")
    result = subprocess.run(
        [sys.executable, "-c", LARGER_THAN_MEMORY, str(tmp_path / "large.npy")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.stdout, result.stderr) == ("the limit holds\n", "")


def test_a_row_that_is_wrong_is_named_by_its_place_in_the_file(mapped):
    rows = [[float(i), 1.0] for i in range(3000)]
    rows[1234][1] = math.nan
    model = network()
    with pytest.raises(ValueError, match=r"X\[1234\]\[1\] is nan") as caught:
        training.fit(model, mapped(rows), [0] * 3000, epochs=1, batch_size=1000)
    assert isinstance(caught.value, MicrogradError)
    assert all(math.isfinite(p.data) for p in model.parameters())
    labels = [0] * 3000
    labels[77] = 2
    with pytest.raises(ValueError, match=r"y\[77\]: a label is .* from 0 to 1, got 2"):
        training.fit(model, [[0.0, 0.0]] * 3000, mapped(labels, int), epochs=1, batch_size=1000,
                     engine="compiled")  # fmt: skip


@pytest.mark.parametrize(
    ("X", "y", "says"),
    [
        ([[1.0, 1.0]] * 3, [0] * 2, "3 rows, but y has 2"),
        ([], [], "empty"),
        (3.0, [1], "lists or arrays"),
        ([[1.0, math.inf]], [0], r"X\[0\]\[1\] is inf"),
        ([[1.0]], [0], "takes 2 inputs, got 1"),
        ([[1.0, 2.0]] * 3, [0, 0, 2], r"y\[2\]: a label"),
        ([[1.0, 2.0]] * 3, [0, math.nan, 2], r"y\[1\] is nan"),
        ([[[1.0], [2.0]]], [0], "cannot compute with"),
        ([["a", "b"]], [0], "cannot compute with 'a'"),
    ],
)
def test_a_memory_mapped_array_that_does_not_fit_is_refused_before_anything_changes(
    mapped, X, y, says
):
    numpy = pytest.importorskip("numpy")
    if numpy.size(X):
        X = mapped(X, None)
    model = network()
    before = bits(model)
    with pytest.raises((ValueError, TypeError), match=says) as caught:
        training.fit(model, X, mapped(y, None) if y else y, epochs=1)
    assert isinstance(caught.value, MicrogradError)
    assert bits(model) == before


# --- batches --------------------------------------------------------------------------------------


class Loader:
    def __iter__(self):
        return iter(PAIRS)


KINDS = {
    "list": lambda: PAIRS,
    "generator function": lambda: lambda: (pair for pair in PAIRS),
    "function of a list": lambda: lambda: PAIRS,
    "iterable": Loader,
}


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_descended_on_as_they_come(kind):
    model, twin = network(), network()
    history = training.fit(model, KINDS[kind](), epochs=3)
    descent = optim.Adam(twin.parameters(), lr=0.01)
    means = []
    for _ in range(3):
        total = 0.0
        for X, y in PAIRS:
            loss = losses.cross_entropy([twin(x) for x in X], y)
            descent.zero_grad()
            loss.backward()
            descent.step()
            total += loss.data * len(X)
        means.append(total / 40)
    assert bits(model) == bits(twin)
    assert history.loss == pytest.approx(means, rel=1e-14)
    assert len(history.accuracy) == 3


def test_an_iterator_gives_one_epoch():
    model, twin = network(), network()
    training.fit(model, iter(PAIRS), epochs=1)
    training.fit(twin, PAIRS, epochs=1)
    assert bits(model) == bits(twin)


def test_batches_train_the_compiled_engine_too():
    models = []
    for engine in ("eager", "compiled"):
        models.append(network())
        history = training.fit(models[-1], iter(PAIRS), epochs=1, engine=engine)
        assert len(history) == 1
    eager, compiled = ([p.data for p in model.parameters()] for model in models)
    assert compiled == pytest.approx(eager, rel=1e-9, abs=1e-12)


def test_batches_of_arrays_are_batches(mapped):
    numpy = pytest.importorskip("numpy")
    model, twin = network(), network()
    training.fit(model, [(numpy.array(X), numpy.array(y)) for X, y in PAIRS], epochs=2)
    training.fit(twin, PAIRS, epochs=2)
    assert bits(model) == bits(twin)


def with_batch(number, X, y):
    return [*PAIRS[: number - 1], (X, y), *PAIRS[number:]]


BAD = {
    "an iterator for two epochs": (lambda: iter(PAIRS), {}, "gives its batches once"),
    "a batch size": (lambda: PAIRS, {"batch_size": 8}, "leave out batch_size"),
    "no batches": (list, {}, "X has no batches"),
    "nothing": (lambda: None, {}, "without y"),
    "no pair": (lambda: [DATA.X], {}, "batch 1 of X is a pair"),
    "y forgotten": (lambda: DATA.X, {}, r"batch 1 of X: .* \(without y, X is an iterable"),
    "lengths": (lambda: with_batch(1, [[1, 2]], [0, 1]), {}, "batch 1 of X: X has 1 rows, but y"),
    "an empty batch": (lambda: with_batch(1, [], []), {}, "batch 1 of X: .* empty"),
    "NaN": (lambda: with_batch(1, [[1, math.nan]], [0]), {}, r"batch 1 of X: X\[0\]\[1\] is nan"),
    "width": (lambda: with_batch(1, [[1.0]], [0]), {}, "takes 2 inputs"),
    "a label": (lambda: with_batch(1, [[1, 1]], [3]), {}, r"batch 1 of X: y\[0\]: a label"),
    "a text": (lambda: with_batch(1, [["a", 1]], [3]), {}, "batch 1 of X: cannot compute"),
    "a held-out fraction": (lambda: PAIRS, {"validation": 0.5}, "nothing can be held out"),
    "a list to validate on": (lambda: PAIRS, {"validation": PAIRS}, "is a pair"),
    "another width to validate on": (
        lambda: PAIRS,
        {"validation": ([[1.0]], [1])},
        "validation has rows of 1 numbers, X of 2",
    ),
    "a bad label to validate on": (
        lambda: PAIRS,
        {"validation": ([[1.0, 1.0]], [7])},
        r"y\[0\]: a label",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_batches_that_do_not_fit_are_refused_before_anything_changes(name):
    make, options, says = BAD[name]
    model = network()
    before = bits(model)
    with pytest.raises((ValueError, TypeError), match=says) as caught:
        training.fit(model, make(), epochs=2, **options)
    assert isinstance(caught.value, MicrogradError)
    assert bits(model) == before


@pytest.mark.parametrize(
    ("X", "y", "says"),
    [
        ([[1.0, 1.0], [1.0, math.inf]], [0, 0], r"batch 3 of X: X\[1\]\[1\] is inf"),
        ([[1.0]], [0], "batch 3 of X: row 0 of X has 1 numbers, those before have 2"),
        (
            [[1.0, 1.0], [2.0]],
            [0, 0],
            "batch 3 of X: row 1 of X has 1 numbers, those before have 2",
        ),
        ([[1.0, 1.0]], [2], r"batch 3 of X: y\[0\]: a label"),
    ],
)
@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_a_later_batch_that_does_not_fit_is_named_and_those_before_are_kept(engine, X, y, says):
    model, twin = network(), network()
    with pytest.raises(ValueError, match=says):
        training.fit(model, with_batch(3, X, y), epochs=1, engine=engine)
    training.fit(twin, PAIRS[:2], epochs=1, engine=engine)
    assert bits(model) == bits(twin)


def test_a_function_that_gives_its_batches_once_is_refused_after_the_first_epoch():
    once = iter(PAIRS)
    model, twin = network(), network()
    seen = []
    with pytest.raises(ValueError, match="no batches for this epoch"):
        training.fit(model, lambda: once, epochs=2, callbacks=[lambda m, h: seen.append(len(h))])
    training.fit(twin, PAIRS, epochs=1)
    assert seen == [1]
    assert bits(model) == bits(twin)


def test_control_c_while_a_batch_is_made_ends_the_training():
    def batches():
        yield from PAIRS[:2]
        raise KeyboardInterrupt

    model, twin = network(), network()
    history = training.fit(model, batches, epochs=3)
    training.fit(twin, PAIRS[:2], epochs=1)
    assert history.interrupted
    assert history.mid_epoch
    assert len(history) == 0
    assert bits(model) == bits(twin)


def test_divergence_names_epoch_and_batch_of_batches_too():
    model = nn.MLP(1, [1], seed=0)
    descent = optim.SGD(model.parameters(), lr=1e200)
    with pytest.raises(ValueError, match="batch 2 of epoch 1"):
        training.fit(model, [([[1.0]], [3.0]), ([[2.0]], [1.0])], loss="mse", optimizer=descent)


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_what_makes_batches_within_no_grad_does_not_silence_the_loop(engine):
    def silent():
        with no_grad():
            yield from PAIRS

    models = [network(), network()]
    for model, source in zip(models, (silent, PAIRS), strict=True):
        training.fit(model, source, epochs=2, engine=engine)
    assert bits(models[0]) == bits(models[1])


# --- labels to ignore -----------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("engine", ["eager", "compiled"])
@pytest.mark.parametrize("index", [-100, 2])
@pytest.mark.parametrize("kind", ["lists", "mapped", "batches", "validation"])
def test_examples_with_the_label_to_ignore_are_left_out(mapped, engine, index, kind):
    loss = losses.cross_entropy if index == -100 else partial(losses.cross_entropy, ignore_index=2)
    ignored = {1, 4, 5, 6, 7, 19, 39}
    y = [index if i in ignored else label for i, label in enumerate(DATA.y)]
    kept = [i for i in range(40) if i not in ignored]
    full = DATA.X, y
    less = [DATA.X[i] for i in kept], [DATA.y[i] for i in kept]
    options = [{"batch_size": None}] * 2
    if kind == "mapped":
        full = mapped(DATA.X), mapped(y, int)
    elif kind == "validation":
        options = [{"validation": full}, {"validation": less}]
        full = less
    elif kind == "batches":
        full = ([(DATA.X[i : i + 4], y[i : i + 4]) for i in range(0, 40, 4)],)  # one is all ignored
        parts = [[k for k in range(i, i + 4) if k in kept] for i in range(0, 40, 4)]
        less = ([([DATA.X[k] for k in ks], [DATA.y[k] for k in ks]) for ks in parts if ks],)
        options = [{}, {}]
    runs = []
    for data, more in zip((full, less), options, strict=True):
        model = nn.MLP(2, [4, 3], seed=0)
        history = training.fit(model, *data, loss=loss, epochs=2, engine=engine, **more)
        runs.append(([p.data for p in model.parameters()], history.loss, history.validation_loss))
    assert runs[0][0] == pytest.approx(runs[1][0], rel=1e-9)
    assert runs[0][1:] == (pytest.approx(runs[1][1]), pytest.approx(runs[1][2]))


def test_where_all_are_to_be_ignored_it_says_so(mapped):
    for data in ((DATA.X, [-100] * 40), (mapped(DATA.X), [-100] * 40), ([(DATA.X, [-100] * 40)],)):
        with pytest.raises(ValueError, match=r"no example is left|no batches") as caught:
            training.fit(network(), *data, epochs=1)
        assert isinstance(caught.value, MicrogradError)
