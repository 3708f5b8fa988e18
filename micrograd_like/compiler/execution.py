"""Running the sources: over NumPy, and without what NumPy would do to numbers unasked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from contextvars import copy_context
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex

from ..errors import InputError, MissingExtraError, OperandError
from ..numerics import is_masked, number

if TYPE_CHECKING:
    from .expressions import Source


class Unpicklable:
    """A program: it is made where it runs. Pickling and copies raise OperandError."""

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        name = type(self).__name__
        raise OperandError(
            f"a {name} is neither pickled nor copied: hand on the Values that it is made from (a "
            f"model by its save and load), and compile them there; its .source is text"
        )


def check_backend(backend: str, known: Sequence[str], dtype: str) -> None:
    """Raises InputError for one that is not known, MissingExtraError for what is not installed."""
    if backend not in known:
        raise InputError(f"backend is {', '.join(known[:-1])} or {known[-1]}, not {backend!r:.60}")
    if backend != "jax" and dtype != "float64":
        raise InputError(f"{backend} computes in float64; dtype={dtype!r:.60} needs backend='jax'")
    if backend not in ("python", "javascript"):
        require_numpy()
    if backend == "numba":
        try:
            import numba  # noqa: F401 - whether it is there
        except ImportError:
            raise MissingExtraError("numba", "native") from None
    if backend == "jax":
        from .xla import check

        check(dtype)


def require_numpy() -> Any:
    """NumPy. Raises MissingExtraError."""
    try:
        import numpy
    except ImportError:
        raise MissingExtraError("numpy", "compile") from None
    return numpy


def defined(source: str, constants: Mapping[str, Any]) -> Callable[..., Any]:
    """The function `program` that the source defines."""
    space = dict(constants)
    exec(source, space)
    function: Callable[..., Any] = space.pop("program")  # which holds the space: no cycle
    return function


def over_numpy(source: Source, exactly: Callable[[], Source] | None = None) -> Callable[..., Any]:
    """The program; it warns of nothing that the eager engine does not warn of.

    Where it gives NaN, what `exactly` prints is computed instead, if there is that.
    """
    np = require_numpy()

    def run(source: Source) -> Callable[..., Any]:
        return defined(source.text, {**source.constants, "np": np})

    function = unless_nan(run, source, exactly)
    if int(np.__version__.split(".")[0]) < 2:
        silent: Callable[..., Any] = np.errstate(all="ignore")(function)
        return silent
    # NumPy 2 keeps what to warn of in the context: a copy of one takes a tenth of errstate's time.
    quiet = copy_context()
    quiet.run(np.seterr, all="ignore")

    @wraps(function)
    def quietly(*arrays: Any) -> Any:
        return quiet.copy().run(function, *arrays)

    return quietly


def unless_nan(
    run: Callable[[Source], Callable[..., Any]],
    source: Source,
    exactly: Callable[[], Source] | None,
) -> Callable[..., Any]:
    """What `run` makes of a source; where that gives NaN, what it makes of the exact one.

    That is printed when it is first needed, if there is one.
    """
    function = run(source)
    if exactly is None:
        return function
    other = cache(lambda: run(exactly()))

    def either(*arguments: Any) -> Any:
        results = function(*arguments)
        return other()(*arguments) if has_nan(results) else results

    return either


def listed(results: Any) -> list[Any]:
    """The results of a program, which may be one alone, as a list."""
    return [*results] if isinstance(results, tuple) else [results]


def has_nan(results: Any) -> bool:
    """Whether there is a NaN in arrays and floats, or lists or dicts of such."""
    if isinstance(results, (tuple, list)):
        return any(map(has_nan, results))
    if isinstance(results, Mapping):
        return any(map(has_nan, results.values()))
    if isinstance(results, float):
        return results != results
    flat = results.reshape(-1)
    total = flat.dot(flat)  # squares: of infinities it is no NaN; a third of the time of isnan
    return bool(total != total)


def are_finite(results: Any) -> bool:
    """Whether all numbers are that, in arrays and floats or lists of such."""
    if isinstance(results, (tuple, list)):
        return all(map(are_finite, results))
    return bool(require_numpy().isfinite(results).all())


def check_plain(values: Any) -> None:
    """Raise OperandError for masked arrays, whose hidden numbers would count, dicts and sets."""
    if is_masked(values) or isinstance(values, (Mapping, Set)):
        raise OperandError(
            f"a program takes numbers in the order of its inputs, not {values!r:.80}"
        )


def as_floats(values: Any) -> Any:
    """The numbers as an array of floats.

    NumPy would parse strings, drop imaginary parts and take None for NaN. Raises OperandError, and
    InputError for integers beyond the floats and rows of unequal lengths.
    """
    np = require_numpy()
    check_plain(values)
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
