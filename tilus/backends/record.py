"""The record of a back end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tilus.ir.core import Module
from tilus.records import field, record
from tilus.targets import Target

if TYPE_CHECKING:
    from tilus.lowering.array.tiles import TileTable
    from tilus.lowering.pipelines import Pipeline


@record(frozen=True)
class Linked:
    """What is asked of an object file for programs.

    Attributes:
        cpu: the processor's name; None for the least one of the triple, or this machine's.
        triple: architecture, vendor and system; None for those of this machine, or of the processor.
        name: what the names that a program sees begin with; None for that of the first kernel.
    """

    cpu: str | None = None
    triple: str | None = None
    name: str | None = None


@record(eq=False)
class Options:
    """What may be asked of a compilation besides target and route.

    Attributes:
        line_info: whether the code says which line of the source an instruction comes from.
        folded: whether it is for grids that are not launched as they are (``lowering/schedule/raster.py: fold_grid``).
        linked: the processor, the triple and the name of an object file that is to be linked into a program; None for
            code that is called from here.
    """

    line_info: bool = False
    folded: bool = False
    linked: Linked | None = None


@record(eq=False, repr=False)
class Artifact:
    """What a route has made of a module: named byte strings, and what is known of them as plain JSON."""

    blobs: Mapping[str, bytes]
    metadata: Mapping[str, Any]


@record(eq=False, repr=False)
class Route:
    """A way from tile modules to code.

    Attributes:
        build: the code of a traced module, which is used up. Raises UserError.
        stages: what can be shown of a compiled kernel (``--emit``), text or bytes, by name; besides these there are
            ``tile`` and ``thread``, the modules before and after lowering.
        fingerprint: what the code depends on besides the module, the options and tilus: versions of tools, the
            processor at hand.
    """

    name: str
    build: Callable[[Module, Target, Options], Artifact]
    stages: Mapping[str, Callable[[Any], str | bytes]] = field(default_factory=dict)
    fingerprint: Callable[[], str] = lambda: ""


@record(eq=False, repr=False)
class Backend:
    """A back end. What is costly to import is given as a function.

    Attributes:
        targets: what it compiles for.
        pipeline: the passes of a target.
        routes: ways to code, the default first.
        emitted: the stage that ``tilus compile`` writes where nobody asks for one.
        tiles: the tile sizes of fused functions.
        engines: what runs its kernels: the first part of an engine's name, and what makes the engine of a name.
        home: the kind of arrays (``"host"``, ``"cuda"``) that are computed with here by default, and the engine.
        binding: the engine for which calls with arrays in host memory are bound where a target's kernels are to be
            modelled, not run, by the target; None where there is none.
        kernel: makes the compiled kernel that users get; a :class:`tilus.runtime.compile.Compiled`.
        explain: what is said of a call (``runtime/jit.py: Prepared``) on one of its engines, rather than of a target.
    """

    name: str
    targets: tuple[Target, ...]
    pipeline: Callable[[Target], Pipeline]
    routes: tuple[Route, ...]
    emitted: str
    tiles: Callable[[], TileTable]
    engines: Mapping[str, Callable[[str], Any]] = field(default_factory=dict)
    home: tuple[str, str] | None = None
    binding: Callable[[Target], str] | None = None
    kernel: Callable[..., Any] | None = None
    explain: Callable[[Any], str] | None = None

    def route(self, name: str | None) -> Route | None:
        """The route of a name, the default one for None; None where there is no such route."""
        return self.routes[0] if name is None else next((r for r in self.routes if r.name == name), None)

    @property
    def stages(self) -> tuple[str, ...]:
        """What ``--emit`` may ask for by any route."""
        return tuple(dict.fromkeys(("tile", "thread", *(stage for route in self.routes for stage in route.stages))))
