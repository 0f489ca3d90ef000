"""torch tensors by their pointers. tilus does not import torch: whoever passes a tensor has done so."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from tilus.ir.dtypes import DType, f4e2m1, parse_dtype, u8
from tilus.runtime.arrays import CUDA, HOST, ArrayArgument, Refused, byte_range, host_view
from tilus.runtime.keys import ArrayKey, register_arrays
from tilus.runtime.packed_array import over_memory

TORCH_TYPES = {
    "float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64", "int8": "i8", "int16": "i16",
    "int32": "i32", "int64": "i64", "uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64", "bool": "bool",
    "float8_e4m3fn": "f8e4m3fn", "float8_e5m2": "f8e5m2", "float8_e8m0fnu": "f8e8m0fnu",
}
PAIRS = "float4_e2m1fn_x2"
"""Two f4e2m1 in a byte."""


def torch_name(dtype: DType) -> str | None:
    """What torch calls an element type, without the module."""
    return next((name for name, ours in TORCH_TYPES.items() if ours == dtype.name), None)


def from_torch(torch: Any, value: Any) -> ArrayArgument:
    """A tensor in host or CUDA memory. Raises Refused where its elements are not all in memory as it says they are, or
    where autograd would miss what a kernel does."""
    _register_keys(torch)
    try:
        _check(torch, value)
        shape, strides = tuple(int(n) for n in value.shape), tuple(int(s) for s in value.stride())
        address = int(value.data_ptr())
    except Refused:
        raise
    except Exception as error:  # torch says what such a tensor lacks
        raise Refused(f"torch does not say where its elements are: {str(error).partition(chr(10))[0]}") from None
    on_host = value.is_cpu
    if _type_name(value) == PAIRS:
        return _pairs(value, HOST if on_host else CUDA, address, shape, strides)
    dtype = parse_dtype(TORCH_TYPES[_type_name(value)])
    array = host_view(address, dtype, shape, strides, value) if on_host else None
    return ArrayArgument(value, HOST if on_host else CUDA, dtype, address, shape, strides, True, array)


def _pairs(value: Any, kind: str, address: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> ArrayArgument:
    """A tensor whose elements are two f4e2m1 each, the lower four bits first, as an array with the last dimension
    twice as long."""
    if not shape or (strides[-1] != 1 and shape[-1] > 1):
        raise Refused("its pairs of elements do not lie side by side along the last dimension",
                      "pass `{name}.contiguous()`")
    size = byte_range(shape, strides, 8)[1]
    memory = ArrayArgument(value, kind, u8, address, (size,), (1,), True)
    return over_memory(memory, f4e2m1, (*shape[:-1], 2 * shape[-1]), (*(2 * s for s in strides[:-1]), 1), size)


def _type_name(value: Any) -> str:
    return str(value.dtype).removeprefix("torch.")


def _check(torch: Any, value: Any) -> None:
    if torch._C._functorch.is_functorch_wrapped_tensor(value):
        raise Refused("it is a tensor of a torch.func transform (vmap, grad, …), which has no memory of its own",
                      "wrap the kernel in torch.library.custom_op with a rule for the transform")
    if type(value).__torch_dispatch__ is not torch._C._disabled_torch_dispatch_impl:
        raise Refused(f"it is a {type(value).__name__}, which handles its operations itself and may have no memory",
                      "pass a plain tensor")
    if value.is_nested:
        raise Refused("it is a nested tensor", "pass its values and its offsets as two tensors")
    if value.is_quantized:
        raise Refused("it is a quantized tensor", "pass its integers, `{name}.int_repr()`, and its scale")
    if value.layout != torch.strided:
        layout = str(value.layout).removeprefix("torch.").removeprefix("_")
        raise Refused(f"it is a tensor of layout {layout}", "pass `{name}.to_dense()`")
    if value.device.type not in ("cpu", "cuda"):
        without = ", which has no memory" if value.device.type == "meta" else ""
        raise Refused(f"it is on the device {str(value.device)!r}{without}", "pass one of the CPU or of a CUDA GPU")
    if _type_name(value) not in (*TORCH_TYPES, PAIRS):
        raise Refused(f"tensors of {value.dtype} have no tilus element type",
                      "pass the parts as two tensors: `torch.view_as_real({name})`" if value.is_complex() else
                      "tensors hold integers, floats or bool")
    if value.is_neg():
        raise Refused("it is a view that torch negates when it is read", "pass `{name}.resolve_neg()`")
    if value.requires_grad and torch.is_grad_enabled():
        raise Refused("it requires a gradient, which kernels do not record",
                      "pass `{name}.detach()`, call the kernel under torch.no_grad(), or write a "
                      "torch.autograd.Function around it")
    if value.numel():
        last = value.storage_offset() + sum((n - 1) * s for n, s in zip(value.shape, value.stride(), strict=True))
        if (last + 1) * value.element_size() > value.untyped_storage().nbytes():
            raise Refused("its storage has been freed or made smaller")
        if not value.data_ptr():
            raise Refused("its elements are not in memory", "pass `{name}.clone()`")


@functools.cache
def _register_keys(torch: Any) -> None:
    """Let calls with tensors be told apart: of torch's own classes, which have no more to them than :func:`_check`
    looks at."""
    key = _tensor_key(torch)
    for kind in (torch.Tensor, torch.nn.Parameter):
        register_arrays(kind, key)


def _tensor_key(torch: Any) -> ArrayKey:
    wrapped, recording, strided = torch._C._functorch.is_functorch_wrapped_tensor, torch.is_grad_enabled, torch.strided

    def key(value: Any) -> tuple[int, tuple[Any, ...]] | None:
        on_host = value.is_cpu
        if (not (on_host or value.is_cuda) or value.layout is not strided or value.is_nested or wrapped(value)
                or value.is_neg() or (value.requires_grad and recording())):
            return None
        shape, strides, address = value.shape, value.stride(), value.data_ptr()
        count = value.numel()
        if count and not address:
            return None
        if count and not value.is_contiguous():
            count = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        if count and (value.storage_offset() + count) * value.element_size() > value.untyped_storage().nbytes():
            return None  # it has been freed or made smaller
        if on_host:
            return address, (value.dtype, shape, strides, address & 15)
        return address, (value.dtype, shape, strides, address & 15, value.get_device())

    return key


class TensorProbe(NamedTuple):
    """What tells tensors like one before without a key: functions of torch's own.

    Attributes:
        attributes: what a tensor has to have, and ``wrapped`` must not say of it, to be given to ``check``.
        check: whether it is on the same device, of the same element type, extents and strides, and no other kind of
            view.
        address, first, storage: of a tensor its address, the number of its first element in its storage, and that.
        storage_bytes: of a storage.
        alignment: the address modulo 16.
        span: the elements from the first one to the last, in memory.
    """

    attributes: tuple[tuple[str, Any], ...]
    wrapped: Callable[[Any], bool]
    check: Callable[[Any], bool]
    address: Callable[[Any], int]
    first: Callable[[Any], int]
    storage: Callable[[Any], Any]
    storage_bytes: Callable[[Any], int]
    alignment: int
    span: int
    element_bytes: int


def tensor_probe(value: Any) -> TensorProbe | None:
    """For tensors like this one; None where torch lacks the guards of ``torch.compile``, or where it is for the mode of
    autograd to say whether a call is allowed."""
    import sys

    if value.requires_grad:
        return None

    torch = sys.modules["torch"]
    guards = getattr(torch._C._dynamo.guards, "TensorGuards", None)
    if guards is None:
        return None
    check = guards(value, dynamic_dims_sizes=None, dynamic_dims_strides=None).check
    place = "is_cpu" if value.is_cpu else "is_cuda"
    attributes = (place, True), ("layout", torch.strided), ("is_nested", False)
    tensor, span = torch._C.TensorBase, 0
    if value.numel():
        span = 1 + sum((n - 1) * s for n, s in zip(value.shape, value.stride(), strict=True))
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    return TensorProbe(attributes, wrapped, check, tensor.data_ptr, tensor.storage_offset, tensor.untyped_storage,
                       torch.UntypedStorage.nbytes, value.data_ptr() & 15, span, value.element_size())


def mark_written(value: Any) -> None:
    """Tell autograd that a tensor has been changed, as operations in place do: a backward pass that has saved it then
    says so."""
    import sys

    torch = sys.modules["torch"]
    if not value.is_inference():
        _increment_version(torch)((value,))


@functools.cache
def _increment_version(torch: Any) -> Callable[[Any], None]:
    """What the public function calls, in a tenth of the time, where it takes several tensors as that does."""
    direct: Callable[[Any], None] | None = getattr(torch._C, "_increment_version", None)
    public: Callable[[Any], None] = torch.autograd.graph.increment_version
    if direct is None:
        return public
    try:
        direct((torch.empty(0),))
    except TypeError:
        return public
    return direct


def empty_like(value: Any, shape: tuple[int, ...], dtype: DType) -> Any:
    """An uninitialised tensor on the device of another one."""
    import sys

    return value.new_empty(shape, dtype=getattr(sys.modules["torch"], torch_name(dtype) or ""))


def maker(shape: tuple[int, ...], dtype: DType, device: Any) -> Callable[[], Any]:
    """What makes uninitialised tensors on a device."""
    import sys

    torch = sys.modules["torch"]
    return functools.partial(torch.empty, shape, dtype=getattr(torch, torch_name(dtype) or ""), device=device)
