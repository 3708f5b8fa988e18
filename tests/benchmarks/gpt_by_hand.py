"""The loss of a GPT and its gradient, derived and written by hand: in NumPy, in JAX, and in C.

What `tests/benchmarks/gpt.py` measures compiled programs against, and `tests/training/test_gpt.py`
the model of scalars. The model is microgpt's: token and position embeddings, then for each layer
causal attention and an MLP with ReLU, both on root-mean-square norms and with residuals, then
scores for the next token and their cross-entropy. One vector has all parameters, in the order of
`Shape.arrays`.
"""

from __future__ import annotations

import ctypes
import math
import subprocess
from collections.abc import Callable
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

EPSILON = 1e-5


class Shape(NamedTuple):
    """The sizes of a model. Without a change they are microgpt's, for 26 letters and an end."""

    tokens: int = 27
    layers: int = 1
    embed: int = 16
    heads: int = 4
    context: int = 16

    @property
    def arrays(self) -> list[tuple[str, tuple[int, int]]]:
        """The names and shapes of the arrays of parameters."""
        d = self.embed
        arrays = [("wte", (self.tokens, d)), ("wpe", (self.context, d))]
        for i in range(1, self.layers + 1):
            arrays += [(f"{name}{i}", (d, d)) for name in ("wq", "wk", "wv", "wo")]
            arrays += [(f"up{i}", (4 * d, d)), (f"down{i}", (d, 4 * d))]
        return [*arrays, ("lm_head", (self.tokens, d))]

    @property
    def count(self) -> int:
        return sum(math.prod(shape) for _, shape in self.arrays)

    def named(self, values: Any) -> dict[str, Any]:
        """The arrays by their names."""
        embeddings, layers, lm_head = self.splitter()(values)
        parts = [*embeddings, *chain.from_iterable(layers), lm_head]
        return dict(zip((name for name, _ in self.arrays), parts, strict=True))

    def splitter(self) -> Callable[[Any], tuple[Any, list[Any], Any]]:
        """A function that gives the arrays as views of a vector: embeddings, layers, lm_head."""
        ends = accumulate((math.prod(shape) for _, shape in self.arrays), initial=0)
        parts = [
            (slice(start, end), shape)
            for (_, shape), (start, end) in zip(self.arrays, pairwise(ends), strict=True)
        ]

        def split(values: Any) -> tuple[Any, list[Any], Any]:
            wte, wpe, *inner, lm_head = (values[part].reshape(shape) for part, shape in parts)
            return (wte, wpe), [inner[i : i + 6] for i in range(0, len(inner), 6)], lm_head

        return split


def numpy_step(shape: Shape, n: int, batch: int | None = None) -> Callable[..., Any]:
    """A function (parameters, tokens, targets, weights) -> loss, gradient: matrices, with BLAS.

    Of one document, `tokens` and `targets` have n integers, and the loss is the sum of each
    position's, times its weight: 1/n for the mean. Of a batch, all have shape (batch, n), and
    positions after the end of a shorter document have weight 0.
    """
    d, heads, size = shape.embed, shape.heads, shape.embed // shape.heads
    rows = n * (batch or 1)
    # A batch adds an axis in front of heads, queries and keys.
    apart = (n, heads, size) if batch is None else (batch, n, heads, size)
    to_heads = (1, 0, 2) if batch is None else (0, 2, 1, 3)
    turned = (0, 2, 1) if batch is None else (0, 1, 3, 2)
    scale = 1.0 / math.sqrt(size)
    causal = np.triu(np.full((n, n), -np.inf), 1)
    split, count = shape.splitter(), shape.count
    one_hot = np.eye(shape.tokens)
    ones_d, ones_n, ones_tokens = np.ones(d), np.ones(n), np.ones(shape.tokens)
    places = np.arange(rows)

    def norm(X: Any) -> tuple[Any, Any]:
        s = ((X * X) @ ones_d / d + EPSILON) ** -0.5
        return s, X * s[:, None]

    def norm_back(X: Any, s: Any, dY: Any) -> Any:
        return dY * s[:, None] - ((dY * X) @ ones_d * (s * s * s) / d)[:, None] * X

    def split_heads(X: Any) -> Any:
        return X.reshape(apart).transpose(to_heads)

    def join_heads(X: Any) -> Any:
        return X.transpose(to_heads).reshape(rows, d)

    def step(parameters: Any, tokens: Any, targets: Any, weights: Any) -> tuple[float, Any]:
        (wte, wpe), layers, lm_head = split(parameters)
        targets, weights = targets.ravel(), weights.ravel()
        E = (wte.take(tokens, 0) + wpe[:n]).reshape(rows, d)
        s0, X = norm(E)
        kept = []
        for wq, wk, wv, wo, up, down in layers:
            s1, Y = norm(X)
            Q, K, V = split_heads(Y @ wq.T), split_heads(Y @ wk.T), split_heads(Y @ wv.T)
            P = scale * (Q @ K.transpose(turned)) + causal
            P = np.exp(P - P.max(-1)[..., None])
            P /= (P @ ones_n)[..., None]
            O = join_heads(P @ V)  # noqa: E741
            Z = O @ wo.T + X
            s2, M = norm(Z)
            U = M @ up.T
            A = np.maximum(U, 0.0)
            kept.append((X, s1, Y, Q, K, V, P, O, Z, s2, M, U, A))
            X = A @ down.T + Z
        L = X @ lm_head.T
        top = L.max(-1)
        R = np.exp(L - top[:, None])
        total = R @ ones_tokens
        loss = weights @ (np.log(total) + top - L[places, targets])

        gradient = np.empty(count)
        (gwte, gwpe), slopes, glm_head = split(gradient)
        R *= (weights / total)[:, None]
        R[places, targets] -= weights
        np.matmul(R.T, X, out=glm_head)
        dX = R @ lm_head
        for weight, slope in zip(reversed(layers), reversed(slopes), strict=True):
            wq, wk, wv, wo, up, down = weight
            gq, gk, gv, go, gup, gdown = slope
            X, s1, Y, Q, K, V, P, O, Z, s2, M, U, A = kept.pop()  # noqa: E741
            np.matmul(dX.T, A, out=gdown)
            dU = (dX @ down) * (U > 0.0)
            np.matmul(dU.T, M, out=gup)
            dZ = norm_back(Z, s2, dU @ up) + dX
            np.matmul(dZ.T, O, out=go)
            dO = split_heads(dZ @ wo)
            dP = P * (dO @ V.transpose(turned))
            dS = scale * (dP - P * (dP @ ones_n)[..., None])
            dQ, dK = join_heads(dS @ K), join_heads(dS.transpose(turned) @ Q)
            dV = join_heads(P.transpose(turned) @ dO)
            np.matmul(dQ.T, Y, out=gq)
            np.matmul(dK.T, Y, out=gk)
            np.matmul(dV.T, Y, out=gv)
            dX = norm_back(X, s1, dQ @ wq + dK @ wk + dV @ wv) + dZ
        dE = norm_back(E, s0, dX)
        np.matmul(one_hot.take(tokens.ravel(), 0).T, dE, out=gwte)
        gwpe[:n] = dE if batch is None else dE.reshape(batch, n, d).sum(0)
        gwpe[n:] = 0.0
        return loss, gradient

    return step


def jax_step(shape: Shape) -> Callable[..., Any]:
    """The same for JAX, as one writes it: (dict of arrays, tokens, targets) -> loss, gradient."""
    import jax
    import jax.numpy as jnp

    size = shape.embed // shape.heads

    def norm(x: Any) -> Any:
        return x * ((x * x).mean(-1, keepdims=True) + EPSILON) ** -0.5

    def loss(w: dict[str, Any], tokens: Any, targets: Any) -> Any:
        n = tokens.shape[0]
        causal = jnp.tril(jnp.ones((n, n), dtype=bool))
        x = norm(w["wte"][tokens] + w["wpe"][:n])
        for i in range(1, shape.layers + 1):
            y = norm(x)
            q, k, v = ((y @ w[f"w{c}{i}"].T).reshape(n, shape.heads, size) for c in "qkv")
            scores = jnp.einsum("phj,thj->hpt", q, k) / math.sqrt(size)
            p = jax.nn.softmax(jnp.where(causal, scores, -jnp.inf), -1)
            x = x + jnp.einsum("hpt,thj->phj", p, v).reshape(n, -1) @ w[f"wo{i}"].T
            x = x + jax.nn.relu(norm(x) @ w[f"up{i}"].T) @ w[f"down{i}"].T
        chances = jax.nn.log_softmax(x @ w["lm_head"].T)
        return -jnp.take_along_axis(chances, targets[:, None], 1).mean()

    return jax.jit(jax.value_and_grad(loss))


# Arrays of activations have a row for each feature, so that the processor's vectors go over the
# positions: X[feature][position].
C_SOURCE = r"""
#include <math.h>
#include <string.h>
enum { V = TOKENS, D = EMBED, C = CONTEXT, H = HEADS, S = D / H, F = 4 * D };
typedef double row[N];

static void times(int rows, int columns, const double *W, row *restrict X, row *restrict Y) {
    for (int i = 0; i < rows; i++) {                                   /* Y = W X */
        row sum = {0};
        for (int j = 0; j < columns; j++)
            for (int p = 0; p < N; p++) sum[p] += W[i * columns + j] * X[j][p];
        memcpy(Y[i], sum, sizeof sum);
    }
}

static void times_back(int rows, int columns, const double *W, row *restrict dY, row *restrict dX) {
    for (int i = 0; i < rows; i++)                                     /* dX += W' dY */
        for (int j = 0; j < columns; j++)
            for (int p = 0; p < N; p++) dX[j][p] += W[i * columns + j] * dY[i][p];
}

static void weights(int rows, int columns, row *restrict dY, row *restrict X, double *restrict dW) {
    double turned[N][F];                                               /* dW = dY X' */
    for (int p = 0; p < N; p++)
        for (int j = 0; j < columns; j++) turned[p][j] = X[j][p];
    for (int i = 0; i < rows; i++) {
        double sum[F] = {0};
        for (int p = 0; p < N; p++)
            for (int j = 0; j < columns; j++) sum[j] += dY[i][p] * turned[p][j];
        memcpy(dW + i * columns, sum, columns * sizeof *sum);
    }
}

static void norm(row *X, double *s, row *Y) {
    row sum = {0};
    for (int j = 0; j < D; j++) for (int p = 0; p < N; p++) sum[p] += X[j][p] * X[j][p];
    for (int p = 0; p < N; p++) s[p] = 1.0 / sqrt(sum[p] / D + 1e-5);
    for (int j = 0; j < D; j++) for (int p = 0; p < N; p++) Y[j][p] = X[j][p] * s[p];
}

static void norm_back(row *X, double *s, row *dY, row *dX) {
    row sum = {0};
    for (int j = 0; j < D; j++) for (int p = 0; p < N; p++) sum[p] += dY[j][p] * X[j][p];
    for (int p = 0; p < N; p++) sum[p] *= -s[p] * s[p] * s[p] / D;
    for (int j = 0; j < D; j++)
        for (int p = 0; p < N; p++) dX[j][p] += dY[j][p] * s[p] + sum[p] * X[j][p];
}

static double step(const double *w, const long *tokens, const long *targets, double *g) {
    const double *wte = w, *wpe = wte + V * D, *wq = wpe + C * D, *wk = wq + D * D,
        *wv = wk + D * D, *wo = wv + D * D, *up = wo + D * D, *down = up + F * D,
        *head = down + F * D;
    double *gte = g, *gpe = gte + V * D, *gq = gpe + C * D, *gk = gq + D * D, *gv = gk + D * D,
        *go = gv + D * D, *gup = go + D * D, *gdown = gup + F * D, *ghead = gdown + F * D;
    static row E[D], X[D], Y[D], Q[D], K[D], W[D], O[D], Z[D], M[D], U[F], A[F], R[D], L[V];
    static row P[H][N];                                /* P[head][key][query] */
    row s0, s1, s2;

    for (int j = 0; j < D; j++)
        for (int p = 0; p < N; p++) E[j][p] = wte[tokens[p] * D + j] + wpe[p * D + j];
    norm(E, s0, X);
    norm(X, s1, Y);
    times(D, D, wq, Y, Q); times(D, D, wk, Y, K); times(D, D, wv, Y, W);
    for (int h = 0; h < H; h++) {
        row top, total = {0};
        for (int p = 0; p < N; p++) top[p] = -INFINITY;
        for (int t = 0; t < N; t++) {
            row sum = {0};
            for (int j = h * S; j < (h + 1) * S; j++)
                for (int p = 0; p < N; p++) sum[p] += K[j][t] * Q[j][p];
            for (int p = 0; p < N; p++) {
                P[h][t][p] = t <= p ? sum[p] / sqrt(S) : -INFINITY;
                top[p] = P[h][t][p] > top[p] ? P[h][t][p] : top[p];
            }
        }
        for (int t = 0; t < N; t++) {
            for (int p = 0; p < t; p++) P[h][t][p] = 0.0;
            for (int p = t; p < N; p++) P[h][t][p] = exp(P[h][t][p] - top[p]);
            for (int p = 0; p < N; p++) total[p] += P[h][t][p];
        }
        for (int p = 0; p < N; p++) total[p] = 1.0 / total[p];
        for (int t = 0; t < N; t++) for (int p = 0; p < N; p++) P[h][t][p] *= total[p];
        for (int j = h * S; j < (h + 1) * S; j++) {
            row sum = {0};
            for (int t = 0; t < N; t++) for (int p = 0; p < N; p++) sum[p] += W[j][t] * P[h][t][p];
            memcpy(O[j], sum, sizeof sum);
        }
    }
    times(D, D, wo, O, Z);
    for (int j = 0; j < D; j++) for (int p = 0; p < N; p++) Z[j][p] += X[j][p];
    norm(Z, s2, M);
    times(F, D, up, M, U);
    for (int j = 0; j < F; j++) for (int p = 0; p < N; p++) A[j][p] = U[j][p] > 0 ? U[j][p] : 0;
    times(D, F, down, A, R);
    for (int j = 0; j < D; j++) for (int p = 0; p < N; p++) R[j][p] += Z[j][p];
    times(V, D, head, R, L);

    static row dL[V], dX[D], dU[F], dM[D], dZ[D], dO[D], dQ[D], dK[D], dW[D], dY[D], dE[D];
    row top, total = {0};
    double loss = 0.0;
    memcpy(top, L[0], sizeof top);
    for (int i = 1; i < V; i++)
        for (int p = 0; p < N; p++) top[p] = L[i][p] > top[p] ? L[i][p] : top[p];
    for (int i = 0; i < V; i++) for (int p = 0; p < N; p++) dL[i][p] = exp(L[i][p] - top[p]);
    for (int i = 0; i < V; i++) for (int p = 0; p < N; p++) total[p] += dL[i][p];
    for (int p = 0; p < N; p++) {
        loss += log(total[p]) + top[p] - L[targets[p]][p];
        total[p] = 1.0 / (N * total[p]);
    }
    for (int i = 0; i < V; i++) for (int p = 0; p < N; p++) dL[i][p] *= total[p];
    for (int p = 0; p < N; p++) dL[targets[p]][p] -= 1.0 / N;

    weights(V, D, dL, R, ghead);
    memset(dZ, 0, sizeof dZ); times_back(V, D, head, dL, dZ);
    weights(D, F, dZ, A, gdown);
    memset(dU, 0, sizeof dU); times_back(D, F, down, dZ, dU);
    for (int j = 0; j < F; j++) for (int p = 0; p < N; p++) dU[j][p] = U[j][p] > 0 ? dU[j][p] : 0;
    weights(F, D, dU, M, gup);
    memset(dM, 0, sizeof dM); times_back(F, D, up, dU, dM);
    norm_back(Z, s2, dM, dZ);
    weights(D, D, dZ, O, go);
    memset(dO, 0, sizeof dO); times_back(D, D, wo, dZ, dO);
    for (int h = 0; h < H; h++) {
        double G[N][N];
        row sum = {0};
        for (int t = 0; t < N; t++) {
            row dot = {0};
            for (int j = h * S; j < (h + 1) * S; j++)
                for (int p = 0; p < N; p++) dot[p] += W[j][t] * dO[j][p];
            for (int p = 0; p < N; p++) { G[t][p] = dot[p] * P[h][t][p]; sum[p] += G[t][p]; }
        }
        for (int t = 0; t < N; t++)
            for (int p = 0; p < N; p++) G[t][p] = (G[t][p] - sum[p] * P[h][t][p]) / sqrt(S);
        for (int j = h * S; j < (h + 1) * S; j++) {
            row dot = {0};
            for (int t = 0; t < N; t++) for (int p = 0; p < N; p++) dot[p] += K[j][t] * G[t][p];
            memcpy(dQ[j], dot, sizeof dot);
            for (int t = 0; t < N; t++) {
                double k = 0.0, v = 0.0;
                for (int p = t; p < N; p++) { k += G[t][p] * Q[j][p]; v += P[h][t][p] * dO[j][p]; }
                dK[j][t] = k; dW[j][t] = v;
            }
        }
    }
    weights(D, D, dQ, Y, gq); weights(D, D, dK, Y, gk); weights(D, D, dW, Y, gv);
    memset(dY, 0, sizeof dY);
    times_back(D, D, wq, dQ, dY); times_back(D, D, wk, dK, dY); times_back(D, D, wv, dW, dY);
    memcpy(dX, dZ, sizeof dX);
    norm_back(X, s1, dY, dX);
    memset(dE, 0, sizeof dE); norm_back(E, s0, dX, dE);
    memset(gte, 0, sizeof(double) * (V * D + C * D));
    for (int p = 0; p < N; p++)
        for (int j = 0; j < D; j++) {
            gte[tokens[p] * D + j] += dE[j][p];
            gpe[p * D + j] = dE[j][p];
        }
    return loss / N;
}

double repeated(int times, const double *w, const long *tokens, const long *targets, double *g) {
    double sum = 0.0;
    for (int i = 0; i < times; i++) sum += step(w, tokens, targets, g);
    return sum;
}
"""


class CStep:
    """The same in C, of one layer and n tokens, compiled by gcc in a folder.

    Calls of it from Python add two microseconds: `repeated` says how often to step in one.
    """

    def __init__(self, shape: Shape, n: int, folder: Path) -> None:
        assert shape.layers == 1
        source, library = folder / f"gpt_{n}.c", folder / f"gpt_{n}.so"
        source.write_text(C_SOURCE, encoding="utf-8")
        sizes = {**shape._asdict(), "n": n}
        macros = [f"-D{name.upper()}={sizes[name]}" for name in sizes if name != "layers"]
        options = ["-O3", "-march=native", "-shared", "-fPIC", *macros]
        subprocess.run(["gcc", *options, "-o", library, source, "-lm"], check=True)
        self._run = ctypes.CDLL(str(library)).repeated
        self._run.restype = ctypes.c_double
        self._count = shape.count

    def __call__(
        self, parameters: Any, tokens: Any, targets: Any, repeated: int = 1
    ) -> tuple[float, Any]:
        gradient = np.empty(self._count)
        arrays = (parameters, tokens.astype(np.int64), targets.astype(np.int64), gradient)
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
        return self._run(repeated, *pointers) / repeated, gradient
