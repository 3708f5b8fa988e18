"""From scalars to matrices: `compile` lifts a graph of Values into a program on arrays.

Three steps, each in a room of its own: `tape.py` (graph to simplified assignments), `lift.py`
(assignments to operations on arrays), `emit.py` (operations to NumPy source; `straight.py` writes
the tape itself, as Python). `program.py` has what users hold, and
`step.py` training steps: one example traced, batches computed.
"""

from .program import Program, Report, compile  # noqa: A004
from .step import Step, compile_step

__all__ = ["Program", "Report", "Step", "compile", "compile_step"]
