"""``@tl.jit``: the object that a kernel is, and what a call of it does.

A call is matched against plans by a cheap key (element types, shapes, strides, alignment, compile-time values); a plan
has everything checked and packed but the addresses. A call without a plan is bound, checked, described and given to an
engine.
"""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from tilus.diagnostics import Diagnostic, Severity, UserError, warn
from tilus.diagnostics.entry import entry, public, public_function
from tilus.diagnostics.frames import caller_span
from tilus.ir.annotations import ArrayAnnotation, OptionalAnnotation, UnionAnnotation
from tilus.ir.core import Parameter
from tilus.ir.dtypes import DType
from tilus.lang import context as tracing
from tilus.lang.capture import CapturedFunction
from tilus.lang.constants import constant_key
from tilus.lang.reads import Check, Reads
from tilus.lang.signature import (
    MISSING,
    ParameterSpec,
    Signature,
    is_constant_annotation,
    refuse_storage_scalars,
    type_key,
)
from tilus.runtime import arguments as args_
from tilus.runtime.arguments import call_error
from tilus.runtime.arrays import CUDA, HOST, ArrayArgument
from tilus.runtime.engines import Front, Plan, default_engine
from tilus.runtime.keys import call_key
from tilus.runtime.scalars import convert_constant, convert_scalar, what_is
from tilus.runtime.specialise import Specialisation
from tilus.runtime.traced import TracedFunction

if TYPE_CHECKING:
    from tilus.runtime.engines import Engine
    from tilus.runtime.nvidia.kernel import CompiledKernel

MAX_PLANS = 4096
MANY_SPECIALISATIONS = 8
NOT_TRACING = Check("attribute", tracing.STATE, "context", None)
"""Holds for calls that run rather than being traced."""
_engine: contextvars.ContextVar[str | None] = contextvars.ContextVar("tilus_engine", default=None)


@public_function
def engine(name: str) -> AbstractContextManager[None]:
    """Calls of kernels inside the ``with`` block run on this engine: ``"cpu"``, ``"interpret"``, ``"python"``,
    ``"cuda"`` or ``"simulate:sm_80"`` (``"cuda:cuda"`` and ``"simulate:sm_80:cuda"`` by way of CUDA C)."""
    from tilus.runtime.engines import check_engine

    check_engine(name)
    return _with_engine(name)


@contextmanager
def _with_engine(name: str) -> Iterator[None]:
    token = _engine.set(name)
    try:
        yield
    finally:
        _engine.reset(token)


class JitFunction(TracedFunction):
    """A kernel. Call it on arrays; ``on`` chooses the engine, ``compile`` gives its cubin without running it."""

    __name__: str

    def __init__(self, function: Callable[..., Any], engine_name: str | None = None) -> None:
        captured = CapturedFunction(function)
        refuse_storage_scalars(captured)
        self._begin(captured, engine_name)
        self.function = function
        functools.update_wrapper(self, function)

    def _begin(self, captured: CapturedFunction, engine_name: str | None = None) -> None:
        TracedFunction.__init__(self)
        self.__tilus_captured__ = captured
        self.__name__ = self.__qualname__ = captured.name
        self.engine_name = engine_name
        self._lock = threading.Lock()
        self._plans: dict[Any, Plan] = {}
        self._specialisations: dict[Any, Specialisation] = {}
        self._values_seen: dict[str, set[Any]] = {}
        self._on: dict[str, Callable[..., None]] = {}
        self._callers: dict[str | None, Any] = {}
        self._fast: tuple[tuple[bool, ...], tuple[Any, ...], dict[str, int]] | None = None

    def __repr__(self) -> str:
        return f"<tilus kernel {self.__qualname__}>"

    def forget(self) -> None:
        self._plans, self._specialisations = {}, {}
        self._on, self._callers = {}, {}
        self.__dict__.pop("called", None)

    @functools.cached_property
    def signature(self) -> Signature:
        return Signature(self.__tilus_captured__)

    # -- calls

    @public
    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Run on arrays, scalars and compile-time values, on the engine that fits the arrays.

        Raises:
            UserError: E0601 to E0604 where an argument does not fit; errors of tracing and compilation.
        """
        if tracing.active():
            from tilus.runtime.eager import runnable

            return runnable(self.__tilus_captured__)(*args, **kwargs)  # inlined into one that Python itself runs
        chosen = _engine.get() or self.engine_name
        self._run(chosen, args, kwargs)
        return None

    @public
    def on(self, engine_name: str) -> Callable[..., None]:
        """The kernel on a given engine: ``kernel.on("interpret")(a, b)``."""
        from tilus.runtime.engines import check_engine

        check_engine(engine_name)
        return entry(lambda *args, **kwargs: self.called_on(engine_name)(*args, **kwargs), self.__name__,
                     *self.entry_place)

    def called_on(self, engine_name: str) -> Callable[..., None]:
        """What runs it on an engine, whatever the context says."""
        found = self._on.get(engine_name)
        if found is None:
            found = self._on[engine_name] = functools.partial(self._run_on, engine_name)
        return found

    def _run_on(self, engine_name: str, /, *args: Any, **kwargs: Any) -> None:
        self._run(engine_name, args, kwargs, named=True)

    def _run(self, chosen: str | None, args: tuple[Any, ...], kwargs: dict[str, Any], named: bool = False) -> None:
        """A call on the engine that was chosen, ``named`` where the context had no say in that."""
        reads = self.reads
        if not reads.unchanged():
            self.refresh()
            reads = self.reads
        fast = self._fast
        if fast is None:
            values = self._bind(args, kwargs)
        else:
            constants, defaults, places = fast
            values = list(args)
            if len(args) != len(defaults) or kwargs:
                if len(args) > len(defaults):
                    self._bind(args, kwargs)
                values += defaults[len(args) :]
                for name, value in kwargs.items():
                    place = places.get(name, -1)
                    if place < len(args):
                        self._bind(args, kwargs)
                    values[place] = value
            found = call_key(chosen, values, constants)
            if found is not None:
                key, addresses = found
                plan = self._plans.get(key)
                if plan is not None:
                    plan(values, addresses)
                    if plan.quickens:
                        self._quicken(chosen, plan, reads, named)
                    return
            if any(v is MISSING for v in values):
                self._bind(args, kwargs)
        self._slow(chosen, values)

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        """One value for each parameter."""
        signature = self.signature
        names = signature.names
        if len(args) > len(names):
            plural = "" if len(names) == 1 else "s"
            raise call_error("E0604", f"{self.__name__} takes {len(names)} argument{plural}, not {len(args)}")
        values = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name not in names:
                import difflib

                near = difflib.get_close_matches(name, names, 1)
                raise call_error("E0604", f"{self.__name__} has no parameter {name!r}",
                                 help=f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names)}")
            if name in values:
                raise call_error("E0604", f"{self.__name__} is given {name!r} twice")
            values[name] = value
        missing = [s.name for s in signature.specs if s.name not in values and s.default is MISSING]
        if missing:
            raise call_error("E0604", f"{self.__name__} is not given {', '.join(map(repr, missing))}",
                             declared=signature.span(missing[0]))
        return [values.get(s.name, s.default) for s in signature.specs]

    def _slow(self, chosen: str | None, values: list[Any]) -> None:
        call, runner_engine, specialisation = self._resolve(chosen, values)
        runner = runner_engine.runner(specialisation)
        call.check_written(specialisation)
        if any(array.format for _, _, array in call.arrays):
            call.check_formats(runner)
        self._remember(chosen, call, specialisation, runner)
        runner.run(call.arguments)
        args_.mark_written([array for name, _, array in call.arrays if name in (specialisation.written or ())])

    def _resolve(self, chosen: str | None, values: list[Any]) -> tuple[Call, Engine, Specialisation]:
        """What a call with these values of all parameters runs, and on which engine."""
        from tilus.runtime.engines import get_engine

        call = Call(self, values)
        name = chosen or call.default_engine()
        runner_engine = get_engine(name)
        if call.kinds and runner_engine.kind not in call.kinds:
            where = "GPU" if runner_engine.kind == HOST else "host"
            raise call_error("E0601", f"the engine {name!r} cannot run on {where} arrays")
        return call, runner_engine, self.specialise(call.constants, runner_engine.assumed(call.parameters))

    def prepared(self, chosen: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Prepared:
        """A call that is checked, but neither compiled nor run. Raises UserError as calls do."""
        self.refresh()
        return Prepared(*self._resolve(chosen, self._bind(args, kwargs)))

    def launcher(self, chosen: str, values: Sequence[Any]) -> Callable[[Sequence[int]], bool] | None:
        """What repeats an earlier call on arrays of which the caller gives the addresses only; see
        :meth:`tilus.runtime.cpu.plan.NativePlan.launcher`. None where the engine has nothing of the kind."""
        plan, addresses = self.planned(chosen, values)
        return None if plan is None else plan.launcher(addresses)

    def planned(self, chosen: str, values: Sequence[Any]) -> tuple[Plan | None, list[int]]:
        """The plan of an earlier call, if there is one, and the addresses of its arrays."""
        found = None if self._fast is None else call_key(chosen, values, self._fast[0])
        return (None, []) if found is None else (self._plans.get(found[0]), found[1])

    def _remember(self, chosen: str | None, call: Call, specialisation: Specialisation, runner: Any) -> None:
        """Make a plan, so that a call like this one is cheap from now on."""
        specs = self.signature.specs
        constants = tuple(call.is_constant[s.name] for s in specs)
        self._fast = constants, tuple(s.default for s in specs), {s.name: i for i, s in enumerate(specs)}
        plan = runner.plan(call, specialisation)
        found = None if plan is None else call_key(chosen, call.values, constants)
        if plan is None or found is None:
            return
        if len(self._plans) >= MAX_PLANS:
            self._plans.clear()
        self._plans[found[0]] = plan

    def _quicken(self, chosen: str | None, plan: Plan, reads: Reads, named: bool) -> None:
        """Calls like the one that a plan has done take the engine's quicker way from now on, where there is one."""
        engine = None if named else _engine.get()
        if self.reads is not reads or not (named or (engine or self.engine_name) == chosen):
            return
        specs = self.signature.specs
        names, defaults = [s.name for s in specs], [s.default for s in specs]
        if named and chosen is not None:
            front = Front(names, defaults, functools.partial(self._run_on, chosen), reads, [], None)
        else:
            front = Front(names, defaults, self.call, reads, [NOT_TRACING], _engine)
        place = chosen if named else None
        caller = plan.quicken(front, self._callers.get(place), engine)
        if caller is not None:
            self._callers[place] = caller
            if place is not None:
                self._on[place] = caller.function
            else:
                self.__dict__["called"] = caller.function

    # -- specialisations

    def specialise(self, constants: dict[str, Any], parameters: Sequence[Parameter]) -> Specialisation:
        """The specialisation for these compile-time values and assumptions."""
        try:
            key = (tuple((n, constant_key(v)) for n, v in constants.items()), tuple(parameters))
            found = self._specialisations.get(key)
        except TypeError:
            bad = next(n for n, v in constants.items() if not _hashable(v))
            raise call_error("E0601", f"{bad!r} is compile-time, but its value has no hash",
                             help="pass a value that can be hashed, such as a tuple",
                             declared=self.signature.span(bad)) from None
        if found is None:
            with self._lock:
                found = self._specialisations.setdefault(key, Specialisation(
                    self.__tilus_captured__, self.signature, dict(constants), tuple(parameters), self.reads))
                self._warn_of_many(constants)
        return found

    def _warn_of_many(self, constants: dict[str, Any]) -> None:
        for name, value in constants.items():
            if not isinstance(value, (int, float)) or isinstance(value, bool):
                continue
            seen = self._values_seen.setdefault(name, set())
            before = len(seen)
            seen.add(value)
            if before == MANY_SPECIALISATIONS and len(seen) > before:
                type_ = "tl.f32" if isinstance(value, float) else "tl.i32"
                warn(Diagnostic(
                    "W0605", f"{self.__name__} has been compiled for {len(seen)} values of the compile-time parameter "
                             f"{name!r}", (), f"annotate it `{name}: {type_}` to make it a run-time value",
                    severity=Severity.WARNING))

    # -- compilation without a call

    @public
    def compile(self, /, target: str = "sm_80", via: str | None = None, *, assume: str = "divisible",
                line_info: bool = False, prepacked: Sequence[str] = (), cpu: str | None = None,
                triple: str | None = None, symbol: str | None = None, **constants: Any) -> CompiledKernel:
        """Compile for a GPU target, whether or not one is there. For ``"cpu"``, this machine or the processor ``cpu``,
        what is given has the stages ``tile``, ``thread``, ``llvm``, ``asm`` and ``object``: a relocatable object file
        for programs in C, whose header ``files`` gives. For ``"ascend910b"`` it has ``ascendc``, and ``save(folder)``
        writes it with a launcher and an example.

        Args:
            target: ``"sm_70"`` to ``"sm_120a"``, ``"ascend910b"`` or ``"cpu"``.
            via: ``"ptx"`` (LLVM and ptxas; the default) or ``"cuda"`` (CUDA C through NVRTC).
            assume: what is known of the arrays: ``"divisible"`` (contiguous, 16-byte aligned, run-time extents
                multiples of 16), ``"contiguous"`` (any extents) or ``"strided"`` (unit last stride only).
            line_info: put the lines of the source into the PTX and the cubin, for profilers and the simulator. The
                code stays the same; the cubin also holds its PTX then.
            prepacked: the arrays whose elements lie in the order of ``tl.prepack``.
            cpu: for the target ``"cpu"``, the processor as ``clang -mcpu`` calls it: ``"x86-64-v3"``, ``"znver4"``,
                ``"neoverse-n1"``; ``"native"`` for this machine's. What is compiled uses its instructions only.
            triple: architecture, vendor and system of the object file, ``"aarch64-unknown-linux-gnu"``; by default of
                the processor and this machine.
            symbol: what the names in the object file and its header begin with; by default the kernel's name.
            constants: compile-time parameters; None for an optional array that is absent. One whose default is None is
                absent unless its element type is given, ``bias=tl.f32``.

        Raises:
            UserError: the kernel is wrong, or asks for what the target lacks.
        """
        from tilus.backends import Linked, Options
        from tilus.runtime.compile import compile_specialisation
        from tilus.targets import get_target

        found = get_target(target, caller_span())
        linked = None
        if line_info and not found.is_cuda:
            raise call_error("E0604", f"line_info is for GPUs' code, not {found.name!r}")
        if cpu is not None or triple is not None or symbol is not None:
            if found.name != "cpu":
                raise call_error("E0604", f"cpu, triple and symbol are for the target 'cpu', not {found.name!r}")
            linked = Linked(cpu, triple, symbol or self.__tilus_captured__.name)
        specialisation = self.assume(assume, constants, prepacked)
        compiled: CompiledKernel = compile_specialisation(specialisation, found, via, Options(line_info, linked=linked))
        return compiled

    @public
    def assume(self, assume: str, constants: dict[str, Any], prepacked: Sequence[str] = ()) -> Specialisation:
        """The specialisation under the assumptions of :meth:`compile`."""
        self.refresh()
        from tilus.lang.signature import default_parameter

        signature = self.signature
        if assume not in ("divisible", "contiguous", "strided"):
            raise call_error("E0604", f"assume is 'divisible', 'contiguous' or 'strided', not {assume!r}")
        unknown = [n for n in constants if n not in signature.names]
        if unknown:
            self._bind((), constants)
        known: dict[str, Any] = {}
        parameters = []
        for place in signature.binding_order:
            spec = signature.specs[place]
            annotation = signature.annotation(spec, known)
            if is_constant_annotation(annotation):
                value = constants.get(spec.name, spec.default)
                if value is MISSING:
                    raise call_error("E0604", f"{self.__name__} is not given {spec.name!r}, which is compile-time",
                                     declared=signature.span(spec.name))
                known[spec.name] = self._constant(spec, annotation, value)
            elif isinstance(constants.get(spec.name), DType):
                known[type_key(spec.name)] = self._element_type(spec, annotation, constants[spec.name])
            elif spec.name in constants:
                if constants[spec.name] is not None or not isinstance(annotation, OptionalAnnotation):
                    raise call_error("E0604", f"{spec.name!r} is a run-time parameter, which compile takes no value of",
                                     declared=signature.span(spec.name))
                known[spec.name] = None
            elif spec.default is None and isinstance(annotation, OptionalAnnotation) and spec.name not in prepacked:
                known[spec.name] = None
        for spec in signature.specs:
            if spec.name not in known:
                parameters.append(default_parameter(spec.name, signature.annotation(spec, known), known,
                                                    assume=assume, prepacked=spec.name in prepacked))
        for name in prepacked:
            if not any(p.name == name and p.kind == "array" for p in parameters):
                raise call_error("E0604", f"{self.__name__} has no array {name!r}, which is said to be prepacked")
        return self.specialise(known, parameters)

    def formats(self, target: str | None, dtypes: dict[str, DType], constants: dict[str, Any]) -> dict[str, str]:
        """In which order the kernel reads arrays of these element types where they are prepacked, by parameter."""
        from tilus.runtime.compile import formats_of
        from tilus.runtime.engines import get_engine
        from tilus.targets import get_target

        name = _engine.get() or self.engine_name or default_engine(HOST)
        found = get_engine(name).target if target is None else get_target(target, caller_span())
        given = {**constants, **{n: d for n, d in dtypes.items() if self._is_union(n, constants)}}
        return formats_of(self.assume("divisible", given, tuple(dtypes)), found)

    def array_parameters(self, dtype: DType, rank: int, constants: dict[str, Any]) -> list[str]:
        """The names of the array parameters that take an element type and rank, without those that are absent."""
        known = {s.name: constants.get(s.name, s.default) for s in self.signature.specs
                 if constants.get(s.name, s.default) is not MISSING}
        names = []
        for spec in self.signature.specs:
            if constants.get(spec.name, spec.default) is None:
                continue
            annotation = self.signature.annotation(spec, known)
            inner = annotation.inner if isinstance(annotation, OptionalAnnotation) else annotation
            options = inner.options if isinstance(inner, UnionAnnotation) else (inner,)
            if any(isinstance(o, ArrayAnnotation) and o.dtype is dtype and o.rank == rank for o in options):
                names.append(spec.name)
        return names

    def _is_union(self, name: str, constants: dict[str, Any]) -> bool:
        spec = next((s for s in self.signature.specs if s.name == name), None)
        if spec is None:
            raise call_error("E0604", f"{self.__name__} has no parameter {name!r}",
                             help=f"it has {', '.join(self.signature.names)}")
        known = {s.name: constants.get(s.name, s.default) for s in self.signature.specs
                 if constants.get(s.name, s.default) is not MISSING}
        annotation = self.signature.annotation(spec, known)
        return isinstance(annotation.inner if isinstance(annotation, OptionalAnnotation) else annotation,
                          UnionAnnotation)

    def _element_type(self, spec: ParameterSpec, annotation: Any, dtype: DType) -> DType:
        inner = annotation.inner if isinstance(annotation, OptionalAnnotation) else annotation
        options = inner.options if isinstance(inner, UnionAnnotation) else (inner,)
        if not any(dtype is (o.dtype if isinstance(o, ArrayAnnotation) else o) for o in options):
            raise call_error("E0601", f"{spec.name!r} is {annotation}, which has no option {dtype}",
                             declared=self.signature.span(spec.name))
        return dtype

    def _constant(self, spec: ParameterSpec, annotation: Any, value: Any) -> Any:
        try:
            return convert_constant(spec.name, annotation, value)
        except TypeError as error:
            raise call_error("E0601", str(error), declared=self.signature.span(spec.name)) from None

    @public
    def explain(self, /, *args: Any, target: str = "sm_80", via: str | None = None, assume: str = "divisible",
                engine: str | None = None, **kwargs: Any) -> str:
        """What the compiler makes of the kernel: which specialisation, its stages, and the resources it takes.

        With arguments, for those; without, under the assumptions of :meth:`compile`. With ``engine="cpu"``, how the
        call runs on this machine: how products are multiplied, blocks and threads, what is computed and moved, the
        least time for that, and what the time is spent on by the model of its cores, which are measured once. With
        ``engine="ascend910b"``, what each kind of core does, local memory and flags, and the twin's estimate
        (docs/ascend.md); the call runs on copies of its arrays.
        """
        from tilus.runtime.explain import explain, explain_call

        if engine is not None:
            return explain_call(self, engine, args, kwargs)
        self.refresh()
        if args:
            call = Call(self, self._bind(args, kwargs))
            return explain(self.specialise(call.constants, call.parameters), target, via)
        return explain(self.assume(assume, kwargs), target, via)


class Prepared(NamedTuple):
    """A call, the engine that it is for, and what that runs."""

    call: Call
    engine: Engine
    specialisation: Specialisation

    def compile(self) -> Any:
        """What runs it, compiled where it has not been. Raises UserError."""
        return self.engine.runner(self.specialisation)

    def written(self) -> dict[str, ArrayArgument]:
        """The arrays that it may write, once it is compiled."""
        names = self.specialisation.written or frozenset()
        return {name: array for name, _, array in self.call.arrays if name in names}


class Call:
    """One call, bound and checked.

    Attributes:
        constants: compile-time values, and None for absent optional parameters.
        parameters: what may be assumed of the others, in order.
        arguments: the others: arrays and numbers.
        kinds: the kinds of the arrays among them.
    """

    def __init__(self, kernel: JitFunction, values: list[Any]) -> None:
        self.kernel = kernel
        self.values = values
        self.signature = kernel.signature
        self.constants: dict[str, Any] = {}
        self.is_constant: dict[str, bool] = {}
        self.arrays: list[tuple[str, ArrayAnnotation, ArrayArgument]] = []
        self.arguments: list[Any] = []
        self.names: list[str] = []
        self._bind_constants()
        self.parameters = self._bind_others()
        self.kinds = {a.kind for _, _, a in self.arrays}
        if len(self.kinds) > 1:
            raise call_error("E0601", "some arrays are in host memory and some on a GPU",
                             help="move them to one device before the call")
        reason = args_.check_dims(self.arrays, self.constants)
        if reason:
            raise call_error("E0602", reason, declared=kernel.__tilus_captured__.span(kernel.__tilus_captured__.node))

    def _fail(self, name: str, message: str, help: str | None = None) -> UserError:
        return call_error("E0601", message, help=help, declared=self.signature.span(name))

    def _bind_constants(self) -> None:
        for place in self.signature.binding_order:
            spec, value = self.signature.specs[place], self.values[place]
            annotation = self.signature.annotation(spec, self.constants)
            self.is_constant[spec.name] = is_constant_annotation(annotation)
            if self.is_constant[spec.name]:
                self.constants[spec.name] = self.kernel._constant(spec, annotation, value)
            elif value is None:
                if not isinstance(annotation, OptionalAnnotation):
                    raise self._fail(spec.name, f"{spec.name!r} is None, but the parameter is {annotation}")
                self.constants[spec.name] = None

    def _bind_others(self) -> list[Parameter]:
        parameters = []
        for spec, value in zip(self.signature.specs, self.values, strict=True):
            name = spec.name
            if name in self.constants:
                continue
            annotation = self.signature.annotation(spec, self.constants)
            if isinstance(annotation, OptionalAnnotation):
                annotation = annotation.inner
            if isinstance(annotation, UnionAnnotation):
                annotation = self._choose(name, annotation, value)
            self.names.append(name)
            if isinstance(annotation, DType):
                try:
                    self.arguments.append(convert_scalar(name, annotation, value))
                except TypeError as error:
                    raise self._fail(name, str(error)) from None
                parameters.append(Parameter(name, "scalar"))
                continue
            array = self._array(name, annotation, value)
            self.arrays.append((name, annotation, array))
            self.arguments.append(array)
            parameters.append(args_.describe_array(name, annotation, self.constants, array))
        return parameters

    def _choose(self, name: str, union: UnionAnnotation, value: Any) -> ArrayAnnotation:
        """The option for the element type of an array."""
        array = args_.take_array(name, value, self.signature.span(name))
        option = None if array is None else union.option(array.dtype)
        if option is None:
            held = f"holds {array.dtype}" if array else f"is {what_is(value)}"
            raise self._fail(name, f"{name!r} {held}, but the parameter is {union}")
        self.constants[type_key(name)] = option.dtype
        return option

    def _array(self, name: str, annotation: ArrayAnnotation, value: Any) -> ArrayArgument:
        array = args_.take_array(name, value, self.signature.span(name))
        if array is None:
            raise self._fail(name, f"{name!r} is {what_is(value)}, but the parameter is {annotation}",
                             "pass a NumPy array, a CuPy array or a torch tensor")
        found = args_.check_array(name, annotation, array)
        if found:
            raise self._fail(name, *found)
        return array

    def default_engine(self) -> str:
        return default_engine(CUDA if CUDA in self.kinds else HOST)

    def check_written(self, specialisation: Specialisation) -> None:
        """Written arrays are writable and share no memory with others, nor within themselves. Raises UserError."""
        assert specialisation.written is not None
        arrays = {name: array for name, _, array in self.arrays}
        for name in arrays:
            if name in specialisation.written:
                args_.check_written(name, arrays, specialisation.may_alias, self.signature.span(name))


    def check_formats(self, runner: Any) -> None:
        """Prepacked arrays lie in the order in which they are read. Raises UserError."""
        from tilus.runtime.prepacked_array import check_formats

        check_formats([(name, array) for name, _, array in self.arrays], runner.formats(self.arguments))


def _hashable(value: Any) -> bool:
    try:
        hash(constant_key(value))
    except TypeError:
        return False
    return True


@overload
def jit(function: Callable[..., Any], /) -> JitFunction: ...
@overload
def jit(*, engine: str | None = None) -> Callable[[Callable[..., Any]], JitFunction]: ...
@public_function
def jit(function: Callable[..., Any] | None = None, /, *,
        engine: str | None = None) -> JitFunction | Callable[[Callable[..., Any]], JitFunction]:
    """Makes a kernel of a function over tiles.

    ``engine`` fixes where it runs; by default the arrays of each call decide (host arrays: the CPU).
    """
    if engine is not None:
        from tilus.runtime.engines import check_engine

        check_engine(engine)
    if function is None:
        return lambda f: JitFunction(f, engine)
    return JitFunction(function, engine)


__all__ = ["Call", "JitFunction", "Prepared", "engine", "jit"]
