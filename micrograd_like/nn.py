"""Networks made of scalar Values: Neuron, Layer, MLP, each a Module, whose file is `module.py`."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import pairwise
from numbers import Integral
from random import Random
from typing import Any

from . import ops
from .engine import Value
from .errors import InputError, MicrogradError, shown
from .module import Module as Module
from .module import label_parameters
from .numerics import flat, number, plain, whole
from .ops import Op
from .sums import affine

_MANY = 1000  # rows for which it is worth while to compile a network

Activation = str | Op | Callable[[Any], Any] | bool | None

__all__ = ["MLP", "Layer", "Module", "Neuron", "Value", "random"]  # as `import *` of micrograd's
__dir__ = shown("Layer", "MLP", "Module", "Neuron")


class Neuron(Module):
    """activation(w·x + b), of `nin` inputs. Called with a sequence, it returns a Value.

    `activation` is the name of an operation, an `Op`, any function of a Value, or None for a linear
    neuron; `nonlin=True` is relu, if no other is named, and `nonlin=False` linear, as in micrograd,
    and so are True and False as the second argument. `fused=False` builds the sum from single
    additions and multiplications.
    Weights are drawn from a generator, `seed` or one seeded with it (without a seed, from Python's
    global `random`), uniformly within
    ±sqrt(6 / nin) for relu and other rectifiers (He et al. 2015), ±sqrt(6 / (nin + nout)) for other
    activations (Glorot and Bengio 2010), where `nout` is the width of the layer; the bias is 0.
    """

    def __init__(
        self,
        nin: int,
        activation: Activation = "relu",
        *,
        nonlin: bool | None = None,
        nout: int = 1,
        seed: int | Random | None = None,
        fused: bool = True,
    ) -> None:
        nin, rng = whole("nin", nin), _generator(seed)
        self.activation = _activation(_nonlinearity(activation, nonlin))
        self.fused = fused
        bound = initial_bound(self.activation, nin, nout)
        self.w = [Value(rng.uniform(-bound, bound)) for _ in range(nin)]
        self.b = Value(0.0)
        label_parameters(self)

    @property
    def nonlin(self) -> bool:
        """Whether the neuron is not linear."""
        return self.activation is not None

    def __call__(self, x: Sequence[Value | float]) -> Value:
        return self._respond(_inputs(self, x, self))

    def _respond(self, x: Sequence[Value | float]) -> Value:
        if self.fused:
            z = affine(self.w, x, self.b)
        else:
            z = self.b
            for w, xi in zip(self.w, x, strict=True):
                z = z + w * xi
        activation = self.activation
        if activation.__class__ is Op and activation.arity == 1:
            return z.__apply_unary__(activation)
        return z if activation is None else activation(z)

    def __repr__(self) -> str:
        return f"{activation_name(self.activation).title().replace('_', '')}Neuron({len(self.w)})"


class Layer(Module):
    """`nout` neurons with the same inputs. Called with a sequence, it returns a list of Values.

    A layer of one neuron returns its Value, as micrograd's does. Options as for `Neuron`.
    """

    def __init__(
        self,
        nin: int,
        nout: int,
        activation: Activation = "relu",
        *,
        nonlin: bool | None = None,
        seed: int | Random | None = None,
        fused: bool = True,
    ) -> None:
        nout, rng = whole("nout", nout), _generator(seed)
        activation = _nonlinearity(activation, nonlin)
        self.neurons = [
            Neuron(nin, activation, nout=nout, seed=rng, fused=fused) for _ in range(nout)
        ]
        label_parameters(self)

    def __call__(self, x: Sequence[Value | float]) -> Any:
        out = self._respond(_inputs(self, x, self.neurons[0]))
        return out[0] if len(out) == 1 else out

    def _respond(self, x: Sequence[Value | float]) -> list[Value]:
        # What is the user's, a class or a __call__ that was put into ours, may compute in its own
        # way; the inputs of ours are checked by now.
        ours = Neuron if Neuron.__call__ is CALLS[0] else None
        return [n._respond(x) if n.__class__ is ours else n(x) for n in self.neurons]

    def __repr__(self) -> str:
        return f"Layer of [{', '.join(map(repr, self.neurons))}]"


class MLP(Module):
    """A multi-layer perceptron: `nin` inputs, then a layer of each width in `nouts`.

    `activation` belongs to the hidden layers, `output_activation` (default: linear) to the last.
    Called with a sequence of `nin` numbers or Values, it calls one layer after the other, those put
    in the place of its own, too, and returns a Value where the last one has width one, a list of
    Values where it is wider; a wrong number of inputs raises InputError (a ValueError).
    Equal seeds give equal networks. Other options as for `Neuron`.

    >>> model = MLP(2, [16, 16, 1], activation="relu", seed=1)
    >>> len(model.parameters()), model.layers[0].neurons[3].w[1].label
    (337, 'layers[0].neurons[3].w[1]')
    """

    def __init__(
        self,
        nin: int,
        nouts: Iterable[int],
        activation: Activation = "relu",
        output_activation: Activation = None,
        seed: int | None = None,
        fused: bool = True,
    ) -> None:
        try:
            widths = [nin, *nouts]
        except TypeError:
            raise InputError(f"nouts is a list of widths, one a layer, got {nouts!r:.60}") from None
        if len(widths) < 2:
            raise InputError("an MLP needs at least one layer: nouts is empty")
        rng = _generator(seed)
        activations = [activation] * (len(widths) - 2) + [output_activation]
        self.layers = [
            Layer(n, m, f, seed=rng, fused=fused)
            for (n, m), f in zip(pairwise(widths), activations, strict=True)
        ]
        label_parameters(self)

    @property
    def widths(self) -> list[int]:
        """The number of inputs, then of each layer's neurons."""
        return [len(self.layers[0].neurons[0].w), *(len(layer.neurons) for layer in self.layers)]

    def __call__(self, x: Sequence[Value | float]) -> Any:
        first, ours = self.layers[0], Layer if Layer.__call__ is CALLS[1] else None
        out = _inputs(self, x, first.neurons[0]) if first.__class__ is ours else _listed(x)
        for layer in self.layers:
            out = layer._respond(out) if layer.__class__ is ours else _listed(layer(out))
        return out[0] if len(out) == 1 else out

    def predict(self, X: Any) -> list[Any]:
        """For each row of X the place of the largest output, or of a single output its number.

        None where an output is NaN. Many rows are computed by a compiled program where NumPy is.
        """
        return [_answer(outputs) for outputs in self.outputs(X)]

    def outputs(self, X: Any) -> list[list[float]]:
        """For each row of X the outputs as floats, computed as for `predict`."""
        rows = plain(X)
        rows = rows if isinstance(rows, list) else [*rows]
        if len(rows) > _MANY:
            from .compiler.forward import compile_forward

            with suppress(MicrogradError):  # what is wrong with the rows is said below
                found = compile_forward(self, self.parameters(), rows[0]).batch(rows)
                return [flat(out) for out in found]
        found = []
        for row in rows:  # not within no_grad: a model may have derivatives in it
            found.append([x.data if isinstance(x, Value) else number(x) for x in flat(self(row))])
        return found

    def to_torch(self) -> Any:
        """The same network as a `torch.nn.Sequential` in float64, with copies of the parameters.

        It maps a tensor of shape (m, nin) to one of shape (m, nout). Outside an activation's
        domain it gives NaN, as PyTorch does. Raises MissingExtraError (an ImportError) without
        PyTorch, and InputError for an activation that PyTorch has no module of.
        """
        from .training.conversion import to_torch

        return to_torch(self)

    def __repr__(self) -> str:
        return f"MLP of [{', '.join(map(repr, self.layers))}]"


# How they compute, if nobody has put in another way.
CALLS = Neuron.__call__, Layer.__call__, MLP.__call__


def _answer(outputs: list[float]) -> float | int | None:
    """The place of the largest output, or the number of a single one; None where one is NaN."""
    if any(map(math.isnan, outputs)):
        return None
    return outputs.index(max(outputs)) if len(outputs) > 1 else outputs[0]


def _nonlinearity(activation: Activation, nonlin: bool | None) -> Activation:
    """The activation; micrograd's `nonlin` says whether there is one, in the place of it, too.

    Raises InputError for a `nonlin` that is neither.
    """
    if isinstance(activation, bool):
        activation = "relu" if activation else None
    if nonlin is None:
        return activation
    if nonlin not in (False, True):
        raise InputError(f"nonlin is True or False, not {nonlin!r:.60}: give it as activation")
    if not nonlin:
        return None
    return "relu" if activation in (None, "linear") else activation


def _activation(activation: Activation) -> Callable[[Any], Any] | None:
    """The function that an activation's name stands for. Raises InputError."""
    if activation is None or activation == "linear":
        return None
    if isinstance(activation, str):
        activation = ops.find(activation)
    if not callable(activation):
        raise InputError(f"an activation is a name, an op or a function, not {activation!r:.60}")
    if isinstance(activation, Op) and (activation.arity or 0) - len(activation.defaults) != 1:
        raise InputError(f"{activation.name} is no activation: it takes more than one argument")
    return activation


def initial_bound(activation: Callable[[Any], Any] | None, nin: int, nout: int) -> float:
    """How far from 0 weights are drawn: He et al. 2015 for rectifiers, else Glorot and Bengio."""
    rectifies = isinstance(activation, Op) and activation.kind == "rectifier"
    return math.sqrt(6.0 / (nin if rectifies else nin + nout))


def activation_name(activation: Callable[[Any], Any] | None) -> str:
    """The name by which `MLP` finds the activation again, if it is an `Op` or linear."""
    if activation is None:
        return "linear"
    return str(getattr(activation, "name", getattr(activation, "__name__", "custom")))


def architecture(model: Any) -> str:
    """A text that is the same for models of the same kind, and of the library's, of one size."""
    kind = type(model)
    ours = kind.__module__.partition(".")[0] == __name__.partition(".")[0]
    return repr(model) if ours and kind is not Module else kind.__name__


def _generator(seed: int | Random | None) -> Random:
    if isinstance(seed, Random):
        return seed
    if seed is None:  # a program that calls random.seed(1337) has the same weights in every run
        return Random(random.getrandbits(64))
    return Random(int(seed) if isinstance(seed, Integral) else seed)  # NumPy's integers too


def _inputs(module: Module, x: Any, neuron: Any) -> list[Any]:
    """`x` as a list of Values and floats. Raises InputError if the neuron takes not so many."""
    xs = _listed(x)
    if not isinstance(neuron, Neuron):  # one of the user's, which takes what it likes
        return xs
    if len(xs) != (wanted := len(neuron.w)):
        raise InputError(f"this {type(module).__name__} takes {wanted} inputs, got {len(xs)}")
    return [xi if isinstance(xi, (Value, float)) else number(xi) for xi in xs]


def _listed(x: Any) -> list[Any]:
    """What has an axis as a list, and a single input as a list of it."""
    x = plain(x)
    return list(x) if isinstance(x, Iterable) else [x]
