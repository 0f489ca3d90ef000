"""Runs kernels on the CPU engine without the runtime object: traced, simplified, compiled, called on NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tilus.ir.annotations import ArrayAnnotation, OptionalAnnotation
from tilus.ir.core import Module, Parameter
from tilus.ir.dtypes import DType
from tilus.ir.verifier import verify_module
from tilus.lang.capture import CapturedFunction
from tilus.lang.program import trace_kernel
from tilus.lang.signature import MISSING, Signature, dim_value, is_constant_annotation
from tilus.lowering.pipelines import CPU_TILE_PASSES, run_passes
from tilus.runtime.cpu import CpuKernel, compile_module


def describe(name: str, annotation: Any, constants: dict[str, Any], value: Any) -> Parameter:
    """What a call may assume of one argument: nothing but zero and unit strides."""
    if isinstance(annotation, OptionalAnnotation):
        annotation = annotation.inner
    if isinstance(annotation, DType):
        return Parameter(name, "scalar")
    assert isinstance(annotation, ArrayAnnotation)
    strides = tuple(s // value.itemsize for s in value.strides)
    known = tuple(s if s in (0, 1) else None for s in strides)
    shape = tuple(dim_value(d, constants) for d in annotation.dims)
    rank = len(shape)
    return Parameter(name, "array", annotation.dims, shape, known, False, (1,) * rank, (1,) * rank)


def trace(function: Callable[..., Any], arguments: dict[str, Any]) -> tuple[Module, list[Any]]:
    captured = CapturedFunction(function)
    signature = Signature(captured)
    constants: dict[str, Any] = {}
    for spec in signature.specs:
        annotation = signature.annotation(spec, constants)
        if is_constant_annotation(annotation):
            value = arguments.get(spec.name, spec.default)
            assert value is not MISSING, spec.name
            constants[spec.name] = value
        elif arguments.get(spec.name) is None:
            constants[spec.name] = None
    parameters, given = [], []
    for spec in signature.specs:
        if spec.name in constants:
            continue
        value = arguments[spec.name]
        parameters.append(describe(spec.name, signature.annotation(spec, constants), constants, value))
        given.append(value)
    module = trace_kernel(captured, signature, constants, parameters)
    verify_module(module)
    run_passes(module, CPU_TILE_PASSES)
    return module, given


def pack(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.ctypes.data, value.shape, [s // value.itemsize for s in value.strides]
    return value


def compile_kernel(function: Callable[..., Any], **arguments: Any) -> tuple[CpuKernel, list[Any]]:
    module, given = trace(function, arguments)
    return compile_module(module), given


def run(function: Callable[..., Any], **arguments: Any) -> CpuKernel:
    """Compile for these arguments and call."""
    kernel, given = compile_kernel(function, **arguments)
    kernel(*[pack(v) for v in given])
    return kernel
