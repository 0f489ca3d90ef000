"""Tensor maps that kernels make or change: ``tensormap.replace`` and the copy with a proxy fence."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from tilus.simulator.isa import instr
from tilus.simulator.machine import Binder, Group, Op, Run
from tilus.simulator.ops_memory import address_of, part_lanes, parts_of, space_of
from tilus.simulator.sites import Site
from tilus.simulator.tensor_map import BLANK, MAP_BYTES, decode_map, wrong_value

_SS = "?ss:global|shared::cta"


@instr(f"tensormap.replace =tile field:global_address {_SS} =b1024 t:b64",
       f"tensormap.replace =tile field:rank {_SS} =b1024 t:b32",
       f"tensormap.replace =tile field:box_dim|global_dim|element_stride {_SS} =b1024 t:b32",
       f"tensormap.replace =tile field:global_stride {_SS} =b1024 t:b64",
       f"tensormap.replace =tile field:elemtype|interleave_layout|swizzle_mode|swizzle_atomicity|fill_mode {_SS} "
       "=b1024 t:b32", writes=0, kind="tensor-copy")
def replace(b: Binder, op: Op) -> Run:
    """One field of a map in memory changes; memory without a map is taken for one with every field at its least."""
    mem, *place, value = b.need(op, 2, 3)
    address, space = address_of(b, op, mem), space_of(b, op, mem, op.fields["ss"])
    name = str(op.fields["field"])
    values = b.src(op, value, str(op.fields["t"]))
    places = b.src(op, place[0], "b32") if place else np.zeros(1, np.uint32)
    site = Site(op, "generic", True, False)

    def run(g: Group) -> None:
        for part in parts_of(b, space, address(g)):
            lanes = part_lanes(part, g)
            offsets = part.space.locate(site, b.batch, lanes, part.address, MAP_BYTES)
            where = b.batch.every if lanes is None else lanes
            data = part.space.views.data
            for offset, lane in zip(offsets.tolist(), where.tolist(), strict=True):
                now = decode_map(data[offset:offset + MAP_BYTES].tobytes()) or BLANK
                at, new = int(places[lane if places.size > 1 else 0]), int(values[lane if values.size > 1 else 0])
                wrong = wrong_value(name, at, new)
                if wrong:
                    b.batch.fault("value", f"{op.opcode}: {wrong}", op, lane)
                    continue
                made = now.with_field(name, at, new).encode()
                data[offset:offset + MAP_BYTES] = np.frombuffer(made, np.uint8)
        b.launch.progress += 1

    return run


@instr("tensormap.cp_fenceproxy =global =shared::cta =tensormap::generic =release scope:cta|cluster|gpu|sys =sync "
       "=aligned", gate="warp", writes=0, kind="tensor-copy")
def copy_and_fence(b: Binder, op: Op) -> Run:
    """The threads of a warp copy a map from shared to global memory, which a proxy fence releases."""
    dst, src, _ = b.need(op, 3)
    to, source = address_of(b, op, dst), address_of(b, op, src)
    write, read = Site(op, "global", True), Site(op, "shared", False)
    wide = op.fields["scope"] != "cta"

    def run(g: Group) -> None:
        first = np.unique(g.lanes() // 32, return_index=True)[1]
        lanes = g.lanes()[first]
        here = b.batch.shared.locate(read, b.batch, lanes, source(g)[first], MAP_BYTES)
        there = b.launch.memory.locate(write, b.batch, lanes, to(g)[first], MAP_BYTES)
        b.launch.memory.views.store(there, 8, MAP_BYTES // 8, b.batch.shared.views.load(here, 8, MAP_BYTES // 8))
        if b.launch.shadow_hooks:
            b.batch.order.fence(lanes, wide)
        b.launch.progress += 1

    return run
