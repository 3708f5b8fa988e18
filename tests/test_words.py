"""Text for people, on terminals that have no signs of mathematics."""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
import tokenize
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import micrograd_like
from micrograd_like import Value, derive, explain, gradcheck, ops, sigmoid, sqrt, steps
from micrograd_like.cli.commands import main
from micrograd_like.words import fitting, in_ascii


@pytest.mark.parametrize(
    ("text", "ascii_text"),
    [
        ("∂y/∂w = σ(x)·x²", "d y/d w = sigma(x)*x^2"),
        ("x⁻¹² + √x + √(a + b)", "x^-12 + sqrt x + sqrt(a + b)"),
        ("δ1 Σ Φ(x) ≤ π → … ± |x₁|", "delta1 Sigma Phi(x) <= pi -> ... +- |x1|"),
        ("x - y·⌊x / y⌋", "x - y*floor(x / y)"),
        ("naïve 漢 plain", "naïve 漢 plain"),
    ],
)
def test_signs_in_ascii(text: str, ascii_text: str) -> None:
    assert in_ascii(text) == ascii_text


def signs_of(path: Path) -> set[str]:
    """What the texts of a source have that is not ASCII, without its comments and docstrings."""
    with tokenize.open(path) as file:
        tokens = [*tokenize.generate_tokens(file.readline)]
    kinds = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    texts = [t.string for t in tokens if t.type in kinds and not re.match('[a-z]*"""', t.string)]
    return {c for c in "".join(texts) if not c.isascii()}


def test_every_sign_that_is_printed_has_its_ascii() -> None:
    package = Path(micrograd_like.__file__).parent
    signs = {c for row in ops.TABLE.values() for c in row.text if row.name in ops.BUILTIN}
    for room in ("views", "cli", "checks"):
        for path in (package / room).glob("*.py"):
            signs |= signs_of(path)
    assert {*"∂·σ√⌊⌋⋮"} <= signs
    assert [sign for sign in sorted(signs) if not in_ascii(sign).isascii()] == []


@pytest.mark.skipif("PYTHONIOENCODING" in os.environ, reason="it is what is taken for shown")
@given(st.text())
def test_what_fits_stays_and_all_else_can_be_shown(text: str) -> None:
    for encoding in ("ascii", "cp1252", "utf-8"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        shown = fitting(text, stream)
        shown.encode(encoding)
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            continue
        assert shown == text


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Callable[[], str]]:
    """Gives stdout an encoding, and then what was written there."""
    monkeypatch.delenv("PYTHONIOENCODING", raising=False)

    def opened(encoding: str) -> Callable[[], str]:
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
        stream.isatty = lambda: True  # type: ignore[method-assign]
        monkeypatch.setattr(sys, "stdout", stream)
        return lambda: raw.getvalue().decode(encoding)

    return opened


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_views_print_in_ascii_where_their_signs_cannot_be_shown(
    encoding: str, terminal: Callable[[str], Callable[[], str]]
) -> None:
    w, x = Value(1.0, label="w"), Value(2.0, label="x")
    y = sigmoid(w * x) ** 2 + sqrt(x)
    y.label = "y"
    written = terminal(encoding)
    for show in (
        lambda: print(steps(y)),
        lambda: print(derive(y, [w])),
        lambda: explain(w, y),
        lambda: print(gradcheck(lambda a: a**2, [1.0])),
        lambda: main(["step", "sigmoid(w*x)**2", "w=1", "x=2"]),
        lambda: main(["derive", "sigmoid(w*x)**2"]),
        lambda: main(["derive", "x % y", "--wrt", "y"]),
        lambda: main(["eval", "sigmoid(w*x)**2", "w=1", "x=2"]),
    ):
        before = len(written())
        show()
        text = written()[before:]
        assert text.isascii()
        assert "?" not in text
    assert "d y/d w" in written()
    assert "sigma(" in written()
    assert "^2" in written()
    assert "floor(x / y)" in written()


def test_a_terminal_that_can_shows_the_signs(terminal: Callable[[str], Callable[[], str]]) -> None:
    w = Value(1.0, label="w")
    written = terminal("utf-8")
    explain(w, sigmoid(w))
    assert main(["step", "sigmoid(w)", "w=1"]) == 0
    assert "∂" in written()
    assert "σ(" in written()


def test_pipes_are_utf8_and_views_are_as_python_was_told(
    terminal: Callable[[str], Callable[[], str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for told in ("", "cp1252"):
        terminal("cp1252")
        sys.stdout.isatty = lambda: False  # type: ignore[method-assign]
        monkeypatch.setenv("PYTHONIOENCODING", told)
        assert main(["step", "sigmoid(w)", "w=1"]) == 0
        assert codecs.lookup(sys.stdout.encoding).name == "utf-8"
        raw = sys.stdout.buffer.getvalue()  # type: ignore[attr-defined]
        assert ("σ" in raw.decode()) is (not told)
