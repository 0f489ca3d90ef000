"""What a compiled kernel assumes of its arrays, as conditions in C under which they are others."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from tilus.diagnostics import UnsupportedError
from tilus.ir.core import Parameter
from tilus.ir.dtypes import DType
from tilus.lang.signature import dim_value
from tilus.runtime.arguments import SMALL_BYTES, SMALL_EXTENT

HELPERS = """\
static inline int64_t {name}_floordiv(int64_t a, int64_t b) {{
  if (b == 0) return 0;
  int64_t q = a / b;
  return q - ((a % b != 0) && ((a < 0) != (b < 0)));
}}

static inline bool {name}_is_contiguous(const int64_t *shape, const int64_t *strides, int rank) {{
  int64_t step = 1;
  for (int d = 0; d < rank; ++d) if (shape[d] == 0) return true;
  for (int d = rank - 1; d >= 0; --d) {{
    if (shape[d] > 1 && strides[d] != step) return false;
    step *= shape[d];
  }}
  return true;
}}

static inline bool {name}_is_small(const int64_t *shape, const int64_t *strides, int rank, int64_t bits) {{
  int64_t span = 1;
  for (int d = 0; d < rank; ++d) if (shape[d] == 0) return true;
  for (int d = 0; d < rank; ++d) {{
    int64_t stride = strides[d] < 0 ? -strides[d] : strides[d];
    if (shape[d] >= {extent} || (shape[d] > 1 && stride > {bytes} / (shape[d] - 1))) return false;
    span += shape[d] > 1 ? (shape[d] - 1) * stride : 0;
    if (span >= {bytes}) return false;
  }}
  return bits < 8 || (span * bits + 7) / 8 < {bytes};
}}
"""


def helpers(name: str) -> str:
    """The functions that the checks call, for the kernel of that name."""
    return HELPERS.format(name=name, bytes=f"INT64_C({SMALL_BYTES})", extent=f"INT64_C({SMALL_EXTENT})")


class Checks:
    """The checks of one launch function.

    Args:
        kernel: the prefix of the helpers.
        arrays: for each array, its name in C, its parameter and its element type.
        constants: the compile-time parameters.
        word_bytes: how arrays are aligned whose elements fill no bytes.
    """

    def __init__(self, kernel: str, arrays: Sequence[tuple[str, Parameter, DType]],
                 constants: Mapping[str, Any], word_bytes: int) -> None:
        self.kernel = kernel
        self.word_bytes = word_bytes
        self.arrays = arrays
        self.constants = {n: v for n, v in constants.items() if isinstance(v, int) and not isinstance(v, bool)}
        self.first: dict[str, str] = {}  # of each named dimension, the first place

    def found(self) -> list[tuple[str, str]]:
        """Conditions that do not hold for arrays which the kernel may have, and what each is about. Raises
        UnsupportedError for dimensions that have no form in C."""
        return [check for array in self.arrays for check in self._of_array(*array)] + self._dimensions()

    def _of_array(self, name: str, p: Parameter, dtype: DType) -> list[tuple[str, str]]:
        rank, bits, checks = len(p.dims), dtype.packed_bits, []
        for d in range(rank):
            extent, known = f"{name}.shape[{d}]", p.shape[d]
            if known is not None:
                checks.append((f"{extent} != {known}", f"{extent} is {known}"))
            elif p.shape_divisors and p.shape_divisors[d] > 1:
                divisor = p.shape_divisors[d]
                checks.append((f"{extent} < 0 || {extent} % {divisor} != 0", f"{extent} is a multiple of {divisor}"))
            else:
                checks.append((f"{extent} < 0", f"{extent} is not negative"))
        if p.small and rank:
            checks.append((f"!{self.kernel}_is_small({name}.shape, {name}.strides, {rank}, {bits})",
                           f"{name} takes less than 2^31 {'bytes' if bits >= 8 else 'elements'}"))
            if p.prepacked:
                limit = SMALL_BYTES * min(bits, 8) // 8
                checks.append((f"{self.kernel}_{name}_bytes({name}.shape) >= INT64_C({limit})",
                               f"{name} takes less than 2^31 {'bytes' if bits >= 8 else 'elements'}, filled up"))
        if p.contiguous and rank:
            checks.append((f"!{self.kernel}_is_contiguous({name}.shape, {name}.strides, {rank})",
                           f"{name} is contiguous"))
        for d in range(rank):
            extent, stride, known = f"{name}.shape[{d}]", f"{name}.strides[{d}]", p.strides[d] if p.strides else None
            if known is not None and not p.contiguous:
                checks.append((f"{extent} > 1 && {stride} != {known}", f"{stride} is {known}"))
            elif known is None and p.strides_divisors and p.strides_divisors[d] > 1:
                divisor = p.strides_divisors[d]
                checks.append((f"{extent} > 1 && {stride} % {divisor} != 0", f"{stride} is a multiple of {divisor}"))
        alignment = 16 if p.aligned else bits // 8 if bits in (8, 16, 32, 64) else self.word_bytes
        if alignment > 1:
            checks.append((f"(uint64_t){name}.data % {alignment} != 0",
                           f"{name}.data is a multiple of {alignment} bytes"))
        return checks

    def _dimensions(self) -> list[tuple[str, str]]:
        """Equal names are equal extents, and expressions have their values."""
        checks, expressions = [], []
        for name, p, _ in self.arrays:
            for d, dim in enumerate(p.dims):
                place = f"{name}.shape[{d}]"
                if isinstance(dim, int) or p.shape[d] is not None:
                    continue
                if not dim.isidentifier():
                    expressions.append((dim, place))
                elif self.first.setdefault(dim, place) != place:
                    checks.append((f"{place} != {self.first[dim]}", f"{place} and {self.first[dim]} are both {dim}"))
        for dim, place in expressions:
            value = dim_value(dim, self.constants)
            text = str(value) if value is not None else self._expression(ast.parse(dim, mode="eval").body, dim)
            checks.append((f"{place} != {text}", f"{place} is {dim}"))
        return checks

    def _expression(self, node: ast.expr, dim: str) -> str:
        operators = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*"}
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return f"INT64_C({node.value})"
        if isinstance(node, ast.Name) and (node.id in self.first or node.id in self.constants):
            return self.first.get(node.id) or f"INT64_C({self.constants[node.id]})"
        if isinstance(node, ast.BinOp):
            left, right = self._expression(node.left, dim), self._expression(node.right, dim)
            if type(node.op) in operators:
                return f"({left} {operators[type(node.op)]} {right})"
            if isinstance(node.op, ast.FloorDiv):
                return f"{self.kernel}_floordiv({left}, {right})"
        raise UnsupportedError.at("E0507", f"the dimension {dim!r} has no form in the C header",
                                  help="write another stage than one with a header")
