"""plots.py: pictures have what they were given in them."""

import math

import pytest

from micrograd_like import gradcheck, nn, plots, tanh, training

pytest.importorskip("matplotlib")
DATA = [[0.0, 0.0], [0.0, 2.0], [1.0, 1.0]], [0, 1, 1], ["x", "y"], ["a", "b"]


def plane(predict, *data, **options):
    """The axes of decision regions, and their colours: a row for each height, from below."""
    axes = plots.decision_boundary(predict, *data, **options).axes[0]
    return axes, axes.images[0].get_array()


def test_the_plane_has_the_class_of_each_place_and_no_colour_where_there_is_none():
    asked = []

    def predict(rows):
        asked.extend(rows)
        return [None if x < 0.0 else int(y > 1.0) for x, y in rows]

    axes, colors = plane(predict, *DATA)
    assert [*axes.get_xlim(), *axes.get_ylim()] == pytest.approx([-0.1, 1.1, -0.2, 2.2])
    assert min(asked) == pytest.approx([-0.1, -0.2])
    assert max(asked) == pytest.approx([1.1, 2.2])
    assert set(colors[:, 0, 3]) == {0.0}
    below, above = colors[0, -1], colors[-1, -1]
    assert (below[3], above[3]) == (1.0, 1.0)
    assert below[2] > below[0]  # blue
    assert above[0] > above[2]  # red
    points = [point for dots in axes.collections[-2:] for point in dots.get_offsets().tolist()]
    assert points == DATA[0]


def test_the_plane_is_the_paler_the_less_decided_and_the_line_is_where_the_answer_changes():
    def predict(rows):
        return [[1.0 - y / 4.0, y / 4.0] for _, y in ([x, min(max(y, 0.0), 4.0)] for x, y in rows)]

    X = [[0.0, 0.0], [1.0, 4.0]]
    axes, colors = plane(predict, X, [0, 1], ["x", "y"], ["a", "b"])
    paleness = colors[:, 0, :3].min(1).tolist()
    middle = len(paleness) // 2
    assert paleness[:middle] == sorted(paleness[:middle])
    assert paleness[middle:] == sorted(paleness[middle:], reverse=True)
    assert paleness[0] < 0.7 < 0.9 < paleness[middle]
    (path,) = axes.collections[0].get_paths()
    assert path.vertices[:, 1] == pytest.approx(2.0)


def test_of_many_classes_each_boundary_is_drawn_where_two_lead():
    def predict(rows):
        return [[max(1e-9, 1.0 - abs(x - k)) for k in range(9)] for x, _ in rows]

    X = [[float(k), float(k % 2)] for k in range(9)]
    axes, _ = plane(predict, X, [*range(9)], ["x", "y"], [*"abcdefghi"])
    lines = [x for dots in axes.collections[:8] for path in dots.get_paths()
             for x in path.vertices[:, 0]]  # fmt: skip
    assert {round(x, 2) for x in lines} == {k + 0.5 for k in range(8)}


def test_a_legend_of_very_many_classes_leaves_room_for_the_plane():
    X, y = [[float(k), float(k % 7)] for k in range(60)], [*range(60)]
    names = [f"class number {k} of many" for k in y]
    figure = plots.decision_boundary(lambda rows: [0] * len(rows), X, y, ["a", "b"], names)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][-1] == "… and 21 more"


def test_points_to_learn_from_are_filled_and_held_out_ones_hollow():
    held = [[0.5, 3.0]], [1]
    figure = plots.decision_boundary(lambda rows: [0] * len(rows), *DATA, held_out=held)
    *filled, hollow = figure.axes[0].collections
    assert hollow.get_offsets().tolist() == held[0]
    assert hollow.get_facecolor().tolist() == [[1.0, 1.0, 1.0, 1.0]]
    assert hollow.get_edgecolor().tolist() == filled[1].get_facecolor().tolist()
    assert figure.axes[0].get_ylim()[1] > 3.0
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said == ["a", "b", "training", "held out"]
    figure = plots.fitted_curve(
        lambda X: [0.0] * len(X), [[0.0]], [1.0], "x", "y", held_out=([[1.0], [2.0]], [1.0, 0.0])
    )
    assert [len(dots.get_offsets()) for dots in figure.axes[0].collections] == [1, 2]


def test_a_feature_that_never_changes_has_its_place_in_the_plane_too():
    X, *rest = DATA
    axes, _ = plane(lambda rows: [0] * len(rows), [[0.5, y] for _, y in X], *rest)
    assert axes.get_xlim() == pytest.approx((0.4, 0.6))


@pytest.mark.parametrize(
    ("losses", "scale"), [([2.3, 2.2, 2.1], "linear"), ([2.0, 0.3, 0.1], "log"), ([], "linear")]
)
def test_losses_have_a_logarithmic_axis_where_they_fall_far(losses, scale):
    history = training.fit(nn.MLP(1, [1]), [[0.0]], [0.0], loss="mse", epochs=1)
    history.loss[:] = losses
    axes = plots.loss_curve(history).axes[0]
    assert axes.get_yscale() == scale
    assert list(axes.lines[0].get_ydata()) == losses
    assert not losses or all(tick == round(tick) for tick in axes.get_xticks())


def test_held_out_losses_are_beside_those_of_the_training_and_accuracies_beside_both():
    X, y, *_ = DATA
    model = nn.MLP(2, [2], seed=0)
    history = training.fit(model, X, y, epochs=3, validation=(X[:2], y[:2]))
    figure = plots.loss_curve(history)
    loss, accuracy = [
        {line.get_label(): list(line.get_ydata()) for line in axes.lines} for axes in figure.axes
    ]
    assert loss == {"training": history.loss, "held out": history.validation_loss}
    columns = history.accuracy, history.validation_accuracy
    assert list(accuracy.values()) == [[100.0 * x for x in column] for column in columns]
    assert accuracy.keys() == loss.keys()
    history.validation_loss[:] = [math.nan, 3.0, 0.2]
    axes = plots.loss_curve(history).axes[0]
    assert axes.texts[0].get_text() == "held out: least after epoch 3, 0.2"
    assert axes.get_yscale() == "log"


def cells(axes):
    """The numbers in the cells of a confusion matrix, the zeros too, by row and column."""
    _note, *texts = axes.texts
    found = {(y, x): text.get_text() for text in texts for x, y in [text.get_position()]}
    zeros = axes.collections[0]
    return found | {(y, x): "0" for x, y in zeros.get_offsets().tolist()}


def test_confusions_are_counted_and_examples_without_a_label_are_not():
    axes = plots.confusion_matrix([0, 0, 1, 1], [0, 1, None, 1], ["a", "b"]).axes[0]
    assert cells(axes) == {(0, 0): "1", (0, 1): "1", (1, 0): "0", (1, 1): "1"}


@pytest.mark.parametrize("n", [2, 30, 200])
def test_of_many_classes_too_every_name_and_every_number_is_there(n):
    names = [f"class {i}" for i in range(n)]
    figure = plots.confusion_matrix([*range(n)], [*range(1, n), 0], names)
    (axes,) = figure.axes
    assert len(cells(axes)) == n * n
    for axis in axes.xaxis, axes.yaxis:
        assert [label.get_text() for label in axis.get_ticklabels()] == names
    height = figure.get_size_inches()[1] * 72.0 / n  # points a class
    assert axes.yaxis.get_ticklabels()[0].get_fontsize() < height


def test_labels_are_short_and_alike_ones_stay_different():
    names = [f"a long name of {what} that ends in {end}" for what in "pq" for end in ("$x", "日本")]
    axes = plots.confusion_matrix([0, 1, 2, 3], [0, 1, 2, 3], [*names, "b\n$"]).axes[0]
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert len(set(shown[:2])) == len(set(shown[2:4])) == 2
    assert max(map(len, shown)) <= 23
    assert shown[4] == r"b \$"


def test_a_number_is_drawn_over_the_true_one_and_what_is_left_beside():
    agreement, left = plots.predicted_numbers([1.0, 2.0, 4.0], [1.5, None, 3.0], "y").axes
    assert agreement.collections[0].get_offsets().tolist() == [[1.0, 1.5], [4.0, 3.0]]
    assert left.collections[0].get_offsets().tolist() == [[1.5, -0.5], [3.0, 1.0]]
    for axes in (agreement, left):  # hollow, as what is held out is
        assert axes.collections[0].get_facecolor().tolist() == [[1.0, 1.0, 1.0, 1.0]]
    assert plots.predicted_numbers([1.0], [None], "y").axes


def test_pictures_look_alike_whatever_style_pyplot_has():
    from matplotlib import rc_context, style

    def drawn():
        figure = plots.predicted_numbers([1.0, 2.0], [1.0, 3.0], "y")
        figure.canvas.draw()
        return bytes(figure.canvas.buffer_rgba())

    plain = drawn()
    with style.context("dark_background"), rc_context({"font.size": 20}):
        assert drawn() == plain


def test_the_u_curve_has_the_errors_that_a_logarithm_can_show():
    curve = gradcheck(lambda x: tanh(x) * x, [0.5]).curve(0)
    lines = plots.u_curve(curve).axes[0].lines
    shown = [(step, error) for step, error in curve.points if error > 0.0]
    assert list(zip(*lines[1].get_data(), strict=True)) == shown
    assert len(shown) > 10
