"""What the C headers of compiled kernels have in common, whatever processor they are for."""

from __future__ import annotations

import json
import re
from collections.abc import Collection

from tilus.ir.dtypes import DType
from tilus.ir.names import C_WORDS, DEVICE_NAMES, c_name
from tilus.ir.prepacked import parse_format

_TYPES = {"f32": "float", "f64": "double", "bool": "bool", "f16": "uint16_t", "bf16": "uint16_t"}
_MACRO = re.compile(r"__.*|_[A-Z].*|CU\w+|cu[A-Z]\w*|U?INT\w*_(C|MAX|MIN)|U?INT(MAX|PTR)\w*"
                    r"|(PTRDIFF|SIG_ATOMIC|SIZE|WCHAR|WINT)_\w*|u?int\w*_t|(size|wchar|ptrdiff)_t")
"""What <cuda.h>, <stdbool.h>, <stdint.h> and the headers that those read may define."""
_OWN = re.compile(r"(v|argument|workspace)\d+")


def c_type(dtype: DType) -> str:
    """The C type of a number; f16 and bf16 are passed as their bits."""
    if dtype.name in _TYPES:
        return _TYPES[dtype.name]
    return f"{'' if dtype.kind == 'int' else 'u'}int{dtype.bits}_t"


def c_string(text: str) -> str:
    """Text as a string of C, in UTF-8."""
    plain = set(range(32, 127)) - set(b'"\\\\?')
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in text.encode()) + '"'


def parameter_name(name: str, taken: Collection[str], own: Collection[str]) -> str:
    """A parameter's name, unless C, its headers, the generated functions (``own``) or another parameter (``taken``)
    use it for something else."""
    spelled = c_name(name)
    if spelled in own or _OWN.fullmatch(spelled) or spelled in DEVICE_NAMES or spelled in C_WORDS \
            or _MACRO.fullmatch(spelled):
        spelled = f"{spelled}_"
    while spelled in taken:
        spelled = f"{spelled}_"
    return spelled


def struct(name: str, pointer: str, rank: int) -> str:
    """The type of an array: where it lies, its extents, and its strides in elements."""
    data = f"{pointer}{'' if pointer[-1] == '*' else ' '}data;"
    sizes = f" int64_t shape[{rank}]; int64_t strides[{rank}];" if rank else ""
    return f"typedef struct {{ {data}{sizes} }} {name};"


def format_lines(parameter: str, name: str, text: str, rank: int) -> list[str]:
    """What a caller has to know of a prepacked array: its format as text, and how many bytes it has. ``name`` begins
    the names of both."""
    format = parse_format(text)
    *leading, k, n = (f"shape[{d}]" for d in range(rank))
    rows, columns = format.tile
    tiles = [*leading, f"(({k} + {rows - 1}) / {rows})", f"(({n} + {columns - 1}) / {columns})"]
    return [
        "", f"/* {parameter} is prepacked: {format.describe()}.",
        "   Its shape and strides are those of the array row by row. Its bytes are what `tilus prepack` makes for",
        f"   this format, or tl.prepack(weights, format=text); {name}_bytes says how many. */",
        f"static const char {name}_format[] = {json.dumps(text)};",
        f"static inline int64_t {name}_bytes(const int64_t *shape) {{",
        f"  return {' * '.join(tiles)} * {format.tile_bytes};", "}",
    ]


__all__ = ["c_string", "c_type", "format_lines", "parameter_name", "struct"]
