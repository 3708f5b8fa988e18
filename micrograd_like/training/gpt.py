"""A GPT of scalars: every number is a `Value`, and each line does what a line of the textbook says.

It learns to continue lines of text, such as names, a character at a time, and then invents new
ones. Copy this file, and change it: all it needs is Values, in lists.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random

from ..engine import Value
from ..errors import InputError
from ..losses import mean, softmax
from ..modes import no_grad
from ..module import Module
from ..numerics import number, whole
from ..ops import logsumexp, relu
from ..sums import affine, take

Vector = list[Value]
Matrix = list[Vector]  # a list of rows

# The keys and the values of the tokens so far, for each layer.
Past = list[tuple[list[Vector], list[Vector]]]


class GPT(Module):
    """A transformer with causal attention, such as GPT-2, for the characters of an alphabet.

    A token is the place of a character in the alphabet; the one after the last, `end`, stands
    before and after each text. `layers` times, vectors of `embed` numbers pass through attention
    with `heads` heads and through an MLP four times as wide. It sees `context` tokens at once.

    As in Karpathy's microgpt there are no biases, and root mean squares in place of layer norms.
    Weights are drawn with `seed` from a normal distribution of deviation 0.08, in the order of
    their names in `weights`.
    """

    def __init__(
        self,
        alphabet: str,
        layers: int = 1,
        embed: int = 16,
        heads: int = 4,
        context: int = 16,
        seed: int | None = 0,
    ) -> None:
        if not alphabet or len(set(alphabet)) < len(alphabet):
            raise InputError(f"an alphabet has each character once, got {alphabet!r:.60}")
        sizes = {"layers": layers, "embed": embed, "heads": heads, "context": context}
        self.layers, self.embed, self.heads, self.context = (
            whole(name, size) for name, size in sizes.items()
        )
        if self.embed % self.heads:
            raise InputError(f"{heads} heads share embed={embed}: it must be a multiple")
        self.alphabet = alphabet
        self.end = len(alphabet)
        random = Random(seed)

        def matrix(name: str, rows: int, columns: int) -> Matrix:
            return [
                [Value(random.gauss(0.0, 0.08), f"{name}[{i}][{j}]") for j in range(columns)]
                for i in range(rows)
            ]

        tokens = len(alphabet) + 1
        shapes = {"wte": (tokens, embed), "wpe": (context, embed)}
        for i in range(1, layers + 1):
            shapes |= {f"{name}{i}": (embed, embed) for name in ("wq", "wk", "wv", "wo")}
            shapes |= {f"up{i}": (4 * embed, embed), f"down{i}": (embed, 4 * embed)}
        shapes["lm_head"] = (tokens, embed)
        self.weights = {name: matrix(name, *shape) for name, shape in shapes.items()}

    def __repr__(self) -> str:
        sizes = {name: getattr(self, name) for name in ("layers", "embed", "heads", "context")}
        return f"GPT({self.alphabet!r}, {', '.join(f'{k}={size}' for k, size in sizes.items())})"

    def logits(self, token: int, past: Past) -> Vector:
        """A score for each token to be the next one after `past` and `token`, which joins it."""
        w, place, size = self.weights, len(past[0][0]), self.embed // self.heads

        def here(name: str, x: Vector) -> Vector:
            return named(f"{name}[{place}]", x)

        x = rmsnorm(here("E", added(take(w["wte"], token), w["wpe"][place])))
        for i, (keys, values) in enumerate(past, 1):
            # Attention: each head asks every token so far, and mixes what those tell that answer.
            x = here(f"X{i}", x)
            n = here(f"N{i}", rmsnorm(x))
            query = here(f"Q{i}", linear(w[f"wq{i}"], n))
            keys.append(here(f"K{i}", linear(w[f"wk{i}"], n)))
            values.append(here(f"V{i}", linear(w[f"wv{i}"], n)))
            mixed = []
            for h in range(self.heads):
                part = slice(h * size, (h + 1) * size)
                scores = [affine(query[part], key[part]) / math.sqrt(size) for key in keys]
                weights = here(f"A{i}[{h}]", softmax(here(f"S{i}[{h}]", scores)))
                told = zip(*(value[part] for value in values), strict=True)
                mixed += [affine(weights, column) for column in told]
            x = here(f"Y{i}", added(x, linear(w[f"wo{i}"], here(f"Z{i}", mixed))))
            # The MLP: each token by itself.
            u = here(f"U{i}", linear(w[f"up{i}"], here(f"M{i}", rmsnorm(x))))
            hidden = here(f"H{i}", [relu(a) for a in u])
            x = added(x, linear(w[f"down{i}"], hidden))
        return here("L", linear(w["lm_head"], here("X", x)))

    def loss(self, tokens: Sequence[int]) -> Value:
        """The mean of -log p over the tokens after the first, p being what it gave the token.

        Of a text that is longer than the context, the beginning counts.
        """
        past, losses = self.past(), []
        for token, target in pairwise(tokens[: self.context + 1]):
            logits = self.logits(token, past)
            losses.append(logsumexp(*logits) - take(logits, target))
        return mean(losses)

    def scores(self, tokens: Sequence[int]) -> list[Vector]:
        """After each of the tokens, the scores of all to be the next one."""
        past = self.past()
        return [self.logits(token, past) for token in tokens]

    def past(self) -> Past:
        """That of the first token: nothing."""
        return [([], []) for _ in range(self.layers)]

    def tokens(self, text: str) -> list[int]:
        """The text as tokens, between two ends. Raises InputError for another character."""
        if strange := set(text) - set(self.alphabet):
            raise InputError(f"{min(strange)!r} is not in the alphabet {self.alphabet!r:.100}")
        return [self.end, *map(self.alphabet.index, text), self.end]

    def invent(
        self,
        random: Random,
        temperature: float = 1.0,
        forward: Callable[[list[int]], list[list[float]]] | None = None,
    ) -> str:
        """A text of at most `context` characters, each drawn by its probability.

        These are raised to the power 1/temperature: below 1 the likely becomes more likely, and at
        0 only the likeliest is left. Many texts come faster from `scores` as a program: `forward`
        is `compile_forward(model.scores, model.weights, [model.end] * model.context)`.
        """
        temperature = number(temperature)
        if not 0.0 <= temperature < math.inf:
            raise InputError(f"a temperature is at least 0 and finite, got {temperature!r}")
        past, token, text = self.past(), self.end, ""
        tokens = [self.end] * self.context  # those after the text change no score before them
        with no_grad():
            for place in range(self.context):
                tokens[place] = token
                if forward:
                    logits = forward(tokens)[place]
                else:
                    logits = [z.data for z in self.logits(token, past)]
                top = max(logits)
                chances = [
                    math.exp((z - top) / temperature) if temperature else float(z == top)
                    for z in logits
                ]
                (token,) = random.choices(range(len(chances)), chances)
                if token == self.end:
                    break
                text += self.alphabet[token]
        return text


def linear(matrix: Matrix, x: Vector) -> Vector:
    """The matrix times the vector: for each row, the sum of its products with x."""
    return [affine(row, x) for row in matrix]


def added(x: Vector, y: Vector) -> Vector:
    """The sum of two vectors."""
    return [a + b for a, b in zip(x, y, strict=True)]


def rmsnorm(x: Vector) -> Vector:
    """The vector divided by its root mean square; 1e-5 in that keeps a vector of zeros one."""
    scale = (affine(x, x) / len(x) + 1e-5) ** -0.5
    return [a * scale for a in x]


def named(name: str, x: Vector) -> Vector:
    """The vector, labelled name[0], name[1], ...: drawings and compiled programs call it so."""
    for j, a in enumerate(x):
        a.label = f"{name}[{j}]"
    return x
