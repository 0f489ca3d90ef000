"""A tile module is interpreted after every tile-level pass of a GPU: no pass may change what it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tilus.interp import interpret
from tilus.ir.verifier import verify_module
from tilus.lowering.pipelines import GPU_TILE_PASSES
from tilus.runtime.arrays import ArrayArgument
from tilus.runtime.jit import Call, JitFunction

Run = Callable[[Sequence[Any]], None]


def runs_after_passes(kernel: JitFunction, target: str, arguments: Sequence[Any]) -> Iterator[tuple[str, Run]]:
    """After each pass its name, and what runs the module as it then is on arguments like the given ones."""
    call = Call(kernel, kernel._bind(tuple(arguments), {}))
    module = kernel.specialise(call.constants, call.parameters).trace()
    module.target = target

    def run(given: Sequence[Any]) -> None:
        bound = Call(kernel, kernel._bind(tuple(given), {}))
        interpret(module, [a.array if isinstance(a, ArrayArgument) else a for a in bound.arguments])

    for name, pass_ in GPU_TILE_PASSES:
        pass_(module)
        verify_module(module, name)
        yield name, run

