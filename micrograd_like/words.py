"""Text for people: what a terminal shows of it, how wide that is, and lists that do not run on."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO, TypeVar

T = TypeVar("T")

_ASCII = {
    "∂": "d ", "·": "*", "⋅": "*", "×": "x", "÷": "/", "√(": "sqrt(", "√": "sqrt ", "±": "+-",
    "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "→": "->", "←": "<-", "−": "-", "–": "-", "…": "...",
    "′": "'", "‖": "||", "░": ":",
    "⌊": "floor(", "⌋": ")", "⋮": ":", "↵": "\\n",
}  # fmt: skip
_SIGNS = re.compile("|".join(map(re.escape, _ASCII)))
_SUPERSCRIPTS = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁽⁾]+")
_LETTERS = re.compile("[Α-Ωα-ω₀-₉µ]")


def printable(text: str) -> str:
    """The text with what a terminal would obey rather than show replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def fitting(text: str, stream: TextIO | None = None) -> str:
    """The text as the stream (default: stdout) can show it: its own signs in ASCII if need be.

    >>> ascii_only = type("Terminal", (), {"encoding": "ascii"})
    >>> fitting("∂y/∂w = σ(x)·x²", ascii_only)
    'd y/d w = sigma(x)*x^2'
    """
    told, _, _ = os.environ.get("PYTHONIOENCODING", "").partition(":")
    encoding = told or getattr(stream or sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return in_ascii(text).encode(encoding, "replace").decode(encoding)
    except LookupError:  # a stream of somebody's own
        pass
    return text


def in_ascii(text: str) -> str:
    """The text with the signs of mathematics and Greek letters in ASCII; others are as they are."""
    from unicodedata import name, normalize

    def letter(match: re.Match[str]) -> str:
        *_, word = name(match[0]).split()
        plain = normalize("NFKD", match[0])
        return plain if plain.isascii() else word.lower() if plain.islower() else word.title()

    text = _SIGNS.sub(lambda match: _ASCII[match[0]], text)
    text = _SUPERSCRIPTS.sub(lambda m: f"^{normalize('NFKD', m[0]).replace('−', '-')}", text)
    return _LETTERS.sub(letter, text)


def percent(share: float) -> str:
    """A share of 1 as a percentage; only all of them are 100.0 %.

    >>> percent(0.958), percent(1.0), percent(0.9999)
    ('95.8 %', '100.0 %', '99.9 %')
    """
    return f"{min(100.0 * share, 99.9) if share < 1.0 else 100.0 * share:.1f} %"


def display_width(text: str) -> int:
    """How many columns of a terminal the text takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    # Imported late, since loading its database takes longer than this whole module does.
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 1 + (east_asian_width(c) in "WF") for c in text)


def several(items: Sequence[str], most: int = 3) -> str:
    """The items in a row, or the first of them and how many there are besides.

    >>> several(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + rest


def meant(name: str, names: Iterable[str]) -> str:
    """A question that ends a refusal of the name, where one of the names is much like it.

    >>> meant("tahn", ["sinh", "tanh"])
    '; did you mean tanh?'
    """
    from difflib import get_close_matches  # late: it is needed where something is wrong

    close = get_close_matches(name, names)
    close.sort(key=lambda other: sorted(other) != sorted(name))  # tanh is nearer to tahn than tan
    return f"; did you mean {close[0]}?" if close else ""


def first_and_last(
    items: Sequence[T], gap: str, first: int = 3, last: int = 1, most: int | None = 0
) -> list[T | str]:
    """The items, or the first and the last of them around `gap`, which says how many are between.

    Up to `most` are not too many, and if that is None any number.

    >>> first_and_last(list("abcdefg"), "… {} more …")
    ['a', 'b', 'c', '… 3 more …', 'g']
    """
    if most is None or len(items) <= max(most, first + last):
        return list(items)
    return [*items[:first], gap.format(len(items) - first - last), *items[len(items) - last :]]
