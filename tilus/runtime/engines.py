"""Engines: what runs a specialisation. Each gives runners, which take the arguments of a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from tilus.diagnostics import UserError
from tilus.ir.core import Parameter
from tilus.lang.reads import Check, Reads
from tilus.runtime.arguments import call_error, coarsened
from tilus.runtime.arrays import CUDA, HOST, ArrayArgument
from tilus.runtime.specialise import Specialisation
from tilus.targets import Target, get_target

NAMES = ("cpu", "interpret", "python", "cuda", "simulate:sm_XX", "ascend910b")


class Plan(Protocol):
    """What repeats a call on other arrays of the same shapes, strides and alignment.

    Attributes:
        quickens: whether there may be a quicker way.
    """

    quickens: bool

    def __call__(self, values: Sequence[Any], addresses: Sequence[int]) -> None:
        """On the values of all parameters and the addresses of the arrays among them."""

    def launcher(self, addresses: Sequence[int]) -> Callable[[Sequence[int]], bool] | None:
        """What does such a call on the addresses of the arrays alone, if they are aligned as these and the rest is as
        it was, which the caller answers for; None where there is no such way."""

    def quicken(self, front: Front, caller: Any, engine: str | None) -> Any:
        """A caller whose ``function`` does such calls in place of ``front``'s, where ``engine`` has been chosen: the
        given one, if it is for that front, or a new one; None where the engine has no quicker way."""


class Front(NamedTuple):
    """The calls of a kernel, for those who do some of them in another way.

    Attributes:
        names, defaults: of the parameters; MISSING where there is no default.
        fallback: does all calls.
        reads: what the kernel is made anew after.
        checks: what has to hold besides.
        variable: the context variable whose value chooses the engine; None where nothing does.
    """

    names: Sequence[str]
    defaults: Sequence[Any]
    fallback: Callable[..., Any]
    reads: Reads
    checks: Sequence[Check]
    variable: Any


class Runner(Protocol):
    """Runs one specialisation."""

    def run(self, arguments: Sequence[Any]) -> None:
        """On arrays and numbers, one for each parameter."""

    def plan(self, call: Any, specialisation: Specialisation) -> Plan | None:
        """What repeats ``call``; None where nothing is gained by that."""

    def formats(self, arguments: Sequence[Any]) -> Mapping[str, str]:
        """In which order it reads prepacked arrays, by parameter; those that are missing in any order."""


class Engine:
    """``kind`` is the kind of arrays it runs on, ``timed`` whether its time tells how fast a kernel is, ``route`` the
    route of its code, where the name says one."""

    kind = HOST
    timed = False
    route: Any = None

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def target(self) -> Target:
        """What it compiles kernels for; those that do not compile go by this machine."""
        return get_target("cpu")

    def assumed(self, parameters: Sequence[Parameter]) -> Sequence[Parameter]:
        """What specialisations assume, of what is known of the arguments of a call."""
        return [coarsened(p) for p in parameters]

    def runner(self, specialisation: Specialisation) -> Runner:
        """What runs the specialisation, made at the first call. Raises UserError."""
        found: Runner | None = specialisation.runners.get(self.name)
        if found is None:
            with specialisation.lock:
                found = specialisation.runners.get(self.name)
                if found is None:
                    found = specialisation.runners[self.name] = self.make(specialisation)
        return found

    def make(self, specialisation: Specialisation) -> Runner:
        raise NotImplementedError


def check_engine(name: str) -> None:
    """Raise UserError (E0506) where there is no engine of that name."""
    get_engine(name)


_engines: dict[str, Engine] = {}


def get_engine(name: str) -> Engine:
    found = _engines.get(name)
    if found is None:
        found = _engines[name] = _make_engine(name)
    return found


def _make_engine(name: str) -> Engine:
    from tilus.backends import engine_backend

    if isinstance(name, str):
        own = {"interpret": InterpretEngine, "python": PythonEngine}.get(name)
        if own is not None:
            return own(name)
        backend = engine_backend(name)
        if backend is not None:
            engine: Engine = backend.engines[name.split(":")[0]](name)
            return engine
    raise no_engine(name)


def no_engine(name: object) -> UserError:
    return call_error("E0506", f"there is no engine {name!r}", help=f"engines: {', '.join(NAMES)}")


def default_engine(kind: str) -> str:
    """The engine that computes with arrays of a kind where nobody says which."""
    from tilus.backends import backends

    return next(backend.home[1] for backend in backends() if backend.home is not None and backend.home[0] == kind)


class NoPlan:
    """A runner whose calls have no cheaper form, and which reads prepacked arrays in any order."""

    def formats(self, arguments: Sequence[Any]) -> Mapping[str, str]:
        return {}

    def plan(self, call: Any, specialisation: Specialisation) -> Plan | None:
        return None


class InterpretEngine(Engine):
    """The reference interpreter."""

    def make(self, specialisation: Specialisation) -> Runner:
        return _Interpreted(specialisation)


class _Interpreted(NoPlan):
    def __init__(self, specialisation: Specialisation) -> None:
        self.module = specialisation.trace()

    def run(self, arguments: Sequence[Any]) -> None:
        from tilus.interp import interpret

        rows = as_rows(arguments)
        interpret(self.module, [a.array if isinstance(a, ArrayArgument) else a for a in rows])


class PythonEngine(Engine):
    """The body run by Python itself."""

    def make(self, specialisation: Specialisation) -> Runner:
        return _Eager(specialisation)


class _Eager(NoPlan):
    def __init__(self, specialisation: Specialisation) -> None:
        self.specialisation = specialisation
        specialisation.written = specialisation.written or frozenset()

    def run(self, arguments: Sequence[Any]) -> None:
        from tilus.runtime.eager import run_eagerly

        run_eagerly(self.specialisation, as_rows(arguments))


def as_rows(arguments: Sequence[Any]) -> list[Any]:
    """The arguments with prepacked arrays row by row."""
    if not any(isinstance(a, ArrayArgument) and a.format for a in arguments):
        return list(arguments)
    from tilus.runtime.prepacked_array import logical

    return [logical(a) for a in arguments]


__all__ = [
    "CUDA", "HOST", "Engine", "Front", "NoPlan", "Plan", "Runner", "check_engine", "default_engine", "get_engine",
]
