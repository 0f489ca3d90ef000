"""The call of a fused function in a compiled graph.

Torch guarantees the element types, shapes and strides of a graph's tensors, so that a call only allocates the outputs,
with the strides that torch expects, and hands on to the kernel.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from tilus.backends import engine_backend
from tilus.diagnostics import Diagnostic, Severity, TilusError, warn
from tilus.lowering.array.tiles import GPU_TILES
from tilus.records import record
from tilus.runtime.arguments import take_array
from tilus.runtime.arrays import CUDA, HOST
from tilus.runtime.engines import default_engine
from tilus.runtime.program import FusedKernel
from tilus.torch.extents import Extents, extent_key
from tilus.torch.graph import FusedNodes, eager, tensors_of
from tilus.torch.memory_order import hint, reordered
from tilus.torch.node import is_number
from tilus.torch.partition import Group
from tilus.torch.registry import Refused


@record(eq=False)
class _Plan:
    """What a call on tensors of known shapes does: the kernels, and what makes the outputs; ``flat`` are those of rank
    0, which the kernel takes with one dimension. ``launch`` runs the kernels on addresses alone."""

    kernel: FusedKernel
    makers: list[Callable[[], Any]]
    flat: tuple[int, ...]
    launch: Callable[[list[int]], bool] | None = None


class FusedCall:
    """A group of nodes as a function of its inputs. Where the kernels do not compile, torch runs the nodes, unless
    ``fallback`` is False.

    Attributes:
        fused: the function; shared with groups that say the same.
        failure: the message of the error, where torch runs the nodes.
    """

    def __init__(self, group: Group, fused: FusedNodes, engine: str | None, fallback: bool) -> None:
        self.group, self.fused, self.fallback = group, fused, fallback
        self.failure: str | None = None
        self.metas = [n.meta["val"] for n in group.outputs]
        check_layouts(self.metas)
        tensors = tensors_of(group)
        self.places = [group.inputs.index(n) for n in tensors]
        own = Extents(n.meta["val"] for n in tensors)
        self.numbers = [i for i, n in enumerate(group.inputs) if is_number(n, own)]
        self.all_tensors = len(self.places) == len(group.inputs)
        on_gpu = any(m.device.type == "cuda" for m in self.metas)
        self.engine = engine or default_engine(CUDA if on_gpu else HOST)
        self.device = self.metas[0].device
        self.sources = self._sources([n.meta["val"] for n in tensors])
        self._plans: dict[tuple[int, ...], _Plan] = {}

    def _sources(self, metas: Sequence[Any]) -> list[tuple[int | str, int, int]]:
        """For each extent that torch does not know: which tensor has it, and where."""
        found = {extent_key(n): (i, axis) for i, meta in enumerate(metas) for axis, n in enumerate(meta.shape)}
        return [(key, *place) for key, place in found.items() if isinstance(key, str)]

    def __call__(self, *inputs: Any) -> Any:
        if self.failure is not None:
            return self._eager(*inputs)
        tensors = inputs if self.all_tensors else [inputs[i] for i in self.places]
        numbers = [inputs[i] for i in self.numbers]
        key = tuple([tensors[i].shape[axis] for _, i, axis in self.sources]) if self.sources else ()
        plan = self._plans.get(key)
        if plan is None:
            return self._first(inputs, tensors, numbers, key)
        return self._run(plan, tensors, numbers)

    def _run(self, plan: _Plan, tensors: Sequence[Any], numbers: Sequence[Any]) -> Any:
        outputs = [make() for make in plan.makers]
        launch = plan.launch
        if launch is None or not launch([t.data_ptr() for t in tensors] + [o.data_ptr() for o in outputs]):
            plan.kernel.called_on(self.engine)(*self._taken(tensors), *numbers, *self._passed(plan, outputs))
        return outputs[0] if len(outputs) == 1 else outputs

    def _first(self, inputs: Sequence[Any], tensors: Sequence[Any], numbers: Sequence[Any],
               key: tuple[int, ...]) -> Any:
        """The first call on tensors of such shapes, which compiles."""
        try:
            plan = self._plan(tensors, key)
            result = self._run(plan, tensors, numbers)
            results = [result] if isinstance(result, torch.Tensor) else result
            arguments = [*self._taken(tensors), *numbers, *self._passed(plan, results)]
            plan.launch = plan.kernel.launcher(self.engine, arguments)
        except TilusError as error:
            if not self.fallback:
                raise
            self._give_up(error)
            return self._eager(*inputs)
        self._plans[key] = plan
        return result

    def _plan(self, tensors: Sequence[Any], key: tuple[int, ...]) -> _Plan:
        backend = engine_backend(self.engine)
        program = self.fused.program(backend.tiles() if backend else GPU_TILES)
        arrays = {spec.name: take_array(spec.name, tensor, None)
                  for spec, tensor in zip(self.fused.specs, self._taken(tensors), strict=True)}
        known = {name: array for name, array in arrays.items() if array is not None}
        kernel = program.fitted(known, program.extents(known))
        values = dict(zip([k for k, _, _ in self.sources], key, strict=True))
        makers = [_maker(*_layout(meta, values), meta.dtype, self.device) for meta in self.metas]
        return _Plan(kernel, makers, program.flat)

    def _taken(self, tensors: Sequence[Any]) -> list[Any]:
        """The tensors as the kernel takes them."""
        return reordered(tensors, self.fused.orders)

    def _passed(self, plan: _Plan, outputs: Sequence[Any]) -> list[Any]:
        """The outputs as the kernel takes them."""
        return [o.view(1) if i in plan.flat else o
                for i, o in enumerate(reordered(outputs, self.fused.output_orders))]

    def _give_up(self, error: TilusError) -> None:
        self.failure = error.diagnostics[0].message
        first = error.diagnostics[0]
        operators = ", ".join(dict.fromkeys(self.fused.operators))
        warn(Diagnostic("W0607", f"torch runs {operators}, which did not compile: {first.message}", first.labels,
                        first.help, first.notes, severity=Severity.WARNING))

    def kernels(self) -> list[str]:
        """The names of the kernels, for the shapes of the first call."""
        plan = next(iter(self._plans.values()), None)
        return [] if plan is None else plan.kernel.kernel_names()

    def fusion(self) -> list[str]:
        """What is in memory between the kernels and why, and what is not, for the shapes of the first call."""
        plan = next(iter(self._plans.values()), None)
        return [] if plan is None else [line.strip() for line in plan.kernel.fusion() if line.startswith("  in ")]

    @property
    def _eager(self) -> Callable[..., Any]:
        found = self.__dict__.get("eager")
        if found is None:
            found = self.__dict__["eager"] = eager(self.group).forward
        return found  # type: ignore[no-any-return]


def _maker(size: tuple[int, ...], strides: tuple[int, ...], dtype: Any, device: Any) -> Callable[[], Any]:
    """What makes an uninitialised tensor; on the host by what inductor uses, which takes half the time."""
    quick = getattr(torch._C._dynamo.guards, "_empty_strided_cpu", None)
    if device.type == "cpu" and quick is not None:
        return functools.partial(quick, size, strides, dtype)
    return functools.partial(torch.empty_strided, size, strides, dtype=dtype, device=device)


def check_layouts(metas: Sequence[Any]) -> None:
    """Raise Refused for outputs whose elements share memory, or leave gaps that depend on sizes known at the call
    only."""
    for meta in metas:
        known = all(isinstance(n, int) for n in (*meta.shape, *meta.stride()))
        span = 1
        dims = sorted((hint(stride), hint(n)) for n, stride in zip(meta.shape, meta.stride(), strict=True))
        for stride, n in dims if all(n for _, n in dims) else ():
            if n > 1 and (stride < span or (stride != span and not known)):
                raise Refused(f"a result of shape {tuple(meta.shape)} with strides {tuple(meta.stride())}")
            span += stride * (n - 1)


def _layout(meta: Any, values: dict[int | str, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Size and strides of an output, for values of the extents that torch does not know."""
    keys = [extent_key(n) for n in meta.shape]
    size = tuple(n if isinstance(n, int) else values[n] for n in keys)
    strides = [extent_key(n) for n in meta.stride()]
    if all(isinstance(n, int) for n in strides) and size == tuple(keys):
        return size, tuple(int(n) for n in strides)
    order = sorted(range(len(size)), key=lambda d: (-hint(meta.stride()[d]), d))
    found, running = [0] * len(size), 1
    for d in reversed(order):
        found[d] = running
        running *= max(1, size[d])
    return size, tuple(found)


__all__ = ["FusedCall", "check_layouts"]
