"""Programs: a fused function for given element types, ranks and extents of 1, with the kernels that compute it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from tilus.diagnostics import Span
from tilus.ir.annotations import ArrayAnnotation
from tilus.ir.core import Module
from tilus.ir.dtypes import DType
from tilus.ir.sizes import SIGNS, evaluated
from tilus.ir.types import Extent
from tilus.lang.capture import CapturedFunction
from tilus.lang.signature import MISSING, ParameterSpec
from tilus.runtime.arguments import call_error
from tilus.runtime.arrays import ArrayArgument
from tilus.runtime.jit import JitFunction
from tilus.runtime.specialise import Specialisation

if TYPE_CHECKING:
    from tilus.lang.arrays import ArraySpec
    from tilus.lowering.array import Description, TiledExtents
    from tilus.lowering.array.tiles import TileTable
    from tilus.targets import Target


class Source(Protocol):
    """What a program is made of.

    Attributes:
        captured: its name and place.
    """

    @property
    def captured(self) -> CapturedFunction: ...

    def array_level(self, arrays: tuple[ArraySpec, ...], scalars: tuple[tuple[str, DType], ...],
                    constants: dict[str, Any]) -> tuple[Module, bool]:
        """The array-level module, and whether it gives a tuple. Raises UserError."""

    def span(self, name: str) -> Span | None:
        """Where a parameter is declared."""


class FusedSpecialisation(Specialisation):
    """A specialisation that is tiled rather than traced."""

    program: Program
    bounds: dict[str, int]

    def trace(self, target: Target | None = None) -> Module:
        from tilus.lowering.array import tile_arrays

        self.written = frozenset(self.program.output_names)
        return tile_arrays(self.program.trace(), self._description(), self.program.tiles, self.program.overrides,
                           self.bounds)

    def _description(self) -> Description:
        from tilus.lowering.array import Description

        inputs = tuple(p for p in self.parameters if p.name not in self.program.output_names)
        outputs = tuple(p for p in self.parameters if p.name in self.program.output_names)
        return Description(inputs, outputs)

    def fusion(self) -> list[str]:
        """What is fused, and what is not and why, in lines."""
        from tilus.lowering.array import fusion_of

        return fusion_of(self.program.trace(), self._description(), self.program.tiles)


class _KernelSignature:
    """The inputs and outputs of a program, as the signature of a kernel."""

    def __init__(self, captured: CapturedFunction, annotations: Mapping[str, Any],
                 spans: Callable[[str], Span | None]) -> None:
        self.captured = captured
        self.annotations = dict(annotations)
        self.names = tuple(annotations)
        self.specs = tuple(ParameterSpec(name, None, MISSING) for name in annotations)
        self.binding_order = tuple(range(len(self.specs)))
        self._spans = spans

    def span(self, name: str) -> Any:
        return self._spans(name)

    def annotation(self, spec: ParameterSpec, constants: dict[str, Any]) -> Any:
        return self.annotations[spec.name]


class FusedKernel(JitFunction):
    """The kernels of a program, called with its inputs and then its outputs, for extents up to ``bounds``."""

    def __init__(self, program: Program, signature: _KernelSignature, bounds: dict[str, int]) -> None:
        self._begin(program.source.captured)
        self.program = program
        self.bounds = bounds
        self.__dict__["signature"] = signature

    def specialise(self, constants: dict[str, Any], parameters: Any) -> Specialisation:
        key = tuple(parameters)
        found = self._specialisations.get(key)
        if found is None:
            with self._lock:
                made = FusedSpecialisation(self.__tilus_captured__, self.signature, dict(constants), key)
                made.program, made.bounds = self.program, self.bounds
                found = self._specialisations.setdefault(key, made)
        return found

    def kernel_names(self) -> list[str]:
        """The names of the kernels that calls so far have run; none where there was no call."""
        made = next(iter(self._specialisations.values()), None)
        return [] if made is None else [kernel.name for kernel in made.trace().kernels]

    def fusion(self) -> list[str]:
        """:meth:`FusedSpecialisation.fusion` of calls so far; nothing where there was no call."""
        made = next(iter(self._specialisations.values()), None)
        return made.fusion() if isinstance(made, FusedSpecialisation) else []


class Program:
    """A fused function for given element types, ranks, extents of 1, compile-time values and tile sizes.

    Attributes:
        arrays: the array parameters; scalars: the run-time scalars.
        outputs: element type and extents of each output.
        demands: extents that the call has to check.
        kernel: what runs it, on the arrays, the scalars and the outputs, whatever their extents.
    """

    def __init__(self, source: Source, arrays: tuple[ArraySpec, ...], scalars: tuple[tuple[str, DType], ...],
                 constants: dict[str, Any], tiles: TileTable, overrides: dict[str, int]) -> None:
        from tilus.ir.ops import Reduce
        from tilus.ir.types import extents_of
        from tilus.lowering.array import bounded_accesses, demands, unify_symbols

        self.source, self.arrays, self.scalars, self.constants = source, arrays, scalars, constants
        self.tiles, self.overrides = tiles, overrides
        module, self.several = source.array_level(arrays, scalars, constants)
        self.text_module = module.kernels[0].clone()
        (function,) = module.kernels
        self.flat: tuple[int, ...] = function.attributes.scalars
        self.sizes = function.attributes.sizes
        self.accesses = bounded_accesses(function)
        self.demands = demands(function)
        self.nonempty = [(extents_of(op.x.tile)[op.axis], op.kind, op.span) for op in function.walk()
                         if isinstance(op, Reduce) and op.kind in ("min", "max")]
        self.sources = {n: (spec.name, axis) for spec in reversed(arrays)
                        for axis, n in reversed(list(enumerate(spec.extents))) if isinstance(n, str)}
        self.outputs = [(v.tile.dtype, extents_of(v.tile)) for v in function.body.terminator.operands]
        taken = {s.name for s in arrays} | {name for name, _ in scalars}
        names = ["out"] if len(self.outputs) == 1 else [f"out{i}" for i in range(len(self.outputs))]
        self.output_names = [_fresh(name, taken) for name in names]
        unify_symbols(module)
        self.unified = module
        self.kernel = self._kernel({})
        self.kernels: dict[tuple[tuple[str, int], ...], FusedKernel] = {(): self.kernel}
        self._tiled: dict[tuple[bool, ...], TiledExtents] = {}

    def fitted(self, arrays: Mapping[str, ArrayArgument], extents: Mapping[str, int]) -> FusedKernel:
        """The kernel for arrays like these."""
        contiguous = tuple(arrays[spec.name].is_contiguous for spec in self.arrays)
        tiled = self._tiled.get(contiguous)
        if tiled is None:
            tiled = self._tiled[contiguous] = self._tiled_extents(dict(zip(self.arrays, contiguous, strict=True)))
        key = tuple(tiled.bounds(extents).items())
        found = self.kernels.get(key)
        if found is None:
            found = self.kernels.setdefault(key, self._kernel(dict(key)))
        return found

    def _kernel(self, bounds: dict[str, int]) -> FusedKernel:
        return FusedKernel(self, self._signature(), bounds)

    def _tiled_extents(self, contiguous: Mapping[ArraySpec, bool]) -> TiledExtents:
        """For contiguous outputs: others are rare, and this is about speed."""
        from tilus.lowering.array import TiledExtents, default_parameters

        module = self.trace()
        described = default_parameters(module.kernels[0])
        inputs = [replace(p, contiguous=held) for p, held in zip(described.inputs, contiguous.values(), strict=False)]
        return TiledExtents(module, inputs + list(described.inputs[len(inputs):]), described.outputs)

    def trace(self) -> Module:
        """A new copy of the array-level module, with its symbols unified."""
        return Module([self.unified.kernels[0].clone()], None, "array")

    def _signature(self) -> _KernelSignature:
        from tilus.ir.types import extents_of

        (function,) = self.unified.kernels
        annotations: dict[str, Any] = {}
        for spec, value in zip(self.arrays, function.body.args, strict=False):
            annotations[spec.name] = ArrayAnnotation(spec.dtype, extents_of(value.tile))
        annotations.update(self.scalars)
        for name, value in zip(self.output_names, function.body.terminator.operands, strict=True):
            annotations[name] = ArrayAnnotation(value.tile.dtype, extents_of(value.tile))
        return _KernelSignature(self.source.captured, annotations, self.source.span)

    def extents(self, arrays: Mapping[str, ArrayArgument]) -> dict[str, int]:
        """The value of every symbol. Raises UserError (E0602) where extents that have to be equal are not."""
        values = {symbol: arrays[name].shape[axis] for symbol, (name, axis) in self.sources.items()}
        for spec in self.arrays:
            for axis, (symbol, n) in enumerate(zip(spec.extents, arrays[spec.name].shape, strict=True)):
                expected = values[symbol] if isinstance(symbol, str) else symbol
                if expected != n:
                    raise call_error("E0602", f"dimension {symbol!r} is {expected}, but {spec.name}.shape[{axis}] = "
                                              f"{n}", declared=self.source.span(spec.name))
        values = evaluated(self.sizes, values)
        for demand in self.demands:
            m, n = (values[e] if isinstance(e, str) else e for e in (demand.left, demand.right))
            if m != n:
                raise call_error("E0602", f"the extents of a {demand.what} differ: {self._place(demand.left)} = {m} "
                                          f"and {self._place(demand.right)} = {n}", declared=demand.span,
                                 note="they meet here")
        for extent, kind, span in self.nonempty:
            if (values[extent] if isinstance(extent, str) else extent) == 0:
                raise call_error("E0602", f"tl.{kind} over an empty axis has no value: {self._place(extent)} = 0",
                                 declared=span, note="reduced here")
        for access in self.accesses:
            found = access.outside(values)
            if found is not None:
                extent, index = found
                raise call_error("E0602", f"index {index} is out of range: {self._place(extent)} = "
                                          f"{values.get(str(extent), extent)}", declared=access.span, note="used here")
        return values

    def _place(self, extent: Extent) -> str:
        if isinstance(extent, int):
            return "the constant"
        made = next((size for size in self.sizes if size[0] == extent), None)
        if made is not None:
            _, kind, *operands = made
            a, b = (str(n) if isinstance(n, int) else self._place(n) for n in operands)
            return f"{kind}({a}, {b})" if kind in ("min", "max") else f"({a} {SIGNS[kind]} {b})"
        name, axis = self.sources[extent]
        return f"{name}.shape[{axis}]"


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


__all__ = ["FusedKernel", "Program", "Source"]
