"""Symbolic extents: which have to be equal, and one name for those that are."""

from __future__ import annotations

from tilus.diagnostics import Span, UserError
from tilus.ir.core import Function, Module, Operation, Value
from tilus.ir.dtypes import i64
from tilus.ir.ops import Broadcast, Const, Iota, Reshape
from tilus.ir.ops.array import AffineAccess, Attend, Contract, Regroup
from tilus.ir.ops.array import Extent as ExtentOp
from tilus.ir.rewriter import rewrite_block
from tilus.ir.sizes import renamed
from tilus.ir.types import Extent, TileType, array_type, extents_of
from tilus.lowering.simplify import simplify_function
from tilus.records import record


@record(frozen=True)
class Demand:
    """Two extents that an operation needs to be equal; ``what`` says of what, for messages."""

    left: Extent
    right: Extent
    what: str
    span: Span


def demands(function: Function) -> list[Demand]:
    """The equalities of extents that the operations of an array-level function rest on."""
    found = []
    for op in function.walk():
        if isinstance(op, Broadcast) and op.x.tile.shape:
            found += [Demand(m, n, "broadcast", op.span)
                      for m, n in zip(extents_of(op.x.tile), op.shape, strict=True) if m not in (n, 1)]
        elif isinstance(op, Regroup):
            first, second = op.totals
            if first != second:
                found.append(Demand(first, second, "reshape", op.span))
        elif isinstance(op, (Contract, Attend)):
            left, right = op.operands
            m, n = extents_of(left.tile)[-1], extents_of(right.tile)[-2]
            if m != n:
                found.append(Demand(m, n, "contraction", op.span))
    return found


def unify_symbols(module: Module) -> None:
    """Give extents that have to be equal one name (or number), and simplify, in place.

    Raises UserError (E0202) where two different numbers would have to be equal.
    """
    for function in module.kernels:
        roots = _classes(function)
        function.attributes.sizes = renamed(function.attributes.sizes, roots)
        if roots:
            _rename(function, roots)
        simplify_function(function)


def _classes(function: Function) -> dict[str, Extent]:
    """The representative of each symbol that is not its own: a number if there is one, else the first met."""
    roots: dict[str, Extent] = {}

    def find(extent: Extent) -> Extent:
        while isinstance(extent, str) and extent in roots:
            extent = roots[extent]
        return extent

    for demand in demands(function):
        left, right = find(demand.left), find(demand.right)
        if left == right:
            continue
        if isinstance(left, int) and isinstance(right, int):
            raise UserError.at("E0202", f"extents {left} and {right} of a {demand.what} have to be equal", demand.span)
        if isinstance(left, str) and (isinstance(right, int) or _order(function, right) < _order(function, left)):
            roots[left] = right
        else:
            assert isinstance(right, str)
            roots[right] = left
    return {symbol: find(symbol) for symbol in roots}


def _order(function: Function, symbol: Extent) -> int:
    """Where a symbol first occurs among the parameters, and then among those that are made of others: what has the name
    of one is never made of it."""
    flat = [n for value in function.body.args for n in extents_of(value.tile)]
    flat += [name for name, *_ in function.attributes.sizes]
    return flat.index(symbol) if symbol in flat else len(flat)


def _rename(function: Function, roots: dict[str, Extent]) -> None:
    def renamed_all(extents: tuple[Extent, ...]) -> tuple[Extent, ...]:
        return tuple(roots.get(n, n) if isinstance(n, str) else n for n in extents)

    def retype(value: Value) -> None:
        if isinstance(value.type, TileType):
            value.type = array_type(value.type.dtype, renamed_all(extents_of(value.type)))

    def rewrite(op: Operation) -> list[Operation] | None:
        for result in op.results:
            retype(result)
        if isinstance(op, AffineAccess):
            op.shape, op.starts = renamed_all(op.shape), renamed_all(op.starts)
        if isinstance(op, Regroup):
            first, second = renamed_all(op.totals)
            op.totals = first, second
        if isinstance(op, (Const, Iota, Regroup, Reshape, Broadcast)):
            op.shape = renamed_all(op.shape)
            if isinstance(op, Broadcast) and op.x.tile.shape == op.shape:
                mapping[op.result] = op.x
                return []
        elif isinstance(op, ExtentOp):
            root = roots.get(op.symbol, op.symbol)
            if isinstance(root, int):
                constant = Const(root, i64, span=op.span)
                mapping[op.result] = constant.result
                return [constant]
            op.symbol = root
        return None

    mapping: dict[Value, Value] = {}
    for argument in function.body.args:
        retype(argument)
    rewrite_block(function.body, rewrite, mapping)
