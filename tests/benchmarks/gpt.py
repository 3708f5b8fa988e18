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
import json
import resource
import shutil
import socket
import string
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter, perf_counter_ns, process_time, sleep
from typing import Any

import numpy as np
from gpt_by_hand import CStep, Shape, jax_step, numpy_step

from micrograd_like import Value, compile, compile_step, datasets, grad, losses, optim, take
from micrograd_like.compiler import Step, compile_forward, xla
from micrograd_like.training import fit
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
        self.model, self.word = model, word
        self.all = model.tokens(word)
        tokens = np.array(self.all)
        self.tokens, self.targets = tokens[:-1].copy(), tokens[1:].copy()
        self.n = len(self.tokens)
        self.parameters = model.parameters()
        self.values = np.array([p.data for p in self.parameters])
        self.root = model.loss(self.all)
        self.slopes = np.array(grad(self.root, self.parameters))

    def step(self, backend: str) -> Step:
        return compile_step(self.model.loss, self.model.weights, self.all, backend=backend)

    def for_hand(self) -> tuple[Any, ...]:
        """What the function of `numpy_step` takes."""
        return self.values, self.tokens, self.targets, np.full(self.n, 1.0 / self.n)

    def check(self, who: str, loss: Any, gradient: Any) -> None:
        off = max(abs(loss - self.root.data), np.abs(np.asarray(gradient) - self.slopes).max())
        assert off < 1e-12, f"{who} differs by {off} for {self.word!r}"


def microgpt(
    weights: dict[str, list[list[Value]]],
    shape: Shape,
    tokens: list[int],
    softmax: Callable[[Any], Any] = losses.softmax,
    take: Callable[[Any, Any], Any] = take,
) -> Value:
    """The loss of a document as microgpt's users write it: every + and every · of two Values.

    Eagerly they have a `softmax` that looks at the data, and an index for `take`.
    """

    def linear(x: list[Value], rows: list[list[Value]]) -> list[Value]:
        return [sum(w * xi for w, xi in zip(row, x, strict=True)) for row in rows]

    def norm(x: list[Value]) -> list[Value]:
        scale = (sum(xi * xi for xi in x) / len(x) + 1e-5) ** -0.5
        return [xi * scale for xi in x]

    def both(x: list[Value], y: list[Value]) -> list[Value]:
        return [a + b for a, b in zip(x, y, strict=True)]

    size = shape.embed // shape.heads
    keys: list[list[list[Value]]] = [[] for _ in range(shape.layers)]
    values: list[list[list[Value]]] = [[] for _ in range(shape.layers)]
    terms = []
    for place, (token, target) in enumerate(pairwise(tokens)):
        x = norm(both(take(weights["wte"], token), weights["wpe"][place]))
        for i in range(shape.layers):
            residual, x = x, norm(x)
            query = linear(x, weights[f"wq{i + 1}"])
            keys[i].append(linear(x, weights[f"wk{i + 1}"]))
            values[i].append(linear(x, weights[f"wv{i + 1}"]))
            mixed: list[Value] = []
            for h in range(0, shape.embed, size):
                scores = [
                    sum(query[h + j] * key[h + j] for j in range(size)) / size**0.5
                    for key in keys[i]
                ]
                attention = softmax(scores)
                mixed += [
                    sum(a * value[h + j] for a, value in zip(attention, values[i], strict=True))
                    for j in range(size)
                ]
            x = both(linear(mixed, weights[f"wo{i + 1}"]), residual)
            residual, x = x, [xi.relu() for xi in linear(norm(x), weights[f"up{i + 1}"])]
            x = both(linear(x, weights[f"down{i + 1}"]), residual)
        chances = softmax(linear(x, weights["lm_head"]))
        terms.append(-take(chances, target).log())
    return (1 / len(terms)) * sum(terms)


def softmax_of_data(logits: list[Value]) -> list[Value]:
    """As microgpt has it."""
    largest = max(z.data for z in logits)
    powers = [(z - largest).exp() for z in logits]
    total = sum(powers)
    return [power / total for power in powers]


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
    """`fixed` is a program for this name alone, by `compile`: its tokens are no inputs."""
    print("\nNumPy, microseconds a step: ours, by hand")
    for document in documents:
        step, given = document.step("numpy"), document.for_hand()
        fixed = compile(document.root, document.parameters, document.parameters)
        function, (values, rows) = step.function, step.arrays([document.all])
        by_hand = numpy_step(SHAPE, document.n)
        document.check("by hand", *by_hand(*given))
        document.check("ours", *function(values, rows))
        document.check("fixed", *fixed(document.values))
        works: dict[str, Callable[[], Any]] = {
            "ours": lambda f=function, v=values, r=rows: f(v, r),
            "by hand": lambda h=by_hand, g=given: h(*g),
            "fixed": lambda p=fixed, d=document: p(d.values),
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
        step = document.step("jax")
        ours, by_hand = jax.jit(step.function), jax_step(SHAPE)
        given = jax.device_put(step.arrays([document.all]))
        arrays = SHAPE.named(document.values), document.tokens, document.targets
        theirs = jax.device_put(arrays)
        for who, (loss, gradient) in {"ours": ours(*given), "by hand": by_hand(*theirs)}.items():
            flat = np.concatenate([np.ravel(gradient[name]) for name, _ in SHAPE.arrays])
            document.check(who, loss, flat)
        works: dict[str, Callable[[], Any]] = {
            "ours": lambda f=ours, g=given: jax.block_until_ready(f(*g)),
            "by hand": lambda h=by_hand, g=theirs: jax.block_until_ready(h(*g)),
        }
        row("JAX", f"{len(document.word)} letters", interleaved(works, rounds), "by hand", 1.15)


def over_numba(documents: list[Document], rounds: int) -> None:
    """Programs for one name each, whose tokens are no inputs, and C with its arrays of integers."""
    if shutil.which("gcc") is None:
        print("\ngcc is not installed: nothing to hold Numba against")
        return
    print("\nNumba, microseconds a step: ours, C (gcc -O3 -march=native)")
    folder = Path(tempfile.mkdtemp())
    for document in documents:
        program = compile(document.root, document.parameters, document.parameters, backend="numba")
        by_hand, in_numpy = CStep(SHAPE, document.n, folder), numpy_step(SHAPE, document.n)
        given = document.for_hand()
        document.check("C", *by_hand(*given[:3]))
        document.check("ours", *program(document.values))
        works: dict[str, Callable[[], Any]] = {
            "ours": lambda p=program, d=document: p(d.values),
            "C": lambda h=by_hand, g=given: h(*g[:3]),
            "NumPy": lambda h=in_numpy, g=given: h(*g),
        }
        times = interleaved(works, rounds)
        what = f"{len(document.word)} letters"
        row("Numba", what, times, "C", 1.5)
        ratio = times["ours"] / times["NumPy"]
        print(f"  {'':31}{ratio:16.2f} x NumPy   <= 1: {verdict(f'Numba, {what}', ratio, 1.0)}")
    print("\nCompiling for Numba, in seconds of CPU")
    for document in documents:
        caches = {"MICROGRAD_LIKE_CACHE": str(folder), "NUMBA_CACHE_DIR": str(folder / "kernels")}
        command = [sys.executable, __file__, "--native", document.word]
        (lifting, cold), (_, warm) = (
            map(float, subprocess.check_output(command, env=os.environ | caches).split())
            for _ in range(2)
        )
        shutil.rmtree(folder)
        what = f"compiling for Numba, {len(document.word)} letters"
        print(
            f"  {len(document.word):2} letters: {cold:.1f}   <= 5: {verdict(what, cold, 5.0)}; "
            f"found on disk {warm:.1f}, of which lifting {lifting:.1f}, the rest   <= 1: "
            f"{verdict(what + ', found', warm - lifting, 1.0)}"
        )


def compile_native(word: str) -> None:
    """In a process of its own: what the first program takes, with all that it imports."""
    model = GPT(string.ascii_lowercase)
    parameters = model.parameters()
    root = model.loss(model.tokens(word))
    start = process_time()
    compile(root, parameters, parameters)
    lifting = process_time() - start
    start = process_time()
    compile(root, parameters, parameters, backend="numba")([p.data for p in parameters])
    print(lifting, process_time() - start)


def in_a_batch(documents: list[Document], rounds: int) -> None:
    """Lists of different lengths in, which both pad, loss and gradient out."""
    try:
        names = datasets.names()
    except ImportError as error:
        print(f"\n{error}")
        return
    model = GPT(string.ascii_lowercase)
    values = np.array([p.data for p in model.parameters()])
    batch = [model.tokens(name) for name in Random(0).sample(names, 32)]
    step = compile_step(model.loss, model.weights, batch[0])
    n = max(map(len, batch)) - 1
    by_hand = numpy_step(SHAPE, n, len(batch))

    def hand() -> Any:
        tokens, targets = np.zeros((2, len(batch), n), int)
        weights = np.zeros((len(batch), n))
        for i, row in enumerate(batch):
            length = len(row) - 1
            tokens[i, :length], targets[i, :length] = row[:-1], row[1:]
            weights[i, :length] = 1.0 / (len(batch) * length)
        return by_hand(values, tokens, targets, weights)

    (mean, gradient), (loss, slopes) = step.value_and_grad(batch), hand()
    assert abs(mean - loss) < 1e-12
    assert np.abs(gradient - slopes).max() < 1e-12
    print(f"\nA batch of 32 names of up to {n} tokens, microseconds a step: ours, by hand")
    works = {"ours": lambda: step.value_and_grad(batch), "by hand": hand}
    row("NumPy", "32 names", interleaved(works, rounds // 3), "by hand", 1.15)


def learning(documents: list[Document], rounds: int) -> None:
    """The training of microgpt: 1,000 names, Adam with a rate that falls, compiling included."""
    try:
        names = datasets.names()
    except ImportError as error:
        print(f"\n{error}")
        return
    count, eager = (1000, 20) if rounds > 1000 else (100, 3)
    Random(42).shuffle(names)
    texts = names[:count]

    def rate(steps: int) -> float:
        return 0.01 * (1.0 - steps / 1000)

    def made() -> tuple[GPT, optim.Adam]:
        model = GPT(string.ascii_lowercase, seed=42)
        return model, optim.Adam(model.parameters(), lr=rate, betas=(0.85, 0.99))

    model, adam = made()
    start = perf_counter()
    original = []
    for text in texts[:eager]:
        adam.zero_grad()
        tokens = model.tokens(text)
        loss = microgpt(model.weights, SHAPE, tokens, softmax_of_data, list.__getitem__)
        loss.backward()
        adam.step()
        original.append(loss.data)
    each = (perf_counter() - start) / eager

    model, adam = made()
    values, hand = np.array([p.data for p in model.parameters()]), []
    m, v = np.zeros((2, len(values)))
    for i, text in enumerate(texts):
        tokens = np.array(model.tokens(text))
        n = len(tokens) - 1
        loss, g = numpy_step(SHAPE, n)(values, tokens[:-1], tokens[1:], np.full(n, 1.0 / n))
        m, v = 0.85 * m + 0.15 * g, 0.99 * v + 0.01 * g * g
        root = np.sqrt(v / (1 - 0.99 ** (i + 1)))
        values -= rate(i) * m / (1 - 0.85 ** (i + 1)) / (root + 1e-8)
        hand.append(loss)

    start = perf_counter()
    step = compile_step(
        lambda tokens: microgpt(model.weights, SHAPE, tokens),
        model.weights,
        model.tokens(max(texts, key=len)),  # whose program serves the others
    )
    compiled = perf_counter() - start
    with step.training(adam) as training:
        lifted = [training([model.tokens(text)]) for text in texts]
    took = perf_counter() - start
    apart = max(abs(a - b) for a, b in zip(lifted, original, strict=False))
    apart = max(apart, *(abs(a - b) for a, b in zip(lifted, hand, strict=True)))
    assert apart < 1e-6, apart
    off = max(abs(p.data - x) for p, x in zip(model.parameters(), values, strict=True))
    what = f"{count:,} steps of training, seconds"
    print(
        f"\n{what}: {took:.1f}, of which the first program {compiled:.1f}   <= 5: "
        f"{verdict(what, took, 5.0)}\n"
        f"  the scalar original: {each * count:.0f} ({eager} steps measured); losses differ by "
        f"{apart:.0e}, weights at the end from hand-written NumPy's by {off:.0e}"
    )


def inventing(documents: list[Document], rounds: int) -> None:
    """Names of a model that has learned nothing, whose letters are all about as likely."""
    count = 1000 if rounds > 1000 else 100
    model = GPT(string.ascii_lowercase)
    start = perf_counter()
    forward = compile_forward(model.scores, model.weights, [model.end] * model.context)
    forward([model.end] * model.context)
    compiled = perf_counter() - start
    took, texts = [], []
    for way in (forward, None):
        random, invented, letters = Random(0), list[str](), 0
        start = perf_counter()
        while letters < count:
            invented.append(model.invent(random, forward=way))
            letters += len(invented[-1])
        took.append(perf_counter() - start)
        texts.append(invented)
    assert texts[0] == texts[1]
    what = f"{count:,} letters invented, seconds"
    print(
        f"\n{what}: {took[0]:.2f}   <= 1: {verdict(what, took[0], 1.0)}\n"
        f"  the program is compiled in {compiled:.1f} s; without it {took[1]:.2f}"
    )


def in_parts(documents: list[Document], rounds: int) -> None:
    """The weights after 50 steps, where devices share each batch, which they do not divide."""
    if find_spec("jax") is None or find_spec("names") is None:
        print("\nJAX or the package names is not installed: no weights of several devices")
        return
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    runs = {"1 device": (1, [0]), "8 devices": (8, [0]), "2 processes": (1, [0, 1])}
    weights = {}
    for name, (devices, processes) in runs.items():
        flags = f"--xla_force_host_platform_device_count={devices}"
        environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        outputs = [tempfile.TemporaryFile("w+") for _ in processes]
        started = [
            subprocess.Popen(
                [sys.executable, __file__, "--part", *map(str, (i, len(processes), port))],
                env=environment, stdout=out, stderr=subprocess.DEVNULL,
            )
            for i, out in zip(processes, outputs, strict=True)
        ]  # fmt: skip
        assert not any(process.wait() for process in started), name
        weights[name] = []
        for out in outputs:
            out.seek(0)
            weights[name].append(json.loads(out.readlines()[-1]))
            out.close()
    [alone] = weights.pop("1 device")
    print("\nWeights after 50 steps, apart from those of one device by at most")
    for name, found in weights.items():
        off = max(float(np.abs(np.array(mine) - alone).max()) for mine in found)
        print(f"  {name:12}{off:9.0e}   <= 1e-9: {verdict(f'{name}, weights', off, 1e-9)}")


def learn_in_part(process: int, processes: int, port: int) -> None:
    if processes > 1:
        xla.join(f"127.0.0.1:{port}", processes, process, 60)
    import jax

    model, devices = GPT(string.ascii_lowercase), len(jax.devices())
    texts = Random(0).sample(datasets.names(), 500 - 5)  # 49 batches of 10, and one of 5
    fit(model, [*map(model.tokens, texts)], epochs=1, batch_size=10, engine="jax", devices=devices)
    print(json.dumps([p.data for p in model.parameters()]), flush=True)
    if processes > 1:
        xla.agree({"all": "there"})
        sleep(1.0 - process)  # with process 0 the other one would end
        os._exit(0)  # JAX would wait for minutes


def compiling(documents: list[Document], _: int) -> None:
    print("\nCompiling microgpt, in sums and products of two, for NumPy")
    model = GPT(string.ascii_lowercase)
    for document in documents:
        root = microgpt(model.weights, SHAPE, model.tokens(document.word))
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


def large(documents: list[Document], rounds: int) -> None:
    """A process of its own, whose peak of memory is that of building and compiling."""
    print("\n2 layers, 32 wide, 32 tokens, in sums and products of two", flush=True)
    result = subprocess.run(
        [sys.executable, __file__, "--large"], stdout=subprocess.PIPE, text=True, check=True
    )
    nodes, seconds, peak = map(float, result.stdout.split())
    print(
        f"  {nodes:,.0f} nodes compile in {seconds:.0f} s (<= 30: "
        f"{verdict('large, seconds', seconds, 30.0)}), at most {peak:.1f} GB (<= 6: "
        f"{verdict('large, GB', peak, 6.0)})"
    )


def compile_large() -> None:
    shape = Shape(layers=2, embed=32, context=32)
    model = GPT(string.ascii_lowercase, shape.layers, shape.embed, shape.heads, shape.context)
    tokens = [i % shape.tokens for i in range(shape.context + 1)]
    root = microgpt(model.weights, shape, tokens)
    start = process_time()
    program = compile(root, model.parameters(), model.parameters())
    seconds = process_time() - start
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(program.report().nodes, seconds, kilobytes / 1e6)


SECTIONS: dict[str, Callable[[list[Document], int], None]] = {
    "numpy": over_numpy,
    "jax": over_jax,
    "numba": over_numba,
    "batch": in_a_batch,
    "train": learning,
    "sample": inventing,
    "parts": in_parts,
    "compile": compiling,
    "large": large,
}
LONG = {"numba", "parts", "large"}  # not in the short form


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="fewer rounds, and one name")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=[*SECTIONS])
    parser.add_argument("--large", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--native", help=argparse.SUPPRESS)
    parser.add_argument("--part", nargs=3, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        learn_in_part(*arguments.part)
        return
    if arguments.large:
        compile_large()
        return
    if arguments.native:
        compile_native(arguments.native)
        return
    model = GPT(string.ascii_lowercase)
    documents = [Document(model, word) for word in (WORDS[:1] if arguments.short else WORDS)]
    print(f"Python {sys.version.split()[0]}, NumPy {np.__version__}; {SHAPE.count:,} parameters")
    for name in arguments.only:
        if not (arguments.short and name in LONG):
            SECTIONS[name](documents, 200 if arguments.short else 3000)
    print("\n" + ("\n".join(f"MISSED  {what}" for what in MISSED) or "All targets met."))


if __name__ == "__main__":
    main()
