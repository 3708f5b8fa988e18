"""The lifted program as loop nests over floats, compiled by Numba: backend "numba".

Statements over one shape, each of which needs of the others only its own element, are one nest.
What is computed there and read nowhere else is a local variable. Short sums are written out in the
nest; a long one is a loop that adds up in a register, or row by row where its operands lie that
way. The longer axis of an array is the inner loop and is contiguous in memory, for SIMD.

Arrays live in flat buffers: `values`, `gradient`, `data` for the numbers of the graph, `places` for
irregular indices, and one for each array that has to be stored. An index is base + Σ stride · i.

Only sums over an axis may be reordered (see `add`). Numba's `fastmath` is for whole functions: LLVM
would factor out common operands, and fuse a product that overflows with the sum that it is in, and
then NaN and infinity need not come out where the eager engine has them.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from pickle import UnpicklingError
from threading import Lock
from types import ModuleType
from typing import Any, Final

import numpy as np

from .. import ops
from ..ops import Op
from . import rows
from .form import Array, Floats, Indices, Lifted, Statement, Term, View

# How rows are written: with the math module, or as calls of functions in `rows.py`.
_ROWS: dict[Op, str] = {
    ops.mul: "@x * @y", ops.div: "@x / @y", ops.ieee_div: "@x / @y",
    ops.power: "math.pow(@x, @y)", ops.ieee_pow: "math.pow(@x, @y)",
    ops.pow_slope: "pow_slope(@x, @y)",
    ops.exp: "math.exp(@x)", ops.expm1: "math.expm1(@x)", ops.log1p: "math.log1p(@x)",
    ops.log: "log(@x)", ops.ieee_log: "log(@x)", ops.sqrt: "math.sqrt(@x + 0.0)",
    ops.logaddexp: "logaddexp(@x, @y)", ops.logsumexp: "logsumexp(@xs)",
    ops.tanh: "math.tanh(@x)", ops.sech: "sech(@x)", ops.sigmoid: "sigmoid(@x)",
    ops.softplus: "softplus(@x)", ops.relu: "relu(@x)", ops.step: "step(@x)",
    ops.leaky_relu: "leaky_relu(@x, @slope)", ops.elu: "elu(@x, @alpha)", ops.gelu: "gelu(@x)",
    ops.gelu_slope: "gelu_slope(@x)", ops.silu: "silu(@x)", ops.erf: "math.erf(@x)",
    ops.sin: "math.sin(@x)", ops.cos: "math.cos(@x)", ops.tan: "math.tan(@x)",
    ops.asin: "math.asin(@x)", ops.acos: "math.acos(@x)", ops.atan: "math.atan(@x)",
    ops.atan2: "math.atan2(@y, @x)", ops.hypot: "math.hypot(@x, @y)",
    ops.cosine: "cosine(@x, @y)", ops.inversion: "inversion(@x, @y)",
    ops.sinh: "math.sinh(@x)", ops.cosh: "math.cosh(@x)", ops.asinh: "math.asinh(@x)",
    ops.acosh: "math.acosh(@x)", ops.atanh: "math.atanh(@x)",
    ops.absolute: "abs(@x)", ops.sign: "sign(@x)", ops.maximum: "maximum(@x, @y)",
    ops.minimum: "minimum(@x, @y)", ops.greater: "greater(@x, @y)",
    ops.where: "where(@condition, @x, @y)", ops.damp: "damp(@x, @w)",
    ops.one_minus_square: "one_minus_square(@x)",
}  # fmt: skip

# Rows that SIMD has instructions for. Others are calls, and a loop with a call is not vectorised.
_SIMD = {
    ops.mul, ops.div, ops.ieee_div, ops.sqrt, ops.relu, ops.step, ops.leaky_relu, ops.absolute,
    ops.sign, ops.maximum, ops.minimum, ops.greater, ops.where, ops.damp, ops.one_minus_square,
}  # fmt: skip

# Numba takes 0.7 ms for an operation that is written out: this many take about seven seconds, and
# for more NumPy is the better choice.
MOST_OPERATIONS: Final = 10_000
_SHORT: Final = 32  # a sum of so many products is written out
_CHEAP: Final = 6  # so many operations are repeated rather than stored

_HEADER = '''\
"""Written by micrograd_like from a graph of scalars."""

from __future__ import annotations

import math
from math import inf, nan

import numpy as np
from llvmlite import ir
from numba import float64, njit
from numba.extending import intrinsic


@intrinsic
def add(context, a, b):
    """a + b as a step of a sum that may be taken in any order, so that it is vectorised."""

    def code(context, builder, signature, args):
        return builder.fadd(*args, flags=("reassoc", "nsz"))

    return float64(float64, float64), code

'''

_COMPILING = Lock()

Axes = tuple[tuple[str, int], ...]  # loop variables, each with what is added to it


class UnsuitableError(Exception):
    """The program is not one for loop nests: it has rows of the user's, or is too irregular."""


class Loops:
    """The source of `program(values, ...)`, its arguments in order, and the arrays among them."""

    def __init__(self, source: str, signature: Sequence[str], arrays: dict[str, Any]) -> None:
        self.source = source
        self.signature = signature
        self.arrays = arrays


def emit_loops(lifted: Lifted, blocks: Sequence[tuple[str, int]]) -> Loops:
    """The program as loop nests. `blocks` are as in `emit`.

    Raises UnsuitableError for rows that are not of the table, and for what is too long to compile.
    """
    return _Writer(lifted, blocks).loops()


class Native:
    """The program as machine code: `single` takes values in one axis, `batch` in two.

    Raises UnsuitableError, as `emit_loops` does.
    """

    def __init__(
        self,
        lifted: Lifted,
        blocks: Sequence[tuple[str, int]],
        jacobian: tuple[int, int] | None,
    ) -> None:
        from numba import TypingError

        loops = emit_loops(lifted, blocks)
        self.source: Final = loops.source
        self._inputs = lifted.tape.inputs
        self._blocks = [(name, size) for name, size in blocks if size]
        self._scalar = blocks[0][1] == 0
        self._jacobian = jacobian
        self._arrays = loops.arrays
        compiled = _compiled(loops.source)
        self._batch = compiled["batch"]
        self.single: Final = self._caller(compiled["program"], loops.signature)
        # Of what is no array of floats; the latter of elements whose type it does not know.
        self.refusals: Final = (TypeError, TypingError)

    def _caller(self, run: Any, signature: Sequence[str]) -> Any:
        """A function of `values` with as little work around the machine code as there can be.

        It raises one of `refusals` for what is not a writable, contiguous array of as many floats.
        """
        lines = [
            "def program(values):",
            f"    if len(values) != {self._inputs}:",
            "        raise TypeError('another number of values')",
        ]
        lines += [f"    {name} = empty({size})" for name, size in self._blocks]
        results = [name for name, _ in self._blocks]
        call = f"run({', '.join(signature)})"
        if self._scalar:
            results.insert(0, call)
        else:
            lines.append(f"    {call}")
        if self._jacobian is not None:
            results[-1] += f".reshape({self._jacobian})"
        lines.append(f"    return {', '.join(results)}")
        space = {"run": run, "empty": np.empty, **self._arrays}
        exec("\n".join(lines), space)
        return space.pop("program")  # which holds the space: no cycle

    def batch(self, values: Any) -> Any:
        """The results for each row of a contiguous array of floats with two axes."""
        count = len(values)
        results: list[Any] = [np.empty((count, size)) for _, size in self._blocks]
        if self._scalar:
            results.insert(0, np.empty(count))
        self._batch(values, *results, *self._arrays.values())
        if self._jacobian is not None:
            results[-1] = results[-1].reshape(count, *self._jacobian)
        return tuple(results) if len(results) > 1 else results[0]


def native(
    lifted: Lifted, blocks: Sequence[tuple[str, int]], jacobian: tuple[int, int] | None
) -> Native | None:
    """The program compiled; None if that is unsuitable, and NumPy the better choice."""
    try:
        return Native(lifted, blocks, jacobian)
    except UnsuitableError:
        return None


def _compiled(source: str) -> dict[str, Any]:
    """The functions of the source, from the cache on disk if they were compiled before.

    Numba keeps the machine code beside the source file; without a file there is no cache. The text
    that runs is always the one given, never what is found in the file.
    """
    import numba

    versions = f"{numba.__version__} {np.__version__} {sys.version}"
    digest = hashlib.sha256(f"{versions}\n{source}".encode()).hexdigest()[:32]
    # Names of symbols begin with the module's name, and must differ from one program to another.
    # Numba imports the module by its name when it reads its cache.
    name = f"micrograd_like_program_{digest}"
    with _COMPILING:
        module = sys.modules.get(name)
        if module is None:
            module = sys.modules[name] = ModuleType(name)
            try:
                _execute(source, _cached_source(f"{name}.py", source), module)
            except BaseException:
                del sys.modules[name]
                raise
    return module.__dict__


def _execute(source: str, path: str | None, module: ModuleType) -> None:
    if path is not None:
        try:
            exec(compile(source, path, "exec"), module.__dict__)
            return
        except (OSError, ImportError, EOFError, ValueError, UnpicklingError):
            pass  # the cache is damaged, or another process is removing it
    source = source.replace("cache=True", "cache=False")
    exec(compile(source, f"<{module.__name__}>", "exec"), module.__dict__)


def _cached_source(name: str, source: str) -> str | None:
    """The path of a file with this source in the cache directory; None if it cannot be there."""
    directory = cache_directory()
    path = directory / name
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = directory.stat()
        # Numba unpickles what it finds there: nobody else may have put it there.
        foreign = hasattr(os, "getuid") and status.st_uid != os.getuid()
        if foreign or (os.name == "posix" and status.st_mode & 0o002):
            return None
        if path.exists() and path.read_text(encoding="utf-8") == source:
            return str(path) if os.access(directory, os.W_OK) else None
        # Written beside it and moved: another process sees all of the file or none of it.
        descriptor, temporary = tempfile.mkstemp(dir=directory, suffix=".tmp")
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(source)
            # The same time for all who write it: Numba takes another time for another source.
            os.utime(temporary, (1e9, 1e9))
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
    except (OSError, ValueError):
        return None
    return str(path)


def cache_directory() -> Path:
    """Where compiled programs are kept: MICROGRAD_LIKE_CACHE, or the user's place for caches."""
    if chosen := os.environ.get("MICROGRAD_LIKE_CACHE"):
        return Path(chosen)
    home = Path(os.path.expanduser("~"))
    if sys.platform == "darwin":
        base = home / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "micrograd_like"


class _Nest:
    """Statements of one shape that are computed element by element, in one loop."""

    def __init__(self, shape: tuple[int, ...], simd: bool) -> None:
        self.shape = shape
        self.simd = simd
        self.statements: list[Statement] = []
        self.results: set[int] = set()


class _Writer:
    def __init__(self, lifted: Lifted, blocks: Sequence[tuple[str, int]]) -> None:
        self.lifted = lifted
        self.blocks = blocks
        self.statement_of = {s.result.number: s for s in lifted.statements}
        self.names: set[str] = set(_RESERVED)
        self.lines: list[str] = []
        self.depth = 1
        self.count = 0  # of local variables
        self.operations = 0
        # The position of each element of an array in its buffer.
        self.buffer: dict[int, tuple[str, Indices]] = {}
        self.scalar: dict[int, str] = {}
        self.local: dict[int, str] = {}  # arrays of the nest that is being written
        self.known: list[dict[str, str]] = [{}]  # what is in local variables, by depth
        self.data: list[Floats] = []
        self.places: list[Indices] = []
        self.strategies: dict[int, str] = {}
        self.terms: dict[int, str] = {}  # buffers for the arguments of variadic rows
        self.used: set[str] = set()  # functions, also of `rows.py`
        for array, numbers in lifted.inputs:
            self.buffer[array.number] = ("values", np.asarray(numbers))
        self.name: dict[int, str] = {}
        for statement in lifted.statements:
            self.name[statement.result.number] = self._identifier(statement.result.name)
        self.readers = self._readers()
        self.outputs = self._outputs()
        self.cheap: dict[int, int] = {}
        self._find_cheap()

    # --- the whole ---

    def loops(self) -> Loops:
        for statement in self.lifted.statements:
            if statement.op is not None and statement.op not in _ROWS:
                raise UnsuitableError(f"the row {statement.op.name} is Python code")
        if len(self.lifted.statements) > MOST_OPERATIONS:
            raise UnsuitableError("the graph has too little structure")
        nests = self._nests()
        self._choose_buffers(nests)
        for nest in nests:
            self._nest(nest)
            if self.operations > MOST_OPERATIONS:
                raise UnsuitableError("too much is written out for a compiler")
        self._copies()
        if self.blocks[0][1] == 0:
            self._line(f"return {self._output(self.lifted.tape.outputs[0])}")
        body = "\n".join(self.lines)
        signature = ["values", *(name for name, size in self.blocks if size)]
        arrays: dict[str, Any] = {}
        if self.data:
            arrays["data"] = np.concatenate(self.data)
        if self.places:
            # Unsigned, for which Numba has no check for indices from the end.
            arrays["places"] = np.concatenate(self.places).astype(np.uint64)
        signature += arrays
        kinds = ", ".join("uint64[::1]" if s == "places" else "float64[::1]" for s in signature)
        options = "cache=True, nogil=True, error_model='numpy'"
        source = (
            f"{_HEADER}{self._rows()}\n@njit('({kinds},)', {options})\n"
            f"def program({', '.join(signature)}):\n{body}\n\n\n{self._batch(signature, options)}"
        )
        return Loops(source, signature, arrays)

    def _batch(self, signature: Sequence[str], options: str) -> str:
        """A loop over the rows of `values`; compiled when it is called first."""
        call = [name if name in ("data", "places") else f"{name}[i]" for name in signature]
        arguments = list(signature)
        if self.blocks[0][1] == 0:
            arguments.insert(1, "outputs")
        target = "outputs[i] = " if self.blocks[0][1] == 0 else ""
        return (
            f"@njit({options})\ndef batch({', '.join(arguments)}):\n"
            f"    for i in range(len(values)):\n"
            f"        {target}program({', '.join(call)})\n"
        )

    def _rows(self) -> str:
        """The functions of `rows.py` that are used, and those that they use."""
        texts = {
            name: inspect.getsource(function)
            for name, function in vars(rows).items()
            if inspect.isfunction(function)
        }
        wanted: set[str] = set()
        for name in reversed(texts):
            callers = [texts[other] for other in wanted]
            if name in self.used or any(re.search(rf"\b{name}\(", t) for t in callers):
                wanted.add(name)
        decorator = "@njit(error_model='numpy')"
        return "".join(f"\n{decorator}\n{texts[n]}\n" for n in texts if n in wanted)

    def _line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def _identifier(self, name: str) -> str:
        base, count = name if name.isascii() else "t", 1
        name = base
        while name in self.names:
            count += 1
            name = f"{base}_{count}"
        self.names.add(name)
        return name

    def _variable(self) -> str:
        self.count += 1
        return self._identifier(f"v{self.count}")

    # --- what is stored, and where ---

    def _readers(self) -> dict[int, list[tuple[Statement, str, View]]]:
        """Who reads each array, as what kind of term ("call" for an argument), and which part."""
        readers: dict[int, list[tuple[Statement, str, View]]] = {}
        for statement in self.lifted.statements:
            for arg in statement.args:
                if isinstance(arg, View):
                    along = arg.places.ndim > len(statement.result.shape)
                    reader = (statement, "total" if along else "call", arg)
                    readers.setdefault(arg.array.number, []).append(reader)
            for term in statement.terms:
                for view in (term.left, term.right):
                    if view is not None:
                        reader = (statement, term.kind, view)
                        readers.setdefault(view.array.number, []).append(reader)
        return readers

    def _outputs(self) -> dict[int, list[tuple[str, Indices, Indices]]]:
        """Of each array: the block, the positions there, and the places from which they come."""
        found: dict[tuple[int, str], tuple[list[int], list[int]]] = {}
        self.fixed: list[tuple[str, int, float]] = []
        start = 0
        for name, size in self.blocks:
            for position in range(size):
                output = self.lifted.tape.outputs[start + position]
                if isinstance(output, float):
                    self.fixed.append((name, position, output))
                    continue
                number = self.lifted.array_of[output].number
                positions, places = found.setdefault((number, name), ([], []))
                positions.append(position)
                places.append(int(self.lifted.place_of[output]))
            start += size or 1
        outputs: dict[int, list[tuple[str, Indices, Indices]]] = {}
        for (number, name), (positions, places) in found.items():
            order = np.lexsort((positions, places))
            pair = (np.asarray(positions)[order], np.asarray(places)[order])
            outputs.setdefault(number, []).append((name, *pair))
        return outputs

    def _find_cheap(self) -> None:
        """Arrays of few operations, that are computed again wherever they are read."""
        for statement in self.lifted.statements:
            number, shape = statement.result.number, statement.result.shape
            if shape == () or statement.op is not None or number in self.cheap:
                continue
            if any(t.kind != "each" or isinstance(t.coefficient, Array) for t in statement.terms):
                continue
            if isinstance(statement.constant, Array):
                continue
            cost = 0
            for term in statement.terms:
                cost += 1 + (term.right is not None)
                for view in (term.left, term.right):
                    if view is not None:
                        cost += self.cheap.get(view.array.number, 0)
            regular = all(
                (kind in ("each", "call") or reader.result.shape == ())
                and _affine(view.places) is not None
                for reader, kind, view in self.readers.get(number, ())
            ) and all(_affine(places) is not None for _, _, places in self.outputs.get(number, ()))
            whole = any(len(p) == statement.result.size for _, p, _ in self.outputs.get(number, ()))
            uses = len(self.readers.get(number, ()))
            if regular and not whole and cost * max(uses, 1) <= 3 * _CHEAP and cost <= _CHEAP:
                self.cheap[number] = cost

    def _nests(self) -> list[_Nest]:
        """The statements in nests, each after those whose results it reads."""
        waiting = [s for s in self.lifted.statements if s.result.number not in self.cheap]
        done = {array.number for array, _ in self.lifted.inputs} | set(self.cheap)
        nests: list[_Nest] = []
        while waiting:
            first = waiting[0]
            nest = _Nest(first.result.shape, self._is_simd(first))
            alone = self._strategy(first) != "inline"
            rest: list[Statement] = []
            for k, statement in enumerate(waiting):
                # Statements are sorted by level: after many that fail, few more can join.
                if len(rest) == 200 or (alone and k > 0):
                    rest += waiting[k:]
                    break
                joins = k == 0 or (
                    statement.result.shape == nest.shape
                    and (nest.shape == () or self._is_simd(statement) == nest.simd)
                    and self._strategy(statement) == "inline"
                    and self._is_ready(statement, nest, done)
                )
                if joins:
                    nest.statements.append(statement)
                    nest.results.add(statement.result.number)
                else:
                    rest.append(statement)
            waiting = rest
            done |= nest.results
            nests.append(nest)
        return nests

    def _is_simd(self, statement: Statement) -> bool:
        return statement.op is None or statement.op in _SIMD

    def _is_ready(self, statement: Statement, nest: _Nest, done: set[int]) -> bool:
        """Whether all that the statement reads is stored, or is its own element in the nest."""
        shape = statement.result.shape
        for view, same in self._views(statement):
            for array, places in self._sources(view.array, view.places):
                if array.number in done or array.data is not None:
                    continue
                if array.number not in nest.results:
                    return False
                if shape != () and not (same and _is_own(array, places, shape)):
                    return False
        return True

    def _views(self, statement: Statement) -> list[tuple[View, bool]]:
        """The views that the statement reads, and whether that is element by element."""
        axes = len(statement.result.shape)
        views = [(v, v.places.ndim <= axes) for v in statement.args if isinstance(v, View)]
        for term in statement.terms:
            views.append((term.left, term.kind == "each"))
            if term.right is not None:
                views.append((term.right, term.kind == "each"))
        return views

    def _sources(self, array: Array, places: Indices) -> Iterable[tuple[Array, Indices]]:
        """The stored elements that the view needs, through arrays that are computed again."""
        if array.number not in self.cheap:
            yield array, places
            return
        statement = self.statement_of[array.number]
        for term in statement.terms:
            for view in (term.left, term.right):
                if view is not None:
                    yield from self._sources(view.array, _through(view, array, places))

    def _choose_buffers(self, nests: list[_Nest]) -> None:
        home = {number: nest for nest in nests for number in nest.results}
        for statement in self.lifted.statements:
            array = statement.result
            number = array.number
            if number in self.cheap or array.shape == ():
                continue
            for block, positions, places in self.outputs.get(number, ()):
                distinct, first = np.unique(places, return_index=True)
                if len(distinct) == array.size:
                    where = positions[first]
                    if _affine(where.reshape(array.shape)) is not None:
                        self.buffer[number] = (block, where)
                        break
            if number in self.buffer:
                continue
            nest = home[number]
            if self._strategy(statement) == "inline" and number not in self.outputs:
                needed = [
                    reader
                    for reader in self._stored_readers(number)
                    if reader.result.number not in nest.results
                ]
                if not needed:
                    continue
            self.buffer[number] = (self.name[number], _layout(array.shape))
            self._line(f"{self.name[number]} = np.empty({array.size})")

    def _stored_readers(self, number: int) -> list[Statement]:
        """The statements that read the array, themselves or through arrays computed again."""
        found: list[Statement] = []
        for reader, _, _ in self.readers.get(number, ()):
            if reader.result.number in self.cheap:
                found += self._stored_readers(reader.result.number)
                if reader.result.number in self.outputs:
                    found.append(reader)
            else:
                found.append(reader)
        return found

    # --- nests ---

    def _strategy(self, statement: Statement) -> str:
        """How its sums over an axis are taken: "inline" if written out, "dot" or "rows"."""
        number = statement.result.number
        if number not in self.strategies:
            self.strategies[number] = self._best_strategy(statement)
        return self.strategies[number]

    def _best_strategy(self, statement: Statement) -> str:
        sums = [term for term in statement.terms if term.kind != "each"]
        shape = statement.result.shape
        if not sums:
            return "inline"
        lengths = [term.left.places.shape[-1] for term in sums]
        if sum(lengths) <= 4:
            return "inline"
        if shape == ():
            return "dot"
        along = _order(shape)[-1]  # the axis of the inner loop
        contiguous = all(
            abs(stride) <= 1
            for term in sums
            for stride in self._strides_along(term, len(shape), along)
        )
        if max(lengths) <= _SHORT and shape[along] >= 8 and contiguous:
            return "inline"
        if contiguous and not all(
            abs(stride) <= 1 for term in sums for stride in self._strides_along(term, len(shape), 2)
        ):
            return "rows"
        return "dot"

    def _strides_along(self, term: Term, axes: int, axis: int) -> list[int]:
        """The strides of a term's operands along an axis of the result, or (2) of the sum."""
        strides = []
        for view, positions in _operands(term, axes):
            where = self._layout_of(view.array)
            fit = _affine(where[view.places])
            if axis == 2:
                strides.append(99 if fit is None else fit[1][-1])
            elif axis in positions:
                strides.append(99 if fit is None else fit[1][positions.index(axis)])
        return strides

    def _layout_of(self, array: Array) -> Indices:
        if array.number in self.buffer:
            return self.buffer[array.number][1]
        if array.shape == ():
            return np.zeros(1, dtype=np.intp)
        return _layout(array.shape)

    def _nest(self, nest: _Nest) -> None:
        strategy = self._strategy(nest.statements[0])
        if strategy == "dot":
            self._dot(nest.statements[0])
        elif strategy == "rows":
            self._accumulate(nest.statements[0])
        elif nest.shape == ():
            for statement in nest.statements:
                self._scalar(statement)
        else:
            axes = tuple((f"i{axis}", 0) for axis in range(len(nest.shape)))
            inner = self._open(nest.shape)
            for statement in nest.statements:
                self._element(statement, axes)
            self._close(inner)
            self.local.clear()

    def _open(self, shape: tuple[int, ...]) -> int:
        """Open the loops over a shape; what does not depend on a loop can be put before it."""
        for axis in _order(shape):
            self._loop(f"i{axis}", f"range({shape[axis]})")
        return len(shape)

    def _loop(self, variable: str, over: str) -> None:
        self._line(f"for {variable} in {over}:")
        self.depth += 1
        self.known.append({"": variable})

    def _close(self, loops: int) -> None:
        for _ in range(loops):
            self.depth -= 1
            self.known.pop()

    def _scalar(self, statement: Statement) -> None:
        name = self.name[statement.result.number]
        self._line(f"{name} = {self._text(statement, ())}")
        self.scalar[statement.result.number] = name

    def _element(self, statement: Statement, axes: Axes) -> None:
        array = statement.result
        text = self._text(statement, axes)
        name = self._variable()
        self._line(f"{name} = {text}")
        self.known[-1][name] = name
        self.local[array.number] = name
        if array.number in self.buffer:
            self._line(f"{self._target(array, axes)} = {name}")

    def _target(self, array: Array, axes: Axes) -> str:
        buffer, where = self.buffer[array.number]
        return f"{buffer}[{self._index(where.reshape(array.shape), axes)}]"

    def _text(self, statement: Statement, axes: Axes, sums: Sequence[str] = ()) -> str:
        """The right-hand side; sums over an axis are written out unless they are given."""
        if statement.op is not None:
            return self._call(statement, axes)
        terms = [self._each(t, axes) for t in statement.terms if t.kind == "each"]
        if sums:
            terms += sums
        else:
            for term in statement.terms:
                if term.kind != "each":
                    terms += self._written_out(term, axes)
        constant = statement.constant
        if isinstance(constant, Array):
            terms.insert(0, self._read(View(constant, _all(constant)), axes))
        elif constant != 0.0 or not terms:
            terms.insert(0, _number(constant))
        return self._sum(terms)

    def _sum(self, terms: list[str]) -> str:
        """The terms added up, in two chains if there are many: the processor adds both at once."""
        self.operations += len(terms)
        if len(terms) > 2 * _SHORT:
            parts = []
            for k in range(0, len(terms), _SHORT):
                name = self._variable()
                self._line(f"{name} = {self._sum(terms[k : k + _SHORT])}")
                parts.append(name)
            return self._sum(parts)
        if len(terms) >= 8:
            return f"({_joined(terms[::2])}) + ({_joined(terms[1::2])})"
        return _joined(terms)

    def _each(self, term: Term, axes: Axes) -> str:
        factors = [self._read(term.left, axes)]
        if term.right is not None:
            factors.append(self._read(term.right, axes))
        return self._scaled(term.coefficient, factors, axes)

    def _scaled(self, c: float | Array, factors: list[str], axes: Axes) -> str:
        self.operations += len(factors)
        if isinstance(c, Array):
            return " * ".join([self._read(View(c, _all(c)), axes), *factors])
        text = " * ".join(factors)
        if abs(c) != 1.0:
            text = f"{_number(abs(c))} * {text}"
        return f"-{text}" if c < 0.0 else text

    def _written_out(self, term: Term, axes: Axes) -> list[str]:
        texts = []
        for q in range(term.left.places.shape[-1]):
            factors = [
                self._read(View(view.array, view.places[..., q]), _taken(axes, positions))
                for view, positions in _operands(term, len(axes))
            ]
            c = term.coefficient
            if isinstance(c, Array) and c.data is not None and c.data.ndim > len(axes):
                part = View(c, _all(c)[..., q])
                texts.append(" * ".join([self._read(part, axes), *factors]))
            else:
                texts.append(self._scaled(c, factors, axes))
        return texts

    def _call(self, statement: Statement, axes: Axes) -> str:
        op = statement.op
        assert op is not None
        template = _ROWS[op]
        self.used.add(template.partition("(")[0])
        if op.arity is None:
            return template.replace("@xs", self._arguments(statement, axes))
        args = [self._argument(arg, axes) for arg in statement.args]
        self.operations += 2 + len(args)
        by_name = dict(zip(op.arguments, args, strict=True))
        return re.sub(r"@(\w+)", lambda m: by_name[m[1]], template)

    def _argument(self, argument: View | float | Array, axes: Axes) -> str:
        if isinstance(argument, View):
            return self._read(argument, axes)
        if isinstance(argument, Array):
            return self._read(View(argument, _all(argument)), axes)
        return _number(argument) if argument >= 0.0 else f"({_number(argument)})"

    def _arguments(self, statement: Statement, axes: Axes) -> str:
        """The arguments of a variadic row, in an array: Numba takes no long tuples."""
        first = statement.args[0]
        along = isinstance(first, View) and first.places.ndim > len(axes)
        count = first.places.shape[-1] if isinstance(first, View) and along else len(statement.args)
        name = self.terms.get(count)
        if name is None:
            name = self.terms[count] = self._identifier(f"terms{count}")
            self.lines.insert(0, f"    {name} = np.empty({count})")
        if along:
            assert isinstance(first, View)
            self._loop("k", f"range({count})")
            self._line(f"{name}[k] = {self._read(first, (*axes, ('k', 0)))}")
            self._close(1)
            self.operations += 4
        else:
            for k, argument in enumerate(statement.args):
                self._line(f"{name}[{k}] = {self._argument(argument, axes)}")
            self.operations += 2 * count
        return name

    # --- sums over an axis ---

    def _dot(self, statement: Statement) -> None:
        """Each element is added up in a register; a few at a time, which share operands."""
        shape = statement.result.shape
        tile = [1] * len(shape)
        if len(shape) == 2:
            tile = [_divisor(shape[0], 2), _divisor(shape[1], 4)]
        elif len(shape) == 1:
            tile = [_divisor(shape[0], 4)]
        for axis, size in enumerate(shape):
            step = f"0, {size}, {tile[axis]}" if tile[axis] > 1 else f"{size}"
            self._loop(f"i{axis}", f"range({step})")
        corners: list[Axes] = [()]
        for axis, count in enumerate(tile):
            corners = [(*c, (f"i{axis}", d)) for c in corners for d in range(count)]
        by_length: dict[int, list[Term]] = {}
        for term in statement.terms:
            if term.kind != "each":
                by_length.setdefault(term.left.places.shape[-1], []).append(term)
        sums: list[list[str]] = [[] for _ in corners]
        for length, terms in by_length.items():
            names = [self._variable() for _ in corners]
            self.known[-1].update({name: name for name in names})
            self._line(f"{' = '.join(names)} = 0.0")
            self._loop("k", f"range({length})")
            for name, axes in zip(names, corners, strict=True):
                text = self._sum([self._along(term, axes) for term in terms])
                self._line(f"{name} = add({name}, {text})")
            self._close(1)
            for parts, name in zip(sums, names, strict=True):
                parts.append(name)
        for parts, axes in zip(sums, corners, strict=True):
            text = self._text(statement, axes, parts)
            if shape == ():
                name = self.name[statement.result.number]
                self._line(f"{name} = {text}")
                self.scalar[statement.result.number] = name
            else:
                self._line(f"{self._target(statement.result, axes)} = {text}")
        self._close(len(shape))

    def _along(self, term: Term, axes: Axes) -> str:
        """The summand at k."""
        factors = [
            self._read(view, (*_taken(axes, positions), ("k", 0)))
            for view, positions in _operands(term, len(axes))
        ]
        c = term.coefficient
        if isinstance(c, Array):
            if c.data is not None and c.data.ndim > len(axes):
                factors.insert(0, self._read(View(c, _all(c)), (*axes, ("k", 0))))
            else:
                factors.insert(0, self._read(View(c, _all(c)), axes))
            return " * ".join(factors)
        return self._scaled(c, factors, axes)

    def _accumulate(self, statement: Statement) -> None:
        """Row after row of the operands is added to the stored result."""
        shape = statement.result.shape
        axes = tuple((f"i{axis}", 0) for axis in range(len(shape)))
        order = _order(shape)
        target = self._target(statement.result, axes)
        for axis in order[:-1]:
            self._loop(f"i{axis}", f"range({shape[axis]})")
        along = order[-1]
        self._loop(f"i{along}", f"range({shape[along]})")
        rest = [t for t in statement.terms if t.kind == "each"]
        only = Statement(statement.result, constant=statement.constant, terms=rest)
        self._line(f"{target} = {self._text(only, axes)}")
        self._close(1)
        for term in statement.terms:
            if term.kind == "each":
                continue
            length = term.left.places.shape[-1]
            for first, last in ((0, length - length % 8), (length - length % 8, length)):
                if first == last:
                    continue
                count = min(8, last - first)
                self._loop("k", f"range({first}, {last}, {count})")
                self._loop(f"i{along}", f"range({shape[along]})")
                parts = []
                for q in range(count):
                    factors = [
                        self._read(view, (*_taken(axes, positions), ("k", q)))
                        for view, positions in _operands(term, len(axes))
                    ]
                    c = term.coefficient
                    if isinstance(c, Array) and c.data is not None and c.data.ndim > len(axes):
                        factors.insert(0, self._read(View(c, _all(c)), (*axes, ("k", q))))
                        parts.append(" * ".join(factors))
                    else:
                        parts.append(self._scaled(c, factors, axes))
                self._line(f"{target} += {self._sum(parts)}")
                self._close(2)
        self._close(len(shape) - 1)

    # --- reading ---

    def _read(self, view: View, axes: Axes) -> str:
        """The element of the view at the loop variables, of which the last belong to its axes."""
        array, places = view.array, view.places
        number = array.number
        if number in self.scalar:
            return self.scalar[number]
        own = self.local.get(number)
        if own is not None:
            return own
        axes = axes[len(axes) - places.ndim :] if places.ndim else ()
        if number in self.cheap:
            return self._again(array, places, axes)
        if number not in self.buffer:
            assert array.data is not None, array.name
            self._store(array)
        buffer, where = self.buffer[number]
        index = self._index(where[places], axes)
        return self._kept(f"{buffer}[{index}]", f"{buffer}[{index}]")

    def _store(self, array: Array) -> None:
        """Put a constant among the data, its longer axis contiguous."""
        assert array.data is not None
        where = _layout(array.shape)
        flat = np.empty(array.size)
        flat[where] = array.data.reshape(-1)
        offset = sum(len(d) for d in self.data)
        self.data.append(flat)
        self.buffer[array.number] = ("data", where + offset)

    def _again(self, array: Array, places: Indices, axes: Axes) -> str:
        statement = self.statement_of[array.number]
        terms = []
        for term in statement.terms:
            left = View(term.left.array, _through(term.left, array, places))
            right = term.right
            if right is not None:
                right = View(right.array, _through(right, array, places))
            terms.append(self._each(Term(term.kind, term.coefficient, left, right), axes))
        constant = statement.constant
        assert not isinstance(constant, Array)
        if constant != 0.0 or not terms:
            terms.insert(0, _number(constant))
        self.operations += len(terms)
        return self._kept(_joined(terms), f"({_joined(terms)})", True)

    def _kept(self, text: str, otherwise: str, always: bool = False) -> str:
        """A local variable for the text, before the loops on which it does not depend.

        In a loop the text stays where it is: it is read once there as a rule.
        """
        used = set(re.findall(r"\w+", text))
        level = len(self.known) - 1
        while level > 0 and self.known[level][""] not in used and not self._is_inner(level, used):
            level -= 1
        for known in self.known[: level + 1]:
            if text in known:
                return known[text]
        if level == len(self.known) - 1 and (not always or level == 0):
            return otherwise
        name = self._variable()
        line = f"{name} = {text}"
        if level == len(self.known) - 1:
            self._line(line)
        else:
            # Before the line that opens the loop of the next level.
            start = self._opening(level + 1)
            self.lines.insert(start, "    " * (1 + level) + line)
        self.known[level][text] = name
        return name

    def _is_inner(self, level: int, used: set[str]) -> bool:
        return any(name in used for name in self.known[level].values())

    def _opening(self, level: int) -> int:
        """The number of the line that opens the loop of this level."""
        start = f"{'    ' * level}for {self.known[level]['']} in "
        return next(
            n for n in range(len(self.lines) - 1, -1, -1) if self.lines[n].startswith(start)
        )

    def _index(self, positions: Indices, axes: Axes) -> str:
        fit = _affine(positions)
        if fit is None:
            offset = sum(len(p) for p in self.places)
            self.places.append(np.ascontiguousarray(positions).reshape(-1))
            return f"places[{self._index(_all_of(positions.shape) + offset, axes)}]"
        base, strides = fit
        parts = []
        for (variable, shift), stride in zip(axes, strides, strict=True):
            base += stride * shift
            if stride == 1:
                parts.append(variable)
            elif stride:
                parts.append(f"{stride} * {variable}")
        if base or not parts:
            parts.append(str(base))
        return " + ".join(parts).replace("+ -", "- ")

    # --- outputs ---

    def _output(self, output: int | float) -> str:
        if isinstance(output, float):
            return _number(output)
        array = self.lifted.array_of[output]
        return self._read(View(array, np.asarray(self.lifted.place_of[output])), ())

    def _copies(self) -> None:
        """Fill in what was not computed in its place."""
        arrays = {array.number: array for array in self.lifted.array_of}
        for number, pieces in self.outputs.items():
            array = arrays[number]
            for block, positions, places in pieces:
                buffer, where = self.buffer.get(number, ("", None))
                if buffer == block and where is not None:
                    left = where[places] != positions
                    positions, places = positions[left], places[left]
                if len(positions) == 0:
                    continue
                if len(positions) == 1:
                    text = self._read(View(array, places[0]), ())
                    self._line(f"{block}[{positions[0]}] = {text}")
                    continue
                self._loop("i0", f"range({len(positions)})")
                text = self._read(View(array, places), (("i0", 0),))
                self._line(f"{block}[{self._index(positions, (('i0', 0),))}] = {text}")
                self._close(1)
        by_value: dict[tuple[str, str], list[int]] = {}
        for block, position, value in self.fixed:
            by_value.setdefault((block, _number(value)), []).append(position)
        for (block, text), numbers in by_value.items():
            self._loop("i0", f"range({len(numbers)})")
            self._line(f"{block}[{self._index(np.asarray(numbers), (('i0', 0),))}] = {text}")
            self._close(1)


# What the program mentions, beside variables.
_RESERVED = (
    "values", "gradient", "outputs", "data", "places", "math", "np", "inf", "nan", "add", "abs",
    "range", "i0", "i1", "k",
    *(name for name, row in vars(rows).items() if inspect.isfunction(row)),
)  # fmt: skip


def _operands(term: Term, axes: int) -> list[tuple[View, tuple[int, ...]]]:
    """The views of a sum over an axis, and the axes of the result that precede it in each."""
    left, right = term.left, term.right
    if term.kind == "matmul":
        assert right is not None
        if left.places.ndim == right.places.ndim == 2:
            return [(left, (0,)), (right, (1,))]
        return [(view, (0,) if view.places.ndim == 2 else ()) for view in (left, right)]
    whole = tuple(range(axes))
    return [(left, whole)] + ([(right, whole)] if right is not None else [])


def _taken(axes: Axes, positions: Sequence[int]) -> Axes:
    return tuple(axes[p] for p in positions)


def _order(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes from the outer loop to the inner one, which is the longest."""
    return (1, 0) if len(shape) == 2 and shape[0] > shape[1] else tuple(range(len(shape)))


def _layout(shape: tuple[int, ...]) -> Indices:
    """The position of each element, with the longer axis contiguous."""
    if len(shape) == 2 and shape[0] > shape[1]:
        return np.arange(shape[0] * shape[1]).reshape(shape[1], shape[0]).T.reshape(-1)
    return np.arange(int(np.prod(shape, dtype=int)))


def _all_of(shape: tuple[int, ...]) -> Indices:
    return np.arange(int(np.prod(shape, dtype=int))).reshape(shape)


def _all(array: Array) -> Indices:
    return _all_of(array.shape)


def _is_own(array: Array, places: Indices, shape: tuple[int, ...]) -> bool:
    """Whether a view of these places has at each element the array's element of the same place."""
    return array.shape == shape == places.shape and np.array_equal(places, _all(array))


def _through(view: View, array: Array, places: Indices) -> Indices:
    """The places of the view, an operand of the array's elements, at some of these elements."""
    taken: Indices = np.broadcast_to(view.places, array.shape).reshape(-1)[places]
    return taken


def _affine(positions: Indices) -> tuple[int, tuple[int, ...]] | None:
    """The base and strides of positions that are base + Σ stride · index; None if they are not."""
    base = int(positions.flat[0])
    strides = []
    regular = np.full((1,) * positions.ndim, base)
    for axis, size in enumerate(positions.shape):
        stride = 0
        if size > 1:
            index = [0] * positions.ndim
            index[axis] = 1
            stride = int(positions[tuple(index)]) - base
        strides.append(stride)
        shape = [1] * positions.ndim
        shape[axis] = size
        regular = regular + stride * np.arange(size).reshape(shape)
    return (base, tuple(strides)) if np.array_equal(regular, positions) else None


def _divisor(size: int, most: int) -> int:
    return next(d for d in range(most, 0, -1) if size % d == 0)


def _joined(terms: Sequence[str]) -> str:
    # What is subtracted comes later: x - y is one operation, -y + x is two.
    leading = next((k for k, term in enumerate(terms) if not term.startswith("-")), 0)
    text = terms[leading]
    for term in (*terms[:leading], *terms[leading + 1 :]):
        text += f" - {term[1:]}" if term.startswith("-") else f" + {term}"
    return text


def _number(x: float) -> str:
    if x != x:
        return "nan"
    if x in (float("inf"), float("-inf")):
        return "inf" if x > 0.0 else "-inf"
    return repr(x)
