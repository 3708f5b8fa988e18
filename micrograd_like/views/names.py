"""How numbers and nodes are called, as text and as LaTeX."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from ..engine import Value
from ..errors import OperandError

_MARK = r"[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_CLUSTER = re.compile(rf"(.)({_MARK}*)", re.DOTALL)
_NAME = re.compile(rf"(?:[\w.\[\],'′\u2068\u2069]|(?<!^){_MARK})+")
_POWER = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_INDEX = "₀₁₂₃₄₅₆₇₈₉"
_SUPERSCRIPTS = str.maketrans("0123456789-", f"{_POWER}⁻")
_DIGITS = str.maketrans(_POWER, "0123456789")
_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta",
    "η": "eta", "θ": "theta", "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu",
    "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau", "υ": "upsilon", "φ": "phi",
    "χ": "chi", "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta",
    "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Υ": "Upsilon", "Φ": "Phi", "Ψ": "Psi",
    "Ω": "Omega",
}  # fmt: skip
_LATEX = {
    "\\": r"\backslash ", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
    "_": r"\_", "^": r"{\wedge}", "~": r"\sim ", "<": r"{<}", ">": r"{>}", " ": r"\ ",
    "∂": r"\partial ", "·": r"\cdot ", "×": r"\times ", "√": r"\surd ",
    "'": r"'", "`": r"{}`{}", '"': r"''",
    **{letter: f"\\{name} " for letter, name in _GREEK.items()},
    **{digit: f"{{}}^{{{i}}}" for i, digit in enumerate(_POWER)},
    **{digit: f"{{}}_{{{i}}}" for i, digit in enumerate(_INDEX)},
}  # fmt: skip
_ACCENTS = {
    "\u0300": "grave", "\u0301": "acute", "\u0302": "hat", "\u0303": "tilde", "\u0304": "bar",
    "\u0306": "breve", "\u0307": "dot", "\u0308": "ddot", "\u030a": "mathring", "\u030c": "check",
}  # fmt: skip
# The accents that a letter has in formulas; others are part of a word, as in é.
_OF_FORMULAS = {"hat", "tilde", "bar", "breve", "dot", "ddot", "check"}


def numeral(x: float, digits: int = 4) -> str:
    """`x` to so many significant digits, and as a float: 2.0, 0.7071, -1.5e-07.

    >>> numeral(2.0), numeral(1 / 3), numeral(1e-5), numeral(12345678.0)
    ('2.0', '0.3333', '1e-05', '1.235e+07')
    """
    text = f"{x:.{digits}g}"
    return text if any(c in text for c in ".en") else f"{text}.0"


def factor(x: float) -> str:
    """The numeral as a factor of a product, in parentheses if it has a sign."""
    text = numeral(x)
    return f"({text})" if text.startswith("-") else text


def latex_numeral(x: float, digits: int = 4) -> str:
    r"""The same in LaTeX: `1.5 \cdot 10^{-7}`; integers lose their point."""
    if math.isnan(x):
        return r"\mathrm{NaN}"
    if math.isinf(x):
        return r"\infty" if x > 0.0 else r"-\infty"
    mantissa, _, exponent = f"{x:.{digits}g}".partition("e")
    if not exponent:
        return mantissa
    factor = {"1": "", "-1": "-"}.get(mantissa, rf"{mantissa} \cdot ")
    return f"{factor}10^{{{int(exponent)}}}"


def names(nodes: Sequence[Value], clean: Callable[[str], str] = str) -> dict[Value, str]:
    """A name for each node: its label as `clean` makes it, or v1, v2, ... where it has none.

    Of nodes with equal labels the first keeps it, the others get a number after it. Raises
    OperandError for a label that is no str.
    """
    for node in nodes:
        if not isinstance(node.label, str):
            raise OperandError(f"a label is a str, got {node.label!r:.60}")
    cleaned = {node: clean(node.label) for node in nodes}
    labels = set(cleaned.values())
    taken: set[str] = set()
    result: dict[Value, str] = {}
    counts: dict[str, int] = {}
    for node in nodes:
        name = label = cleaned[node]
        stem = label or "v"
        while not name or name in taken:
            counts[stem] = counts.get(stem, 0 if stem == "v" and not label else 1) + 1
            name = f"{stem}{'_' if label else ''}{counts[stem]}"
            if name in labels:
                name = ""
        taken.add(name)
        result[node] = name
    return result


def latex_name(name: str) -> str:
    r"""A name as a mathematician sets it: w_{10}, \alpha, w^{[0]}_{1,2}; anything else escaped.

    What follows in brackets after an index stands above: w20[1] is w_{20}^{[1]}.

    >>> print(latex_name("w10"), latex_name("alpha_1"), latex_name("layers[0].neurons[1].w[2]"))
    w_{10} \alpha_{1} w^{[0]}_{1,2}
    """
    name = "".join(
        part if part in _POWER else _normalized("NFKC", part)  # x₁ is x1, and x² is not x2
        for part in re.split(f"([{_POWER}])", name)
        if part
    )
    powered = re.fullmatch(rf"(.*[^{_POWER}])([{_POWER}]+)", name)
    if powered and looks_like_a_name(powered[1]):
        base = latex_name(powered[1])
        base = rf"\left({base}\right)" if "^" in base else base
        return f"{base}^{{{powered[2].translate(_DIGITS)}}}"
    path = re.fullmatch(
        r"(?:.*\.)?layers\[(\d+)\]\.neurons\[(\d+)\]\.(\w+?)(?:\[(\d+)\])?", name, re.ASCII
    )
    if path:
        layer, neuron, stem, place = path.groups()
        index = neuron if place is None else f"{neuron},{place}"
        return f"{_latex_stem(stem)}^{{[{layer}]}}_{{{index}}}"
    indexed = re.fullmatch(
        rf"([A-Za-z]+|[^\W\d_]{_MARK}*)(?:_?(\d+(?:_\d+)*))?((?:\[\d+(?:, *\d+)*\])*)('*)", name
    )
    if indexed:
        stem, index, places, primes = indexed.groups()
        lower = (index or "").replace("_", ",")
        upper = ",".join(re.findall(r"\d+", places))
        if upper and not lower:
            lower, upper = upper, ""
        return "".join(
            [
                _latex_stem(stem) + primes,
                f"_{{{lower}}}" if lower else "",
                ("{}" if primes else "") + f"^{{[{upper}]}}" if upper else "",
            ]
        )
    subscripted = re.fullmatch(rf"([^\W\d_]{_MARK}*)_((?:[^\W_]{_MARK}*)+)", name)
    if subscripted:
        stem, index = map(_latex_stem, subscripted.groups())
        return f"{stem}_{{{index}}}"
    head, _, tail = name.rpartition(".")
    if head and re.fullmatch(r"\w+(\[\d+\])?", tail, re.ASCII):
        written = latex_name(tail)
        written = rf"\left({written}\right)" if "^" in written else written
        return rf"{written}^{{\mathrm{{{latex_text(head)}}}}}"
    return rf"\mathrm{{{latex_text(name)}}}"


def latex_names(names: Iterable[str]) -> dict[str, str]:
    r"""The LaTeX of each name, different for different names.

    Of w1, w_1 and w[1] the first is w_{1}, the others are written as they are spelled.

    >>> list(latex_names(["w1", "w_1", "w[1]"]).values())
    ['w_{1}', '\\mathrm{w\\_1}', '\\mathrm{w[1]}']
    """
    taken: set[str] = set()
    result = {}
    for name in names:
        latex = latex_name(name)
        if latex in taken:
            latex = rf"\mathrm{{{latex_text(name)}}}"
        while latex in taken:
            latex += "{}'"
        taken.add(latex)
        result[name] = latex
    return result


def looks_like_a_name(name: str) -> bool:
    """Whether it needs no parentheses in a formula: w[0,1] and (a + b), not a + b, x² or (a)(b)."""
    if name.startswith("(") and name.endswith(")"):
        depth = 0
        for i, c in enumerate(name):
            depth += (c == "(") - (c == ")")
            if depth == 0:
                return i == len(name) - 1
        return False
    return _NAME.fullmatch(name) is not None and name[-1] not in _POWER


def binding_of(name: str) -> float:
    """How tightly a name binds in a formula, as in `Op.binding`: x 9, x² 4, and a + b 0."""
    if looks_like_a_name(name):
        return 9
    base = name.rstrip(_POWER)
    return 4 if base != name and looks_like_a_name(base) else 0


def superscript(number: str) -> str:
    """An integer as an exponent.

    >>> superscript("-12")
    '⁻¹²'
    """
    return number.translate(_SUPERSCRIPTS)


def _normalized(form: Literal["NFKC", "NFD"], text: str) -> str:
    if text.isascii():
        return text
    # Imported late, since most names are ASCII and its database takes long to load.
    from unicodedata import normalize

    return normalize(form, text)


def _latex_stem(stem: str) -> str:
    base, *marks = list(_normalized("NFD", stem))
    if marks and all(_ACCENTS.get(mark) in _OF_FORMULAS for mark in marks):
        return _accented(_latex_stem(base), marks)
    stem = _GREEK.get(stem, stem)
    if stem in _GREEK.values():
        return "\\" + stem
    return stem if len(stem) == 1 and stem.isascii() else rf"\mathrm{{{latex_text(stem)}}}"


def _accented(letter: str, marks: Iterable[str]) -> str:
    for mark in marks:
        letter = rf"\{_ACCENTS[mark]}{{{letter}}}"
    return letter


def latex_text(text: str) -> str:
    """The characters as LaTeX, letters with their marks; a mark that has no accent is a ?."""
    return "".join(_escaped(*found.groups()) for found in _CLUSTER.finditer(text))


def _escaped(c: str, marks: str = "") -> str:
    if marks:
        if c.isalnum() and all(mark in _ACCENTS for mark in marks):
            return _accented(_escaped(c).rstrip(), marks)
        return _escaped(c) + "?" * len(marks)
    if c in _LATEX:
        return _LATEX[c]
    if not c.isprintable() or re.fullmatch(_MARK, c) or c == "\N{REPLACEMENT CHARACTER}":
        return "?"
    if c.isascii():
        return c
    letter, *accents = list(_normalized("NFD", c))
    if letter.isascii() and accents and all(mark in _ACCENTS for mark in accents):
        return _accented(letter, accents)
    return rf"\text{{{c}}}"
