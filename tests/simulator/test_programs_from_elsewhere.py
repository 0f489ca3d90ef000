"""What compilers and libraries emit: jump tables, polling loops, narrow addresses, copies that arrive, maps in memory."""
# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.simulator.cuda import to_ptx
from tilus import simulator
from tilus.diagnostics import UserError

HEAD = """.version 8.6
.target sm_90
.address_size 64
"""
TABLE = HEAD + """.visible .entry k(.param .u64 out) {
  .reg .b32 %r<6>; .reg .b64 %rd<4>;
  @TABLE@
  ld.param.u64 %rd1, [out]; mov.u32 %r1, %tid.x; mov.b32 %r3, 99; and.b32 %r2, %r1, MASK; mul.wide.u32 %rd2, %r1, 4; add.s64 %rd3, %rd1, %rd2;
  brx.idx %r2, T;
L0: mov.u32 %r3, 10; bra.uni E;
L1: mov.u32 %r3, 11; bra.uni E;
L2: mov.u32 %r3, 12;
E: st.global.u32 [%rd3], %r3; ret; }"""


@pytest.mark.parametrize("spelling", ["T: .branchtargets L0, L1, L0, L2;", "T:\n\t.branchtargets\n\t\tL0,\n\t\tL1,\n\t\tL0,\n\t\tL2;",
                                      "T: .branchtargets L0 ,L1\t, // two\n L0\n,L2 ;"])
def test_jump_tables_over_lines_and_with_repeated_labels(spelling: str) -> None:
    for mask in (3, 1, 0):
        out = np.zeros(64, "i4")
        simulator.launch(TABLE.replace("@TABLE@", spelling).replace("MASK", str(mask)), "k", 1, 64, [out])
        np.testing.assert_array_equal(out, np.array([10, 11, 10, 12])[np.arange(64) & mask])


def test_an_index_past_a_table_is_a_fault_and_an_empty_table_an_error() -> None:
    text = TABLE.replace("MASK", "7")
    report = simulator.launch(text.replace("@TABLE@", "T: .branchtargets L0, L1, L2, L2;"), "k", 1, 64, [np.zeros(64, "i4")], collect=True)
    assert [f.message for f in report.faults] == ["brx.idx index is outside of its table"]
    for empty in ("T: .branchtargets;", "T:\n.branchtargets\n;", "T: .calltargets ;"):
        with pytest.raises(UserError, match="list 'T' is empty at line"):
            simulator.load(text.replace("@TABLE@", empty))


POLL = HEAD + """.visible .entry k(.param .u64 f, .param .u64 o) {
  .reg .pred %p<4>; .reg .b32 %r<8>; .reg .b64 %rd<6>;
  ld.param.u64 %rd1, [f]; ld.param.u64 %rd2, [o]; mov.u32 %r1, ID; setp.eq.u32 %p1, %r1, LAST;
  @%p1 bra PRODUCE;
  BODY
DONE: st.global.u32 [%rd2], %r3; ret;
PRODUCE: mov.u32 %r4, 0;
LOOP: add.u32 %r4, %r4, 1; setp.lt.u32 %p3, %r4, 50; @%p3 bra LOOP;
  st.release.gpu.global.u32 [%rd1], %r4; ret; }"""
LOAD = "ld.acquire.gpu.global.u32 %r3, [%rd1];"
LOOPS = {
    "fall_through": f"{LOAD} bra.uni Q; P: {LOAD} Q: setp.ne.u32 %p3, %r3, 0; @%p3 bra DONE; bra.uni P;",
    "fall_through_of_a_condition": f"bra.uni Q; P: {LOAD} setp.ne.u32 %p3, %r3, 0; @%p3 bra DONE; Q: setp.eq.u32 %p2, %r1, %r1; @%p2 bra P; bra.uni P;",
    "natural": f"P: {LOAD} setp.eq.u32 %p3, %r3, 0; @%p3 bra P;",
    "two_heads": f"bra.uni Q; P: nanosleep.u32 20; Q: {LOAD} setp.ne.u32 %p3, %r3, 0; @%p3 bra DONE; R: bra.uni P;",
    "by_a_table": f"T: .branchtargets P, DONE; P: {LOAD} min.u32 %r5, %r3, 1; brx.idx %r5, T;",
}


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize(("ident", "last", "grid", "block"), [("%ctaid.x", 1, 2, 32), ("%tid.x", 40, 1, 64)])
def test_polling_loops_make_progress_however_they_close(name: str, ident: str, last: int, grid: int, block: int) -> None:
    flag, out = np.zeros(1, "i4"), np.zeros(1, "i4")
    text = POLL.replace("BODY", LOOPS[name]).replace("ID", ident).replace("LAST", str(last))
    simulator.launch(text, "k", grid, block, [flag, out], max_steps=200_000)
    assert (flag[0], out[0]) == (50, 50)


@pytest.mark.parametrize("blocks", [1, 5, 16])
def test_copies_that_arrive_at_an_mbarrier(blocks: int) -> None:
    """Many copies of many threads: one arrival each, in time that grows with their number alone."""
    ptx = to_ptx("""#define ASM(...) asm volatile(__VA_ARGS__)
        extern "C" __global__ void k(const float* x, float* y, int n) { __shared__ __align__(16) float s[1024]; __shared__ unsigned long long bar[2]; int t = threadIdx.x; unsigned b = __cvta_generic_to_shared(bar), p = __cvta_generic_to_shared(s);
        x += 1024 * blockIdx.x; y += 1024 * blockIdx.x;
        if (!t) { ASM("mbarrier.init.shared.b64 [%0], 512;" :: "r"(b)); ASM("mbarrier.init.shared.b64 [%0], 256;" :: "r"(b + 8)); } __syncthreads();
        for (int i = 0; i < n; i++) { for (int j = 0; j < 4; j++) ASM("cp.async.ca.shared.global [%0], [%1], 4;" :: "r"(p + 4 * (t + 256 * j)), "l"(x + t + 256 * j) : "memory");
        ASM("cp.async.mbarrier.arrive.shared.b64 [%0]; cp.async.mbarrier.arrive.noinc.shared.b64 [%0]; mbarrier.arrive.shared.b64 _, [%0]; cp.async.mbarrier.arrive.noinc.shared.b64 [%1];" :: "r"(b), "r"(b + 8) : "memory");
        for (int w = 0; w < 2; w++) ASM("{ .reg .pred q; L: mbarrier.try_wait.parity.shared.b64 q, [%0], %1; @!q bra L; }" :: "r"(b + 8 * w), "r"(i & 1) : "memory");
        for (int j = 0; j < 4; j++) y[t * 4 + j] = s[1023 - t * 4 - j] + i; __syncthreads(); } }""")
    x, y = np.arange(1024 * blocks, dtype="f4"), np.zeros(1024 * blocks, "f4")
    report = simulator.launch(ptx, "k", blocks, 256, [x, y, 3])
    np.testing.assert_array_equal(y.reshape(blocks, -1), x.reshape(blocks, -1)[:, ::-1] + 2)
    assert not report.faults


@pytest.mark.parametrize(("move", "access"), [
    ("mov.b32 %r2, m; cvt.u64.u32 %rd1, %r2; cvta.param.u64 %rd2, %rd1;", "ld.b32 %r1, [%rd2+8];"),
    ("mov.b64 %rd1, m; cvta.param.u64 %rd2, %rd1;", "ld.b32 %r1, [%rd2+8];"),
    ("mov.b32 %r2, m; cvt.u64.u32 %rd2, %r2;", "ld.param.b32 %r1, [%rd2+8];"), ("mov.b32 %r2, m;", "ld.param.b32 %r1, [%r2+8];"),
    ("mov.b32 %r2, c; cvt.u64.u32 %rd1, %r2; cvta.const.u64 %rd2, %rd1;", "ld.b32 %r1, [%rd2+8];"), ("mov.b32 %r2, c;", "ld.const.b32 %r1, [%r2+8];"),
    ("mov.b64 %rd1, c; cvta.const.u64 %rd2, %rd1;", "ld.global.b32 %r1, [%rd2+8];"), ("mov.b32 %r2, s; st.shared.b32 [%r2+8], 13;", "ld.shared.b32 %r1, [%r2+8];"),
])
def test_addresses_in_32_bits(move: str, access: str) -> None:
    text = HEAD + f""".const .align 4 .b32 c[4] = {{11, 12, 13, 14}};
    .visible .entry k(.param .align 16 .b8 m[16], .param .u64 o) {{ .reg .b32 %r<4>; .reg .b64 %rd<4>; .shared .align 4 .b8 s[16]; {move} {access} ld.param.u64 %rd3, [o]; st.global.b32 [%rd3], %r1; ret; }}"""
    out = np.zeros(1, "i4")
    simulator.launch(text, "k", 1, 1, [np.array([11, 12, 13, 14], "i4").tobytes(), out])
    assert out[0] == 13


STORE = """struct alignas(64) CUtensorMap { unsigned long long opaque[16]; };
extern "C" __global__ void k(const __grid_constant__ CUtensorMap m) { @BODY@ }
extern "C" __global__ void in_memory(const CUtensorMap* p) { const CUtensorMap& m = *p; @BODY@ }
struct P { int head[16]; CUtensorMap m; int tail; };
extern "C" __global__ void in_a_struct(const __grid_constant__ P p) { const CUtensorMap& m = p.m; @BODY@ }
__device__ CUtensorMap variable;
extern "C" __global__ void of_the_module() { const CUtensorMap& m = variable; @BODY@ }
""".replace("@BODY@", """__shared__ alignas(128) float s[4][32]; int t = threadIdx.x; s[t / 16][t % 16] = t;
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); __syncthreads();
    if (!t) { unsigned a = __cvta_generic_to_shared(s); asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %2}], [%1]; cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;" :: "l"(&m), "r"(a), "r"(0) : "memory"); }""")


@pytest.mark.parametrize("entry", ["k", "in_memory", "in_a_struct", "of_the_module"])
def test_a_tensor_map_wherever_it_stands(entry: str) -> None:
    """The box is wider than the tensor: the columns outside of it are neither stored nor read."""
    y = np.zeros((4, 16), "f4")
    made = simulator.TensorMap(y, (4, 32))
    args = {"k": [made], "in_memory": [made], "in_a_struct": [simulator.Struct(bytes(256), {64: made})]}.get(entry, [])
    simulator.launch(to_ptx(STORE, "sm_90a"), entry, 1, 64, args, variables={"variable": made} if entry == "of_the_module" else None)
    np.testing.assert_array_equal(y.reshape(-1), np.arange(64))


def test_a_tensor_map_made_on_the_device() -> None:
    """Every field by tensormap.replace in shared memory, a copy with a proxy fence, and a load through it."""
    ptx = to_ptx("""#define ASM(...) asm volatile(__VA_ARGS__)
    #define R(field, type, con, v) ASM("tensormap.replace.tile." field ".shared::cta.b1024." type " [%0], %1;" :: "r"(a), con(v) : "memory")
    #define RI(field, type, con, i, v) ASM("tensormap.replace.tile." field ".shared::cta.b1024." type " [%0], " #i ", %1;" :: "r"(a), con(v) : "memory")
    extern "C" __global__ void k(const int* x, int* y, char* workspace, int rows, int columns) { __shared__ alignas(128) int tile[8][32]; __shared__ alignas(128) int map[32]; __shared__ unsigned long long bar;
    int t = threadIdx.x; unsigned a = __cvta_generic_to_shared(map), s = __cvta_generic_to_shared(tile), b = __cvta_generic_to_shared(&bar); map[t] = 0; if (!t) ASM("mbarrier.init.shared.b64 [%0], 1;" :: "r"(b)); __syncwarp();
    if (!t) { R("global_address", "b64", "l", x); R("rank", "b32", "r", 1); RI("box_dim", "b32", "r", 0, 32); RI("box_dim", "b32", "r", 1, 8); RI("global_dim", "b32", "r", 0, columns); RI("global_dim", "b32", "r", 1, rows);
      RI("global_stride", "b64", "l", 0, (long long)columns * 4); RI("element_stride", "b32", "r", 0, 1); RI("element_stride", "b32", "r", 1, 1);
      ASM("tensormap.replace.tile.elemtype.shared::cta.b1024.b32 [%0], 0x3; tensormap.replace.tile.interleave_layout.shared::cta.b1024.b32 [%0], 0; tensormap.replace.tile.swizzle_mode.shared::cta.b1024.b32 [%0], 0; tensormap.replace.tile.fill_mode.shared::cta.b1024.b32 [%0], 0;" :: "r"(a) : "memory"); }
    __syncwarp(); ASM("tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%0], [%1], 128;" :: "l"(workspace), "r"(a) : "memory");
    ASM("fence.proxy.tensormap::generic.acquire.gpu [%0], 128;" :: "l"(workspace) : "memory");
    if (!t) ASM("mbarrier.arrive.expect_tx.shared.b64 _, [%0], 1024; cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%1], [%2, {%3, %4}], [%0];" :: "r"(b), "r"(s), "l"(workspace), "r"(4), "r"(2) : "memory");
    ASM("{ .reg .pred q; L: mbarrier.try_wait.parity.shared.b64 q, [%0], 0; @!q bra L; }" :: "r"(b) : "memory"); for (int i = 0; i < 8; i++) y[i * 32 + t] = tile[i][t]; }""", "sm_90a")
    x, y = np.arange(9 * 32, dtype="i4").reshape(9, 32) + 1, np.zeros((8, 32), "i4")
    simulator.launch(ptx, "k", 1, 32, [x, y, np.zeros(128, "u1"), 9, 32])
    wanted = np.zeros((8, 32), "i4")
    wanted[:7, :28] = x[2:, 4:]
    np.testing.assert_array_equal(y, wanted)


def test_pointers_to_pointers() -> None:
    ptx = to_ptx("""struct Node { int value; const Node* next; }; __device__ const int* lists[3]; __device__ Node first;
    extern "C" __global__ void k(const int* const* rows, int* out, const Node* node) { int t = threadIdx.x; int v = rows[t % 3] ? rows[t % 3][t] : -1;
      for (const Node* n = node; n; n = n->next) v += n->value; out[t] = v + lists[t % 2][t] + first.value + first.next->value; }""")
    a, b, out = np.arange(8, dtype="i4"), np.arange(8, dtype="i4") * 10, np.zeros(8, "i4")
    node = lambda value, following: simulator.Struct(np.array([value, 0, 0, 0], "i4").tobytes(), {8: following})  # noqa: E731
    simulator.launch(ptx, "k", 1, 8, [[a, None, b], out, node(1000, node(2000, None))],
                     variables={"lists": [b, simulator.Pointer(a, 0), None], "first": node(5, node(6, None))})
    t = np.arange(8)
    np.testing.assert_array_equal(out, np.choose(t % 3, [a, -1, b]) + 3000 + np.choose(t % 2, [b, a]) + 11)


def test_approximate_functions_under_a_seed_depend_on_their_input_alone() -> None:
    ptx = to_ptx("""extern "C" __global__ void k(float* y, float v) { float r, q; asm("ex2.approx.f32 %0, %1;" : "=f"(r) : "f"(v + threadIdx.x % 4));
        asm("rcp.approx.f32 %0, %1;" : "=f"(q) : "f"(r)); __shared__ float s[4]; s[threadIdx.x % 4] = q; __syncthreads(); y[threadIdx.x] = s[threadIdx.x % 4]; }""")
    results = set()
    for seed in range(12):
        y = np.zeros(128, "f4")
        simulator.launch(ptx, "k", 1, 128, [y, np.float32(0.37)], seed=seed)
        assert (y.reshape(-1, 4) == y[:4]).all()
        results.add(y[:4].tobytes())
    assert len(results) > 3


def test_barriers_and_polls_under_a_seed() -> None:
    ptx = to_ptx("""extern "C" __global__ void k(int* y, int n) { __shared__ int s[128]; __shared__ alignas(8) unsigned long long bar[8]; int t = threadIdx.x; unsigned b = __cvta_generic_to_shared(bar);
    if (!t) for (int i = 0; i < 8; i++) asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" :: "r"(b + 8 * i) : "memory"); __syncthreads();
    if (t >= 128) { if (t == 128) for (int i = 0; i < n; i++) asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" :: "r"(b + 8 * i) : "memory"); return; }
    for (int i = 0; i < n; i++) { int ok; do { asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], 0; selp.s32 %0, 1, 0, p; }" : "=r"(ok) : "r"(b + 8 * i) : "memory"); } while (!ok);
      s[t] = t + i; asm volatile("bar.sync 1, 128;" ::: "memory"); int v = s[127 - t]; asm volatile("bar.sync 1, 128;" ::: "memory"); y[i * 128 + t] = v; } }""")
    for seed in range(12):
        y = np.zeros((8, 128), "i4")
        simulator.launch(ptx, "k", 1, 160, [y, 8], seed=seed)
        np.testing.assert_array_equal(y, (127 - np.arange(128))[None] + np.arange(8)[:, None])


def test_a_limit_names_the_loop() -> None:
    ptx = to_ptx("""extern "C" __global__ void k(int* y, int n) { for (int j = 0; j < 3; j++) y[threadIdx.x] = j;
        for (unsigned i = n; i != 0; i -= 2) y[threadIdx.x] += i; }""")
    report = simulator.launch(ptx, "k", 1, 32, [np.zeros(32, "i4"), 3], collect=True, max_steps=100_000)
    (fault,) = report.faults
    assert fault.check == "limit"
    lines = ptx.split("\n")
    first, last = (int(word) for word in fault.message.split("lines ")[1].split(";")[0].split(" to "))
    assert any("add.s32" in line for line in lines[first - 1:last])
    assert "bra" in lines[last - 1]
    assert fault.block == (0, 0, 0)
    assert report.total_instructions > 50_000


def test_progress_is_told() -> None:
    ptx = to_ptx('extern "C" __global__ void k(int* y) { for (unsigned i = 1; i; i += 2) y[threadIdx.x] += i; }')
    seen: list[tuple[int, int, int]] = []
    simulator.launch(ptx, "k", 1, 32, [np.zeros(32, "i4")], collect=True, max_steps=1_500_000, progress=lambda *state: seen.append(state))
    assert seen
    assert all(done == 0 and blocks == 1 for done, blocks, _ in seen)
    assert seen[-1][2] > 100_000


WAITS = """#define ASM(...) asm volatile(__VA_ARGS__)
#define TRY(b, p) ASM("{ .reg .pred q; L: mbarrier.try_wait.parity.shared.b64 q, [%0], %1; @!q bra L; }" :: "r"(b), "r"(p) : "memory")
extern "C" __global__ void k(volatile int* flag, int* y) { __shared__ alignas(8) unsigned long long pad[3], bars[2]; unsigned b = __cvta_generic_to_shared(bars + 1); int t = threadIdx.x; pad[t % 3] = 0;
  if (!t) ASM("mbarrier.init.shared.b64 [%0], 3;" :: "r"(b) : "memory"); __syncthreads(); @BODY@ y[t] = 1 + pad[t % 3]; }"""


@pytest.mark.parametrize(("body", "told"), [
    ('if (!t) ASM("mbarrier.arrive.expect_tx.shared.b64 _, [%0], 512;" :: "r"(b) : "memory"); TRY(b, 0);',
     "they wait for parity 0 of the mbarrier at byte 8 of bars, shared address 0x20: its phase, of parity 0, lacks 2 of 3 arrivals and 512 bytes"),
    ('if (t < 3) ASM("mbarrier.arrive.shared.b64 _, [%0];" :: "r"(b) : "memory"); TRY(b, 0); TRY(b, 1);', "they wait for parity 1 .* of parity 1, lacks 3 of 3 arrivals and 0 bytes"),
    ("while (flag[2] != 7) {}", "they read byte 8 of argument k_param_0, which holds 0x5"),
    ("if (t == 40) while (flag[1] != 7) {}", "they read byte 4 of argument k_param_0, which holds 0x5"),
])
def test_endless_polling_tells_what_is_awaited(body: str, told: str) -> None:
    ptx = to_ptx(WAITS.replace("@BODY@", body), "sm_90")
    report = simulator.launch(ptx, "k", 1, 64, [np.full(4, 5, "i4"), np.zeros(64, "i4")], collect=True)
    (fault,) = [f for f in report.faults if "poll" in f.message]
    assert re.search(f"threads poll without end: nothing can end its wait; {told}", fault.message), fault.message
