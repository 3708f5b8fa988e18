"""Parameters that learn: data, the loop, and what it leaves behind.

Read `fitting.py` first (the loop), then `batches.py` (what it learns from), `datasets.py`,
`plots.py`, and `conversion.py` (to PyTorch).
"""

from .fitting import ENGINES, LOSSES, OPTIMIZERS, History, checkpoint, evaluate, fit

__all__ = ["ENGINES", "LOSSES", "OPTIMIZERS", "History", "checkpoint", "evaluate", "fit"]
