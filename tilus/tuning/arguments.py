"""Arguments made up for a kernel, from the types that it declares and the extents of its dimensions."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tilus.diagnostics import UserError
from tilus.ir.annotations import ArrayAnnotation, OptionalAnnotation, UnionAnnotation
from tilus.ir.dtypes import DType, u8
from tilus.lang.signature import MISSING, ParameterSpec, dim_value, parameter_type_of
from tilus.runtime.arrays import host_view
from tilus.runtime.packed import packed
from tilus.runtime.packed_array import PackedArray, is_held
from tilus.runtime.prepacked_array import PrepackedArray, over_bytes
from tilus.tuning.keys import Arguments


def made_up_arguments(function: Any, extents: Mapping[str, int], given: Mapping[str, Any], *,
                      contents: bool = True) -> dict[str, Any]:
    """Arguments by name: arrays of random numbers, normally distributed floats and integers from -4 to 4 (0 to 4
    without a sign); optional arrays are absent.

    Args:
        function: a kernel, a fused function, or either of them autotuned.
        extents: of the dimensions.
        given: values of scalars and compile-time parameters; array types, or element types of those that the kernel
            takes in several.
        contents: whether arrays hold numbers, rather than memory that nobody has touched.

    Raises:
        UserError: E0804, an extent or a scalar is missing, or a name is none of the kernel's.
    """
    known = {**extents, **{n: v for n, v in given.items() if isinstance(v, int)}}
    facts = Arguments(function.signature)
    chosen = function.space.names if hasattr(function, "space") else ()
    make = random_array if contents else untouched_array
    arguments: dict[str, Any] = {}
    used: set[str] = set()
    for spec in function.signature.specs:
        value = given.get(spec.name, MISSING)
        annotation = value if isinstance(value, ArrayAnnotation) else facts.annotation(spec, dict(given))
        inner = _option(annotation, value)
        if isinstance(inner, ArrayAnnotation):
            if isinstance(annotation, OptionalAnnotation) and value is MISSING:
                if spec.default is MISSING:
                    arguments[spec.name] = None
                continue
            if value is None:
                arguments[spec.name] = None
                continue
            used |= {d for d in inner.dims if isinstance(d, str)}
            arguments[spec.name] = make(inner.dtype, _shape(spec, inner, known), spec.name)
        elif value is not MISSING:
            arguments[spec.name] = value
        elif isinstance(inner, DType) and spec.name in extents:
            arguments[spec.name] = extents[spec.name]
        elif spec.default is MISSING and spec.name not in chosen:
            what = "--set NAME=VALUE" if annotation is not None else f"--set {spec.name}=f32[128,64]"
            raise UserError.at("E0804", f"there is no value of {spec.name!r}", function.signature.span(spec.name),
                               help=what)
    names = {part for dim in used for part in _names(dim)} | set(arguments)
    for name in extents:
        if name not in names:
            raise UserError.at("E0804", f"{function.__name__} has no dimension {name!r}",
                               help=f"it has {', '.join(sorted(names - set(arguments))) or 'none'}")
    left = {n: v for n, v in given.items() if n not in function.signature.names}
    return {**arguments, **left}


def _option(annotation: Any, value: Any) -> Any:
    """The type of an argument, that of a union which holds the element type that is asked for."""
    inner = annotation.inner if isinstance(annotation, OptionalAnnotation) else annotation
    if isinstance(inner, UnionAnnotation) and isinstance(value, DType):
        return inner.option(value) or parameter_type_of(annotation)
    return parameter_type_of(annotation)


def _shape(spec: ParameterSpec, annotation: ArrayAnnotation, known: Mapping[str, int]) -> tuple[int, ...]:
    shape = []
    for dim in annotation.dims:
        extent = dim if isinstance(dim, int) else known.get(dim, dim_value(dim, dict(known)))
        if extent is None:
            missing = sorted(set(_names(str(dim))) - set(known))
            raise UserError.at("E0804", f"there is no extent of {', '.join(missing)}, a dimension of {spec.name!r}",
                               help=" ".join(f"--shape {name}=4096" for name in missing))
        shape.append(int(extent))
    return tuple(shape)


def _names(dim: str) -> list[str]:
    import ast

    return [node.id for node in ast.walk(ast.parse(dim, mode="eval")) if isinstance(node, ast.Name)]


def random_array(dtype: DType, shape: tuple[int, ...], name: str) -> Any:
    """An array of random numbers, the same ones for a name; of elements that NumPy lacks, a packed one of random
    bits."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if not is_held(dtype):
        size = -(-int(np.prod(shape, dtype=np.int64)) * dtype.packed_bits // 8)
        return packed(rng.integers(0, 256, size, np.uint8), dtype, shape)
    if dtype.is_float:
        return rng.standard_normal(shape, np.float32).astype(dtype.numpy)
    if dtype.is_int:
        least = -4 if dtype.kind == "int" else 0
        return rng.integers(least, 5, shape).astype(dtype.numpy)
    return rng.integers(0, 2, shape).astype(dtype.numpy)


def untouched_array(dtype: DType, shape: tuple[int, ...], name: str) -> Any:
    """An array in memory that the system has not given yet: it takes none until somebody writes it."""
    if not is_held(dtype):
        return packed(np.empty(-(-math.prod(shape) * dtype.packed_bits // 8), np.uint8), dtype, shape)
    return np.empty(shape, dtype.numpy)


def on_gpu(value: Any) -> Any:
    """An array in host memory as one on the current GPU with the same contents, through CuPy; packed ones too. What is
    no array stays as it is."""
    from tilus.runtime.nvidia.libraries import cupy_module

    if isinstance(value, PrepackedArray):
        return over_bytes(on_gpu(value.bytes), value.format, value.shape)
    if isinstance(value, PackedArray):
        memory = host_view(value.argument.address, u8, (value.nbytes,), (1,), value.base)
        return packed(on_gpu(memory), value.dtype, value.shape, value.strides)
    if not isinstance(value, np.ndarray):
        return value
    cupy = cupy_module()
    if value.dtype.isbuiltin == 1:
        return cupy.asarray(value)
    return TypedArray(cupy.asarray(np.ascontiguousarray(value).view(f"u{value.dtype.itemsize}")), value.dtype)


class TypedArray:
    """A CuPy array of integers as one of an element type that not all releases of CuPy have, such as bfloat16."""

    def __init__(self, base: Any, dtype: np.dtype[Any]) -> None:
        self.base, self.dtype, self.shape = base, dtype, base.shape

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        found: dict[str, Any] = self.base.__cuda_array_interface__
        return found

    def get(self) -> np.ndarray[Any, Any]:
        """A copy in host memory."""
        found: np.ndarray[Any, Any] = self.base.get()
        return found.view(self.dtype)


__all__ = ["TypedArray", "made_up_arguments", "on_gpu", "random_array", "untouched_array"]
