"""Element types: integers and floats of any width, as immutable interned values."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from tilus.ir.annotations import ArrayAnnotation, OptionalAnnotation
from tilus.ir.terms import TypeKind
from tilus.records import field, record

if TYPE_CHECKING:
    import numpy as np


@record(frozen=True, slots=True)
class DType:
    """An element type.

    Attributes:
        name: how it is written (``f16``, ``i4``, ``f6e3m2``).
        kind: ``"bool"``, ``"int"``, ``"uint"`` or ``"float"``.
        bits: the width of a value in packed storage.
        exponent, mantissa: field widths of a float; 0 for the others.
        specials: for floats, ``"ieee"`` (infinities and NaNs), ``"fn"`` (a NaN, no infinity) or ``"finite"`` (every
            code is a number).
    """

    name: str
    kind: TypeKind
    bits: int
    exponent: int = 0
    mantissa: int = 0
    specials: str = ""
    _hash: int = field(default=0, repr=False, compare=False)

    def __post_init__(self) -> None:
        key = (self.kind, self.bits, self.exponent, self.mantissa, self.specials)
        object.__setattr__(self, "_hash", hash(key))

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.name

    def __getitem__(self, dims: Any) -> ArrayAnnotation:
        """``tl.f16["M", "K"]``: the annotation of an array parameter with named dimensions."""
        return ArrayAnnotation(self, dims if isinstance(dims, tuple) else (dims,))

    def __or__(self, other: None) -> Any:
        return OptionalAnnotation(self) if other is None else NotImplemented

    @property
    def is_float(self) -> bool:
        return self.kind == "float"

    @property
    def is_int(self) -> bool:
        """Whether this is a signed or unsigned integer type (``bool`` is not)."""
        return self.kind in ("int", "uint")

    @property
    def is_signed(self) -> bool:
        return self.kind in ("int", "float")

    @property
    def is_bool(self) -> bool:
        return self.kind == "bool"

    @property
    def is_arithmetic(self) -> bool:
        """Whether arithmetic is defined on it: 8-, 16-, 32-, 64-bit integers and f16, bf16, f32, f64."""
        if self.is_int:
            return self.bits in (8, 16, 32, 64)
        return self.is_float and self.name in ("f16", "bf16", "f32", "f64")

    @property
    def min_value(self) -> int:
        """The least value of an integer type."""
        return -(1 << (self.bits - 1)) if self.kind == "int" else 0

    @property
    def max_value(self) -> int:
        """The greatest value of an integer type."""
        if self.is_bool:
            return 1
        return (1 << (self.bits - 1)) - 1 if self.kind == "int" else (1 << self.bits) - 1

    @property
    def bias(self) -> int:
        """The exponent bias of a float type, 2^(E-1) - 1."""
        return (1 << (self.exponent - 1)) - 1

    @property
    def itemsize(self) -> int:
        """Bytes an element takes in global memory; raises ValueError for types that are not byte-whole."""
        if self.is_bool:
            return 1
        if self.bits % 8:
            raise ValueError(f"{self} is not made of whole bytes")
        return self.bits // 8

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype that holds one value; raises TypeError where there is none."""
        return _numpy_dtype(self)


@functools.cache
def _numpy_dtype(dtype: DType) -> np.dtype[Any]:
    import numpy as np

    if dtype.is_bool:
        return np.dtype(np.bool_)
    if dtype.is_int and dtype.bits in (8, 16, 32, 64):
        return np.dtype(f"{'i' if dtype.kind == 'int' else 'u'}{dtype.bits // 8}")
    if dtype.name in ("f16", "f32", "f64"):
        return np.dtype(f"f{dtype.bits // 8}")
    if dtype.name == "tf32":
        return np.dtype("f4")
    import ml_dtypes

    if dtype is bf16 or dtype in _FLOAT_BYTES:
        found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, "bfloat16" if dtype is bf16 else f"float8_{dtype.name[2:]}"))
        return found
    raise TypeError(f"no NumPy dtype holds {dtype}")


_INTERNED: dict[tuple[Any, ...], DType] = {}


def _intern(name: str, kind: TypeKind, bits: int, exponent: int = 0, mantissa: int = 0, specials: str = "") -> DType:
    key = (kind, bits, exponent, mantissa, specials)
    found = _INTERNED.get(key)
    if found is None:
        found = _INTERNED[key] = DType(name, kind, bits, exponent, mantissa, specials)
    return found


def integer(bits: int, signed: bool = True) -> DType:
    """The integer type of ``bits`` bits, 1 to 64. Raises ValueError outside of that."""
    if not 1 <= bits <= 64:
        raise ValueError(f"integers have 1 to 64 bits, not {bits}")
    return _intern(f"{'i' if signed else 'u'}{bits}", "int" if signed else "uint", bits)


_FLOAT_NAMES = {
    (5, 10, "ieee"): ("f16", 16),
    (8, 7, "ieee"): ("bf16", 16),
    (8, 10, "ieee"): ("tf32", 32),
    (8, 23, "ieee"): ("f32", 32),
    (11, 52, "ieee"): ("f64", 64),
}


def float_(exponent: int, mantissa: int, specials: str | None = None) -> DType:
    """The float type with a sign bit and the given field widths.

    ``specials`` defaults to ``"ieee"`` from 8 bits on and ``"finite"`` below. Raises ValueError for field widths that
    make no type (an exponent of 1 to 11 bits, a mantissa of 0 to 52, 3 bits or more in all).
    """
    bits = 1 + exponent + mantissa
    if not (1 <= exponent <= 11 and 0 <= mantissa <= 52 and bits >= 3):
        raise ValueError(f"no float type has {exponent} exponent and {mantissa} mantissa bits")
    specials = specials or ("ieee" if bits >= 8 else "finite")
    if specials not in ("ieee", "fn", "finite"):
        raise ValueError(f"specials is 'ieee', 'fn' or 'finite', not {specials!r}")
    named = _FLOAT_NAMES.get((exponent, mantissa, specials))
    if named:
        return _intern(named[0], "float", named[1], exponent, mantissa, specials)
    default = "ieee" if bits >= 8 else "finite"
    suffix = "" if specials == default else {"fn": "fn", "finite": "fin", "ieee": "ieee"}[specials]
    return _intern(f"f{bits}e{exponent}m{mantissa}{suffix}", "float", bits, exponent, mantissa, specials)


bool_ = _intern("bool", "bool", 1)
i1, i2, i3, i4, i5, i6, i7 = (integer(n) for n in range(1, 8))
u1, u2, u3, u4, u5, u6, u7 = (integer(n, signed=False) for n in range(1, 8))
i8, i16, i32, i64 = (integer(n) for n in (8, 16, 32, 64))
u8, u16, u32, u64 = (integer(n, signed=False) for n in (8, 16, 32, 64))
f16 = float_(5, 10)
bf16 = float_(8, 7)
tf32 = float_(8, 10)
f32 = float_(8, 23)
f64 = float_(11, 52)
f8e5m2 = float_(5, 2)
f8e4m3fn = float_(4, 3, "fn")
f6e3m2 = float_(3, 2)
f6e2m3 = float_(2, 3)
f4e2m1 = float_(2, 1)

NAMED = tuple(_INTERNED.values())
"""The types that have a name in the language."""
_FLOAT_BYTES = tuple(dtype for dtype in NAMED if dtype.is_float and dtype.bits == 8)
ARITHMETIC = (i8, i16, i32, i64, u8, u16, u32, u64, f16, bf16, f32, f64)
"""The types on which arithmetic is defined."""


@functools.cache
def parse_dtype(name: str) -> DType:
    """The type written ``name``. Raises ValueError where there is none."""
    import re

    if name == "bool":
        return bool_
    match = re.fullmatch(r"([iu])(\d+)", name)
    if match:
        return integer(int(match[2]), signed=match[1] == "i")
    for (exponent, mantissa, specials), (known, _) in _FLOAT_NAMES.items():
        if known == name:
            return float_(exponent, mantissa, specials)
    match = re.fullmatch(r"f(\d+)e(\d+)m(\d+)(fn|fin|ieee)?", name)
    if match and int(match[1]) == 1 + int(match[2]) + int(match[3]):
        given = {"fn": "fn", "fin": "finite", "ieee": "ieee", None: None}[match[4]]
        return float_(int(match[2]), int(match[3]), given)
    raise ValueError(f"no element type is called {name!r}")


def from_numpy(dtype: np.dtype[Any]) -> DType:
    """The element type of a NumPy dtype (ml_dtypes included). Raises TypeError where there is none."""
    found = _from_numpy_table().get(dtype)
    if found is None:
        raise TypeError(f"arrays of {dtype} have no tilus element type")
    return found


@functools.cache
def _from_numpy_table() -> dict[Any, DType]:
    known = (bool_, *ARITHMETIC, *_FLOAT_BYTES)
    return {d.numpy: d for d in known}
