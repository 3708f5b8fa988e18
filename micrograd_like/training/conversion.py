"""A network of Values as one of PyTorch's, in double precision."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from .. import ops
from ..errors import InputError, MissingExtraError
from ..nn import MLP, Layer, activation_name
from ..ops import Op

# PyTorch's module for a row, with the row's conventions: gelu with erf, and a softplus that turns
# into x only where both are the same float (40, not 20).
_MODULES: dict[Op, Callable[[Any], Any]] = {
    ops.tanh: lambda nn: nn.Tanh(),
    ops.sigmoid: lambda nn: nn.Sigmoid(),
    ops.relu: lambda nn: nn.ReLU(),
    ops.leaky_relu: lambda nn: nn.LeakyReLU(*ops.leaky_relu.defaults),
    ops.elu: lambda nn: nn.ELU(*ops.elu.defaults),
    ops.gelu: lambda nn: nn.GELU(),
    ops.silu: lambda nn: nn.SiLU(),
    ops.softplus: lambda nn: nn.Softplus(threshold=40.0),
}

# The rows that are functions of the same name there.
_FUNCTIONS = frozenset(
    {
        *(ops.neg, ops.absolute, ops.sign, ops.exp, ops.expm1, ops.log, ops.log1p, ops.sqrt),
        *(ops.erf, ops.sin, ops.cos, ops.tan, ops.asin, ops.acos, ops.atan),
        *(ops.sinh, ops.cosh, ops.asinh, ops.acosh, ops.atanh),
    }
)


def to_torch(model: MLP) -> Any:
    """As `MLP.to_torch` says."""
    torch = _torch()
    modules = []
    for i, layer in enumerate(model.layers):
        modules.append(_linear(torch, layer))
        modules += _activation(torch, layer, f"layers[{i}]")
    return torch.nn.Sequential(*modules)


def _torch() -> Any:
    """Raises MissingExtraError."""
    try:
        return import_module("torch")
    except ImportError:
        raise MissingExtraError("torch", "torch") from None


def _linear(torch: Any, layer: Layer) -> Any:
    rows = [[w.data for w in neuron.w] for neuron in layer.neurons]
    linear = torch.nn.Linear(len(rows[0]), len(rows), dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(rows, dtype=torch.float64))
        linear.bias.copy_(torch.tensor([n.b.data for n in layer.neurons], dtype=torch.float64))
    return linear


def _activation(torch: Any, layer: Layer, name: str) -> list[Any]:
    """The activation as a list of one module, of none where it is linear. Raises InputError."""
    activation = layer.neurons[0].activation
    if any(neuron.activation is not activation for neuron in layer.neurons):
        raise InputError(f"{name} has neurons of several activations: PyTorch has one a layer")
    if activation is None:
        return []
    if isinstance(activation, Op):
        if activation in _MODULES:
            return [_MODULES[activation](torch.nn)]
        if activation in _FUNCTIONS:
            return [_module_of(activation.name)]
    raise InputError(
        f"{name} has the activation {activation_name(activation)}, which PyTorch has no equal of: "
        "use an op of the table, such as tanh"
    )


def _module_of(name: str) -> Any:
    """The function of that name as a module."""
    torch = _torch()

    class Function(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, x: Any) -> Any:
            return getattr(torch, name)(x)

        def extra_repr(self) -> str:
            return name

        def __reduce__(self) -> Any:  # a local class is not found by its name
            return _module_of, (name,)

    return Function()
