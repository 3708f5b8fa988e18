"""A graph looked at: as text, as LaTeX, as a picture, step by step, as a derivation.

Read `names.py` (how numbers and nodes are written) and `algebra.py` (operations on names) first,
then `drawing.py`, `stepping.py` and its page `player.html`, and `derivation.py`.
"""

from .derivation import derive
from .drawing import draw
from .explanation import explain
from .stepping import player, steps

__all__ = ["derive", "draw", "explain", "player", "steps"]
