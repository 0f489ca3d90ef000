"""What a kernel's variables hold: tiles and scalars, with Python's operators on them. Views are in ``views.py``."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tilus.diagnostics import UserError
from tilus.ir.codebooks import zero_code
from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import DType, f32, f64, i64
from tilus.ir.literals import as_float
from tilus.ir.ops import (
    Binary,
    Bitcast,
    Broadcast,
    Cast,
    Compare,
    Const,
    Reshape,
    Slice,
    Transpose,
    Unary,
)
from tilus.lang.context import current
from tilus.lang.promotion import literal_fits, literal_type, promote, true_division_type

Scalar = bool | int | float


def emit(op: Operation) -> Tile:
    """Run an operation with one result."""
    return Tile(current().emit(op)[0])


def emit_all(op: Operation) -> tuple[Tile, ...]:
    """Run an operation with any number of results."""
    return tuple(Tile(v) for v in current().emit(op))


def fail(code: str, message: str, *, help: str | None = None) -> UserError:
    """A user error at the construct being executed."""
    return UserError.at(code, message, current().span, help=help)


def constant(value: Scalar, dtype: DType, shape: tuple[int, ...] = ()) -> Tile:
    """A constant of ``dtype``; raises UserError where an integer literal is out of range."""
    real = dtype.is_float or dtype.is_codebook
    if isinstance(value, float) and not real:
        raise fail("E0205", f"the literal {value} is not an integer of type {dtype}")
    if not dtype.is_bool and not literal_fits(value, dtype):
        raise fail("E0205", f"the literal {value} does not fit {dtype}, which holds {dtype.min_value} to "
                            f"{dtype.max_value}")
    converted: Scalar = bool(value) if dtype.is_bool else (as_float(value, dtype) if real else int(value))
    return emit(Const(converted, dtype, shape, span=current().span))


def absent_element(dtype: DType) -> Value | None:
    """What elements read as that are not there, where that is not zero bits: of a codebook, whose code 0 may be another
    number, the one nearest to 0."""
    return constant(0.0, dtype).value if zero_code(dtype) else None


def broadcast_to(x: Tile, shape: tuple[int, ...]) -> Tile:
    """NumPy broadcasting to ``shape``, with missing leading dimensions added."""
    if x.tile_shape == shape:
        return x
    span = current().span
    if x.tile_shape and len(x.tile_shape) < len(shape):
        x = emit(Reshape(x.value, (1,) * (len(shape) - len(x.tile_shape)) + x.tile_shape, span=span))
    if x.tile_shape == shape:
        return x
    return emit(Broadcast(x.value, shape, span=span))


def broadcast_shapes(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """The shape two operands broadcast to. Raises UserError where there is none."""
    rank = max(len(a), len(b))
    full_a, full_b = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    out = []
    for m, n in zip(full_a, full_b, strict=True):
        if m != n and 1 not in (m, n) and not isinstance(m, str) and not isinstance(n, str):
            raise fail("E0202", f"shapes {a} and {b} do not broadcast",
                       help="dimensions are aligned from the right; each pair must be equal or contain 1")
        out.append(n if m == 1 or (isinstance(m, str) and n != 1 and not isinstance(n, str)) else m)
    return tuple(out)


def unify(x: Any, y: Any, what: str) -> tuple[Tile, Tile]:
    """Two operands brought to one type and shape."""
    if not isinstance(x, Tile) and not isinstance(y, Tile):
        x = as_tile(x, None, what)
    if not isinstance(x, Tile):
        x = constant(_literal(x, what), literal_type(_literal(x, what), y.dtype))
    if not isinstance(y, Tile):
        y = constant(_literal(y, what), literal_type(_literal(y, what), x.dtype))
    dtype = promote(x.dtype, y.dtype)
    if dtype is None:
        raise fail("E0201", f"{what} of {x.dtype} and {y.dtype}: the types do not meet",
                   help="convert one operand with `.to(dtype)`")
    shape = broadcast_shapes(x.tile_shape, y.tile_shape)
    return broadcast_to(x.to(dtype), shape), broadcast_to(y.to(dtype), shape)


def _literal(value: Any, what: str) -> Scalar:
    if isinstance(value, (bool, int, float)):
        return value
    index = getattr(value, "item", None)  # NumPy scalars
    if index is not None and getattr(value, "shape", None) == ():
        item = value.item()
        if isinstance(item, (bool, int, float)):
            return item
    raise fail("E0201", f"{what} with a {_describe(value)}", help=_remedy(value))


def _describe(value: Any) -> str:
    if hasattr(value, "DESCRIPTION"):
        return str(value.DESCRIPTION)
    return "NumPy array" if type(value).__name__ == "ndarray" else f"Python {type(value).__name__}"


def _remedy(value: Any) -> str | None:
    """How to make a tile of a value that is none."""
    if hasattr(value, "REMEDY"):
        return str(value.REMEDY)
    if type(value).__name__ == "ndarray":
        return "pass it to the kernel as a parameter, and load tiles from that"
    if value is None:
        return "use `is None` to test an optional parameter"
    if isinstance(value, (tuple, list)):
        return "take its elements one by one, or put them into an array"
    return None


_SYMBOLS = {
    "add": "`+`", "sub": "`-`", "mul": "`*`", "div": "`/`", "floordiv": "`//`", "mod": "`%`", "pow": "`**`",
    "and": "`&`",
    "or": "`|`", "xor": "`^`", "shl": "`<<`", "shr": "`>>`", "neg": "`-`", "not": "`~`", "eq": "`==`", "ne": "`!=`",
    "lt": "`<`", "le": "`<=`", "gt": "`>`", "ge": "`>=`", "abs": "tl.abs", "min": "tl.minimum", "max": "tl.maximum",
}


def symbol(kind: str) -> str:
    """An operation as the user writes it."""
    return _SYMBOLS.get(kind, f"tl.{kind}")


def as_tile(value: Any, dtype: DType | None = None, what: str = "operation") -> Tile:
    """A tile or scalar from a tile or a Python number (i64, f32 or bool where ``dtype`` is None)."""
    if isinstance(value, Tile):
        return value if dtype is None else value.to(dtype)
    literal = _literal(value, what)
    return constant(literal, dtype or literal_type(literal, None))


def as_index(value: Any, what: str = "an index") -> Tile:
    """A block-uniform i64 scalar."""
    if isinstance(value, Tile):
        if value.tile_shape or not value.dtype.is_int:
            raise fail("E0301", f"{what} is {value.value.type}, not an integer scalar")
        return value.to(i64)
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise fail("E0301", f"{what} is a {_describe(value)}, not an integer")
    return constant(operator.index(value), i64)


METHODS: dict[str, Callable[..., Tile]] = {}
"""Functions of the language that tiles have as methods: the modules of these, which need tiles, put them here."""


class Tile:
    """A tile of elements in registers, or a block-uniform scalar where its shape is ``()``.

    Attributes ``dtype`` (DType) and ``shape`` (tuple of int) are compile-time values.
    """

    __slots__ = ("pinned", "value")
    __hash__ = None  # type: ignore[assignment]
    __array_ufunc__ = None  # NumPy scalars on the left defer to our reflected operators

    def __init__(self, value: Value) -> None:
        self.value = value
        self.pinned: Any = None  # the register layout that the user asked for, for tl.view

    @property
    def dtype(self) -> DType:
        return self.value.tile.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.tile.shape

    tile_shape = shape

    @property
    def T(self) -> Tile:
        """The tile with its dimensions reversed."""
        return self.transpose()

    @property
    def at(self) -> Any:
        """Of a whole array its elements at indices, as new ones have them: ``x.at[i].add(u)`` is ``x`` with ``u`` added
        to ``x[i]``, where equal indices add up, ``x.at[i, j].set(u)`` has ``u`` there, where one of equal ones counts.
        An index outside leaves its update out."""
        return METHODS["at array"](self)

    def __repr__(self) -> str:
        known = current().concrete(self.value)
        return f"<{self.value.type}{'' if known is None else f' = {known}'}>"

    # conversions

    def to(self, dtype: DType, *, rounding: str = "rn") -> Tile:
        """The values converted to ``dtype``; see docs/language.md for rounding and saturation."""
        if not isinstance(dtype, DType):
            raise fail("E0107", f".to takes an element type such as tl.f16, not a {_describe(dtype)}")
        if dtype is self.dtype:
            return self
        return emit(Cast(self.value, dtype, rounding, span=current().span))

    def bitcast(self, dtype: DType) -> Tile:
        """The same bits of each element as another type of the same width."""
        return self if dtype is self.dtype else emit(Bitcast(self.value, dtype, span=current().span))

    def reshape(self, *shape: Any) -> Tile:
        """The same elements, row-major, under another shape; one extent may be -1."""
        if current().level == "array":
            return METHODS["reshape array"](self, shape)
        return emit(Reshape(self.value, reshape_target(self.shape, shape), span=current().span))

    def transpose(self, *permutation: Any) -> Tile:
        """Dimensions permuted (reversed by default), as in NumPy."""
        if len(permutation) == 1 and isinstance(permutation[0], (tuple, list)):
            permutation = tuple(permutation[0])
        rank = len(self.shape)
        order = tuple(p % rank if -rank <= p < rank else p for p in permutation) or tuple(reversed(range(rank)))
        return emit(Transpose(self.value, order, span=current().span))

    def sum(self, axis: Any = None, *, keepdims: bool = False) -> Tile:
        return METHODS["sum"](self, axis, keepdims=keepdims)

    def mean(self, axis: Any = None, *, keepdims: bool = False) -> Tile:
        return METHODS["mean"](self, axis, keepdims=keepdims)

    def max(self, axis: Any = None, *, keepdims: bool = False, propagate_nan: bool = False) -> Tile:
        return METHODS["max"](self, axis, keepdims=keepdims, propagate_nan=propagate_nan)

    def min(self, axis: Any = None, *, keepdims: bool = False, propagate_nan: bool = False) -> Tile:
        return METHODS["min"](self, axis, keepdims=keepdims, propagate_nan=propagate_nan)

    def __getitem__(self, key: Any) -> Tile:
        """Slices with constant bounds, ``None`` for a new dimension of extent 1, integers to drop one, ``...``."""
        return _index_tile(self, key)

    # operators

    def __add__(self, other: Any) -> Tile:
        return arithmetic("add", self, other)

    def __radd__(self, other: Any) -> Tile:
        return arithmetic("add", other, self)

    def __sub__(self, other: Any) -> Tile:
        return arithmetic("sub", self, other)

    def __rsub__(self, other: Any) -> Tile:
        return arithmetic("sub", other, self)

    def __mul__(self, other: Any) -> Tile:
        return arithmetic("mul", self, other)

    def __rmul__(self, other: Any) -> Tile:
        return arithmetic("mul", other, self)

    def __truediv__(self, other: Any) -> Tile:
        return divide(self, other)

    def __rtruediv__(self, other: Any) -> Tile:
        return divide(other, self)

    def __floordiv__(self, other: Any) -> Tile:
        return arithmetic("floordiv", self, other)

    def __rfloordiv__(self, other: Any) -> Tile:
        return arithmetic("floordiv", other, self)

    def __mod__(self, other: Any) -> Tile:
        return arithmetic("mod", self, other)

    def __rmod__(self, other: Any) -> Tile:
        return arithmetic("mod", other, self)

    def __pow__(self, other: Any) -> Tile:
        return power(self, other)

    def __rpow__(self, other: Any) -> Tile:
        return power(other, self)

    def __and__(self, other: Any) -> Tile:
        return arithmetic("and", self, other)

    def __rand__(self, other: Any) -> Tile:
        return arithmetic("and", other, self)

    def __or__(self, other: Any) -> Tile:
        return arithmetic("or", self, other)

    def __ror__(self, other: Any) -> Tile:
        return arithmetic("or", other, self)

    def __xor__(self, other: Any) -> Tile:
        return arithmetic("xor", self, other)

    def __rxor__(self, other: Any) -> Tile:
        return arithmetic("xor", other, self)

    def __lshift__(self, other: Any) -> Tile:
        return arithmetic("shl", self, other)

    def __rlshift__(self, other: Any) -> Tile:
        return arithmetic("shl", other, self)

    def __rshift__(self, other: Any) -> Tile:
        return arithmetic("shr", self, other)

    def __rrshift__(self, other: Any) -> Tile:
        return arithmetic("shr", other, self)

    def __matmul__(self, other: Any) -> Tile:
        return METHODS["dot"](self, other)

    def __divmod__(self, other: Any) -> tuple[Tile, Tile]:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> tuple[Tile, Tile]:
        return other // self, other % self

    def __round__(self) -> Tile:
        return unary("round", self)

    def __copy__(self) -> Tile:
        return self

    def __deepcopy__(self, memo: Any) -> Tile:
        return self  # a value

    def __neg__(self) -> Tile:
        return unary("neg", self)

    def __pos__(self) -> Tile:
        return self

    def __abs__(self) -> Tile:
        return unary("abs", self)

    def __invert__(self) -> Tile:
        return unary("not", self)

    def __eq__(self, other: object) -> Any:
        return compare("eq", self, other)

    def __ne__(self, other: object) -> Any:
        return compare("ne", self, other)

    def __lt__(self, other: Any) -> Tile:
        return compare("lt", self, other)

    def __le__(self, other: Any) -> Tile:
        return compare("le", self, other)

    def __gt__(self, other: Any) -> Tile:
        return compare("gt", self, other)

    def __ge__(self, other: Any) -> Tile:
        return compare("ge", self, other)

    # Python values, where the context knows them

    def _known(self, what: str) -> Any:
        if self.shape and what == "a Python bool":
            raise condition_error(self.shape)
        known = current().concrete(self.value)
        if known is None or self.shape:
            kind = f"tile of shape {self.shape}" if self.shape else "run-time scalar"
            raise fail("E0113", f"a {kind} is used as {what}",
                       help="Python decides this while compiling: use a compile-time constant, tl.where, or an `if` "
                            "statement in a kernel")
        return known

    def __bool__(self) -> bool:
        return bool(self._known("a Python bool"))

    def __index__(self) -> int:
        if not self.dtype.is_int:
            raise fail("E0113", f"a scalar of type {self.dtype} is used as a Python integer")
        return int(self._known("a Python integer"))

    def __int__(self) -> int:
        return int(self._known("a Python integer"))

    def __float__(self) -> float:
        return float(self._known("a Python float"))

    def __iter__(self) -> Iterator[Tile]:
        raise fail("E0113", f"a {'tile' if self.shape else 'scalar'} is iterated over by Python",
                   help="use tile operations on the whole tile instead")

    def __len__(self) -> int:
        if not self.shape:
            raise fail("E0113", "len() of a scalar")
        return self.shape[0]

    def __setitem__(self, key: Any, value: Any) -> None:
        raise fail("E0303", "elements of a tile cannot be assigned", help="tiles are values: use tl.where or tl.insert")

    def __str__(self) -> str:
        known = current().concrete(self.value)
        return repr(self) if known is None or self.shape else str(known)

    def __format__(self, spec: str) -> str:
        known = current().concrete(self.value)
        if known is None or self.shape:
            raise fail("E0113", "a run-time value is formatted into a string",
                       help="pass it to tl.print as an argument of its own")
        return format(known, spec)

    def __getattr__(self, name: str) -> Any:
        raise no_attribute("a tile or scalar", name)


def no_attribute(what: str, name: str) -> AttributeError:
    if name.startswith("_"):
        return AttributeError(name)
    from tilus.lang.foreign_names import HELP

    return AttributeError(f"{what} has no attribute {name!r}" + (f": {HELP[name]}" if name in HELP else ""))


def condition_error(shape: tuple[int, ...], logic: bool = False) -> UserError:
    """A tile is used as a condition; in ``and``, ``or``, ``not`` or a chain of comparisons where ``logic``."""
    whole = "`and`, `or`, `not` and chained comparisons decide for the whole block: for elements, use & | ~"
    help = whole if logic else "`if` decides for the whole block: reduce it with tl.any or tl.all, or use tl.where"
    return fail("E0113", f"the condition is a tile of shape {shape}", help=help)


def unary(kind: str, x: Any) -> Tile:
    x = as_tile(x, None, symbol(kind))
    return emit(Unary(kind, x.value, span=current().span))


def arithmetic(kind: str, x: Any, y: Any) -> Tile:
    """An elementwise binary operation after promotion and broadcasting."""
    a, b = unify(x, y, symbol(kind))
    if a.dtype.is_bool and kind in ("add", "sub", "mul", "floordiv", "mod"):
        raise fail("E0203", f"{symbol(kind)} is not defined for bool",
                   help="use & | ^ for logic, or `.to(tl.i32)` to count")
    return emit(Binary(kind, a.value, b.value, span=current().span))


def divide(x: Any, y: Any, precision: DType | None = None) -> Tile:
    """True division, in f32 for integers."""
    a, b = unify(x, y, "`/`")
    dtype = true_division_type(a.dtype)
    return emit(Binary("div", a.to(dtype).value, b.to(dtype).value, precision=precision, span=current().span))


def power(x: Any, y: Any) -> Tile:
    """``x ** y``: products for small constant integers, ``pow`` of floats otherwise."""
    if isinstance(x, Tile) and isinstance(y, int) and 0 <= y <= 64 and not isinstance(y, bool):
        return _integer_power(x, y)
    a, b = unify(x, y, "`**`")
    if not a.dtype.is_float:
        raise fail("E0203", f"`**` of {a.dtype} with an exponent that is not a small constant",
                   help="convert to a float type first")
    return emit(Binary("pow", a.value, b.value, span=current().span))


def _integer_power(x: Tile, exponent: int) -> Tile:
    result: Tile | None = None
    base = x
    while exponent:
        if exponent & 1:
            result = base if result is None else arithmetic("mul", result, base)
        exponent >>= 1
        if exponent:
            base = arithmetic("mul", base, base)
    return constant(1, x.dtype, x.shape) if result is None else result


def compare(kind: str, x: Any, y: Any) -> Tile:
    if y is None or isinstance(y, str):
        raise fail("E0201", f"a {'tile' if x.shape else 'scalar'} is compared with {y!r}", help=_remedy(y))
    a, b = unify(x, y, symbol(kind))
    if kind in ("eq", "ne") and a.dtype.is_float and not a.dtype.is_arithmetic:  # of the numbers, not of the codes
        wide = f32 if a.dtype.exponent <= f32.exponent and a.dtype.mantissa <= f32.mantissa else f64
        a, b = a.to(wide), b.to(wide)
    return emit(Compare(kind, a.value, b.value, span=current().span))


def reshape_target(shape: tuple[int, ...], given: tuple[Any, ...]) -> tuple[int, ...]:
    if len(given) == 1 and isinstance(given[0], (tuple, list)):
        given = tuple(given[0])
    target = static_shape(given, "the new shape", allow=-1)
    if target.count(-1) > 1:
        raise fail("E0204", "only one extent of the new shape may be -1")
    if -1 in target:
        size, rest = 1, 1
        for d in shape:
            size *= d
        for d in target:
            rest *= d if d >= 0 else 1
        if rest == 0 or size % rest:
            raise fail("E0202", f"a tile of shape {shape} cannot be reshaped to {target}")
        target = tuple(size // rest if d < 0 else d for d in target)
    return target


MAX_TILE = 1 << 24
"""Elements of the largest tile."""


def element_type(dtype: Any) -> DType:
    """An argument that has to be an element type. Raises UserError."""
    if isinstance(dtype, DType):
        return dtype
    name = getattr(dtype, "__name__", None) or str(dtype)
    near = {"float32": "f32", "float16": "f16", "float64": "f64", "bfloat16": "bf16", "float": "f32", "int": "i64",
            **{f"{'u' * u}int{n}": f"{'u' if u else 'i'}{n}" for u in (0, 1) for n in (8, 16, 32, 64)}}.get(name)
    raise fail("E0107", f"{name!r} is no element type", help=f"write tl.{near}" if near else "e.g. tl.f16, tl.i32")


def static_shape(shape: Any, what: str = "the shape", allow: int = 0,
                 help: str | None = None) -> tuple[int, ...]:
    """A tuple of compile-time extents. Raises UserError on run-time values and on extents below ``allow``."""
    items = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    out = []
    for item in items:
        if isinstance(item, Tile) and current().concrete(item.value) is None:
            raise fail("E0105", f"{what} holds a run-time value", help=help or
                       "extents of tiles are compile-time constants: annotate the parameter `int`, and mask the tail")
        try:
            extent = operator.index(item)
        except TypeError:
            raise fail("E0105", f"{what} holds {item!r}, which is not an integer") from None
        if isinstance(item, bool) or extent < allow:
            raise fail("E0204", f"{what} holds {item}, which is not an extent of {allow} or more" if what == "the shape"
                       else f"{what}: {item} is less than {allow}")
        out.append(extent)
    if what == "the shape" and math.prod(out) > MAX_TILE:
        raise fail("E0204", f"a tile of shape {tuple(out)} has {math.prod(out)} elements, more than {MAX_TILE}",
                   help="a block works on tiles that its registers hold: use smaller ones, in a loop or a larger grid")
    return tuple(out)


def whole_key(keys: Sequence[Any], rank: int, what: str) -> list[Any]:
    """An index with slices for what ``...`` stands for and for dimensions that it leaves out."""
    used = sum(k is not None and k is not Ellipsis for k in keys)
    if used > rank:
        raise fail("E0204", f"{what} is indexed by {used} indices")
    at = next((i for i, k in enumerate(keys) if k is Ellipsis), len(keys))
    return [*keys[:at], *[slice(None)] * (rank - used), *keys[at + 1 :]]


def _index_tile(x: Tile, key: Any) -> Tile:
    if current().level == "array":
        return METHODS["index array"](x, key)
    keys = list(key) if isinstance(key, tuple) else [key]
    for k in keys:
        sliced = isinstance(k, slice)
        if any(isinstance(part, Tile) and (part.shape or current().concrete(part.value) is None)
               for part in ((k.start, k.stop, k.step) if sliced else (k,))):
            raise fail("E0113", f"a tile is {'sliced' if sliced else 'indexed'} by a run-time value", help=
                       "bounds are compile-time constants: load the part from memory, tl.load(array, start, size)"
                       if sliced else
                       "elements of tiles are named by constants: use tl.take, or load the element from memory")
    keys = whole_key(keys, len(x.shape), f"a tile of shape {x.shape}")
    starts, sizes, shape = [], [], []
    dims = iter(x.shape)
    for k in keys:
        if k is None:
            shape.append(1)
            continue
        extent = next(dims)
        start, size, keep = _static_slice(k, extent)
        starts.append(start)
        sizes.append(size)
        if keep:
            shape.append(size)
    span = current().span
    if tuple(sizes) != x.shape:
        x = emit(Slice(x.value, tuple(starts), tuple(sizes), span=span))
    return x if tuple(shape) == x.shape else emit(Reshape(x.value, tuple(shape), span=span))


def _static_slice(key: Any, extent: int) -> tuple[int, int, bool]:
    """Start, size and whether the dimension stays."""
    if isinstance(key, slice):
        if key.start is None and key.stop is None and key.step is None:
            return 0, extent, True
        if key.step not in (None, 1):
            raise fail("E0204", "slices of tiles have no step", help="use tl.take, or reshape and slice")
        bounds = [b if b is None else static_shape((b,), "a slice of a tile", allow=-(1 << 62))[0]
                  for b in (key.start, key.stop)]
        start, stop, _ = slice(bounds[0], bounds[1]).indices(extent)
        return start, max(0, stop - start), True
    index = static_shape((key,), "an index into a tile", allow=-(1 << 62))[0]
    if not -extent <= index < extent:
        raise fail("E0204", f"index {index} is out of range for an extent of {extent}")
    return index % extent, 1, False


__all__ = [
    "Tile", "arithmetic", "as_index", "as_tile", "broadcast_shapes", "broadcast_to", "compare",
    "constant", "divide", "emit", "emit_all", "fail", "static_shape", "unary", "unify",
    "whole_key",
]
