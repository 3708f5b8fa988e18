"""Random programs against three evaluators and against every other way to run them.

    python tests/fuzz.py --seconds 60 --seed 1 --processes 2
    python tests/fuzz.py --cases 10000 --checks exact,second,several,derived,python,numpy,numba
    python tests/fuzz.py --atheris -max_total_time=60 -len_control=0 -max_len=100

The last needs `pip install atheris`; libFuzzer then chooses the bytes by the coverage that they
reach in the package, and takes its own options. The others print how many cases they ran and, of a
failure, the smallest program that still fails, as a regression test to paste. `programs.py` says
what a program is and how far results may be apart.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import random
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    if "--atheris" in sys.argv:
        import atheris

        with atheris.instrument_imports(include=["micrograd_like"]):
            import micrograd_like  # noqa: F401 - to be instrumented

from optional import mpmath
from programs import (
    COMPLEX_STEP,
    MAKE,
    RULES,
    Bounded,
    IllConditionedError,
    OutsideError,
    UndecidedError,
    decode,
    error_of,
    plain,
    shrunk,
)
from reference import DEFINITIONS, EPSILON, Dual, Program, evaluated

from micrograd_like import Value, compile, derive, grad, hessian, jvp, steps, topological_order
from micrograd_like.errors import DomainError

NAN = math.nan
Gradient = list[tuple[float, float]]  # numbers and the bounds on their errors


class Disagreement(AssertionError):  # noqa: N818 - what the fuzzer is there to find
    """Two ways to compute one thing give two things."""


def expect(what: str, got: float, want: float, allowed: float) -> None:
    if not abs(got - want) <= allowed:
        raise Disagreement(f"{what} is {got!r}, not {want!r} ± {float(allowed):.3g}")


def same(got: float, want: float) -> bool:
    return got == want or (got != got and want != want)


# --- the engine -----------------------------------------------------------------------------------


class Run:
    """A program in the engine: its results up to the first refusal, which is at step `refused`."""

    def __init__(self, program: Program, inputs: Sequence[float] | None = None) -> None:
        self.program = program
        self.inputs = [Value(x) for x in inputs or program.inputs]
        self.results: list[Any] = list(self.inputs)
        self.refused: int | None = None
        for k, (name, operands) in enumerate(program.steps):
            try:
                self.results.append(MAKE[name](*Program.pick(self.results, operands)))
            except DomainError:
                self.refused = k
                break
        root = self.results[-1]
        self.root: Value = root if isinstance(root, Value) else Value(root)

    def sizes(self, root: Value | None = None) -> list[float]:
        """For each input, Σ |product of local derivatives| over the paths from it to the root."""
        root = self.root if root is None else root
        order = topological_order(root)
        size = dict.fromkeys(order, 0.0)
        size[root] = 1.0
        for node in reversed(order):
            for parent, local in zip(node.parents, node.local_grads, strict=True):
                size[parent] += size[node] * abs(local)
        return [size.get(x, 0.0) for x in self.inputs]


def needed(program: Program) -> Program:
    """The steps that the last result depends on."""
    first = len(program.inputs)
    keep = {first + len(program.steps) - 1}
    for k in reversed(range(len(program.steps))):
        if first + k in keep:
            keep.update(a for a in program.steps[k][1] if isinstance(a, int))
    number = {a: a for a in range(first)}
    steps_ = []
    for k, (name, operands) in enumerate(program.steps, first):
        if k in keep:
            number[k] = first + len(steps_)
            steps_.append((name, tuple(number[a] if isinstance(a, int) else a for a in operands)))
    return Program(program.inputs, tuple(steps_))


def complete(program: Program, run: Run) -> Program:
    """The part of the program that the engine did not refuse."""
    if run.refused is None:
        return program
    return Program(program.inputs, program.steps[: run.refused])


# --- the evaluators -------------------------------------------------------------------------------


def bounded_values(program: Program) -> tuple[list[Any], type[Exception] | None]:
    """All results with the bounds on their errors, up to the first that has none, and why."""
    results: list[Any] = []
    try:
        results += [Bounded(x) for x in program.inputs]
    except UndecidedError:
        return results, UndecidedError
    for name, operands in program.steps:
        xs = Program.pick(results, operands)
        try:
            if any(not abs(x) < 1e300 for x in xs if x.__class__ is float):
                raise UndecidedError
            y = rule(name)(*xs)
            results.append(Bounded(y) if y.__class__ is float else y)
        except (OverflowError, ZeroDivisionError):
            return results, UndecidedError
        except (UndecidedError, OutsideError) as error:
            return results, type(error)
    return results, None


def rule(name: str) -> Callable[..., Any]:
    try:
        return RULES[name]
    except KeyError:
        raise UndecidedError(name) from None


def dual_gradient(program: Program) -> Gradient:
    gradient = []
    for i in range(len(program.inputs)):
        seeded = [
            Dual(Bounded(x), Bounded(1.0)) if i == j else Bounded(x)
            for j, x in enumerate(program.inputs)
        ]
        tangent = getattr(_last(program, seeded), "tangent", 0.0)
        gradient.append((plain(tangent), error_of(tangent)))
    return gradient


def dual_hessian(program: Program) -> list[Gradient]:
    n = len(program.inputs)

    def entry(i: int, j: int) -> tuple[float, float]:
        one, zero = Bounded(1.0), Bounded(0.0)
        seeded = [
            Dual(Dual(Bounded(x), one if i == k else zero), Dual(one if j == k else zero, zero))
            for k, x in enumerate(program.inputs)
        ]
        tangent = getattr(getattr(_last(program, seeded), "tangent", 0.0), "tangent", 0.0)
        return plain(tangent), error_of(tangent)

    return [[entry(i, j) for j in range(n)] for i in range(n)]


def _last(program: Program, inputs: Sequence[Any]) -> Any:
    results = list(inputs)
    try:
        for name, operands in program.steps:
            y = RULES[name](*Program.pick(results, operands))
            results.append(Bounded(y) if y.__class__ is float else y)
        return results[-1]
    except (OutsideError, OverflowError, ZeroDivisionError, KeyError) as error:
        raise UndecidedError(repr(error)) from None


def complex_step(program: Program) -> tuple[list[float], list[float]]:
    """The value (once for each input) and the gradient."""
    h = 1e-100
    values, gradient = [], []
    for i in range(len(program.inputs)):
        shifted = [complex(x, h * (i == j)) for j, x in enumerate(program.inputs)]
        try:
            results = [*map(complex, program.run(shifted, COMPLEX_STEP))]
        except (OverflowError, ZeroDivisionError, ValueError, KeyError) as error:
            raise UndecidedError(repr(error)) from None
        if any(abs(z.real) < 1e-40 for z in results):
            raise UndecidedError("the step is not small")
        values.append(results[-1].real)
        gradient.append(results[-1].imag / h)
    return values, gradient


def _strict(name: str) -> Callable[..., Any]:
    """The row's definition, where it is a smooth real function."""
    f = DEFINITIONS[name].f
    kink = {
        "relu": lambda x: x, "leaky_relu": lambda x, _: x, "elu": lambda x, _: x,
        "abs": lambda x: x, "max": lambda x, y: x - y, "min": lambda x, y: x - y,
        "step": lambda x: x, "sign": lambda x: x, "greater": lambda x, y: x - y,
        "mod": lambda x, y: x / y - mpmath.nint(x / y),
        "clip": lambda *xs: min(abs(xs[i] - xs[i - 1]) for i in range(3)),
        "exceeds": lambda x, y: x - y, "equals": lambda x, y: x - y,
        "hypot": lambda x, y: abs(x) + abs(y), "cosine": lambda x, y: abs(x) + abs(y),
        "atan2": lambda y, x: x if x > 0 else y,
    }.get(name)  # fmt: skip

    def apply(*xs: Any) -> Any:
        if kink is not None and abs(kink(*xs)) < 1e-16:
            raise UndecidedError("a kink")
        y = f(*xs)
        if isinstance(y, mpmath.mpc) or not mpmath.isfinite(y):
            raise UndecidedError("not real")
        return mpmath.mpf(y)

    return apply


EXACT = {name: _strict(name) for name in DEFINITIONS}


def exact_gradient(program: Program, digits: int) -> tuple[Any, list[Any]]:
    """The value, and central differences of the whole program, in numbers of so many digits.

    A third of the digits is the step, so that a third is right.
    """
    with mpmath.workdps(digits):
        h = mpmath.mpf(10) ** (-digits // 3)
        exact = [mpmath.mpf(x) for x in program.inputs]
        steps_ = tuple(
            (name, tuple(a if isinstance(a, int) else mpmath.mpf(a) for a in operands))
            for name, operands in program.steps
        )
        exact_program = Program(tuple(exact), steps_)
        try:
            value = exact_program.run(exact, EXACT)[-1]
            gradient = []
            for i in range(len(exact)):
                ends = [
                    exact_program.run([*exact[:i], exact[i] + d, *exact[i + 1 :]], EXACT)[-1]
                    for d in (h, -h)
                ]
                gradient.append((ends[0] - ends[1]) / (2 * h))
        except (ZeroDivisionError, ValueError, OverflowError, TypeError) as error:
            raise UndecidedError(repr(error)) from None
        return value, gradient


# --- the comparisons ------------------------------------------------------------------------------


def check_eager(program: Program) -> str:
    """Values, refusals, gradients, replayed steps and jvp against duals and the complex step."""
    run = Run(program)
    results, end = bounded_values(program)
    known = len(results) - len(program.inputs)
    if run.refused is not None and known > run.refused:
        raise Disagreement(f"step {run.refused} is refused, and it is {results[-1]}")
    if end is OutsideError and run.refused != known:
        name, operands = program.steps[known]
        xs = Program.pick(run.results, operands)
        raise Disagreement(f"step {known} is {name} of {xs}, and was not refused")
    for got, want in zip(run.results, results, strict=False):
        x = got.data if isinstance(got, Value) else got
        expect("a value", x, plain(want), 2.0 * error_of(want))
    program = complete(program, run)
    replayed(run)
    if end is not None or known < len(program.steps):
        return "in part"
    try:
        gradient = dual_gradient(program)
    except UndecidedError:
        return "in part"
    got = grad(run.root, run.inputs)
    sizes = run.sizes()
    rounding = 16.0 * EPSILON * len(program.steps)
    if not all(map(math.isfinite, sizes)):  # an infinite local derivative: times 0 it is NaN
        return "in part"
    local = [abs(d) for node in topological_order(run.root) for d in node.local_grads]
    if any(0.0 < d < sys.float_info.min for d in local):  # digits were lost to underflow
        return "in part"
    for i, ((want, error), size) in enumerate(zip(gradient, sizes, strict=True)):
        expect(f"d/dx{i}", got[i], want, 4.0 * error + rounding * size + 1e-290)
    direction = [1.0, -0.5, 0.25, 2.0][: len(got)]
    along = sum(d * c for d, c in zip(got, direction, strict=True))
    size = sum(s * abs(c) for s, c in zip(sizes, direction, strict=True))
    expect("jvp", jvp(run.root, run.inputs, direction), along, rounding * size + 1e-290)
    try:
        values, slopes = complex_step(program)
    except UndecidedError:
        return "by duals"
    for i, ((_, error), size) in enumerate(zip(gradient, sizes, strict=True)):
        allowed = 4.0 * error_of(results[-1]) + 1e-190
        expect("the value by complex step", values[i], run.root.data, allowed)
        allowed = 8.0 * error + 2.0 * rounding * size + 1e-90
        expect(f"d/dx{i} by complex step", slopes[i], got[i], allowed)
    return "by duals and complex step"


def replayed(run: Run) -> None:
    """The events of `steps` give what `backward` leaves to the bit, and `grad` gives it too."""
    want = grad(run.root, run.inputs)
    events = {event.node: event.after for event in steps(run.root).backward}
    run.root.backward()
    for x, slope in zip(run.inputs, want, strict=True):
        if not same(x.grad, slope):
            raise Disagreement(f"backward leaves {x.grad!r}, grad gives {slope!r}")
    for node, slope in events.items():
        if struct.pack("d", node.grad) != struct.pack("d", slope) and not same(node.grad, slope):
            raise Disagreement(f"backward leaves {node.grad!r}, replayed steps {slope!r}")
        node.grad = 0.0


def check_exact(program: Program) -> str:
    """Values and gradients against mpmath."""
    run = Run(program)
    results, end = bounded_values(program)
    if end is not None:
        return "undecided"
    try:
        gradient = dual_gradient(program)
        digits = 75
        largest = max(abs(plain(x)) for x in results)
        if largest > 30.0:  # exponentials of it, beside numbers near 1
            digits += 3 * min(int(largest), 300)
        value, slopes = exact_gradient(program, digits)
    except UndecidedError:
        return "undecided"
    if not all(map(math.isfinite, run.sizes())):
        return "undecided"
    expect("the value in mpmath", run.root.data, value, 2.0 * error_of(results[-1]) + 1e-290)
    rounding = 16.0 * EPSILON * len(program.steps)
    sizes = run.sizes()
    for i, got in enumerate(grad(run.root, run.inputs)):
        allowed = 4.0 * gradient[i][1] + rounding * sizes[i] + 1e-20 * abs(value)
        expect(f"d/dx{i} in mpmath", got, slopes[i], allowed + 1e-24)
    return "decided"


def check_second(program: Program) -> str:
    """The Hessian against duals of duals, and its symmetry."""
    run = Run(program)
    program = complete(program, run)
    try:
        want = dual_hessian(program)
    except UndecidedError:
        return "undecided"
    gradients = grad(run.root, run.inputs, create_graph=True)
    if not all(same(g.data, d) for g, d in zip(gradients, grad(run.root, run.inputs), strict=True)):
        plain_ = grad(run.root, run.inputs)
        for i, (g, d) in enumerate(zip(gradients, plain_, strict=True)):
            expect(f"d/dx{i} as a graph", g.data, d, 64.0 * EPSILON * run.sizes()[i] + 1e-290)
    got = hessian(run.root, run.inputs)
    for i, row in enumerate(want):
        sizes = run.sizes(gradients[i])
        if not all(map(math.isfinite, sizes)):
            continue
        for j, (x, error) in enumerate(row):
            allowed = 8.0 * error + 64.0 * EPSILON * (1 + len(program.steps)) * sizes[j] + 1e-280
            expect(f"d²/dx{i}dx{j}", got[i][j], x, allowed)
    return "decided"


def check_derived(program: Program) -> str:
    """The equations of `derive`, with exact partials, evaluated together and for one input."""
    run = Run(program)
    want = grad(run.root, run.inputs)
    value_error, errors = bounds(complete(program, run))
    sizes = run.sizes()
    derived = evaluated(derive(run.root, run.inputs, form="exact"), run.inputs)
    alone = [evaluated(derive(run.root, x, form="exact"), [x]) for x in run.inputs[:2]]
    pairs = [("derived", i, got) for i, got in enumerate(derived or ())]
    pairs += [("derived alone", i, found[0]) for i, found in enumerate(alone) if found]
    for how, i, got in pairs:
        close(f"d/dx{i} {how}", got, want[i], errors[i], sizes[i], len(program.steps))
    return "decided" if math.isfinite(value_error + errors[0]) else "in part"


def close(what: str, got: float, want: float, error: float, size: float, count: int) -> None:
    """Equal, or as near as the bound says; where there is none (NaN), of the same kind."""
    if same(got, want) or error == math.inf:
        return
    if error == error:
        expect(what, got, want, 8.0 * error + 64.0 * EPSILON * (1 + count) * size + 1e-280)
    elif math.isfinite(got) != math.isfinite(want) or (math.isinf(got) != math.isinf(want)):
        raise Disagreement(f"{what} is {got!r}, not {want!r}")


BATCH = {"python": 20, "numpy": 50, "numba": 500}  # inputs that a compiled program is run on


def check_python(program: Program) -> str:
    return check_compiled(program, "python")


def check_numpy(program: Program) -> str:
    return check_compiled(program, "numpy")


def check_numba(program: Program) -> str:
    return check_compiled(program, "numba")


def check_compiled(program: Program, backend: Any) -> str:
    """The compiled program on a batch of inputs, on some alone, and its refusals on request."""
    import numpy as np

    program = complete(program, Run(program))
    program = needed(program)
    run = Run(program)
    compiled = compile(run.root, run.inputs, run.inputs, backend=backend)
    rng = random.Random(repr(program))
    rows = [list(program.inputs), *(_near(program.inputs, rng) for _ in range(BATCH[backend] - 1))]
    runs = [Run(program, row) for row in rows]
    for row, eager in list(zip(rows, runs, strict=True))[:8]:
        refusal = None
        try:
            compiled(row, check=True)
        except DomainError as error:
            refusal = error
        if (refusal is None) != (eager.refused is None):
            raise Disagreement(f"the engine at {row}: {eager.refused}, with check=True: {refusal}")
    values, gradients = compiled(rows if backend == "python" else np.array(rows))
    kinds: Counter[str] = Counter()
    for k, (row, eager) in enumerate(zip(rows, runs, strict=True)):
        if eager.refused is not None:
            continue
        at = Program(tuple(row), program.steps)
        want = grad(eager.root, eager.inputs)
        sizes = eager.sizes()
        value_error, errors = bounds(at)
        decided = math.isfinite(value_error + errors[0])
        if not decided and at_the_ends(eager.root):
            continue
        kinds["decided" if decided else "in part"] += 1
        results = [("of a batch", values[k], gradients[k])]
        if k < 8:
            results.append(("alone", *compiled(row)))
        for how, value, gradient in results:
            what = f"{backend}, {how}, at {row}"
            close(f"the value, {what}", value, eager.root.data, value_error, 0.0, 0)
            for i, got in enumerate(gradient):
                close(f"d/dx{i}, {what}", got, want[i], errors[i], sizes[i], len(program.steps))
    return "decided" if kinds["decided"] else "in part"


def check_several(program: Program) -> str:
    """Value, gradient and second derivatives in one compiled program of several outputs."""
    run = Run(program)
    program = complete(program, run)
    try:
        want = dual_hessian(program)
    except UndecidedError:
        return "undecided"
    value_error, errors = bounds(program)
    gradients = grad(run.root, run.inputs, create_graph=True)
    roots, sizes = [run.root, *gradients], [run.sizes(), *map(run.sizes, gradients)]
    at = [root.data for root in roots]
    count = 1 + len(program.steps)
    for backend in ("python", "numpy"):
        values, rows = compile(roots, run.inputs, run.inputs, backend=backend)(program.inputs)
        close(f"the value, {backend}", values[0], at[0], value_error, 0.0, 0)
        for i in range(len(run.inputs)):
            what = f"d/dx{i}, {backend}"
            close(what, values[1 + i], at[1 + i], errors[i], sizes[0][i], count)
            close(f"{what}, in the Jacobian", rows[0][i], at[1 + i], errors[i], sizes[0][i], count)
            if all(map(math.isfinite, sizes[1 + i])):
                for j, (x, error) in enumerate(want[i]):
                    what = f"d²/dx{i}dx{j}, {backend}"
                    close(what, rows[1 + i][j], x, error, sizes[1 + i][j], count)
    return "decided"


def at_the_ends(root: Value) -> bool:
    """Whether products of finite numbers in the graph may overflow in one order only."""
    for node in topological_order(root):
        for x in (node.data, *node.local_grads):
            if 1e150 < abs(x) < math.inf or 0.0 < abs(x) < 1e-150:
                return True
    return False


def _near(xs: Sequence[float], rng: random.Random) -> list[float]:
    return [x + rng.choice((0.0, 0.1, 1.0)) * rng.uniform(-1.0, 1.0) for x in xs]


def bounds(program: Program) -> tuple[float, list[float]]:
    """The bounds on the errors of value and gradient; NaN where none is known."""
    results, end = bounded_values(program)
    value_error = math.inf if end is IllConditionedError else NAN
    if end is None:
        value_error = error_of(results[-1])
    try:
        return value_error, [error for _, error in dual_gradient(program)]
    except UndecidedError as error:
        most = math.inf if isinstance(error, IllConditionedError) else NAN
        return value_error, [most] * len(program.inputs)


def check_engines(program: Program) -> str:
    """The engine in C against the one in Python: whatever can be seen, to the bit."""
    from both import IN_C, IN_PYTHON, history

    if not IN_C.engine.NATIVE:
        raise UndecidedError("there is no engine in C")
    for kind in ("Value", "Plain", "Own"):
        histories = [history(package, program, kind) for package in (IN_C, IN_PYTHON)]
        for k, (in_c, in_python) in enumerate(zip(*histories, strict=True)):
            if in_c != in_python:
                raise Disagreement(f"part {k} of the history, in C: {in_c}\nin Python: {in_python}")
    return "the same"


CHECKS: dict[str, Callable[[Program], str]] = {
    "eager": check_eager,
    "exact": check_exact,
    "second": check_second,
    "derived": check_derived,
    "several": check_several,
    "python": check_python,
    "numpy": check_numpy,
    "numba": check_numba,
    "engines": check_engines,
}


# --- the driver -----------------------------------------------------------------------------------


def fails(check: Callable[[Program], str], program: Program) -> Exception | None:
    try:
        check(program)
    except UndecidedError:
        return None
    except Exception as error:
        return error
    return None


def regression_test(name: str, program: Program, error: Exception) -> str:
    return (
        f"# {type(error).__name__}: {error}\n"
        f"def test_{name}_agrees_on_this_program() -> None:\n"
        f"    check_{name}(\n        {program!r}\n    )\n"
    )


def report(name: str, program: Program) -> str:
    """The minimised failure of a check that fails on the program."""
    kind = type(fails(CHECKS[name], program))
    smallest = shrunk(program, lambda p: type(fails(CHECKS[name], p)) is kind)
    error = fails(CHECKS[name], smallest)
    assert error is not None
    return regression_test(name, smallest, error)


def work(
    seed: int, names: Sequence[str], cases: int, seconds: float, most: int
) -> tuple[Counter[str], list[str]]:
    """Run the checks on random programs. Returns the figures and the minimised failures."""
    rng = random.Random(seed)
    figures: Counter[str] = Counter()
    failures: list[str] = []
    end = time.monotonic() + seconds
    while figures["programs"] < cases and time.monotonic() < end and len(failures) < most:
        program = decode(rng.randbytes(rng.choice((8, 20, 40, 80))))
        figures["programs"] += 1
        for name in names:
            try:
                figures[f"{name}: {CHECKS[name](program)}"] += 1
            except Exception:
                failures.append(report(name, program))
    return figures, failures


def main() -> int:
    if "--atheris" in sys.argv:
        return guided([a for a in sys.argv if a != "--atheris"])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--cases", type=int, default=10**12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--checks", default="eager")
    parser.add_argument("--failures", type=int, default=5, help="stop after so many, a process")
    options = parser.parse_args()
    names = options.checks.split(",")
    jobs = [
        (options.seed * 1000 + k, names, options.cases, options.seconds, options.failures)
        for k in range(options.processes)
    ]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        outcomes = pool.starmap(work, jobs)
    figures = sum((figures for figures, _ in outcomes), Counter())
    failures = [failure for _, failures in outcomes for failure in failures]
    for key, count in sorted(figures.items()):
        print(f"{count:12,}  {key}")
    print(f"{len(failures):12,}  failures")
    for failure in failures:
        print("\n" + failure)
    return bool(failures)


def guided(arguments: list[str]) -> int:
    """Let libFuzzer choose the bytes by the coverage that they reach in the package."""
    import atheris

    def one(data: bytes) -> None:
        program = decode(data)
        for name in ("eager", "second", "derived", "python"):
            if fails(CHECKS[name], program):
                print(report(name, program))
                CHECKS[name](program)

    atheris.Setup(arguments, one)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
