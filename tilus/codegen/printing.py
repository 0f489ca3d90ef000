"""Format strings of what a thread prints."""

from __future__ import annotations

from tilus.ir.dtypes import DType
from tilus.ir.ops.simt import PrintThread


def format_string(op: PrintThread) -> str:
    """The format that ``printf`` takes: floats are passed as f64, integers as 64 bits."""
    pieces = op.format.replace("{{", "\0").replace("}}", "\1").split("{}")
    text = pieces[0].replace("%", "%%")
    for value, piece in zip(op.values, pieces[1:], strict=True):
        text += _code(value.tile.dtype) + piece.replace("%", "%%")
    return text.replace("\0", "{").replace("\1", "}") + "\n"


def _code(dtype: DType) -> str:
    if dtype.is_float:
        return "%g"
    return "%llu" if dtype.kind == "uint" else "%lld"
