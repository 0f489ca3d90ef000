"""``@tl.fuse``: the object that a fused function is.

A call binds its arguments, finds the program for their element types, ranks and extents of 1, computes the extents of
the outputs, allocates those, and calls a kernel whose parameters are inputs and outputs: a
:class:`~tilus.runtime.jit.JitFunction` whose specialisations are traced by tiling.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, overload

from tilus.diagnostics import Span
from tilus.diagnostics.entry import entry, public, public_function
from tilus.diagnostics.frames import caller_span
from tilus.ir.annotations import ArrayAnnotation, OptionalAnnotation, UnionAnnotation
from tilus.ir.core import Module
from tilus.ir.dtypes import DType
from tilus.lang import context as tracing
from tilus.lang.capture import CapturedFunction
from tilus.lang.constants import constant_key
from tilus.lang.signature import MISSING, ParameterSpec, Signature, is_constant_annotation, refuse_storage_scalars
from tilus.runtime import arguments as args_
from tilus.runtime.arguments import call_error
from tilus.runtime.arrays import CUDA, HOST, ArrayArgument
from tilus.runtime.engines import Front, default_engine
from tilus.runtime.fused_plan import FusedPlan
from tilus.runtime.jit import MAX_PLANS, NOT_TRACING, Prepared, _engine
from tilus.runtime.keys import array_key
from tilus.runtime.program import Program
from tilus.runtime.scalars import what_is
from tilus.runtime.traced import TracedFunction

if TYPE_CHECKING:
    from tilus.lang.arrays import ArraySpec
    from tilus.lowering.array.tiles import TileTable
    from tilus.runtime.nvidia.kernel import CompiledKernel

TILES = ("BM", "BN", "BK", "stages", "warps", "unroll", "prefetch", "raster")
_LEAST = {"stages": 0, "raster": 0}
"""The least value of those for which it is not 1."""


def call_key(chosen: Any, args: tuple[Any, ...], kwargs: dict[str, Any],
             addresses: list[int | None] | None = None) -> Any:
    """What a call on a chosen engine depends on; None where an argument is neither an array of NumPy's or torch's own
    class nor a plain Python value. ``addresses`` gets those of tensors, and None for other arguments."""
    import numpy as np

    key: list[Any] = [chosen]
    for value in args if not kwargs else (*args, *kwargs.values()):
        kind, address = type(value), None
        if kind is np.ndarray:
            key += (value.dtype, value.shape, value.flags.c_contiguous)
        elif kind in (int, float, bool, str, type(None)):
            key += (kind, str(value) if kind is float else value)  # 0.0 and -0.0 are two constants
        else:
            found = array_key(value)
            if found is None:
                return None
            address = found[0]
            key.append(kind)
            key += found[1]
        if addresses is not None:
            addresses.append(address)
    return (*key, len(args), *kwargs)


class FusedFunction(TracedFunction):
    """A function of whole arrays that is compiled to few kernels. Call it on arrays: the outputs are allocated, of the
    arrays' kind, unless ``out=`` gives them. ``on`` chooses the engine, ``compile`` gives cubins without running.

    ``BM``, ``BN``, ``BK``, ``stages`` and ``warps`` as keywords override the tile sizes, ``unroll``, ``prefetch`` and
    ``raster`` the schedule of contractions (as of ``tl.range`` and ``tl.block``).
    """

    __name__: str
    gives_outputs = True
    """Whether a call returns the outputs of its kernels as they are."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.captured = self.__tilus_captured__ = CapturedFunction(function)
        refuse_storage_scalars(self.captured)
        self.function = function
        functools.update_wrapper(self, function)
        self._programs: dict[Any, Program] = {}
        self._plans: dict[Any, FusedPlan] = {}
        self._caller: Any = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<tilus fused function {self.__name__}>"

    @functools.cached_property
    def signature(self) -> Signature:
        return Signature(self.captured)

    def forget(self) -> None:
        self._programs, self._plans, self._caller = {}, {}, None
        self.__dict__.pop("called", None)

    @functools.cached_property
    def _tiles(self) -> tuple[str, ...]:
        return tuple(n for n in TILES if n not in self.signature.names)

    def span(self, name: str) -> Span | None:
        """Where a parameter is declared; the function itself for an output."""
        known = name in self.signature.names
        found: Span = self.signature.span(name) if known else self.captured.span(self.captured.node)
        return found

    def array_level(self, arrays: tuple[ArraySpec, ...], scalars: tuple[tuple[str, DType], ...],
                    constants: dict[str, Any]) -> tuple[Module, bool]:
        """See :class:`~tilus.runtime.program.Source`."""
        from tilus.lang.arrays import trace_arrays

        return trace_arrays(self.captured, arrays, scalars, constants, self.reads)

    # -- calls

    @public
    def call(self, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        """The outputs for these arrays: one array, or a tuple where the function returns one.

        Raises:
            UserError: E0601 to E0604 where an argument does not fit; errors of tracing and compilation.
        """
        if tracing.active():
            return self.function(*args, **kwargs)
        return self._run(_engine.get(), args, out, kwargs)

    @public
    def on(self, engine_name: str) -> Callable[..., Any]:
        """The function on a given engine: ``mlp.on("interpret")(x, w, b)``."""
        from tilus.runtime.engines import check_engine

        check_engine(engine_name)
        return entry(lambda *args, out=None, **kwargs: self._run(engine_name, args, out, kwargs, True),
                     self.__name__,
                     *self.entry_place)

    def _run(self, chosen: str | None, args: tuple[Any, ...], out: Any, kwargs: dict[str, Any],
             named: bool = False) -> Any:
        """A call on the engine that was chosen, ``named`` where the context had no say in that."""
        if chosen == "python":
            raise call_error("E0507", "fused functions do not run on the engine 'python'",
                             help="`interpret` runs their kernels in NumPy")
        self.refresh()
        addresses: list[int | None] = []
        key = call_key(chosen, args, kwargs, addresses)
        plan = None if key is None else self._plans.get(key)
        if plan is not None and out is None and not kwargs:
            if plan.quickens and not named and self.gives_outputs:
                self._quicken(plan, args, chosen)
            found = plan.run_on_tensors(addresses)
            if found is not None:
                return found
        if plan is None:
            plan = self._plan(chosen, args, kwargs)
            if key is not None and not plan.program.scalars:
                if len(self._plans) >= MAX_PLANS:
                    self._plans.clear()
                self._plans[key] = plan
        return plan.run(self, args, kwargs, out)

    def _quicken(self, plan: FusedPlan, args: tuple[Any, ...], engine: str | None) -> None:
        """Calls like one that has been done before are compiled ones from now on, where that is possible."""
        from tilus.runtime.cpu.quick import Caller, is_known

        plan.quickens = False
        quick = plan.quick(self, args, engine) if is_known() else None
        if quick is None:
            return
        specs = self.signature.specs
        front = Front([s.name for s in specs], [s.default for s in specs], self.call, self.reads, [NOT_TRACING],
                      _engine)
        if self._caller is None or not self._caller.is_for(front):
            self._caller = Caller(front)
        self._caller.add(quick)
        self.__dict__["called"] = self._caller.function

    def allocate(self, chosen: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a call returns, not computed yet: for `out`."""
        plan = self._plan(chosen, args, kwargs)
        outputs, _ = plan.bound(self, args, kwargs, None)
        return tuple(outputs) if plan.program.several else outputs[0]

    def prepared(self, chosen: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Prepared:
        """A call that is checked, but neither compiled nor run. Raises UserError as calls do."""
        self.refresh()
        given = {name: value for name, value in kwargs.items() if name != "out"}
        plan = self._plan(chosen, args, given)
        _, values = plan.bound(self, args, given, kwargs.get("out"))
        return plan.kernel.prepared(plan.engine_name, values, {})

    def _plan(self, chosen: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> FusedPlan:
        """What a call with arguments of these types and shapes does, with everything checked but ``out``."""
        from tilus.backends import engine_backend

        overrides = {n: kwargs[n] for n in self._tiles if n in kwargs}
        values = self._bind(args, {n: v for n, v in kwargs.items() if n not in overrides})
        arrays: dict[str, ArrayArgument] = {}
        for name, value in values.items():
            found = None if isinstance(value, (bool, int, float)) else args_.take_array(name, value, self.span(name))
            if found is not None:
                arrays[name] = found
        on_gpu = any(a.kind == CUDA for a in arrays.values())
        engine_name = chosen or default_engine(CUDA if on_gpu else HOST)
        described = {n: (a.dtype, tuple(1 if e == 1 else None for e in a.shape)) for n, a in arrays.items()}
        backend = engine_backend(engine_name)
        tiles = backend.tiles() if backend else _default_tiles()
        program = self.program_for(values, described, tiles, self._sizes(overrides))
        extents = program.extents(arrays)
        shapes = [() if i in program.flat else tuple(extents[e] if isinstance(e, str) else e for e in shape)
                  for i, (_, shape) in enumerate(program.outputs)]
        names = [s.name for s in program.arrays] + [name for name, _ in program.scalars]
        places = {name: i for i, name in enumerate(self.signature.names)}
        sources = [(places[n], n, values[n] if places[n] >= len(args) and n not in kwargs else None) for n in names]
        model = next(iter(arrays))
        return FusedPlan(program, program.fitted(arrays, extents), engine_name, sources, shapes, places[model], model)

    def python_signature(self) -> inspect.Signature:
        """How Python binds the arguments of a call."""
        return inspect.signature(self.function)

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        try:
            bound = self.python_signature().bind(*args, **kwargs)
        except TypeError as error:
            raise call_error("E0604", f"{self.__name__}: {error}", help=f"it has {', '.join(self.signature.names)}",
                             declared=self.captured.span(self.captured.node)) from None
        bound.apply_defaults()
        return dict(bound.arguments)

    def _sizes(self, overrides: dict[str, Any]) -> dict[str, int]:
        for name, value in overrides.items():
            if name == "prefetch":
                if not isinstance(value, bool):
                    raise call_error("E0601", f"prefetch is True or False, not {value!r}")
            elif isinstance(value, bool) or not isinstance(value, int) or value < _LEAST.get(name, 1):
                raise call_error("E0601", f"{name} is an integer of {_LEAST.get(name, 1)} or more, not {value!r}")
        return overrides

    def _annotation(self, spec: ParameterSpec, constants: dict[str, Any]) -> Any:
        return None if spec.annotation is None else self.signature.annotation(spec, constants)

    def program_for(self, values: dict[str, Any], described: Mapping[str, tuple[DType, tuple[int | None, ...]]],
                    tiles: TileTable, overrides: dict[str, int]) -> Program:
        """The program for values of parameters; ``described`` has element types and known extents of the arrays."""
        arrays: list[ArraySpec] = []
        scalars: list[tuple[str, DType]] = []
        constants: dict[str, Any] = {}
        for spec in self.signature.specs:
            annotation = self._annotation(spec, constants)
            value = values[spec.name]
            inner = annotation.inner if isinstance(annotation, OptionalAnnotation) else annotation
            if spec.name in described:
                arrays.append(self._array(spec.name, inner, *described[spec.name]))
            elif isinstance(inner, DType) and value is not None:
                scalars.append((spec.name, inner))
            elif value is None and isinstance(annotation, OptionalAnnotation):
                constants[spec.name] = None
            elif annotation is not None and not is_constant_annotation(annotation):
                raise call_error("E0601", f"{spec.name!r} is {what_is(value)}, but the parameter is "
                                          f"{annotation}", declared=self.span(spec.name))
            else:
                constants[spec.name] = value
        if not arrays:
            raise call_error("E0601", f"{self.__name__} is given no array",
                             declared=self.captured.span(self.captured.node))
        try:
            key = (tuple(arrays), tuple(scalars), tuple((n, constant_key(v)) for n, v in constants.items()), tiles,
                   tuple(overrides.items()))
            found = self._programs.get(key)
        except TypeError:
            bad = next(n for n, v in constants.items() if not _hashable(v))
            raise call_error("E0601", f"{bad!r} is {what_is(constants[bad])}, neither an array nor a "
                                      "compile-time value with a hash", declared=self.span(bad)) from None
        if found is None:
            with self._lock:
                found = self._programs.get(key) or Program(self, tuple(arrays), tuple(scalars), constants, tiles,
                                                           overrides)
                self._programs[key] = found
        return found

    def _array(self, name: str, annotation: Any, dtype: DType, known: tuple[int | None, ...]) -> ArraySpec:
        from tilus.lang.arrays import ArraySpec

        if isinstance(annotation, UnionAnnotation):
            annotation = annotation.option(dtype) or annotation
        if isinstance(annotation, ArrayAnnotation):
            if annotation.dtype is not dtype or annotation.rank != len(known):
                raise call_error("E0601", f"{name!r} is an array of {dtype} of rank {len(known)}, but the parameter is "
                                          f"{annotation}", declared=self.span(name))
            dims: tuple[str | int, ...] = annotation.dims
            bad = next((d for d in dims if isinstance(d, str) and not d.isidentifier()), None)
            if bad is not None:
                raise call_error("E0601", f"the dimension {bad!r} of {name!r} is an expression, which fused functions "
                                          "do not take", declared=self.span(name))
        elif annotation is None:
            dims = tuple(f"{name}_{axis}" for axis in range(len(known)))
        else:
            raise call_error("E0601", f"{name!r} is an array, but the parameter is {annotation}",
                             declared=self.span(name))
        return ArraySpec(name, dtype, tuple(1 if n == 1 else d for n, d in zip(known, dims, strict=True)))

    # -- without a call

    def program(self, target: str, constants: dict[str, Any]) -> Program:
        """The program for annotated parameters, or those that ``constants`` gives an array type
        (``x=tl.f16["M", "K"]``) or a value."""
        from tilus.backends import backend_of
        from tilus.targets import get_target

        overrides = self._sizes({n: constants.pop(n) for n in self._tiles if n in constants})
        described: dict[str, tuple[DType, tuple[int | None, ...]]] = {}
        annotations: dict[str, Any] = {}
        values: dict[str, Any] = {}
        for name in constants:
            if name not in self.signature.names:
                raise call_error("E0604", f"{self.__name__} has no parameter {name!r}")
        for spec in self.signature.specs:
            given = constants.get(spec.name, MISSING)
            annotation = given if isinstance(given, ArrayAnnotation) else self._annotation(spec, {})
            inner = annotation.inner if isinstance(annotation, OptionalAnnotation) and given is not None else annotation
            inner = inner.options[0] if isinstance(inner, UnionAnnotation) else inner
            if isinstance(inner, ArrayAnnotation):
                described[spec.name] = (inner.dtype, tuple(d if isinstance(d, int) else None for d in inner.dims))
                annotations[spec.name] = inner
            elif isinstance(inner, DType):
                given = 0
            elif given is MISSING:
                given = spec.default
            if given is MISSING and spec.name not in described:
                raise call_error("E0604", f"{self.__name__} is not given {spec.name!r}", declared=self.span(spec.name),
                                 help=f'give an array type, `{spec.name}=tl.f32["M", "N"]`, or a value')
            values[spec.name] = given
        tiles = backend_of(get_target(target, caller_span())).tiles()
        return self._program_of(values, described, annotations, tiles, overrides)

    def _program_of(self, values: dict[str, Any], described: Any, annotations: dict[str, Any], tiles: TileTable,
                    overrides: dict[str, int]) -> Program:
        """As :meth:`program_for`, with named dimensions of given array types."""
        from tilus.lang.arrays import ArraySpec

        arrays = tuple(ArraySpec(n, a.dtype, a.dims) for n, a in annotations.items())
        scalars = tuple((s.name, a) for s in self.signature.specs if s.name not in annotations
                        and isinstance(a := self._annotation(s, {}), DType))
        constants = {n: v for n, v in values.items() if n not in annotations and n not in dict(scalars)}
        return Program(self, arrays, scalars, constants, tiles, overrides)

    @public
    def compile(self, /, target: str = "sm_80", via: str | None = None, *, assume: str = "divisible",
                line_info: bool = False, cpu: str | None = None, triple: str | None = None,
                symbol: str | None = None, **constants: Any) -> CompiledKernel:
        """Compile for a target: parameters have the array types of their annotations, or those given here
        (``x=tl.f16["M", "K"]``). See :meth:`JitFunction.compile`."""
        return self.program(target, dict(constants)).kernel.compile(
            target, via, assume=assume, line_info=line_info, cpu=cpu, triple=triple, symbol=symbol)

    @public
    def explain(self, /, *args: Any, target: str = "sm_80", via: str | None = None, assume: str = "divisible",
                engine: str | None = None, **constants: Any) -> str:
        """What becomes of the function: the array-level module, the kernels, and the resources they take. Parameters
        are given as in a call, or as for :meth:`compile`. With ``engine="cpu"``, how a call runs on this machine
        (:meth:`JitFunction.explain`)."""
        from tilus.ir.printer import print_module
        from tilus.runtime.explain import explain_call

        if engine is not None:
            return explain_call(self, engine, args, constants)
        if args:
            constants = self._described(args, constants)
        program = self.program(target, dict(constants))
        kernel = program.kernel
        specialisation = kernel.assume(assume, {})
        module = specialisation.trace()
        lines = [print_module(Module([program.text_module], None, "array")).rstrip()]
        lines += kernel.fusion()
        lines.append(f"kernels: {', '.join(k.name for k in module.kernels)}")
        lines.append(kernel.explain(target=target, via=via, assume=assume))
        return "\n".join(lines)

    def _described(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a call as those of :meth:`compile`: array types for arrays."""
        overrides = {n: kwargs[n] for n in self._tiles if n in kwargs}
        values = self._bind(args, {n: v for n, v in kwargs.items() if n not in overrides})
        found: dict[str, Any] = dict(overrides)
        for spec in self.signature.specs:
            value = values[spec.name]
            array = None if isinstance(value, (bool, int, float)) else args_.take_array(
                spec.name, value, self.span(spec.name))
            if array is None:
                found[spec.name] = value
                continue
            annotation = self._annotation(spec, {})
            inner = annotation.inner if isinstance(annotation, OptionalAnnotation) else annotation
            array_spec = self._array(spec.name, inner, array.dtype, tuple(1 if n == 1 else None for n in array.shape))
            found[spec.name] = ArrayAnnotation(array.dtype, array_spec.extents)
        return found

    def array_module(self, **constants: Any) -> Module:
        """The array-level module, for ``tilus opt`` and for reading; arguments as for :meth:`compile`."""
        return self.program("sm_80", dict(constants)).trace()


def _default_tiles() -> TileTable:
    """For engines that run tile programs by their meaning."""
    from tilus.lowering.array.tiles import GPU_TILES

    return GPU_TILES


def _hashable(value: Any) -> bool:
    try:
        hash(constant_key(value))
    except TypeError:
        return False
    return True


@overload
def fuse(function: Callable[..., Any], /) -> FusedFunction: ...
@overload
def fuse() -> Callable[[Callable[..., Any]], FusedFunction]: ...
@public_function
def fuse(function: Callable[..., Any] | None = None, /) -> FusedFunction | Callable[..., FusedFunction]:
    """Makes one function over whole arrays into few kernels: elementwise operations, reductions and ``@`` are fused
    and tiled; the call allocates the outputs."""
    return FusedFunction if function is None else FusedFunction(function)


__all__ = ["FusedFunction", "fuse"]
