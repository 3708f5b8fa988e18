"""What a Value inherits: methods, number manners, arrays, and the names that micrograd uses."""

from __future__ import annotations

import copy
import math
import operator
import pickle
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optional import np
from reference import VALUE, Program, programs

from micrograd_like import (
    Op,
    Value,
    affine,
    clip,
    grad,
    greater,
    hessian,
    losses,
    maximum,
    nn,
    relu,
    tanh,
    topological_order,
    value_and_grad,
    where,
)
from micrograd_like.errors import OperandError


def data_of(array: Any) -> Any:
    return np.vectorize(lambda v: v.data, otypes=[float])(array)


# --- numbers --------------------------------------------------------------------------------------


def test_a_format_is_that_of_the_number() -> None:
    v = Value(1.23456, label="v")
    assert (f"{v:.4f}", f"{v:8.2f}|", f"{v:e}") == ("1.2346", "    1.23|", "1.234560e+00")
    assert f"{v}" == repr(v)
    with pytest.raises(ValueError, match=r"[Ff]ormat"):
        f"{v:.2q}"


@pytest.mark.parametrize(
    "use",
    [float, int, complex, round, lambda v: round(v, 2), math.exp, math.floor, math.trunc, math.sqrt,
     operator.methodcaller("__float__"), lambda v: math.fsum([v, v]), lambda v: math.pow(v, 2)],
)  # fmt: skip
def test_what_would_lose_the_graph_says_to_write_data(use: Callable[[Value], Any]) -> None:
    with pytest.raises(TypeError, match=r"write \.data"):
        use(Value(2.0))


def test_the_old_way_to_format_says_to_write_data() -> None:
    with pytest.raises(TypeError, match=r"write \.data"):
        "%.2f" % Value(2.0)  # noqa: UP031


@pytest.mark.parametrize("make", ["np.array(2.0)", "np.array(2)", "np.float32(2)", "np.int64(2)"])
def test_an_array_without_axes_is_a_number(make: str) -> None:
    two = eval(make, {"np": np})
    assert Value(two).data == 2.0
    v = Value(3.0)
    assert [(v + two).data, (two - v).data, (v**two).data, (two / v).data] == [5, -1, 9, 2 / 3]


def test_a_tensor_without_axes_is_a_number() -> None:
    torch = pytest.importorskip("torch")
    assert Value(torch.tensor(2.0)).data == 2.0
    assert (Value(3.0) * torch.tensor(2.0)).data == 6.0


# --- arrays ---------------------------------------------------------------------------------------

OPERATORS = [
    operator.add, operator.sub, operator.mul, operator.truediv, operator.mod, operator.pow,
]  # fmt: skip


@pytest.mark.parametrize("apply", OPERATORS)
@pytest.mark.parametrize("of_values", [False, True])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (1, 1), (0,)])
def test_an_array_meets_a_value_element_by_element(
    apply: Callable[[Any, Any], Any], of_values: bool, shape: tuple[int, ...]
) -> None:
    numbers = np.arange(1.0, 1.0 + math.prod(shape)).reshape(shape)
    array = np.vectorize(Value, otypes=[object])(numbers) if of_values else numbers
    v = Value(2.0)
    for got, want in (
        (apply(array, v), apply(numbers, 2.0)),
        (apply(v, array), apply(2.0, numbers)),
    ):
        assert got.dtype == object
        assert got.shape == shape
        assert np.array_equal(data_of(got), want)
    for node in apply(v, array).flat:
        node.backward()
    if numbers.size:
        assert v.grad != 0.0


def test_gradients_flow_through_arrays() -> None:
    w = np.array([[Value(1.0), Value(2.0)], [Value(3.0), Value(4.0)]])
    x = np.array([Value(5.0), Value(6.0)])
    y = (w @ x).sum()
    assert y.data == 56.0
    assert grad(y, [*w.flat]) == [5.0, 6.0, 5.0, 6.0]
    assert grad(y, [*x]) == [4.0, 6.0]
    p = np.exp(x - np.max(x))
    p = p / p.sum()
    assert np.allclose(data_of(p), [0.26894142137, 0.73105857863])
    assert np.allclose(grad(p[1], [*x]), [-0.19661193324, 0.19661193324])


@pytest.mark.parametrize(
    "name",
    ["exp", "expm1", "log", "log2", "log10", "log1p", "sqrt", "tanh", "sin", "cos",
     "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "arcsinh", "arctanh", "absolute",
     "negative", "positive"],
)  # fmt: skip
def test_numpys_functions_of_arrays_of_values(name: str) -> None:
    numbers = np.array([0.25, 0.5])
    got = getattr(np, name)(np.array([Value(0.25), Value(0.5)]))
    assert np.allclose(data_of(got), getattr(np, name)(numbers), rtol=1e-15)


def test_the_variance_of_an_array_of_values() -> None:
    A = np.array([Value(1.0), Value(4.0)])
    variance = A.var()
    assert (variance.data, grad(variance, A.tolist())) == (2.25, [-1.5, 1.5])


@pytest.mark.parametrize("name", ["arctan2", "hypot", "add", "mod", "power", "maximum"])
def test_numpys_functions_of_two_arrays_of_values(name: str) -> None:
    a, b = [0.25, 0.5], [2.0, -3.0] if name != "power" else [2.0, 3.0]
    got = getattr(np, name)(np.array([*map(Value, a)]), np.array([*map(Value, b)]))
    assert np.allclose(data_of(got), getattr(np, name)(a, b), rtol=1e-15)


def test_a_masked_array_is_refused() -> None:
    masked = np.ma.array([1.0, 777.0], mask=[False, True])
    for use in (lambda v: v * masked, lambda v: masked + v, lambda v: affine([v], masked[1:])):
        with pytest.raises(TypeError):
            use(Value(1.0))


def test_an_array_and_a_value_are_compared_element_by_element() -> None:
    v, w, u = Value(2.0), Value(3.0), Value(2.0)
    array = np.array([[v, w, u]])
    for equal in (array == v, v == array):
        assert (equal.dtype, equal.tolist()) == (bool, [[True, False, False]])  # by identity
    for other in (array != v, v != array):
        assert (other.dtype, other.tolist()) == (bool, [[False, True, True]])
    assert v in array
    assert Value(2.0) not in array
    assert array[array != v].sum().data == 5.0
    assert not (np.array([2.0, 3.0]) == v).any()
    assert (v == 2.0, v == b"2.0", v != b"2.0", v == w, v != w) == (False, False, True, False, True)


@pytest.mark.parametrize("unit", ["s", "ns", "Y"])
@pytest.mark.parametrize("kind", ["datetime64", "timedelta64"])
def test_arrays_of_times_are_refused(kind: str, unit: str) -> None:
    times = np.array([5, 6]).astype(f"{kind}[{unit}]")  # of which NumPy makes ints, if in ns
    for use in (
        lambda v: v * times,
        lambda v: times[:, None] + v,
        lambda v: affine(times, [v, v]),
        lambda v: v + times[0].reshape(()),
        lambda v: nn.MLP(2, [1])(times),
        lambda v: losses.mse([v, v], times),
        lambda v: value_and_grad(lambda x: x[0] * x[1])(times),
    ):
        with pytest.raises(TypeError, match="times are no numbers"):
            use(Value(1.0))


# --- micrograd's names ----------------------------------------------------------------------------


def test_the_sign_of_a_node_is_micrograds() -> None:
    x, y = Value(2.0), Value(3.0)
    nodes = [
        x + y, x * y, x**2, x**0.5, x**y, x / y, x - y, x % y, -x, tanh(x), relu(x), x.exp(), x,
    ]  # fmt: skip
    signs = ["+", "*", "**2", "**0.5", "**", "/", "-", "%", "-", "tanh", "ReLU", "exp", ""]
    assert [node._op for node in nodes] == signs


def test_prev_is_a_set_of_the_parents() -> None:
    x, y = Value(2.0), Value(3.0)
    assert (x * x)._prev == {x}
    z = x * y
    assert (z + 1.0)._prev == {z}
    assert x._prev == set()
    with pytest.raises(AttributeError):
        z._prev = {x}  # type: ignore[misc]
    with pytest.raises(AttributeError):
        z._backward = lambda: None  # type: ignore[misc]
    with pytest.raises(AttributeError):  # no attribute of its own, which the sweep would not call
        Weight(random.Random(0))._backward = lambda: None  # type: ignore[misc]


@given(programs())
def test_steps_by_hand_in_reverse_order_are_backward(program: Program) -> None:
    """The lecture's loop: a topological order by `_prev`, then `_backward` of each node."""
    inputs = [Value(x) for x in program.inputs]
    root = program.run(inputs, VALUE)[-1]
    order: list[Value] = []
    seen: set[Value] = set()

    def build(v: Value) -> None:
        if v not in seen:
            seen.add(v)
            for child in v._prev:
                build(child)
            order.append(v)

    build(root)
    assert set(order) == set(topological_order(root))
    root.grad = 1.0
    for v in reversed(order):
        v._backward()
    by_hand = [v.grad for v in inputs]
    for v in order:
        v.grad = 0.0
    root.backward()
    for got, want in zip(by_hand, [v.grad for v in inputs], strict=True):
        assert got == want or math.isclose(got, want, rel_tol=1e-9) or (got != got and want != want)


@pytest.mark.parametrize(
    "rest", [((Value(1.0),),), ((Value(1.0), Value(2.0)), "*"), ([Value(1.0)],), ("", "+"), ((),)]
)
def test_micrograds_constructor_is_refused_and_names_op(rest: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match="Op"):
        Value(2.0, *rest)


@pytest.mark.parametrize("named", [{"_children": (Value(1.0),)}, {"_op": "+"}, {"_children": ()}])
def test_so_it_is_with_the_names_that_its_arguments_have(named: dict[str, Any]) -> None:
    for label in ((), ("a",)):
        with pytest.raises(OperandError, match="Op"):
            Value(2.0, *label, **named)
    with pytest.raises(TypeError, match="unexpected keyword argument 'lable'"):
        Value(2.0, lable="a")  # type: ignore[call-arg]


@pytest.mark.parametrize("label", [None, 3, b"x", Value(1.0)])
def test_a_label_that_is_no_text_is_refused(label: Any) -> None:
    with pytest.raises(TypeError, match="label"):
        Value(2.0, label)


def test_a_label_of_a_kind_of_str_is_one() -> None:
    assert Value(1.0, np.str_("w")).label == "w"


# --- subclasses -----------------------------------------------------------------------------------


class Weight(Value):
    """As LLM101n's programs have: attributes of its own, and a constructor of its own."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng.gauss(0.0, 1.0))
        self.m = self.v = 0.0


def test_a_subclass_has_attributes_and_a_constructor_of_its_own() -> None:
    w = Weight(random.Random(0))
    w.m += 0.5
    w.whatever = [1]  # type: ignore[attr-defined]
    x = Value(3.0)
    y = w * x + 2.0 * w - w / 2.0 + affine([w], [x], w) + w**2 + tanh(w)
    for node in (w * x, x * w, w + 1, tanh(w)):
        assert (node.__class__, isinstance(node, Weight)) == (Value, False)
    plain = Value(w.data)
    same = plain * x + 2.0 * plain - plain / 2.0 + affine([plain], [x], plain) + plain**2
    same = same + tanh(plain)
    assert y.data == same.data
    assert grad(y, w) == grad(same, plain)
    y.backward()
    assert w.grad == grad(same, plain)
    assert grad(grad(y, w, create_graph=True), w) == grad(
        grad(same, plain, create_graph=True), plain
    )
    assert (w.m, w.v) == (0.5, 0.0)


class Slotted(Value):
    """With attributes in slots, and one left empty."""

    __slots__ = ("__hidden", "empty", "velocity")

    def __init__(self, velocity: Any) -> None:
        super().__init__(1.0, "slotted")
        self.velocity = velocity
        self.__hidden = 3.0

    def hidden(self) -> float:
        return self.__hidden


class Choosy(Weight):
    """It says itself what is pickled."""

    def __getstate__(self) -> float:
        return self.m

    def __setstate__(self, m: float) -> None:
        self.m = -m


def copies(x: Any) -> list[Any]:
    return [copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x))]


def test_an_attribute_may_be_what_was_computed_from_its_value() -> None:
    weight = Weight(random.Random(0))
    weight.m = out = weight * 3.0  # type: ignore[assignment]
    again = copy.deepcopy(out)
    (leaf,) = again.parents
    assert leaf.m is again is not out  # type: ignore[attr-defined]


def test_a_subclass_is_copied_and_pickled_with_its_attributes() -> None:
    w = Weight(random.Random(0))
    w.label, w.grad, w.m, w.v = "w", 0.5, 3.0, [1.0]
    for twin in copies(w):
        assert (twin.__class__, twin.data, twin.grad, twin.label) == (Weight, w.data, 0.5, "w")
        assert (twin.m, twin.v) == (3.0, [1.0])
        twin.m += 1.0
        assert (twin * 2.0).__class__ is Value
        twin.backward()
    assert (w.m, w.grad) == (3.0, 0.5)
    assert [twin.v is w.v for twin in copies(w)] == [True, False, False]
    for twin in copies(Slotted([2.0])):
        assert (twin.label, twin.velocity, twin.hidden()) == ("slotted", [2.0], 3.0)
        assert not hasattr(twin, "empty")
    assert [twin.m for twin in copies(Choosy(random.Random(0)))][:2] == [0.0, 0.0]
    choosy = Choosy(random.Random(0))
    choosy.m = 2.0
    assert pickle.loads(pickle.dumps(choosy)).m == -2.0


def test_a_subclass_is_so_within_graphs_and_containers_too() -> None:
    w = Weight(random.Random(0))
    w.m = w  # a cycle
    y = w * w + 1.0
    for twin, same in (copy.deepcopy([y, w]), pickle.loads(pickle.dumps([y, w]))):
        (square,) = twin.parents
        assert twin.data == y.data
        assert square.parents == (same, same)
        assert same.__class__ is Weight
        assert same.m is same
        assert grad(twin, same) == 2.0 * w.data


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("data", property(lambda self: 5.0)),
        ("grad", 3.0),
        ("label", lambda self: "w"),
        ("op", "mine"),
        ("_backward", lambda self: None),
        ("__eq__", lambda self, other: self.data == other.data),
        ("__hash__", lambda self: 1),
    ],
)
def test_what_the_engine_reads_in_its_own_way_is_not_overridden(name: str, own: Any) -> None:
    """It reads slots, and tells nodes apart by identity: gradients would be wrong silently."""
    mixin = type("Mixin", (), {name: own})
    for bases in ((Value,), (Weight,)):
        for make in (
            lambda bases=bases: type("Own", bases, {name: own}),
            lambda bases=bases: type("Own", (mixin, *bases), {}),
        ):
            with pytest.raises(OperandError, match=f"(Own|Mixin) overrides {name}, which"):
                make()
        assert type("Own", (*bases, mixin), {"step": own})  # behind Value it is never asked


@dataclass
class Remembering(Value):
    """Of which @dataclass would compare the fields, and take the hash away."""

    m: float = 0.0

    def __post_init__(self) -> None:
        super().__init__(2.0)


@dataclass
class RememberingMore(Remembering):
    v: float = 1.0


@pytest.mark.parametrize("kind", [Remembering, RememberingMore])
def test_a_dataclass_is_a_subclass_whose_nodes_are_told_apart(kind: type[Value]) -> None:
    p, q = kind(), kind()  # type: ignore[call-arg]
    assert (p == q, p == p, p == 2.0, len({p, q})) == (False, True, False, 2)
    y = p * q * q
    y.backward()
    assert [p.grad, q.grad] == grad(y, [p, q]) == [4.0, 8.0]
    assert hessian(y, [p, q]) == [[0.0, 4.0], [4.0, 4.0]]
    assert [vars(twin) == vars(p) for twin in copies(p)] == [True] * 3
    with pytest.raises(TypeError, match="__hash__"):
        dataclass(unsafe_hash=True)(kind)


def test_an_attribute_of_a_plain_value_is_refused() -> None:
    with pytest.raises(AttributeError):
        Value(1.0).index = 3  # type: ignore[attr-defined]


def test_an_operation_of_ones_own_takes_the_place_of_micrograds_children(
    made_up: type[Op],
) -> None:
    sine = made_up("my_sine", math.sin, lambda x, out: math.cos(x))
    x = Value(0.5)
    sine(x).backward()
    assert x.grad == math.cos(0.5)


@given(st.floats(-1e6, 1e6), st.integers(-(2**53), 2**53))
def test_integers_of_every_kind_are_numbers(x: float, n: int) -> None:
    v = Value(x)
    assert (v + n).data == x + float(n)
    assert (n * v).data == float(n) * x
    assert (v - True).data == x - 1.0


def test_rows_take_arrays_of_values_alone():
    pytest.importorskip("numpy")
    A, B = (np.array(list(map(Value, xs)), dtype=object) for xs in ([1.0, -2.0], [0.5, 3.0]))
    for got, want in (
        (maximum(A, B), [1.0, 3.0]),
        (where(greater(A, 0.0), A, B), [1.0, 3.0]),
        (clip(A, 0.0, 0.5), [0.5, 0.0]),
        (A % 2.0, [1.0, 0.0]),
    ):
        assert [x.data for x in got] == want
    with pytest.raises(OperandError):
        maximum(np.array([1.0, 2.0]), 1.0)
