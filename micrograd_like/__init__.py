"""A scalar reverse-mode autograd engine: small, exact, inspectable.

>>> from micrograd_like import Value
>>> x = Value(3.0, label="x")
>>> y = x**2 + 2 * x
>>> y.backward()
>>> y.data, x.grad
(15.0, 8.0)
"""

from typing import TYPE_CHECKING

from . import losses, nn, ops, optim
from .engine import Value, topological_order
from .errors import DomainError, MicrogradError, found_later, shown
from .gradients import grad, hessian, jacobian, jvp, value_and_grad
from .losses import softmax
from .modes import no_grad

# fmt: off
from .ops import (
    Op, acos, acosh, add, asin, asinh, atan, atan2, atanh, clip, cos, cosh, div, elu, erf, exp,
    expm1, gelu, greater, hypot, leaky_relu, log, log1p, log2, log10, logaddexp, logsumexp,
    maximum, minimum, mod, mul, neg, relu, sigmoid, silu, sin, sinh, softplus, sqrt, sub, tan,
    tanh, where, xlogy,
)
# fmt: on
from .sums import affine, take

if TYPE_CHECKING:
    from . import datasets as datasets
    from . import plots as plots
    from . import training as training
    from .checks import detect_anomaly, gradcheck, stale
    from .compiler import compile as compile  # noqa: A004
    from .compiler import compile_forward, compile_step
    from .training.playing import play
    from .views import derive, draw, explain, player, steps

# What looks at graphs, compiles them and trains is loaded when it is first asked for (PEP 562):
# with it, importing the library would take more than twice as long.
_LATER = {
    **dict.fromkeys(("detect_anomaly", "gradcheck", "stale"), "checks"),
    **dict.fromkeys(("compile", "compile_forward", "compile_step"), "compiler"),
    **dict.fromkeys(("derive", "draw", "explain", "player", "steps"), "views"),
    "play": "training.playing",
}
_MODULES = {name: name for name in ("datasets", "plots", "training")}
__getattr__ = found_later(__name__, _LATER | _MODULES)

# Named as Python's own functions, as `compile` is: not in __all__, so that `import *` spares those.
abs, pow = ops.absolute, ops.power  # noqa: A001

__version__ = "0.1.0"

# fmt: off
__all__ = [
    "DomainError", "MicrogradError", "Op", "Value", "acos", "acosh", "add", "affine", "asin",
    "asinh", "atan", "atan2", "atanh", "clip", "compile_forward", "compile_step", "cos",
    "cosh", "derive", "detect_anomaly", "div", "draw", "elu", "erf", "exp", "explain", "expm1",
    "gelu", "grad", "gradcheck", "greater", "hessian", "hypot", "jacobian", "jvp", "leaky_relu",
    "log", "log1p", "log2", "log10", "logaddexp", "logsumexp", "losses", "maximum", "minimum",
    "mod", "mul", "neg", "nn", "no_grad", "optim", "play", "player", "relu", "sigmoid", "silu",
    "sin", "sinh", "softmax", "softplus", "sqrt", "stale", "steps", "sub", "take", "tan", "tanh",
    "topological_order", "training", "value_and_grad", "where", "xlogy",
]
# fmt: on

_BESIDE = ("__version__", "abs", "compile", "datasets", "engine", "errors", "ops", "plots", "pow")
__dir__ = shown(*__all__, *_BESIDE)
