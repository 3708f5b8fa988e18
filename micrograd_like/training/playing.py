"""A page in which a network learns: `play`. Its template is `play.html`.

The network is made of Values, as everywhere; the compiler writes the loss of an example with its
gradient, and what each unit gives, as JavaScript, and the page goes on from there without a server.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from ..engine import Value, numbers_of
from ..errors import InputError, RendererError
from ..losses import binary_cross_entropy_with_logits, cross_entropy, softmax
from ..nn import MLP, Neuron, initial_bound
from ..numerics import plain, whole
from ..ops import logsumexp, sigmoid, softplus
from ..optim import SGD, Adam, Optimizer
from ..sums import affine
from ..views import player, steps
from ..views.page import Page, filled, opened
from ..words import several
from .datasets import split, standardise

_MOST_STEPPED = 500
"""Parameters: of a network with more of them, no example is gone through step by step."""


class Playground(Page):
    """A page in which a network learns. In a notebook it shows itself; `save` writes it."""

    def show(self) -> Path:
        """Open the page in the browser; returns the path of the temporary file that has it.

        Raises RendererError in Pyodide, whose files no browser sees.
        """
        return opened(self.save, "play-", ".html")

    def _repr_html_(self) -> str:
        return self.framed(self.title, "width:100%;height:860px")

    def __repr__(self) -> str:
        return f"<Playground: {self.title}; save('play.html') writes the page>"


def play(
    model: MLP,
    X: Any,
    y: Any,
    *,
    optimizer: Optimizer | None = None,
    batch_size: int = 10,
    test_fraction: float = 0.2,
    seed: int = 0,
    features: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    shift: Sequence[float] | None = None,
    scale: Sequence[float] | None = None,
    title: str = "",
) -> Playground:
    """A page in which the model learns to tell the classes `y` of the rows `X` before one's eyes.

    `X` has n rows of d numbers, `y` n whole numbers from 0. The model has d inputs, and an output
    for each class, whose softmax are the probabilities, or one output for two classes, the logit of
    class 1. The page begins with the model's weights; the model itself stays as it is.

    A part of the examples, `test_fraction` of each class, is held out, chosen with `seed`. The page
    begins with the learning rate and the weight decay of the optimizer of its parameters: Adam (the
    default, with lr=0.03), or SGD without momentum, other options as usual. A plane has the colours
    of what the network says of two features, while the others are at their means. `features` and
    `classes` are names, and the axes have feature·scale + shift; where an example is gone through
    step by step, such a feature is called "scaled age".

    Raises InputError (a ValueError) where examples, classes and outputs do not agree, and where the
    page would do something else: for a network that compares Values, say, or another optimizer;
    MissingExtraError (an ImportError) without NumPy.
    """
    rows = [[float(x) for x in plain(row)] for row in plain(X)]
    labels = [whole("a label + 1", label + 1) - 1 for label in plain(y)]
    if not isinstance(model, MLP) or type(model).__call__ is not MLP.__call__:
        raise InputError(f"play takes an nn.MLP, whose layers it draws, not {model!r:.60}")
    if model.parameters() != [p for layer in model.layers for p in _drawn(layer)]:
        raise InputError("play draws weights and biases, and this network has other parameters")
    widths, wide = model.widths, len(rows[0]) if rows else 0
    known = max(labels, default=0) + 1
    count = max(2, widths[-1])
    if len(labels) != len(rows) or any(len(row) != widths[0] for row in rows):
        raise InputError(
            f"the model takes {widths[0]} inputs: X needs rows of so many, one a label"
        )
    if not all(math.isfinite(x) for row in rows for x in row):
        raise InputError("X has a number that is not finite: leave its row out, or fill the gap")
    if known > count:
        raise InputError(f"the model has outputs for {count} classes, and y has {known}")
    train, test = split(labels, test_fraction, seed)
    optimizer = Adam(model.parameters(), lr=0.03) if optimizer is None else optimizer
    middle, _ = standardise([rows[i] for i in train])
    names = list(features or [f"x{i + 1}" for i in range(wide)])
    kinds = list(classes or map(str, range(count)))
    shift, scale = list(shift or [0.0] * wide), list(scale or [1.0] * wide)
    if len(names) != wide or len(kinds) != count:
        raise InputError(f"there are {wide} features and {count} classes to name")
    if len(shift) != wide or len(scale) != wide:
        raise InputError(f"shift and scale have a number for each of the {wide} features")
    title = title or f"A network of {len(model.parameters())} Values learns"
    data = {
        "widths": widths,
        "parameters": numbers_of(model.parameters()),
        "spread": _spread(model),
        "X": rows, "y": labels, "train": train, "test": test,
        "features": names, "classes": kinds,
        "shift": shift, "scale": scale,
        "middle": middle,
        "range": [_range(column) for column in zip(*rows, strict=True)],
        "batch_size": min(whole("batch_size", batch_size), len(train)),
        "seed": seed,
        **_settings(optimizer, model),
    }  # fmt: skip
    loss, units = _programs(model, rows[0], labels[0])
    scaled = [(a, b) != (0.0, 1.0) for a, b in zip(shift, scale, strict=True)]
    inputs = [f"scaled {name}" if s else name for name, s in zip(names, scaled, strict=True)]
    steps, data["leaves"] = _steps(model, rows[0], inputs)
    page = filled(
        __package__, "play.html", title, data, steps=html.escape(steps), loss=loss, units=units
    )
    return Playground(page, title)


def _programs(model: MLP, row: list[float], label: int) -> tuple[str, str]:
    """The loss of an example with its gradient, and the outputs of all units, as JavaScript.

    Raises InputError for a network with branches: these are programs for one way through them.
    """
    from ..compiler import compile_forward, compile_step
    from ..compiler.javascript_source import inlined

    def units(x: Any) -> list[Value]:
        """The outputs of all neurons, layer by layer, then the probabilities of the classes."""
        outputs: list[Value] = []
        for layer in model.layers:
            x = layer(x)
            x = x if isinstance(x, list) else [x]
            outputs += x
        return outputs + (softmax(x) if len(x) > 1 else [sigmoid(x[0])])

    loss = cross_entropy if model.widths[-1] > 1 else binary_cross_entropy_with_logits
    step = compile_step(model, loss, (row, label), backend="javascript")
    if step.sole([row], [label]) is None:
        raise InputError(
            "the page follows no branches, and this network compares Values: write an operation "
            "such as leaky_relu, or where(greater(x, 0.0), x, y)"
        )
    forward = compile_forward(units, model.parameters(), row, backend="javascript")
    return inlined(step.source), inlined(forward.source)


def _steps(model: MLP, row: list[float], features: Sequence[str]) -> tuple[str, list[int]]:
    """The page that plays the loss of an example step by step, if it is small and can be drawn.

    Its leaves are the parameters, the example's inputs and, for each output, a y of 1 or 0; with it
    comes which of all these each leaf of the page is. There is none of a network with other leaves,
    such as detach() makes, or with `where`: of another example these numbers and sides may differ.
    """
    if len(model.parameters()) > _MOST_STEPPED:
        return "", []
    model = deepcopy(model)
    model.zero_grad()  # a gradient that is there from a training would be added to the example's
    x = [Value(number, label=name) for number, name in zip(row, features, strict=True)]
    scores = model(x)
    scores = scores if isinstance(scores, list) else [scores]
    y = [Value(float(not k), label=f"y[{k}]") for k in range(len(scores))]
    # -Σ y log(softmax(scores)), and of one score y softplus(-z) + (1 - y) softplus(z).
    normalizer = logsumexp(*scores) if len(scores) > 1 else softplus(scores[0])
    loss = normalizer - affine(y, scores)
    loss.label = "loss"
    place = {leaf: i for i, leaf in enumerate([*model.parameters(), *x, *y])}
    nodes = [event.node for event in steps(loss).forward]
    leaves = [place.get(node, -1) for node in nodes if node.op is None]
    if -1 in leaves or any(node.op and node.op.kind == "choice" for node in nodes):
        return "", []
    try:
        return player(loss).html, leaves
    except RendererError:
        return "", []


def _spread(model: MLP) -> list[float]:
    """How far from 0 each parameter is drawn at first, as `nn` draws them: biases are 0."""
    spread: list[float] = []
    for layer in model.layers:
        for neuron in layer.neurons:
            bound = initial_bound(neuron.activation, len(neuron.w), len(layer.neurons))
            spread += [bound] * len(neuron.w) + [0.0]
    return spread


def _drawn(layer: Any) -> list[Value | None]:
    """The weights and biases of a layer's neurons; None for what is none."""
    neurons = [n if isinstance(n, Neuron) else None for n in getattr(layer, "neurons", [None])]
    return [p for n in neurons for p in ([None] if n is None else [*n.w, n.b])]


def _range(column: Sequence[float]) -> tuple[float, float]:
    low, high = min(column), max(column)
    margin = 0.1 * (high - low) or 1.0
    return low - margin, high + margin


def _settings(optimizer: Optimizer, model: MLP) -> dict[str, Any]:
    """What the page begins with. Raises InputError for a rule that it does not have."""
    settings, kind = optimizer.settings(), type(optimizer)
    begun = {"lr": settings.pop("lr"), "weight_decay": settings.pop("weight_decay")}
    if kind not in (SGD, Adam) or callable(optimizer.lr) or settings.get("momentum"):
        raise InputError("the page has SGD without momentum, and Adam, each with a number for lr")
    others = [name for name, x in kind(model.parameters()).settings().items()
              if settings.get(name, x) != x]  # fmt: skip
    if others:
        raise InputError(f"the page has {kind.__name__} with the usual {several(others)}")
    if {*optimizer.params} != {*model.parameters()}:
        raise InputError("the page trains all parameters of the model, the optimizer has others")
    return {"optimizer": kind.__name__, **begun}
