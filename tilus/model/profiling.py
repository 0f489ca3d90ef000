"""``tl.profile``: the profile of a call that nobody runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tilus.diagnostics import UserError
from tilus.diagnostics.entry import public_function
from tilus.diagnostics.frames import caller_span

if TYPE_CHECKING:
    from tilus.model.profile import Profile


@public_function
def profile(kernel: Any, /, *args: Any, target: str = "sm_80", board: str | None = None, via: str | None = None,
            **kwargs: Any) -> Profile:
    """What the cost model says of a call on a GPU, from the machine code: time, what limits it, which lines of the
    source wait for what. Nothing is run, and no GPU is needed: every figure is the model's.

    Args:
        kernel: a kernel, a fused function, or an autotuned one (whose choice for the call is profiled).
        args, kwargs: the call. Of arrays in host memory only types, extents and strides count, and what is in arrays of
            integers, on which addresses may depend.
        target: what it is compiled for, sm_75 or newer.
        board: the board that is modelled, by default the one that stands for the target.
        via: the route, ``"ptx"`` or ``"cuda"``.

    Returns:
        a profile; ``print`` shows tables, a notebook shows it as a page with pictures, ``save`` writes that.

    Raises:
        UserError: what is wrong with the call, as when it is made; E0501, there is no such target or board; E0507,
            nothing reads the target's code.
    """
    from tilus.backends import Options
    from tilus.model.boards import get_board
    from tilus.model.gpu import board_for, described, model_call
    from tilus.model.profile import Profile
    from tilus.runtime.compile import compile_specialisation
    from tilus.targets import get_target

    span = caller_span()
    record = get_target(target, span)
    if not record.is_cuda:
        raise UserError.at("E0501", f"profiles are of GPUs, not of {target}", span, help="give target='sm_80'")
    chosen = board_for(record, span) if board is None else get_board(board, span)
    variant: dict[str, Any] = {}
    if hasattr(kernel, "choose"):
        given = dict(zip(kernel.signature.names, args, strict=False)) | kwargs
        variant = {name: value for name, value in kernel.choose(given, record).items() if name not in given}
    inner = getattr(kernel, "kernel", kernel)
    if not hasattr(inner, "prepared"):
        raise UserError.at("E0601", f"{kernel!r} is no kernel", span)
    prepared = inner.prepared(f"simulate:{record.name}", args, {**kwargs, **variant})
    compiled = compile_specialisation(prepared.specialisation, record, via, Options(line_info=True))
    launches = model_call(compiled, described(prepared.call), chosen, timeline=True)
    settings = ", ".join(f"{name}={value}" for name, value in variant.items())
    return Profile(f"{kernel.__name__} on {chosen.name}" + (f" with {settings}" if settings else ""), launches)


__all__ = ["profile"]
