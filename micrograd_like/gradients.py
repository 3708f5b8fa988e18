"""Gradients read off a graph, as numbers or as graphs, in the forms that people need.

`grad` comes first, then the sweep whose adjoints are graphs themselves. `value_and_grad`,
`jacobian`, `hessian` and `jvp` work on a graph that exists (`jacobian(outputs, wrt)`), where
derivatives have the shape of what they are of and by: a Value counts as a scalar, a list as an
axis. Each also works on a function of numbers (`jacobian(f, x)`), which is called with Values in
place of the numbers in `x`. Last come questions about a node: is it `between` two others, is it
stale?
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import compress
from math import nan
from typing import Any, Literal, overload

from .engine import Value, adjoints, numbers_of, operands_of, slopes_of, topological_order
from .errors import DomainError, InputError, OperandError, StaleGraphError
from .given import Given
from .modes import apart, innermost, silences, swept, watches
from .numerics import nested, number, plain
from .ops import Op

_WITH_RESPECT_TO = "gradients are with respect to Values"
_NEEDED = "a Value, a list of Values or a function is needed"
_ONE_AXIS = "the function is of a number, or of a list of numbers (value_and_grad takes nested)"


@overload
def grad(root: Value, wrt: Value, create_graph: Literal[False] = False) -> float: ...
@overload
def grad(root: Value, wrt: Value, create_graph: Literal[True]) -> Value: ...
@overload
def grad(
    root: Value, wrt: Iterable[Value], create_graph: Literal[False] = False
) -> list[float]: ...
@overload
def grad(root: Value, wrt: Iterable[Value], create_graph: Literal[True]) -> list[Value]: ...
@overload
def grad(root: Value, wrt: Value | Iterable[Value], create_graph: bool) -> Any: ...
def grad(root: Value, wrt: Value | Iterable[Value], create_graph: bool = False) -> Any:
    """The derivatives of `root` with respect to `wrt`: one for a Value, a list for several.

    `wrt` may be intermediate nodes; the derivative is 0.0 where `root` does not depend on them.
    No node's `.grad` is read or written, so that threads may share parameters. With
    `create_graph=True` the results are Values, to be differentiated again;
    one may be a node of the graph itself, as d(x·y)/dx is y. They are so within `no_grad`, too.

    Raises OperandError (a TypeError) for what is not a Value, InputError (a ValueError) within
    `no_grad` for a root that may have been computed there, a constant, and with
    `create_graph=True` StaleGraphError (a ValueError) where data was changed after the forward
    pass.

    >>> x = Value(3.0)
    >>> dy = grad(x**3, x, create_graph=True)
    >>> dy.data, grad(dy, x)
    (27.0, 18.0)
    """
    targets = values(_WITH_RESPECT_TO, wrt)
    _refuse_constants([root], targets)
    return _gradient(root, wrt if isinstance(wrt, Value) else targets, create_graph)


def _gradient(root: Value, wrt: Any, create_graph: bool) -> Any:
    """As `grad`; within `no_grad` the root may be a constant: a function's, or another gradient."""
    targets = listed(wrt)
    results: list[Any]
    if create_graph:
        graphs = adjoint_graphs(root, targets)
        results = [graphs.get(target, 0.0) for target in targets]
        results = [g if isinstance(g, Value) else Value(g) for g in results]
    else:
        swept(root, 1.0, targets)
        adjoint = adjoints(root)
        results = [adjoint.get(target, 0.0) for target in targets]
    return results[0] if isinstance(wrt, Value) else results


def _refuse_constants(roots: Sequence[Any], known: Sequence[Value]) -> None:
    """Within `no_grad`, roots that may have been computed there."""
    leaves = [x for x in roots if isinstance(x, Value) and x.op is None and x not in known]
    if leaves and innermost(silences):
        raise InputError(
            "within no_grad what is computed is a constant, whose derivatives are 0: compute the "
            "root outside of it, or by a function that value_and_grad is given"
        )


def adjoint_graphs(root: Value, wrt: Sequence[Value]) -> dict[Value, Value | float]:
    """The adjoints as graphs, of `wrt` and of what lies between them and `root`.

    The table's partials are evaluated on the nodes themselves. An adjoint that is the same number
    whatever the inputs stays a float; a product with 1 is not written down. Raises
    StaleGraphError if data was changed since a node was made.
    """
    if (watch := innermost(watches)) and watch.judges:
        return watch.trusting(adjoint_graphs, root, wrt)  # type: ignore[no-any-return]
    with apart(silences):
        return sweep(root, wrt, partial_graphs(root, wrt), Arithmetic())


# The parents of a node that depend on what one differentiates by, and the partial by each. Of a
# choice, where nothing is multiplied, None, and in place of parents its sides, each with whether it
# is the one that is taken if the condition holds.
Edges = tuple[Sequence[Any], Sequence[Any] | None]


def partial_graphs(root: Value, wrt: Sequence[Value]) -> dict[Value, Edges]:
    """The partials as graphs, of the nodes between `wrt` and `root`, which comes first.

    Raises StaleGraphError if data was changed since a node was made.
    """
    if (watch := innermost(watches)) and watch.judges:
        return watch.trusting(partial_graphs, root, wrt)  # type: ignore[no-any-return]
    active = between(root, wrt, untaken=True)
    is_active = active.__contains__
    reached = {root}  # what is but a condition is not
    result: dict[Value, Edges] = {}
    for node, operands in reversed(active.items()):
        op = node.op
        if op is None or node not in reached:
            continue
        if op.kind == "choice":
            if is_stale(node):
                raise _stale(node)
            sides: list[Any] = [(operands[1], True), (operands[2], False)]
            sides = [edge for edge in sides if edge[0] in active]
            result[node] = sides, None
            reached.update([side for side, _ in sides])
            continue
        parents, partials = _partials_now(node, operands)
        if not all(map(is_active, parents)):
            which = [*map(is_active, parents)]
            parents, partials = [*compress(parents, which)], [*compress(partials, which)]
        result[node] = parents, partials
        reached.update(parents)
    return result


class Arithmetic:
    """What the sweep makes adjoints with: here out of Values, while the compiler has its own."""

    def times(self, g: Any, partials: Sequence[Any]) -> list[Any]:
        """The adjoint times each of a node's partials."""
        one = g.__class__ is float and g == 1.0
        return [g if d.__class__ is float and d == 1.0 else d if one else g * d for d in partials]

    def plus(self, x: Any, y: Any) -> Any:
        """The sum of what reaches a node in several ways."""
        return x + y

    def apply(self, op: Op, *args: Any) -> Any:
        """A choice between adjoints, by a condition."""
        return op(*args)


def sweep(
    root: Value, wrt: Sequence[Value], edges: Mapping[Value, Edges], arithmetic: Arithmetic
) -> dict[Value, Any]:
    """The adjoints, made with this arithmetic, of all that has them; 1.0 is that of `root`."""
    adjoint: dict[Value, Any] = {root: 1.0}
    # Nodes that are used on one side of a `where` alone have the adjoint that holds if that side
    # is taken: what leaves the side is chosen there, so that no inf of the other one gets out. Of
    # those used on sides of several choices alone, that holds if one of them is taken.
    sides = _Sides(adjoint, arithmetic)
    of, times, plus = sides.of, arithmetic.times, arithmetic.plus
    for node, (parents, partials) in edges.items():
        g = adjoint[node]
        if partials is None:
            op, condition = node.op, node.operands[0]
            assert op is not None
            for side, first in parents:
                sides.add(side, g, (*of.get(node, ()), (op, condition, first)))
            continue
        for parent, term in zip(parents, times(g, partials)):  # noqa: B905 - equally long
            if of:
                sides.add(parent, term, of.get(node, ()))
            elif (before := adjoint.get(parent)) is None:
                adjoint[parent] = term
            else:
                adjoint[parent] = plus(before, term)
    for target in wrt:
        if target in of:
            adjoint[target] = sides.chosen(adjoint[target], of[target])
    return adjoint


# The choices under which something counts, from the outermost on: the operation, its condition, and
# whether that is to hold.
_Choices = tuple[tuple[Op, Any, bool], ...]


class _Sides:
    """Under which choices the adjoints of nodes hold, of those that do not hold always."""

    def __init__(self, adjoint: dict[Value, Any], arithmetic: Arithmetic) -> None:
        self.of: dict[Value, _Choices] = {}
        self._adjoint, self._arithmetic = adjoint, arithmetic

    def add(self, parent: Value, term: Any, side: _Choices) -> None:
        """Add to the adjoint what counts on this side; what others do not share is chosen."""
        if (before := self._adjoint.get(parent)) is None:
            self._adjoint[parent] = term
            if side:
                self.of[parent] = side
            return
        known = self.of.get(parent, ())
        shared = 0  # choices from the outermost on, up to the first that differs
        while known[shared : shared + 1] == side[shared : shared + 1] != ():
            shared += 1
        one, other = known[shared:], side[shared:]
        self._adjoint[parent] = self._arithmetic.plus(
            self.chosen(before, one), self.chosen(term, other)
        )
        if one or other or known:
            either = () if parent.op is None else self._either(one, other)
            self.of[parent] = (*known[:shared], *either)

    def chosen(self, term: Any, choices: _Choices) -> Any:
        """The term where the sides are taken, else 0."""
        for op, condition, first in reversed(choices):
            pair = (term, 0.0) if first else (0.0, term)
            term = self._arithmetic.apply(op, condition, *pair)
        return term

    def _either(self, one: _Choices, other: _Choices) -> _Choices:
        """That one of the two holds, as a choice of its own: none where one always does."""
        if not one or not other:
            return ()
        (op, condition, first), (_, same, second) = one[0], other[0]
        if condition is same and first is not second and len(one) == len(other) == 1:
            return ()
        held = self._arithmetic.apply(op, self.chosen(1.0, one), 1.0, self.chosen(1.0, other))
        return ((op, held, True),)


def _partials_now(
    node: Value, operands: tuple[Value | float, ...]
) -> tuple[Sequence[Value], Sequence[Any]]:
    """The parents and the table's partials, evaluated on the operands and the node themselves.

    Raises StaleGraphError if the node's value or its recorded local derivatives are not those of
    its operands any more, or never were, where the partials are other ones for Values.
    """
    op, recorded = node.op, slopes_of(node)
    assert op is not None
    try:  # nearly all nodes: in short
        if op.arity == len(recorded) == 2:
            x, y = operands
            p, q = op.partials
            d, e = p(x, y, node), q(x, y, node)
            at_x, at_y, value, at_d, at_e = numbers_of((x, y, node, d, e))
            if (at_d, at_e) == recorded and op.compute(at_x, at_y) == value:
                return operands, (d, e)  # type: ignore[return-value]
        elif op.arity is not None:
            parents, partials = partials_of(op, operands, node)
            value, *now = numbers_of((node, *partials))
            if (*now,) == recorded and op.compute(*numbers_of(operands)) == value:
                return parents, partials
    except (ArithmeticError, AttributeError, TypeError, ValueError):  # integers among them, say
        pass
    if _same(recomputed(node), *numbers_of([node])):
        parents, partials = partials_of(op, operands, node)
        partials = [d if isinstance(d, Value) else number(d) for d in partials]
        now = numbers_of(partials)
        if tuple(now) == recorded or all(map(_same, now, recorded)):
            return parents, partials
    raise _stale(node)


def partials_of(
    op: Op, operands: tuple[Value | float, ...], node: Value
) -> tuple[Sequence[Value], Sequence[Any]]:
    """The operands that are no constants, and the partials by them.

    Raises OperandError, with the row's name, for partials that are functions of floats alone.
    """
    found: Sequence[Any]
    try:
        if op.arity is None:
            found = op.partials[0](*operands, node)
        else:
            found = [
                partial(*operands, node) if isinstance(operand, Value) else None
                for partial, operand in zip(op.partials, operands, strict=True)
            ]
    except (AttributeError, TypeError) as error:
        raise OperandError(
            f"a partial of {op.name} is a function of floats alone, and cannot be differentiated "
            f"or compiled: write it in the library's operations, cos(x) for math.cos(x) ({error})"
        ) from error
    pairs = [(a, d) for a, d in zip(operands, found, strict=True) if isinstance(a, Value)]
    return [a for a, _ in pairs], [d for _, d in pairs]


def _stale(node: Value) -> StaleGraphError:
    if not is_stale(node):
        return StaleGraphError(
            f"a partial of {node.op and node.op.name} is not for Values what it is for floats: if "
            "it compares, write >= or <=, as `==` of Values asks whether they are the same node"
        )
    return StaleGraphError(
        f"data was changed after {node.op and node.op.name} ({node!r}) was made, so that the graph "
        "of its gradient would not fit: build the graph again, then differentiate it"
    )


def value_and_grad(f: Callable[..., Value]) -> Callable[..., tuple[Any, Any]]:
    """The function that returns f's value and gradient.

    Arguments are numbers, or lists (tuples, arrays) of numbers, nested as you like; the gradient
    has the same structure, in lists. Of one argument it is the gradient itself, of several a tuple.
    In place of numbers f gets Values, in lists, tuples and arrays as these are. They equal what
    the numbers do, as in `1 if y == 1 else -1`, but what is computed from them equals no number (so
    `y % 2 > 0`, not `y % 2 == 1`), and sets and dicts find none. Where an argument is a Value, or f
    uses a variable of a function that is being differentiated itself, the results are Values, which
    can be differentiated again; else they are floats. So a loss with f' in it, by which the other
    variables of f are to learn (the weights of a network), calls it with a Value: `Value(x)`, or
    `x * Value(1.0)` where a step is compiled. Within `no_grad` the results are the same, but
    constants.

    >>> value_and_grad(lambda x, y: x * y + x)(3.0, 4.0)
    (15.0, (5.0, 3.0))
    >>> value_and_grad(lambda x: value_and_grad(lambda y: y**3)(x)[1])(2.0)  # f' and f''
    (12.0, 12.0)

    Raises OperandError (a TypeError) if f returns a plain number.
    """

    def value_and_gradient(*args: Any) -> tuple[Any, Any]:
        out, leaves, traced = _call(f, args)
        if not isinstance(out, Value):
            raise InputError("value_and_grad needs a function with one result: use jacobian")
        gradients = iter(_gradient(out, leaves, traced))
        results = tuple([nested(lambda _: next(gradients), arg) for arg in args])
        gradient = results[0] if len(args) == 1 else results
        return _result((out, gradient)) if traced else (out.data, gradient)

    return value_and_gradient


def jacobian(outputs: Any, wrt: Any) -> Any:
    """All derivatives of `outputs` by `wrt`: row i has those of output i.

    `jacobian(outputs, wrt)` takes Values or lists of Values, `jacobian(f, x)` a function and a
    number or list of numbers; it nests as `value_and_grad` does. With m outputs and n inputs the
    result is a list of m lists of n floats (or Values); an axis is missing where a single Value
    stands in place of a list.

    >>> jacobian(lambda x: [x[0] * x[1], x[0] + x[1]], [2.0, 3.0])
    [[3.0, 2.0], [1.0, 1.0]]
    """
    outputs, wrt, traced, _ = _graph(outputs, wrt)
    return _result(_rows(outputs, wrt, traced))


def hessian(output: Any, wrt: Any) -> Any:
    """The second derivatives of one output: row i has d²(output)/d(wrt i)d(wrt j) for each j.

    `hessian(root, wrt)` takes Values, `hessian(f, x)` a function and a number or list of numbers;
    it nests as `value_and_grad` does. The result is an n × n list of lists of floats (or Values),
    or one of them where a single Value stands in place of the list.

    >>> hessian(lambda x: x[0] ** 2 * x[1], [3.0, 5.0])
    [[10.0, 6.0], [6.0, 0.0]]
    """
    output, wrt, traced, _ = _graph(output, wrt)
    if not isinstance(output, Value):
        raise InputError("hessian needs a function with one result")
    return _result(_rows(_gradient(output, wrt, True), wrt, traced))


def jvp(outputs: Any, wrt: Any, direction: Any) -> Any:
    """The derivative of `outputs` along `direction`: the Jacobian times that vector, in one pass.

    `jvp(outputs, wrt, direction)` takes Values, or lists of them, and returns a float, or a list
    with one for each output. `jvp(f, x, direction)` returns the value(s) of f besides, in a pair,
    as JAX and torch.func do; it nests as `value_and_grad` does, and the direction may be of Values
    then. Forward mode: the local derivatives carry the direction from the inputs to the outputs.
    Raises InputError if `direction` and `wrt` differ in length, and within `no_grad` as `grad`.

    >>> jvp(lambda x: x[0] * x[1], [2.0, 3.0], [1.0, 0.0])
    (6.0, 3.0)
    """
    outputs, wrt, traced, from_function = _graph(outputs, wrt)
    targets = values(_NEEDED, wrt)
    along = [direction] if isinstance(wrt, Value) else plain(direction)
    if not hasattr(along, "__len__") or isinstance(along, str):
        raise OperandError(f"the direction is a list of numbers, got {along!r:.60}")
    if len(along) != len(targets):
        raise InputError(f"jvp needs one component a variable, got {len(along)} for {len(targets)}")
    traced = traced or any(isinstance(component, Value) for component in along)
    # Only what moves with the direction has a tangent: the rest may have infinite slopes.
    tangent: dict[Value, Any] = {}
    for target, component in zip(targets, along, strict=True):
        component = component if traced and isinstance(component, Value) else number(component)
        if isinstance(component, Value) or component:
            tangent[target] = tangent.get(target, 0.0) + component
    roots = values(_NEEDED, outputs)
    for node in topological_order(*roots, untaken=traced):
        if traced and node.op is not None and node.op.kind == "choice":
            condition, *sides = node.operands
            if not tangent.keys().isdisjoint(sides):
                if is_stale(node):
                    raise _stale(node)
                zero_or = [tangent.get(x, 0.0) if isinstance(x, Value) else 0.0 for x in sides]
                chosen = node.op(condition, *zero_or)
                tangent[node] = tangent[node] + chosen if node in tangent else chosen
            continue
        if tangent.keys().isdisjoint(node.parents):
            continue
        edges = zip(*_partials_now(node, node.operands), strict=True) if traced else node.edges
        for parent, d in edges:
            if parent in tangent:
                tangent[node] = tangent.get(node, 0.0) + d * tangent[parent]
    results: Any = [tangent.get(root, 0.0) for root in roots]
    primal: Any = roots if traced else [root.data for root in roots]
    if traced:
        results = [x if isinstance(x, Value) else Value(x) for x in results]
    if isinstance(outputs, Value):
        (results,), (primal,) = results, primal
    return _result((primal, results) if from_function else results)


def _result(x: Any) -> Any:
    """Numbers as they are, and Values, too: but within `no_grad` as constants."""
    if isinstance(x, (list, tuple)):
        return type(x)(map(_result, x))
    return x.detach() if isinstance(x, Value) and innermost(silences) else x


# The variables of the functions that are being differentiated, in all threads and tasks: a function
# further in may run in another one.
_variables: dict[Value, None] = {}


def _call(f: Callable[..., Any], args: Sequence[Any]) -> tuple[Any, list[Value], bool]:
    """What f returns for variables in place of `args`, and these in one list: f may change its own.

    Last, whether the derivatives are to be graphs: there are Values among `args`, or f uses a
    variable of a function further out. A derivative is with respect to a function's own variable:
    in place of a Value stands a product with 1, not the Value itself. What stands in place of a
    number compares as one.
    """
    leaves: list[Any] = []

    def variable(x: Any) -> Any:
        leaf: Any = x * 1.0 if isinstance(x, Value) else Value(x)
        leaves.append(leaf)
        if isinstance(x, Value):
            leaf.label = x.label
        if not isinstance(x, Value) or x.__class__ is Given:  # of a function further out
            leaf.__class__ = Given
        return leaf

    with apart(silences):
        variables = [nested(variable, arg, alike=True) for arg in args]
    outer = {*_variables}
    try:
        _variables.update(dict.fromkeys(leaves))
        with apart(silences):
            out = plain(f(*variables))
    finally:
        for leaf in leaves:
            _variables.pop(leaf, None)
            if leaf.__class__ is Given:
                leaf.__class__ = Value  # type: ignore[assignment]
    several = isinstance(out, (list, tuple))
    roots = list(out) if several else [out]
    if any(isinstance(root, (list, tuple)) for root in roots):
        raise OperandError(
            f"the function returns one Value, or a flat list of them, not {out!r:.60}"
        )
    if roots and not any(isinstance(root, Value) for root in roots):
        raise OperandError(
            f"the function returned {out!r:.60}, which has no graph to differentiate: return the "
            "Value itself, not its .data, and derivatives within it from grad with "
            "create_graph=True; a constant is Value(...)"
        )
    roots = [root if isinstance(root, Value) else Value(root) for root in roots]
    out = roots if several else roots[0]
    traced = any(leaf.op is not None for leaf in leaves) or not (
        not outer or outer.isdisjoint(topological_order(*roots, untaken=True))
    )
    return out, leaves, traced


def _graph(outputs: Any, wrt: Any) -> tuple[Any, Any, bool, bool]:
    """Outputs and variables as Values; a function is called to get them.

    Then whether the derivatives are to be graphs, and whether there was a function.
    """
    from_function = callable(outputs)
    if from_function:
        outputs, leaves, traced = _call(outputs, [wrt])
        variables = iter(leaves)
        wrt = nested(lambda _: next(variables), wrt)
    else:
        outer = {*_variables}
        outputs = outputs if isinstance(outputs, Value) else listed(outputs)
        wrt = wrt if isinstance(wrt, Value) else values(_NEEDED, wrt)
        order = topological_order(*listed(outputs), untaken=True) if outer else []
        traced = not outer.isdisjoint(order)
        _refuse_constants(listed(outputs), listed(wrt))
    rule = _ONE_AXIS if from_function else _NEEDED
    return outputs, wrt if isinstance(wrt, Value) else values(rule, wrt), traced, from_function


def _rows(outputs: Any, wrt: Any, create_graph: bool) -> Any:
    """The gradient of the output, or a list with that of each."""
    if isinstance(outputs, Value):
        return _gradient(outputs, wrt, create_graph)
    return [_gradient(output, wrt, create_graph) for output in values(_NEEDED, outputs)]


def between(
    root: Value, wrt: Iterable[Value], untaken: bool = False
) -> dict[Value, tuple[Value | float, ...]]:
    """The nodes that `root` depends on and that depend on, or are, one of `wrt`, parents first.

    Each has its operands beside it; `untaken` is as in `topological_order`.
    """
    active = set(wrt)
    result = {}
    order = topological_order(root, untaken=untaken)
    for node, operands in zip(order, operands_of(order), strict=True):
        if node in active:
            result[node] = operands
        elif operands and not active.isdisjoint(operands):
            active.add(node)
            result[node] = operands
    return result


def recomputed(node: Value) -> float:
    """What the node's operation makes of the data that its operands have now.

    Where it refuses them that is NaN; a leaf's value is its data.
    """
    if node.op is None:
        return node.data
    xs = numbers_of(node.operands)
    try:
        return node.op.evaluate(xs)
    except DomainError:
        return nan


def is_stale(node: Value) -> bool:
    """Whether its value or local derivatives are not those of its operands' data any more."""
    op, operands = node.op, node.operands
    if op is None:
        return False
    xs = numbers_of(operands)
    try:
        out = op.evaluate(xs)
        partials = op.partials_at(operands, xs, out)
    except Exception:  # a domain that was left, or whatever an operation of the user's raises
        return True
    now = [(a, d) for a, d in zip(operands, partials, strict=True) if d is not None]
    edges = [*zip(node.parents, slopes_of(node), strict=True)]
    return (
        not _same(out, *numbers_of([node]))
        or len(now) != len(edges)
        or not all(a is b and _same(d, e) for (a, d), (b, e) in zip(now, edges, strict=True))
    )


def listed(x: Any) -> list[Any]:
    """One Value, or several that can be iterated over, as a list."""
    try:
        items = iter(x)
    except TypeError:  # arrays without an axis have an __iter__ that says so
        return [x]
    return list(items)


def values(rule: str, x: Any) -> list[Value]:
    """One Value, or several, as a list. Raises OperandError, with this rule, for anything else."""
    found = listed(x)
    for value in found:
        if not isinstance(value, Value):
            raise OperandError(f"{rule}, not {value!r:.60}")
    return found


def _same(x: float, y: float) -> bool:
    return x == y or (x != x and y != y)
