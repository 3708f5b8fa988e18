r"""`derive`: the chain rule as text and as LaTeX.

The calculus is that of the table: the rows' partials, evaluated on `Expression`s in the place of
numbers. What is left to do here is to multiply along the paths of the graph and to add the paths
up, and to choose which sub-expressions get names, so that the result is as long as the graph and
not as the number of paths through it.

A derivation in one variable is written from the outside inwards, as one does by hand:

>>> from micrograd_like import Value
>>> w, x = Value(0.5, label="w"), Value(2.0, label="x")
>>> y = (w * x).tanh()
>>> y.label = "y"
>>> print(derive(y, w, activation="α"))
v1 = w · x
y = α(v1)
∂y/∂w = ∂y/∂v1 · ∂v1/∂w
∂y/∂w = α'(v1) · x

One in several variables names the adjoints that its results share, δ with the index of the node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Final, get_args

from ..engine import Value
from ..errors import InputError
from ..gradients import values
from ..words import first_and_last, fitting
from .algebra import Expression, Form, Style
from .paths import Equation, by_adjoints, counts, in_one_line, in_ratios, inlined
from .symbols import MOST_TERMS, SymbolicGraph

_MOST_LINES = 200  # at the start and at the end of definitions, of adjoints and of results
_GAPS = {"text": "⋮ ({} more)", "latex": r"&\ \ \vdots\quad\text{{({} more)}}"}


class Derivation:
    """The derivative of one node with respect to others; `derive` makes it.

    `equations` are the named adjoints and then the derivatives, in an order in which they can be
    computed. `text` and `latex` are the derivation for people, and so is its display in a
    notebook; `str` is the text.
    """

    def __init__(
        self, root: Value, wrt: Sequence[Value], activation: str | Mapping[str, str], form: Form
    ) -> None:
        graph = self._graph = SymbolicGraph(root, wrt, activation, form)
        inline = in_one_line(graph) if len(graph.targets) == 1 else None
        self.equations: Final = (inline,) if inline else tuple(by_adjoints(graph))
        self._inlined = inlined(graph, self.equations)
        self._chain = in_ratios(graph, self._inlined, inline) if inline else []
        # Of what cancels in the result, the lines of the chain rule speak all the same.
        self._inlined -= graph.mentioned([e for _, e in self._chain])

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many paths the derivation adds up, and what multiplying along them costs.

        `paths`: from the node to the variables, over all of them; `path_by_path`: multiplications
        if the local derivatives along each path are multiplied for it alone; `unshared`: if each
        derivative is computed on its own, from the root, adding at each node before going on, but
        with nothing stored for a second use; `shared`: if the adjoint of each node is computed
        once, as in `backward`. A local derivative counts as one factor, and multiplying with 1 or
        -1 as nothing. On a chain of n diamonds the first three grow like 2^n, `shared` like n.
        """
        return counts(self._graph)

    @property
    def text(self) -> str:
        """One equation a line: what is referred to, named adjoints, and the results last."""
        return "\n".join(self._lines("text"))

    @property
    def latex(self) -> str:
        r"""The same as an `aligned` environment, without the $$ around it."""
        lines = " \\\\\n".join(self._lines("latex"))
        return f"\\begin{{aligned}}\n{lines}\n\\end{{aligned}}"

    def __str__(self) -> str:
        """The text, in ASCII where stdout has nothing else."""
        return fitting(self.text)

    def __repr__(self) -> str:
        symbols = [e.symbol.text for e in self.equations[-len(self._graph.targets) :]]
        return f"<Derivation of {', '.join(first_and_last(symbols, '… {} more …'))}>"

    def _repr_latex_(self) -> str:
        return f"$$\n{self.latex}\n$$"

    def _lines(self, style: Style) -> Iterator[str]:
        n = len(self.equations) - len(self._graph.targets)
        results = [*self._chain, *self.equations[n:]]
        for equations in (self._definitions(), self.equations[:n], results):
            before = ""
            for equation in first_and_last(equations, _GAPS[style], _MOST_LINES, _MOST_LINES):
                if isinstance(equation, str):
                    yield equation
                    continue
                symbol, expression = equation
                left = f"{symbol.text} = " if style == "text" else f"{symbol.latex} &= "
                if style == "latex" and symbol.text == before:  # not twice below one another
                    left = "&= "
                yield left + expression.written(style, spaced=True, most=MOST_TERMS)
                before = symbol.text

    def _definitions(self) -> list[Equation]:
        """The nodes in terms of one another, parents first."""
        graph = self._graph
        written: dict[Value, Expression] = {}
        result = []
        for node in graph.order:
            if node in self._inlined:
                written[node] = graph.operation(node, written)
            elif node.op is not None:
                result.append(Equation(graph.symbols[node], graph.operation(node, written)))
        return result


def derive(
    y: Value,
    wrt: Value | Iterable[Value],
    *,
    activation: str | Mapping[str, str] = "",
    form: Form = "textbook",
) -> Derivation:
    """The derivation of ∂y/∂w for the Value, or each of the Values, in `wrt`.

    `activation` leaves the activation functions of the graph unspecified and gives the name they
    are written with, or one name for each operation: {"tanh": "α", "sigmoid": "σ"}. A single name
    for different functions gets their names as indices. `form="exact"` writes the partials as the
    engine computes them, with digits in the tails: tanh' is sech(z)², and not 1 - tanh².

    In the derivatives of `max` and `min`, H is the Heaviside step with H(0) = 1/2: a tie splits in
    halves. 1(x > 0), in that of relu, is 0 at 0. Of a choice both sides are derived, each times 1
    where it is taken and 0 where it is not: where(c, f(x), g(x)) has the derivative
    where(c, 1, 0) · f'(x) + where(c, 0, 1) · g'(x), where both are finite: the engine adds nothing
    for a side that is not taken, though it be infinite.

    The result is symbols: what data the nodes hold does not matter to it. Raises OperandError (a
    TypeError) for what is not a Value; InputError (a ValueError) for an empty `wrt`, for a `form`
    that it does not know, and for an `activation` that is no name.
    """
    if form not in get_args(Form):
        raise InputError(f"form is one of {', '.join(get_args(Form))}, not {form!r:.60}")
    targets = values("derivations are with respect to Values", wrt)
    if not targets:
        raise InputError("derive needs at least one Value to derive with respect to")
    return Derivation(y, targets, activation, form)
