"""What a function has beside its arguments: its surroundings, which a call may move.

A program keeps what a trace found there. So a trace looks whether the call moved anything: a
generator of random numbers, or a number or text that is an attribute, an item or a variable. Looked
at is what the function's code can name: the attributes of its object, its closure, its defaults,
the globals that it uses, and so on from there; but not into libraries, and no further than 20,000
things.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, MutableSequence
from functools import partial
from io import IOBase
from numbers import Number
from random import Random, SystemRandom
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from ..engine import Value
from ..errors import TraceError

_MOST = 20_000
_FEW = 1_000  # items of a list or an array
_PLAIN = (Number, str, bytes)
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

    def check(self) -> None:
        """Raises TraceError where something is not as it was. It may have become a Value."""
        for part, before in zip(self._parts, self._before, strict=True):
            now = part.read()
            for key, x in before.items():
                if key in now and now[key] is not x and now[key] != x:
                    raise TraceError(
                        DRAWS
                        if part.what == _NUMBERS
                        else f"model or loss changes {part.what}{key} when it is called, and a "
                        "program would go on with it as it is"
                    )

    def bring_back(self) -> None:
        """Make all as it was."""
        for part in self._parts:
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
    """The roots and what is within them, at most so much, each thing once: no numbers or texts."""
    found: deque[Any] = deque(roots)
    seen: set[int] = set()
    while found and len(seen) < _MOST:
        x = found.popleft()
        if not isinstance(x, (Value, *_PLAIN)) and id(x) not in seen:
            seen.add(id(x))
            yield x
            found += [item for item in _within(x) if not isinstance(item, (Value, *_PLAIN))]


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
    elif isinstance(x, CellType):
        content = _content(x)
        if isinstance(content, _PLAIN):
            back = partial(setattr, x, "cell_contents", content)
            yield _Part("a variable", lambda: _plain({"": _content(x)}), back)
    elif isinstance(x, dict):
        items = dict(x)
        yield _Part("item ", lambda: _plain(x), partial(_refill, x, items))
    elif isinstance(x, (list, deque)):
        copy = list(x)
        if len(copy) <= _FEW:
            back = partial(_refill_list, x, copy)
            yield _Part("item", lambda: _numbered(x), back)
    elif _is_small_array(x):
        yield _Part("an array", lambda: {"": x.tobytes()}, partial(x.__setitem__, ..., x.copy()))
    elif isinstance(x, type):
        if not _is_of_library(x):
            back = partial(_set_attributes, x, _plain(dict(vars(x))))
            yield _Part(f"{x.__name__}.", lambda: _plain(dict(vars(x))), back)
    elif isinstance(attributes := getattr(x, "__dict__", None), dict):
        back = partial(attributes.update, dict(attributes))
        yield _Part(f"{type(x).__name__}.", lambda: _plain(attributes), back)
    if isinstance(x, FunctionType) and not _is_of_library(x):
        variables, names = x.__globals__, _names_in(x.__code__)
        used = _plain({name: variables[name] for name in names if name in variables})
        yield _Part(
            "the variable ",
            lambda: _plain({name: variables[name] for name in used if name in variables}),
            partial(variables.update, used),
        )


def _within(x: Any) -> Iterable[Any]:
    """Where to look on from x."""
    if isinstance(x, dict):
        return list(x.values())
    if isinstance(x, (list, tuple, set, frozenset, deque)):
        return list(x)
    if isinstance(x, CellType):
        return [_content(x)]
    if isinstance(x, MethodType):
        return [x.__self__, x.__func__]
    if isinstance(x, partial):
        return [x.func, x.args, x.keywords]
    if isinstance(x, (staticmethod, classmethod)):
        return [x.__func__]
    if isinstance(x, property):
        return [x.fget]
    if isinstance(x, _numpys("Generator")):
        return [x.bit_generator]
    if isinstance(x, ModuleType) or _is_of_library(x):
        return []
    if isinstance(x, FunctionType):
        named = [x.__globals__[n] for n in _names_in(x.__code__) if n in x.__globals__]
        defaults = [*(x.__defaults__ or ()), *(x.__kwdefaults__ or {}).values()]
        return [*(x.__closure__ or ()), *defaults, *named]
    if isinstance(x, type):
        return [*vars(x).values(), *x.__mro__[1:]]
    attributes = getattr(x, "__dict__", None)
    return [*(attributes.values() if isinstance(attributes, dict) else ()), type(x)]


def _names_in(code: CodeType) -> list[str]:
    """The names of globals (and of attributes) in a function's code, and in functions in it."""
    names = list(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names += _names_in(constant)
    return names


def _is_of_library(x: Any) -> bool:
    """Whether it is code of Python's, of ours or of an installed package's, or an object of such.

    Not so objects of classes of Python's and ours: there is much of users' in them.
    """
    is_code = isinstance(x, (type, FunctionType))
    name = str(getattr(x if is_code else type(x), "__module__", ""))
    top = name.partition(".")[0]
    if (top in sys.stdlib_module_names and top != "__main__") or top == _OURS:
        return is_code
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    return "site-packages" in file or "dist-packages" in file


def _set_attributes(x: type, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        if vars(x).get(name) is not value:
            setattr(x, name, value)


def _numpys(name: str) -> Any:
    """A type of `numpy.random`, for isinstance; () where that is not loaded."""
    return getattr(sys.modules.get("numpy.random"), name, ())


def _is_small_array(x: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(x, numpy.ndarray) and x.size <= _FEW and x.dtype != "O"


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return None


def _plain(items: dict[Any, Any]) -> dict[Any, Any]:
    return {key: x for key, x in items.items() if isinstance(x, _PLAIN)}


def _numbered(x: Iterable[Any]) -> dict[Any, Any]:
    """By their places the plain items of a list, which may also become more."""
    items = _plain({f" {i}": item for i, item in enumerate(x)})
    return {**items, "s": len(items)}


def _refill(x: dict[Any, Any], items: dict[Any, Any]) -> None:
    x.clear()
    x.update(items)


def _refill_list(x: MutableSequence[Any], items: list[Any]) -> None:
    x.clear()
    x.extend(items)
