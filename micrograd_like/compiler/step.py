"""`compile_step`: one example traced, batches of any size computed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from inspect import signature
from typing import TYPE_CHECKING, Any, overload

from ..engine import Value, set_slot_of_grad
from ..errors import DomainError, InputError, OperandError
from ..modes import land
from ..module import Module
from ..numerics import plain
from .equations import equations
from .examples import Nested, Outputs, Pairs, Prepared, Rows
from .execution import Unpicklable, as_floats, check_backend, require_numpy
from .families import Families, Family, Report
from .forward import Forward
from .plan import BACKENDS, Plan, planned

if TYPE_CHECKING:
    from ..optim import Optimizer
    from .descent import Descent
    from .ways import Way


class Step(Unpicklable):
    """A training step for batches: `step(batch)` gives the mean loss and sets the gradients.

    A batch is a list of examples, of the structure of the one that was traced or of others: for
    each there is a program, made when the first such example comes, unless that of a longer one
    serves it, too. `report()` says what was done. A step of a model and a loss takes `step(X, y)`,
    rows of inputs and their targets.

    `source` is the program and `function` runs it: from values and examples, as `arrays` gives
    them, to the mean loss, the outputs (of a model) and the gradient, which is of the values' form:
    an array in the order of the parameters, with backend "jax" a dict of matrices. `parameters` are
    those that it differentiates; after a step of a model `outputs` has what it gave, of shape
    (examples, outputs). As it keeps these, a step belongs to one thread; `function` does not.
    `plan` has what all its programs share.

    Where model or loss compare Values there is a program for each way through the branches, made
    when an example first takes it, and `source` is that of the first. Examples on a ninth way are
    left to the eager engine, with a warning. No single function does all that: asking for
    `function` raises InputError, as it does where examples have come of several structures.
    """

    def __init__(self, problem: Pairs | Nested, example: Any, plan: Plan) -> None:
        self.parameters = plan.parameters
        self.outputs: Any = None
        self.plan = plan
        self._families = Families(problem, plan, example) if isinstance(problem, Nested) else None
        self._pairs = problem if isinstance(problem, Pairs) else None
        self._first = self._families.first if self._families else Family(problem, plan, example)

    def check(self) -> None:
        """Trace the examples again: do model and loss compute what they did? Raises TraceError."""
        (self._families or self._first).check()

    @property
    def source(self) -> str:
        """The program; where there are several, that of the first example."""
        return self._first.ways[0].gradient.source

    @property
    def function(self) -> Callable[..., Any]:
        """What runs the program. Raises InputError where there are several."""
        if self._first.ways[0].trace.guards:
            raise InputError("this step has a program for each way through its branches: call it")
        if self._families and len(self._families.every) > 1:
            raise InputError("this step has a program for each structure of examples: call it")
        return self._first.ways[0].gradient.function

    def forward(
        self, function: Callable[..., Any], example: Any, *, static: Collection[int] = ()
    ) -> Forward:
        """What a function makes of an example, with the parameters of this step as they are now.

        It is that of `compile_forward`; in a training, the parameters are those that are learned.
        """
        return Forward(Outputs(function, static), example, self.plan)

    def training(self, optimizer: Optimizer) -> Descent:
        """A block in which the step learns: it makes steps of the optimizer, on arrays.

        >>> import micrograd_like as ml
        >>> w = ml.Value(0.0)
        >>> step = compile_step(lambda x, y: (w * x - y) ** 2, [w], (1.0, 2.0))
        >>> with step.training(ml.optim.SGD([w], lr=0.1)) as training:
        ...     losses = [training([(1.0, 2.0), (2.0, 4.0)]) for _ in range(20)]
        >>> losses[0], round(w.data, 3)
        (10.0, 2.0)

        Within it the parameters are arrays, and the Values are brought up to date when you look at
        one or compute with it: see `Descent`. Raises InputError for an optimizer of other
        parameters, or with a `step` of its own.
        """
        from .descent import Descent, OnDevices

        return (OnDevices if self.plan.jax else Descent)(self, optimizer)

    def sole(self, *batch: Any) -> tuple[Way, Any] | None:
        """The one program for all of a batch, if there is one, and a row for each example."""
        if self._families:
            found = self._families.sole(self._examples(*batch))
        else:
            found = self._first, self.rows_of(*batch)
        if found is None or found[0].ways[0].trace.guards:
            return None
        family, rows = found
        family.ways[0].trace.check_others()
        return family.ways[0], rows

    def __call__(self, *batch: Any) -> float:
        """The mean loss over a batch, and its gradient in each parameter's `.grad`."""
        loss, gradient = self.value_and_grad(*batch)
        land(self.parameters)
        for parameter, g in zip(self.parameters, gradient.tolist(), strict=True):
            set_slot_of_grad(parameter, g)
        return loss

    def value_and_grad(self, *batch: Any) -> tuple[float, Any]:
        """The mean loss, and its gradient as an array in the order of the parameters."""
        loss, self.outputs, gradient = self._results(batch, False)
        return float(loss), gradient

    def evaluate(self, *batch: Any) -> float:
        """The mean loss, without its gradient; `outputs` are set."""
        loss, self.outputs = self._results(batch, True)
        return float(loss)

    def _results(self, batch: tuple[Any, ...], forward: bool) -> list[Any]:
        """The mean loss, the outputs, and unless it is `forward` the gradient."""
        values = self.plan.values
        if self._families:
            loss, _, *gradient = self._families.results(values, self._examples(*batch), forward)
            return [loss, None, *gradient]
        assert self._pairs is not None
        rows, n = self.rows_of(*batch), self._pairs.inputs
        of_tuples = isinstance(batch[0], list) and isinstance(batch[0][0], tuple)
        examples = Rows(batch[0] if of_tuples else rows[:, :n], list(plain(batch[1])))
        results = self._first.results(values, rows, examples, forward)
        if self._first.may_spoil(results):
            with suppress(DomainError):  # which a program does not raise
                loss, outputs, *gradient = self._first.eagerly(examples, forward)
                return [loss, require_numpy().array(outputs), *gradient]
        return results

    def _examples(self, *batch: Any) -> list[Any]:
        """The examples of a batch. Raises InputError, and OperandError for what is no list."""
        if len(batch) != 1:
            raise InputError(f"a step takes a list of examples, got {len(batch)} arguments")
        examples = plain(batch[0])
        if not isinstance(examples, (list, tuple)):
            raise OperandError(f"a step takes a list of examples, got {examples!r:.60}")
        if not examples:
            raise InputError("a step takes a list of examples, and this one is empty")
        assert self._families is not None
        if self._families.are_lists and all(isinstance(x, (int, float)) for x in examples):
            raise InputError(
                f"a step takes a list of examples, and {examples[0]!r} is no list, as the example "
                "is that was traced: for one alone it is step([example])"
            )
        return list(examples)

    def arrays(self, *batch: Any) -> tuple[Any, Any]:
        """What `function` takes: the parameters' numbers, and a row for each example.

        With backend "jax" both are dicts of arrays, named and shaped as in the source; those of the
        examples have the batch's axis in front.
        """
        values = self.plan.values
        if self._families:
            rows = self._families.rows(self._examples(*batch))
        else:
            rows = self.rows_of(*batch)
        if not self.plan.jax:
            return values, rows
        from . import xla

        of_examples = xla.named(rows, self._first.ways[0].examples)
        return xla.named(values, self.plan.weights), of_examples

    def rows_of(self, *batch: Any) -> Any:
        """A row for each example of a step of a model, its inputs before its targets."""
        if isinstance(batch[0], Prepared):
            return batch[0].rows
        assert self._pairs is not None
        if len(batch) != 2:
            raise InputError(f"a step of a model takes rows X and targets y, got {len(batch)}")
        X, y = batch
        if not hasattr(y, "__len__"):
            raise OperandError(f"a step takes a list of targets, got {y!r:.60}")
        row, count = self._pairs.row, self._pairs.inputs
        targets = as_floats([row(t) for t in y])
        inputs = as_floats(X)
        if inputs.ndim == 1:
            inputs = inputs[:, None]
        if inputs.shape != (len(targets), count) or not len(targets):
            raise InputError(
                f"a step takes rows of {count} numbers and a target for each; got X "
                f"of shape {inputs.shape} and {len(targets)} targets"
            )
        if isinstance(X, (list, tuple, require_numpy().ndarray)):
            for example in self._pairs.unlike(X, y):
                self._first.admit(example)
        return self._first.checked(require_numpy().concatenate([inputs, targets], axis=1))

    def report(self) -> Report:
        """How examples are computed, in numbers."""
        return Report(self._first.ways[0].gradient, self._families or self._first)

    def equations(self) -> str:
        """The program as LaTeX, an `aligned` environment with one equation a statement.

        What is of the parameters is of the sum over the examples, where the step has the mean (with
        backend "jax" of the mean, too); ∇θ[...] is a part of the gradient that is of no one array.
        Raises InputError for loops.
        """
        return equations(self._first.ways[0].gradient.printed)


@overload
def compile_step(
    model: Callable[[Any], Any],
    loss: Callable[[Any, Any], Value],
    example: tuple[Sequence[float], Any],
    parameters: Sequence[Value] | None = None,
    *,
    backend: str = "numpy",
    dtype: str = "float64",
    devices: int | None = None,
) -> Step: ...
@overload
def compile_step(
    loss: Callable[..., Value],
    parameters: Any,
    example: Any,
    *,
    static: Collection[int] = (),
    backend: str = "numpy",
    dtype: str = "float64",
    devices: int | None = None,
) -> Step: ...
def compile_step(
    *arguments: Any,
    static: Collection[int] = (),
    backend: str = "numpy",
    dtype: str = "float64",
    devices: int | None = None,
    **named: Any,
) -> Step:
    """Trace the loss of one example; the step then takes batches of any size.

    `compile_step(loss, parameters, example)` is for any loss: `example` is a number, or a list of
    numbers and lists, and the loss is `loss(example)`; where it is a tuple, `loss(*example)`. The
    parameters are Values in lists or dicts, nested as you like, whose keys name the arrays of the
    program; those in a list are named as the lists and dicts are that the loss has them in.
    `step(batch)` takes a list of examples. They may be of other lengths: the program of a longer
    example serves a shorter one where its loss has the terms of the shorter one's among its own, as
    that of a causal model has (trace the longest that you have); other lengths have programs of
    their own, made when the first such example comes. Arguments at the places `static`, which are
    not numbers, are handed over as they are, and there is a program for each.

    `compile_step(model, loss, example, parameters=None)` is for an example (x, y), a row of numbers
    and a target, and `loss(model(x), y)`; `step(X, y)` takes rows and targets. The parameters are
    those of the model, a Module, if none are named. `losses.cross_entropy` takes its label as a row
    of zeros with a one.

    Numbers of the example become Values, and results equal the eager engine's to rounding, whatever
    the examples. (Those of NumPy's narrow types, such as uint8, are doubles here, where eagerly two
    of them overflow or round as NumPy's do.) By `take` a number of the example chooses from a list.
    Branches on comparisons of Values are followed: see `Step`. What is detached, or computed under
    `no_grad`, is computed anew in each step, as a constant. Refused are uses of a number, such as
    `.data`, or an index, by the line of yours that does it, random numbers, iterators, a call that
    changes a number of its own (an attribute, a variable), or its example, an error of the
    library's that it catches, and whatever else differs when the example is traced a second time,
    or from what the engine makes of its plain numbers. The last comparison is made again where a
    kind of number comes, such as int, that an argument has not had before. A Value that is no
    parameter, of another network say, is a constant: once it has another number the step raises
    TraceError. What else changes only later, such as an attribute that a callback sets, remains as
    it was traced: `step.check()` traces again and raises TraceError if it has changed, as `fit`
    does after every epoch.

    With `backend="numba"` examples are computed one by one, by loops compiled to machine code (or
    over NumPy, where these are unsuitable). With `backend="jax"` XLA compiles the program, in
    `dtype`, as `compile` says, and each batch is shared out to so many `devices` (one, but with
    several processes all that there are), which need not divide it.

    With `backend="javascript"` the source is a module for browsers and Node, of one function for
    one example, `program(parameters, example)`. It takes the numbers of the step's `parameters`, in
    their order, and those of the example as they come (of a model's, the row before its target),
    and gives `[loss, gradient]`, with a model `[loss, outputs, gradient]`. An example on another
    way through the branches than the one that was traced makes it throw a RangeError. Calling the
    step in Python raises InputError.

    Raises TraceError (a ValueError) where model or loss cannot be followed, what the eager engine
    raises where they refuse the example itself (DomainError, say), and InputError if there are
    fewer devices.
    """
    check_backend(backend, BACKENDS, dtype)
    if backend != "jax" and devices is not None:
        raise InputError("devices are for backend='jax'")
    given = _by_name(arguments, named)
    jax = dtype, devices
    if "model" not in given:
        plan = planned(given["parameters"], backend, jax, given["loss"])
        return Step(Nested(given["loss"], static), given["example"], plan)
    if static:
        raise InputError("static arguments are for compile_step(loss, parameters, example)")
    parameters, labels = _of_model(given["model"], given["parameters"])
    if not parameters:
        raise InputError("compile_step needs parameters to differentiate by")
    plan = Plan(parameters, labels, backend, jax)
    return Step(Pairs(given["model"], given["loss"]), given["example"], plan)


def _by_name(arguments: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    """The arguments of one of the two forms, by their names. Raises OperandError."""
    second = arguments[1] if len(arguments) > 1 else named.get("parameters")
    if isinstance(second, Module):
        raise OperandError("the parameters of a module are needed here: module.parameters()")
    is_pair = "model" in named or (arguments and "loss" in named)
    form = _OF_MODEL if is_pair or (len(arguments) > 1 and callable(second)) else _OF_LOSS
    try:
        given = form.bind(*arguments, **named)
    except TypeError as error:
        raise OperandError(f"compile_step{form}: {error}") from None
    given.apply_defaults()
    return given.arguments


_OF_MODEL = signature(lambda model, loss, example, parameters=None: None)
_OF_LOSS = signature(lambda loss, parameters, example: None)


def _of_model(model: Any, parameters: Any) -> tuple[list[Value], list[str]]:
    """The parameters of a model, or those that are named, with their labels."""
    if parameters is None:
        if not isinstance(model, Module):
            raise InputError("compile_step needs a Module, or the parameters of the model")
        parameters = model.parameters()
    parameters = list(parameters)
    labels = [p.label for p in parameters]
    if isinstance(model, Module) and len(set(labels)) < len(labels):
        paths = {p: path for path, p in model.named_parameters()}
        labels = [paths.get(p, p.label) for p in parameters]
    return parameters, labels
