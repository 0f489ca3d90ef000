"""``tl.load_weights`` and ``tl.save_weights``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def load_weights(path: str | Path, *, zeros_are_less_one: bool = True) -> dict[str, Any]:
    """The arrays of a .safetensors or .npz file by name, of which quantised ones are ``tl.Quantized``.

    These are what ``tl.save_weights`` and `tilus quantize` write; and the layers of checkpoints of GPTQ, AWQ and
    compressed-tensors, by the name of their weights and as (k, n), the transpose of what a linear layer has, and those
    of bitsandbytes (NF4) as they are.

    Args:
        path: the file.
        zeros_are_less_one: whether zero points of GPTQ are stored less 1 (format "gptq"), or as they are ("gptq_v2").

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no such file, or damaged: the message says where.
    """
    from tilus.quantization.files import loaded

    return loaded(Path(path), zeros_are_less_one)


def save_weights(path: str | Path, weights: Mapping[str, Any]) -> None:
    """Write arrays, and what ``tl.quantize`` and ``tl.gptq`` give, as a .safetensors or .npz file, whole or not at all.
    ``tl.load_weights`` reads it again.

    Args:
        path: the file.
        weights: by name arrays or tensors in host memory, and ``tl.Quantized``, whose codes may be prepacked.

    Raises:
        TypeError: a value is neither, or of a type that the file lacks.
        ValueError: the name ends otherwise, or two values have parts of one name.
        UserError: E0804, the file cannot be written.
    """
    from tilus.quantization.files import weights_bytes
    from tilus.runtime.files import write_whole

    write_whole(Path(path), weights_bytes(Path(path), weights))


__all__ = ["load_weights", "save_weights"]
