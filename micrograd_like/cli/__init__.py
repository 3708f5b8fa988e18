"""The commands of `micrograd-like`.

Read `commands.py` first (train and predict), then `inspection.py` (draw, step, eval, derive),
`expressions.py` (text to graphs, never executed) and `processes.py`.
"""

from .commands import main

__all__ = ["main"]
