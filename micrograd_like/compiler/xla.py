"""How programs over jax.numpy run: compiled by XLA, on devices and in processes.

`jax_source.py` prints a lifted program without assignments in place. Here `pure` makes a function
of it that JAX's transformations take. The sharding of a batch is a constraint on its arrays, from
which XLA derives the collectives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from ..errors import InputError, MissingExtraError, OperandError, ProcessError
from ..optim import Library
from .expressions import Source
from .tape import InputArray

try:
    import numpy as np
except ImportError:  # then JAX, which needs it, is not there either
    raise MissingExtraError("jax", "jax") from None

DTYPES = ("float64", "float32")


def check(dtype: str = "float64") -> None:
    """Raises InputError for another dtype, MissingExtraError without JAX."""
    if dtype not in DTYPES:
        raise InputError(f"dtype is float64 or float32, not {dtype!r:.60}")
    try:
        import jax  # noqa: F401 - whether it is there
    except ImportError:
        raise MissingExtraError("jax", "jax") from None


def pure(
    source: Source, dtype: str, exactly: Callable[[], Source] | None = None
) -> Callable[..., Any]:
    """The program as a pure function of JAX arrays, in one dtype, for any transformation of JAX.

    Where it gives NaN, what `exactly` prints is computed instead, if there is that.

    Raises InputError where JAX would round the numbers: see `compile`.
    """
    import jax
    import jax.numpy as jnp

    def results(program: Callable[..., Any], arguments: Any) -> Any:
        return jax.tree.map(lambda x: jnp.asarray(x, dtype), program(*arguments))

    # To look at all results would take a tenth of the time of a GPT's step.
    watches = exactly is not None and len(source.watched) > 0
    program = _defined(source.watching if watches else source, dtype)
    others: list[Callable[..., Any]] = []

    def function(*arguments: Any) -> Any:
        arguments = jax.tree.map(lambda x: _taken(x, dtype), arguments)
        found = results(program, arguments)
        if exactly is None:
            return found
        if not others:
            others.append(_defined(exactly(), dtype))
        found, watched = found if watches else (found, found)
        unknown = sum(jnp.isnan(x).any() for x in jax.tree.leaves(watched)) > 0
        return jax.lax.cond(unknown, lambda: results(others[0], arguments), lambda: found)

    return function


def _defined(source: Source, dtype: str) -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp

    space: dict[str, Any] = {
        name: x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x
        for name, x in source.constants.items()
    }
    space |= {"jax": jax, "jnp": jnp, "dtype": np.dtype(dtype)}
    exec(source.text, space)
    program: Callable[..., Any] = space.pop("program")
    return program


def _taken(x: Any, dtype: str) -> Any:
    import jax
    import jax.numpy as jnp

    given = getattr(x, "dtype", None)
    narrow = given is not None and jnp.issubdtype(given, jnp.floating) and given.itemsize < 8
    off = jax.dtypes.canonicalize_dtype(np.float64) != np.float64
    if dtype == "float64" and (narrow or off):
        problem = f"and was given {given}" if narrow else "which JAX has switched off"
        raise InputError(
            f"this program computes in float64, {problem}: say jax.config.update("
            "'jax_enable_x64', True) (or `with jax.enable_x64(True):`) and give it float64, or "
            "compile it with dtype='float32'"
        )
    return jnp.asarray(x, dtype)


def compiled(function: Callable[..., Any], dtype: str, batch: bool = False) -> Callable[..., Any]:
    """The function compiled by XLA, from arrays of NumPy to arrays of NumPy; of a row, or many."""
    import jax

    jitted = jax.jit(jax.vmap(function) if batch else function)

    def run(*arguments: Any) -> Any:
        with jax.enable_x64(dtype == "float64"):
            return jax.tree.map(lambda x: np.asarray(x)[()], jitted(*arguments))

    return run


class _Devices:
    """So many devices, which share out the examples of a batch, and each have all else.

    Batches are padded to a multiple of the devices, and cut again inside of the program: which of
    its rows are no examples, XLA knows then, and leaves them out of its sums.
    """

    def __init__(self, dtype: str, count: int | None) -> None:
        from jax.sharding import Mesh, NamedSharding, PartitionSpec

        self._dtype = dtype
        devices = _devices(count)
        self._count = len(devices)
        mesh = Mesh(np.array(devices), ("examples",))
        self._shared = NamedSharding(mesh, PartitionSpec("examples"))
        self.everywhere = NamedSharding(mesh, PartitionSpec())

    def _placed(self, x: Any, sharding: Any) -> Any:
        import jax

        # Each process reads the rows of its own devices only.
        return jax.make_array_from_callback(x.shape, sharding, x.astype(self._dtype).__getitem__)

    def everywhere_of(self, arrays: Any) -> Any:
        """The arrays, on each device."""
        import jax

        return jax.tree.map(lambda x: self._placed(x, self.everywhere), arrays)

    def shares_of(self, examples: Any) -> Any:
        """The examples, padded, a share on each device."""
        import jax

        def padded(x: Any) -> Any:
            return np.pad(x, [(0, -len(x) % self._count), *[(0, 0)] * (x.ndim - 1)])

        return jax.tree.map(lambda x: self._placed(padded(x), self._shared), examples)

    def cut(self, padded: Any, count: int) -> Any:
        """Inside of a program, so many examples."""
        import jax

        examples = jax.tree.map(lambda x: x[:count], padded)
        return jax.lax.with_sharding_constraint(examples, self._shared)


def sharded(function: Callable[..., Any], dtype: str, count: int | None) -> Callable[..., Any]:
    """`function(values, examples)` with the examples shared out to devices, results everywhere.

    Both are arrays, or dicts of arrays; an axis in front of those of examples is the batch.
    """
    import jax

    devices = _Devices(dtype, count)

    def step(values: Any, padded: Any, count: int) -> Any:
        return function(values, devices.cut(padded, count))

    jitted = jax.jit(step, static_argnums=2, out_shardings=devices.everywhere)

    def run(values: Any, examples: Any) -> Any:
        count = len(jax.tree.leaves(examples)[0])
        with jax.enable_x64(dtype == "float64"), _peers():
            placed = devices.everywhere_of(values), devices.shares_of(examples)
            return jax.tree.map(np.asarray, jitted(*placed, count))

    return run


class Learning:
    """A step of an optimizer, around a program and in one piece with it.

    Its states are arrays on the devices: the parameters in the first row, what the rule remembers
    in those after it. `moved` makes the rows of the next state from factors, the parameters, their
    gradient, and the rows of memory.
    """

    def __init__(
        self,
        source: Source,
        layout: Sequence[InputArray],
        jax: tuple[str, int | None],
        moved: Callable[..., Any],
    ) -> None:
        import jax as library
        import jax.numpy as jnp

        self._dtype, count = jax
        self._devices = devices = _Devices(self._dtype, count)
        function = pure(source, self._dtype)
        order = np.concatenate([np.array(numbers) for _, _, numbers in layout])
        places = None if np.array_equal(order, np.arange(len(order))) else np.argsort(order)

        def norm(gradient: Any) -> Any:
            peak = jnp.abs(gradient).max()
            scale = jnp.where(peak > 0.0, peak, 1.0)
            return scale * jnp.sqrt(((gradient / scale) ** 2).sum())

        of = Library(lambda f, *columns: f(*columns), jnp.sqrt, norm, jnp.minimum)

        def step(before: Any, now: Any, padded: Any, factors: Any, count: int) -> Any:
            values = named(now[0], layout)
            loss, *outputs, by_name = function(values, devices.cut(padded, count))
            gradient = jnp.concatenate([by_name[name].ravel() for name, _, _ in layout])
            if places is not None:
                gradient = gradient[places]
            new = jnp.stack(moved(of, factors, now[0], gradient, [*now[1:]]))
            fine = jnp.isfinite(loss) & jnp.isfinite(new[0]).all()
            told = jnp.stack([loss, fine.astype(loss.dtype)])
            return jnp.where(fine, new, before), gradient, told, outputs

        self._jitted = library.jit(
            step, static_argnums=4, donate_argnums=0, out_shardings=devices.everywhere
        )

    def placed(self, rows: Any) -> Any:
        """A state with these rows."""
        import jax

        with jax.enable_x64(self._dtype == "float64"):
            return self._devices.everywhere_of(np.stack(rows))

    def __call__(
        self, before: Any, now: Any, examples: Any, factors: Any
    ) -> tuple[Any, Any, float, bool, Any]:
        """The next state, which is in the place of `before`, the gradient, the loss, and outputs.

        Where loss or parameters are not finite, which the fourth result says, it is `before`.
        """
        import jax

        count = len(jax.tree.leaves(examples)[0])
        with jax.enable_x64(self._dtype == "float64"), _peers():
            shares = self._devices.shares_of(examples)
            new, gradient, told, outputs = self._jitted(before, now, shares, factors, count)
            loss, fine = np.asarray(told).tolist()
            return new, gradient, loss, bool(fine), [np.asarray(x) for x in outputs]


def named(flat: Any, layout: Sequence[InputArray]) -> dict[str, Any]:
    """The arrays that the last axis of `flat` has in a row."""
    return {
        name: flat[..., _slice(numbers)].reshape((*flat.shape[:-1], *shape))
        for name, shape, numbers in layout
    }


def flattened(arrays: Mapping[str, Any], layout: Sequence[InputArray]) -> Any:
    """The arrays in a row: the inverse of `named`."""
    flat = np.empty(sum(x.size for x in arrays.values()), np.result_type(*arrays.values()))
    for name, _, numbers in layout:
        flat[_slice(numbers)] = arrays[name].ravel()
    return flat


def _slice(numbers: Sequence[int]) -> Any:
    """Indexing with a slice makes no copy."""
    start, stop = numbers[0], numbers[0] + len(numbers)
    return slice(start, stop) if list(range(start, stop)) == list(numbers) else np.array(numbers)


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
        coordinator_bind_address=coordinator,  # instead of all interfaces
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
