"""Blackwell's layouts against tables made from the CuTe headers (golden/cute_sm100.cu)."""
# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.simulator.cuda import to_ptx
from tilus import simulator
from tilus.simulator.ops_mma_sparse import unpack_codes
from tilus.simulator.ops_tcgen05 import fragment
from tilus.simulator.ops_wgmma import chunk_addresses, element_addresses, umma_descriptor

TABLES: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "cute_sm100.json").read_text())


@pytest.mark.parametrize("name", [n for n in TABLES if "dp" in n])
def test_tensor_memory_fragments(name: str) -> None:
    match = re.match(r"(\d+)dp(\d+)b(\d+)x(_16b)?", name)
    assert match is not None
    lanes, bits, count = (int(x) for x in match.groups()[:3])
    shape = "16x32bx2" if (lanes, bits) == (16, 32) else f"{lanes}x{bits}b"
    registers = count * {"16x128b": 2, "16x256b": 4}.get(shape, 1)
    lane, column = fragment(shape, registers, count)
    if match.group(4):
        column = 2 * column
    wanted = np.array(TABLES[name]).reshape(32, registers, 3)
    np.testing.assert_array_equal(lane, wanted[..., 1])
    np.testing.assert_array_equal(column, wanted[..., 2])


def test_sparse_metadata() -> None:
    """The table numbers the elements of A column by column; thread t holds the codes of its elements in their order."""
    table = np.array(TABLES["sparse_m16n8k64"])
    codes = np.random.default_rng(0).integers(0, 16, (16, 16))
    words = np.zeros((1, 32), "u4")
    for t in range(32):
        for i in range(0, 32, 4):
            row, column = table[t, i] % 16, table[t, i] // 16
            words[0, t] |= np.uint32(int(codes[row, column // 4]) << i)
    np.testing.assert_array_equal(unpack_codes(words, False, 0, 16)[0], codes)


@pytest.mark.parametrize("name", [n for n in TABLES if n.startswith(("K_", "MN_"))])
def test_matrix_descriptors(name: str) -> None:
    entry = TABLES[name]
    major, mode = name.split("_")
    rows, columns = entry["rows"], entry["columns"]
    layout = umma_descriptor({"INTER": 0, "SW128": 2, "SW64": 4, "SW32": 6}[mode] << 61)
    wanted = 2 * np.array(entry["offset"]).reshape(rows, columns)
    if major == "MN":
        np.testing.assert_array_equal(element_addresses(layout, rows, columns, 2), wanted)
    else:
        np.testing.assert_array_equal(chunk_addresses(layout, rows, columns // 8), wanted[:, ::8])


def moved(name: str) -> list[tuple[int, int, int, int]]:
    """(source thread, byte, target thread, byte) of every byte that a copy moves."""
    table = TABLES[name]
    source: dict[int, tuple[int, int]] = {}
    for t, row in enumerate(table["src"]):
        for i, number in enumerate(row):
            source.setdefault(number, (t, i))
    return [(*source[number], t, i) for t, row in enumerate(table["dst"]) for i, number in enumerate(row)]


@pytest.mark.parametrize(("name", "count"), [("U8x8_LDSM_T", 1), ("U8x16_LDSM_T", 2)])
@pytest.mark.parametrize("packing", ["b8", "b8x16.b6x16_p32", "b8x16.b4x16_p64"])
def test_ldmatrix_of_bytes(name: str, count: int, packing: str) -> None:
    rows = np.random.default_rng(1).integers(0, 256, (32, 16), dtype="u1")
    out = np.zeros((32, 2 * count), "u4")
    names = ", ".join(f"%{i}" for i in range(2 * count))
    outs = ", ".join(f'"=r"(v[{i}])' for i in range(2 * count))
    ptx = to_ptx(f"""extern "C" __global__ void k(const uint4* x, unsigned* o) {{ __shared__ uint4 s[32]; int t = threadIdx.x; s[t] = x[t]; __syncthreads(); unsigned v[{2 * count}];
        asm volatile("ldmatrix.sync.aligned.m16n16.x{count}.trans.shared.{packing} {{{names}}}, [%{2 * count}];" : {outs} : "r"((unsigned)__cvta_generic_to_shared(s + t)) : "memory");
        for (int i = 0; i < {2 * count}; ++i) o[t * {2 * count} + i] = v[i]; }}""", "sm_100a")
    simulator.launch(ptx, "k", 1, 32, [rows, out])
    plain = unpacked(rows, packing)
    wanted = np.zeros((32, 8 * count), "u1")
    for source, byte, target, at in moved(name):
        wanted[target, at] = plain[source, byte]
    np.testing.assert_array_equal(out.view("u1"), wanted)


def unpacked(rows: np.ndarray, packing: str) -> np.ndarray:
    """Bytes of 16 narrow elements: 4-bit ones lie at bits 2 to 5, 6-bit ones at bits 0 to 5."""
    if packing == "b8":
        return rows
    width, shift = (4, 2) if "b4" in packing else (6, 0)
    return np.array([[(int.from_bytes(row.tobytes(), "little") >> width * i & ((1 << width) - 1)) << shift for i in range(16)] for row in rows], "u1")


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("packing", ["b8x16.b6x16_p32", "b8x16.b4x16_p64"])
def test_ldmatrix_of_packed_rows(count: int, packing: str) -> None:
    rows = np.random.default_rng(1).integers(0, 256, (32, 16), dtype="u1")
    out = np.zeros((32, count), "u4")
    names, outs = ", ".join(f"%{i}" for i in range(count)), ", ".join(f'"=r"(v[{i}])' for i in range(count))
    ptx = to_ptx(f"""extern "C" __global__ void k(const uint4* x, unsigned* o) {{ __shared__ uint4 s[32]; int t = threadIdx.x; s[t] = x[t]; __syncthreads(); unsigned v[{count}];
        asm volatile("ldmatrix.sync.aligned.m8n16.x{count}.shared.{packing} {{{names}}}, [%{count}];" : {outs} : "r"((unsigned)__cvta_generic_to_shared(s + t)) : "memory");
        for (int i = 0; i < {count}; ++i) o[t * {count} + i] = v[i]; }}""", "sm_100a")
    simulator.launch(ptx, "k", 1, 32, [rows, out])
    plain = unpacked(rows, packing)[:8 * count].reshape(count, 8, 4, 4)
    np.testing.assert_array_equal(out.view("u1").reshape(8, 4, count, 4).transpose(2, 0, 1, 3), plain)


@pytest.mark.parametrize(("name", "count"), [("U8x4_STSM_T", 1), ("U8x8_STSM_T", 2), ("U8x16_STSM_T", 4)])
def test_stmatrix_of_bytes(name: str, count: int) -> None:
    registers = np.random.default_rng(2).integers(0, 1 << 32, (32, count), dtype="u4")
    out = np.zeros((32, 16), "u1")
    names, ins = ", ".join(f"%{i + 1}" for i in range(count)), ", ".join(f'"r"(x[t * {count} + {i}])' for i in range(count))
    ptx = to_ptx(f"""extern "C" __global__ void k(const unsigned* x, uint4* o) {{ __shared__ uint4 s[32]; int t = threadIdx.x; s[t] = make_uint4(0, 0, 0, 0); __syncthreads();
        asm volatile("stmatrix.sync.aligned.m16n8.x{count}.trans.shared.b8 [%0], {{{names}}};" :: "r"((unsigned)__cvta_generic_to_shared(s + t)), {ins} : "memory"); __syncthreads(); o[t] = s[t]; }}""", "sm_100a")
    simulator.launch(ptx, "k", 1, 32, [registers, out])
    wanted = np.zeros((32, 16), "u1")
    seen = set()
    for source, byte, target, at in moved(name):
        if target < 8 * count and (target, at) not in seen:
            seen.add((target, at))
            wanted[target, at] = registers.view("u1")[source, byte]
    np.testing.assert_array_equal(out, wanted)
