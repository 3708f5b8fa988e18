"""surroundings.py: what a call moves beside its arguments is seen, and brought back."""

from __future__ import annotations

import functools
import itertools
import random
import sys
import warnings
from array import array
from collections import deque
from types import ModuleType, SimpleNamespace

import pytest

from micrograd_like import Value, nn, no_grad, optim, training
from micrograd_like.compiler.surroundings import Surroundings, is_array
from micrograd_like.errors import TraceError

np = pytest.importorskip("numpy")

CALLS = 0
RNG = random.Random(1)


class Counting(nn.Module):
    """A neuron that does something beside, once in a call."""

    calls_of_all = 0
    rng_of_all = random.Random(1)

    def __init__(self, beside, **attributes):
        self.w, self.b = Value(0.5, "w"), Value(0.1, "b")
        vars(self).update(attributes)
        self._beside = beside

    def __call__(self, x):
        return (self.w * x[0] + self.b) * self._beside(self)

    def count(self):
        self.calls += 1
        return self.calls

    @property
    def drawn(self):
        return RNG.random()


def of_global(model):
    global CALLS
    CALLS += 1
    return CALLS


def of_class(model):
    Counting.calls_of_all += 1
    return Counting.calls_of_all


def of_variable():
    calls = 0

    def beside(model):
        nonlocal calls
        calls += 1
        return calls

    return beside


def of_list(model, calls=[0]):  # noqa: B006
    calls[0] += 1
    return calls[0]


def of_named_default(model, *, rng=np.random.default_rng(1)):  # noqa: B008
    return rng.random()


def of_generator(rng, model):
    return rng.random()


def of_function(model):
    of_function.calls += 1
    return of_function.calls


of_function.calls = 0


def of_steps(model):
    model.steps["n"] += 1
    return model.steps["n"]


def of_array(model):
    model.steps[0] += 1.0
    return float(model.steps[0])


def of_recent(model):
    model.recent.append(model.recent[-1] + 1)
    return model.recent[0]


def of_text(model):
    model.phase = "odd" if model.phase == "even" else "even"
    return 1.0 + 0.0 * len(model.phase)


def of_namespace(model):
    model.config.calls += 1
    return model.config.calls


def of_set(model):
    model.steps.add(len(model.steps))
    return len(model.steps)


def of_bytes(model):
    model.steps[0] += 1
    return model.steps[0]


def of_tuple(model):
    model.steps = (model.steps[0] + 1, [{"n": model.steps[0]}])
    return model.steps[0]


class Slotted:
    __slots__ = ("n", "unset")

    def __init__(self, n):
        self.n = n

    def next(self):
        self.n += 1
        return self.n


def of_another_object(model):
    model.steps = Slotted(model.steps.n + 1)
    return model.steps.n


def of_another_namespace(model):
    model.steps = SimpleNamespace(n=model.steps.n + 1, own=model.steps)
    return model.steps.n


def of_another_class(model):
    model.steps = type("Steps", (), {"n": model.steps.n + 1})
    return model.steps.n


def of_another_function(model):
    def counted(n):
        return lambda: n

    model.steps = counted(model.steps() + 1)
    return model.steps()


def of_new_attribute(model):
    model.lazily = getattr(model, "lazily", model.steps)
    model.lazily[0] += 1
    return model.lazily[0]


def of_module(model):
    MODULE.calls += 1
    return MODULE.calls


def of_package(model):
    PACKAGE.inner.calls += 1
    return PACKAGE.inner.calls


def of_import(model):
    from users_package import inner

    inner.calls += 1
    return inner.calls


def of_module_in_a_function():
    module = ModuleType("users_module_in_a_function")
    module.calls = 0

    def beside(model):
        module.calls += 1
        return module.calls

    return beside


def of_a_value(model):
    model.steps = model.steps + 1.0
    return model.steps


def of_a_value_without_gradients(model):
    with no_grad():
        model.steps["n"] = model.steps["n"] + 1.0
    return model.steps["n"]


def of_values(model):
    model.steps[1] = (model.steps[1][0], model.steps[1][1] + 1)
    return model.steps[1][1]


def of_a_number_that_becomes_a_value(model):
    model.steps = Value(1.0) + model.steps
    return model.steps


class Config(dict):
    """A dict with an attribute beside its items."""

    def __init__(self, **items):
        super().__init__(items)
        self.calls = 0


class Layers(list):
    """A list that is called."""

    def __call__(self):
        global CALLS
        CALLS += 1
        return CALLS


MODULE, PACKAGE = ModuleType("users_module"), ModuleType("users_package")
MODULE.calls = 0
PACKAGE.inner = ModuleType("users_package.inner")
PACKAGE.inner.calls = 0
sys.modules |= {module.__name__: module for module in (PACKAGE, PACKAGE.inner)}

# What happens beside, with the attributes that it needs.
MOVING = {
    "an attribute": (lambda m: m.count(), {"calls": 0}),
    "an attribute of the class": (of_class, {}),
    "a global": (of_global, {}),
    "a variable": (of_variable(), {}),
    "an item of a list": (of_list, {}),
    "an item of a dict": (of_steps, {"steps": {"n": 0}}),
    "an attribute of a function": (of_function, {}),
    "an element of an array": (of_array, {"steps": np.zeros(3)}),
    "what comes last": (of_recent, {"recent": deque([1], maxlen=2)}),
    "a text": (of_text, {"phase": "even"}),
    "an attribute's attribute": (of_namespace, {"config": SimpleNamespace(calls=0)}),
    "Python's generator": (lambda m: m.rng.random(), {"rng": random.Random(1)}),
    "NumPy's generator": (lambda m: m.rng.random(), {"rng": np.random.default_rng(1)}),
    "NumPy's older one": (lambda m: m.rng.rand(), {"rng": np.random.RandomState(1)}),
    "a generator of the class": (lambda m: m.rng_of_all.random(), {}),
    "a global generator": (lambda m: RNG.random(), {}),
    "a property": (lambda m: m.drawn, {}),
    "a generator as default": (of_named_default, {}),
    "a set": (of_set, {"steps": set()}),
    "bytes": (of_bytes, {"steps": bytearray(2)}),
    "an array of Python's": (of_array, {"steps": array("d", [0.0])}),
    "a large array": (of_array, {"steps": np.zeros((50, 200, 2))[:, :, 0].reshape(-1)}),
    "an array of objects": (of_array, {"steps": np.array([0.0, None], object)}),
    "a long list": (of_array, {"steps": [0.0] * 5000}),
    "a tuple": (of_tuple, {"steps": (0, [])}),
    "a slot": (lambda m: m.steps.next(), {"steps": Slotted(0)}),
    "a method of an object": (lambda m: m.steps(), {"steps": Slotted(0).next}),
    "another object": (of_another_object, {"steps": Slotted(0)}),
    "another namespace": (of_another_namespace, {"steps": SimpleNamespace(n=0)}),
    "another class": (of_another_class, {"steps": type("Steps", (), {"n": 0})}),
    "another function": (of_another_function, {"steps": lambda: 0}),
    "an attribute that is made": (of_new_attribute, {"steps": [0]}),
    "a variable of a module": (of_module, {}),
    "a variable of a module in a package": (of_package, {}),
    "a variable of a module that is imported": (of_import, {}),
    "a variable of a module that a variable has": (of_module_in_a_function(), {}),
    "an attribute of a dict": (of_namespace, {"config": Config(n=1)}),
    "a global of a list that is called": (lambda m: m.steps(), {"steps": Layers([1])}),
    "a draw of a generator": (lambda m: m.draw(), {"draw": random.Random(1).random}),
    "a Value": (of_a_value, {"steps": Value(0.0)}),
    "a Value without gradients": (of_a_value_without_gradients, {"steps": {"n": Value(0.0)}}),
    "Values in lists": (of_values, {"steps": [Value(0.0), (Value(0.0), Value(0.0))]}),
    "a number that becomes a Value": (of_a_number_that_becomes_a_value, {"steps": 0}),
    "a generator in a partial": (functools.partial(of_generator, random.Random(1)), {}),
}  # fmt: skip


@pytest.mark.parametrize("what", MOVING)
def test_what_a_call_moves_is_seen_and_brought_back(what):
    beside, attributes = MOVING[what]
    model = Counting(beside, **attributes)
    surroundings = Surroundings(model)
    first = model([2.0]).data
    with pytest.raises(TraceError, match=r"model or loss (changes .* when|draws rand)"):
        surroundings.check(computed=())
    surroundings.bring_back()
    surroundings.check(computed=())
    assert model([2.0]).data == first
    surroundings.bring_back()


@pytest.mark.parametrize("what", MOVING)
def test_a_model_or_loss_that_does_is_trained_by_the_eager_engine_as_if_it_had_not_been_called(
    what,
):
    beside, attributes = MOVING[what]
    rare = lambda model: 1.0 if beside(model) < 150 else 0.5  # noqa: E731

    def loss_of(model, is_rare):
        return lambda out, t: (out * (rare(model) if is_rare else 1.0) - t) ** 2

    X = [[i / 10.0] for i in range(20)]
    for in_loss in (False, True):
        weights = []
        for engine in ("eager", "compiled"):
            model = Counting((lambda model: 1.0) if in_loss else rare, **attributes)
            before = Surroundings(model, beside)
            with warnings.catch_warnings(record=True) as caught:
                training.fit(
                    model, X, [x[0] for x in X], loss=loss_of(model, in_loss), engine=engine,
                    optimizer=optim.SGD([model.w, model.b], lr=0.01), epochs=3,
                )  # fmt: skip
            assert ["not compiled" in str(w.message) for w in caught] == [True] * len(weights)
            weights.append((model.w.data, model.b.data))
            before.bring_back()
        assert weights[0] == weights[1]


@pytest.mark.parametrize("iterator", [iter([1.0, 2.0]), itertools.cycle([1.0]), map(abs, [1.0])])
def test_an_iterator_is_refused_before_anything_is_taken_from_it(iterator):
    with pytest.raises(TraceError, match="has an iterator"):
        Surroundings(Counting(lambda model: next(model.items), items=iterator))
    assert next(iterator) == 1.0


def test_what_stays_as_it_is_or_becomes_a_value_is_let_be():
    def beside(model):
        model.last = model.w * 2.0
        model.seen.append(model.last)
        model.pair = (model.last, 2.0)
        model.state = SimpleNamespace(h=[model.last], of=Slotted(3))
        model.lazily = model.lazily or 0.5
        model.cache["new"] = 3.0
        return model.scale * len("text") * max(1.0, CALLS)

    model = Counting(beside, last=0.0, seen=[], cache={}, scale=2.0, nan=float("nan"))
    model.pair, model.state = (None, 2.0), SimpleNamespace(h=None, of=Slotted(3))
    model.lazily = None
    model.itself, model.log = model, open(__file__)
    with model.log:
        surroundings = Surroundings(model)
        model([1.0])
        surroundings.check()


def test_what_was_not_there_is_gone_when_all_is_brought_back():
    calls, config = None, SimpleNamespace()

    def beside(model):
        nonlocal calls
        config.calls = beside.calls = calls = 1 if calls is None else calls + 1
        return calls

    model = Counting(beside)
    surroundings = Surroundings(model)
    model([1.0])
    surroundings.bring_back()
    assert calls is None
    assert not vars(config)
    assert not vars(beside)


class Unusual(list):
    def __reduce_ex__(self, protocol):
        raise TypeError("copied by nobody")


class Elementwise:
    __slots__ = ()

    def __eq__(self, other):
        return np.array([True, False])

    __hash__ = None


def test_a_dict_that_did_not_move_is_let_alone_so_that_nothing_can_interrupt_what_makes_it_anew():
    class Interrupted(dict):
        def clear(self):
            raise KeyboardInterrupt

    cache = Interrupted(a=[1.0])
    surroundings = Surroundings(lambda: cache)
    cache["a"].append(2.0)
    surroundings.bring_back()
    assert cache == {"a": [1.0]}
    cache["b"] = 3.0
    with pytest.raises(KeyboardInterrupt):
        surroundings.bring_back()


def test_a_module_of_the_users_may_have_the_name_of_one_of_pythons(tmp_path, monkeypatch):
    module = ModuleType("tabnanny")
    module.__file__, module.calls = str(tmp_path / "tabnanny.py"), 0
    exec("def model(x):\n global calls\n calls += 1\n return x * calls", vars(module))
    monkeypatch.setitem(sys.modules, "tabnanny", module)
    surroundings = Surroundings(module.model)
    module.model(1.0)
    with pytest.raises(TraceError, match="the variable calls"):
        surroundings.check()


def test_what_cannot_be_written_copied_or_compared_ends_nothing():
    fixed = np.arange(3.0)
    fixed.flags.writeable = False
    model = Counting(lambda m: m.items[0], fixed=fixed, items=Unusual([2.0]), last=Elementwise())
    surroundings = Surroundings(model)
    model([1.0])
    surroundings.check()
    surroundings.bring_back()
    model.last = Elementwise()
    with pytest.raises(TraceError, match=r"Counting\.last"):
        surroundings.check()


def test_a_great_deal_is_looked_through_in_part():
    model = Counting(lambda m: m.count(), calls=0, data=[[float(i)] for i in range(100_000)])
    surroundings = Surroundings(model)
    model([1.0])
    with pytest.raises(TraceError, match=r"Counting\.calls"):
        surroundings.check()


def test_a_library_that_another_thread_is_loading_is_no_trouble(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its module is there by then, with little in it."""
    for name in ("numpy", "numpy.random"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    model = nn.MLP(1, [1], seed=0)
    training.fit(model, [[0.5]], [1.0], epochs=1, loss="mse")
    assert not is_array([0.5])


@pytest.mark.parametrize(
    "shape",
    [(30_000,), (900, 32), (300, 100), (30, 30, 30)],
    ids=["rows", "batches", "series", "folds"],
)
def test_a_data_set_hides_nothing_that_is_deeper_than_its_rows(shape):
    def rows(length, *others):
        return [rows(*others) if others else [float(i)] for i in range(length)]

    state = SimpleNamespace(of=SimpleNamespace(of=SimpleNamespace(of=SimpleNamespace(n=0))))

    def count(model):
        state.of.of.of.n += 1
        return state.of.of.of.n

    model = Counting(count, data=rows(*shape))
    surroundings = Surroundings(model)
    model([1.0])
    with pytest.raises(TraceError, match=r"SimpleNamespace\.n"):
        surroundings.check()
