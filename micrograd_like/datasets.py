"""`micrograd_like.datasets`: the short name of `micrograd_like.training.datasets`."""

from .training.datasets import Dataset, Table, circles, digits, from_csv, moons, names
from .training.datasets import read_lines, read_table, scale, split, standardise

# fmt: off
__all__ = [
    "Dataset", "Table", "circles", "digits", "from_csv", "moons", "names", "read_lines",
    "read_table", "scale", "split", "standardise",
]
# fmt: on
