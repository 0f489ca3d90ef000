"""The model of calls of kernels that are compiled for a GPU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tilus.diagnostics import CheckError, Span, UserError
from tilus.ir.core import Module
from tilus.model.boards import BOARDS, Board, board_of
from tilus.model.kernel import LaunchModel
from tilus.model.launch import Launch, launches_of
from tilus.model.prediction import CallArray, CompiledCall, Prediction
from tilus.model.profile import LaunchProfile
from tilus.model.sample import take_sample
from tilus.model.sass import Program, parse_sass
from tilus.records import record
from tilus.runtime.arrays import ArrayArgument
from tilus.runtime.cubin import read_cubin
from tilus.runtime.nvidia.launch_facts import LaunchFacts, facts_in
from tilus.runtime.toolchains.binutils import OLDEST, disassemble
from tilus.targets import Target

if TYPE_CHECKING:
    from tilus.runtime.jit import Call


@lru_cache(maxsize=256)
def programs_of(cubin: bytes) -> dict[str, Program]:
    """The code of a cubin's kernels, with the lines of the source where it has them. Raises UserError (E0507) for
    architectures that nvdisasm does not read."""
    return parse_sass(disassemble(cubin, ("-c", "-hex", "-g")))


def board_for(target: Target, span: Span | None = None) -> Board:
    """The board that stands for a target. Raises UserError (E0501): there is no record of one."""
    board = board_of(target.name)
    if board is None:
        raise UserError.at("E0501", f"there is no record of a board for {target}", span,
                           help=f"boards: {', '.join(BOARDS)}")
    return board


def model_launch(cubin: bytes, launch: Launch, target: Target, board: Board, *,
                 timeline: bool = False) -> LaunchProfile:
    """What the model says of one launch of a kernel in a cubin."""
    program, info = programs_of(cubin)[launch.program], read_cubin(cubin).kernels[launch.program]
    resident = max(1, target.resident_blocks(launch.threads, info.registers, launch.shared))
    sample = take_sample(program, launch, target, wave_blocks=resident * board.sm_count, l2_bytes=board.l2)
    model = LaunchModel(sample, target, board, info.registers, launch.shared).model(timeline=timeline)
    return LaunchProfile(program, sample, model, target, board)


def model_call(compiled: Any, arguments: Mapping[str, Any], board: Board, *,
               timeline: bool = False) -> list[LaunchProfile]:
    """What the model says of each launch of a call of a compiled kernel (or a :class:`SentKernel`); ``arguments`` are
    as of ``launches_of``."""
    return [model_launch(kernel.cubin, launch, kernel.record, board, timeline=timeline)
            for kernel, launch in launches_of(compiled, arguments)]


def described(call: Call) -> dict[str, Any]:
    """The arguments of a call as the model takes them: of arrays shapes and strides, of tables of integers in host
    memory the contents, on which addresses and loops may depend."""
    found: dict[str, Any] = {}
    for name, value in zip(call.names, call.arguments, strict=True):
        if not isinstance(value, ArrayArgument):
            found[name] = value
        elif getattr(getattr(value.array, "dtype", None), "kind", "") in "iub" and not value.format:
            found[name] = value.array if hasattr(value.array, "flags") else (value.shape, value.strides)
        else:
            found[name] = value.shape, value.strides
    return found


@record(eq=False)
class SentKernel:
    """What is known of a compiled kernel that has been sent here: enough for its launches."""

    name: str
    record: Target
    launch_module: Module
    launches: dict[str, LaunchFacts]
    cubin: bytes


class GpuPredictor:
    """What the model says of variants for GPUs: from their tiles before they are compiled (``tilus/model/tiles``), from
    their code afterwards."""

    def supports(self, target: Target) -> bool:
        """Whether there is a record of a board, and something that reads the code."""
        return board_of(target.name) is not None and target.arch >= OLDEST

    def before_compiling(self, function: Any, engine: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any],
                         variants: Sequence[Mapping[str, Any]]) -> Iterable[Prediction | None]:
        from tilus.model.tiles.call import estimate  # at once, whenever the first prediction is read

        target, board = engine.target, board_for(engine.target)

        def before(variant: Mapping[str, Any]) -> Prediction | None:
            try:
                found = estimate(function.kernel.prepared(engine.name, args, {**kwargs, **variant}), target, board)
            except (UserError, CheckError):
                return None
            return Prediction(found.seconds, found.bottleneck)

        return map(before, variants)

    def compiled(self, call: CompiledCall) -> Prediction | None:
        """The time of a call; None where its grid is one that a GPU does not launch as it is."""
        board, launch = board_of(call.target.name), call.module.launch
        assert board is not None
        assert launch is not None
        facts = facts_in(call.metadata)
        if any(f.folded for f in facts.values()):
            return None
        kernel = SentKernel(call.metadata["kernel"], call.target, call.module, facts, call.blobs["cubin"])
        names = [parameter.name for parameter in launch.parameters]
        arguments = dict(zip(names, map(_given, call.arguments), strict=True))
        profiles = model_call(kernel, arguments, board)
        worst = max(profiles, key=lambda launch: launch.model.seconds, default=None)
        return Prediction(sum(launch.model.seconds for launch in profiles),
                          worst.model.bottleneck if worst is not None else "nothing to do")


def _given(value: Any) -> Any:
    """An argument of a call as the model takes it."""
    if not isinstance(value, CallArray):
        return value
    return (value.shape, value.strides) if value.contents is None else value.contents


PREDICTOR = GpuPredictor()

__all__ = ["PREDICTOR", "GpuPredictor", "board_for", "described", "model_call", "model_launch", "programs_of"]
