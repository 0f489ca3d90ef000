"""Files of weights: .safetensors and .npz, with quantised arrays as their parts and a description of each.

A quantised array NAME is the bytes of its codes, NAME.scales, NAME.zeros and NAME.order where there are such, and a
description in JSON, NAME.quantized: in the metadata of a .safetensors file, or as an array of text in a .npz file.
"""

from __future__ import annotations

import errno
import io
import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tilus.ir.dtypes import DType, f16, parse_dtype
from tilus.quantization.groups import Array
from tilus.quantization.quantized import Quantized
from tilus.quantization.safetensors import TYPES, read_safetensors, safetensors_bytes
from tilus.runtime.packed import packed
from tilus.runtime.packed_array import PackedArray
from tilus.runtime.prepacked import prepacked
from tilus.runtime.prepacked_array import PrepackedArray

DESCRIPTION = ".quantized"
SUFFIXES = (".safetensors", ".npz")
DEEPEST = 4
"""How often scales may be quantised in turn."""


def loaded(path: Path, zeros_are_less_one: bool) -> dict[str, Any]:
    """What ``tl.load_weights`` says."""
    from tilus.quantization.checkpoints import layers_in

    arrays, descriptions = read_arrays(path)
    found = {name: _assembled(name, arrays, descriptions, 0) for name in _outermost(descriptions)}
    used = {part for name in descriptions for part in (name, name + ".scales", name + ".zeros", name + ".order")}
    others = {name: array for name, array in arrays.items() if name not in used}
    layers, used = layers_in(others, zeros_are_less_one)
    return {**{name: array for name, array in others.items() if name not in used}, **layers, **found}


def weights_bytes(path: Path, weights: Mapping[str, Any]) -> bytes:
    """What ``tl.save_weights`` writes to a file of that name."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path.name}: the name of a file of weights ends in {' or '.join(SUFFIXES)}")
    arrays: dict[str, Array] = {}
    descriptions: dict[str, str] = {}
    for name, value in weights.items():
        parts, texts = _taken_apart(name, value) if isinstance(value, Quantized) else ({name: _array(name, value)}, {})
        twice = sorted((arrays.keys() & parts.keys()) | (descriptions.keys() & texts.keys()))
        if twice:
            raise ValueError(f"two arrays would have the name {twice[0]!r}")
        arrays |= parts
        descriptions |= texts
    if path.suffix == ".npz":
        for name, array in arrays.items():
            if array.dtype.isbuiltin != 1 and array.dtype.kind not in "SU":
                raise TypeError(f"{name!r} is of {array.dtype}, which .npz files lack: write a .safetensors file")
        memory = io.BytesIO()
        about = {name + DESCRIPTION: np.array(text) for name, text in descriptions.items()}
        np.savez(memory, **arrays, **about)  # type: ignore[arg-type]
        return memory.getvalue()
    return safetensors_bytes(arrays, {name + DESCRIPTION: text for name, text in descriptions.items()})


def read_arrays(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays of a file, and the descriptions of those that are quantised. Raises OSError, ValueError."""
    if path.suffix == ".npz":
        arrays = read_npz(path)
        texts = {name: str(array) for name, array in arrays.items() if name.endswith(DESCRIPTION)}
        arrays = {name: array for name, array in arrays.items() if name not in texts}
    elif path.suffix == ".safetensors":
        arrays, metadata = read_safetensors(path)
        texts = {name: text for name, text in metadata.items() if name.endswith(DESCRIPTION)}
    else:
        raise ValueError(f"the name of a file of weights ends in {' or '.join(SUFFIXES)}")
    return arrays, {name.removesuffix(DESCRIPTION): text for name, text in texts.items()}


def read_npz(path: Path) -> dict[str, Array]:
    """The arrays of a .npz file, whose checksums are compared. Raises OSError, ValueError."""
    found: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if not entry.filename.endswith(".npy"):
                    raise ValueError(f"it holds {entry.filename!r}, which is no array")
                name = entry.filename.removesuffix(".npy")
                if name in found:
                    raise ValueError(f"it holds {name!r} twice")
                memory = io.BytesIO(archive.read(entry))
                found[name] = np.lib.format.read_array(memory, allow_pickle=False)
                if memory.read(1):
                    raise ValueError(f"{name!r} is followed by what does not belong to it")
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError, SyntaxError,
            OverflowError, MemoryError, UnicodeDecodeError, TypeError, IndexError) as error:
        raise ValueError(f"it is no .npz file, or damaged ({str(error).strip() or type(error).__name__})") from None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise ValueError("it is no .npz file, or damaged (an array would lie before its beginning)") from None
    return found


def _array(name: str, value: Any) -> Array:
    from tilus.runtime.packing import host_numbers

    if isinstance(value, (PackedArray, PrepackedArray)):
        raise TypeError(f"{name!r} is {value!r}: give it as tl.Quantized, or its bytes")
    return host_numbers(value)[0]


def _outermost(descriptions: Mapping[str, str]) -> list[str]:
    """The names that are not the scales of another one."""
    return [name for name in descriptions
            if not (name.endswith(".scales") and name.removesuffix(".scales") in descriptions)]


def _taken_apart(name: str, q: Quantized) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays of a quantised array and the descriptions, its scales' among them."""
    arrays: dict[str, Array] = {name: _bytes_of(q.values)}
    descriptions: dict[str, str] = {}
    about: dict[str, Any] = {"dtype": q.dtype.name, "shape": list(q.shape), "group": q.group, "axis": q.axis,
                             "offset": q.offset}
    if isinstance(q.values, PrepackedArray):
        about["header"] = q.values.header
    if isinstance(q.scales, Quantized):
        parts, descriptions = _taken_apart(name + ".scales", q.scales)
        arrays |= parts
    else:
        arrays[name + ".scales"], about["scales"] = _part(name + ".scales", q.scales)
    if isinstance(q.zeros, (int, float)):
        about["zero"] = float(q.zeros)
    elif q.zeros is not None:
        arrays[name + ".zeros"], about["zeros"] = _part(name + ".zeros", q.zeros)
    if q.order is not None:
        arrays[name + ".order"] = np.asarray(q.order).astype(np.int32)
    return arrays, {name: json.dumps(about), **descriptions}


def _bytes_of(array: Any) -> Array:
    if isinstance(array, PrepackedArray):
        return array.bytes
    assert isinstance(array, PackedArray)
    if not array.argument.is_contiguous:
        from tilus.runtime.packing import codes_in, packed_memory

        codes = np.ascontiguousarray(codes_in(array.argument)).reshape(-1)
        return packed_memory(codes.size, array.dtype.packed_bits, lambda part: codes[part])
    return np.asarray(array.base).reshape(-1).view(np.uint8)


def _part(name: str, array: Any) -> tuple[Array, dict[str, Any]]:
    """Scales or zero points as an array of numbers, or as bytes where NumPy has no such type; and a description."""
    if isinstance(array, PackedArray):
        return _bytes_of(array), {"dtype": array.dtype.name, "shape": list(array.shape)}
    numbers = _array(name, array)
    from tilus.ir.dtypes import from_numpy

    about = {"dtype": from_numpy(numbers.dtype).name, "shape": list(numbers.shape)}
    native = numbers.dtype.isbuiltin == 1
    return (numbers if native else np.ascontiguousarray(numbers).reshape(-1).view(np.uint8)), about


def _assembled(name: str, arrays: Mapping[str, Array], descriptions: Mapping[str, str], depth: int) -> Quantized:
    """The quantised array of a name. Raises ValueError."""
    try:
        about = json.loads(descriptions[name])
        if depth > DEEPEST:
            raise ValueError("its scales are quantised too often")
        return _made(name, about, arrays, descriptions, depth)
    except KeyError as error:
        raise ValueError(f"{name!r} is quantised, but there is no {error}") from None
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{name!r}: {error}") from None


def _made(name: str, about: Any, arrays: Mapping[str, Array], descriptions: Mapping[str, str], depth: int) -> Quantized:
    shape, dtype = _shape(about), parse_dtype(about["dtype"])
    group, axis, offset = about["group"], about["axis"], about["offset"]
    if type(group) is not int or not (group == -1 or group > 0) or type(offset) not in (int, float):
        raise ValueError(f"groups of {group!r} and an offset of {offset!r} are none")
    if axis is not None and (type(axis) is not int or not 0 <= axis < len(shape)):
        raise ValueError(f"axis {axis!r} is none of {shape}")
    memory = _memory(arrays[name])
    values: Any
    if "header" in about:
        values = prepacked(memory, about["header"])
        if values.shape != shape or values.dtype is not dtype:
            raise ValueError(f"it is {dtype} {shape}, and prepacked as {values.dtype} {values.shape}")
    else:
        values = packed(memory, dtype, shape)
    from tilus.quantization.groups import groups_of

    _, scale_shape, group = groups_of(shape, axis, group)
    scales: Any
    if name + ".scales" in descriptions:
        scales = _assembled(name + ".scales", arrays, descriptions, depth + 1)
    else:
        scales = _given(arrays[name + ".scales"], about["scales"])
    zeros = about.get("zero")
    if zeros is not None and type(zeros) not in (int, float):
        raise ValueError(f"a zero point of {zeros!r} is none")
    if "zeros" in about:
        zeros = _given(arrays[name + ".zeros"], about["zeros"])
    for part, array in (("scales", scales), ("zeros", zeros)):
        if array is not None and not isinstance(array, (int, float)) and tuple(array.shape) != scale_shape:
            raise ValueError(f"its {part} have the shape {tuple(array.shape)}, and its groups {scale_shape}")
    order = arrays.get(name + ".order")
    if order is not None and (axis is None or order.dtype != np.int32 or not np.array_equal(
            np.sort(order.reshape(-1)), np.arange(shape[axis]))):
        raise ValueError("its order is none")
    return Quantized(values, scales, zeros, group, axis, float(offset), order)


def _shape(about: Any) -> tuple[int, ...]:
    shape = about["shape"]
    if not isinstance(shape, list) or not all(type(n) is int and 0 < n < 1 << 48 for n in shape) or not shape:
        raise ValueError(f"{shape!r} is no shape")
    return tuple(shape)


def _memory(array: Array) -> Array:
    if array.dtype != np.uint8 or array.ndim != 1:
        raise ValueError(f"codes lie in bytes of rank 1, not in {array.dtype} of rank {array.ndim}")
    return array


def _given(array: Array, about: Any) -> Any:
    """Scales or zero points of a description. Raises ValueError."""
    dtype: DType = parse_dtype(about["dtype"])
    shape = _shape(about)
    native = dtype.is_arithmetic and dtype.numpy.isbuiltin == 1
    if native:
        if array.dtype != dtype.numpy or array.shape != shape:
            raise ValueError(f"{dtype} {shape} are said to be what is {array.dtype} {array.shape}")
        return array
    memory = _memory(array)
    if dtype.packed_bits * math.prod(shape) > memory.size * 8:
        raise ValueError(f"{dtype} {shape} do not fit {memory.size} bytes")
    from tilus.runtime.packed_array import is_held

    if is_held(dtype) and (dtype is f16 or dtype.numpy in TYPES.values()):
        return memory.view(dtype.numpy).reshape(shape)
    return packed(memory, dtype, shape)


__all__ = ["loaded", "read_arrays", "weights_bytes"]
