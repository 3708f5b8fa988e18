"""The command `micrograd-like`: the library without a line of Python.

Read `commands.py` first: the parser, and how every refusal ends in one line. Then
`inspection.py` (eval, draw, step, derive) with `expressions.py`, which makes graphs of text and
executes nothing, and `learning.py` (train, predict, and the show without a command) with
`writing.py`, a GPT of lines of text (train and sample), and `playing.py`, a page in which a network
learns (play). `running.py` is the loop of training, `folder.py` where it writes. `terminal.py`
prints, `processes.py` trains in several.
"""

from .commands import main

__all__ = ["main"]
