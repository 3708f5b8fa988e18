"""How numbers and nodes are called, as text and as LaTeX."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import count

from ..engine import Value

_MARK = r"\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"  # combine with letters
_NAME = re.compile(rf"(?![{_MARK}])[\w.\[\],'′\u2068\u2069{_MARK}]+|\([^()]*\)")
_POWER = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_INDEX = "₀₁₂₃₄₅₆₇₈₉"
_SHORT = 8  # signs of a constant that is not rounded
_SUPERSCRIPTS = str.maketrans("0123456789-", f"{_POWER}⁻")
_DIGITS = str.maketrans(_INDEX, "0123456789")
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
}  # fmt: skip


def numeral(x: float, digits: int = 4) -> str:
    """`x` to so many significant digits, and as a float: 2.0, 0.7071, -1.5e-07.

    >>> numeral(2.0), numeral(1 / 3), numeral(1e-5), numeral(12345678.0)
    ('2.0', '0.3333', '1e-05', '1.235e+07')
    """
    text = f"{x:.{digits}g}"
    return text if any(c in text for c in ".en") else f"{text}.0"


def concise(x: float, digits: int) -> str:
    """A constant to so many digits, or to 15 if that is short: 3, 273.15, 19991231, 0.3333."""
    exact = f"{x:.15g}"
    return exact if len(exact) <= _SHORT else f"{x:.{digits}g}"


def factor(x: float) -> str:
    """The numeral as a factor of a product, in parentheses if it has a sign."""
    text = numeral(x)
    return f"({text})" if text.startswith("-") else text


def latex_numeral(x: float, digits: int | None = 4) -> str:
    r"""The same in LaTeX: `1.5 \cdot 10^{-7}`; integers lose their point.

    With None it has as many digits as it takes to be read back as the same float.
    """
    if math.isnan(x):
        return r"\mathrm{NaN}"
    if math.isinf(x):
        return r"\infty" if x > 0.0 else r"-\infty"
    text = repr(x).removesuffix(".0") if digits is None else f"{x:.{digits}g}"
    mantissa, _, exponent = text.partition("e")
    if not exponent:
        return mantissa
    factor = {"1": "", "-1": "-"}.get(mantissa, rf"{mantissa} \cdot ")
    return f"{factor}10^{{{int(exponent)}}}"


def names(nodes: Sequence[Value], clean: Callable[[str], str] = str) -> dict[Value, str]:
    """A name for each node: its label as `clean` makes it, or v1, v2, ... where it has none.

    Of nodes with equal labels the first keeps it, the others get a number after it.
    """
    result: dict[Value, str] = {}
    labels = [clean(node.label) for node in nodes]
    unused, taken = {*labels, ""} - {""}, {*labels}
    numbers: dict[str, Iterator[int]] = {}
    for node, name in zip(nodes, labels, strict=True):
        if name in unused:
            unused.remove(name)
        else:
            stem, first = (f"{name}_", 2) if name else ("v", 1)
            each = numbers.setdefault(stem, count(first))
            name = next(new for i in each if (new := f"{stem}{i}") not in taken)
            taken.add(name)
        result[node] = name
    return result


def latex_name(name: str) -> str:
    r"""A name as a mathematician sets it: w_{10}, \alpha, w^{[0]}_{1,2}; anything else escaped.

    What follows in brackets after an index stands above: w20[1] is w_{20}^{[1]}.

    >>> print(latex_name("w10"), latex_name("alpha_1"), latex_name("layers[0].neurons[1].w[2]"))
    w_{10} \alpha_{1} w^{[0]}_{1,2}
    """
    name = name.translate(_DIGITS)  # x₁ is x1
    path = re.fullmatch(
        r"(?:.*\.)?layers\[(\d+)\]\.neurons\[(\d+)\]\.(\w+?)(?:\[(\d+)\])?", name, re.ASCII
    )
    if path:
        layer, neuron, stem, place = path.groups()
        index = neuron if place is None else f"{neuron},{place}"
        return f"{_latex_stem(stem)}^{{[{layer}]}}_{{{index}}}"
    indexed = re.fullmatch(
        r"([A-Za-z]+|[^\W\d_])(?:_?(\d+(?:_\d+)*))?((?:\[\d+(?:, *\d+)*\])*)('*)", name
    )
    if indexed:
        stem, index, places, primes = indexed.groups()
        lower = (index or "").replace("_", ",")
        upper = ",".join(re.findall(r"\d+", places))
        if upper and not lower:
            lower, upper = upper, ""
        below = f"_{{{lower}}}" if lower else ""
        above = f"{'{}' * bool(primes)}^{{[{upper}]}}" if upper else ""
        return f"{_latex_stem(stem)}{primes}{below}{above}"
    subscripted = re.fullmatch(r"([^\W\d_])_([^\W_]+)", name)
    if subscripted:
        stem, index = map(_latex_stem, subscripted.groups())
        return f"{stem}_{{{index}}}"
    return rf"\mathrm{{{latex_text(name)}}}"


def looks_like_a_name(name: str) -> bool:
    """Whether it needs no parentheses in a formula: w[0,1] and (a + b), not a + b, x² or (a)(b)."""
    return _NAME.fullmatch(name) is not None and name[-1] not in _POWER


def superscript(number: str) -> str:
    """An integer as an exponent: ⁻¹² for "-12"."""
    return number.translate(_SUPERSCRIPTS)


def _latex_stem(stem: str) -> str:
    stem = _GREEK.get(stem, stem)
    if stem in _GREEK.values():
        return "\\" + stem
    return stem if len(stem) == 1 and stem.isascii() else rf"\mathrm{{{latex_text(stem)}}}"


def latex_text(text: str) -> str:
    """The characters as LaTeX; what cannot be printed alone, such as an accent, is a ?."""
    text = re.sub(f"[{_MARK}\N{REPLACEMENT CHARACTER}]", "?", text)
    return "".join(_LATEX.get(c) or _escaped(c) for c in text)


def _escaped(c: str) -> str:
    if not c.isprintable():
        return "?"
    return c if c.isascii() else rf"\text{{{c}}}"
