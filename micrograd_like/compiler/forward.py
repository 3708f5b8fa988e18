"""`compile_forward`: what a model gives, without a gradient, for examples of any length."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from typing import Any

from ..errors import OperandError
from ..numerics import plain
from .examples import Outputs
from .execution import Unpicklable, check_backend
from .families import Families, Report
from .plan import BACKENDS, Plan, planned


class Forward(Unpicklable):
    """A function of numbers, lists of them and parameters, as a program: see `compile_forward`.

    Called as the function is, with one example, it gives what that returns, with floats in place of
    Values; `batch` takes a list of examples, and gives a list. `source` is the first program.
    """

    def __init__(self, problem: Outputs, example: Any, plan: Plan) -> None:
        self.parameters = plan.parameters
        self._plan = plan
        self._families = Families(problem, plan, example)

    def __call__(self, *example: Any) -> Any:
        """What the function returns for one example."""
        return self.batch([example[0] if len(example) == 1 else example])[0]

    def batch(self, examples: Sequence[Any]) -> list[Any]:
        """What the function returns for each example; a tuple has its arguments."""
        if not hasattr(examples, "__len__"):
            raise OperandError(f"a list of examples is needed, got {examples!r:.60}")
        if not len(examples):
            return []
        _, outputs = self._families.results(self._plan.values, examples, True)
        return [
            shaped(self._families.shape(example), iter(plain(row)))
            for example, row in zip(examples, outputs, strict=True)
        ]

    def check(self) -> None:
        """Trace the examples again: is it the function that was traced? Raises TraceError."""
        self._families.check()

    @property
    def source(self) -> str:
        """The program; where there are several, that of the first example."""
        return self._families.first.ways[0].forward.source

    def report(self) -> Report:
        """How examples are computed, in numbers."""
        return Report(self._families.first.ways[0].forward, self._families)


def shaped(shape: Any, numbers: Iterator[float]) -> Any:
    """The next of the numbers, or a list of them, or of such lists."""
    if shape is None:
        return next(numbers)
    if shape.count(None) == len(shape):
        return [*islice(numbers, len(shape))]
    return [shaped(inner, numbers) for inner in shape]


def compile_forward(
    function: Callable[..., Any],
    parameters: Any,
    example: Any,
    *,
    static: Collection[int] = (),
    backend: str = "numpy",
    dtype: str = "float64",
) -> Forward:
    """Trace a function of one example, such as a model's logits for a text; it is then a program.

    The example is what `compile_step(loss, parameters, example)` takes, and the function returns
    Values, or lists of them. What is given back has the parameters as they are at each call.
    What else changes later, such as an attribute of the model, remains as it was traced: `check()`
    of the result traces again and raises TraceError if it has changed.
    Examples may be of other lengths: where the outputs of a shorter one are among those of a longer
    one, as those of a causal model are if it returns them for every position, the program of the
    longer one serves both.

    >>> from micrograd_like import Value
    >>> w = [Value(2.0), Value(3.0)]
    >>> doubled = compile_forward(lambda xs: [x * w[0] for x in xs], w, [1.0, 2.0, 3.0])
    >>> doubled([5.0, 7.0])
    [10.0, 14.0]

    With `backend="javascript"` the source is a module for browsers and Node: see `compile_step`.

    Raises TraceError (a ValueError) where the function cannot be followed.
    """
    check_backend(backend, BACKENDS, dtype)
    plan = planned(parameters, backend, (dtype, None), function)
    return Forward(Outputs(function, static), example, plan)
