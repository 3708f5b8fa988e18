"""A network of Values as one of PyTorch's, in double precision."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..errors import InputError, MissingExtraError
from ..nn import CALLS, MLP, activation_name


def to_torch(model: MLP) -> Any:
    """As `MLP.to_torch` says."""
    try:
        torch = import_module("torch")
    except ImportError:
        raise MissingExtraError("torch", "torch") from None
    modules = []
    if type(model).__call__ not in CALLS:
        raise InputError(f"{type(model).__name__} computes in its own way, not layer by layer")
    for i, layer in enumerate(model.layers):
        kinds = type(layer), *map(type, getattr(layer, "neurons", ()))
        if not {kind.__call__ for kind in kinds} <= {*CALLS}:
            raise InputError(f"layers[{i}] computes in its own way, which PyTorch has no module of")
        rows = [[w.data for w in neuron.w] for neuron in layer.neurons]
        linear = torch.nn.Linear(len(rows[0]), len(rows), dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(rows, dtype=torch.float64))
            linear.bias.copy_(torch.tensor([n.b.data for n in layer.neurons], dtype=torch.float64))
        modules.append(linear)
        activation = layer.neurons[0].activation
        if any(neuron.activation is not activation for neuron in layer.neurons):
            raise InputError(f"layers[{i}] has several activations: PyTorch has one a layer")
        if activation is not None:
            made = getattr(activation, "torch", None)
            if made is None:
                raise InputError(
                    f"layers[{i}] has the activation {activation_name(activation)}, which PyTorch "
                    "has no module of: use a name such as 'tanh', or an Op that names its module"
                )
            modules.append(made(torch.nn))
    return torch.nn.Sequential(*modules)
