"""Pictures: losses, confusions, decision boundary, fitted curve, U-curve. Needs matplotlib.

They are matplotlib's figures, outside of pyplot's state: nothing pops up, `savefig` writes them.
A notebook shows them once `matplotlib.pyplot` is imported there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError
from .history import History

if TYPE_CHECKING:
    from ..checks.reports import Curve

# Okabe and Ito's colours, which people of all kinds of colour vision can tell apart.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442")
BLUE, VERMILION = PALETTE[:2]


def _figure(width: float, height: float, **labels: str) -> tuple[Any, Any]:
    """A figure outside of pyplot's state, with its axes. Raises MissingExtraError."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "plots") from None
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set(**labels)
    return figure, axes


def _shown(name: str) -> str:
    """A name from data as a label: short, and its dollars not read as mathematics."""
    return (name if len(name) <= 16 else f"{name[:15]}…").replace("$", r"\$")


def loss_curve(history: History) -> Any:
    """A matplotlib Figure of the losses over the epochs."""
    figure, axes = _figure(6, 4, xlabel="epoch", ylabel="mean loss", title="Loss")
    epochs = range(1, len(history) + 1)
    axes.plot(epochs, history.loss, color=BLUE, label="training")
    if history.validation_loss:
        axes.plot(epochs, history.validation_loss, "--", color=VERMILION, label="validation")
        axes.legend(frameon=False)
    losses = history.loss + history.validation_loss
    if losses and 0.0 < 10.0 * min(losses) < max(losses):  # else a logarithmic axis is hard to read
        axes.set_yscale("log")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    return figure


def confusion_matrix(labels: list[int], predicted: Sequence[int | None], classes: list[str]) -> Any:
    """A Figure that counts, for each class (row), what its examples were taken for (column).

    Examples that were taken for none are not counted.
    """
    counts = [[0] * len(classes) for _ in classes]
    for label, guess in zip(labels, predicted, strict=True):
        if guess is not None:
            counts[label][guess] += 1
    size = 2.5 + 0.45 * min(len(classes), 30)
    figure, axes = _figure(size, size, xlabel="predicted", ylabel="true", title="Confusion matrix")
    axes.imshow(counts, cmap="Blues", vmin=0)
    if len(classes) <= 30:  # beyond, they would not be legible
        most = max(map(max, counts))
        for i, row in enumerate(counts):
            for j, count in enumerate(row):
                color = "white" if 2 * count > most else "black"
                axes.text(j, i, count or "", ha="center", va="center", color=color, fontsize=9)
        names = [_shown(name) for name in classes]
        axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 3 else 0)
        axes.set_yticks(range(len(names)), names)
    return figure


def decision_boundary(
    predict: Callable[[list[list[float]]], Sequence[int | None]],
    X: list[list[float]],
    y: list[int],
    features: list[str],
    classes: list[str],
) -> Any:
    """A Figure of the plane, in the colours of the classes that `predict` gives, and of X.

    Where it gives None there is no colour.
    """
    x1, x2 = map(_shown, features)
    figure, axes = _figure(6, 5, xlabel=x1, ylabel=x2, title="Decision boundary")
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    low, high = np.nanmin(X, 0), np.nanmax(X, 0)
    margin = 0.1 * np.where(high > low, high - low, 1.0)
    box = np.transpose([low - margin, high + margin])
    grid = np.meshgrid(*np.linspace(box[:, 0], box[:, 1], 80).T)
    labels = np.array(predict(np.stack(grid, -1).reshape(-1, 2).tolist()), float)
    colors: list[Any] = list(PALETTE[: len(classes)])
    if len(classes) > len(PALETTE):
        colors = [colormaps["turbo"](i / (len(classes) - 1)) for i in range(len(classes))]
    limits = {"cmap": ListedColormap(colors), "vmin": -0.5, "vmax": len(classes) - 0.5}
    picture = labels.reshape(80, 80)
    axes.imshow(picture, origin="lower", extent=box.ravel(), aspect="auto", alpha=0.3, **limits)
    dots = axes.scatter(*np.transpose(X), s=18, c=y, edgecolors="white", linewidths=0.5, **limits)
    handles, _ = dots.legend_elements(num=None)
    names = [_shown(classes[k]) for k in sorted(set(y))]
    axes.legend(handles, names, title="class", framealpha=0.9)
    return figure


def predicted_numbers(numbers: Sequence[float], predicted: Sequence[Any], label: str) -> Any:
    """A Figure of the predicted number over the true one of each example, beside where they agree.

    Examples for which None was predicted are left out.
    """
    name = _shown(label)
    figure, axes = _figure(5, 5, xlabel=name, ylabel=f"predicted {name}", title="Predictions")
    known = [math.nan if x is None else x for x in predicted]
    axes.axline((numbers[0], numbers[0]), slope=1.0, color="#999999", lw=1.0)
    axes.scatter(numbers, known, s=18, color=BLUE, edgecolors="white", linewidths=0.5)
    axes.grid(alpha=0.3)
    return figure


def fitted_curve(
    predict: Callable[[Any], Sequence[Any]], X: Any, y: Sequence[float], feature: str, label: str
) -> Any:
    """A Figure of the numbers y over a single feature, and of what `predict` gives for it."""
    figure, axes = _figure(6, 4, xlabel=_shown(feature), ylabel=_shown(label), title="Fit")
    import numpy as np

    line = np.linspace(np.nanmin(X), np.nanmax(X), 300)
    axes.scatter(np.ravel(X), y, s=12, color=BLUE, alpha=0.5)
    axes.plot(line, np.array(predict(line[:, None]), float), color=VERMILION, lw=2.0)
    axes.grid(alpha=0.3)
    return figure


def u_curve(curve: Curve) -> Any:
    """A Figure of the error of central differences over the step, with what the model allows."""
    title = rf"Central differences of f, {_shown(curve.name)}"
    figure, axes = _figure(6, 4, xlabel="step ε", ylabel="error", title=title)
    steps, allowed = zip(*curve.model, strict=True)
    axes.loglog(steps, allowed, "--", color=VERMILION, label="truncation + rounding, as modelled")
    off = [point for point in curve.points if point[1] > 0.0]  # on logarithmic axes
    label = "|central difference - gradient|"
    axes.plot(*zip(*off, strict=True), "o-", ms=3.5, color=BLUE, label=label)
    axes.axvline(curve.step, color="#999999", lw=1.0, label="step chosen")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    return figure
