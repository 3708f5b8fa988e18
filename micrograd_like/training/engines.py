"""How a batch is computed: by a loss, node by node, or compiled to a program on arrays.

`Eager` and `Compiled` have the same methods, so that the loop in `fit` need not know which it has.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from .. import losses
from ..engine import Value, numbers_of, set_slot_of_grad
from ..errors import DomainError, InputError, MicrogradError, OperandError, TraceError, warn
from ..modes import tracing
from ..nn import CALLS
from ..numerics import flat, number, plain
from ..optim import Optimizer
from ..words import meant
from .batches import Batch, Examples, Usable

if TYPE_CHECKING:
    from ..compiler import Step
    from ..compiler.descent import Descent

ENGINES = ("eager", "compiled", "numba", "jax")
_BACKENDS = {"compiled": "numpy"}  # of `compile_step`; the others have the engine's name

Engine: TypeAlias = "Eager | Compiled"


class Loss(NamedTuple):
    """A loss with a name: `of(output, target)` for one example, and which outputs hit a target.

    A loss of whole examples takes one, or where that is a tuple, what is in it.
    """

    of: Callable[..., Value]
    hits: Callable[[list[float], Any], bool] | None

    def right(self, outputs: Any, targets: Sequence[Any]) -> int:
        """How many outputs, lists of floats or rows of an array, are taken for their targets."""
        if self.hits is None:
            return 0
        return sum(map(self.hits, plain(outputs), targets))

    def usable(self, model: Callable[[Any], Any]) -> Usable:
        """A function that leaves out the examples whose label cross_entropy ignores.

        It lets a named loss see the other targets, on numbers, before any step is made.
        """
        ignored, outputs = None, list[Any]()  # of the model one, for all targets
        if self.of is losses.cross_entropy or _is_of_cross_entropy(self.of):
            ignored = number(getattr(self.of, "keywords", {}).get("ignore_index", -100))

        def usable(inputs: list[Any], targets: list[Any], places: Sequence[int]) -> Batch:
            kept = [i for i, t in enumerate(targets) if ignored is None or t != ignored]
            for i in kept if self in LOSSES.values() else ():
                if not outputs:
                    outputs.append(_output_of(model, inputs[i]))
                if outputs[0] is None:
                    break
                try:
                    self.of(outputs[0], targets[i])
                except DomainError:  # of a probability of 0 or 1, which the model may not give
                    pass
                except InputError as error:
                    raise InputError(f"y[{places[i]}]: {error}") from None
            return [inputs[i] for i in kept], [targets[i] for i in kept]

        return usable


def _output_of(model: Callable[[Any], Any], x: Any) -> Any:
    """What the model gives for x, called for nothing: what that moves is brought back.

    None where it has an iterator, which nobody could bring back.
    """
    if type(model).__call__ in CALLS:  # of ours, which move nothing
        return model(x)
    from ..compiler.surroundings import Surroundings
    from ..compiler.tracing import Trace

    of_numpy = getattr(sys.modules.get("numpy.random"), "random", None)
    try:
        surroundings = Surroundings(model, random.random, of_numpy)
    except TraceError:
        return None
    trace = Trace(())  # which knows the numbers of Values that are written
    try:
        with tracing(trace):
            return model(x)
    finally:
        trace.bring_back()
        surroundings.bring_back()


def _is_of_cross_entropy(loss: Any) -> bool:
    """Whether it is that loss with other options, by `partial`."""
    return getattr(loss, "func", None) is losses.cross_entropy and not loss.args


def _has_label(out: list[float], target: Any) -> bool:
    """Whether the largest output is at the label, or where a soft target's largest share is.

    Of several labels those that `cross_entropy` ignores may be anything.
    """
    targets = flat(target)
    n = len(out) // len(targets)  # the outputs may be several rows of logits, each with a label
    if n == 1:
        return out.index(max(out)) == targets.index(max(targets))
    rows = [out[i * n : (i + 1) * n] for i in range(len(targets))]
    return all(t in (row.index(max(row)), -100.0) for row, t in zip(rows, targets, strict=True))


def _on_sides(bound: float, middle: float) -> Callable[[list[float], Any], bool]:
    """Whether each output is on the side of a bound that its target has of the middle."""
    return lambda out, target: [x > bound for x in out] == [t > middle for t in flat(target)]


LOSSES = {
    "mse": Loss(losses.mse, None),
    "cross_entropy": Loss(losses.cross_entropy, _has_label),
    "binary_cross_entropy": Loss(losses.binary_cross_entropy, _on_sides(0.5, 0.5)),
    "binary_cross_entropy_with_logits": Loss(
        losses.binary_cross_entropy_with_logits, _on_sides(0.0, 0.5)
    ),
    "hinge": Loss(losses.hinge, _on_sides(0.0, 0.0)),
}


def check_name(kind: str, name: str, names: Collection[str]) -> None:
    """Raises InputError, with the names that there are."""
    if name not in names:
        known = f"there are {', '.join(names)}{meant(name, names)}"
        raise InputError(f"there is no {kind} {name!r:.60}; {known}")


def find_loss(loss: str | Callable[[Any, Any], Value]) -> Loss:
    """The loss of that name, or a function as a loss. Raises InputError."""
    if isinstance(loss, str):
        check_name("loss", loss, LOSSES)
        return LOSSES[loss]
    if not callable(loss):
        raise InputError(f"a loss is a name or a function of output and target, got {loss!r:.60}")
    return next((known for known in LOSSES.values() if known.of is loss), Loss(loss, None))


class Eager:
    """Builds the graph of each batch. It is freed when the method returns, before the next one."""

    def __init__(self, model: Any, loss: Loss, optimizer: Optimizer) -> None:
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.before = optimizer.snapshot()  # the latest step, where the loss was finite
        self.outputs: list[list[float]] = []  # what the model gave for the latest batch

    def __call__(self, *batch: list[Any]) -> float:
        """The mean loss. If it is finite, its gradient is left in the parameters."""
        mean = self.mean(*batch)
        if math.isfinite(mean.data):
            self.optimizer.zero_grad()
            mean.backward()
        return mean.data

    def advance(self, *batch: list[Any]) -> tuple[float, str]:
        """Make a step: the mean loss before it, and what is wrong with it, if anything is.

        It is then to be undone.
        """
        return self.stepped(self(*batch))

    def stepped(self, mean: float) -> tuple[float, str]:
        """The same, where the mean loss is known, and its gradient in the parameters."""
        if not math.isfinite(mean):
            return mean, f"the loss is {mean!r}"
        self.before = self.optimizer.snapshot()
        try:
            self.optimizer.step()
            finite = all(map(math.isfinite, numbers_of(self.optimizer.params)))
        except BaseException:  # Ctrl-C, say, in a rule of the user's
            self.undo()
            raise
        return mean, "" if finite else "the step led to a parameter that is not finite"

    def undo(self) -> None:
        """Go back to the state before the latest step, whose loss was finite."""
        self.optimizer.restore(self.before)

    def evaluate(self, *batch: list[Any]) -> float:
        """The mean loss, without its gradient: the graph of one example at a time.

        They are graphs, not within `no_grad`: a loss may have derivatives in it.
        """
        found, rows = [], []
        for example in zip(*batch, strict=True):
            (term,) = self._terms(*[[x] for x in example])
            found.append(Value(term.data if isinstance(term, Value) else number(term)))
            rows += self.outputs
        self.outputs = rows
        return losses.mean(found).data

    def prepare(self, *sources: Any) -> None:
        """Examples come as they are."""

    def check(self) -> None:
        """Nothing can have changed unnoticed: each batch has a graph of its own."""

    def write(self) -> None:
        """The Values and the optimizer are up to date after each step."""

    def close(self) -> None:
        """There is nothing to leave."""

    def mean(self, *batch: list[Any]) -> Value:
        """The mean loss, of inputs and targets, or of whole examples."""
        return _mean(self._terms(*batch))

    def _terms(self, *batch: list[Any]) -> list[Any]:
        """The loss of each example."""
        if len(batch) == 1:
            of = self.loss.of
            return [of(*x) if isinstance(x, tuple) else of(x) for x in batch[0]]
        outputs, terms = [], []
        for x, target in zip(*batch, strict=True):
            outputs.append(self.model(x))  # of which a model may keep what its loss reads
            terms.append(self.loss.of(outputs[-1], target))
        self.outputs = [[x.data if isinstance(x, Value) else x for x in flat(o)] for o in outputs]
        return terms


def _mean(terms: list[Any]) -> Value:
    """The mean loss. Raises OperandError where that is a plain number, but for max(0, ...) = 0."""
    mean: Any = losses.mean(terms)
    if mean.__class__ in (int, float) and mean == 0.0:
        return Value(0.0)
    if not isinstance(mean, Value):
        raise OperandError(
            f"a loss is a Value, and here a plain number, {mean!r:.60}, of which nothing is "
            "learned: model and loss are not to use .data, and give value_and_grad(f)(x) a Value x"
        )
    return mean


class Compiled:
    """A compiled step, until it cannot follow: then the eager engine, for good, with a warning.

    It learns on arrays, unless the optimizer has a `step` of its own, or a rule for floats alone.
    """

    def __init__(self, step: Step, eager: Eager, on_arrays: bool) -> None:
        self._step: Step | None = step
        self._eager = eager
        self._on_arrays = on_arrays
        self._descent: Descent | None = None

    @property
    def outputs(self) -> Any:
        """What the model gave for the latest batch, a row for each example."""
        return (self._step or self._eager).outputs

    def __call__(self, *batch: list[Any]) -> float:
        """The mean loss. If it is finite, its gradient is left in the parameters."""
        if self._step is None:
            return self._eager(*batch)
        try:
            mean, gradient = self._step.value_and_grad(*batch)
        except TraceError as error:
            return self._without(error)(*batch)
        if math.isfinite(mean):
            self._eager.optimizer.zero_grad()  # the user's own may keep them
            for parameter, g in zip(self._step.parameters, gradient.tolist(), strict=True):
                set_slot_of_grad(parameter, parameter.grad + g)
        return mean

    def advance(self, *batch: list[Any]) -> tuple[float, str]:
        """Make a step: the mean loss before it, and what is wrong with it, if anything is."""
        if self._step is not None and self._descent is None and self._on_arrays:
            self._descent = self._step.training(self._eager.optimizer).__enter__()
        if self._descent is None:
            outcome = self._eager.stepped(self(*batch))
            self.check()  # a step of the user's may change more than the parameters
            return outcome
        try:
            return self._descent.advance(*batch)
        except TraceError as error:
            return self._without(error).advance(*batch)

    def undo(self) -> None:
        """Go back to the state before the latest step, whose loss was finite."""
        (self._descent or self._eager).undo()

    def evaluate(self, *batch: list[Any]) -> float:
        """The mean loss, without its gradient."""
        try:
            return (self._step or self._eager).evaluate(*batch)
        except TraceError as error:
            return self._without(error).evaluate(*batch)

    def prepare(self, *sources: Any) -> None:
        """Let examples that are in memory have the rows of the step, made once."""
        from ..compiler.examples import Prepared

        for source in sources:
            if isinstance(source, Examples) and self._step is not None:
                try:
                    source.prepare(self._step.rows_of, Prepared)
                except MicrogradError as error:  # a target is of another kind than that traced
                    self._without(error)

    def check(self) -> None:
        """Whether model and loss, and the parameters to learn, are those that were compiled."""
        if self._step is not None:
            try:
                if self._step.parameters != self._eager.optimizer.params:
                    raise TraceError("the optimizer has other parameters than it had")
                self.write()  # which changes the optimizer, and the model may have that
                with _undone(self._eager):
                    self._step.check()
            except MicrogradError as error:
                self._without(error)

    def write(self) -> None:
        """Bring the Values and the optimizer up to date."""
        if self._descent is not None:
            self._descent.write()

    def close(self) -> None:
        """Do so for the last time."""
        if self._descent is not None:
            self._eager.before = self._descent.before()
            self._descent.close()
            self._descent = None

    def _without(self, error: MicrogradError) -> Eager:
        if self._step is None:  # it is the eager engine's, for which there is no other
            raise error
        self.close()
        self._step = None
        warn(f"the eager engine goes on from here: {error}")
        return self._eager


def make(name: str, eager: Eager, sample: Batch, devices: int | None) -> Engine:
    """The engine of that name.

    Where the model cannot be compiled, it is the eager one, with a warning. `sample` has examples
    to trace and to compare on: what no trace shows may show there, `isinstance(t, float)` for one.
    """
    if name == "eager":
        return eager
    try:
        with _undone(eager):
            step = _verified(name, eager, sample, devices)
        return Compiled(step, eager, _learns_on_arrays(eager))
    except (TraceError, DomainError) as error:  # where a domain is left, an epoch will say so
        warn(f"not compiled, the eager engine goes on: {error}")
        return eager


def _verified(name: str, eager: Eager, sample: Batch, devices: int | None) -> Step:
    """The step, which computes the sample's loss. Raises TraceError, and what the engine does."""
    from ..compiler import compile_step

    options: Any = {"backend": _BACKENDS.get(name, name), "devices": devices}
    parameters = eager.optimizer.params
    if len(sample) == 2:
        inputs, targets = sample
        example = inputs[0], targets[0]
        of = eager.loss.of
        if _is_of_cross_entropy(of):  # its ignored examples are left out already
            kept = {k: x for k, x in of.keywords.items() if k != "ignore_index"}  # type: ignore[attr-defined]
            of = partial(losses.cross_entropy, **kept)
        step = compile_step(eager.model, of, example, parameters, **options)
    else:
        step = compile_step(eager.loss.of, _named(eager), sample[0][0], **options)
    try:
        mean = step.evaluate(*sample)
    except (InputError, OperandError) as error:  # a target is of another kind than that traced
        eager.mean(*sample)
        raise TraceError(str(error)) from None
    expected = eager.mean(*sample).data
    if not math.isclose(mean, expected, rel_tol=1e-9, abs_tol=1e-12):
        raise TraceError(f"the loss would be {mean!r} for examples where it is {expected!r}")
    return step


def _learns_on_arrays(eager: Eager) -> bool:
    """Whether the optimizer does. Raises TraceError where its schedule changes model or loss."""
    from ..compiler.descent import Reads, surroundings_of, takes_arrays
    from ..compiler.surroundings import Surroundings

    optimizer, of_model = eager.optimizer, Surroundings(eager.model, eager.loss.of)
    try:
        of_optimizer = surroundings_of(optimizer)
    except TraceError:  # it has an iterator, which nobody could bring back
        return takes_arrays(optimizer)
    reads = Reads(optimizer.params)
    try:
        for steps in (0, 1):
            with suppress(Exception), tracing(reads):  # a step will raise it, if there are so many
                optimizer.factors(optimizer.rate(steps), steps)
        of_model.check(computed=())
    except TraceError:
        raise TraceError("the optimizer's schedule changes the model or the loss") from None
    finally:
        of_model.bring_back()
        of_optimizer.bring_back()
        reads.bring_back()
    return not reads.found and takes_arrays(optimizer)


@contextmanager
def _undone(eager: Eager) -> Iterator[None]:
    """Afterwards model and loss are as before: they were called for nothing.

    What they keep of such a call, `self.x = x`, would be taken for parameters. Raises TraceError
    where they changed something, though no step was refused.
    """
    from ..compiler.surroundings import Surroundings

    surroundings = Surroundings(eager.model, eager.loss.of)
    try:
        yield
        surroundings.check()
    finally:
        surroundings.bring_back()


def _named(eager: Eager) -> Any:
    """The parameters to learn, by the names of the arrays: their labels, or else their paths.

    Where there are neither, in a list, they are named as the loss names them.
    """
    parameters = eager.optimizer.params
    if len({p.label for p in parameters}) == len(parameters):
        return parameters
    paths = {p: path for path, p in eager.model.named_parameters()}
    if not any(p.label or paths[p][0] != "[" for p in parameters):
        return parameters
    return {paths[p]: p for p in parameters}
