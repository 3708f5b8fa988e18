"""Parameters that learn: data, the loop, and what it leaves behind.

Read `fitting.py` first (the loop), then what it uses: `batches.py` (what it learns from),
`engines.py` (two ways to compute a batch), `named.py` (losses and optimizers that have names),
`history.py` and `checkpoints.py` (what happened, and how to go on from there). Beside the loop are
`datasets.py`, `plots.py`, and `conversion.py` (to PyTorch).
"""

from .checkpoints import checkpoint
from .engines import ENGINES, evaluate
from .fitting import fit
from .history import History
from .named import LOSSES, OPTIMIZERS, Loss

__all__ = ["ENGINES", "LOSSES", "OPTIMIZERS", "History", "Loss", "checkpoint", "evaluate", "fit"]
