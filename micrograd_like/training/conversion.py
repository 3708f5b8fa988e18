"""A network of Values as one of PyTorch's, in double precision."""

from __future__ import annotations

import ast
from importlib import import_module
from typing import Any

from .. import ops
from ..errors import InputError, MissingExtraError
from ..nn import MLP, Layer, activation_name
from ..ops import Op


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
        if activation.torch:
            return [_built_in(torch, activation.torch)]
        # Of the library's own operations, those of one argument have the names they have there.
        own = activation.name in ops.BUILTIN and activation.arity == 1
        if own and hasattr(torch, activation.name):
            return [_function(activation.name)]
    raise InputError(
        f"{name} has the activation {activation_name(activation)}, which PyTorch has no equal of: "
        "use one of the library's own operations, such as tanh"
    )


def _built_in(torch: Any, text: str) -> Any:
    """The module of torch.nn that the text makes, as in `ELU(1.0)`: a name, and numbers."""
    try:
        call: Any = ast.parse(text, mode="eval").body
        arguments = [ast.literal_eval(argument) for argument in call.args]
        options = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        return getattr(torch.nn, call.func.id)(*arguments, **options)
    except (SyntaxError, AttributeError, TypeError, ValueError):
        raise InputError(f"{text!r:.60} is no module of torch.nn with its arguments") from None


def _function(name: str) -> Any:
    """PyTorch's function of that name as a module."""
    torch = _torch()

    class Function(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, x: Any) -> Any:
            return getattr(torch, name)(x)

        def extra_repr(self) -> str:
            return name

        def __reduce__(self) -> Any:  # a local class is not found by its name
            return _function, (name,)

    return Function()
