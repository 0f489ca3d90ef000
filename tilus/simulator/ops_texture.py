"""Sampling of textures."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from tilus.simulator.isa import instr
from tilus.simulator.machine import Array, Binder, Const, Group, Mem, Op, Reg, Run, Symbol, Vec

_AXES = {"1d": 1, "2d": 2, "3d": 3}


@instr("tex geom:1d|2d|3d =v4 t:u32|s32|f32 tc:s32|f32", kind="load")
def tex(b: Binder, op: Op) -> Run:
    """Four values at a place of a texture, which a handle or the name of a reference names."""
    d, where = b.need(op, 2)
    axes = _AXES[str(op.fields["geom"])]
    if not isinstance(where, Mem) or len(where.extra) != 1 or not isinstance(d, Vec) or len(d.items) != 4:
        raise b.error("four registers, and a texture with its coordinates are expected", op)
    place = where.extra[0]
    items = place.items if isinstance(place, Vec) else (place,)
    if len(items) < axes:
        raise b.error(f"{len(items)} coordinates instead of {axes}", op)
    kind = str(op.fields["tc"])
    coordinates = [b.src(op, item, kind) for item in items[:axes]]
    targets = [b.dst(op, item, str(op.fields["t"])) for item in d.items]
    handle = _handles(b, op, where)

    def run(g: Group) -> None:
        lanes = g.lanes()
        handles = handle[lanes] if handle.size > 1 else np.full(lanes.size, handle[0])
        for value in np.unique(handles).tolist():
            chosen = lanes[handles == value]
            texture = b.launch.textures.get(value)
            if texture is None or texture.axes != axes:
                b.batch.fault("value", f"{value:#x} is no texture of {axes} dimensions", op, int(chosen[0]),
                              count=chosen.size)
                continue
            rows = [np.broadcast_to(c, (b.lanes,))[chosen] for c in coordinates]
            found = texture.sample(rows)
            for i, target in enumerate(targets):
                # Registers have no types: what a texture of another type gives are its bits.
                target[chosen] = np.ascontiguousarray(found[:, i]).view(target.dtype)

    return run


def _handles(b: Binder, op: Op, where: Mem) -> Array:
    if isinstance(where.base, Reg):
        return b.src(op, where.base, "u64")
    if isinstance(where.base, Symbol):
        return np.array([b.launch.texture_references.get(where.base.name, 0)], np.uint64)
    assert isinstance(where.base, Const)
    return np.array([int(where.base.value)], np.uint64)
