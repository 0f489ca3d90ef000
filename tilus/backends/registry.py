"""The back ends that there are."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from tilus.backends.record import Backend
from tilus.targets import TARGETS, Target

_OWN = {"cpu": "tilus.runtime.cpu.backend", "nvidia": "tilus.runtime.nvidia.backend",
        "ascend": "tilus.runtime.ascend.backend"}
"""The modules of our own, each with a ``BACKEND``; imported when they are asked for."""
_known: dict[str, Backend] = {}


def register(backend: Backend) -> None:
    """Add a back end, and its targets. Raises ValueError where its name, a target's or an engine's is taken."""
    if backend.name in _OWN or backend.name in _known:
        raise ValueError(f"there is a back end {backend.name!r} already")
    taken = [n for n in backend.engines if engine_backend(n) is not None]
    if taken:
        raise ValueError(f"there is an engine {taken[0]!r} already")
    for target in backend.targets:
        if target.name in TARGETS:
            raise ValueError(f"there is a target {target.name!r} already")
        if target.backend != backend.name:
            raise ValueError(f"the target {target.name!r} is of the back end {target.backend!r}")
    TARGETS.update((target.name, target) for target in backend.targets)
    _known[backend.name] = backend


def unregister(name: str) -> None:
    """Take a back end that has been added out again, with its targets."""
    for target in _known.pop(name).targets:
        del TARGETS[target.name]


def _load(name: str) -> Backend:
    found = _known.get(name)
    if found is None:
        found = _known[name] = importlib.import_module(_OWN[name]).BACKEND
    return found


def backends() -> Iterator[Backend]:
    """All of them, those of our own first."""
    for name in dict.fromkeys((*_OWN, *_known)):
        yield _load(name)


def backend_of(target: Target) -> Backend:
    """The back end that compiles for a target."""
    return _load(target.backend)


def engine_backend(engine: str) -> Backend | None:
    """The back end whose kernels the engine runs; None for those that run tile programs by their meaning."""
    kind = engine.split(":")[0]
    return next((b for b in backends() if kind in b.engines), None)


__all__ = ["backend_of", "backends", "engine_backend", "register", "unregister"]
