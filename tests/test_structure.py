"""The house: imports point one way, a private name stays in its file, no test is left out."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "micrograd_like"
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(
        path.read_text(encoding="utf-8")
    )
    for path in sorted(PACKAGE.rglob("*.py"))
}

# The floors of the house: a file imports from its own floor and the ones before it.
FLOORS = [
    {"errors", "words", "numerics", "analytic"},
    {"ops"},
    {"modes"},
    {"copying", "methods", "slots"},
    {"engine"},
    {"sums", "given", "gradients"},
    {"state", "losses"},
    {"module", "optim"},
    {"nn"},
    {"views", "checks", "compiler"},
    {"training"},
    {"datasets", "plots"},
    {"__init__"},
    {"cli"},
    {"__main__"},
]
# What is imported late, within a function, from a floor further up.
LATE = {("nn", "compiler.forward"), ("nn", "training.conversion"), ("ops", "views.manual")}


def imports(name: str, tree: ast.Module) -> Iterator[tuple[str, str]]:
    """What a file imports of the package: the other file, and the name taken from it ("" for all).

    Imports within functions and for type checkers count.
    """
    here = name.split(".")[:-1]
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        if node.module == "_native":  # which is C
            continue
        folder = [*here[: len(here) - node.level + 1], *(node.module or "").split(".")]
        base = ".".join(part for part in folder if part)
        for alias in node.names:
            below = f"{base}.{alias.name}" if base else alias.name
            if below in FILES or f"{below}.__init__" in FILES:
                yield below if below in FILES else f"{below}.__init__", ""
            else:
                yield base if base in FILES else f"{base}.__init__".lstrip("."), alias.name


@cache
def graph() -> dict[str, set[str]]:
    return {
        name: {other for other, _ in imports(name, tree) if (name, other) not in LATE}
        for name, tree in FILES.items()
    }


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """A circle among the arrows, or nothing."""
    done: set[str] = set()

    def search(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in sorted(arrows[name]):
            if found := search(other, [*path, name]):
                return found
        done.add(name)
        return []

    return next(filter(None, (search(name, []) for name in arrows)), [])


def test_imports_make_no_circle() -> None:
    assert circle(graph()) == []


def test_a_circle_of_imports_would_be_found() -> None:
    found = circle({**graph(), "numerics": {"nn"}})
    assert {"nn", "numerics"} <= set(found)


def floor(name: str) -> int:
    room = name.split(".")[0]
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


@pytest.mark.parametrize("name", FILES)
def test_a_file_imports_from_its_floor_and_those_below(name: str) -> None:
    for other in graph()[name]:
        assert floor(other) <= floor(name), other


def is_private(name: str) -> bool:
    return name.startswith("_") and name[:2] != "__"


def foreign_privates(tree: ast.Module) -> set[str]:
    """Names with a leading underscore that a file uses and does not define."""
    own: set[str] = set()
    used: dict[str, ast.Attribute] = {}
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                own.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                own.add(name)
            case ast.Attribute(value=ast.Name("self" | "cls"), attr=name, ctx=ast.Store()):
                own.add(name)
            case ast.Assign(targets=[ast.Name("__slots__")], value=ast.Tuple(elts)):
                own.update(slot.value for slot in elts if isinstance(slot, ast.Constant))
            case ast.Attribute(value=ast.Name("sys" | "os" | "threading")):
                pass  # the standard library's
            case ast.Attribute(attr=name):
                used[name] = node
    return {name for name in used.keys() - own if is_private(name)}


@pytest.mark.parametrize("name", FILES)
def test_no_private_name_crosses_a_file(name: str) -> None:
    assert [taken for _, taken in imports(name, FILES[name]) if is_private(taken)] == []
    assert foreign_privates(FILES[name]) == set()


def test_a_private_name_that_crosses_would_be_found() -> None:
    assert foreign_privates(ast.parse("from .engine import Value\nValue(1.0)._data")) == {"_data"}
    assert foreign_privates(ast.parse("class A:\n  def f(self): self._x = 1\nA()._x")) == set()


@pytest.mark.parametrize("room", ["views", "checks", "compiler", "training", "cli"])
def test_a_room_says_what_it_is_for_and_where_to_begin(room: str) -> None:
    words = ast.get_docstring(FILES[f"{room}.__init__"]) or ""
    files = {name.split(".")[1] for name in FILES if name.startswith(f"{room}.")} - {"__init__"}
    assert set(re.findall(r"`(\w+)\.py`", words)) == files


def test_a_file_of_tests_that_cannot_be_imported_is_no_skip(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    broken = tmp_path / "test_broken.py"
    broken.write_text("from micrograd_like import nothing_of_that_name\n")
    settings = PACKAGE.parent / "pyproject.toml"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", settings, broken]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2, run.stdout
    assert "cannot import name 'nothing_of_that_name'" in run.stdout
