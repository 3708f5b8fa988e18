"""Parameters that learn: data, the loop, and what it leaves behind.

Read `fitting.py` first (the loop), then what it uses: `batches.py` (what it learns from),
`engines.py` (losses, and two ways to compute a batch), and `history.py` (what happened, and how to
go on from there). Beside the loop are `datasets.py`, `tables.py` (files of people's own, read by
pandas), `predictor.py` (what `train` leaves of them), `plots.py`, `playing.py` (a page in which a
network learns), and `conversion.py` (to PyTorch).
`gpt.py` stands alone: a model of scalars to read and to copy.
"""

from ..errors import found_later, shown
from .engines import ENGINES, LOSSES, Loss
from .fitting import OPTIMIZERS, fit
from .history import History, checkpoint

__all__ = ["ENGINES", "LOSSES", "OPTIMIZERS", "History", "Loss", "checkpoint", "fit"]

__getattr__ = found_later(__name__, {"Predictor": "training.predictor"})
__dir__ = shown(*__all__, "Predictor")
