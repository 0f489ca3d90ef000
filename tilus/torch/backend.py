"""The back end of ``torch.compile``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from functorch.compile import make_boxed_func, min_cut_rematerialization_partition
from torch._dynamo.backends.common import aot_autograd
from torch.fx import GraphModule

from tilus.records import record
from tilus.runtime.arguments import call_error
from tilus.torch.call import FusedCall
from tilus.torch.decompositions import decompositions
from tilus.torch.graph import fused_nodes, rewritten
from tilus.torch.partition import divide
from tilus.torch.patterns import apply_patterns
from tilus.torch.random_numbers import draw_seeds_at_once
from tilus.torch.registry import Refused
from tilus.torch.report import GraphReport, tell

MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
"""Those of torch.compile. There is one way to compile so far, so that they do not differ."""


@record(frozen=True)
class Options:
    """``torch.compile(options=…)``.

    Attributes:
        fallback: let torch run operators whose kernels do not compile, with a warning; otherwise that is an error.
            By default True, unless ``fullgraph=True``.
        engine: what runs the kernels: ``"cpu"``, ``"interpret"``, … By default what fits the device.
        fallback_random: random numbers are those that torch gives without compilation, by its own operators.
    """

    fallback: bool | None = None
    engine: str | None = None
    fallback_random: bool = False


def backend(gm: GraphModule, inputs: Sequence[Any], *, mode: str | None = None,
            options: Mapping[str, Any] | None = None) -> Callable[..., Any]:
    """Compile a graph of Dynamo's: what ``torch.compile(model, backend="tilus")`` calls.

    Raises UserError (E0604) for a mode or an option that there is not.
    """
    if mode is not None and mode not in MODES:
        raise call_error("E0604", f"there is no mode {mode!r}", help=f"modes: {', '.join(MODES)}")
    given = dict(options or {})
    names = [f.name for f in fields(Options)]
    unknown = [name for name in given if name not in names]
    if unknown:
        raise call_error("E0604", f"there is no option {unknown[0]!r}", help=f"options: {', '.join(names)}")
    chosen = Options(**given)
    if chosen.fallback is None:
        chosen = replace(chosen, fallback=not _is_fullgraph())

    def compiler(kind: str) -> Callable[..., Any]:
        return lambda graph, examples: compile_graph(graph, kind, chosen)

    table = decompositions(bool(chosen.fallback_random))
    compiled = aot_autograd(fw_compiler=compiler("forward"), bw_compiler=compiler("backward"),
                            inference_compiler=compiler("inference"), decompositions=table,
                            partition_fn=min_cut_rematerialization_partition)
    result: Callable[..., Any] = compiled(gm, inputs)
    return result


def _is_fullgraph() -> bool:
    """Whether ``torch.compile`` was told that all has to be compiled."""
    from torch._dynamo.symbolic_convert import InstructionTranslator

    try:
        return bool(InstructionTranslator.current_tx().one_graph)
    except AttributeError:  # called by something else than Dynamo
        return False


def compile_graph(gm: GraphModule, kind: str, options: Options) -> Callable[..., Any]:
    """A graph of core operators as calls of fused functions, with torch's operators between."""
    apply_patterns(gm)
    draw_seeds_at_once(gm.graph)
    division = divide(gm.graph)
    calls = []
    for group in division.groups:
        try:
            calls.append(FusedCall(group, fused_nodes(group), options.engine, bool(options.fallback)))
        except Refused as refused:
            division.left.update(dict.fromkeys(group.nodes, str(refused)))
    tell(GraphReport(kind, calls, division.left))
    compiled = rewritten(gm, [(call.group, _function(call, i)) for i, call in enumerate(calls)])
    boxed: Callable[..., Any] = make_boxed_func(compiled.forward)
    return boxed


def _function(call: FusedCall, number: int) -> Callable[..., Any]:
    """As a function, which the code of graphs can name."""
    def fused(*inputs: Any) -> Any:
        return call(*inputs)

    fused.__name__ = fused.__qualname__ = f"{call.fused.captured.name}_{number}"
    return fused


__all__ = ["Options", "backend", "compile_graph"]
