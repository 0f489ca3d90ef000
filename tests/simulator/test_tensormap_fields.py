"""``tensormap.replace``: values that no tensor map can have, or that are not simulated, are told; others stay."""

from __future__ import annotations

import numpy as np
import pytest

from tilus import simulator

# (field with its ordinal, type, values that are taken, (value, what is told of it) ...)
FIELDS = [
    ("interleave_layout", "", "b32", [0], [(1, "interleaved layouts) is not simulated"), (2, "is not simulated"),
                                           (3, "0 to 0 are possible")]),
    ("swizzle_atomicity", "", "b32", [0], [(1, "pieces than 16 bytes) is not simulated"), (2, "is not simulated"),
                                           (3, "is not simulated"), (4, "0 to 0 are possible")]),
    ("swizzle_mode", "", "b32", [0, 3], [(4, "96 bytes) is not simulated"), (5, "0 to 3 are possible")]),
    ("elemtype", "", "b32", [0, 12, 13, 15], [(16, "0 to 15 are possible")]),
    ("fill_mode", "", "b32", [0, 1], [(2, "0 to 1 are possible")]),
    ("rank", "", "b32", [0, 4], [(5, "at most 5 dimensions")]),
    ("box_dim", "4,", "b32", [1, 256], [(0, "1 to 256"), (257, "1 to 256"), (65537, "1 to 256")]),
    ("element_stride", "0,", "b32", [1, 8], [(0, "1 to 8"), (9, "1 to 8")]),
    ("global_dim", "5,", "b32", [], [(1, "global_dim ends at 4")]),
    ("global_stride", "4,", "b64", [], [(64, "global_stride ends at 3")]),
    ("global_stride", "3,", "b64", [0, 1 << 39], [(8, "a multiple of 16"), (1 << 40, "below 2^40")]),
    ("global_address", "", "b64", [1 << 32], [((1 << 32) + 4, "a multiple of 16")]),
]


def after(field: str, place: str, kind: str, value: int) -> tuple[list[str], str]:
    """What is told of a replacement in a map that had its rank set, and whether the map changed."""
    replace = f"tensormap.replace.tile.{field}.shared::cta.b1024.{kind} [map], {place} {value};"
    ptx = f""".version 8.8\n.target sm_100a\n.address_size 64
    .visible .entry k(.param .u64 p0) {{ .reg .b64 %rd<20>; .shared .align 128 .b8 map[128];
    ld.param.u64 %rd0, [p0]; tensormap.replace.tile.rank.shared::cta.b1024.b32 [map], 1;
    {"".join(f"ld.shared.b64 %rd1, [map+{i}]; st.global.b64 [%rd0+{i}], %rd1;" for i in range(0, 128, 8))}
    {replace}
    {"".join(f"ld.shared.b64 %rd1, [map+{i}]; st.global.b64 [%rd0+{128 + i}], %rd1;" for i in range(0, 128, 8))}
    ret; }}"""
    out = np.zeros((2, 128), "u1")
    report = simulator.launch(ptx, "k", 1, 1, [out], collect=True, checks=["bounds"])
    return [fault.message for fault in report.errors], "same" if (out[0] == out[1]).all() else "changed"


@pytest.mark.parametrize(("field", "place", "kind", "taken", "told"), FIELDS,
                         ids=[f"{name}{place.rstrip(',')}" for name, place, *_ in FIELDS])
def test_values(field: str, place: str, kind: str, taken: list[int], told: list[tuple[int, str]]) -> None:
    for value in taken:
        assert after(field, place, kind, value)[0] == [], value
    for value, words in told:
        messages, effect = after(field, place, kind, value)
        assert len(messages) == 1, (value, messages)
        assert words in messages[0], (value, messages)
        assert field in messages[0], (value, messages)
        assert effect == "same", value
