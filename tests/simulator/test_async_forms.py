"""st.async, red.async, bulk reductions and masks, im2col tensor copies and multimem in CUDA C++."""
# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.simulator.cuda import to_ptx
from tilus import simulator
from tilus.diagnostics import UserError

HEAD = """typedef unsigned u32; typedef unsigned long long u64;
__device__ __forceinline__ u32 sa(const void* p) { return (u32)__cvta_generic_to_shared(p); }
#define ASM(...) asm volatile(__VA_ARGS__)
#define INIT(b, n) ASM("mbarrier.init.shared.b64 [%0], %1;" :: "r"(sa(b)), "r"(n) : "memory")
#define EXPECT(b, n) ASM("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" :: "r"(sa(b)), "r"(n) : "memory")
#define TRY(b, p) ASM("{ .reg .pred q;\\nL: mbarrier.try_wait.parity.acquire.cluster.shared.b64 q, [%0], %1;\\n@!q bra L; }" :: "r"(sa(b)), "r"(p) : "memory")
#define CLUSTER ASM("barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;" ::: "memory")
__device__ __forceinline__ u32 peer(u32 a, u32 r) { u32 d; ASM("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(r)); return d; }
#define FENCE ASM("fence.proxy.async.shared::cta;" ::: "memory")
#define SYNC __syncthreads()
"""


def run(body: str, grid: Any, block: int, args: list[Any], parameters: str = "u32* x, u32* o", arch: str = "sm_90", **options: Any) -> simulator.Report:
    cluster = "__cluster_dims__(2, 1, 1) " if "CLUSTER" in body else ""
    source = HEAD + f'extern "C" __global__ {cluster}void k({parameters}) {{ int t = threadIdx.x; {body} }}'
    return simulator.launch(to_ptx(source, arch), "k", grid, block, args, **options)


@pytest.mark.parametrize("seed", [None, 0, 1])
@pytest.mark.parametrize(("form", "words"), [("b32", 1), ("v2.b32", 2), ("v4.u32", 4)])
def test_stores_that_signal_a_barrier_of_another_block(form: str, words: int, seed: int | None) -> None:
    x, out = np.arange(2 * 32 * words, dtype="u4"), np.zeros(2 * 32 * words, "u4")
    registers = "%1" if words == 1 else "{" + ", ".join(f"%{i + 1}" for i in range(words)) + "}"
    values = ", ".join(f'"r"(v[{i}])' for i in range(words))
    run(f"""__shared__ __align__(16) u32 s[{32 * words}]; __shared__ u64 bar; u32 r = blockIdx.x; if (!t) {{ INIT(&bar, 1); EXPECT(&bar, {128 * words}); }} CLUSTER;
        u32 v[{words}]; for (int i = 0; i < {words}; ++i) v[i] = x[(r * 32 + t) * {words} + i];
        ASM("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.{form} [%0], {registers}, [%{words + 1}];" :: "r"(peer(sa(s + t * {words}), 1 - r)), {values}, "r"(peer(sa(&bar), 1 - r)) : "memory");
        TRY(&bar, 0); for (int i = 0; i < {words}; ++i) o[(r * 32 + t) * {words} + i] = s[t * {words} + i]; CLUSTER;""", 2, 32, [x, out], seed=seed)
    np.testing.assert_array_equal(out, np.concatenate([x[32 * words:], x[:32 * words]]))


@pytest.mark.parametrize(("form", "start", "function"), [("add.u32", 3, lambda v: 3 + v.sum()), ("max.s32", 5, lambda v: max(5, v.max())), ("or.b32", 1, lambda v: np.bitwise_or.reduce(v) | 1),
                                                         ("inc.u32", 0, lambda v: 0), ("xor.b32", 9, lambda v: np.bitwise_xor.reduce(v) ^ 9)])
def test_reductions_that_signal_a_barrier(form: str, start: int, function: Any) -> None:
    x, out = np.random.default_rng(0).integers(0, 1000, 64, dtype="u4"), np.zeros(2, "u4")
    if form == "inc.u32":
        x[:] = 31  # counts 0 to 31, then begins again
    run(f"""__shared__ u32 s; __shared__ u64 bar; u32 r = blockIdx.x; if (!t) {{ s = {start}; INIT(&bar, 1); EXPECT(&bar, 128); }} CLUSTER;
        ASM("red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.{form} [%0], %1, [%2];" :: "r"(peer(sa(&s), 1 - r)), "r"(x[r * 32 + t]), "r"(peer(sa(&bar), 1 - r)) : "memory");
        TRY(&bar, 0); if (!t) o[r] = s; CLUSTER;""", 2, 32, [x, out])
    np.testing.assert_array_equal(out, [function(x[32:]), function(x[:32])])


def test_store_and_barrier_of_different_blocks() -> None:
    report = run("""__shared__ u32 s; __shared__ u64 bar; u32 r = blockIdx.x; if (!t) { INIT(&bar, 1); EXPECT(&bar, 4); } CLUSTER; if (!t)
        ASM("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" :: "r"(peer(sa(&s), 1 - r)), "r"(1), "r"(peer(sa(&bar), r)) : "memory"); TRY(&bar, 0); CLUSTER;""",
                 2, 32, [np.zeros(1, "u4")] * 2, collect=True)
    assert {f.check for f in report.faults} == {"value"}


@pytest.mark.parametrize(("form", "combine"), [("add.u32", np.add), ("min.s32", np.minimum), ("and.b32", np.bitwise_and), ("max.u32", np.maximum)])
def test_bulk_reduction_into_another_block(form: str, combine: Any) -> None:
    x, out = np.random.default_rng(0).integers(0, 1 << 30, (2, 64), dtype="u4"), np.zeros((2, 64), "u4")
    run(f"""__shared__ __align__(16) u32 s[64], d[64]; __shared__ u64 bar; u32 r = blockIdx.x; s[t] = x[r * 64 + t]; d[t] = x[r * 64 + t] ^ 0x1234; if (!t) {{ INIT(&bar, 1); EXPECT(&bar, 256); }} FENCE; CLUSTER;
        if (!t) ASM("cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.{form} [%0], [%1], %2, [%3];" :: "r"(peer(sa(d), 1 - r)), "r"(sa(s)), "r"(256), "r"(peer(sa(&bar), 1 - r)) : "memory");
        TRY(&bar, 0); o[r * 64 + t] = d[t]; CLUSTER;""", 2, 64, [x, out])
    np.testing.assert_array_equal(out, [combine(x[0] ^ 0x1234, x[1]), combine(x[1] ^ 0x1234, x[0])])


def test_bulk_store_with_a_byte_mask() -> None:
    x, out = np.arange(64, dtype="u4") + 0x01020304, np.full(64, 0xFFFFFFFF, "u4")
    run("""__shared__ __align__(16) u32 s[64]; s[t] = x[t]; FENCE; SYNC; if (!t) {
        ASM("cp.async.bulk.global.shared::cta.bulk_group.cp_mask [%0], [%1], %2, %3;" :: "l"(o), "r"(sa(s)), "r"(256), "h"((short)0x30f5) : "memory");
        ASM("cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;" ::: "memory"); }""", 1, 64, [x, out], arch="sm_100a")
    mask = np.array([0x30F5 >> i & 1 for i in range(16)] * 16, bool)
    np.testing.assert_array_equal(out.view("u1"), np.where(mask, x.view("u1"), 0xFF))


def test_multimem_is_the_memory_of_this_device() -> None:
    x, out = np.arange(32, dtype="u4"), np.full(128, 7, "u4")
    run("""u32 v; ASM("multimem.ld_reduce.relaxed.sys.global.add.u32 %0, [%1];" : "=r"(v) : "l"(x + t) : "memory"); o[t] = v;
        ASM("multimem.st.relaxed.gpu.global.u32 [%0], %1;" :: "l"(o + 32 + t), "r"(v * 3) : "memory"); ASM("multimem.red.relaxed.gpu.global.add.u32 [%0], %1;" :: "l"(o + 64), "r"(v) : "memory");
        ASM("multimem.ld_reduce.weak.global.min.u32 %0, [%1];" : "=r"(v) : "l"(x + 31 - t) : "memory"); ASM("multimem.st.weak.global.u32 [%0], %1;" :: "l"(o + 96 + t), "r"(v) : "memory"); v = t;
        ASM("multimem.red.relaxed.gpu.global.max.u32 [%0], %1;" :: "l"(o + 65 + t % 2), "r"(v) : "memory");""", 1, 32, [x, out])
    np.testing.assert_array_equal(out[:64], np.concatenate([x, 3 * x]))
    assert list(out[64:68]) == [7 + x.sum(), 30, 31, 7]
    np.testing.assert_array_equal(out[96:], x[::-1])


def columns(x: np.ndarray, start: tuple[int, ...], offsets: tuple[int, ...], pixels: int, lower: tuple[int, ...], upper: tuple[int, ...], channels: int) -> np.ndarray:
    """Channels of the pixels of the bounding box, walked row by row: (pixels, channels)."""
    n, *spatial, _ = x.shape
    ranges = [range(low, extent + high) for low, extent, high in zip(lower, spatial, upper, strict=True)]
    walk = [(image, *place) for image in range(n) for place in np.stack(np.meshgrid(*ranges, indexing="ij"), -1).reshape(-1, len(ranges))]
    begin = next(i for i, place in enumerate(walk) if tuple(place) == start)
    out = np.zeros((pixels, channels), x.dtype)
    for i, (image, *place) in enumerate(walk[begin:begin + pixels]):
        at = [p + o for p, o in zip(place, offsets, strict=True)]
        if all(0 <= p < e for p, e in zip(at, spatial, strict=True)):
            out[i] = x[(image, *at)][4:4 + channels]
    return out


@pytest.mark.parametrize("spatial", [(9,), (6, 7), (3, 4, 5)])
@pytest.mark.parametrize("swizzle", [0, 32])
def test_im2col_load(spatial: tuple[int, ...], swizzle: int) -> None:
    x = np.random.default_rng(0).integers(1, 1 << 31, (2, *spatial, 16)).astype("i4")
    dims, pixels, channels = len(spatial), 24, 8
    lower, upper = (-1,) * dims, (-1,) * dims
    start, offsets = (0, *(0,) * dims), tuple(range(2, 2 - dims, -1))
    out = np.zeros((pixels, channels), "i4")
    coordinates = ", ".join(["%4", *["%5"] * dims, "%5"])
    text = f"cp.async.bulk.tensor.{dims + 2}d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%0], [%1, {{{coordinates}}}], [%2], {{{', '.join(f'%{6 + i}' for i in range(dims))}}};"
    names = ", ".join(f'"h"((short){o})' for o in reversed(offsets))
    map_ = simulator.Im2colMap(x, channels, pixels, lower, upper, swizzle=swizzle)
    body = f"""__shared__ __align__(128) u32 s[{pixels * channels}]; __shared__ u64 bar; if (!t) {{ INIT(&bar, 1); EXPECT(&bar, {pixels * channels * 4}); FENCE;
        ASM("{text}" :: "r"(sa(s)), "l"(&m), "r"(sa(&bar)), "r"(0), "r"(4), "r"(0), {names} : "memory"); }} SYNC; TRY(&bar, 0);
        for (int i = t; i < {pixels * channels}; i += 32) {{ int c = i; if ({swizzle}) c ^= (i >> 5 & 1) << 2; o[i] = s[c]; }}"""
    launch_map(body, [map_, out])
    np.testing.assert_array_equal(out, columns(x, start, offsets, pixels, lower, upper, channels))


def launch_map(body: str, args: list[Any]) -> None:
    source = HEAD + f'struct __align__(64) Map {{ u64 words[16]; }}; extern "C" __global__ void k(const __grid_constant__ Map m, u32* o) {{ int t = threadIdx.x; {body} }}'
    simulator.launch(to_ptx(source, "sm_90"), "k", 1, 32, args)


def test_im2col_store_writes_pixels_in_order() -> None:
    x = np.zeros((2, 4, 5, 8), "i4")
    map_ = simulator.Im2colMap(x, 8, 12, (0, 0), (0, 0))
    body = """__shared__ __align__(128) u32 s[96]; for (int i = t; i < 96; i += 32) s[i] = i + 1; FENCE; SYNC; if (!t) {
        ASM("cp.async.bulk.tensor.4d.global.shared::cta.im2col_no_offs.bulk_group [%0, {%2, %3, %3, %2}], [%1];" :: "l"(&m), "r"(sa(s)), "r"(0), "r"(1) : "memory");
        ASM("cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;" ::: "memory"); } o[t] = 1;"""
    launch_map(body, [map_, np.zeros(32, "u4")])
    wanted = np.zeros_like(x)
    wanted.reshape(40, 8)[6:18] = np.arange(1, 97).reshape(12, 8)
    np.testing.assert_array_equal(x, wanted)


def test_im2col_map_with_too_few_corners() -> None:
    with pytest.raises(UserError, match="corners"):
        simulator.Im2colMap(np.zeros((2, 4, 5, 8), "i4"), 8, 12, (0,), (0, 0))


@pytest.mark.parametrize("mode", ["tile", "im2col_no_offs"])
def test_tensor_reduction(mode: str) -> None:
    x = np.arange(2 * 4 * 5 * 8, dtype="i4").reshape(2, 4, 5, 8)
    before = x.copy()
    made = simulator.TensorMap(x, (1, 2, 3, 8)) if mode == "tile" else simulator.Im2colMap(x, 8, 6, (0, 0), (0, 0))
    body = f"""__shared__ __align__(128) u32 s[48]; for (int i = t; i < 48; i += 32) s[i] = 1000 * i; FENCE; SYNC; if (!t) {{
        ASM("cp.reduce.async.bulk.tensor.4d.global.shared::cta.add.{mode}.bulk_group [%0, {{%2, %3, %3, %2}}], [%1];" :: "l"(&m), "r"(sa(s)), "r"(0), "r"(1) : "memory");
        ASM("cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;" ::: "memory"); }} o[t] = 1;"""
    launch_map(body, [made, np.zeros(32, "u4")])
    added = 1000 * np.arange(48).reshape(6, 8)
    if mode == "tile":
        before[0, 1:3, 1:4] += added.reshape(2, 3, 8).astype("i4")
    else:
        before.reshape(40, 8)[6:12] += added.astype("i4")
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(("left", "right", "size"), [(0, 0, 64), (4, 0, 64), (0, 12, 32), (15, 15, 48), (3, 9, 16), (16, 0, 32)])
def test_a_bulk_load_that_ignores_bytes_at_its_ends(left: int, right: int, size: int) -> None:
    """They count for the barrier, are neither read nor written, and are at most 15 at either end."""
    x, out = np.arange(64, dtype="u1") + 1, np.zeros(64, "u1")
    ptx = f""".version 9.2\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 px, .param .u64 po) {{ .reg .b64 a, o, s; .reg .b32 t; .reg .b16 v; .reg .pred p;
    .shared .align 16 .b8 tile[64]; .shared .align 8 .b64 bar; ld.param.u64 a, [px]; ld.param.u64 o, [po]; mov.u32 t, %tid.x; cvt.u64.u32 s, t; add.u64 o, o, s;
    mov.u64 s, tile; {{ .reg .b64 at; cvt.u64.u32 at, t; add.u64 s, s, at; }} st.shared.u8 [s], 200; fence.proxy.async; setp.ne.u32 p, t, 0;
    @!p mbarrier.init.shared.b64 [bar], 1; bar.sync 0; @p bra W; mbarrier.arrive.expect_tx.shared.b64 _, [bar], {size};
    cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes.ignore_oob [tile], [a], {size}, {left}, {right}, [bar];
    W: {{ .reg .pred q; T: mbarrier.try_wait.parity.shared.b64 q, [bar], 0; @!q bra T; }} ld.shared.u8 v, [s]; st.global.u8 [o], v; ret; }}"""
    report = simulator.launch(ptx, "k", 1, 64, [x[:size - right].copy(), out], collect=True)
    assert [fault.check for fault in report.errors] == ["value"] * (left > 15), report.fault_lines()
    wanted = np.full(64, 200, "u1")
    wanted[left:size - right] = x[left:size - right]
    np.testing.assert_array_equal(out, wanted)


@pytest.mark.parametrize(("between", "levels"), [
    ("barrier.cluster.arrive.relaxed; barrier.cluster.wait;", ["formal"]), ("", ["error"]), ("bar.sync 0;", []),
    ("barrier.cluster.arrive; barrier.cluster.wait;", []),
    ("fence.mbarrier_init.release.cluster; barrier.cluster.arrive.relaxed; barrier.cluster.wait;", []),
    ("barrier.cluster.arrive.relaxed; fence.mbarrier_init.release.cluster; barrier.cluster.wait;", ["formal"]),
])
def test_what_stands_between_initialisation_and_use(between: str, levels: list[str]) -> None:
    """A relaxed arrival orders nothing without the fence; within a block, hardware is known to take it."""
    ptx = f""".version 8.3\n.target sm_90\n.address_size 64\n.visible .entry k() {{ .reg .b32 t; .reg .pred p; .shared .align 8 .b64 bar;
    mov.u32 t, %tid.x; setp.eq.u32 p, t, 0; @p mbarrier.init.shared.b64 [bar], 64; {between} mbarrier.arrive.shared.b64 _, [bar]; ret; }}"""
    report = simulator.launch(ptx, "k", 1, 64, [], collect=True)
    assert [fault.level for fault in report.faults if fault.check == "race"] == levels, report.fault_lines()
