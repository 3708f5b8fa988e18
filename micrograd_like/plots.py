"""`micrograd_like.plots`: the short name of `micrograd_like.training.plots`."""

from .training.plots import confusion_matrix, decision_boundary, loss_curve, u_curve

__all__ = ["confusion_matrix", "decision_boundary", "loss_curve", "u_curve"]
