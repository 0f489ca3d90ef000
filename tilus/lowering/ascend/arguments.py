"""Arguments that nothing uses are taken out."""

from __future__ import annotations

from tilus.ir.core import Module
from tilus.ir.rewriter import count_uses, erase_dead


def drop_unused_arguments(module: Module) -> None:
    """Programs of cores have the arguments that they use, in the order of before."""
    for function in module.kernels:
        erase_dead(function)
        uses = count_uses(function)
        kept = [n for n, value in enumerate(function.body.args) if uses[value]]
        function.attributes.arguments = tuple(function.attributes.arguments[n] for n in kept)
        function.body.args = [function.body.args[n] for n in kept]
        for n, value in enumerate(function.body.args):
            value.index = n
