"""nn.py: neurons, layers and networks, their parameters, names and starting points."""

import functools
import math
import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optional import np

from micrograd_like import (
    MicrogradError,
    Op,
    Value,
    grad,
    greater,
    nn,
    ops,
    sin,
    sqrt,
    tanh,
    topological_order,
    training,
    where,
)
from micrograd_like.errors import InputError, MicrogradWarning, OperandError, StateError


def test_parameters_are_labelled_with_their_path():
    model = nn.MLP(2, [4, 3, 1], seed=0)
    names = dict(model.named_parameters())
    assert len(names) == 4 * 3 + 3 * 5 + 4
    assert all(name == p.label for name, p in names.items())
    assert names["layers[0].neurons[3].w[1]"] is model.layers[0].neurons[3].w[1]
    assert names["layers[2].neurons[0].b"] is model.layers[2].neurons[0].b
    assert [p.label for p in nn.Neuron(2).parameters()] == ["w[0]", "w[1]", "b"]
    assert nn.Layer(2, 2).parameters()[-1].label == "neurons[1].b"


def test_the_values_in_an_array_are_parameters():
    class Matrix(nn.Module):
        def __init__(self):
            self.W = np.array([[Value(1.0), Value(2.0)], [Value(3.0), nn.Neuron(1, seed=0)]])
            self.b = np.array(Value(4.0), dtype=object)
            self.X = np.ones((2, 2))
            self.model = [self.W, np.array([], dtype=object)]

    model = Matrix()
    named = dict(model.named_parameters())
    assert list(named) == ["W[0][0]", "W[0][1]", "W[1][0]", "W[1][1].w[0]", "W[1][1].b", "b"]
    assert named["W[1][0]"] is model.W[1, 0]


def test_parameters_is_a_list_without_repetition():
    class Tied(nn.Module):
        def __init__(self):
            self.shared = Value(2.0)
            self.inner = nn.Neuron(1, seed=0)
            self.again = {"same": self.shared, "other": (Value(3.0),)}
            self.width = 7

    model = Tied()
    assert isinstance(model.parameters(), list)
    names = [name for name, _ in model.named_parameters()]
    assert names == ["shared", "inner.w[0]", "inner.b", "again['other'][0]"]


def test_zero_grad_clears_every_parameter():
    model = nn.MLP(2, [3, 1], seed=0)
    model([1.0, 2.0]).backward()
    assert any(p.grad for p in model.parameters())
    model.zero_grad()
    assert [p.grad for p in model.parameters()] == [0.0] * len(model.parameters())


def test_a_last_layer_of_width_one_gives_a_value_and_a_wider_one_a_list():
    assert isinstance(nn.MLP(2, [3, 1], seed=0)([1.0, 2.0]), Value)
    out = nn.MLP(2, [3, 2], seed=0)([1.0, 2.0])
    assert isinstance(out, list)
    assert len(out) == 2
    assert isinstance(nn.MLP(2, [1, 1, 1], seed=0)([1.0, 2.0]), Value)
    assert isinstance(nn.Layer(2, 1)([1.0, 2.0]), Value)
    assert len(nn.Layer(2, 2)([1.0, 2.0])) == 2


@pytest.mark.parametrize("make", [nn.MLP, nn.Layer])
@pytest.mark.parametrize("x", [[1.0], [1.0, 2.0, 3.0], []])
def test_a_wrong_number_of_inputs_names_both_numbers(make, x):
    model = make(2, [3, 1]) if make is nn.MLP else make(2, 3)
    with pytest.raises(ValueError, match=f"{make.__name__} takes 2 inputs, got {len(x)}"):
        model(x)
    with pytest.raises(ValueError, match=f"Neuron takes 2 inputs, got {len(x)}"):
        nn.Neuron(2)(x)


@pytest.mark.parametrize("kind", ["list", "tuple", "Values", "ints", "numpy"])
def test_inputs_may_be_numbers_values_or_an_array(kind):
    model = nn.MLP(2, [3, 1], seed=0)
    want = model([1.0, 2.0]).data
    x = {
        "list": [1.0, 2.0],
        "tuple": (1.0, 2.0),
        "Values": [Value(1.0), Value(2.0)],
        "ints": [1, 2],
        "numpy": np.array([1.0, 2.0]),
    }[kind]
    assert model(x).data == want


def test_a_single_input_needs_no_list():
    neuron = nn.Neuron(1, seed=0)
    want = neuron([0.5]).data
    assert [neuron(x).data for x in (0.5, np.array(0.5), np.array([0.5]))] == [want] * 3
    assert neuron(Value(0.5)).data == want


def test_inputs_that_are_no_numbers_are_a_type_error():
    with pytest.raises(TypeError, match="str"):
        nn.MLP(2, [1])(["1", "2"])


@pytest.mark.parametrize("activation", ["tanh", "relu", "leaky_relu", "elu", "gelu", "sin", None])
@pytest.mark.parametrize("inputs", ["numbers", "Values"])
def test_a_fused_network_equals_one_of_single_additions_and_multiplications(activation, inputs):
    numbers = [0.3, -1.2, 0.7]
    results = []
    for fused in (True, False):
        model = nn.MLP(3, [5, 4, 1], activation, "tanh", seed=2, fused=fused)
        x = [Value(v) for v in numbers] if inputs == "Values" else numbers
        out = model(x)
        leaves = model.parameters() + (x if inputs == "Values" else [])
        results.append([out.data, *grad(out, leaves)])
    fused, chopped = results
    assert fused == pytest.approx(chopped, rel=1e-12, abs=1e-15)
    assert any(fused[1:])


@pytest.mark.parametrize(
    "make",
    [
        lambda **options: nn.Neuron(2, "tanh", **options),
        lambda **options: nn.Layer(2, 1, "tanh", **options),
        lambda **options: nn.MLP(2, [2, 1], "tanh", **options),
    ],
)
def test_a_neurons_sum_is_one_node_unless_it_is_not_fused(make):
    def rows(**options):
        return {node.op.name for node in topological_order(make(**options)([1.0, 2.0])) if node.op}

    assert rows() == rows(fused=True) == {"affine", "tanh"}
    assert rows(fused=False) == {"add", "mul", "tanh"}


def test_the_network_computes_what_its_formula_says():
    model = nn.MLP(2, [3, 1], seed=5)
    x = [0.4, -0.9]
    hidden = [
        max(0.0, sum(w.data * xi for w, xi in zip(n.w, x, strict=True)) + n.b.data)
        for n in model.layers[0].neurons
    ]
    last = model.layers[1].neurons[0]
    want = sum(w.data * h for w, h in zip(last.w, hidden, strict=True)) + last.b.data
    assert model(x).data == pytest.approx(want, rel=1e-14)


def test_an_activation_is_a_name_an_op_or_a_function():
    softsign = Op("softsign", lambda x: x / (1 + abs(x)), lambda x, out: (1 - abs(out)) ** 2)
    wanted = {"tanh": math.tanh, softsign: softsign, (lambda v: sin(v) * 2): None}
    for activation, function in wanted.items():
        model = nn.MLP(1, [2], activation=None, output_activation=activation, seed=0)
        z = model.layers[0].neurons[0].w[0].data * 0.7
        want = 2 * math.sin(z) if function is None else function(z)
        assert model([0.7])[0].data == pytest.approx(want)
    assert nn.MLP(1, [1], output_activation=tanh, seed=0)([0.7]).op is tanh


@pytest.mark.parametrize("name", ["linear", "tanh", "leaky_relu"])
def test_an_activation_has_the_name_it_is_found_by(name):
    assert nn.activation_name(nn.Neuron(1, name).activation) == name


def test_a_function_has_its_own_name_if_it_has_one():
    def squared(z):
        return z * z

    assert repr(nn.Neuron(1, squared)) == "SquaredNeuron(1)"
    assert nn.activation_name(squared) == "squared"
    assert nn.activation_name(functools.partial(squared)) == "custom"


@pytest.mark.parametrize("activation", ["no_such_op", "add", "where", "affine", 3])
def test_what_is_no_activation_is_refused(activation):
    with pytest.raises(ValueError, match=r"activation|no operation"):
        nn.MLP(1, [1, 1], activation=activation)


def test_equal_seeds_give_equal_networks_and_leave_the_global_generator_alone():
    random.seed(1)
    before = random.getstate()
    one, two = nn.MLP(2, [8, 1], seed=3), nn.MLP(2, [8, 1], seed=3)
    assert one.state_dict() == two.state_dict()
    assert one.state_dict() != nn.MLP(2, [8, 1], seed=4).state_dict()
    assert random.getstate() == before
    assert nn.MLP(2, [8, 1]).state_dict() != nn.MLP(2, [8, 1]).state_dict()
    for make in (lambda **o: nn.Neuron(2, **o), lambda **o: nn.Layer(2, 2, **o)):
        assert make(seed=3).state_dict() == make(seed=np.int64(3)).state_dict()
        assert make(seed=3).state_dict() == make(seed=random.Random(3)).state_dict()
        assert make(seed=3).state_dict() != make(seed=4).state_dict()


HE = {"relu", "leaky_relu", "elu", "gelu", "silu", "softplus"}


@pytest.mark.parametrize("activation", [*sorted(HE), "tanh", "sigmoid", "sin", "linear"])
def test_weights_start_uniform_within_the_bounds_of_he_or_glorot(activation):
    bound = math.sqrt(6 / 50 if activation in HE else 6 / (50 + 100))
    layer = nn.Layer(50, 100, activation, seed=0)
    weights = [w.data / bound for neuron in layer.neurons for w in neuron.w]
    assert 0.99 < max(map(abs, weights)) <= 1.0
    assert sum(w * w for w in weights) / len(weights) == pytest.approx(1 / 3, rel=0.05)
    assert abs(sum(weights) / len(weights)) < 0.03
    assert all(neuron.b.data == 0.0 for neuron in layer.neurons)


def test_a_neuron_alone_is_a_layer_of_width_one():
    alone, layer = nn.Neuron(2, seed=0), nn.Layer(2, 1, seed=0)
    assert [p.data for p in alone.parameters()] == [p.data for p in layer.parameters()]


@given(st.integers(1, 4), st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_a_network_has_the_parameters_of_its_widths(nin, nouts):
    model = nn.MLP(nin, nouts, seed=0)
    assert model.widths == [nin, *nouts]
    count = sum((a + 1) * b for a, b in zip([nin, *nouts], nouts, strict=False))
    assert len(model.parameters()) == count


@pytest.mark.parametrize(
    "widths", [(0, [1]), (1, [0]), (1, [2, -1]), (1, []), (1.5, [1]), (True, [1])]
)
def test_widths_are_positive_integers(widths):
    with pytest.raises(ValueError, match="at least") as caught:
        nn.MLP(*widths)
    assert isinstance(caught.value, MicrogradError)


@pytest.mark.parametrize(
    ("make", "culprit"),
    [
        (lambda: nn.Neuron(0), "nin"),
        (lambda: nn.Layer(0, 1), "nin"),
        (lambda: nn.Layer(1, 0), "nout"),
        (lambda: nn.MLP(1, 3), "nouts"),
    ],
)
def test_the_refusal_of_a_width_names_it(make, culprit):
    with pytest.raises(ValueError, match=rf"^{culprit}\b"):
        make()


def test_repr_tells_the_architecture():
    model = nn.MLP(2, [2, 1], activation="relu")
    assert repr(model) == (
        "MLP of [Layer of [ReluNeuron(2), ReluNeuron(2)], Layer of [LinearNeuron(2)]]"
    )
    assert repr(nn.Neuron(3, "leaky_relu")) == "LeakyReluNeuron(3)"


def test_training_by_hand_as_micrograd_users_do_it():
    model = nn.MLP(3, [4, 4, 1], seed=0)
    rows = [[2.0, 3.0, -1.0], [3.0, -1.0, 0.5], [0.5, 1.0, 1.0], [1.0, 1.0, -1.0]]
    wanted = [1.0, -1.0, -1.0, 1.0]
    first = None
    for _ in range(50):
        loss = sum((model(x) - y) ** 2 for x, y in zip(rows, wanted, strict=True))
        first = first or loss.data
        model.zero_grad()
        loss.backward()
        for p in model.parameters():
            p.data -= 0.05 * p.grad
    assert loss.data < 0.05 * first


def test_modules_in_a_circle_have_their_parameters_once():
    inner, outer = nn.Neuron(1, seed=0), nn.Module()
    outer.inner, outer.itself, inner.parent = inner, outer, outer
    assert [name for name, _ in outer.named_parameters()] == ["inner.w[0]", "inner.b"]


def test_modules_that_share_others_are_searched_once():
    class Block(nn.Module):
        def __init__(self, *inputs):
            self.inputs = inputs
            self.w = Value(0.5)

    blocks = [Block(), Block()]
    for _ in range(200):  # with the paths counted, it would take longer than the universe has been
        blocks.append(Block(blocks[-1], blocks[-2]))
    assert len(blocks[-1].parameters()) == 202


def test_nonlin_is_relu_or_linear_as_in_micrograd():
    x = [1.0, -2.0]
    for nonlin, want in ((True, lambda z: max(z, 0.0)), (False, lambda z: z)):
        for seed in range(4):
            neuron = nn.Neuron(2, nonlin=nonlin, seed=seed)
            z = neuron.b.data + neuron.w[0].data * x[0] + neuron.w[1].data * x[1]
            assert math.isclose(neuron(x).data, want(z), rel_tol=1e-15)
            assert neuron.nonlin is nonlin
        layer = nn.Layer(2, 3, nonlin=nonlin, seed=0)
        assert all(neuron.nonlin is nonlin for neuron in layer.neurons)
        assert nn.Neuron(2, nonlin).nonlin is nonlin  # where micrograd has it
    assert nn.Neuron(2).nonlin
    assert not nn.Neuron(2, None).nonlin
    # As `nonlin=i < last` beside an activation, for all layers alike.
    for activation, want in (("tanh", ops.tanh), (ops.gelu, ops.gelu), ("linear", ops.relu)):
        assert nn.Layer(2, 1, activation, nonlin=True).neurons[0].activation is want
        assert nn.Layer(2, 1, activation, nonlin=False).neurons[0].activation is None
    for nonlin in ("tanh", "linear", 2):
        with pytest.raises(InputError, match="nonlin is True or False, not"):
            nn.Layer(2, 1, nonlin=nonlin)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [lambda: nn.MLP(2, [4, 1]), lambda: nn.Layer(2, 3)])
def test_without_a_seed_weights_follow_from_the_global_generator(make):
    def weights():
        random.seed(1337)
        return [p.data for p in make().parameters()]

    assert weights() == weights()
    assert [p.data for p in make().parameters()] != weights()


# --- warnings -------------------------------------------------------------------------------------


def warned(f: Callable[[], Any]) -> list[str]:
    """The library's warnings during `f`, each of which points into this file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        f()
    assert all(w.category is MicrogradWarning and w.filename == __file__ for w in caught)
    return [str(w.message) for w in caught]


class Line(nn.Module):
    def __init__(self) -> None:
        self.w = Value(2.0, label="w")
        self.b = Value(0.0, label="b")

    def __call__(self, x: Any) -> Value:
        return self.w * x + self.b


@pytest.mark.parametrize("look", [nn.Module.parameters, nn.Module.zero_grad])
@pytest.mark.parametrize(
    "update",
    [
        lambda w: w - 0.1 * w.grad,
        lambda w: w + -0.1 * w.grad,
        lambda w: 0.9 * w - 0.1 * w.grad,
        lambda w: (w - 0.1 * w.grad) - 0.1 * w.grad,
    ],
)
def test_a_parameter_rebound_to_a_node_warns(
    look: Callable[[nn.Module], Any], update: Callable[[Value], Value]
) -> None:
    model = Line()
    model(3.0).backward()
    assert warned(lambda: look(model)) == []
    model.w = update(model.w)
    (message,) = warned(lambda: look(model))
    assert "there is a computed node at w:" in message
    network = nn.MLP(2, [3, 1], seed=0)
    for neuron in network.layers[0].neurons:
        neuron.w = [update(w) for w in neuron.w]
    (message,) = warned(lambda: look(network))
    assert "at layers[0].neurons[0].w[0], layers[0].neurons[0].w[1], " in message
    assert "w[0] and 3 more:" in message


def test_modules_may_keep_computed_values() -> None:
    class Normed(Line):
        """Weight normalisation, and what it saw last."""

        def __call__(self, x: Any) -> Value:
            self.scale = self.w * 2.0
            self.shifted = self.b - 1.0
            self.direction = self.w / sqrt(self.w**2 + 1.0)
            self.state = tanh(x * self.direction)
            self.margin = self.w * x + self.b - 1.0
            self.doubled = x * 2.0
            self.out = x + self.state
            return self.out

    model = Normed()

    def run() -> None:
        for _ in range(2):
            model.zero_grad()
            model(Value(1.0)).backward()
            model.w.data -= 0.1 * model.w.grad
        model.parameters()

    assert warned(run) == []


def test_what_was_computed_from_parameters_is_none_of_them(tmp_path: Path) -> None:
    class Kept(Line):
        """It keeps its activation, and the direction of its weight, as some do."""

        def __call__(self, x: Any) -> Value:
            self.direction = self.w / sqrt(self.w**2 + 1.0)
            self.seen = [self.direction * x]
            self.out = self.seen[0] + self.b
            return self.out

    model = Kept()
    model(3.0)
    assert [name for name, _ in model.named_parameters()] == ["w", "b"]
    model.save(tmp_path / "model.json")
    Kept().load(tmp_path / "model.json")
    network = nn.MLP(1, [2, 1], seed=0)
    network.layers[0].out = network.layers[0]([1.0])  # type: ignore[attr-defined]
    assert len(network.parameters()) == 7


def test_a_state_without_some_of_the_parameters_is_refused(tmp_path: Path) -> None:
    """As of micrograd's own modules, whose parameters are what their method says."""

    class Plain:
        def __init__(self) -> None:
            self.w = [Value(0.5), Value(0.25)]

    class Network(nn.Module):
        def __init__(self) -> None:
            self.unit = Plain()
            self.b = Value(0.0)

        def parameters(self) -> list[Value]:
            return [*self.unit.w, self.b]

    model, path = Network(), tmp_path / "model.json"
    for attempt in (model.state_dict, lambda: model.save(path), lambda: model.load_state_dict({})):
        with pytest.raises(StateError, match=r"2 of the parameters\(\) have no names.*Network"):
            attempt()
    assert not path.exists()


def test_modules_within_say_themselves_what_their_parameters_are(tmp_path: Path) -> None:
    """As in micrograd, whose containers ask them: layers are frozen so, or made of other things."""

    class Frozen(nn.Layer):
        def parameters(self) -> list[Value]:
            return []

    class Unbiased(nn.Neuron):
        def parameters(self) -> list[Value]:
            return self.w

    class Scale:  # no Module, but called as one
        def __init__(self) -> None:
            self.gains = [Value(2.0), Value(3.0)]

        def __call__(self, xs: list[Value]) -> list[Value]:
            return [gain * x for gain, x in zip(self.gains, xs, strict=True)]

        def parameters(self) -> list[Value]:
            return self.gains

    def network(seed: int) -> nn.MLP:
        model = nn.MLP(2, [2, 2, 1], seed=seed)
        model.layers[0] = Frozen(2, 2, seed=seed)
        model.layers[1].neurons = [Unbiased(2, seed=seed), Unbiased(2, seed=seed + 1)]
        model.layers.insert(1, Scale())  # type: ignore[arg-type]
        return model

    model, other = network(1), network(5)
    _, scale, second, last = model.layers
    unbiased = [p for neuron in second.neurons for p in neuron.parameters()]
    assert model.parameters() == [*last.parameters(), *unbiased, *scale.parameters()]
    assert len(model.state_dict()) == 6 + 2 + 6 + 3  # what is frozen is saved, too
    model.layers[1].gains[0].data = 7.0  # type: ignore[attr-defined]
    model.save(tmp_path / "model.json")
    other.load(tmp_path / "model.json")
    assert other([1.0, 2.0]).data == model([1.0, 2.0]).data


def test_an_activation_that_is_kept_is_no_parameter_though_a_choice_took_a_number() -> None:
    class Hinge(nn.Module):
        def __init__(self) -> None:
            self.w = Value(-1.0)

        def __call__(self, x: float) -> Value:
            self.out = where(greater(self.w * x, 0.0), self.w * x, 0.0)
            return self.out

    model = Hinge()
    model(2.0)
    assert model.parameters() == [model.w]
    assert list(model.state_dict()) == ["w"]


def test_what_is_neither_a_module_nor_called_as_one_may_list_parameters() -> None:
    class Embedding:
        def __init__(self) -> None:
            self.rows = [Value(1.0), Value(2.0)]

        def lookup(self, token: int) -> Value:
            return self.rows[token]

        def parameters(self) -> list[Value]:
            return self.rows

    class Model(nn.Module):
        def __init__(self) -> None:
            self.embedding, self.head = {"words": Embedding()}, Value(3.0)

    model = Model()
    assert model.parameters() == [model.head, *model.embedding["words"].rows]
    assert len(model.state_dict()) == 3


def test_what_a_class_adds_to_the_parameters_it_inherits_is_listed_once() -> None:
    class Scaled(nn.MLP):
        def __init__(self) -> None:
            super().__init__(1, [2, 1], seed=0)
            self.gain = Value(1.0)

        def parameters(self) -> list[Value]:
            return [*super().parameters(), self.gain]

    assert len(Scaled().parameters()) == len(set(Scaled().parameters())) == 8


def test_a_parameter_is_called_by_its_attributes_though_each_class_lists_its_own() -> None:
    class Unit(nn.Module):
        def __init__(self) -> None:
            self.w, self.b = [Value(1.0), Value(2.0)], Value(0.0)

        def parameters(self) -> list[Value]:
            return [self.b, *self.w]

    class Block(nn.Module):
        def __init__(self) -> None:
            self.units = [Unit(), Unit()]

        def parameters(self) -> list[Value]:
            return [p for unit in self.units for p in unit.parameters()]

    class Model(nn.Module):
        def __init__(self) -> None:
            self.layers = [Block(), Block()]

    names = [
        f"layers[{i}].units[{j}].{name}"
        for i in range(2)
        for j in range(2)
        for name in ("w[0]", "w[1]", "b")
    ]
    model = Model()
    assert sorted(model.state_dict()) == sorted(names)
    assert len(model.parameters()) == len(names)


def test_a_layer_takes_what_its_first_neuron_takes_if_that_is_of_another_class() -> None:
    class Sum(nn.Module):
        def __call__(self, xs: list[Any]) -> Any:
            return sum(xs)

    layer = nn.Layer(2, 2, activation=None, seed=0)
    layer.neurons[0] = Sum()  # type: ignore[call-overload]
    assert layer([1.0, Value(2.0)])[0].data == 3.0
    with pytest.raises(InputError):
        layer([1.0, 2.0, 3.0])


def test_parameters_in_slots_are_found() -> None:
    class Slotted(Line):
        __slots__ = ("a", "never_set")

        def __init__(self) -> None:
            super().__init__()
            self.a = [Value(1.0)]

    @dataclass(slots=True)
    class Data(nn.Module):
        w: Value
        line: Slotted

    assert [name for name, _ in Slotted().named_parameters()] == ["a[0]", "w", "b"]
    model = Data(Value(1.0), Slotted())
    assert sorted(model.state_dict()) == ["line.a[0]", "line.b", "line.w", "w"]


def test_layers_and_neurons_of_ones_own_compute_in_their_own_way() -> None:
    class Double(nn.Neuron):
        def __call__(self, x: Any) -> Value:
            return 2.0 * super().__call__(x)

    class Residual(nn.Layer):
        def __call__(self, x: Any) -> Any:
            return [a + b for a, b in zip(x, super().__call__(x), strict=True)]

    class Tanh(nn.Module):
        def __call__(self, x: Any) -> Any:
            return tuple(map(tanh, x))

    model = nn.MLP(2, [2, 2, 1], "tanh", seed=0)
    x = [0.3, -0.7]
    first, second, last = model.layers

    def step_by_step(x: Any) -> Any:
        for layer in model.layers:
            x = layer(x)
        return x

    for place in (first, second):
        for neuron in place.neurons:
            neuron.__class__ = Double
    doubled = model(x)
    assert doubled.data == last(second(first(x))).data
    assert first(x)[0].data == 2.0 * nn.Neuron.__call__(first.neurons[0], x).data
    model.layers[1] = Residual(2, 2, seed=1)
    assert model(x).data == step_by_step(x).data != doubled.data
    changes: list[Callable[[Any], Any]] = [Tanh(), nn.Neuron(2, seed=1), lambda x: [x[0]]]
    for layers in ([first, *changes[:2]], [changes[0], last], [changes[2], nn.Layer(1, 2, seed=1)]):
        model.layers = layers
        outputs = [y if isinstance(y, list) else [y] for y in (model(x), step_by_step(x))]
        assert [v.data for v in outputs[0]] == [v.data for v in outputs[1]]
    with pytest.raises(ValueError, match="takes 2 inputs"):
        nn.MLP(2, [2, 1])([1.0])


@pytest.mark.parametrize(("kind", "change"), [(nn.Neuron, lambda y: y * 2.0), (nn.Layer, list)])
def test_a_call_that_is_put_into_a_class_is_made(
    monkeypatch: pytest.MonkeyPatch, kind: Any, change: Callable[[Any], Any]
) -> None:
    model, call, calls = nn.MLP(2, [3, 2], seed=0), kind.__call__, []

    def traced(self: Any, x: Any) -> Any:
        calls.append(self)
        return change(call(self, x))

    monkeypatch.setattr(kind, "__call__", traced)
    out = model([1.0, 2.0])
    assert len(calls) == (5 if kind is nn.Neuron else 2)
    assert [v.data for v in out] == [v.data for v in model.layers[1](model.layers[0]([1.0, 2.0]))]


def test_predictions_are_the_largest_outputs_place_or_a_single_ones_number():
    many = nn.MLP(2, [3, 3], seed=0)
    one = nn.MLP(2, [3, 1], seed=0)
    X = [[i / 10, -i / 7] for i in range(20)]
    outputs = [[v.data for v in many(x)] for x in X]
    assert many.predict(X) == [out.index(max(out)) for out in outputs]
    assert one.predict(X) == [one(x).data for x in X]
    assert one.predict([]) == []
    many.layers[-1].neurons[1].b.data = math.nan
    assert many.predict(X) == [None] * 20


def test_predictions_of_many_rows_are_those_of_few():
    pytest.importorskip("numpy")
    for model in (nn.MLP(2, [5, 3], seed=0), nn.MLP(1, [4, 1], "tanh", seed=0)):
        X = [[i / 100, 1 - i / 70][: model.widths[0]] for i in range(1200)]
        few = [x for i in range(0, 1200, 400) for x in model.predict(X[i : i + 400])]
        assert model.predict(X) == pytest.approx(few, rel=1e-12)


def test_outputs_in_tuples_and_plain_numbers_are_predicted_from() -> None:
    pytest.importorskip("numpy")

    class Referred(nn.MLP):
        def __call__(self, x: Any) -> Any:
            return (super().__call__(x), 0.0)

    model, one = Referred(1, [3, 1], "tanh", seed=0), nn.MLP(1, [3, 1], "tanh", seed=0)
    X = [[i / 600 - 1.0] for i in range(1200)]
    assert model.predict(X) == model.predict(X[:600]) + model.predict(X[600:])
    assert model.predict(X) == [int(out < 0.0) for out in one.predict(X)]


def test_a_table_of_pandas_is_its_rows_and_not_the_names_of_its_columns():
    pandas = pytest.importorskip("pandas")
    rows = [[0.5], [-1.0], [2.0], [0.25]]
    targets = [0.25, 1.0, 4.0, 0.0625]
    table = pandas.DataFrame(rows, index=[7, 3, 1, 0])  # whose column's name is 0
    models = [nn.MLP(1, [3, 1], seed=0) for _ in range(2)]
    assert models[0].predict(table) == models[0].predict(rows)
    training.fit(models[0], rows, targets, loss="mse", epochs=2)
    training.fit(models[1], table, pandas.Series(targets, table.index), loss="mse", epochs=2)
    assert models[0].state_dict() == models[1].state_dict()
    for column in (["a", "b"], pandas.to_datetime(["2020-01-01", "2020-01-02"])):
        with pytest.raises(OperandError):
            models[0].predict(pandas.DataFrame({0: column}))


def test_a_network_with_derivatives_in_it_predicts_them() -> None:
    class Slope(nn.MLP):
        def __call__(self, x: Any) -> Any:
            inputs = [Value(number) for number in x]
            return grad(super().__call__(inputs), inputs[0], create_graph=True)

    model = Slope(1, [3, 1], "tanh", seed=0)
    assert model.outputs([[0.5]]) == [[model([0.5]).data]] != [[0.0]]
