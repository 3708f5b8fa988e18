"""What `help` says of an operation: all of it is in its row of the table."""

from __future__ import annotations

import sys
from inspect import cleandoc

from .. import ops
from ..errors import MicrogradError
from ..ops import Op
from .algebra import Expression, apply, partials

_SAMPLES = (0.5, 1.5, 2.0)


def manual(op: Op) -> str:
    """How the operation is written, what it is, its derivatives, its domain, and an example."""
    arguments = op.arguments if op.arity else ("x", "y")
    symbols = [Expression(name) for name in arguments]
    written = apply(op, symbols)
    about = op.doc or _first_sentence(op.compute.__doc__ or "")
    name = _public_name(op)
    call = f"{name}({', '.join(arguments if op.arity else (*arguments, '...'))})"
    is_a_call = written.text.startswith(f"{op.name}(")
    parts = [call if is_a_call else f"{call} = {written.text}", cleandoc(about)]
    slopes = zip(arguments, partials(op, symbols, written), strict=True)
    lines = [f"    ∂/∂{name} = {d.text}" for name, d in slopes if d is not None]
    parts.append("\n".join(lines))
    parts.append(f"It is defined {op.domain}." + (f" Convention: {op.kink}." if op.kink else ""))
    return "\n\n".join(filter(None, [*parts, _example(op, name, len(arguments))]))


def _first_sentence(text: str) -> str:
    """Of a docstring the first paragraph that is no signature, as math.hypot's is."""
    return next((p for p in text.strip().split("\n\n") if "->" not in p), "")


def _public_name(op: Op) -> str:
    """The name under which the package has it: maximum for max, which is a function of Python's."""
    package = vars(sys.modules[ops.__package__ or ""])
    return next((name for name, row in package.items() if row is op), op.name)


def _example(op: Op, name: str, count: int) -> str:
    """A call on numbers where the operation is defined, with its value."""
    for shift in range(len(_SAMPLES)):
        xs = [_SAMPLES[(shift + i) % len(_SAMPLES)] for i in range(count - len(op.defaults))]
        try:
            return f"    >>> {name}({', '.join(map(repr, xs))})\n    {op(*xs)!r}"
        except MicrogradError:
            continue
    return ""
