"""What is left to do of a call of a fused function whose arguments have been checked before."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tilus.diagnostics.entry import entry
from tilus.ir.dtypes import DType, u8
from tilus.runtime import arguments as args_
from tilus.runtime.arguments import call_error
from tilus.runtime.arrays import CUDA
from tilus.runtime.packed import packed
from tilus.runtime.packed_array import PackedArray, is_held
from tilus.runtime.program import FusedKernel, Program
from tilus.runtime.recognise import as_array

if TYPE_CHECKING:
    from tilus.runtime.cpu.plan import Maker


class FusedPlan:
    """A call, but for its arguments: ``sources`` says for each input of the kernel its position, its name and its
    default, ``model`` and ``model_name`` which argument outputs are made after."""

    def __init__(self, program: Program, kernel: FusedKernel, engine_name: str, sources: list[tuple[int, str, Any]],
                 shapes: list[tuple[int, ...]], model: int, model_name: str) -> None:
        self.program, self.kernel, self.engine_name, self.sources = program, kernel, engine_name, sources
        self.shapes, self.model, self.model_name = shapes, model, model_name
        self.launch: Callable[[Sequence[int]], bool] | None = None
        self.device: Any = None
        self.native: Any = None
        self.quickens = True

    def run(self, fused: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
        outputs, values = self.bound(fused, args, kwargs, out)
        self.kernel.called_on(self.engine_name)(*values)
        if self.native is None and out is None:
            self.native = self.kernel.planned(self.engine_name, values)[0]
        if self.launch is None and out is None and all(map(args_.is_torch, (*values, *outputs))):
            self.device = outputs[0].device
            self.launch = self.kernel.launcher(self.engine_name, values)
        return tuple(outputs) if self.program.several else outputs[0]

    def run_on_tensors(self, addresses: Sequence[int | None]) -> Any:
        """A call like an earlier one on tensors of torch that lie at these addresses, by position, for outputs that are
        new: nothing else needs to be looked at. None where it cannot be done so."""
        if self.launch is None or len(addresses) <= self.last_source:
            return None
        outputs = [new() for new in self.torch_outputs]
        places = [addresses[place] for place, _, _ in self.sources]
        if None in places or not self.launch([*places, *[o.data_ptr() for o in outputs]]):  # type: ignore[list-item]
            return None
        return tuple(outputs) if self.program.several else outputs[0]

    @functools.cached_property
    def last_source(self) -> int:
        return max(place for place, _, _ in self.sources)

    @functools.cached_property
    def torch_outputs(self) -> list[Callable[[], Any]]:
        """What makes the outputs, as tensors."""
        from tilus.runtime.torch_arrays import maker

        return [maker(shape, dtype, self.device)
                for (dtype, _), shape in zip(self.program.outputs, self.shapes, strict=True)]

    def makers(self, model: Any) -> list[Maker] | None:
        """What makes the outputs where they are made after an array, and what gives their addresses; None for arrays of
        other libraries."""
        if type(model) is self.numpy_class:
            return None if self.numpy_outputs is None else [(make, None) for make in self.numpy_outputs]
        if self.launch is not None:
            return [(make, type(model).data_ptr) for make in self.torch_outputs]
        if type(model).__module__.partition(".")[0] == "cupy" and all(is_held(d) for d, _ in self.program.outputs):
            import cupy

            return [(functools.partial(cupy.empty, shape, dtype.numpy), _cupy_address)
                    for (dtype, _), shape in zip(self.program.outputs, self.shapes, strict=True)]
        return None

    def quick(self, fused: Any, args: tuple[Any, ...], engine: str | None) -> Any:
        """What the compiled call knows of calls like this one; None where it has none such."""
        specs = fused.signature.specs
        makers = self.makers(args[self.model]) if self.model < len(args) else None
        if self.native is None or makers is None or len(args) > len(specs):
            return None
        places = {i: place for i, (place, _, _) in enumerate(self.sources)}
        values = [*args, *(spec.default for spec in specs[len(args):])]
        constants = {i: value for i, value in enumerate(values) if i not in places.values()}
        fail = entry(self.native.kernel.check, fused.__name__, *fused.entry_place)
        return self.native.quick_results(places, constants, makers, self.program.several, fail, engine)

    def bound(self, fused: Any, args: tuple[Any, ...], kwargs: dict[str, Any],
              out: Any) -> tuple[list[Any], tuple[Any, ...]]:
        """The outputs, new ones where the call gives none, and what the kernel is called with."""
        program = self.program
        if out is None:
            model = args[self.model] if self.model < len(args) else kwargs[self.model_name]
            made = self.numpy_outputs if type(model) is self.numpy_class else None
            outputs = [new() for new in made] if made else [
                empty_like(model, shape, dtype)
                for (dtype, _), shape in zip(program.outputs, self.shapes, strict=True)]
        else:
            outputs = list(out) if program.several and isinstance(out, (tuple, list)) else [out]
            if len(outputs) != len(program.outputs):
                raise call_error("E0604", f"{fused.__name__} has {len(program.outputs)} outputs, but `out` has "
                                          f"{len(outputs)}")
        inputs = [args[place] if place < len(args) else kwargs.get(name, default)
                  for place, name, default in self.sources]
        if not program.flat:
            return outputs, (*inputs, *outputs)
        passed = [o.reshape(1) if i in program.flat and hasattr(o, "reshape") else o for i, o in enumerate(outputs)]
        return outputs, (*inputs, *passed)

    @functools.cached_property
    def numpy_class(self) -> type:
        import numpy as np

        return np.ndarray

    @functools.cached_property
    def numpy_outputs(self) -> list[Callable[[], Any]] | None:
        """What makes the outputs where the model is an array of NumPy's; None where some are of types that it lacks."""
        import numpy as np

        if not all(is_held(dtype) for dtype, _ in self.program.outputs):
            return None
        return [functools.partial(np.empty, shape, dtype.numpy)
                for (dtype, _), shape in zip(self.program.outputs, self.shapes, strict=True)]


def _cupy_address(array: Any) -> int:
    """Of an array of CuPy's."""
    return int(array.data.ptr)


def empty_like(owner: Any, shape: tuple[int, ...], dtype: DType) -> Any:
    """An uninitialised array of the same kind as ``owner``, on the same device; packed where the elements are."""
    import numpy as np

    if isinstance(owner, PackedArray):
        owner = owner.base
    if not is_held(dtype):
        size = -(-math.prod(shape) * dtype.packed_bits // 8)
        return packed(empty_like(owner, (size,), u8), dtype, shape)
    if type(owner) is np.ndarray:
        return np.empty(shape, dtype.numpy)
    if args_.is_torch(owner):
        from tilus.runtime import torch_arrays

        return torch_arrays.empty_like(owner, shape, dtype)
    found = as_array(owner)
    if found is not None and found.kind == CUDA:
        import cupy

        return cupy.empty(shape, dtype.numpy)
    return np.empty(shape, dtype.numpy)


__all__ = ["FusedPlan", "empty_like"]
