"""Derivatives in the forms that engineers ask for: value and gradient, Jacobian, Hessian, J·v.

Each works on a graph that exists (`jacobian(outputs, wrt)`), where derivatives have the shape of
what they are of and by: a Value counts as a scalar, a list as an axis. Each also works on a
function of numbers (`jacobian(f, x)`), which is called with Values in place of the numbers in `x`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .engine import Value, grad, topological_order
from .errors import InputError, OperandError
from .numerics import number


def value_and_grad(f: Callable[..., Value]) -> Callable[..., tuple[float, Any]]:
    """The function that returns f's value and gradient.

    Arguments are numbers, or lists (tuples, arrays) of numbers, nested as you like; the gradient
    has the same structure. Of one argument it is the gradient itself, of several a tuple.

    >>> value_and_grad(lambda x, y: x * y + x)(3.0, 4.0)
    (15.0, (5.0, 3.0))
    """

    def value_and_gradient(*args: Any) -> tuple[float, Any]:
        leaves: list[Value] = []
        out = f(*[_leaves(arg, leaves) for arg in args])
        if not isinstance(out, Value):
            if isinstance(out, (list, tuple)):
                raise InputError("value_and_grad needs a function with one result: use jacobian")
            out = Value(out)  # a function may be constant
        gradients = iter(grad(out, leaves))
        results = tuple([_like(arg, gradients) for arg in args])
        return out.data, results[0] if len(args) == 1 else results

    return value_and_gradient


def jacobian(outputs: Any, wrt: Any) -> Any:
    """All derivatives of `outputs` by `wrt`: row i has those of output i.

    `jacobian(outputs, wrt)` takes Values or lists of Values, `jacobian(f, x)` a function and a
    number or list of numbers. With m outputs and n inputs the result is a list of m lists of n
    floats; an axis is missing where a single Value stands in place of a list.

    >>> jacobian(lambda x: [x[0] * x[1], x[0] + x[1]], [2.0, 3.0])
    [[3.0, 2.0], [1.0, 1.0]]
    """
    outputs, wrt, _ = _graph(outputs, wrt)
    _values(wrt)
    if isinstance(outputs, Value):
        return grad(outputs, wrt)
    return [grad(output, wrt) for output in _values(outputs)]


def hessian(output: Any, wrt: Any) -> Any:
    """The second derivatives of one output: row i has d²(output)/d(wrt i)d(wrt j) for each j.

    `hessian(root, wrt)` takes Values, `hessian(f, x)` a function and a number or list of numbers.
    The result is an n × n list of lists of floats, or one float where a single Value stands in
    place of the list.

    >>> hessian(lambda x: x[0] ** 2 * x[1], [3.0, 5.0])
    [[10.0, 6.0], [6.0, 0.0]]
    """
    output, wrt, _ = _graph(output, wrt)
    if not isinstance(output, Value):
        raise InputError("hessian needs a function with one result")
    return jacobian(grad(output, wrt, create_graph=True), wrt)


def jvp(outputs: Any, wrt: Any, direction: Any) -> Any:
    """The derivative of `outputs` along `direction`: the Jacobian times that vector, in one pass.

    `jvp(outputs, wrt, direction)` takes Values, or lists of them, and returns a float, or a list
    with one for each output. `jvp(f, x, direction)` returns the value(s) of f besides, in a pair,
    as JAX and torch.func do. Forward mode: the recorded local derivatives carry the direction from
    the inputs to the outputs. Raises InputError if `direction` and `wrt` differ in length.

    >>> jvp(lambda x: x[0] * x[1], [2.0, 3.0], [1.0, 0.0])
    (6.0, 3.0)
    """
    outputs, wrt, from_function = _graph(outputs, wrt)
    targets = _values(wrt)
    along = [direction] if isinstance(wrt, Value) else direction
    if not hasattr(along, "__len__") or isinstance(along, str):
        raise OperandError(f"the direction is a list of numbers, got {along!r:.60}")
    if len(along) != len(targets):
        raise InputError(f"jvp needs one component a variable, got {len(along)} for {len(targets)}")
    # Only what moves with the direction has a tangent: the rest may have infinite slopes.
    tangent: dict[Value, float] = {}
    for target, component in zip(targets, along, strict=True):
        tangent[target] = tangent.get(target, 0.0) + number(component)
    roots = _values(outputs)
    for node in topological_order(*roots):
        for parent, local in zip(node.parents, node.local_grads, strict=True):
            if parent in tangent:
                tangent[node] = tangent.get(node, 0.0) + local * tangent[parent]
    results: Any = [tangent.get(root, 0.0) for root in roots]
    values: Any = [root.data for root in roots]
    if isinstance(outputs, Value):
        (results,), (values,) = results, values
    return (values, results) if from_function else results


def _graph(outputs: Any, wrt: Any) -> tuple[Any, Any, bool]:
    """Outputs and variables as Values; a function is called to get them."""
    if not callable(outputs):
        return outputs, wrt, False
    variables = _leaves(wrt, [])
    results = outputs(variables)
    if isinstance(results, (list, tuple)):
        return [r if isinstance(r, Value) else Value(r) for r in results], variables, True
    return results if isinstance(results, Value) else Value(results), variables, True


def _values(x: Any) -> list[Value]:
    """One Value, or a list of them, as a list. Raises OperandError for anything else."""
    values: list[Any] = (
        [x] if isinstance(x, Value) else list(x) if isinstance(x, (list, tuple)) else [None]
    )
    if not all(isinstance(value, Value) for value in values):
        raise OperandError(f"a Value, a list of Values or a function is needed, got {x!r:.60}")
    return values


def _leaves(x: Any, leaves: list[Value]) -> Any:
    """`x` with a new Value for each number, all of them appended to `leaves` in order."""
    if hasattr(x, "tolist"):
        x = x.tolist()
    if isinstance(x, (list, tuple)):
        return [_leaves(item, leaves) for item in x]
    leaves.append(Value(x.data if isinstance(x, Value) else x))
    return leaves[-1]


def _like(x: Any, numbers: Any) -> Any:
    """The next `numbers` in the structure of `x`."""
    if hasattr(x, "tolist"):
        x = x.tolist()
    if isinstance(x, (list, tuple)):
        return [_like(item, numbers) for item in x]
    return next(numbers)
