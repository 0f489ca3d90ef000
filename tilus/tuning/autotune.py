"""``@tl.autotune``: a kernel whose compile-time parameters are chosen, call by call, from a space of variants."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tilus.diagnostics import UserError
from tilus.diagnostics.entry import entry, public, public_function
from tilus.diagnostics.frames import caller_span
from tilus.lang import context as tracing
from tilus.lang.constants import constant_key
from tilus.lang.signature import MISSING
from tilus.runtime.arrays import CUDA, HOST
from tilus.runtime.engines import default_engine, get_engine
from tilus.runtime.fuse import FusedFunction, call_key
from tilus.runtime.jit import MAX_PLANS, JitFunction, _engine
from tilus.runtime.traced import TracedFunction
from tilus.targets import Target, get_target
from tilus.tuning.switch import asked

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from tilus.ir.dtypes import DType
    from tilus.runtime.arrays import ArrayArgument
    from tilus.runtime.engines import Engine
    from tilus.runtime.nvidia.kernel import CompiledKernel
    from tilus.tuning.keys import Arguments, TuningKey
    from tilus.tuning.result import TuningResult
    from tilus.tuning.space import Space, Variant

Kernel = JitFunction | FusedFunction


class AutotunedFunction(TracedFunction):
    """A kernel or fused function whose variant is chosen at each call. It is called as the kernel is; parameters of the
    space that a call gives are kept, the others are chosen.

    Attributes:
        kernel: what ``@tl.jit`` or ``@tl.fuse`` has made.
        space: its variants.
        key: the names of the extents and scalars that a choice depends on; None for all extents.
        results: variants by key, those that tuning has found.
    """

    __name__: str

    def __init__(self, kernel: Kernel, space: Space, key: tuple[str, ...] | None, facts: Arguments) -> None:
        self.kernel, self.space, self.key, self.facts = kernel, space, key, facts
        self.__tilus_captured__ = kernel.__tilus_captured__
        self.function = kernel.function
        functools.update_wrapper(self, kernel.function)
        self.results: dict[TuningKey, Variant] = {}
        self._choices: dict[Any, Variant] = {}
        self._absent: set[TuningKey] = set()
        self._guesses: dict[TuningKey, Variant] = {}

    def __repr__(self) -> str:
        return f"<autotuned {self.kernel!r}>"

    def __getattr__(self, name: str) -> Any:
        """What else the kernel has."""
        if name in ("kernel", "__tilus_captured__"):
            raise AttributeError(name)
        return getattr(self.kernel, name)

    @functools.cached_property
    def signature(self) -> Any:
        return self.kernel.signature

    def forget(self) -> None:
        self.kernel.forget()

    def refresh(self) -> None:
        self.kernel.refresh()

    # -- calls

    @public
    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Run on arrays, scalars and compile-time values, with the variant that :meth:`choose` gives.

        Raises:
            UserError: E1104 where no variant is left for these arguments; the errors of the kernel.
        """
        if tracing.active():
            return self.kernel.call(*args, **kwargs)
        return self.kernel.called(*args, **kwargs, **self._variant(_engine.get(), args, kwargs))

    @public
    def on(self, engine_name: str) -> Callable[..., Any]:
        """The kernel on a given engine: ``kernel.on("interpret")(a, b)``."""
        run = self.kernel.on(engine_name)
        return entry(lambda *args, **kwargs: run(*args, **kwargs, **self._variant(engine_name, args, kwargs)),
                     self.__name__, *self.entry_place)

    def _variant(self, chosen: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Variant:
        """The parameters that a call leaves open."""
        search = asked.get()
        key = call_key((chosen, search), args, kwargs)
        found = None if key is None else self._choices.get(key)
        if found is not None:
            return found
        arguments = dict(zip(self.signature.names, args, strict=False)) | kwargs
        if all(name in arguments for name in self.space.names):
            return {}
        arguments.pop("out", None) if "out" not in self.signature.names else None
        arrays = self.facts.arrays(arguments)
        if key is None:
            key = _slow_key((chosen, search), arguments, arrays)
            found = None if key is None else self._choices.get(key)
        if found is None:
            name = chosen or getattr(self.kernel, "engine_name", None) or default_engine(_kind(arrays.values()))
            if search:
                self._search(name, args, kwargs, arguments, arrays)
            engine = get_engine(name)
            # What the time of an engine tells nothing of, no model does.
            variant = self._choose(arguments, arrays, engine.target, engine if engine.timed else None)
            found = {name: value for name, value in variant.items() if name not in arguments}
            if len(self._choices) >= MAX_PLANS:
                self._choices.clear()
            if key is not None:
                self._choices[key] = found
        return found

    def choose(self, arguments: Mapping[str, Any], target: Target | str) -> Variant:
        """The variant for arguments, by the names of the parameters, on a target: the one that tuning has found for
        their key; else the one that the model of the target takes for the fastest; without a model the defaults of the
        function where they are a variant, else the first variant.

        Raises:
            UserError: E1104, no variant is left.
        """
        from tilus.tuning.ranking import modelled_engine

        arrays, found = self.facts.arrays(arguments), get_target(target, caller_span())
        kind = _kind(arrays.values())
        return self._choose(arguments, arrays, found,
                            get_engine(default_engine(kind)) if kind == CUDA else modelled_engine(found))

    def _choose(self, arguments: Mapping[str, Any], arrays: Mapping[str, ArrayArgument], target: Target,
                engine: Engine | None) -> Variant:
        """As :meth:`choose`; ``engine`` is what models are asked about, None for no model."""
        from tilus.tuning.keys import key_of

        key = key_of(self._name, target, self.facts, self.key, arguments, arrays, self.space.names)
        found = self.lookup(key) if _hashable(key) else None
        fixed = {n: v for n, v in arguments.items() if n in self.space.names}
        space = self.space_for(target, self.facts.numbers(arguments, arrays), fixed)
        # Sizes of one key may differ, so that constraints hold for some of them only; what somebody has adopted from
        # elsewhere is not looked at.
        if found is not None and (found in space or found not in self.space):
            return dict(found)
        usual = self.default(space)
        if engine is None or not _hashable(key):
            return usual
        found = self._guesses.get(key)
        if found is None or found not in space:
            from tilus.tuning.guessing import guessed_variant

            found = self._guesses[key] = guessed_variant(self, key, engine, arguments, space, usual)
        return dict(found)

    def _search(self, engine_name: str, args: tuple[Any, ...], kwargs: dict[str, Any], arguments: Mapping[str, Any],
                arrays: Mapping[str, ArrayArgument]) -> None:
        """Tune where there is no result."""
        from tilus.tuning.keys import key_of
        from tilus.tuning.tune import tune_if_asked

        key = key_of(self._name, get_engine(engine_name).target, self.facts, self.key, arguments, arrays,
                     self.space.names)
        if _hashable(key):
            tune_if_asked(self, engine_name, args, kwargs, {a.kind for a in arrays.values()}, key, caller_span())

    def key_of(self, arguments: Mapping[str, Any], target: Target | str) -> TuningKey:
        """The key of arguments: what :attr:`results` have their variants by."""
        from tilus.tuning.keys import key_of

        return key_of(self._name, get_target(target, caller_span()), self.facts, self.key, arguments,
                      self.facts.arrays(arguments), self.space.names)

    def lookup(self, key: TuningKey) -> Variant | None:
        """The variant that tuning has found for a key, in this process or another one; None where it has not been
        tuned."""
        found = self.results.get(key)
        if found is None and key not in self._absent:
            from tilus.tuning.stored import stored_variant

            found = stored_variant(self, key)
            if found is None:
                self._absent.add(key)
            else:
                self.results[key] = found
        return found

    def look_again(self, key: TuningKey) -> None:
        """Ask the store once more what is the best variant for a key."""
        self.results.pop(key, None)
        self._absent.discard(key)
        self._choices.clear()

    def adopt(self, key: TuningKey, variant: Mapping[str, Any]) -> None:
        """Use a variant for a key from now on."""
        self.results[key] = dict(variant)
        self._choices.clear()

    @public
    def tune(self, *args: Any, budget: float = 60.0, executor: Executor | str | None = None, target: str | None = None,
             reset: str | Iterable[str] = (), tolerance: float | None = None, fresh: bool = False,
             strategy: str = "halving", **kwargs: Any) -> TuningResult:
        """Search the best variant for the arguments of a call: compile variants, compare their results with those of
        the untuned kernel, and measure them in turns. Calls of the key have it from now on, in other processes too.
        Parameters of the space that the call gives are kept. Arrays are left as they were. Ctrl-C ends the search with
        what is known.

        Args:
            budget: seconds that the search takes at most; the untuned variant is tried in any case.
            executor: what runs compilations: any of ``concurrent.futures``, or ``"dask://host:port"`` for a cluster of
                Dask; by default processes of this machine.
            target: the engine to measure on, by default that of calls; ``"this-gpu"``; or a target that is not here
                (``"sm_80"``): variants are compiled for it and ranked by its model.
            reset: names of arrays that are set to zero before each run: a kernel adds to them.
            tolerance: how far floats may differ from those of the untuned kernel, relative to the largest one of their
                array. By default machine epsilon to the power 2/3, of the coarsest type among the arrays.
            strategy: ``"halving"`` tries all variants, or some by chance and the neighbours of the best; ``"guided"``
                goes by proposals of Optuna (``tilus[search]``).
            fresh: measure all variants, also those that searches of the last day have measured here.

        Raises:
            UserError: E1104 where no variant is left, E1109 where nothing can be measured or modelled, E1110 on a wrong
                option, E1112 where no variant works; E0601 to E0604 where an argument does not fit.
        """
        from tilus.tuning.tune import machine_for, tune

        span = caller_span()
        chosen = _engine.get() or getattr(self.kernel, "engine_name", None)
        arguments = dict(zip(self.signature.names, args, strict=False)) | kwargs
        arguments.pop("out", None) if "out" not in self.signature.names else None
        engine, predictor = machine_for(target, chosen, _kind(self.facts.arrays(arguments).values()), span)
        return tune(self, args, kwargs, budget=budget, executor=executor, engine=engine, predictor=predictor,
                    reset=reset, tolerance=tolerance, fresh=fresh, strategy=strategy, span=span)

    def space_for(self, target: Target, numbers: Mapping[str, int], fixed: Mapping[str, Any]) -> Space:
        """The variants on a target, for numbers that the constraints speak of and values that are not to be chosen."""
        from tilus.tuning.targets import limits_of

        space = self.space.fixed(caller_span(), **fixed) if fixed else self.space
        wanted = {**limits_of(target), **numbers}
        given = {name: n for name, n in wanted.items() if name in space.mentioned}
        return space.at(caller_span(), **given) if given else space

    def default(self, space: Space) -> Variant:
        """The variant of a space where nobody has tuned and no model is asked. Raises UserError (E1104) where there is
        none."""
        defaults = {spec.name: spec.default for spec in self.signature.specs}
        usual = {name: values[0] if len(values) == 1 else defaults.get(name, MISSING)
                 for name, values in space.parameters.items()}
        return usual if usual in space else space.first()

    @property
    def _name(self) -> str:
        return f"{self.function.__module__}.{self.function.__qualname__}"

    # -- without a call

    def _completed(self, target: str, constants: dict[str, Any]) -> dict[str, Any]:
        """Compile-time values with those of a variant for a target."""
        numbers = {s.name: s.default for s in self.signature.specs if isinstance(s.default, int)}
        numbers |= {name: value for name, value in constants.items() if isinstance(value, int)}
        space = self.space_for(get_target(target, caller_span()), numbers,
                               {n: v for n, v in constants.items() if n in self.space.names})
        chosen = {n: v for n, v in self.default(space).items() if self.facts.kinds.get(n) != "scalar"}
        return {**chosen, **constants}

    def formats(self, target: str | None, dtypes: dict[str, DType], constants: dict[str, Any]) -> dict[str, str]:
        """In which order a variant, the one with the compile-time values that are given, reads prepacked arrays."""
        name = _engine.get() or getattr(self.kernel, "engine_name", None) or default_engine(HOST)
        found = get_engine(name).target.name if target is None else target
        return self.kernel.formats(found, dtypes, self._completed(found, constants))  # type: ignore[union-attr]

    @public
    def compile(self, /, target: str = "sm_80", via: str | None = None, *, assume: str = "divisible",
                line_info: bool = False, **constants: Any) -> CompiledKernel:
        """Compile a variant for a target: the one with the compile-time values that are given. See
        :meth:`JitFunction.compile`."""
        return self.kernel.compile(target, via, assume=assume, line_info=line_info,
                                   **self._completed(target, constants))

    @public
    def explain(self, /, *args: Any, target: str = "sm_80", via: str | None = None, assume: str = "divisible",
                engine: str | None = None, **kwargs: Any) -> str:
        """What the compiler makes of a variant: the one for these arguments, or as :meth:`compile`; with ``engine``,
        how a call of it runs there (:meth:`JitFunction.explain`)."""
        if engine is not None:
            target = get_engine(engine).target.name
        if args:
            arguments = dict(zip(self.signature.names, args, strict=False)) | kwargs
            variant = self.choose(arguments, target)
            kwargs |= {name: value for name, value in variant.items() if name not in arguments}
        else:
            kwargs = self._completed(target, kwargs)
        return self.kernel.explain(*args, target=target, via=via, assume=assume, engine=engine, **kwargs)


@public_function
def autotune(*, where: str | Callable[..., Any] | Sequence[str | Callable[..., Any]] = (),
             key: str | Sequence[str] | None = None, configs: Iterable[Mapping[str, Any]] | None = None,
             **parameters: Iterable[Any]) -> Callable[[Kernel], AutotunedFunction]:
    """Lets compile-time parameters and scalars of a kernel or fused function be chosen from a space of variants. It
    stands above ``@tl.jit`` or ``@tl.fuse``:
    ``@tl.autotune(BM=[64, 128], stages=[2, 3], where="BM * stages <= 256", key="M")``.

    Args:
        parameters: the values of each parameter.
        configs: whole configurations instead, dictionaries or ``tl.Config``.
        where: constraints on the parameters, on the extents of arrays and other integers among the arguments, and on
            the limits of the target (docs/tuning.md): text, functions, or several.
        key: the names of the extents and scalars that a choice depends on; by default all extents. They are rounded:
            beyond 16 to the next power of two.

    Raises:
        UserError: E1101 and E1102 where a constraint is wrong, E1103 where a parameter is, E1104 where no variant is
            left, E1107 where the key is wrong, E1108 on what is no kernel.
    """
    span = caller_span()
    names = (key,) if isinstance(key, str) else None if key is None else tuple(key)

    def decorate(kernel: Kernel) -> AutotunedFunction:
        from tilus.tuning import stored  # noqa: F401  (first calls take half a millisecond less)
        from tilus.tuning.declare import declare_space
        from tilus.tuning.keys import Arguments

        if not isinstance(kernel, (JitFunction, FusedFunction)):
            raise UserError.at("E1108", f"tl.autotune takes a kernel, not {_what(kernel)}", span,
                               help="it stands above @tl.jit or @tl.fuse")
        facts = Arguments(kernel.signature)
        space = declare_space(kernel, parameters, configs, where, facts, span)
        facts.check_key(names or (), span)
        return AutotunedFunction(kernel, space, names, facts)

    return entry(decorate, "autotune")


def _kind(arrays: Iterable[ArrayArgument]) -> str:
    """The kind of the arrays of a call."""
    return CUDA if any(a.kind == CUDA for a in arrays) else HOST


def _slow_key(chosen: Any, arguments: Mapping[str, Any], arrays: Mapping[str, ArrayArgument]) -> Any:
    """What a choice depends on where not all arrays are plain ones of NumPy; None where an argument has no hash."""
    try:
        others = tuple((name, constant_key(value)) for name, value in arguments.items() if name not in arrays)
    except TypeError:
        return None
    key = (chosen, others, tuple((name, a.dtype, a.shape, a.kind) for name, a in arrays.items()))
    return key if _hashable(key) else None


def _hashable(key: Any) -> bool:
    """Whether it has a hash; the kernel refuses compile-time values that have none."""
    try:
        hash(key)
    except TypeError:
        return False
    return True


def _what(kernel: Any) -> str:
    if isinstance(kernel, AutotunedFunction):
        return "one that is tuned already"
    return f"the function {kernel.__name__!r}" if hasattr(kernel, "__name__") else f"a {type(kernel).__name__}"


__all__ = ["AutotunedFunction", "autotune"]
