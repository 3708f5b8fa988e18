"""A graph looked at: as text, as LaTeX, as a picture, step by step, as a derivation.

Read `notation.py` first (names and formulas), then `drawing.py`, `stepping.py` and its page
`player.html`, and `derivation.py`.
"""

from .derivation import derive, explain
from .drawing import draw
from .stepping import player, steps

__all__ = ["derive", "draw", "explain", "player", "steps"]
