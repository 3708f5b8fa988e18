"""What is printed as mathematics, read back as a reader would, and computed."""

from __future__ import annotations

import contextlib
import io
import math
import operator
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from micrograd_like import Value, affine, derive, explain, grad, ops, steps, topological_order
from micrograd_like.errors import DomainError
from micrograd_like.numerics import normcdf, normpdf
from micrograd_like.views.symbols import SymbolicGraph

SUPERSCRIPTS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹·", "-0123456789·")
TOKEN = re.compile(
    r"[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+|\b1\(|\d+(?:\.\d+)?(?:e[-+]?\d+)?|[^\W⁰¹²³⁴⁵⁶⁷⁸⁹]+|[-+·/^()|√⌊⌋,>=≤]"
)
NAMES = {
    "σ": ops.sigmoid, "Φ": normcdf, "φ": normpdf, "log": ops.log, "sign": ops.TABLE["sign"],
    "H": lambda x: 0.5 if x == 0.0 else float(x > 0.0),
}  # fmt: skip


class Reader:
    """Reads a formula with as few conventions as there are, and refuses what could mean two things.

    · and / go from left to right, and bind more tightly than + and -, ^ more tightly than both. It
    does not take a second exponent, the exponent of a root, or `mod` beside another sign.
    """

    def __init__(self, formula: str, names: dict[str, float]) -> None:
        self.tokens = [*TOKEN.findall(formula), "end"]
        assert "".join(self.tokens[:-1]) == re.sub(r"\s", "", formula)
        self.names = names

    def take(self, *expected: str) -> str:
        token = self.tokens.pop(0)
        assert not expected or token in expected, (token, self.tokens)
        return token

    def found(self, *tokens: str) -> str:
        return self.tokens.pop(0) if self.tokens[0] in tokens else ""

    def whole(self) -> float:
        x = self.sum()
        self.take("end")
        return x

    def sum(self) -> float:
        x = -self.product() if self.found("-") else self.product()
        while sign := self.found("+", "-"):
            y = self.product()
            x = x + y if sign == "+" else x - y
        return x

    def product(self) -> float:
        x, signs = self.power(), []
        while sign := self.found("·", "/", "mod"):
            signs.append(sign)
            y = self.power()
            x = x * y if sign == "·" else x / y if sign == "/" else ops.mod(x, y)
        assert signs == ["mod"] or "mod" not in signs
        return x

    def power(self) -> float:
        x = self.atom()
        if self.found("^"):
            x = ops.power(x, -self.atom() if self.found("-") else self.atom())
        elif self.tokens[0][0] in "⁻⁰¹²³⁴⁵⁶⁷⁸⁹":
            x = ops.power(x, float(self.take().translate(SUPERSCRIPTS)))
        assert self.tokens[0][0] not in "^⁻⁰¹²³⁴⁵⁶⁷⁸⁹"
        return x

    def atom(self) -> float:
        token = self.take()
        if token == "√":
            x = ops.sqrt(self.atom())
            assert self.tokens[0][0] not in "^⁻⁰¹²³⁴⁵⁶⁷⁸⁹"
            return x
        if token in "(|⌊":
            x = self.sum()
            self.take({"(": ")", "|": "|", "⌊": "⌋"}[token])
            return {"(": float, "|": abs, "⌊": math.floor}[token](x)
        if token == "1(":
            return self.condition()
        if token not in self.names and self.found("("):
            arguments = [self.sum()]
            while self.take(",", ")") == ",":
                arguments.append(self.sum())
            return (NAMES.get(token) or ops.TABLE[token])(*arguments)
        return self.names[token] if token in self.names else float(token)

    def condition(self, end: str = ")") -> float:
        sides, signs = [self.sum()], []
        while (sign := self.take(">", "=", "≤", r"\le", end)) != end:
            signs.append(sign)
            sides.append(self.sum())
        holds = {">": operator.gt, "=": operator.eq, "≤": operator.le, r"\le": operator.le}
        pairs = zip(signs, sides, sides[1:], strict=False)
        return float(all(holds[sign](x, y) for sign, x, y in pairs))


LATEX = re.compile(
    r"\\left\\lfloor|\\right\\rfloor|\\left[(|]|\\right[)|]|\\math(?:rm|bf)\{(?:[^{}]|\\_)*\}"
    r"|\\[A-Za-z]+(?:_\{\d+\})?|(?:\d+(?:\.\d+)?)|[A-Za-z](?:_\{\d+\})?|[-+^{},>=]"
)
FUNCTIONS = {
    r"\sigma": "sigmoid", r"\ln": "log", r"\arcsin": "asin", r"\arccos": "acos",
    r"\arctan": "atan", r"\log_{2}": "log2", r"\log_{10}": "log10",
}  # fmt: skip


class LatexReader(Reader):
    """The same of LaTeX, where fractions and exponents have braces."""

    def __init__(self, formula: str, names: dict[str, float]) -> None:
        self.tokens = [*LATEX.findall(formula), "end"]
        assert "".join(self.tokens[:-1]) == re.sub(r"\s", "", formula)
        self.names = names

    def product(self) -> float:
        x, signs = self.power(), []
        while sign := self.found(r"\cdot", r"\bmod"):
            signs.append(sign)
            y = self.power()
            x = x * y if sign == r"\cdot" else ops.mod(x, y)
        assert signs == [r"\bmod"] or r"\bmod" not in signs
        return x

    def power(self) -> float:
        if self.tokens[:2] == ["e", "^"]:
            self.take("e"), self.take("^")
            x = ops.exp(self.braced())
        else:
            is_root = self.tokens[0] in (r"\frac", r"\sqrt")
            x = self.atom()
            if not is_root and self.found("^"):
                x = ops.power(x, self.braced())
        assert self.tokens[0] != "^"
        return x

    def braced(self) -> float:
        if len(self.tokens[0]) == 1 and self.tokens[0] != "{":  # x^2
            return self.atom()
        self.take("{")
        x = self.sum()
        self.take("}")
        return x

    def atom(self) -> float:
        token = self.take()
        if token == r"\frac":
            return self.braced() / self.braced()
        if token == r"\sqrt":
            return ops.sqrt(self.braced())
        if token in (r"\left(", r"\left|", r"\left\lfloor"):
            x = self.sum()
            self.take({"(": r"\right)", "|": r"\right|", "r": r"\right\rfloor"}[token[-1]])
            return {"(": float, "|": abs, "r": math.floor}[token[-1]](x)
        if token == r"\mathbf{1}":
            self.take(r"\left(")
            return self.condition(end=r"\right)")
        if token not in self.names and self.found(r"\left("):
            arguments = [self.sum()]
            while self.take(",", r"\right)") == ",":
                arguments.append(self.sum())
            name = FUNCTIONS.get(token) or re.sub(r"\\mathrm\{(.*)\}|\\", r"\1", token)
            function = NAMES.get({"Phi": "Φ", "varphi": "φ"}.get(name, name))
            return (function or ops.TABLE[name.replace(chr(92), "")])(*arguments)
        return self.names[token] if token in self.names else float(token)


UNARY = [
    name for name, row in ops.TABLE.items() if row.arity == 1 and row.kind != "internal" and
    name in ops.BUILTIN
]  # fmt: skip
NUMBERS = ["2.0", "0.5", "3.0", "-1.5", "-1.0", "1.0", "0.0"]


def combined(of: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    one = st.one_of(of, of, of, st.sampled_from(NUMBERS))
    return st.one_of(
        st.builds("({} {} {})".format, of, st.sampled_from(["+", "-", "*", "/", "%", "**"]), one),
        st.builds("({} {} {})".format, one, st.sampled_from(["+", "-", "*", "/", "%", "**"]), of),
        st.builds("(-{})".format, of),
        st.builds("{}({})".format, st.sampled_from(UNARY), of),
        st.builds("{}({}, {})".format, st.sampled_from(
            ["maximum", "minimum", "hypot", "logaddexp", "greater", "xlogy", "atan2"]), of, one),
        st.builds("where({}, {}, {})".format, of, one, of),
        st.builds("affine([{}, 2.0], [{}, {}], {})".format, of, of, of, one),
    )  # fmt: skip


NAMESPACE: dict[str, Any] = {**ops.TABLE, "affine": affine, "maximum": ops.maximum,
                             "minimum": ops.minimum, "where": ops.where}  # fmt: skip
AT = {"x": 0.71, "y": 1.37, "z": -0.63}


def graph_of(formula: str) -> tuple[Value, list[Value]] | None:
    """The root and the leaves; None where the formula has no graph, or none of moderate numbers."""
    leaves = {name: Value(number, name) for name, number in AT.items()}
    try:
        root = eval(formula, {**NAMESPACE, **leaves})
    except DomainError:
        return None
    if not isinstance(root, Value) or root.op is None:
        return None
    nodes = topological_order(root)
    numbers = [*grad(root, nodes), *[node.data for node in nodes]]
    return (root, [*leaves.values()]) if all(abs(x) < 1e6 for x in numbers) else None


@pytest.mark.parametrize("style", ["text", "latex"])
@pytest.mark.parametrize("form", ["textbook", "exact"])
@settings(max_examples=60)
@given(formula=st.recursive(st.sampled_from("xyz"), combined, max_leaves=7))
def test_a_derivation_says_what_the_engine_computes(form: Any, style: str, formula: str) -> None:
    if (made := graph_of(formula)) is None:
        return
    root, wrt = made
    expected = grad(root, wrt)
    derived, numbers = derive(root, wrt, form=form), dict(AT)
    text, read, equal = derived.text, Reader, " = "
    if style == "latex":
        text = "\n".join(derived.latex.replace(r" \\", "").splitlines()[1:-1])
        read, equal = LatexReader, " &= "
    found = []
    for line in text.splitlines():
        left, _, right = line.partition(equal)
        try:
            numbers[left] = read(right, numbers).whole()
        except (DomainError, ZeroDivisionError):  # on the side of a choice that is not taken
            return
        if left.startswith(("∂", r"\frac{\partial")):
            found.append(numbers[left])
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9), text


RATIO = re.compile(r"∂(\w+)/∂(\w+)")


@settings(max_examples=60)
@given(formula=st.recursive(st.sampled_from("xyz"), combined, max_leaves=7))
def test_steps_and_explanations_say_what_the_engine_computes(formula: str) -> None:
    if (made := graph_of(formula)) is None:
        return
    root, _ = made
    named = {name: node for node, name in SymbolicGraph(root, []).names.items()}
    numbers = {name: node.data for name, node in named.items()}
    forward, _ = str(steps(root)).removeprefix("forward\n").split("\nbackward\n")
    for line in forward.splitlines():
        name, formula, *_ = line.split(maxsplit=1)[1].split(" = ")
        assert Reader(formula, numbers).whole() == pytest.approx(numbers[name], rel=1e-9, abs=1e-9)
    for node in named.values():
        if node is root or node not in topological_order(root):
            continue
        with contextlib.redirect_stdout(io.StringIO()) as out:
            explain(node, root)
        sides = re.sub(r"\n *", " ", out.getvalue().strip()).split(" = ")
        (expected,) = grad(root, [node])
        ratios = {"_".join(ab): grad(named[ab[0]], named[ab[1]]) for ab in RATIO.findall(sides[-3])}
        if "…" in sides[-3] or len(sides) < 4:
            continue
        try:
            found = Reader(RATIO.sub(r"\1_\2", sides[-3]), {**numbers, **ratios}).whole()
        except (DomainError, ZeroDivisionError):  # 0^y·log(0), say, which is 0
            continue
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9), out.getvalue()
        assert float(sides[-1]) == pytest.approx(expected, rel=1e-3, abs=1e-12)
