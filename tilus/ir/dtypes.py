"""Element types: integers and floats of any width and codebooks, as immutable interned values."""

from __future__ import annotations

import functools
from collections.abc import Sequence
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
        kind: ``"bool"``, ``"int"``, ``"uint"``, ``"float"`` or ``"codebook"``.
        bits: the width of a value in packed storage.
        exponent, mantissa: field widths of a float; 0 for the others.
        specials: for floats, ``"ieee"`` (infinities and NaNs), ``"fn"`` (a NaN, no infinity) or ``"finite"`` (every
            code is a number).
        signed: whether a float has a sign bit; True for the others.
        values: of a codebook, the number that each code stands for.
    """

    name: str
    kind: TypeKind
    bits: int
    exponent: int = 0
    mantissa: int = 0
    specials: str = ""
    signed: bool = True
    values: tuple[float, ...] = ()
    _hash: int = field(default=0, repr=False, compare=False)

    def __post_init__(self) -> None:
        key = (self.kind, self.bits, self.exponent, self.mantissa, self.specials, self.signed, self.values)
        object.__setattr__(self, "_hash", hash(key))

    def __reduce__(self) -> tuple[Any, ...]:
        return parse_dtype, (self.name,)

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        """The name, of a codebook without its values."""
        return self.name.partition(":")[0]

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
    def is_codebook(self) -> bool:
        """Whether its codes are places in a table of numbers."""
        return self.kind == "codebook"

    @property
    def is_signed(self) -> bool:
        return self.kind == "int" or (self.is_float and self.signed)

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
    def has_zero(self) -> bool:
        """Whether zero is a number of a float type: of those with neither a sign nor a mantissa it is none, their code
        0 is 2^-bias."""
        return self.signed or self.mantissa > 0

    @property
    def greatest_code(self) -> int:
        """The code of the greatest number of a float type."""
        if self.specials == "finite":
            return (1 << (self.exponent + self.mantissa)) - 1
        if self.specials == "fn":
            return (1 << (self.exponent + self.mantissa)) - 2
        return (((1 << self.exponent) - 1) << self.mantissa) - 1

    @property
    def infinity_code(self) -> int | None:
        """The code of a float type's infinity; None where there is none."""
        return self.greatest_code + 1 if self.specials == "ieee" else None

    @property
    def nan_code(self) -> int | None:
        """The code of a float type's quiet NaN, without the sign; None where there is none."""
        if self.specials == "fn":
            return self.greatest_code + 1
        if self.specials == "ieee" and self.mantissa:
            return self.greatest_code + 1 + (1 << (self.mantissa - 1))
        return None

    @property
    def packed_bits(self) -> int:
        """How many bits an element takes in global memory, where neighbours lie side by side: a bool takes a byte."""
        return 8 if self.is_bool else self.bits

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


def _intern(name: str, kind: TypeKind, bits: int, exponent: int = 0, mantissa: int = 0, specials: str = "",
            signed: bool = True, values: tuple[float, ...] = ()) -> DType:
    key = (name if values else "", kind, bits, exponent, mantissa, specials, signed, values)
    return _INTERNED.setdefault(key, DType(name, kind, bits, exponent, mantissa, specials, signed, values))


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
_SUFFIXES = {"fn": "fn", "finite": "fin", "ieee": "ieee"}


def float_(exponent: int, mantissa: int, specials: str | None = None, *, signed: bool = True) -> DType:
    """The float type with the given field widths, and a sign bit unless ``signed`` is False.

    The bias of the exponent is 2^(exponent-1) - 1, and numbers of the least exponent are subnormal, so that code 0 is
    zero; only a type with neither sign nor mantissa has no zero: its codes are powers of two from 2^-bias on
    (``float(8, 0, "fn", signed=False)`` is the scale of the OCP microscaling formats).

    Args:
        exponent, mantissa: widths in bits, 1 to 11 and 0 to 52; 3 bits or more in all.
        specials: ``"ieee"`` (the codes of the greatest exponent are infinities and NaNs; without a mantissa there is
            no NaN), ``"fn"`` (the greatest code is a NaN) or ``"finite"`` (all codes are numbers). By default
            ``"ieee"`` from 8 bits on and ``"finite"`` below.

    Raises:
        ValueError: there is no such type.
    """
    bits = signed + exponent + mantissa
    if not (1 <= exponent <= 11 and 0 <= mantissa <= 52 and bits >= 3):
        raise ValueError(f"no float type has {exponent} exponent and {mantissa} mantissa bits")
    default = "ieee" if bits >= 8 else "finite"
    specials = specials or default
    if specials not in _SUFFIXES:
        raise ValueError(f"specials is 'ieee', 'fn' or 'finite', not {specials!r}")
    named = _FLOAT_NAMES.get((exponent, mantissa, specials)) if signed else None
    if named:
        return _intern(named[0], "float", named[1], exponent, mantissa, specials)
    suffix = ("" if specials == default else _SUFFIXES[specials]) + ("" if signed else "u")
    return _intern(f"f{bits}e{exponent}m{mantissa}{suffix}", "float", bits, exponent, mantissa, specials, signed)


def codebook(name: str, values: Sequence[float], bits: int | None = None) -> DType:
    """The storage type whose code ``i`` stands for ``values[i]``; codes beyond the table read as 0.

    Converting a number to it gives the code of the nearest value, of the lower index where two are as near, and for a
    NaN that of the value nearest to 0. Types of equal names and values are one type.

    Args:
        name: an identifier, for messages and the text of the IR.
        values: 1 to 256 finite numbers in any order; they are rounded to f32.
        bits: the width of a code, at most 8; by default the least that holds all of them.

    Raises:
        ValueError: the name is none, a value is not finite in f32, or they do not fit the width.
    """
    import struct

    if not name.isidentifier() or not name.isascii():
        raise ValueError(f"the name of a codebook is an identifier, not {name!r}")
    try:
        numbers = tuple(struct.unpack("<f", struct.pack("<f", value))[0] + 0.0 for value in values)
    except (OverflowError, struct.error):
        raise ValueError(f"the values of codebook {name!r} are not all numbers of f32") from None
    if any(n - n != 0 for n in numbers):
        raise ValueError(f"the values of codebook {name!r} are not all finite")
    width = max(1, (len(numbers) - 1).bit_length()) if bits is None else bits
    if not (1 <= width <= 8 and 1 <= len(numbers) <= 1 << width):
        raise ValueError(f"codebook {name!r} has {len(numbers)} values, which {width} bits (1 to 8) do not number")
    if (name, width, numbers) not in _KNOWN_CODEBOOKS:
        text = ",".join(_shortest(n) for n in numbers)
        name = f"{name}:{width}({text})"
    return _intern(name, "codebook", width, values=numbers)


def _shortest(number: float) -> str:
    """The shortest text that is ``number`` again once it is rounded to f32."""
    import struct

    texts = (f"{number:.{digits}g}" for digits in range(1, 10))
    return next(t for t in texts if struct.unpack("<f", struct.pack("<f", float(t)))[0] == number)


_NF4 = (-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
        -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634,
        0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0)
"""NormalFloat of 4 bits: quantiles of the normal distribution (QLoRA, arXiv 2305.14314)."""
_KNOWN_CODEBOOKS = {("nf4", 4, _NF4), ("ternary", 2, (-1.0, 0.0, 1.0))}

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
f8e8m0fnu = float_(8, 0, "fn", signed=False)
nf4 = codebook("nf4", _NF4, 4)
ternary = codebook("ternary", (-1.0, 0.0, 1.0), 2)

NAMED = tuple(_INTERNED.values())
"""The types that have a name in the language."""
_FLOAT_BYTES = (f8e5m2, f8e4m3fn, f8e8m0fnu, float_(4, 3), float_(3, 4))
"""The floats of one byte that ml_dtypes has."""
ARITHMETIC = (i8, i16, i32, i64, u8, u16, u32, u64, f16, bf16, f32, f64)
"""The types on which arithmetic is defined."""


@functools.cache
def parse_dtype(name: str) -> DType:
    """The type written ``name``. Raises ValueError where there is none."""
    import re

    if name == "bool":
        return bool_
    if name in ("nf4", "ternary"):
        return nf4 if name == "nf4" else ternary
    match = re.fullmatch(r"([iu])(\d+)", name)
    if match:
        return integer(int(match[2]), signed=match[1] == "i")
    for (exponent, mantissa, specials), (known, _) in _FLOAT_NAMES.items():
        if known == name:
            return float_(exponent, mantissa, specials)
    match = re.fullmatch(r"f(\d+)e(\d+)m(\d+)(fn|fin|ieee)?(u?)", name)
    if match and int(match[1]) == (not match[5]) + int(match[2]) + int(match[3]):
        given = {"fn": "fn", "fin": "finite", "ieee": "ieee", None: None}[match[4]]
        return float_(int(match[2]), int(match[3]), given, signed=not match[5])
    match = re.fullmatch(r"([A-Za-z_]\w*):(\d)\(([-+.,e\d]*)\)", name)
    if match:
        return codebook(match[1], [float(number) for number in match[3].split(",")], int(match[2]))
    raise ValueError(f"no element type is called {name!r}")


def from_numpy(dtype: np.dtype[Any]) -> DType:
    """The element type of a NumPy dtype (ml_dtypes included). Raises TypeError where there is none."""
    found = _numpys_own().get(dtype) or _from_numpy_table().get(dtype)
    if found is None:
        raise TypeError(f"arrays of {dtype} have no tilus element type")
    return found


@functools.cache
def _numpys_own() -> dict[Any, DType]:
    """Those for which ml_dtypes need not be imported."""
    return {d.numpy: d for d in (bool_, *ARITHMETIC) if d is not bf16}


@functools.cache
def _from_numpy_table() -> dict[Any, DType]:
    known = (bool_, *ARITHMETIC, *_FLOAT_BYTES)
    return {d.numpy: d for d in known}
