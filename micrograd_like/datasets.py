"""`micrograd_like.datasets`: the short name of `micrograd_like.training.datasets` and `.tables`."""

from .training.datasets import Dataset, circles, digits, moons, names, read_lines, spiral, xor
from .training.datasets import scale, split, standardise
from .training.tables import from_csv, read_table

# fmt: off
__all__ = [
    "Dataset", "circles", "digits", "from_csv", "moons", "names", "read_lines", "read_table",
    "scale", "spiral", "split", "standardise", "xor",
]
# fmt: on
