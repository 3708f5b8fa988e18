"""Plants one small fault after the other in a module and counts those that the tests notice.

    pip install mutmut==3.8.1
    python tests/mutation.py ops engine
    python tests/mutation.py --sample 300 nn optim
    python tests/mutation.py --sample 300 --under 0.6 compiler/tape compiler/lift

The operators are mutmut's. Its own runner takes only the bodies of undecorated functions, and the
table of operations is lambdas and arguments at the level of a module; so every expression is taken
here. Not counted are mutants that differ in annotations, overloads, type variables, `strict=` of a
zip or the words of a `raise` alone (what these interpolate does count), and those that are no
Python.

A mutant is written into a copy of the tree and tested in a fork of this process, which has
imported the packages that the tests need: first against the test file that mirrors its module (or
its room's) and the module's doctests, then against others that use it. The last killers come first,
then the fast tests. Needs `os.fork`. tests/mutation.md has figures, and why what survives does.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import gc
import json
import math
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import hypothesis
import libcst as cst
import numba  # noqa: F401 - for the forks, as what follows
import numpy as np  # noqa: F401
import pytest
from libcst.metadata import WhitespaceInclusivePositionProvider
from mutmut.mutation.file_mutation import NEVER_MUTATE_FUNCTION_CALLS
from mutmut.mutation.mutators import mutation_operators

ROOT = Path(__file__).parent.parent
# Tests beside those that mirror a module: by module or by room, as paths below tests/.
OTHERS = {
    "ops": "test_readme.py test_engine.py test_gradients.py test_losses.py views cli compiler",
    "engine": "test_ops.py test_gradients.py test_nn.py test_state.py views checks compiler",
    "gradients": "test_ops.py test_engine.py views checks compiler",
    "nn": "test_optim.py test_state.py test_losses.py compiler training cli",
    "optim": "test_nn.py test_state.py compiler training cli",
    "views": "views test_documents.py",
    "checks": "checks",
    "compiler": "compiler",
    "training": "training cli",
    "cli": "cli",
}
OPTIONS = [
    "-x",
    "-q",
    "--tb=no",
    "--assert=plain",
    "--hypothesis-profile=mutation",
    "--basetemp=../tests",
]
OPTIONS += [f"-pno:{plugin}" for plugin in ("cacheprovider", "unraisableexception", "faulthandler")]
MEMORY = 6 << 30


class Essence(ast.NodeTransformer):
    """A tree without what no test has to notice."""

    in_raise = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST | None:
        if any(isinstance(d, ast.Name) and d.id == "overload" for d in node.decorator_list):
            return None
        node.returns = None
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node.keywords = [keyword for keyword in node.keywords if keyword.arg != "strict"]
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        typing = isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "TypeVar"
        return None if typing else self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        self.in_raise = True
        self.generic_visit(node)
        self.in_raise = False
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("") if self.in_raise and isinstance(node.value, str) else node


def essence(source: str) -> str:
    return ast.dump(Essence().visit(ast.parse(source)))


class Mutations(cst.CSTVisitor):
    def __init__(self) -> None:
        self.found: list[tuple[cst.CSTNode, cst.CSTNode]] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.Annotation) or (
            isinstance(node, cst.Call)
            and isinstance(node.func, cst.Name)
            and node.func.value in NEVER_MUTATE_FUNCTION_CALLS
        ):
            return False
        for kind, operator in mutation_operators:
            if isinstance(node, kind):
                self.found += [(node, mutated) for mutated in operator(node)]
        return True


def mutants(source: str, order: random.Random | list[int] | None) -> Iterator[tuple[int, str]]:
    """The numbered mutants that count, in the file's order, a random one, or those of a list."""
    module = cst.MetadataWrapper(cst.parse_module(source), unsafe_skip_copy=True)
    places = module.resolve(WhitespaceInclusivePositionProvider)
    visitor = Mutations()
    module.module.visit(visitor)
    numbers = order if isinstance(order, list) else list(range(len(visitor.found)))
    if isinstance(order, random.Random):
        order.shuffle(numbers)
    original = essence(source)
    starts = [0, 0, *accumulate(map(len, source.splitlines(keepends=True)))]
    for number in numbers:
        node, mutated = visitor.found[number]
        start, end = places[node].start, places[node].end
        mutant = (
            source[: starts[start.line] + start.column]
            + module.module.code_for_node(mutated)
            + source[starts[end.line] + end.column :]
        )
        try:
            if essence(mutant) != original:
                compile(mutant, "", "exec", dont_inherit=True)
                yield number, mutant
        except SyntaxError:
            pass


class Tests:
    """Test files, and the pytest plugin that runs their last killers first, then the fast tests."""

    def __init__(self, files: Sequence[str], tree: Path, under: float) -> None:
        self.files = files
        self.under = under
        self.answer = tree.parent / "answer.json"
        self.durations: dict[str, float] = {}
        self.killers: list[str] = []  # the last one last
        self.limit = 1000
        if (verdict := self.verdict()) != "survived":
            sys.exit(f"without a mutant: {verdict}")
        self.limit = 10 + 3 * int(sum(d for d in self.durations.values() if d < under))

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [i for i in items if self.durations.get(i.nodeid, 0.0) < self.under]
        place = {killer: -i for i, killer in enumerate(self.killers, 1)}
        items.sort(key=lambda i: (place.get(i.nodeid, 0), self.durations.get(i.nodeid, 0.0)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.durations[report.nodeid] = self.durations.get(report.nodeid, 0.001) + report.duration
        if report.failed:
            self.end(report.nodeid)

    def end(self, failed: str) -> None:
        self.answer.write_text(json.dumps([failed, self.durations]))
        os._exit(0)

    def verdict(self) -> str:
        """What the tests say in a fork: 'survived', the test that fails, or 'timeout'.

        They have `limit` seconds of the processor, and ten times as many by the clock.
        """
        self.answer.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            os.setsid()
            silence = os.open(os.devnull, os.O_RDWR)
            for stream in range(3):
                os.dup2(silence, stream)
            gc.freeze()
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            resource.setrlimit(resource.RLIMIT_CPU, (self.limit, self.limit))
            failed = pytest.main([*OPTIONS, *self.files], plugins=[self]) != 0
            self.end("collection" if failed else "")
        deadline = time.monotonic() + 10 * self.limit
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.killpg(child, signal.SIGKILL)
            time.sleep(0.005)
        if not self.answer.exists():
            return "timeout"
        failed, durations = json.loads(self.answer.read_text())
        if not failed:
            self.durations = self.durations or durations
            return "survived"
        if failed in self.killers:
            self.killers.remove(failed)
        self.killers.append(failed)
        return failed


def examine(name: str, stages: dict[str, Tests], arguments: argparse.Namespace) -> Counter[str]:
    """Writes the mutants of a module into the current folder, a copy of the tree; what became."""
    path = Path(f"micrograd_like/{name}.py")
    source = path.read_text()
    for stale in path.parent.glob(f"__pycache__/{path.stem}.*"):
        stale.unlink()  # it is told from a mutant by its size and second alone
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    figures: Counter[str] = Counter()
    order = arguments.only or (random.Random(arguments.seed) if arguments.sample else None)
    for number, mutant in mutants(source, order):
        path.write_text(mutant)
        for stage, tests in stages.items():  # noqa: B007
            verdict = tests.verdict()
            if verdict != "survived":
                break
        figures["mutants"] += 1
        figures[verdict if verdict in {"survived", "timeout"} else f"killed by {stage}"] += 1
        if verdict == "survived":
            diff = list(difflib.unified_diff(source.split("\n"), mutant.split("\n"), n=0))[2:]
            print(f"{name} {number} survived", *diff, "", sep="\n", flush=True)
        elif arguments.verbose:
            print(name, number, verdict, dict(figures), flush=True)
        if figures["mutants"] == arguments.sample:
            break
    path.write_text(source)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="+", help="such as ops or compiler/tape")
    parser.add_argument(
        "--sample", type=int, help="so many mutants of each module, drawn at random"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, nargs="+", help="the mutants of these numbers")
    parser.add_argument("--own", action="store_true", help="the mirroring test file alone")
    parser.add_argument(
        "--under", type=float, default=math.inf, help="only tests that take fewer seconds"
    )
    parser.add_argument("--verbose", action="store_true", help="every verdict")
    arguments = parser.parse_args()
    hypothesis.settings.register_profile(
        "mutation",
        deadline=None,
        derandomize=True,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory) / "tree"
        ignore = shutil.ignore_patterns(".*", "runs")
        shutil.copytree(ROOT, tree, ignore=ignore)
        os.chdir(tree)
        sys.path[:] = [str(tree), *(p for p in sys.path if p and Path(p) != ROOT / "tests")]
        os.environ["PYTHONPATH"] = str(tree)
        os.environ["MICROGRAD_LIKE_CACHE"] = str(Path(directory) / "cache")
        known: dict[tuple[str, ...], Tests] = {}
        for name in arguments.modules:
            room, _, leaf = name.rpartition("/")
            mirror = Path("tests", room, f"test_{leaf}.py")
            own = (str(mirror if mirror.exists() else mirror.parent), f"micrograd_like/{name}.py")
            stages = {"its own tests": own}
            if not arguments.own:
                others = [f"tests/{other}" for other in OTHERS.get(room or leaf, "").split()]
                stages["others"] = tuple(others) or own
            for files in stages.values():
                if files not in known:
                    sys.dont_write_bytecode = False
                    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
                    known[files] = Tests(files, tree, arguments.under)
            figures = examine(name, {s: known[files] for s, files in stages.items()}, arguments)
            killed = 1 - figures["survived"] / figures["mutants"]
            print(f"{name}: {killed:.1%} killed, {dict(figures)}", flush=True)


if __name__ == "__main__":
    main()
