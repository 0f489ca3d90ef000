"""Wavefronts and sectors of access patterns, against numbers worked out by hand."""
# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501

from __future__ import annotations

import numpy as np
import pytest

from tests.simulator.cuda import to_ptx
from tilus import simulator

# Stride in words -> wavefronts of one warp: lanes i and j collide when i*s = j*s modulo 32, so gcd(s, 32) lanes share a
# bank (stride 0 is a broadcast).
STRIDES = {0: 1, 1: 1, 2: 2, 3: 1, 4: 4, 5: 1, 6: 2, 7: 1, 8: 8, 9: 1, 10: 2, 11: 1, 12: 4, 13: 1, 14: 2, 15: 1, 16: 16,
           17: 1, 18: 2, 19: 1, 20: 4, 21: 1, 22: 2, 23: 1, 24: 8, 25: 1, 26: 2, 27: 1, 28: 4, 29: 1, 30: 2, 31: 1,
           32: 32, 33: 1}

# name, type, index of the first element (of that type) for lane t, wavefronts of a warp
PATTERNS = [
    ("float2_consecutive", "float2", "t", 2),
    ("float2_stride_2", "float2", "t * 2", 4),
    ("float2_broadcast", "float2", "0", 2),
    ("float2_stride_16", "float2", "t * 16", 32),
    ("float4_consecutive", "float4", "t", 4),
    ("float4_stride_2", "float4", "t * 2", 8),
    ("float4_stride_8", "float4", "t * 8", 32),
    ("float4_stride_9", "float4", "t * 9", 4),
    ("float4_broadcast", "float4", "0", 4),
    ("float4_rows_of_128_bytes", "float4", "t % 8 * 8 + t / 8", 32),
    ("float4_rows_swizzled", "float4", "t % 8 * 8 + (t / 8 ^ t % 8)", 4),
    ("float4_rows_of_64_bytes", "float4", "t % 8 * 4 + t / 8", 16),
    ("bytes_consecutive", "char", "t", 1),
    ("halves_of_one_word", "short", "t / 2 * 2 + t % 2", 1),
    ("halves_stride_64", "short", "t * 64", 32),
    ("two_groups_of_one_bank", "float", "t / 16 * 32 + t % 16", 2),
    ("reversed", "float", "31 - t", 1),
    ("pairs_broadcast", "float", "t / 2", 1),
]


def shared_units(kind: str, index: str) -> int:
    ptx = to_ptx(f"""extern "C" __global__ void k({kind}* out) {{ __shared__ __align__(16) char raw[40000]; int t = threadIdx.x;
        volatile int zero = 0; out[t] = (({kind}*)raw)[{index} + zero]; }}""")
    size = {"char": 1, "short": 2, "float": 4, "float2": 8, "float4": 16}[kind]
    report = simulator.launch(ptx, "k", 1, 32, [np.zeros(32 * size, "u1")], checks=False)
    return report.shared_wavefronts


@pytest.mark.parametrize(("stride", "wavefronts"), STRIDES.items())
def test_shared_strides(stride: int, wavefronts: int) -> None:
    assert shared_units("float", f"t * {stride}") == wavefronts


@pytest.mark.parametrize(("name", "kind", "index", "wavefronts"), PATTERNS, ids=[p[0] for p in PATTERNS])
def test_shared_patterns(name: str, kind: str, index: str, wavefronts: int) -> None:
    assert shared_units(kind, index) == wavefronts


LDMATRIX = [
    ("rows_of_16_bytes", "t * 16", 4), ("rows_of_32_bytes", "t * 32", 8), ("rows_of_128_bytes", "t * 128", 32),
    ("rows_of_144_bytes", "t * 144", 4), ("swizzled_128", "t / 8 * 1024 + t % 8 * 128 + (t / 8 ^ t % 8) * 16", 4),
    ("same_row", "0", 4),
]


@pytest.mark.parametrize(("name", "offset", "wavefronts"), LDMATRIX, ids=[p[0] for p in LDMATRIX])
def test_ldmatrix(name: str, offset: str, wavefronts: int) -> None:
    ptx = to_ptx(f"""extern "C" __global__ void k(int* out) {{ __shared__ __align__(128) char raw[40000]; int t = threadIdx.x, a, b, c, d;
        unsigned p = (unsigned)__cvta_generic_to_shared(raw) + ({offset});
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{%0, %1, %2, %3}}, [%4];" : "=r"(a), "=r"(b), "=r"(c), "=r"(d) : "r"(p));
        out[t] = a + b + c + d; }}""")
    report = simulator.launch(ptx, "k", 1, 32, [np.zeros(32, "i4")], checks=False)
    assert report.shared_wavefronts == wavefronts


# name, type, index, active lanes, sectors (32 bytes) of one warp's request
GLOBAL = [
    ("coalesced", "float", "t", "true", 4), ("stride_2", "float", "t * 2", "true", 8), ("stride_8", "float", "t * 8", "true", 32),
    ("stride_3", "float", "t * 3", "true", 12), ("broadcast", "float", "5", "true", 1), ("shifted_by_one", "float", "t + 1", "true", 5),
    ("float4", "float4", "t", "true", 16), ("float4_stride_2", "float4", "t * 2", "true", 32), ("bytes", "char", "t", "true", 1),
    ("half_warp", "float", "t", "t < 16", 2), ("every_eighth_lane", "float", "t", "t % 8 == 0", 4), ("doubles", "double", "t", "true", 8),
    ("reversed", "float", "31 - t", "true", 4), ("shorts_stride_16", "short", "t * 16", "true", 32),
]


@pytest.mark.parametrize(("name", "kind", "index", "active", "sectors"), GLOBAL, ids=[p[0] for p in GLOBAL])
def test_global_sectors(name: str, kind: str, index: str, active: str, sectors: int) -> None:
    ptx = to_ptx(f"""extern "C" __global__ void k(const {kind}* x, {kind}* out) {{ __shared__ {kind} s[32]; int t = threadIdx.x;
        if ({active}) s[t] = x[{index}]; __syncthreads(); if (t == 99) out[0] = s[3]; }}""")
    size = {"char": 1, "short": 2, "float": 4, "float4": 16, "double": 8}[kind]
    report = simulator.launch(ptx, "k", 1, 32, [np.zeros(512 * size, "u1"), np.zeros(size, "u1")], checks=False)
    assert (report.global_requests, report.global_sectors) == (1, sectors)


def test_instruction_and_line_counts() -> None:
    ptx = to_ptx("""extern "C" __global__ void k(float* x, int n) { float s = 0; for (int i = 0; i < n; ++i) { s = s * x[0] + i;
        __syncthreads(); } x[threadIdx.x + 1] = s; }""")
    report = simulator.launch(ptx, "k", 3, 64, [np.zeros(65 * 1, "f4"), 10], checks=False)
    assert report.instructions["barrier"] == 3 * 2 * 10
    assert report.instructions["store"] == 3 * 2
    line = next(i for i, text in enumerate(ptx.split("\n"), 1) if "bar.sync" in text)
    assert report.lines[line] == sum(count for number, count in report.lines.items() if number == line)
    assert f"{report.lines[line]:>9}" in report.listing()
    assert '"barrier": ' in report.to_json()
    assert "warp instructions" in report.text()
