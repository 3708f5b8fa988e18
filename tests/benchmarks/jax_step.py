"""Training steps for JAX against hand-written JAX, on one device and on several.

    python tests/benchmarks/jax_step.py [--short]

The digits' network, MLP 64-width-10 with softmax cross-entropy: mean loss and gradient of a batch
on the device, in float64 and float32. The hand-written step is what one writes with JAX: matrices
in a tuple, `jax.nn.log_softmax`, `jax.value_and_grad`, `jax.jit`. Ours takes the matrices, too, and
gives the outputs besides. Medians of rounds in changing order; `again` is the ratio of a second
copy of the hand-written step to the first: the noise of the measurement; `lse` that of JAX's own
gradient of the loss with `jax.nn.logsumexp`, as ours has it: XLA schedules the two differently.
Devices are virtual ones, and no more of them work at once than there are cores.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from random import Random
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from micrograd_like import compile_step, losses, nn

MISSED: list[str] = []


def interleaved(contenders: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Microseconds of each, medians of single calls in turn, in every round in another order."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():
        jax.block_until_ready(call())
    turns, random = list(contenders.items()), Random(0)
    for _ in range(rounds):
        random.shuffle(turns)
        for name, call in turns:
            start = time.perf_counter_ns()
            jax.block_until_ready(call())
            times[name].append((time.perf_counter_ns() - start) / 1e3)
    return {name: median(values) for name, values in times.items()}


def loss_by_hand(parameters: Any, X: Any, Y: Any) -> Any:
    (W1, b1), (W2, b2) = parameters
    logits = jnp.tanh(X @ W1.T + b1) @ W2.T + b2
    return -jnp.mean(jnp.sum(jax.nn.log_softmax(logits) * Y, axis=-1))


def loss_by_hand_again(parameters: Any, X: Any, Y: Any) -> Any:
    """A second copy, compiled by itself: how far apart two of the same are measured."""
    return loss_by_hand(parameters, X, Y)


def loss_with_logsumexp(parameters: Any, X: Any, Y: Any) -> Any:
    """The same loss in the words of ours."""
    (W1, b1), (W2, b2) = parameters
    logits = jnp.tanh(X @ W1.T + b1) @ W2.T + b2
    return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - jnp.sum(logits * Y, axis=-1))


def one_device(widths: tuple[int, ...], batches: tuple[int, ...], dtype: str, rounds: int) -> None:
    print(f"\n{dtype}, one device: microseconds a step   (target: ratio <= 1.05)")
    print(
        f"  {'width':>6}{'batch':>7}{'by hand':>11}{'again':>8}{'lse':>7}{'ours':>11}{'ratio':>8}"
    )
    for width in widths:
        model = nn.MLP(64, [width, 10], "tanh", seed=0)
        step = compile_step(
            model, losses.cross_entropy, ([0.1] * 64, 1), backend="jax", dtype=dtype
        )
        ours = jax.jit(step.function)
        hand, again, lse = (
            jax.jit(jax.value_and_grad(f))
            for f in (loss_by_hand, loss_by_hand_again, loss_with_logsumexp)
        )
        rng = np.random.default_rng(0)
        for batch in batches:
            X, y = rng.standard_normal((batch, 64)), rng.integers(0, 10, batch)
            given = jax.device_put(jax.tree.map(lambda x: x.astype(dtype), step.arrays(X, y)))
            layers = tuple(tuple(given[0][f"{letter}{i}"] for letter in "Wb") for i in (1, 2))
            theirs = layers, given[1]["X"], given[1]["Y"]
            (loss, gradients), (mean, _, slopes) = hand(*theirs), ours(*given)
            tolerance = 1e-9 if dtype == "float64" else 1e-3
            assert abs(mean - loss) < tolerance
            named = zip(("W1", "b1", "W2", "b2"), jax.tree.leaves(gradients), strict=True)
            for name, slope in named:
                assert np.allclose(slopes[name], slope, rtol=tolerance, atol=tolerance)
            times = interleaved(
                {
                    "by hand": lambda h=hand, a=theirs: h(*a),
                    "again": lambda h=again, a=theirs: h(*a),
                    "lse": lambda h=lse, a=theirs: h(*a),
                    "ours": lambda f=ours, a=given: f(*a),
                },
                rounds if batch * width < 10**6 else rounds // 4 + 1,
            )
            ratio, *other = (times[name] / times["by hand"] for name in ("ours", "again", "lse"))
            met = ratio <= 1.05
            if not met:
                MISSED.append(f"{dtype}, width {width}, batch {batch}: {ratio:.2f}")
            print(
                f"  {width:6}{batch:7,}{times['by hand']:11.0f}{other[0]:8.2f}{other[1]:7.2f}"
                f"{times['ours']:11.0f}{ratio:8.2f}   {'ok' if met else 'MISSED'}"
            )


def several_devices(width: int, batch: int, rounds: int) -> None:
    print(f"\nMLP 64-{width}-10, batch of {batch:,}, {os.cpu_count()} cores: step with arrays of")
    print("NumPy in and out, milliseconds by the number of devices that share it")
    model = nn.MLP(64, [width, 10], "tanh", seed=0)
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((batch, 64)), rng.integers(0, 10, batch)
    contenders: dict[str, Callable[[], Any]] = {}
    for devices in (1, 2, 4, 8):
        step = compile_step(
            model, losses.cross_entropy, ([0.1] * 64, 1), backend="jax", devices=devices
        )
        contenders[str(devices)] = lambda s=step: s.value_and_grad(X, y)
    for devices, time_ in interleaved(contenders, rounds).items():
        print(f"  {devices:>3}{time_ / 1e3:10.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="fewer rounds and widths")
    parser.add_argument("--devices", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    short = arguments.short
    jax.config.update("jax_enable_x64", True)
    if arguments.devices:
        several_devices(256, 1024 if short else 4096, 10 if short else 40)
        return
    print(f"Python {sys.version.split()[0]}, JAX {jax.__version__}, {jax.devices()[0].platform}")
    widths = (64, 1024) if short else (64, 256, 1024, 4096)
    batches = (256,) if short else (64, 256, 1024)
    for dtype in ("float64", "float32"):
        one_device(widths, batches, dtype, 60 if short else 300)
    sys.stdout.flush()
    virtual = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    options = ["--devices", *(["--short"] if short else [])]
    subprocess.run([sys.executable, __file__, *options], env=virtual, check=True)
    print("\n" + ("\n".join(f"MISSED  {what}" for what in MISSED) or "All targets met."))


if __name__ == "__main__":
    main()
