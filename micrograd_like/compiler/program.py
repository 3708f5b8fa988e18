"""`compile`: a graph of scalars as a program on arrays."""

from __future__ import annotations

import html
import keyword
import re
from collections.abc import Iterable, Sequence
from contextvars import copy_context
from functools import wraps
from math import prod
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..engine import Value, topological_order
from ..errors import DomainError, InputError, MissingExtraError, OperandError
from ..gradients import adjoint_graphs, listed
from ..modes import paused
from ..numerics import number
from .equations import equations
from .straight import emit_straight
from .tape import Tape, record, word

if TYPE_CHECKING:
    from .lift import Lifted

Backend = Literal["numpy", "python", "numba", "jax"]


def input_arrays(labels: Sequence[str]) -> list[tuple[str, tuple[int, ...], list[int]]]:
    """Inputs as arrays, by their labels: w[0], w[1], ... are one, and so are a layer's weights.

    Labels that fill a grid of one or two indices make an array; all others are in arrays of their
    own, and those without a label in one called x.
    """
    groups: dict[str, list[tuple[tuple[int, ...], int]]] = {}
    for i, label in enumerate(labels):
        stem, index = _split(label)
        groups.setdefault(stem, []).append((index, i))
    result: list[tuple[str, tuple[int, ...], list[int]]] = []
    names: set[str] = set()
    for stem, members in groups.items():
        indices = [index for index, _ in members]
        axes = len(indices[0])
        alike = all(len(index) == axes for index in indices)
        shape = tuple(len({index[axis] for index in indices}) for axis in range(axes * alike))
        grid = (
            alike
            and axes in (1, 2)
            and min(indices) == (0,) * axes
            and len(set(indices)) == len(indices) == prod(shape)
        )
        if grid:
            numbers = [i for _, i in sorted(members)]
            shape = tuple(n for n in shape if n > 1)  # a row of weights, W3 say, is a vector
            result.append((_identifier(stem, names), shape, numbers))
        elif stem == "":
            numbers = [i for _, i in members]
            shape = (len(numbers),) if len(numbers) > 1 else ()
            result.append((_identifier("x", names), shape, numbers))
        else:
            for index, i in members:
                label = "_".join([stem, *map(str, index)])
                result.append((_identifier(label, names), (), [i]))
    return result


# The patterns below take time quadratic in a label's length.
_LONGEST_PATH = 1000
_INDEX = r"([0-9]{1,9})"


def _split(label: str) -> tuple[str, tuple[int, ...]]:
    """A label's stem and indices: W1 and (3, 1) for layers[0].neurons[3].w[1]."""
    if not isinstance(label, str):
        raise OperandError(f"a label is a str, got {label!r:.60}")
    if len(label) > _LONGEST_PATH:
        return label, ()
    path = re.fullmatch(
        rf"(?:(.*?)\.)??(?:layers\[{_INDEX}\]\.)?neurons\[{_INDEX}\]\.(\w+?)(?:\[{_INDEX}\])*",
        label,
    )
    if path:
        above, layer, neuron, kind, _ = path.groups()
        last = re.findall(rf"\[{_INDEX}\]", label[path.start(4) :])
        stem = "W" if kind == "w" else kind
        if layer is not None:
            stem += str(int(layer) + 1)
        if above is not None:
            stem = f"{above}_{stem}"
        return stem, (int(neuron), *map(int, last))
    path = re.fullmatch(rf"(.*?)((?:\[{_INDEX}\])+)", label, re.DOTALL)
    if path:
        return path[1], tuple(map(int, re.findall(_INDEX, path[2])))
    path = re.fullmatch(rf"(.*?)(?:_|(?<![0-9])){_INDEX}", label, re.DOTALL)
    return (path[1], (int(path[2]),)) if path else (label, ())


# Names that the sources use for other things: constants, functions, results.
_RESERVED = re.compile(
    r"np|jnp|jax|dtype|len|float|values|examples|gradient|outputs|program|ones\d*|places\d+|[ct]\d+(_\d+)*|.*_"
)


def _identifier(stem: str, names: set[str]) -> str:
    """A name that Python accepts and that nothing else has."""
    name = word(stem)
    if not name.isidentifier() or keyword.iskeyword(name) or _RESERVED.fullmatch(name):
        name = f"v_{name.strip('_')}"
        if _RESERVED.fullmatch(name):
            name = "v"
    base, count = name, 1
    while name in names:
        count += 1
        name = f"{base}_{count}"
    names.add(name)
    return name


def compile(  # noqa: A001 - the name that users of compilers of arrays expect
    outputs: Value | Iterable[Value],
    inputs: Iterable[Value],
    wrt: Iterable[Value] | None = None,
    *,
    backend: Backend = "numpy",
    dtype: str = "float64",
) -> Program:
    """The graph as a program on arrays: values of `inputs` in, `outputs` and gradients out.

    `inputs` are leaves; all other leaves are constants. With `wrt` the program also gives the
    gradients of the output with respect to it: the compiler gets them as graphs from
    `grad(..., create_graph=True)`, and knows no calculus. Of several outputs it gives a 1-D array,
    and of their gradients a 2-D one, a row for each. Programs agree with the engine to rounding,
    NaN and infinities included; the sign of a zero may differ, and so may what comes of products
    and sums that overflow in one order only.

    With `backend="jax"` (the extra `jax`) XLA compiles it, and `program.function` is a pure
    function of JAX arrays, for `jax.jit`, `jax.grad`, `jax.vmap` and `jax.export`; in float64,
    which needs JAX's x64 (a call of the program enables it for itself alone), or in
    `dtype="float32"`. The slope of a tanh is then (1 - tanh)·(1 + tanh), as JAX has it: right to
    the rounding of 1. A row of the user's is called back, which `jax.grad` and `jax.export` refuse.

    Raises InputError (a ValueError) for inputs that are no leaves or are given twice, and
    OperandError (a TypeError) for what is not a Value.
    """
    roots, leaves = listed(outputs), listed(inputs)
    targets = None if wrt is None else listed(wrt)
    for value in (*roots, *leaves, *(targets or ())):
        if not isinstance(value, Value):
            raise OperandError(f"compile takes Values, not {value!r:.80}")
    if not roots:
        raise InputError("compile needs an output")
    if targets == []:
        raise InputError("wrt is empty: leave it out for a program without gradients")
    check_backend(backend, get_args(Backend), dtype)
    with paused():
        return _compiled(outputs, roots, leaves, targets, backend, dtype)


def check_backend(backend: str, known: Sequence[str], dtype: str) -> None:
    """Raises InputError for one that is not known, MissingExtraError for what is not installed."""
    if backend not in known:
        raise InputError(f"backend is {', '.join(known[:-1])} or {known[-1]}, not {backend!r:.60}")
    if backend != "jax" and dtype != "float64":
        raise InputError(f"{backend} computes in float64; dtype={dtype!r:.60} needs backend='jax'")
    if backend != "python":
        _numpy()
    if backend == "numba":
        _require_numba()
    if backend == "jax":
        from .xla import check

        check(dtype)


def _compiled(
    outputs: Any,
    roots: list[Value],
    leaves: list[Value],
    targets: list[Value] | None,
    backend: Backend,
    dtype: str,
) -> Program:
    gradients: list[Value] = []
    adjoints: dict[Value, Value] = {}
    for root in roots if targets is not None else ():
        swept = adjoint_graphs(root, targets or ())
        for target in targets or ():
            d = swept.get(target, 0.0)
            gradients.append(d if isinstance(d, Value) else Value(d))
        if len(roots) == 1:
            adjoints = {node: d for node, d in swept.items() if isinstance(d, Value)}
    tape = record([*roots, *gradients], leaves)
    blocks = [("outputs", 0 if isinstance(outputs, Value) else len(roots))]
    if targets is not None:
        blocks.append(("gradient", len(gradients)))
    place = {leaf: i for i, leaf in enumerate(leaves)}
    derivative_of = {
        output: place[target]
        for output, target in zip(tape.outputs[len(roots) :], targets or (), strict=False)
        if isinstance(output, int) and target in place and output >= len(leaves)
    }
    shape = None if targets is None or isinstance(outputs, Value) else (len(roots), len(targets))
    program = Program(tape, leaves, roots, blocks, shape, adjoints, derivative_of, backend, dtype)
    tape.number_of.clear()  # all is named: the gradient's graph need not be kept
    return program


class Program:
    """A compiled graph. Call it with the values of the inputs; `source` is what then runs.

    `function` is what runs it, without a look at its arguments: from an array (a list, for
    "python") to the output, or the output and its gradient; for "jax" of JAX arrays, and pure.
    `backend` is the one in use: "numpy" where "numba" was asked for, and the graph has rows of the
    user's or is too irregular to be compiled in seconds.
    """

    def __init__(
        self,
        tape: Tape,
        inputs: list[Value],
        roots: list[Value],
        blocks: list[tuple[str, int]],
        jacobian: tuple[int, int] | None,
        adjoints: dict[Value, Value],
        derivative_of: dict[int, int],
        backend: Backend,
        dtype: str = "float64",
    ) -> None:
        self.backend: Backend = backend
        self.dtype = dtype
        self._inputs = inputs
        self._roots = roots
        self._blocks = blocks
        self._jacobian = jacobian
        self._tape = tape
        self._arrays = input_arrays([leaf.label for leaf in inputs])
        self._lifted: Any = None
        self._exact: Any = None
        self._batched: Any = None
        self._native: Any = None
        self._np: Any = None
        self._constants: dict[str, Any] = {}
        if backend == "python":
            names = _input_names(self._arrays, tape.inputs)
            self.source, constants = emit_straight(tape, names, blocks)
        else:
            self._np = _numpy()
            from .emit import emit
            from .lift import lift

            self._lifted = lift(tape, self._arrays, derivative_of)
            _name_arrays(self._lifted, adjoints)
            if backend == "numba":
                from .native import native

                self._native = native(self._lifted, blocks, jacobian)
                if self._native is not None:
                    self.source, self.function = self._native.source, self._native.single
                    return
                self.backend = "numpy"
            if backend == "jax":
                from . import xla

                source = emit(self._lifted, blocks, exact=True, emitter=xla.XlaEmitter)
                self.source, self._constants = source.text, source.constants
                self.function = xla.pure(source, dtype, jacobian)
                self._run = xla.compiled(self.function, dtype)
                return
            source = emit(self._lifted, blocks)
            self.source, constants = source.text, source.constants
            self._masked = source.masked
            constants["np"] = _numpy()
        self._constants = constants
        self.function = _executed(self.source, constants)

    def __call__(self, values: Any, check: bool = False) -> Any:
        """The output at the values of the inputs, and with `wrt` its gradient after it.

        `values` has a number for each input, in their order; with two axes, a row of them for each
        example of a batch, and the results have one axis more. With `check` what the eager engine
        refuses is refused, with the DomainError that names the node; otherwise it is NaN or
        infinite as IEEE 754 has it. Raises InputError for values of another shape.
        """
        if self._native is not None and not check:
            try:
                return self.function(values)
            except self._native.refusals:
                pass  # it is no contiguous array of as many floats, or is a batch: see below
        if self.backend == "python":
            return self._run_python(values, check)
        np = self._np
        if values.__class__ is not np.ndarray or values.dtype != np.float64:
            values = as_floats(values)
        if values.shape != (self._tape.inputs,):
            if values.ndim == 2 and values.shape[1] == self._tape.inputs:
                return self._run_batch(values, check)
            raise InputError(self._shape_problem(values.shape))
        if check:
            self._check(values.tolist())
        if self._native is not None:
            return self.function(np.require(values, requirements="CW"))
        if self.backend == "jax":
            return self._run(values)
        results = self.function(values)
        if self._masked and _is_nan(results, self._blocks):
            results = self._exactly()(values)
        return self._shaped(results)

    def _run_python(self, values: Any, check: bool) -> Any:
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

    def _run_batch(self, values: Any, check: bool) -> Any:
        np = _numpy()
        if check:
            for row in values.tolist():
                self._check(row)
        if self._native is not None:
            return self._native.batch(np.require(values, requirements="CW"))
        if self.backend == "jax":
            if self._batched is None:
                from . import xla

                self._batched = xla.compiled(xla.batched(self.function), self.dtype)
            return self._batched(values)
        if self._batched is None:
            from .emit import emit

            source = emit(self._lifted, self._blocks, batched=True, exact=True)
            self._batched = _executed(source.text, {**source.constants, "np": np})
        return self._shaped(self._batched(values), len(values))

    def _exactly(self) -> Any:
        if self._exact is None:
            from .emit import emit

            source = emit(self._lifted, self._blocks, exact=True)
            self._exact = _executed(source.text, {**source.constants, "np": _numpy()})
        return self._exact

    def _shaped(self, results: Any, *batch: int) -> Any:
        if self._jacobian is None:
            return results
        return results[0], results[1].reshape(*batch, *self._jacobian)

    def _shape_problem(self, shape: tuple[int, ...]) -> str:
        n = self._tape.inputs
        return (
            f"the program takes {n} values, or rows of {n}, in the order of its inputs; "
            f"got shape {shape}"
        )

    def _check(self, values: Sequence[float]) -> None:
        """Evaluate the graph node by node. Raises DomainError, which names the node."""
        data = dict(zip(self._inputs, values, strict=True))
        for node in topological_order(*self._roots):
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

        Raises InputError for the loops of Numba.
        """
        if self._native is not None:
            raise InputError("loops are no equations: compile with backend='numpy' to get them")
        return equations(self.source)

    def _repr_html_(self) -> str:
        return highlighted(self.source)

    def report(self) -> Report:
        """How the graph was lifted, in numbers."""
        return Report(self)

    def __repr__(self) -> str:
        return f"<Program: {self.report()}>"


class Report:
    """What became of the graph.

    `nodes` of the graph, with the gradient's, and `assignments` of its tape; `statements` of the
    source, `matrix_products` and index `gathers` in it; `bytes` of its constants.
    """

    def __init__(self, program: Program) -> None:
        self.backend = program.backend
        self.nodes = program._tape.nodes
        self.assignments = len(program._tape.assignments)
        self.statements = len(program.source.splitlines()) - 2
        self.matrix_products = len(re.findall(r" @ (?!ones|values)", program.source)) - len(
            re.findall(r"ones\d* @ ", program.source)
        )
        self.gathers = len(re.findall(r"\[(?::, )?places\d+\]|take\(places\d+\)", program.source))
        constants = {**program._constants, "np": None}  # NumPy 1 has an `nbytes` of its own
        self.bytes = sum(getattr(x, "nbytes", 0) for x in constants.values())

    def __str__(self) -> str:
        return (
            f"{self.nodes:,} nodes as {self.statements:,} statements for {self.backend}, "
            f"{self.matrix_products} matrix products, {self.gathers} gathers, "
            f"{self.bytes:,} bytes of constants"
        )

    __repr__ = __str__


def _executed(source: str, constants: dict[str, Any]) -> Any:
    """The function that the source defines. Over NumPy, it warns of nothing that eager does not."""
    space = dict(constants)
    exec(source, space)
    function = space.pop("program")  # which holds the space: no cycle
    if "np" not in space:
        return function
    np = space["np"]
    if int(np.__version__.split(".")[0]) < 2:
        return np.errstate(all="ignore")(function)
    # NumPy 2 keeps what to warn of in the context: a copy of one takes a tenth of errstate's time.
    quiet = copy_context()
    quiet.run(np.seterr, all="ignore")

    @wraps(function)
    def quietly(*arrays: Any) -> Any:
        return quiet.copy().run(function, *arrays)

    return quietly


def highlighted(source: str) -> str:
    """The source as HTML that shows everywhere, with names of functions and numbers set off."""
    text = html.escape(source, quote=False)
    text = re.sub(r"\b(def|return)\b", r'<b style="color:#8250df">\1</b>', text)
    text = re.sub(r"\b(j?np\.\w+|jax(?:\.\w+)+)", r'<span style="color:#0550ae">\1</span>', text)
    text = re.sub(r" (@) ", r' <b style="color:#bc4c00">\1</b> ', text)
    style = "font-family:monospace;line-height:1.35;overflow-x:auto"
    return f'<pre style="{style}">{text}</pre>'


def _numpy() -> Any:
    """Raises MissingExtraError."""
    try:
        import numpy
    except ImportError:
        raise MissingExtraError("numpy", "compile") from None
    return numpy


def _require_numba() -> None:
    """Raises MissingExtraError."""
    try:
        import numba  # noqa: F401 - whether it is there
    except ImportError:
        raise MissingExtraError("numba", "native") from None


def as_floats(values: Any) -> Any:
    """The numbers as an array of floats.

    NumPy would parse strings, drop imaginary parts and take None for NaN. Raises OperandError, and
    InputError for integers beyond the floats and rows of unequal lengths.
    """
    np = _numpy()
    try:
        array = np.asarray(values)
    except ValueError:
        raise InputError(f"rows of equal lengths are needed, got {values!r:.80}") from None
    if array.dtype.kind == "O":
        return np.array([number(x) for x in array.flat], dtype=float).reshape(array.shape)
    if array.dtype.kind not in "biuf":
        raise OperandError(f"a program takes numbers, not {values!r:.80}")
    with np.errstate(over="ignore"):  # NumPy's longest floats have more range
        return array.astype(float)


def _is_nan(results: Any, blocks: Sequence[tuple[str, int]]) -> bool:
    first = results if len(blocks) == 1 else results[0]
    return bool(first != first) if not blocks[0][1] else bool((first != first).any())


def _input_names(arrays: Sequence[tuple[str, tuple[int, ...], list[int]]], count: int) -> list[str]:
    """A name for each input: that of its array, with its place there."""
    names = [""] * count
    for name, shape, numbers in arrays:
        for k, i in enumerate(numbers):
            place: tuple[int, ...] = divmod(k, shape[1]) if len(shape) == 2 else (k,)
            names[i] = "_".join([name, *map(str, place)]) if shape else name
    taken: set[str] = set()
    return [_identifier(name, taken) for name in names]


def _numbered(names: set[str]) -> str:
    name = f"t{len(names)}"
    names.add(name)
    return name


def _name_arrays(lifted: Lifted, adjoints: dict[Value, Value]) -> None:
    """Names from labels; Z for a layer's sums, A for its activations, d before what it is of."""
    names = {array.name for array, _ in lifted.inputs}
    number_of = lifted.tape.number_of
    labels: dict[int, set[str]] = {}
    adjoint_of: dict[int, dict[int, int]] = {}
    for node, place in number_of.items():
        if node.op is not None and node.label != "":
            array = lifted.array_of[place]
            stem, _ = _split(node.label)
            label = stem if len(array.members) > 1 else node.label
            labels.setdefault(array.number, set()).add(label)
    for node, adjoint in adjoints.items():
        if node in number_of and adjoint in number_of:
            primal = lifted.array_of[number_of[node]].number
            dual = lifted.array_of[number_of[adjoint]].number
            counts = adjoint_of.setdefault(dual, {})
            counts[primal] = counts.get(primal, 0) + 1
    arrays = {array.number: array for array in lifted.array_of}
    for statement in lifted.statements:
        result = statement.result
        name = ""
        if len(stems := labels.get(result.number, set())) == 1:
            name = next(iter(stems))
        elif result.number in adjoint_of:
            counts = adjoint_of[result.number]
            primal = max(counts, key=lambda k: counts[k])
            if counts[primal] == result.size and arrays[primal].name:
                name = f"d{arrays[primal].name}"
        if not name and statement.op is None:
            weights = [
                view.array.name
                for term in statement.terms
                if term.kind == "matmul"
                for view in (term.left, term.right)
                if view is not None and re.fullmatch(r"\w*W\d+", view.array.name)
            ]
            if len(weights) == 1:
                name = weights[0].replace("W", "Z")
                name = "" if name in names else name
        if not name and statement.op is not None and len(statement.args) == 1:
            (argument,) = statement.args
            if hasattr(argument, "array") and argument.array.name.startswith("Z"):
                name = argument.array.name.replace("Z", "A")
                name = "" if name in names else name
        result.name = _identifier(name, names) if name else _numbered(names)
