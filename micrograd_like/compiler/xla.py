"""Programs over jax.numpy, which XLA compiles, and how they run on devices and in processes.

All that knows JAX is here. A lifted program is a function of arrays already: `XlaEmitter` prints it
without assignments in place, `pure` makes a function of it that JAX's transformations take, and the
sharding of a batch is a constraint on one array, from which XLA derives the collectives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, ClassVar

import numpy as np

from .. import ops
from ..errors import InputError, MissingExtraError, OperandError, ProcessError
from ..ops import Op
from . import arrays
from .emit import Emitter, Piece, Source, _factor, _is_whole, _number
from .form import Array, Indices, Lifted, Statement, Term, View

DTYPES = ("float64", "float32")


def check(dtype: str = "float64") -> None:
    """Raises InputError for another dtype, MissingExtraError without JAX."""
    if dtype not in DTYPES:
        raise InputError(f"dtype is float64 or float32, not {dtype!r:.60}")
    try:
        import jax  # noqa: F401 - whether it is there
    except ImportError:
        raise MissingExtraError("jax", "jax") from None


class XlaEmitter(Emitter):
    """Writes for jax.numpy: nothing is assigned in place, and sums are sums."""

    rows: ClassVar[dict[Op, str]] = {
        **{op: template for op, template in Emitter.rows.items() if op is not ops.step},
        ops.absolute: "@x * np.sign(@x)",  # JAX has abs'(0) = 1
        ops.relu: "jax.nn.relu(@x)",
        ops.sigmoid: "jax.nn.sigmoid(@x)",
        ops.softplus: "jax.nn.softplus(@x)",
        ops.erf: "jax.lax.erf(@x)",
    }

    def __init__(self, lifted: Lifted, *arguments: Any) -> None:
        self.share = lifted.tape.inputs - 1  # of a step: the last input
        super().__init__(lifted, *arguments)
        # The square of a sech beside the tanh of the same is written with that: cosh would take
        # three times as long as all else.
        self.squares: dict[int, str] = {}  # arrays of a sech: the names of their tanh
        tanh_of = dict(_calls(lifted, ops.tanh))
        for argument, sech in _calls(lifted, ops.sech):
            if tanh := tanh_of.get(argument):
                self.squares[sech.number] = tanh.name
        for view in [v for s in self.lifted.statements for v in _unsquared(s)]:
            self.squares.pop(view.array.number, None)
        for output in self.lifted.tape.outputs:
            if isinstance(output, int):
                self.squares.pop(self.lifted.array_of[output].number, None)

    def _finished(self, arguments: str) -> Source:
        source = super()._finished(arguments)
        source.text = re.sub(r"\bnp\.", "jnp.", source.text)
        if self.parameters is not None:
            given = next(array for array, _ in self.lifted.inputs if array.number in self.batched)
            source.text = source.text.replace("len(examples)", f"len({given.name})")
        return source

    def _statement(self, statement: Statement) -> None:
        if statement.result.number not in self.squares:
            super()._statement(statement)

    def _term(self, term: Term, shape: tuple[int, ...]) -> str:
        if (name := self.squares.get(term.left.array.number)) is not None:
            return self._scaled(term.coefficient, f"(1.0 - {name}) * (1.0 + {name})")
        return super()._term(term, shape)

    def _row_function(self, op: Op) -> Callable[..., Any]:
        import jax.numpy as jnp

        return arrays.function(op, jnp) or _called_back(arrays.elementwise(op))

    def _logsumexp(self, text: str) -> str:
        return f"jax.nn.logsumexp({text}, -1)"

    def _new(self, kind: str, arguments: str) -> str:
        return f"np.{kind}({arguments}, dtype)"

    def _summed_along(self, text: str, count: int, axis: int = -1) -> str:
        return f"{_factor(text)}.sum({axis})"

    def _over_examples(self, text: str, axes: int, view: View | None = None) -> str:
        return f"{_factor(text)}.sum(0)"

    def _is_of_examples(self, number: int) -> bool:
        return super()._is_of_examples(number) and number != self.share

    def _take_input(self, array: Array, numbers: Indices, name: str, size: int) -> None:
        if self.parameters is None:
            super()._take_input(array, numbers, name, size)
        elif numbers[0] == self.share:
            self.lines.append(f"{array.name} = 1.0 / len(examples)")
        else:
            self.lines.append(f'{array.name} = {name}["{array.name}"]')

    def _gradient(
        self, outputs: Sequence[int | float], pieces: Sequence[Piece], ends: set[int]
    ) -> None:
        """By the parameters' arrays, each of its shape; its terms have their share of the mean."""
        lines = ["gradient = {"]
        for array, numbers in self.lifted.inputs:
            if numbers[0] >= len(outputs):
                continue
            pieces = self._pieces([outputs[i] for i in numbers])
            if len(pieces) == 1:
                source, positions, places = pieces[0]
                if source is not None:
                    places = places[np.argsort(positions)]
                piece = (source, positions, places)
                text = self._part_of(piece, array.shape, ends)
            else:
                text = f"d_{array.name}_"
                self._assemble(text, array.size, pieces, ends=ends)
                if len(array.shape) != 1:
                    text = f"{text}.reshape({array.shape})"
            lines.append(f'    "{array.name}": {text},')
        self.lines += [*lines, "}"]

    def _assemble(
        self,
        name: str,
        size: int,
        pieces: Sequence[Piece],
        decay: float | None = None,
        ends: set[int] | None = None,
    ) -> None:
        parts = [
            self._part_of(piece, (len(piece[1]),) if len(piece[1]) > 1 else (), ends)
            for piece in pieces
        ]
        stack = "column_stack" if self.batch else "hstack"
        text = f"np.{stack}([{', '.join(parts)}])" if size == 1 or parts[1:] else parts[0]
        order = np.concatenate([positions for _, positions, _ in pieces])
        if not np.array_equal(order, np.arange(size)):
            text = self._item(text, self.batch, self._constant("places", np.argsort(order)))
        self.lines.append(f"{name} = {text}")
        if decay is not None:
            self.lines.append(f"{name} = {_number(decay)} * values + {name}")

    def _part_of(self, piece: Piece, shape: tuple[int, ...], ends: set[int] | None) -> str:
        """A piece as an array of this shape."""
        array, _, places = piece
        if array is None:
            text = self._new("full", f"{shape}, {_number(places)}")
        else:
            text = self._exact(View(array, places.reshape(shape)))
        batched = array is not None and array.number in self.batched
        if self.batch and not batched:
            axes = ", ".join([f"len({self.given})", *map(str, shape)])
            return f"np.broadcast_to({text}, ({axes},))"
        if ends is not None and not (array is not None and array.number in ends):
            return self._totalled(text, array)
        return text


def _calls(lifted: Lifted, op: Op) -> Iterator[tuple[int, Array]]:
    """The numbers of the arrays that a function is taken of as a whole, and its results."""
    for statement in lifted.statements:
        if statement.op is op:
            view = statement.args[0]
            if isinstance(view, View) and _is_whole(view):
                yield view.array.number, statement.result


def _unsquared(statement: Statement) -> list[View]:
    """The views in a statement that are not, as a whole, multiplied by themselves."""
    views = [a for a in statement.args if isinstance(a, View)]
    for term in statement.terms:
        both = [term.left] if term.right is None else [term.left, term.right]
        square = both[0].array is both[-1].array and len(both) == 2
        if not (term.kind == "each" and square and all(map(_is_whole, both))):
            views += both
    return views


def _called_back(elementwise: Callable[..., Any]) -> Callable[..., Any]:
    """A row of the user's, computed by Python in the midst of XLA's program.

    JAX refuses to differentiate or to export it; programs have the derivatives of their own.
    """
    import jax
    import jax.numpy as jnp

    def function(*xs: Any) -> Any:
        xs = tuple(jnp.broadcast_arrays(*xs))
        like = jax.ShapeDtypeStruct(xs[0].shape, xs[0].dtype)

        def computed(*xs: Any) -> Any:
            return np.asarray(elementwise(*map(np.asarray, xs)), like.dtype)

        return jax.pure_callback(computed, like, *xs, vmap_method="expand_dims")

    return function


def pure(source: Source, dtype: str, jacobian: tuple[int, int] | None = None) -> Callable[..., Any]:
    """The program as a pure function of JAX arrays, in one dtype, for any transformation of JAX.

    Raises InputError where JAX would round the numbers: see `compile`.
    """
    import jax
    import jax.numpy as jnp

    space: dict[str, Any] = {
        name: x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x
        for name, x in source.constants.items()
    }
    space |= {"jax": jax, "jnp": jnp, "dtype": np.dtype(dtype)}
    exec(source.text, space)
    program = space["program"]

    def function(*arguments: Any) -> Any:
        results = program(*jax.tree.map(lambda x: _taken(x, dtype), arguments))
        if jacobian is not None:
            results = (results[0], results[1].reshape(jacobian))
        return jax.tree.map(lambda x: jnp.asarray(x, dtype), results)

    return function


def _taken(x: Any, dtype: str) -> Any:
    import jax
    import jax.numpy as jnp

    if dtype == "float64":
        narrow = getattr(x, "dtype", None)
        if narrow is not None and jnp.issubdtype(narrow, jnp.floating) and narrow.itemsize < 8:
            problem = f"this program computes in float64, and was given {narrow}"
        elif jax.dtypes.canonicalize_dtype(np.float64) != np.float64:
            problem = "this program computes in float64, which JAX has switched off"
        else:
            return jnp.asarray(x, dtype)
        raise InputError(
            f"{problem}: say jax.config.update('jax_enable_x64', True) (or `with "
            "jax.enable_x64(True):`) and give it float64, or compile it with dtype='float32'"
        )
    return jnp.asarray(x, dtype)


def compiled(function: Callable[..., Any], dtype: str) -> Callable[..., Any]:
    """The function compiled by XLA, from arrays of NumPy to arrays of NumPy."""
    import jax

    jitted = jax.jit(function)

    def run(*arguments: Any) -> Any:
        with jax.enable_x64(dtype == "float64"):
            return jax.tree.map(lambda x: np.asarray(x)[()], jitted(*arguments))

    return run


def batched(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of one row as a function of many."""
    import jax

    batch: Callable[..., Any] = jax.vmap(function)
    return batch


def sharded(function: Callable[..., Any], dtype: str, count: int | None) -> Callable[..., Any]:
    """`function(values, examples)` with the examples shared out to devices, results everywhere.

    Both are arrays, or dicts of arrays; an axis in front of those of examples is the batch. Batches
    are padded to a multiple of the devices, and cut again inside of the program: which of its rows
    are no examples, XLA knows then, and leaves them out of its sums.
    """
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    devices = _devices(count)
    mesh = Mesh(np.array(devices), ("examples",))
    shared = NamedSharding(mesh, PartitionSpec("examples"))
    everywhere = NamedSharding(mesh, PartitionSpec())

    def step(values: Any, padded: Any, count: int) -> Any:
        examples = jax.tree.map(lambda x: x[:count], padded)
        return function(values, jax.lax.with_sharding_constraint(examples, shared))

    jitted = jax.jit(step, static_argnums=2, out_shardings=everywhere)

    def placed(x: Any, sharding: NamedSharding) -> Any:
        # Each process reads the rows of its own devices only.
        return jax.make_array_from_callback(x.shape, sharding, x.astype(dtype).__getitem__)

    def padded(x: Any) -> Any:
        return np.pad(x, [(0, -len(x) % len(devices)), *[(0, 0)] * (x.ndim - 1)])

    def run(values: Any, examples: Any) -> Any:
        count = len(jax.tree.leaves(examples)[0])
        with jax.enable_x64(dtype == "float64"), _peers():
            values = jax.tree.map(lambda x: placed(x, everywhere), values)
            examples = jax.tree.map(lambda x: placed(padded(x), shared), examples)
            return jax.tree.map(np.asarray, jitted(values, examples, count))

    return run


# Arrays by name: their shapes, and where their numbers are in a flat one.
Layout = Sequence[tuple[str, tuple[int, ...], Sequence[int]]]


def named(flat: Any, layout: Layout) -> dict[str, Any]:
    """The arrays that the last axis of `flat` has in a row."""
    return {
        name: flat[..., _slice(numbers)].reshape((*flat.shape[:-1], *shape))
        for name, shape, numbers in layout
    }


def flattened(arrays: Mapping[str, Any], layout: Layout) -> Any:
    """The arrays in a row: the inverse of `named`."""
    flat = np.empty(sum(x.size for x in arrays.values()), np.result_type(*arrays.values()))
    for name, _, numbers in layout:
        flat[_slice(numbers)] = arrays[name].ravel()
    return flat


def _slice(numbers: Sequence[int]) -> slice | Sequence[int]:
    """Indexing with a slice makes no copy."""
    start, stop = numbers[0], numbers[0] + len(numbers)
    return slice(start, stop) if list(range(start, stop)) == list(numbers) else numbers


def _devices(count: int | None) -> list[Any]:
    """So many devices; of several processes all. Raises InputError if there are fewer."""
    import jax

    every: list[Any] = jax.devices()
    if count is None:
        return every if jax.process_count() > 1 else every[:1]
    if isinstance(count, bool) or not isinstance(count, int):
        raise OperandError(f"devices is a whole number, not {count!r:.60}")
    if not 1 <= count <= len(every) or (jax.process_count() > 1 and count != len(every)):
        there = "there is 1" if len(every) == 1 else f"there are {len(every)}"
        hint = "; XLA_FLAGS=--xla_force_host_platform_device_count=N makes N of a CPU"
        raise InputError(
            f"{count} devices were asked for, and {there}"
            + (hint if every[0].platform == "cpu" else "")
        )
    return every[:count]


# --- several processes ----------------------------------------------------------------------------


def join(coordinator: str, processes: int, process: int, timeout: int) -> None:
    """Join the other processes, before JAX computes anything.

    JAX ends a process, by abort, where the others don't come, or are silent, for so many seconds.
    """
    import jax

    jax.distributed.initialize(
        coordinator,
        processes,
        process,
        initialization_timeout=timeout,
        heartbeat_timeout_seconds=timeout,
    )


def agree(parts: Mapping[str, object]) -> None:
    """Raises InputError on every process if one differs from process 0 in one of the parts."""
    import jax

    if jax.process_count() == 1:
        return
    from jax.experimental.multihost_utils import process_allgather

    digests = [sha256(repr(part).encode()).digest() for part in parts.values()]
    mine = np.array([list(digest) for digest in digests], np.uint8)
    with _peers():
        every = np.asarray(process_allgather(mine))
    for process, other in enumerate(every):
        same = (other == every[0]).all(1)
        differing = [name for name, equal in zip(parts, same, strict=True) if not equal]
        if differing:
            raise InputError(
                f"process {process} differs from process 0 in its {', '.join(differing)}: start "
                "all with the same data and options"
            )


class _peers:  # noqa: N801 - a context
    """What JAX raises within, where a peer is lost, as a ProcessError."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        import jax

        # What the collectives report is a ValueError of a version that does not know the status.
        lost = isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error)
        if lost and jax.process_count() > 1:
            raise ProcessError(
                f"process {jax.process_index()} has lost another process, which ended or cannot "
                "be reached"
            ) from error
