"""conversion.py: a network as PyTorch's gives the same numbers, or says what has no equal there."""

import pickle
import random
import sys

import pytest

from micrograd_like import MicrogradError, Op, Value, exp, nn, ops

EQUALS = [name for name in sorted(ops.BUILTIN) if ops.find(name).torch]


def gradients(model, outputs):
    total = outputs[0]
    for i, out in enumerate(outputs[1:], 2):
        total = total + i * out
    model.zero_grad()
    total.backward()
    return [p.grad for p in model.parameters()]


def assert_equal(model, torch, X):
    network = model.to_torch()
    assert isinstance(network, torch.nn.Sequential)
    assert {p.dtype for p in network.parameters()} == {torch.float64}
    for x in X:
        out = model(x)
        outputs = out if isinstance(out, list) else [out]
        tensor = network(torch.tensor([x], dtype=torch.float64))[0]
        assert tensor.tolist() == pytest.approx([o.data for o in outputs], rel=1e-12, abs=1e-12)
        network.zero_grad()
        (tensor * torch.arange(1.0, len(outputs) + 1.0, dtype=torch.float64)).sum().backward()
        # A row of weights and its bias after the other, as the neurons have them.
        linear = [m for m in network if isinstance(m, torch.nn.Linear)]
        theirs = [
            g
            for m in linear
            for row, b in zip(m.weight.grad.tolist(), m.bias.grad.tolist(), strict=True)
            for g in (*row, b)
        ]
        assert theirs == pytest.approx(gradients(model, outputs), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("name", EQUALS)
def test_outputs_and_gradients_are_those_of_the_network_of_values(name):
    torch = pytest.importorskip("torch")
    model = nn.MLP(3, [4, 2], activation=name, output_activation=name, seed=1)
    for neuron in (neuron for layer in model.layers for neuron in layer.neurons):
        neuron.b.data = 0.1
    rng = random.Random(2)
    assert_equal(model, torch, [[rng.uniform(-1, 1) for _ in range(3)] for _ in range(5)])


@pytest.mark.parametrize("name", ["softplus", "sigmoid", "gelu", "silu", "elu", "relu", "tanh"])
@pytest.mark.parametrize("x", [0.0, 19.9, 20.1, 39.9, 40.1, 700.0, -40.0, -800.0])
def test_the_tails_and_kinks_are_the_rows_too(name, x):
    torch = pytest.importorskip("torch")
    model = nn.MLP(1, [1], output_activation=name, seed=0)
    model.parameters()[0].data = 1.0
    assert_equal(model, torch, [[x]])


def test_layers_have_activations_of_their_own_and_the_last_is_linear():
    torch = pytest.importorskip("torch")
    model = nn.MLP(2, [5, 4, 1], activation="relu", seed=0)
    model.layers[1] = nn.Layer(5, 4, "elu", seed=1)
    assert_equal(model, torch, [[0.3, -0.2], [2.0, 1.0]])
    kinds = [type(m).__name__ for m in model.to_torch()]
    assert kinds == ["Linear", "ReLU", "Linear", "ELU", "Linear"]


def test_the_parameters_are_copies_and_the_network_can_be_pickled():
    torch = pytest.importorskip("torch")
    model = nn.MLP(2, [2, 1], activation="tanh", seed=0)
    before = model.state_dict()
    network = model.to_torch()
    with torch.no_grad():
        for p in network.parameters():
            p.zero_()
    assert model.state_dict() == before
    again = pickle.loads(pickle.dumps(model.to_torch()))
    x = torch.tensor([[0.1, 0.2]], dtype=torch.float64)
    assert again(x).item() == pytest.approx(model([0.1, 0.2]).data, rel=1e-14)


@pytest.mark.parametrize(
    ("activation", "says"),
    [
        (lambda v: v * v, "<lambda>"),
        (Value.tanh, "tanh"),
        ("sin", "sin"),
        ("gelu_slope", "gelu_slope"),
    ],
)
def test_an_activation_without_an_equal_is_named(activation, says):
    pytest.importorskip("torch")
    model = nn.MLP(2, [3, 1], activation=activation, seed=0)
    with pytest.raises(ValueError, match=rf"layers\[0\].*{says}.*no module") as caught:
        model.to_torch()
    assert isinstance(caught.value, MicrogradError)


def test_a_row_of_ones_own_and_a_layer_of_several_activations_are_named(made_up):
    pytest.importorskip("torch")
    row = made_up("bump", lambda x: exp(-x * x), lambda x, out: -2 * x * out)
    assert isinstance(row, Op)
    with pytest.raises(ValueError, match="bump"):
        nn.MLP(2, [1], output_activation=row).to_torch()
    model = nn.MLP(2, [2])
    model.layers[0].neurons[1].activation = ops.tanh
    with pytest.raises(ValueError, match=r"layers\[0\] has several activations"):
        model.to_torch()


def test_what_computes_in_its_own_way_is_refused(monkeypatch):
    pytest.importorskip("torch")

    class Own(nn.MLP):
        def __call__(self, x):
            return -super().__call__(x)

    class Halved(nn.Neuron):
        def __call__(self, x):
            return super().__call__(x) / 2

    class Renamed(nn.MLP):
        pass

    with pytest.raises(ValueError, match="Own computes in its own way"):
        Own(2, [1]).to_torch()
    model = Renamed(2, [2, 1], seed=0)
    model.to_torch()
    model.layers[1].neurons = [Halved(2)]
    with pytest.raises(ValueError, match=r"layers\[1\] computes in its own way"):
        model.to_torch()
    model.layers[1] = lambda x: x
    with pytest.raises(ValueError, match=r"layers\[1\] computes in its own way"):
        model.to_torch()
    model = nn.MLP(2, [2, 1], seed=0)
    for kind, what in ((nn.Neuron, r"layers\[0\]"), (nn.Layer, r"layers\[0\]"), (nn.MLP, "MLP")):
        with monkeypatch.context() as patched:
            patched.setattr(kind, "__call__", lambda self, x: 2.0)
            with pytest.raises(ValueError, match=f"{what} computes in its own way"):
                model.to_torch()
    model.to_torch()


def test_an_op_of_ones_own_may_make_its_module(made_up):
    torch = pytest.importorskip("torch")
    made_up("mine", lambda x: x, lambda x, out: 1.0, torch=lambda nn: nn.Softplus(2.0, 30))
    network = nn.MLP(1, [1], output_activation="mine", seed=0).to_torch()
    assert repr(network[1]) == repr(torch.nn.Softplus(2.0, 30))


def test_without_torch_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"pip install .*\[torch\]") as caught:
        nn.MLP(1, [1]).to_torch()
    assert isinstance(caught.value, MicrogradError)
