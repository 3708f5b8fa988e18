"""How fast the engine is, and how large its graphs are, beside other engines in one run.

    python tests/benchmarks/engine.py            everything, some minutes
    python tests/benchmarks/engine.py --short    the same with fewer and smaller rounds, for CI

Rounds alternate between the engines and between a cyclic garbage collector that is on and one that
is off; what is printed are medians over the rounds, and ratios of medians. A target that is missed
is reported, and no more: the exit status is 0.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import peers
from peers import IN_PYTHON, OURS, OWN_VALUE, Failure, Worker

ON_OFF = {True: "on", False: "off"}
SMALL_STACK = 256 << 10
AGREEMENT = 1e-9  # relative, of losses and gradients
SMALLEST = 1000  # an engine is not asked for less than this, and fails

NODE_BYTES = 96
PASS_RATIO = 1.1  # of the collector's pass with nodes alive, to one without
LONG_CHAIN_SECONDS = 2.0  # for 1,000,000 operations
IMPORT_MILLISECONDS = 60
IMPORT_RATIO = 1.05  # of the import with the engine in C, to one with the engine in Python


@dataclass(frozen=True)
class Comparison:
    """A workload that several engines do, in rounds, and how much faster ours is to be.

    A figure is the seconds of a round over `size` times `operations`, in units of `unit`. Sizes and
    numbers of rounds are those of the full and of the short form.
    """

    title: str
    workload: str
    unit: tuple[float, str]
    sizes: tuple[int, int]
    rounds: tuple[int, int]
    operations: int = 1
    # By the peer and the collector: at least this many times its speed.
    faster: dict[tuple[str, bool], float] = field(default_factory=dict)
    at_most: float | None = None  # our own figure


MILLISECONDS, MICROSECONDS, NANOSECONDS = (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")

COMPARISONS = (
    Comparison(
        "Training step: MLP(2, [16, 16, 1]) with relu, 100 points, hinge loss + L2, SGD",
        "training",
        MILLISECONDS,
        sizes=(10, 3),
        rounds=(5, 2),
        faster={
            ("micrograd", True): 50.0,
            ("micrograd", False): 6.0,
            ("minigrad", True): 1 / 0.35,
            ("minigrad", False): 1 / 0.35,
        },
    ),
    Comparison(
        "The same by a program with neurons of its own, of single operations",
        "own_training",
        MILLISECONDS,
        sizes=(3, 1),
        rounds=(5, 2),
        faster={
            ("micrograd", True): 8.0,
            ("micrograd", False): 2.0,
            ("minigrad", True): 1 / 0.8,
            ("minigrad", False): 1 / 0.8,
        },
    ),
    Comparison(
        "Chain of {size:,} operations v * scale, v + shift: build, backward, free; per operation",
        "chain",
        NANOSECONDS,
        sizes=(200_000, 200_000),
        rounds=(7, 2),
        faster={
            ("micrograd", True): 12.0,
            ("micrograd", False): 4.5,
            ("minigrad", True): 1 / 0.5,
            ("minigrad", False): 1 / 0.5,
        },
    ),
    Comparison(
        "The expression of micrograd's README: build and backward",
        "expression",
        MICROSECONDS,
        sizes=(1000, 300),
        rounds=(15, 5),
        faster={
            ("micrograd", True): 60 / 25,
            ("micrograd", False): 60 / 25,
            ("minigrad", True): 1 / 0.5,
            ("minigrad", False): 1 / 0.5,
        },
    ),
    Comparison(
        "Rosenbrock's function of 100 variables: build and backward",
        "rosenbrock",
        MICROSECONDS,
        sizes=(50, 10),
        rounds=(15, 5),
        faster={("minigrad", True): 1 / 0.5, ("minigrad", False): 1 / 0.5},
    ),
    Comparison(
        "Sum of {size:,} products, total + x * xs[i]: build, backward, free; per operation",
        "sum_of_products",
        NANOSECONDS,
        sizes=(100_000, 20_000),
        rounds=(7, 2),
        operations=2,
        faster={("minigrad", True): 1 / 0.8, ("minigrad", False): 1 / 0.8},
        at_most=1000.0,
    ),
    Comparison(
        "A GPT of its own code: one step of training on one word, with the Value class replaced",
        "gpt",
        MILLISECONDS,
        sizes=(2, 1),
        rounds=(5, 2),
        faster={(OWN_VALUE, True): 10.0, (OWN_VALUE, False): 4.0},
    ),
    Comparison(
        "The same with {size:,} numbers, not Values, for xs; per operation",
        "sum_of_multiples",
        NANOSECONDS,
        sizes=(100_000, 20_000),
        rounds=(7, 2),
        operations=2,
        at_most=1000.0,
    ),
)


class Verdicts:
    """The targets, as they are met or missed."""

    def __init__(self) -> None:
        self.met = 0
        self.missed: list[str] = []

    def judge(self, met: bool, target: str, what: str) -> str:
        """The end of a row; `what` names it in the list of those that missed."""
        if met:
            self.met += 1
        else:
            self.missed.append(f"{what}: {target}")
        return f"{target:<10} {'ok' if met else 'MISSED'}"

    def report(self) -> None:
        print(f"Targets met: {self.met} of {self.met + len(self.missed)}.")
        for row in self.missed:
            print(f"  MISSED  {row}")


# --- engines side by side -------------------------------------------------------------------------


def compare(
    comparison: Comparison, workers: dict[str, Worker], short: bool, verdicts: Verdicts
) -> None:
    """Run and print one comparison."""
    size, rounds = comparison.sizes[short], comparison.rounds[short]
    print(f"{comparison.title.format(size=size)}\n  {rounds} rounds")
    runs = {name: Runs(worker, comparison.workload, size) for name, worker in workers.items()}
    for _ in range(rounds):
        for collector in ON_OFF:
            for run in runs.values():
                run.add(collector)

    print(f"  {'collector':<11}{'engine':<17}{'median':>11}{'/ ours':>9}{'garbage':>11}   target")
    scale, unit = comparison.unit
    for collector, on_off in ON_OFF.items():
        ours = runs[OURS].median("seconds", collector) / (comparison.operations * scale)
        for name, run in runs.items():
            if run.failure:
                continue
            figure = run.median("seconds", collector) / (comparison.operations * scale)
            garbage = run.median("garbage", collector) * run.size * 1e3
            what = f"{comparison.workload}, {name}, collector {on_off}"
            least = comparison.faster.get((name, collector))
            verdict = ""
            if least is not None:
                verdict = verdicts.judge(figure >= least * ours, f">= {least:g}", what)
            elif name == OURS and (most := comparison.at_most) is not None:
                verdict = verdicts.judge(figure <= most, f"<= {most:g} {unit}", what)
            ratio = "" if name == OURS else f"{figure / ours:.2f}"
            note = "" if run.size == size else f" (could do no more than {run.size:,})"
            columns = f"{_digits(figure):>8} {unit}{ratio:>9}{garbage:>8.0f} ms"
            print(f"  {on_off:<11}{name:<17}{columns}   {verdict}{note}".rstrip())
    for name, run in runs.items():
        if run.failure:
            print(f"  {'':<11}{name:<17}{run.failure}")
    _print_agreement({name: run.checks for name, run in runs.items() if run.size == size})
    print(flush=True)


class Runs:
    """The rounds of one workload on one engine.

    `size` is the one asked for, or the largest of its halves, quarters, ... that the engine can do:
    micrograd recurses as deep as its graph.
    """

    def __init__(self, worker: Worker, workload: str, size: int) -> None:
        self.worker, self.workload, self.size = worker, workload, size
        self.failure = ""
        self.checks: list[float] = []
        self.figures: dict[bool, list[dict[str, float]]] = {True: [], False: []}
        while not (answer := self._order(collector=False)) and self.size >= 2 * SMALLEST:
            self.size //= 2
            self.failure = ""
        if answer:
            self.checks += answer["check"]

    def add(self, collector: bool) -> None:
        """One more round, unless the engine has failed."""
        if not self.failure and (answer := self._order(collector)):
            self.checks += answer["check"]
            self.figures[collector].append(answer["figures"])

    def median(self, figure: str, collector: bool) -> float:
        """The median of that figure, divided by the size; NaN after a failure."""
        if self.failure:
            return float("nan")
        return median(figures[figure] for figures in self.figures[collector]) / self.size

    def _order(self, collector: bool) -> dict[str, Any] | None:
        try:
            return self.worker.order(self.workload, self.size, collector)
        except Failure as failure:
            self.failure = str(failure)
            return None


def _print_agreement(checks: dict[str, list[float]]) -> None:
    """Whether the engines computed the same losses or gradients as ours, round by round."""
    ours = checks.pop(OURS, [])
    agree = []
    for name, theirs in checks.items():
        pairs = list(zip(ours, theirs, strict=False))  # a failure ends its engine's list early
        apart = [abs(a - b) / max(1.0, abs(a)) for a, b in pairs]
        if not apart:
            continue
        if all(x <= AGREEMENT for x in apart):  # no NaN is
            agree.append(name)
        else:
            print(f"  {name} DISAGREES: losses or gradients are up to {max(apart):.1e} from ours")
    if agree:
        print(f"  losses or gradients as ours, within {AGREEMENT:g}: {', '.join(agree)}")


def _digits(figure: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{figure:.0f}" if figure >= 100 else f"{figure:#.3g}"


# --- memory ---------------------------------------------------------------------------------------


def memory(workers: dict[str, Worker], verdicts: Verdicts) -> None:
    """Print how large nodes are; a count, which a single run gives exactly."""
    print("Bytes a node, by tracemalloc: at rest by operation, and for the nodes of a chain")
    print(f"  {'':<28}{'ours':>8}{'micrograd':>11}{'/ ours':>9}   target")
    for workload, size in (("node_sizes", 10_000), ("sweep_peak", 20_000)):
        figures: dict[str, dict[str, float]] = {}
        for name in (OURS, "micrograd"):
            if name in workers:
                try:
                    figures[name] = workers[name].order(workload, size, False)["figures"]
                    del figures[name]["garbage"]  # these are seconds
                except Failure as failure:
                    print(f"  {workload}, {name}: {failure}")
        for row, ours in figures.get(OURS, {}).items():
            theirs = figures.get("micrograd", {}).get(row)
            columns = f"{theirs:>11.0f}{theirs / ours:>9.2f}" if theirs else f"{'':>20}"
            verdict = ""
            if workload == "node_sizes":
                verdict = verdicts.judge(
                    round(ours) <= NODE_BYTES, f"<= {NODE_BYTES}", f"bytes, {row}"
                )
            print(f"  {row:<28}{ours:>8.0f}{columns}   {verdict}".rstrip())
    print("A full pass of the collector, while nodes of ours live, in ms")
    size = 1_000_000
    figures = workers[OURS].order("collector_passes", size, True)["figures"]
    without, with_nodes = (1e3 * figures[row] for row in ("no nodes", "nodes"))
    most = f"<= {PASS_RATIO:g} x"
    verdict = verdicts.judge(with_nodes <= PASS_RATIO * without, most, "collector's pass")
    print(f"  none: {without:.1f}, {size:,}: {with_nodes:.1f}   {verdict}")
    print(flush=True)


# --- a graph of any depth -------------------------------------------------------------------------


def long_chain(python: str, short: bool, verdicts: Verdicts) -> None:
    """Print what ours does with a chain that others cannot recurse through."""
    size, rounds = (100_000, 1) if short else (1_000_000, 3)
    print(f"A chain of {size:,} operations, ours; seconds, medians of {rounds}")
    print(f"  {'collector':<33}{'on':>8}{'off':>8}   target")
    for stack, place in ((512 << 20, "512 MiB stack"), (SMALL_STACK, "256 KiB stack")):
        worker = Worker(python, OURS, stack)
        times: dict[str, dict[bool, list[float]]] = {}
        try:
            for _ in range(rounds):
                for collector in ON_OFF:
                    figures = worker.order("long_chain", size, collector)["figures"]
                    del figures["garbage"]  # reference counting has left none
                    for row, seconds in figures.items():
                        times.setdefault(row, {True: [], False: []})[collector].append(seconds)
        except Failure as failure:
            print(f"  {failure}")
        print(f"  {place:<49}   {verdicts.judge(bool(times), 'no crash', f'long chain, {place}')}")
        worker.stop()
        for row, by_collector in times.items():
            on, off = median(by_collector[True]), median(by_collector[False])
            verdict = ""
            if row == "build + backward":
                most = LONG_CHAIN_SECONDS * size / 1e6
                what = f"long chain, {row}, {place}"
                verdict = verdicts.judge(on <= most, f"<= {most:g} s", what)
            print(f"    {row:<31}{on:>8.3f}{off:>8.3f}   {verdict}".rstrip())
    print(flush=True)


# --- import ---------------------------------------------------------------------------------------

LOADED = f"""
import sys
before = set(sys.modules)
import {OURS}
names = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(" ".join(sorted(names - sys.stdlib_module_names - {{{OURS!r}}})))
"""


def import_time(short: bool, verdicts: Verdicts) -> None:
    """Print how long a fresh interpreter takes to import the library, beyond its own start."""
    rounds = 7 if short else 15
    programs = {
        "the interpreter alone": ("pass", ""),
        "in C": (f"import {OURS}", ""),
        "in Python": (f"import {OURS}", "1"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    _interpret(f"import {OURS}")  # so that there is bytecode
    for _ in range(rounds):
        for name, (program, pure) in programs.items():
            start = perf_counter()
            _interpret(program, pure)
            seconds[name].append(perf_counter() - start)
    bare, in_c, in_python = (1e3 * median(times) for times in seconds.values())
    print(f"import {OURS}, beyond the interpreter's own start of {bare:.1f} ms; {rounds} rounds")
    verdict = verdicts.judge(
        in_c - bare < IMPORT_MILLISECONDS, f"< {IMPORT_MILLISECONDS} ms", "import"
    )
    print(f"  {in_c - bare:.1f} ms   {verdict}")
    verdict = verdicts.judge(
        in_c - bare <= IMPORT_RATIO * (in_python - bare), f"<= {IMPORT_RATIO:g} x", "import in C"
    )
    print(f"  with the engine in Python: {in_python - bare:.1f} ms   {verdict}")
    others = _interpret(LOADED).strip() or "none"
    verdict = verdicts.judge(others == "none", "none", "third-party modules")
    print(f"  third-party modules loaded: {others}   {verdict}")
    print(flush=True)


def _interpret(program: str, pure: str = "") -> str:
    command = [sys.executable, "-c", program]
    environment = {**peers.environment(), "MICROGRAD_LIKE_PURE": pure}
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment
    ).stdout


# --- the whole ------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description="Benchmarks of the engine, beside others.")
    parser.add_argument("--short", action="store_true", help="fewer and smaller rounds, for CI")
    parser.add_argument(
        "--venv",
        type=Path,
        default=peers.default_venv(),
        help="where the other engines are installed (default: the user's cache)",
    )
    arguments = parser.parse_args()
    python, missing = peers.install(arguments.venv)
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(
        f"{platform.python_implementation()} {platform.python_version()}, {platform.system()} "
        f"{platform.machine()}, {os.cpu_count()} CPUs{load}"
    )
    for peer in peers.PEERS:
        state = f"not installed: {missing[peer.name]}" if peer.name in missing else "installed"
        print(f"  {peer.name} {peer.version}: {state}")
    print(flush=True)

    names = [
        OURS,
        IN_PYTHON,
        OWN_VALUE,
        *(peer.name for peer in peers.PEERS if peer.name not in missing),
    ]
    workers = {name: Worker(python, name) for name in names}
    verdicts = Verdicts()
    for comparison in COMPARISONS:
        compare(comparison, workers, arguments.short, verdicts)
    memory(workers, verdicts)
    for worker in workers.values():
        worker.stop()
    long_chain(python, arguments.short, verdicts)
    import_time(arguments.short, verdicts)
    verdicts.report()


if __name__ == "__main__":
    main()
