"""named.py: losses and optimizers by name, and what a loss takes for a label."""

import pytest

from micrograd_like import MicrogradError, losses, nn, optim, training
from micrograd_like.training.named import find_loss, find_optimizer


@pytest.mark.parametrize("name", training.LOSSES)
def test_a_loss_is_the_same_by_its_name_and_by_its_function(name):
    assert find_loss(name) is find_loss(getattr(losses, name)) is training.LOSSES[name]


def test_a_function_is_a_loss_without_labels():
    rule = find_loss(abs)
    assert rule == (abs, None)
    assert rule.right([[1.0]], [1.0]) == 0
    rule.target_check(None)([[0.0]], ["anything"], [0])  # it may take any target


@pytest.mark.parametrize(
    ("name", "outputs", "labels"),
    [
        ("cross_entropy", [[0.0, 2.0, 1.0], [3.0, 3.0, 3.0]], [1, 0]),
        ("binary_cross_entropy", [[0.4], [0.5], [0.6]], [0, 0, 1]),
        ("binary_cross_entropy_with_logits", [[-0.1], [0.0], [0.1]], [0, 0, 1]),
        ("hinge", [[-0.1], [0.0], [0.1]], [-1, -1, 1]),
    ],
)
def test_outputs_are_taken_for_labels(name, outputs, labels):
    rule = training.LOSSES[name]
    assert rule.right(outputs, labels) == len(labels)
    assert rule.right(outputs, [7, *labels[1:]]) == len(labels) - 1


def test_a_named_loss_sees_targets_before_any_step_and_names_the_place():
    model = nn.MLP(1, [2], seed=0)
    check = training.LOSSES["cross_entropy"].target_check(model)
    check([[0.5], [1.5]], [0, 1], [0, 1])
    with pytest.raises(ValueError, match=r"^y\[7\]: a label is .* from 0 to 1, got 2") as caught:
        check([[0.5], [1.5]], [0, 2], [3, 7])
    assert isinstance(caught.value, MicrogradError)
    narrow = training.LOSSES["mse"].target_check(model)
    with pytest.raises(ValueError, match=r"^this MLP takes 1 inputs, got 2"):
        narrow([[0.5, 1.0]], [0.0], [0])


def test_optimizers_have_names_and_rates():
    model = nn.MLP(1, [1], seed=0)
    rates = {"sgd": (optim.SGD, 0.1), "adam": (optim.Adam, 0.01)}
    assert rates.keys() == training.OPTIMIZERS.keys()
    for name, (kind, rate) in rates.items():
        made = find_optimizer(name, model)
        assert (type(made), made.lr, made.params) == (kind, rate, model.parameters())
    mine = optim.SGD(model.parameters())
    assert find_optimizer(mine, model) is mine
    with pytest.raises(ValueError, match="needs a Module"):
        find_optimizer("sgd", lambda x: x)
