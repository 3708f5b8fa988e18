"""A graph looked at: as text, as LaTeX, as a picture, step by step, as a derivation.

Read `names.py` (how numbers and nodes are written) and `algebra.py` (operations on names) first.
Then come a picture (`boxes.py`, `drawing.py`, and in Pyodide `webassembly.py`), the steps of both
passes (`stepping.py`, and `pages.py` with `player.html`, which plays them beside the picture and,
by the program of `live.py`, for other leaves; what such pages share is in `page.py` and
`page.html`), and the chain rule (`symbols.py`, `paths.py`, `derivation.py`, `explanation.py`).
`manual.py` is what `help` says of an operation.
"""

from .derivation import derive
from .drawing import draw
from .explanation import explain
from .pages import player
from .stepping import steps

__all__ = ["derive", "draw", "explain", "player", "steps"]
