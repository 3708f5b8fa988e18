"""From scalars to matrices: `compile` lifts a graph of Values into a program on arrays.

Three steps, each alone in its files and testable alone. Read them in this order:

1. `tape.py`: the graph, value and gradient, becomes a list of simplified assignments.
2. `form.py` declares the lifted form (arrays, views, terms, statements), and `lift.py` makes it:
   assignments that compute alike become one operation on arrays. `grids.py` lays out its elements,
   `ragged.py`, `padding.py` and `tables.py` see to sums of different lengths, `siblings.py` to
   weights that are one array, and `names.py` says what arrays are called.
3. One printer for each target walks the form: `numpy_source.py` (after `layouts.py` has put axes
   in the order in which they are read), `jax_source.py` and `loops.py`
   (loops that Numba compiles); `straight.py` prints the tape, as Python, and `javascript_source.py`
   as JavaScript. The first two build the trees of `expressions.py`, which `equations.py` writes as
   LaTeX; the others write sums with `terms.py`. `arrays.py` and `rows.py` are the functions that
   the sources call, on arrays and on floats; `javascript.py` translates the latter.

The loops are planned before they are printed: `products.py` gives products of matrices statements
of their own, for which the loops call the kernels of `kernels.py`; `nests.py` says which of the
others share a loop nest and what is stored, and `strides.py` how views move along the loops.

What users hold is in `program.py`, in `step.py` for training steps (one example traced, batches
computed), and in `forward.py` for what a model gives without a gradient. `examples.py` makes rows
of numbers of examples; `tracing.py` says what a trace follows, and what it refuses, such as a call
that moves something in its `surroundings.py`; `ways.py` makes a program of a trace, for the
parameters of a `plan.py`; `families.py` has such programs for all structures of examples and all
ways through the branches; `lengths.py` says when shorter examples can have the program of a longer
one; and `descent.py` has the parameters as arrays while a step learns. `execution.py` runs sources
over NumPy, `native.py` has loops compiled by Numba and kept on disk, and `xla.py` runs sources over
JAX, on devices and in processes.
"""

from .forward import Forward, compile_forward
from .program import Program, Report, compile  # noqa: A004
from .step import Step, compile_step

__all__ = ["Forward", "Program", "Report", "Step", "compile", "compile_forward", "compile_step"]
