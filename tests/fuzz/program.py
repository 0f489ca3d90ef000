"""What a random program is: its text, its arguments, and what is known of each value in it.

Engines have to agree to the bit on integers and on floats that are *determined*: every operation that the language
rounds correctly gives one result, whatever the order of the program's operations. What leaves an engine a choice (the
order of a sum, a contracted multiply-add, an elementary function) has an absolute ``error``, derived per value from the
magnitudes that reach it. A value that is not determined feeds no operation that is not continuous (comparisons,
conversions to integers, rounding, indices).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tilus.ir.dtypes import NAMED, parse_dtype

INTEGERS = ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64")
FLOATS = ("f32", "f16", "bf16", "f64")
STORAGE_FLOATS = ("f8e4m3fn", "f8e5m2")
PRECISION = {"f16": 11, "bf16": 8, "f32": 24, "f64": 53}
"""Bits of the significand, the hidden one included."""
GREATEST = {"f16": 65504.0, "bf16": 3.3e38, "f32": 3.4e38, "f64": 1.7e308}
SUBNORMAL = {"f16": 2.0**-24, "bf16": 2.0**-133, "f32": 2.0**-149, "f64": 5e-324}
FINEST = {"f16": -24, "bf16": -100, "f32": -100, "f64": -500}
"""The exponents of grids on which values stay exact, well above where the type's numbers end."""
Shape = tuple[int, ...]


def bits_of(dtype: str) -> int:
    """The width of an element in memory."""
    return parse_dtype(dtype).packed_bits


def spelled(dtype: str) -> str:
    """A type as an expression of a program's text."""
    found = parse_dtype(dtype)
    if found.is_codebook and found not in NAMED:
        return f'tl.codebook("{found}", {found.values}, bits={found.bits})'
    if found in NAMED:
        return f"tl.{dtype}"
    if found.is_int:
        return f"tl.integer({found.bits}, signed={found.is_signed})"
    fields = f'exponent={found.exponent}, mantissa={found.mantissa}, specials="{found.specials}"'
    return f"tl.float({fields}, signed={found.signed})"


@dataclass(frozen=True)
class Value:
    """A variable of the program.

    Attributes:
        bound: for floats, the greatest magnitude; infinite where infinities and NaNs may be among them.
        grid: values are multiples of 2**grid, and sums of them that stay below 2**(grid + precision) are exact.
        error: how far from the true value an engine may be.
        product: whether it is a rounded product, which a following addition may take unrounded.
        zeros: whether the sign of a zero, or of a NaN, is determined.
    """

    name: str
    dtype: str
    shape: Shape
    bound: float = math.inf
    grid: int | None = None
    error: float = 0.0
    product: bool = False
    zeros: bool = True

    @property
    def is_float(self) -> bool:
        return self.dtype in PRECISION

    @property
    def is_int(self) -> bool:
        return self.dtype in INTEGERS

    @property
    def computes(self) -> bool:
        """Whether it is of a type with arithmetic, or bool."""
        return self.is_float or self.is_int or self.dtype == "bool"

    @property
    def determined(self) -> bool:
        return self.error == 0.0

    @property
    def finite(self) -> bool:
        return self.bound < math.inf

    def moved(self, name: str, shape: Shape) -> Value:
        """The same elements, or some of them, under another shape."""
        return replace(self, name=name, shape=shape)


@dataclass
class ArrayArgument:
    """An array that a program reads, or reads and writes."""

    name: str
    dtype: str
    shape: Shape
    layout: str = "C"
    fill: str = "grid"
    written: bool = False
    absent: bool = False
    dims: tuple[str, ...] = ()
    """The declared dimensions, as text; one that is a name of its own where this is empty."""


@dataclass
class Output:
    """An array of one slice per block, and how far engines may be apart in it."""

    name: str
    dtype: str
    shape: Shape
    error: float
    layout: str = "C"
    codes: bool = False
    """Whether elements of a type for storage have to agree in their bits, not in the numbers that these stand for."""


@dataclass
class Program:
    """``prelude`` are lines at module level, ``lines`` the kernel's body, ``types`` what the variables are."""

    seed: int
    prelude: list[str]
    lines: list[str]
    arrays: list[ArrayArgument]
    outputs: list[Output]
    grid: Shape
    warps: int
    types: dict[str, tuple[str, Shape]]
    scalars: dict[str, Any]
    counts: Counter[str] = field(default_factory=Counter)
    scalar_types: dict[str, str] = field(default_factory=dict)
    """Of the scalars beside n, m and f."""
    fused: bool = False
    """Whether it is a function of whole arrays, which returns its results."""

    @property
    def blocks(self) -> int:
        return math.prod(self.grid)

    @property
    def source(self) -> str:
        """The text of the program's module."""
        if self.fused:
            head = ["import tilus as tl", "", "", "@tl.fuse", f"def kernel({', '.join(a.name for a in self.arrays)}):"]
            return "\n".join([*head, *self.lines, ""])
        parameters = []
        for array in self.arrays:
            declared = ", ".join(array.dims) or _dims(array.name, len(array.shape))
            annotation = f"{spelled(array.dtype)}[{declared}]"
            parameters.append(f"{array.name}: {annotation}{' | None' if array.absent else ''}")
        parameters += [f"{o.name}: {spelled(o.dtype)}[{_dims(o.name, len(o.shape) + 1)}]" for o in self.outputs]
        parameters += ["n: tl.i32", "m: tl.i64", "f: tl.f32"]
        parameters += [f"{name}: tl.{dtype}" for name, dtype in self.scalar_types.items()]
        if len(self.grid) == 1:
            start = [f"    g = tl.grid({self.grid[0]})"]
        else:
            first, second = self.grid
            start = [f"    g0, g1 = tl.grid({first}, {second})", f"    g = g0 + g1 * {first}"]
        block = [] if self.warps == 4 else [f"    tl.block(warps={self.warps})"]
        head = ["import tilus as tl", "", "", *self.prelude, "@tl.jit", f"def kernel({', '.join(parameters)}):"]
        return "\n".join([*head, *block, *start, *self.lines, ""])


    def to_json(self) -> str:
        """The program as text that does not depend on the generator."""
        kept = {**asdict(self), "types": {}, "counts": {}}
        return json.dumps(kept, indent=1) + "\n"

    @staticmethod
    def from_json(text: str) -> Program:
        """The program of :meth:`to_json`."""
        fields = json.loads(text)
        arrays = [ArrayArgument(**{**a, "shape": tuple(a["shape"]), "dims": tuple(a.get("dims", ()))})
                  for a in fields.pop("arrays")]
        outputs = [Output(**{**o, "shape": tuple(o["shape"])}) for o in fields.pop("outputs")]
        return Program(**{**fields, "arrays": arrays, "outputs": outputs, "grid": tuple(fields["grid"]),
                          "counts": Counter()})


def _dims(name: str, rank: int) -> str:
    return ", ".join(f'"{name}_{d}"' for d in range(rank))
