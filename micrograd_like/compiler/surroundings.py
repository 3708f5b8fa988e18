"""What a function has beside its arguments: its surroundings, which a call may move.

A program keeps what a trace found there. So a trace looks whether the call moved anything: a
generator of random numbers, or whatever is an attribute, an item or a variable. Looked at is what
the function's code can name: the attributes of its object, its closure, its defaults, the globals
that it uses, and so on from there; but not into libraries, and no further than 20,000 things.
"""

from __future__ import annotations

import os
import sys
from array import array
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache, partial
from heapq import heappop, heappush
from io import IOBase
from itertools import count
from numbers import Number
from random import Random, SystemRandom
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    MemberDescriptorType,
    MethodWrapperType,
    ModuleType,
)
from typing import Any, NamedTuple

from ..engine import Value, numbers_of
from ..errors import TraceError

_MOST = 20_000
_MANY = 100_000  # items of a list or an array
_STANDARD = os.path.dirname(os.__file__)  # where a file of the user's may have such a name, too
_PLAIN = (Number, str, bytes)
_LISTS = (list, tuple)
_OURS = __name__.partition(".")[0]
DRAWS = (
    "model or loss draws random numbers, which differ from example to example: let the example "
    "have them"
)
_NUMBERS = "random numbers"


class _Part(NamedTuple):
    """Something that may move: what it is called, what it is now, and what brings it back."""

    what: str
    read: Callable[[], dict[Any, Any]]
    bring_back: Callable[[], Any]


class Surroundings:
    """The surroundings of some functions or callable objects, as they are now.

    Raises TraceError for an iterator among them: nobody sees what it gives next, or can go back.
    """

    def __init__(self, *callables: Any) -> None:
        self._parts = list(_parts(callables))
        self._before = [part.read() for part in self._parts]

    @property
    def plainly(self) -> str:
        """The numbers and texts among them, also those in lists, to be compared later."""
        items = [item for before in self._before for item in before.values()]
        items += [item for x in items if isinstance(x, _LISTS) for item in x]
        return repr([x for x in items if isinstance(x, _PLAIN)])

    def check(self, computed: Container[int] | None = None) -> None:
        """Raises TraceError where something is not as it was. It may have become a Value.

        If it is given what is `computed` from what a trace was given, by ids, then one of those.
        """
        for part, before in zip(self._parts, self._before, strict=True):
            now = part.read()
            for key, x in before.items():
                if key in now and x is not now[key] and not _is_same(x, now[key], computed):
                    raise TraceError(
                        DRAWS
                        if part.what == _NUMBERS
                        else f"model or loss changes {part.what}{key} when it is called, and a "
                        "program would go on with it as it is"
                    )

    def bring_back(self) -> None:
        """Make all as it was."""
        for part in self._parts:
            with suppress(ValueError):  # an array that is only read has not changed
                part.bring_back()


def containers(function: Any) -> Iterator[dict[str, Any]]:
    """The lists and dicts that a function's code can name, by their names: of each place a dict.

    Those in a dict, or in an object, that is named are there by its keys.
    """
    for x in _reached([function]):
        named: dict[str, Any] = {}
        if isinstance(x, FunctionType) and not _is_of_library(x):
            cells = zip(x.__code__.co_freevars, x.__closure__ or (), strict=True)
            named = {name: _content(cell) for name, cell in cells}
            variables = x.__globals__
            named |= {n: variables[n] for n in _names_in(x.__code__) if n in variables}
        elif not isinstance(x, (FunctionType, type, ModuleType)):
            named = getattr(x, "__dict__", {})
        for name, item in named.items():
            if isinstance(item, dict):
                yield item
            elif isinstance(item, (list, tuple)):
                yield {name: item}


def _parts(callables: Iterable[Any]) -> Iterator[_Part]:
    for x in _reached(callables):
        yield from _parts_of(x)


def _reached(roots: Iterable[Any]) -> Iterator[Any]:
    """The roots and what is within them, at most so much, each thing once: no numbers or texts.

    What is in something long, as the rows of a data set are, comes last, as does what is within
    that, such as the rows of its batches: it would hide the rest.
    """
    ticks = count()
    found = [(0, next(ticks), root) for root in roots]
    seen: set[int] = set()
    while found and len(seen) < _MOST:
        longest, _, x = heappop(found)
        if not isinstance(x, (Value, *_PLAIN)) and id(x) not in seen:
            seen.add(id(x))
            yield x
            items = [item for item in _within(x) if not isinstance(item, (Value, *_PLAIN))]
            longest = max(longest, len(items))
            for item in items[:_MOST]:
                heappush(found, (longest, next(ticks), item))


def _parts_of(x: Any) -> Iterator[_Part]:
    back: Callable[[], Any]
    if hasattr(type(x), "__next__") and not isinstance(x, IOBase):
        raise TraceError(
            f"model or loss has an iterator, {x!r:.60}, which a program would not go on with"
        )
    if isinstance(x, SystemRandom):  # which has no state
        return
    if isinstance(x, Random):
        yield _Part(_NUMBERS, lambda: {"": x.getstate()}, partial(x.setstate, x.getstate()))
    elif isinstance(x, _numpys("BitGenerator")):
        yield _Part(_NUMBERS, lambda: {"": repr(x.state)}, partial(setattr, x, "state", x.state))
    elif isinstance(x, _numpys("RandomState")):
        back = partial(x.set_state, x.get_state())
        yield _Part(_NUMBERS, lambda: {"": repr(x.get_state())}, back)
    elif isinstance(x, CellType) and x != CellType():  # which is empty
        back = partial(setattr, x, "cell_contents", _content(x))
        yield _Part("a variable", lambda: {"": _content(x)}, back)
    elif isinstance(x, dict):
        yield _Part("item ", lambda: dict(x), partial(_refill, x, dict(x)))
    elif isinstance(x, (list, deque, set, bytearray, array)) and len(x) <= _MANY:
        yield _Part(
            f"a {type(x).__name__}", lambda: {"": _copied(x)}, partial(_refill, x, _copied(x))
        )
    elif is_array(x) and x.size <= _MANY:
        yield _Part("an array", lambda: {"": x.copy()}, partial(x.__setitem__, ..., x.copy()))
    elif isinstance(x, type) and not _is_of_library(x):
        back = partial(_set_attributes, x, dict(vars(x)))
        yield _Part(f"{x.__name__}.", lambda: dict(vars(x)), back)
    if not isinstance(x, (type, FunctionType, ModuleType)) and (
        (found := _attributes(x)) or hasattr(x, "__dict__")  # a list's, too, of a class of its own
    ):
        back = partial(_set_attributes, x, found)
        yield _Part(f"{type(x).__name__}.", lambda: _attributes(x), back)
    if isinstance(x, FunctionType) and not _is_of_library(x):
        back = partial(_refill, vars(x), {**vars(x)})
        yield _Part(f"{x.__name__}.", lambda: dict(vars(x)), back)
        for space, names in _spaces(x):
            used = {name: space[name] for name in names}
            yield _Part(
                "the variable ", partial(_chosen, space, names), partial(space.update, used)
            )


def _chosen(items: dict[Any, Any], names: Iterable[str]) -> dict[Any, Any]:
    return {name: items[name] for name in names if name in items}


def _spaces(function: FunctionType) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """The variables that a function names: of its module, and of the user's that it leads to.

    Those are `b` and `c`, too, where it says `a.b.c`, and what it imports itself.
    """
    names, spaces = _names_in(function.__code__), [function.__globals__]
    found = [_content(cell) for cell in function.__closure__ or ()]
    for space in spaces:  # which grow
        yield space, [name for name in names if name in space]
        found += [space.get(name, sys.modules.get(name)) for name in names]
        modules = [x for x in found if isinstance(x, ModuleType) and not _is_of_library(x)]
        spaces += [vars(m) for m in modules if not any(vars(m) is known for known in spaces)]


def _within(x: Any) -> Iterable[Any]:
    """Where to look on from x."""
    if isinstance(x, (dict, list, tuple, set, frozenset, deque)):
        items = list(x.values() if isinstance(x, dict) else x)
        kind = type(x)
        return items if kind.__module__ == "builtins" else [*_attributes(x).values(), kind, *items]
    if is_array(x):
        return list(x.flat) if x.dtype.hasobject else []
    if isinstance(x, CellType):
        return [_content(x)]
    if isinstance(x, _numpys("Generator")):
        return [x.bit_generator]
    if isinstance(x, (BuiltinFunctionType, MethodWrapperType)):
        return [x.__self__]
    if isinstance(x, ModuleType) or _is_of_library(x):
        return []
    if isinstance(x, FunctionType):
        named = [space[name] for space, names in _spaces(x) for name in names]
        defaults = [*(x.__defaults__ or ()), *(x.__kwdefaults__ or {}).values()]
        return [*(x.__closure__ or ()), *defaults, *named]
    if isinstance(x, type):
        return [*vars(x).values(), *x.__mro__[1:]]
    return [*_attributes(x).values(), type(x)]


def _attributes(x: Any) -> dict[str, Any]:
    """What an object has, in its `__dict__` and in slots."""
    own = getattr(x, "__dict__", None)
    found = dict(own) if isinstance(own, dict) else {}
    kind: Any = type(x)
    for name in _slots(kind):
        if hasattr(x, name):
            found[name] = getattr(x, name)
    return found


@lru_cache(512)
def _slots(kind: type) -> list[str]:
    """The names of its slots, without Python's own offsets: that of a partial shows a pointer."""
    slots = [name_and_slot for of in kind.__mro__ for name_and_slot in vars(of).items()]
    members = [name for name, slot in slots if isinstance(slot, MemberDescriptorType)]
    return [name for name in members if not name.endswith("offset__")]


def _is_same(x: Any, now: Any, computed: Container[int] | None, depth: int = 10) -> bool:
    """Whether a program may take the one for the other; True where they are too deep to tell.

    What was not there, and Values, and what holds nothing else, may become anything: what is made
    of them is in the graph. But no Value that is not `computed` has another number than before.
    """
    if x is now or x is None or not depth:
        return True
    if isinstance(x, list) and isinstance(now, list) and [*map(id, x)] == [*map(id, now)]:
        return True  # in short, as nearly always
    go_on = partial(_is_same, computed=computed, depth=depth - 1)
    if isinstance(now, Value) and isinstance(x, (Value, Number)):
        return computed is None or id(now) in computed or go_on(*map(_number, (x, now)))
    if _holds_values(x) or _holds_values(now):
        is_like = isinstance(x, _LISTS) and isinstance(now, _LISTS) and len(x) == len(now)
        return not is_like or all(map(go_on, x, now))
    if isinstance(x, _PLAIN) or isinstance(now, _PLAIN):
        return bool(x == now or (x != x and now != now))
    if type(x) is not type(now):
        return False
    if isinstance(x, (list, tuple, deque)):
        x, now = ([i for i in of if i is not None and not _holds_values(i)] for of in (x, now))
        return len(x) == len(now) and all(map(go_on, x, now))
    if isinstance(x, dict):
        return all(go_on(x[key], now[key]) for key in x.keys() & now.keys())
    if is_array(x):
        if x.dtype.hasobject:
            return go_on(x.tolist(), now.tolist())
        return bool(x.tobytes() == now.tobytes())
    if isinstance(x, FunctionType):
        cells, later = ([_content(cell) for cell in f.__closure__ or ()] for f in (x, now))
        return x.__code__ is now.__code__ and go_on(cells, later)
    own, new = (dict(vars(of)) if isinstance(of, type) else _attributes(of) for of in (x, now))
    if own or new:
        return go_on(own, new)
    equal: Any = type(x).__eq__
    with suppress(Exception):
        return equal is object.__eq__ or bool(x == now)
    return False


def _number(x: Any) -> Any:
    return numbers_of([x])[0] if isinstance(x, Value) else x


def _holds_values(x: Any) -> bool:
    if isinstance(x, _LISTS):
        return bool(x) and all(map(_holds_values, x))
    return isinstance(x, Value)


def _names_in(code: CodeType) -> list[str]:
    """The names of globals (and of attributes) in a function's code, and in functions in it."""
    names = list(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names += _names_in(constant)
    return names


def _is_of_library(x: Any) -> bool:
    """Whether it is code of Python's, of ours or of an installed package's, or an object of those.

    Not so objects of classes of Python's and ours: there is much of users' in them.
    """
    is_code = isinstance(x, (type, FunctionType, ModuleType))
    attribute = "__name__" if isinstance(x, ModuleType) else "__module__"
    name = str(getattr(x if is_code else type(x), attribute, ""))
    top = name.partition(".")[0]
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    is_standard = top in sys.stdlib_module_names and top != "__main__"
    if top == _OURS or (is_standard and (not file or file.startswith(_STANDARD))):
        return is_code
    return "site-packages" in file or "dist-packages" in file


def _set_attributes(x: Any, items: dict[str, Any]) -> None:
    own: Any = {} if isinstance(x, type) else getattr(x, "__dict__", {})
    _refill(own, {name: item for name, item in items.items() if name in own})
    now = dict(vars(x)) if isinstance(x, type) else _attributes(x)
    for name, item in items.items():
        if name not in now or now[name] is not item:
            with suppress(AttributeError):  # what is only read has not changed
                setattr(x, name, item)


def _numpys(name: str) -> Any:
    """A type of `numpy.random`, for isinstance; () where that is not loaded."""
    return getattr(sys.modules.get("numpy.random"), name, ())


def is_array(x: Any) -> bool:
    """Whether it is an array of NumPy, which may not be loaded, or be on its way in a thread."""
    return isinstance(x, getattr(sys.modules.get("numpy"), "ndarray", ()))


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return None


def _copied(x: Any) -> Any:
    """The items of a container, without a look at how a class of the user's copies itself."""
    if isinstance(x, (list, deque)):
        return list(x)
    return set(x) if isinstance(x, set) else x[:]


def _refill(x: Any, items: Any) -> None:
    """Give a container these items, in place.

    A dict that has them is let alone: it may be a model's attributes, and Ctrl-C come in between.
    """
    if isinstance(x, dict) and [*x] == [*items] and all(x[key] is items[key] for key in items):
        return
    if isinstance(x, (dict, set)):
        x.clear()
        x.update(items)
    elif isinstance(x, deque):
        x.clear()
        x.extend(items)
    else:
        x[:] = items
