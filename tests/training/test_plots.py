"""plots.py: pictures have what they were given in them."""

import math

import pytest

from micrograd_like import gradcheck, nn, plots, tanh, training

pytest.importorskip("matplotlib")
DATA = [[0.0, 0.0], [0.0, 2.0], [1.0, 1.0]], [0, 1, 1], ["x", "y"], ["a", "b"]


def test_the_plane_has_the_class_of_each_place_and_no_colour_where_there_is_none():
    asked = []

    def predict(rows):
        asked.extend(rows)
        return [None if x < 0.0 else int(y > 1.0) for x, y in rows]

    axes = plots.decision_boundary(predict, *DATA).axes[0]
    image = axes.images[0]
    assert image.get_extent() == pytest.approx([-0.1, 1.1, -0.2, 2.2])
    assert min(asked) == pytest.approx([-0.1, -0.2])
    assert max(asked) == pytest.approx([1.1, 2.2])
    rows = image.get_array().filled(math.nan).tolist()
    assert all(math.isnan(row[0]) for row in rows)
    assert [rows[0][-1], rows[-1][-1]] == [0.0, 1.0]
    assert axes.collections[0].get_offsets().tolist() == DATA[0]


def test_a_feature_that_never_changes_has_its_place_in_the_plane_too():
    X, *rest = DATA
    figure = plots.decision_boundary(lambda rows: [0] * len(rows), [[0.5, y] for _, y in X], *rest)
    assert figure.axes[0].images[0].get_extent()[:2] == pytest.approx([0.4, 0.6])


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


def test_confusions_are_counted_and_examples_without_a_label_are_not():
    axes = plots.confusion_matrix([0, 0, 1, 1], [0, 1, None, 1], ["a", "b"]).axes[0]
    assert axes.images[0].get_array().tolist() == [[1, 1], [0, 1]]


def test_the_u_curve_has_the_errors_that_a_logarithm_can_show():
    curve = gradcheck(lambda x: tanh(x) * x, [0.5]).curve(0)
    lines = plots.u_curve(curve).axes[0].lines
    shown = [(step, error) for step, error in curve.points if error > 0.0]
    assert list(zip(*lines[1].get_data(), strict=True)) == shown
    assert len(shown) > 10
