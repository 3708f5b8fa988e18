"""Pictures: losses, confusions, decision regions, predictions, fits, U-curves. Needs matplotlib.

They are matplotlib's figures, outside of pyplot's state: nothing pops up, `savefig` writes them.
A notebook shows them once `matplotlib.pyplot` is imported there. All have one style, whatever
pyplot's is: points that were learned from are filled, those that were held out are hollow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError
from ..words import display_width, percent, printable
from .history import History

if TYPE_CHECKING:
    from ..checks.reports import Curve

# Okabe and Ito's colours, which people of all kinds of colour vision can tell apart.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442")
BLUE, VERMILION = PALETTE[:2]
INK, GREY, FAINT = "#222222", "#6f6f6f", "#e4e4e4"
MARKERS = "osD^v<>"

# After the font that matplotlib brings, those that systems have for the scripts that it lacks.
_FONTS = (
    "DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "PingFang SC", "Hiragino Sans",
    "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei",
    "Droid Sans Fallback", "Noto Sans Devanagari", "Nirmala UI", "Arial Unicode MS",
)  # fmt: skip
_ACROSS = 150  # places at which the plane is asked, in each direction
_LEGIBLE = 40  # classes in a legend


@cache
def _fonts() -> list[str]:
    """Those of the fonts that there are."""
    from matplotlib.font_manager import fontManager

    there = {font.name for font in fontManager.ttflist}
    return [name for name in _FONTS if name in there]


def _figure(width: float, height: float, *panels: dict[str, str]) -> tuple[Any, Any]:
    """A figure in inches, with axes side by side for panels of title, note and labels.

    Raises MissingExtraError.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "plots") from None
    size = (width, height)
    figure: Any = Figure(figsize=size, dpi=120, facecolor="white", layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    FigureCanvasAgg(figure)
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    text = {"fontfamily": _fonts(), "color": INK}
    for axes, panel in zip(row, panels, strict=True):
        axes.set_facecolor("white")
        note = panel.get("note", "")
        title = {"loc": "left", "fontsize": 12, "weight": "bold", "pad": 20 if note else 6}
        # Not every font of a system has a bold face, and matplotlib says so on stderr.
        axes.set_title(panel["title"], **title, **text | {"fontfamily": _FONTS[0]})
        below = {"xytext": (0, 6), "textcoords": "offset points", "xycoords": "axes fraction"}
        axes.annotate(note, (0.0, 1.0), fontsize=9, **text | {"color": GREY}, **below)
        axes.set_xlabel(panel["x"], fontsize=10, **text)
        axes.set_ylabel(panel["y"], fontsize=10, **text)
        ticks = {"labelsize": 9, "labelcolor": INK, "labelfontfamily": _fonts(), "color": GREY}
        axes.tick_params(which="both", **ticks)
        for axis in axes.xaxis, axes.yaxis:
            axis.get_offset_text().set(fontsize=9, **text)
        axes.yaxis.get_offset_text().set(ha="right", x=-0.02)  # or it is on the note
        axes.spines[:].set(color=GREY, linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, color=FAINT, linewidth=0.8, linestyle="-", alpha=1.0)
        axes.set_axisbelow(True)
    return figure, row


def _legend(owner: Any, **how: Any) -> None:
    """A legend of axes, or of a figure, in the style of all."""
    how |= {"labelcolor": INK, "prop": {"family": _fonts(), "size": 9}}
    owner.legend(frameon=True, facecolor="white", edgecolor="none", framealpha=0.8, **how)


def _shown(name: str, most: int = 22) -> str:
    """A name from data as a label: short, both ends of it, its dollars not read as mathematics."""
    name = printable(" ".join(name.split()))
    if len(name) > most:
        name = f"{name[: most // 2]}…{name[most // 2 + 1 - most :]}"
    return name.replace("$", r"\$")


def _points(
    axes: Any, x: Any, y: Any, color: Any, size: float, hollow: bool = False, **how: Any
) -> None:
    """Draw points of one colour; `hollow` ones were held out."""
    face, edge, width = color, "white", 0.5
    if hollow:
        face, edge, width = "white", color, 0.3 * math.sqrt(size)
    axes.scatter(x, y, s=size, facecolors=face, edgecolors=edge, linewidths=width, **how)


def _size(count: int) -> float:
    """The area of a point, in square points: of many they are smaller."""
    return min(24.0, max(5.0, 8000.0 / max(count, 1)))


def loss_curve(history: History) -> Any:
    """A matplotlib Figure of the losses over the epochs, and beside them of the accuracies."""
    done, held = len(history), history.validation_loss
    panels = [{"title": "Loss", "x": "epoch", "y": "mean loss"}]
    if held:
        best = min(range(done), key=lambda i: (math.isnan(held[i]), held[i]))
        panels[0]["note"] = f"held out: least after epoch {best + 1}, {held[best]:.3g}"
    elif done:
        panels[0]["note"] = f"training: {history.loss[-1]:.3g} at the end"
    if history.accuracy:
        whose = "held out" if history.validation_accuracy else "training"
        share = percent((history.validation_accuracy or history.accuracy)[-1])
        accuracy = {"title": "Accuracy", "x": "epoch", "y": "share of right labels, %"}
        panels.append(accuracy | {"note": f"{whose}: {share} at the end"})
    figure, (axes, *beside) = _figure(1.5 + 4.5 * len(panels), 3.8, *panels)
    _over_epochs(axes, history.loss, held)
    losses = [x for x in history.loss + held if math.isfinite(x)]
    if losses and 0.0 < 10.0 * min(losses) < max(losses):  # else a logarithmic axis is hard to read
        from matplotlib.ticker import LogLocator

        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    for other in beside:
        shares = history.accuracy, history.validation_accuracy
        _over_epochs(other, *([100.0 * x for x in column] for column in shares))
        low, high = other.get_ylim()
        other.set_ylim(low, min(high, 100.0 + 0.03 * (100.0 - low)))
    return figure


def _over_epochs(axes: Any, training: list[float], held: list[float]) -> None:
    """Draw a number of each epoch, for both kinds of examples."""
    from matplotlib.ticker import MaxNLocator

    done = len(training)
    for label, column, color, face in (
        ("training", training, BLUE, BLUE),
        ("held out", held, VERMILION, "white"),
    ):
        if column or column is training:
            axes.plot(
                range(1, done + 1), column, color=color, label=label, lw=1.6 if done < 300 else 0.8,
                marker="o" if done <= 20 else "", markersize=4, markerfacecolor=face,
            )  # fmt: skip
    if held:
        _legend(axes)
    axes.set_xlim(0.5, max(1.02 * done, done + 0.5, 1.5))
    places = MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10], min_n_ticks=1)
    axes.xaxis.set_major_locator(places)


def confusion_matrix(labels: list[int], predicted: Sequence[int | None], classes: list[str]) -> Any:
    """A Figure that counts, for each class (row), what its examples were taken for (column).

    Right ones are blue and wrong ones red, the darker, the larger their share of the row. Examples
    that were taken for none are not counted.
    """
    n, lost = len(classes), sum(guess is None for guess in predicted)
    counts = [[0] * n for _ in classes]
    for label, guess in zip(labels, predicted, strict=True):
        if guess is not None:
            counts[label][guess] += 1
    right = sum(counts[i][i] for i in range(n))
    note = f"{right} of {len(labels)} right" + (f", {lost} without an answer" if lost else "")
    names = [_shown(name) for name in classes]
    cell = min(0.55, max(0.11, 9.0 / n))  # inches
    margin = 1.0 + 0.08 * max(map(display_width, names))
    size = max(cell * n + margin, 4.0)
    panel = {"title": "Confusion matrix", "note": note, "x": "predicted", "y": "true"}
    figure, (axes,) = _figure(size, size + 0.4, panel)
    import numpy as np
    from matplotlib.colors import to_rgb

    table = np.array(counts)
    share = np.sqrt(table / np.maximum(table.sum(1, keepdims=True), 1))[..., None]
    own = np.eye(n, dtype=bool)[..., None]
    picture = 255.0 - 255.0 * share * (1.0 - np.where(own, to_rgb(BLUE), to_rgb(VERMILION)))
    axes.imshow(picture.astype(np.uint8), interpolation="nearest")
    font = min(9.0, 72.0 * cell * 0.6)
    for i, j in np.argwhere(table).tolist():
        axes.text(
            j, i, counts[i][j], ha="center", va="center", fontfamily=_fonts(), in_layout=False,
            fontsize=min(font, 72.0 * cell * 1.25 / len(str(counts[i][j]))),
            color="white" if share[i, j, 0] > 0.6 else INK,
        )  # fmt: skip
    # Thousands of zeros are drawn at once as markers, hundreds of times as fast as texts.
    rows, columns = np.nonzero(table == 0)
    axes.scatter(columns, rows, s=(0.72 * font) ** 2, marker="$0$", color="#a0a0a0", lw=0)
    small = min(9.0, 72.0 * cell * 0.8)
    turn = 90 if max(map(len, names)) > 3 else 0
    axes.set_xticks(range(n), names, rotation=turn, fontsize=small)
    axes.set_yticks(range(n), names, fontsize=small)
    axes.grid(visible=False)
    for lines in axes.hlines, axes.vlines:
        lines(np.arange(1, n) - 0.5, -0.5, n - 0.5, color=FAINT, linewidth=0.6)
    axes.spines[:].set_visible(True)
    return figure


def decision_boundary(
    predict: Callable[[list[list[float]]], Sequence[int | Sequence[float] | None]],
    X: Any,
    y: Sequence[int],
    features: list[str],
    classes: list[str],
    *,
    held_out: tuple[Any, Sequence[int]] | None = None,
) -> Any:
    """A Figure of the plane, in the colours of the classes that `predict` gives, and of X.

    For each row `predict` gives the place of its class, or the probability of each class: a place
    is the paler, the less the likeliest class leads. Where it gives None there is no colour.
    `held_out` is a pair like X and y.
    """
    x1, x2 = map(_shown, features)
    panel = {"title": "Decision regions", "note": "paler: less decided", "x": x1, "y": x2}
    figure, (axes,) = _figure(7.0, 5.2, panel)
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.colors import to_rgb
    from matplotlib.lines import Line2D

    groups = [(np.array(X, float), np.array(y), False)]
    if held_out is not None:
        groups.append((np.array(held_out[0], float), np.array(held_out[1]), True))
    points = np.concatenate([rows for rows, _, _ in groups])
    low, high = np.nanmin(points, 0), np.nanmax(points, 0)
    margin = 0.1 * np.where(high > low, high - low, 1.0)
    sides = np.linspace(low - margin, high + margin, _ACROSS).T
    grid = np.stack(np.meshgrid(*sides), -1).reshape(-1, 2)
    chances = np.full((len(grid), len(classes)), math.nan)
    for place, answer in enumerate(predict(grid.tolist())):
        if answer is not None:
            chances[place] = answer if hasattr(answer, "__len__") else np.eye(len(classes))[answer]

    colors: Any = [to_rgb(color) for color in PALETTE[: len(classes)]]
    if len(classes) > len(PALETTE):
        colors = [colormaps["turbo"](i / (len(classes) - 1))[:3] for i in range(len(classes))]
    best = chances.argmax(1)
    second, first = np.partition(np.pad(chances, ((0, 0), (1, 0))), -2)[:, -2:].T
    known = ~np.isnan(first)
    shade = np.where(known, 0.08 + 0.34 * (first - second), 0.0)[:, None]
    picture = np.column_stack([1.0 - shade * (1.0 - np.array(colors)[best]), known])
    half = (sides[:, 1] - sides[:, 0]) / 2.0  # the places are the middles of pixels
    axes.imshow(
        picture.reshape(_ACROSS, _ACROSS, 4),
        extent=np.stack([sides[:, 0] - half, sides[:, -1] + half], -1).ravel(),
        origin="lower",
        aspect="auto",
        interpolation="bilinear",
    )
    for k in np.unique(best[known])[:-1]:  # a boundary of the last is one of another's too
        lead = chances[:, k] - np.where(best == k, second, first)
        lead = np.ma.masked_invalid(lead.reshape(_ACROSS, _ACROSS))
        axes.contour(*sides, lead, levels=[0.0], colors=INK, linewidths=1.1)

    dark = 0.85 * np.array(colors)  # of a point, to be told from its region
    markers = [MARKERS[k % len(MARKERS)] for k in range(len(classes))]
    size = _size(len(points))
    for rows, labels, hollow in groups:
        for k in np.unique(labels):
            xs, ys = rows[labels == k].T
            _points(axes, xs, ys, dark[k], size, hollow, marker=markers[k], zorder=3)
    axes.set(xlim=sides[0, [0, -1]], ylim=sides[1, [0, -1]])
    axes.grid(visible=False)
    there = np.unique(np.concatenate([labels for _, labels, _ in groups])).tolist()
    shown = there if len(there) <= _LEGIBLE else there[: _LEGIBLE - 1]
    keys = [(_shown(classes[k]), markers[k], dark[k], "white") for k in shown]
    if len(there) > len(shown):
        keys.append((f"… and {len(there) - len(shown)} more", "", GREY, GREY))
    if held_out is not None:
        keys += [("training", "o", GREY, GREY), ("held out", "o", "white", GREY)]
    handles = [
        Line2D([], [], ls="", ms=6, label=label, marker=marker, color=face, markeredgecolor=edge)
        for label, marker, face, edge in keys
    ]
    columns = 1 + (len(keys) - 1) // 22
    _legend(figure, handles=handles, loc="outside right upper", ncols=columns)
    return figure


def predicted_numbers(numbers: Sequence[float], predicted: Sequence[Any], label: str) -> Any:
    """A Figure of the predicted number over the true one, and beside it of what is left between.

    Examples for which None was predicted are left out. The points are hollow: what is looked at
    should have been held out.
    """
    pairs = [(t, x) for t, x in zip(numbers, predicted, strict=True) if x is not None]
    lost = len(numbers) - len(pairs)
    note = "on the line both are equal" + (f"; {lost} without an answer" if lost else "")
    mean = math.fsum(abs(t - x) for t, x in pairs) / max(len(pairs), 1)
    name, small = _shown(label), f"mean absolute error {mean:.4g}"
    true, found = f"true {name}", f"predicted {name}"
    figure, (axes, beside) = _figure(
        9.6,
        4.4,
        {"title": "Predictions", "note": note, "x": true, "y": found},
        {"title": "Residuals", "note": small, "x": found, "y": "true - predicted"},
    )
    if pairs:
        for x_axis in (axes.xaxis, beside.xaxis):  # large numbers would run into each other
            x_axis.get_major_locator().set_params(nbins=5)
        truth, answers = zip(*pairs, strict=True)
        axes.axline((truth[0], truth[0]), slope=1.0, color=GREY, lw=1.0)
        beside.axhline(0.0, color=GREY, lw=1.0)
        how: Any = {"alpha": 1.0 if len(pairs) < 300 else 0.6, "zorder": 3}
        _points(axes, truth, answers, BLUE, _size(len(pairs)), True, **how)
        left = [t - x for t, x in pairs]
        _points(beside, answers, left, BLUE, _size(len(pairs)), True, **how)
    return figure


def fitted_curve(
    predict: Callable[[Any], Sequence[Any]],
    X: Any,
    y: Sequence[float],
    feature: str,
    label: str,
    *,
    held_out: tuple[Any, Sequence[float]] | None = None,
) -> Any:
    """A Figure of the numbers y over a single feature, and of what `predict` gives for it.

    `held_out` is a pair like X and y.
    """
    panel = {"title": "Fit", "x": _shown(feature), "y": _shown(label)}
    figure, (axes,) = _figure(6.0, 4.0, panel)
    import numpy as np

    groups = [("training", np.ravel(X), y)]
    if held_out is not None:
        groups.append(("held out", np.ravel(held_out[0]), held_out[1]))
    xs = np.concatenate([x for _, x, _ in groups])
    for name, x, numbers in groups:
        hollow = name == "held out"
        _points(axes, x, numbers, BLUE, _size(len(xs)), hollow, label=name, alpha=0.7)
    line = np.linspace(np.nanmin(xs), np.nanmax(xs), 300)
    found = np.array(predict(line[:, None]), float)
    axes.plot(line, found, color=VERMILION, lw=2.0, label="what was learned", zorder=4)
    _legend(axes)
    return figure


def u_curve(curve: Curve) -> Any:
    """A Figure of the error of central differences over the step, with what the model allows."""
    note = f"of f, {_shown(curve.name)}: long steps truncate, short ones round"
    panel = {"title": "Central differences", "note": note, "x": "step ε", "y": "error"}
    figure, (axes,) = _figure(6.0, 4.2, panel)
    steps, allowed = zip(*curve.model, strict=True)
    axes.loglog(steps, allowed, "--", color=VERMILION, label="truncation + rounding, as modelled")
    off = [point for point in curve.points if point[1] > 0.0]  # on logarithmic axes
    label = "|central difference - gradient|"
    axes.plot(*zip(*off, strict=True), "o-", ms=3.5, color=BLUE, label=label)
    axes.axvline(curve.step, color=GREY, lw=1.0, label="step chosen")
    _legend(axes)
    return figure
