"""From a specialisation to code for a target, by any route of its back end, through the disk cache."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilus.backends import Artifact, Backend, Options, Route, backend_of, backends
from tilus.diagnostics import UserError
from tilus.diagnostics.entry import public
from tilus.ir.core import Module
from tilus.ir.printer import print_module
from tilus.records import record
from tilus.runtime.arguments import call_error
from tilus.runtime.internal import guarded
from tilus.runtime.specialise import Specialisation
from tilus.targets import Target, get_target

if TYPE_CHECKING:
    from tilus.runtime.cache import Entry, Parts


def module_key(module: Module, *options: str) -> str:
    """The cache's key of what is made of a traced module: its text (which has everything that the source, the callees,
    the constants and the assumptions about arguments amount to, with places), the options, and tilus."""
    from tilus.runtime.cache import key_of
    from tilus.runtime.fingerprint import compiler_fingerprint

    return key_of([print_module(module, locations=True), *options, compiler_fingerprint()])


def traced(specialisation: Specialisation, target: Target, folded: bool) -> Module:
    """A new tile module of a specialisation, ``folded`` for grids that are not launched as they are."""
    from tilus.lowering.schedule.raster import fold_grid

    module = specialisation.trace(target)
    if folded:
        fold_grid(module)
    return module


@record(eq=False)
class Order:
    """A compilation as a value: any process can carry it out, on any machine with the same tilus.

    Attributes:
        key: the cache's key of what comes out.
        module: the traced tile module; carrying the order out uses it up.
        fingerprint: of tilus, its tools and the processor where it was made.
    """

    key: str
    module: Module
    target: str
    via: str
    options: Options
    fingerprint: str

    @classmethod
    def of(cls, specialisation: Specialisation, target: Target, route: Route, options: Options) -> Order:
        """What compiles a specialisation by a route. Raises UserError."""
        module = traced(specialisation, target, options.folded)
        asked = ("lines" if options.line_info else "", str(options.linked) if options.linked is not None else "")
        key = module_key(module, target.name, route.name, *asked, route.fingerprint())
        return cls(key, module, target.name, route.name, options, fingerprint_of(route))

    @property
    def route(self) -> Route:
        found = backend_of(get_target(self.target)).route(self.via)
        assert found is not None
        return found

    def carried_out(self) -> Parts:
        """The code, and what is known of it. Raises UserError."""
        made = self.route.build(self.module, get_target(self.target), self.options)
        return made.blobs, made.metadata


def fingerprint_of(route: Route) -> str:
    """What the code of a route depends on besides the module, here."""
    from tilus.runtime.fingerprint import compiler_fingerprint

    return f"{compiler_fingerprint()} {route.fingerprint()}"


def kernel_of(specialisation: Specialisation, order: Order, entry: Entry) -> Any:
    """The compiled kernel that an order of a specialisation has given, as the back end's class; calls have it from now
    on."""
    key = _runner_key(order.target, order.via, order.options)
    found = specialisation.runners.get(key)
    if found is None:
        target = get_target(order.target)
        made = backend_of(target).kernel or Compiled
        found = specialisation.runners.setdefault(key, made(
            specialisation, target, order.route, order.options, Artifact(entry.blobs, entry.metadata)))
    return found


def _runner_key(target: str, route: str, options: Options) -> str:
    return f"{target}:{route}:{options}"


class Compiled:
    """A kernel compiled for a target.

    Attributes:
        name, target, via: the kernel's name, the target's, and the route's.
        line_info: whether the code knows which line of the source an instruction comes from.
        blobs: what the route has made, by name.
        metadata: what is known of it; plain JSON.
    """

    def __init__(self, specialisation: Specialisation, target: Target, route: Route, options: Options,
                 artifact: Artifact) -> None:
        self.specialisation = specialisation
        self.record, self.route, self.options = target, route, options
        self.target, self.via, self.line_info = target.name, route.name, options.line_info
        self.name = self.__name__ = specialisation.captured.name
        self.blobs: Mapping[str, bytes] = artifact.blobs
        self.metadata = dict(artifact.metadata)

    def __repr__(self) -> str:
        return f"<{self.name} for {self.target} via {self.via}: {self.summary()}>"

    @property
    def entry_place(self) -> tuple[str, int]:
        """Where the kernel stands."""
        span = self.specialisation.captured.span(self.specialisation.captured.node)
        return span.file, span.line

    @functools.cached_property
    def launch_module(self) -> Module:
        """The traced tile module, whose launch function gives grid and workspaces."""
        return self.traced()

    def traced(self) -> Module:
        """A new copy of it."""
        return traced(self.specialisation, self.record, self.options.folded)

    def lowered(self) -> Module:
        """A new thread-level module."""
        return backend_of(self.record).pipeline(self.record).run(self.traced(), self.target)

    @functools.cached_property
    def tile(self) -> str:
        """The traced tile module as text."""
        return print_module(self.launch_module)

    @functools.cached_property
    def thread(self) -> str:
        """The thread-level module as text."""
        return print_module(self.lowered())

    @public
    def stage(self, name: str) -> str | bytes:
        """A form of the kernel on its way to code, by the name that ``--emit`` has for it.

        Raises:
            UserError: E0804, the target has no such stage.
        """
        make = self.route.stages.get(name)
        if make is not None:
            return make(self)
        if name not in ("tile", "thread"):
            raise no_stage(backend_of(self.record), self.record, name)
        return self.tile if name == "tile" else self.thread

    def __getattr__(self, name: str) -> Any:
        if "record" not in self.__dict__:  # while it is being made or copied
            raise AttributeError(name)
        raise AttributeError(f"a kernel compiled for {self.target} has no {name!r}; its stages are "
                             f"{', '.join(backend_of(self.record).stages)}", name=name, obj=self)

    def resources(self) -> dict[str, str]:
        """What the kernel takes, by the headings of a table."""
        return {}

    def summary(self) -> str:
        """That as a sentence."""
        return ", ".join(f"{value} {name}" for name, value in self.resources().items())

    def files(self, name: str) -> dict[str, bytes]:
        """What stands beside the code in files, by their endings; ``name`` is the code's file."""
        return {}

    has_project = False
    """Whether it takes a folder of files to build and launch the kernel, which :meth:`project` has."""

    def project(self) -> dict[str, bytes]:
        """Its files, by name."""
        return {}

    @public
    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write :meth:`project` into a folder, which is made where it is not there; gives the files, each of which is
        written whole or not at all.

        Raises:
            UserError: E0804, the target's kernels have no such folder, or it cannot be written.
            UnsupportedError: E0507, something has no form in C.
        """
        if not self.has_project:
            raise call_error("E0804", f"kernels for {self.target} are files, not folders",
                             help=f"tilus compile -o FILE, or write {self.name}.stage(…)")
        from tilus.runtime.files import make_folder, write_whole

        files, place = self.project(), Path(folder)
        make_folder(place)
        for name, data in files.items():
            write_whole(place / name, data)
        return [place / name for name in files]

    def check(self) -> None:
        """Warn of what the user ought to know of the code."""


def no_stage(backend: Backend, target: Target, name: str) -> UserError:
    others = [b.name for b in backends() if name in b.stages]
    note = f"{name!r} is a stage of the back end {others[0]}; " if others else ""
    return call_error("E0804", f"the target {target.name} has no stage {name!r}",
                      help=f"{note}stages: {', '.join(backend.stages)}")


def compile_specialisation(specialisation: Specialisation, target_name: str | Target, via: str | None = None,
                           options: Options = Options()) -> Any:  # noqa: B008  (immutable)
    """The kernel compiled for a target, as the back end's class; from the cache where it has been compiled before.

    Raises:
        UserError: the kernel, the target's name or the route is wrong; what the back end refuses.
    """
    from tilus.runtime.cache import default_cache

    target = get_target(target_name)
    backend = backend_of(target)
    route = backend.route(via)
    if route is None:
        raise call_error("E0804", f"via is {' or '.join(repr(r.name) for r in backend.routes)} for {target.name}, not "
                                  f"{via!r}")
    found: Compiled | None = specialisation.runners.get(_runner_key(target.name, route.name, options))
    if found is not None:
        return found
    with specialisation.lock:
        order = Order.of(specialisation, target, route, options)
        entry = default_cache().get_or_build(order.key, lambda: guarded(
            specialisation, f"compilation for {target.name} via {route.name}", order.carried_out))
        compiled: Compiled = kernel_of(specialisation, order, entry)
    compiled.check()
    return compiled


def formats_of(specialisation: Specialisation, target: Target) -> dict[str, str]:
    """In which order a kernel reads its prepacked arrays, by parameter: what the passes over tiles decide."""
    from tilus.lowering.pipelines import run_passes

    module = traced(specialisation, target, False)
    module.target = target.name
    guarded(specialisation, f"the choice of formats for {target.name}",
            lambda: run_passes(module, backend_of(target).pipeline(target).tile))
    return {name: text for kernel in module.kernels for name, text in kernel.attributes.formats}


__all__ = [
    "Compiled", "Order", "compile_specialisation", "fingerprint_of", "formats_of", "kernel_of", "module_key",
    "no_stage", "traced",
]
