"""Subgraphs that a kernel takes the place of: what the user has given by two functions, found by torch's matcher."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._functorch.compile_utils import fx_graph_cse
from torch.fx import GraphModule

from tilus.runtime.arguments import call_error
from tilus.torch.decompositions import decompositions

Function = Callable[..., Any]


def replace(pattern: Function, replacement: Function, examples: Sequence[Any], *, numbers: dict[str, Any] | None = None,
            only: Callable[[Any], bool] | None = None) -> None:
    """In graphs that are compiled from now on ``replacement`` takes the place of what ``pattern`` says, wherever that
    is: a kernel as an operator (:func:`~tilus.torch.custom_op`) that of an attention, say, or of a product of weights
    that are made from quantised ones.

    Both are functions of the same tensors, with the same results; they are traced on ``examples``, whose shapes do not
    matter otherwise than by their ranks. Whoever replaces sees to it that results agree. The latest of several that fit
    is taken.

    Args:
        pattern, replacement: functions of tensors, and of the ``numbers`` as keywords.
        examples: a tensor for each parameter, of sizes that are not met as numbers in the pattern.
        numbers: for each keyword a number that is met nowhere else; a match binds it.
        only: asked of a match before it is replaced; ``match.kwargs`` has the graph's nodes by the parameters' names.

    Raises:
        UserError: E0604, a function cannot be traced on the examples.
    """
    from torch._inductor.pattern_matcher import PatternMatcherPass, fwd_only, register_replacement

    found = PatternMatcherPass(pass_name="tilus")
    checks: dict[str, Any] = {} if only is None else {"extra_check": only}
    try:
        with torch.no_grad():
            register_replacement(pattern, replacement, list(examples), fwd_only, found, scalar_workaround=numbers,
                                 get_decomp_fn=functools.partial(decompositions, False), **checks)
    except Exception as error:
        raise call_error("E0604", f"{getattr(pattern, '__name__', 'a pattern')} cannot be traced on the examples: "
                                  f"{str(error).partition(chr(10))[0]}") from error
    _patterns.insert(0, found)


def apply_patterns(gm: GraphModule) -> None:
    """Replace what the patterns say, in place. What the graph says twice is said once before, as the patterns do."""
    if not _patterns:
        return
    gm.graph = fx_graph_cse(gm.graph)
    for pattern in _patterns:
        pattern.apply(gm.graph)
    gm.graph.eliminate_dead_code()
    gm.recompile()


_patterns: list[Any] = []

__all__ = ["apply_patterns", "replace"]
