"""`compile`: a graph of scalars as a program on arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..engine import Value, topological_order
from ..errors import DomainError, InputError, OperandError
from ..gradients import listed
from ..modes import innermost, paused, silences
from ..numerics import number
from .equations import equations
from .execution import (
    Unpicklable,
    as_floats,
    check_backend,
    check_plain,
    defined,
    over_numpy,
    require_numpy,
    unless_nan,
)
from .javascript_source import JavaScriptPrinter, only_read
from .names import input_arrays, single_names
from .straight import emit_straight
from .tape import record

if TYPE_CHECKING:
    from .expressions import Source
    from .numpy_source import NumpyPrinter, Written

Backend = Literal["numpy", "python", "numba", "jax", "javascript"]


def compile(  # noqa: A001 - the name that users of compilers of arrays expect
    outputs: Value | Iterable[Value],
    inputs: Iterable[Value],
    wrt: Iterable[Value] | None = None,
    *,
    backend: Backend = "numpy",
    dtype: str = "float64",
) -> Program:
    """The graph as a program on arrays: values of `inputs` in, `outputs` and gradients out.

    `inputs` are leaves; all other leaves are constants, with the data that they have now, and so
    are the branches that Python took and the numbers that it read when the graph was made. With
    `wrt` the program also gives the gradients of the output with respect to it, by the sweep that
    `grad(..., create_graph=True)` makes graphs with: the compiler knows no calculus. Of several
    outputs it gives a 1-D array, and of their gradients a 2-D one, a row for each. Programs agree
    with the engine to rounding, NaN and infinities included; the sign of a zero may differ, and so
    may what comes of products and sums that overflow in one order only.

    With `backend="jax"` (the extra `jax`) XLA compiles it, and `program.function` is a pure
    function of JAX arrays, for `jax.jit`, `jax.grad`, `jax.vmap` and `jax.export`; in float64,
    which needs JAX's x64 (a call of the program enables it for itself alone), or in
    `dtype="float32"`. The slope of a tanh is then (1 - tanh)·(1 + tanh), as JAX has it: right to
    the rounding of 1, numbers below 2.2e-308 are 0, and constant factors are multiplied first, as
    XLA has them: of (1e-200·x)² nothing is left. An operation of the user's is called back, which
    `jax.grad` and `jax.export` refuse.

    With `backend="javascript"` the source is a module for browsers and Node, with no dependency,
    whose `program(values)` takes and gives arrays: `[output, gradient]`. It runs there; calling the
    program in Python raises InputError. Where the engine raises DomainError it gives NaN or the
    infinity of IEEE 754, as all programs do; an operation of yours needs `numba` or `javascript` in
    its row.

    Raises InputError (a ValueError) for inputs that are no leaves or are given twice, and within
    `no_grad` for an output that may have been computed there, a constant; OperandError (a
    TypeError) for what is not a Value; StaleGraphError (a ValueError) where data was changed since
    a node was made that is differentiated, and TraceError (a ValueError) where an operation of the
    user's is differentiated whose partials are not functions of Values.
    """
    roots, leaves = listed(outputs), listed(inputs)
    targets = None if wrt is None else listed(wrt)
    for value in (*roots, *leaves, *(targets or ())):
        if not isinstance(value, Value):
            raise OperandError(f"compile takes Values, not {value!r:.80}")
    if not roots:
        raise InputError("compile needs an output")
    if innermost(silences) and any(root.op is None and root not in leaves for root in roots):
        raise InputError(
            "within no_grad what is computed is a constant, which no input changes: compute the "
            "outputs outside of it"
        )
    if targets == []:
        raise InputError("wrt is empty: leave it out for a program without gradients")
    check_backend(backend, get_args(Backend), dtype)
    with paused():  # of what is made here, nothing but the tape is left when the collector is back
        return Program(roots, leaves, targets, isinstance(outputs, Value), backend, dtype)


class Program(Unpicklable):
    """A compiled graph. Call it with the values of the inputs; `source` is what then runs.

    `function` is what runs it, without a look at its arguments: from an array (a list, for
    "python") to the output, or the output and its gradient; for "jax" of JAX arrays, and pure.
    `backend` is the one in use: "numpy" where "numba" was asked for, and the graph has operations
    that are not written for Numba (`Op.numba`), or is too irregular to be compiled in seconds.
    """

    source: str
    function: Callable[..., Any]

    def __init__(
        self,
        roots: list[Value],
        inputs: list[Value],
        wrt: list[Value] | None,
        is_single: bool,
        backend: Backend,
        dtype: str,
    ) -> None:
        self._tape = tape = record(roots, inputs, roots=roots if wrt else (), wrt=wrt or ())
        self.backend: Backend = backend
        self.dtype = dtype
        self._inputs = inputs
        self._roots = roots
        self._blocks = [("outputs", 0 if is_single else len(roots))]
        if wrt is not None:
            self._blocks.append(("gradient", len(roots) * len(wrt)))
        self._jacobian = None if wrt is None or is_single else (len(roots), len(wrt))
        self._native: Any = None
        self._printed: Source | None = None  # none of "python" and of "numba"
        self._constants: Any = {}
        self._print(wrt or ())
        tape.number_of.clear()  # all is named: intermediate nodes need not be kept
        tape.adjoint_of.clear()

    def _print(self, wrt: Sequence[Value]) -> None:
        """Write the tape in the language that was asked for."""
        tape, backend, blocks, jacobian = self._tape, self.backend, self._blocks, self._jacobian
        arrays = input_arrays([leaf.label for leaf in self._inputs])
        if backend == "python":
            names = single_names(arrays, tape.inputs)
            self.source, self._constants = emit_straight(tape, names, blocks)
            self.function = defined(self.source, self._constants)
            return
        if backend == "javascript":
            names = single_names(arrays, tape.inputs)
            self.source = JavaScriptPrinter(tape, names).program(blocks, jacobian)
            self.function = only_read
            return
        from .layouts import laid_out
        from .lift import lift
        from .siblings import cut_apart

        arrays = cut_apart(tape, arrays)
        place = {leaf: i for i, leaf in enumerate(self._inputs)}
        derivative_of = {
            output: place[target]
            for output, target in zip(tape.outputs[len(self._roots) :], wrt, strict=False)
            if isinstance(output, int) and target in place and output >= len(place)
        }
        self._np = require_numpy()
        self._lifted = lift(tape, arrays, derivative_of, stacks=backend != "numba")
        if backend == "numba":
            from .native import native

            loses = self._lifted.may_lose
            looped = lift(tape, arrays, derivative_of, padded=False) if loses else self._lifted
            self._native = native(looped, blocks, jacobian)
            if self._native is not None:
                self.source, self.function = self._native.source, self._native.single
                self._single = self.function
                return
            self.backend = "numpy"
        self._laid_out = self._lifted if backend == "jax" else laid_out(self._lifted)
        if backend == "jax":
            from . import xla
            from .jax_source import JaxPrinter

            self._printed, self._exactly = self._written(JaxPrinter)
            self.function = xla.pure(self._printed, self.dtype, self._exactly)
            self._single = self._by_xla()
        else:
            from .numpy_source import NumpyPrinter

            self._printed, self._exactly = self._written(NumpyPrinter)
            self.function = self._single = over_numpy(self._printed, self._exactly)
        self.source, self._constants = self._printed.text, self._printed.constants

    def _written(self, printer: type[NumpyPrinter], shared: int | None = None) -> Written:
        return printer.written(
            self._laid_out, lambda made: made.program(self._blocks, self._jacobian), shared
        )

    def __call__(self, values: Any, check: bool = False) -> Any:
        """The output at the values of the inputs, and with `wrt` its gradient after it.

        `values` has a number for each input, in their order; with two axes, a row of them for each
        example of a batch, and the results have one axis more. With `check` what the eager engine
        refuses is refused, with the DomainError that names the node; otherwise it is NaN or
        infinite as IEEE 754 has it. Raises InputError for values of another shape.
        """
        if self.backend == "javascript":
            self.function(values)
        if self._native is not None and not check and not hasattr(values, "mask"):
            try:
                return self.function(values)
            except self._native.refusals:
                pass  # it is no contiguous array of as many floats, or is a batch: see below
        if self.backend == "python":
            check_plain(values)
            return self._run_python(values, check)
        np = self._np
        if values.__class__ is not np.ndarray or values.dtype != np.float64:
            values = as_floats(values)
        if values.ndim > 2 or values.shape[-1:] != (self._tape.inputs,):
            raise InputError(self._shape_problem(values.shape))
        if check:
            for row in np.atleast_2d(values).tolist():
                self._check(row)
        if self._native is not None:
            values = np.require(values, requirements="CW")
        return self._single(values) if values.ndim == 1 else self._batch(values)

    def _run_python(self, values: Any, check: bool) -> Any:
        if getattr(values, "shape", None) == (0, self._tape.inputs):  # a batch of no examples
            return [] if len(self._blocks) == 1 else ([], [])
        values = listed(values.tolist() if hasattr(values, "tolist") else values)
        if values and isinstance(values[0], (list, tuple)):
            rows = [self._run_python(row, check) for row in values]
            if len(self._blocks) == 1:
                return rows
            return tuple(list(column) for column in zip(*rows, strict=True))
        if len(values) != self._tape.inputs:
            raise InputError(self._shape_problem((len(values),)))
        values = [x if x.__class__ is float else number(x) for x in values]
        if check:
            self._check(values)
        results = self.function(values)
        if self._jacobian is not None:
            m, n = self._jacobian
            flat = results[1]
            return results[0], [flat[i * n : (i + 1) * n] for i in range(m)]
        return results

    @cached_property
    def _batch(self) -> Callable[[Any], Any]:
        """The program for an array of floats with two axes, a row for each example."""
        if self._native is not None:
            return self._native.batch  # type: ignore[no-any-return]
        if self.backend == "jax":
            return self._by_xla(batch=True)
        from .numpy_source import NumpyPrinter

        return over_numpy(*self._written(NumpyPrinter, shared=0))

    def _by_xla(self, batch: bool = False) -> Callable[[Any], Any]:
        """The program compiled by XLA, for a row of values or for many."""
        from . import xla

        def run(source: Source) -> Callable[[Any], Any]:
            return xla.compiled(xla.pure(source, self.dtype), self.dtype, batch)

        assert self._printed is not None
        either = unless_nan(run, self._printed, self._exactly)
        return self._np.errstate(all="ignore")(either)  # type: ignore[no-any-return]

    def _shape_problem(self, shape: tuple[int, ...]) -> str:
        n = self._tape.inputs
        return (
            f"the program takes {n} values, or rows of {n}, in the order of its inputs; "
            f"got shape {shape}"
        )

    def _check(self, values: Sequence[float]) -> None:
        """Evaluate the graph node by node. Raises DomainError, which names the node."""
        data = dict(zip(self._inputs, values, strict=True))
        for node in topological_order(*self._roots, untaken=True):
            if node in data:
                continue
            if node.op is None:
                data[node] = node.data
                continue
            xs = [data[a] if isinstance(a, Value) else a for a in node.operands]
            try:
                data[node] = node.op.evaluate(xs)
            except DomainError as error:
                labels = [a.label if isinstance(a, Value) else "" for a in node.operands]
                raise DomainError(node.op.name, error.domain, xs, labels) from None

    def equations(self) -> str:
        """The program as LaTeX, an `aligned` environment with one equation a statement.

        Raises InputError for loops and for single numbers.
        """
        return equations(self._printed)

    def report(self) -> Report:
        """How the graph was lifted, in numbers."""
        return Report(self)

    def __repr__(self) -> str:
        return f"<Program: {self.report()}>"


class Report:
    """What became of the graph.

    `nodes` of the graph, with the gradient's, and `assignments` of its tape; `statements` of the
    program, `matrix_products` and index `gathers` in them; `bytes` of the program's constants.
    """

    def __init__(self, program: Program) -> None:
        self.backend = program.backend
        self.nodes = program._tape.nodes
        self.assignments = self.statements = len(program._tape.assignments)
        self.matrix_products = self.gathers = 0
        if program._printed is not None:
            self.statements = len(program._printed.assignments)
            self.matrix_products = program._printed.matrix_products
            self.gathers = program._printed.gathers
        elif program.backend == "numba":
            self.statements = len(program._lifted.statements)
        # Of rows in Python it is none; NumPy 1 itself has an `nbytes`.
        self.bytes = sum(getattr(x, "nbytes", 0) for x in program._constants.values())

    def __str__(self) -> str:
        return (
            f"{self.nodes:,} nodes as {self.statements:,} statements for {self.backend}, "
            f"{self.matrix_products} matrix products, {self.gathers} gathers, "
            f"{self.bytes:,} bytes of constants"
        )

    __repr__ = __str__
