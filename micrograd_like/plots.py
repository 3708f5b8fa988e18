"""`micrograd_like.plots`: the short name of `micrograd_like.training.plots`."""

from .training.plots import confusion_matrix, decision_boundary, fitted_curve, loss_curve
from .training.plots import predicted_numbers, u_curve

# fmt: off
__all__ = [
    "confusion_matrix", "decision_boundary", "fitted_curve", "loss_curve", "predicted_numbers",
    "u_curve",
]
# fmt: on
