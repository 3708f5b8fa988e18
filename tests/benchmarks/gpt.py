"""A GPT of scalars, lifted, beside the same written by hand in NumPy, in JAX and in C.

    python tests/benchmarks/gpt.py            # everything
    python tests/benchmarks/gpt.py --short    # fewer rounds, for CI: a few seconds
    python tests/benchmarks/gpt.py --only numpy jax

The model is microgpt's: 27 tokens, 16 wide, 4 heads, 1 layer, 16 tokens of context; 4,192
parameters. A step is the loss of one name and its gradient. Before anything is timed, loss and
gradient of each contender must equal the eager engine's to 1e-12. Times are medians of single calls
that take turns, each round in another order, with BLAS on one thread.
"""

from __future__ import annotations

import os

for threads in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ[threads] = "1"  # before NumPy is imported

import argparse
import shutil
import string
import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter, perf_counter_ns, process_time
from typing import Any

import numpy as np
from gpt_by_hand import CStep, Shape, jax_step, numpy_step

from micrograd_like import Value, compile, grad, losses
from micrograd_like.training.gpt import GPT

WORDS = ("joseph", "jennifer", "alexandrajosiah")  # 6, 8 and 15 letters
SHAPE = Shape()
MISSED: list[str] = []


def interleaved(contenders: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Microseconds of each, medians of single calls in turn, in every round in another order."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    turns, random = list(contenders.items()), Random(0)
    for _, call in turns:
        call()
    for _ in range(rounds):
        random.shuffle(turns)
        for name, call in turns:
            start = perf_counter_ns()
            call()
            times[name].append((perf_counter_ns() - start) / 1e3)
    return {name: median(values) for name, values in times.items()}


def verdict(what: str, reached: float, limit: float) -> str:
    """Whether it was met; what was missed is listed at the end, too."""
    if reached <= limit:
        return "ok"
    MISSED.append(f"{what}: {reached:.3g}, at most {limit:g} was wanted")
    return "MISSED"


class Document:
    """A name for all contenders: as tokens, and with the engine's loss and gradient."""

    def __init__(self, model: GPT, word: str) -> None:
        self.word = word
        tokens = np.array(model.tokens(word))
        self.tokens, self.targets = tokens[:-1].copy(), tokens[1:].copy()
        self.n = len(self.tokens)
        self.parameters = model.parameters()
        self.values = np.array([p.data for p in self.parameters])
        self.root = model.loss(model.tokens(word))
        self.slopes = np.array(grad(self.root, self.parameters))

    def check(self, who: str, loss: Any, gradient: Any) -> None:
        off = max(abs(loss - self.root.data), np.abs(np.asarray(gradient) - self.slopes).max())
        assert off < 1e-12, f"{who} differs by {off} for {self.word!r}"


def microgpt(weights: dict[str, list[list[Value]]], tokens: list[int]) -> Value:
    """The loss of a document as microgpt's users write it: every + and every · of two Values."""

    def linear(x: list[Value], rows: list[list[Value]]) -> list[Value]:
        return [sum(w * xi for w, xi in zip(row, x, strict=True)) for row in rows]

    def norm(x: list[Value]) -> list[Value]:
        scale = (sum(xi * xi for xi in x) / len(x) + 1e-5) ** -0.5
        return [xi * scale for xi in x]

    def both(x: list[Value], y: list[Value]) -> list[Value]:
        return [a + b for a, b in zip(x, y, strict=True)]

    size = SHAPE.embed // SHAPE.heads
    keys: list[list[Value]] = []
    values: list[list[Value]] = []
    terms = []
    for place, (token, target) in enumerate(pairwise(tokens)):
        x = norm(both(weights["wte"][token], weights["wpe"][place]))
        residual, x = x, norm(x)
        query = linear(x, weights["wq1"])
        keys.append(linear(x, weights["wk1"]))
        values.append(linear(x, weights["wv1"]))
        mixed: list[Value] = []
        for h in range(0, SHAPE.embed, size):
            scores = [
                sum(query[h + j] * key[h + j] for j in range(size)) / size**0.5 for key in keys
            ]
            attention = losses.softmax(scores)
            mixed += [
                sum(a * value[h + j] for a, value in zip(attention, values, strict=True))
                for j in range(size)
            ]
        x = both(linear(mixed, weights["wo1"]), residual)
        residual, x = x, [xi.relu() for xi in linear(norm(x), weights["up1"])]
        x = both(linear(x, weights["down1"]), residual)
        chances = losses.softmax(linear(x, weights["lm_head"]))
        terms.append(-chances[target].log())
    return (1 / len(terms)) * sum(terms)


def row(of: str, what: str, times: dict[str, float], hand: str, limit: float) -> None:
    ratio = times["ours"] / times[hand]
    others = "".join(
        f"{name:>12}{time:9.1f}" for name, time in times.items() if name not in ("ours", hand)
    )
    print(
        f"  {what:22}{times['ours']:9.1f}{times[hand]:9.1f}{ratio:7.2f} x"
        f"   <= {limit:g}: {verdict(f'{of}, {what}', ratio, limit)}{others}"
    )


def over_numpy(documents: list[Document], rounds: int) -> None:
    print("\nNumPy, microseconds a step: ours, by hand")
    for document in documents:
        program = compile(document.root, document.parameters, document.parameters)
        by_hand = numpy_step(SHAPE, document.n)
        weights = np.full(document.n, 1.0 / document.n)
        given = document.values, document.tokens, document.targets, weights
        document.check("by hand", *by_hand(*given))
        document.check("ours", *program(document.values))
        works: dict[str, Callable[[], Any]] = {
            "ours": lambda p=program, d=document: p(d.values),
            "by hand": lambda h=by_hand, g=given: h(*g),
        }
        row("NumPy", f"{len(document.word)} letters", interleaved(works, rounds), "by hand", 1.15)


def over_jax(documents: list[Document], rounds: int) -> None:
    try:
        import jax
    except ImportError:
        print("\nJAX is not installed")
        return
    jax.config.update("jax_enable_x64", True)
    print(f"\nJAX {jax.__version__}, arrays on the device, microseconds a step: ours, by hand")
    for document in documents:
        program = compile(document.root, document.parameters, document.parameters, backend="jax")
        ours, by_hand = jax.jit(program.function), jax_step(SHAPE)
        values, tokens, targets = map(
            jax.numpy.asarray, (document.values, document.tokens, document.targets)
        )
        loss, gradient = by_hand(SHAPE.named(values), tokens, targets)
        flat = np.concatenate([np.ravel(gradient[name]) for name, _ in SHAPE.arrays])
        document.check("by hand", loss, flat)
        document.check("ours", *ours(values))
        given = SHAPE.named(values), tokens, targets
        works: dict[str, Callable[[], Any]] = {
            "ours": lambda f=ours, v=values: jax.block_until_ready(f(v)),
            "by hand": lambda h=by_hand, g=given: jax.block_until_ready(h(*g)),
        }
        row("JAX", f"{len(document.word)} letters", interleaved(works, rounds), "by hand", 1.15)


def over_numba(documents: list[Document], rounds: int) -> None:
    """Ours beside C, which is called with an array of the gradient to fill, as ours is not."""
    if shutil.which("gcc") is None:
        print("\ngcc is not installed: nothing to hold Numba against")
        return
    print("\nNumba, microseconds a step: ours, C (gcc -O3 -march=native)")
    folder = Path(tempfile.mkdtemp())
    for document in documents:
        start = perf_counter()
        program = compile(document.root, document.parameters, document.parameters, backend="numba")
        program(document.values)
        took = perf_counter() - start
        by_hand, in_numpy = CStep(SHAPE, document.n, folder), numpy_step(SHAPE, document.n)
        given = document.values, document.tokens, document.targets
        weights = np.full(document.n, 1.0 / document.n)
        document.check("C", *by_hand(*given))
        document.check("ours", *program(document.values))
        works: dict[str, Callable[[], Any]] = {
            "ours": lambda p=program, d=document: p(d.values),
            "C": lambda h=by_hand, g=given: h(*g),
            "NumPy": lambda h=in_numpy, g=given, w=weights: h(*g, w),
        }
        times = interleaved(works, rounds)
        row("Numba", f"{len(document.word)} letters", times, "C", 1.5)
        print(f"  {'':22}compiled, or found, in {took:.1f} s")
    shutil.rmtree(folder)


def compiling(documents: list[Document], _: int) -> None:
    print("\nCompiling microgpt, in sums and products of two, for NumPy")
    model = GPT(string.ascii_lowercase)
    for document in documents:
        root = microgpt(model.weights, model.tokens(document.word))
        assert abs(root.data - document.root.data) < 1e-12
        times = []
        for _ in range(2):
            start = process_time()
            program = compile(root, model.parameters(), model.parameters())
            times.append(process_time() - start)
        report = program.report()
        each = min(times) / report.nodes * 1e6
        what = f"{len(document.word)} letters, microseconds a node"
        print(
            f"  {len(document.word):2} letters: {report.nodes:7,} nodes, {report.statements} "
            f"statements, {min(times):.1f} s, {each:.1f} us a node   <= 4: "
            f"{verdict(what, each, 4.0)}"
        )


SECTIONS: dict[str, Callable[[list[Document], int], None]] = {
    "numpy": over_numpy,
    "jax": over_jax,
    "numba": over_numba,
    "compile": compiling,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="fewer rounds, and one name")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=[*SECTIONS])
    arguments = parser.parse_args()
    model = GPT(string.ascii_lowercase)
    documents = [Document(model, word) for word in (WORDS[:1] if arguments.short else WORDS)]
    print(f"Python {sys.version.split()[0]}, NumPy {np.__version__}; {SHAPE.count:,} parameters")
    for name in arguments.only:
        if not (arguments.short and name == "numba"):
            SECTIONS[name](documents, 200 if arguments.short else 3000)
    print("\n" + ("\n".join(f"MISSED  {what}" for what in MISSED) or "All targets met."))


if __name__ == "__main__":
    main()
