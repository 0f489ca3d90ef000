"""Planted faults: each is found by its check at its line, and its corrected twin runs clean."""
# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from tests.simulator.cuda import to_ptx_with_lines
from tilus import simulator

HEAD = """
__device__ __forceinline__ unsigned sa(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }
#define ASM(...) asm volatile(__VA_ARGS__)
#define CP(d, s) ASM("cp.async.ca.shared.global [%0], [%1], 4;" :: "r"(sa(d)), "l"(s) : "memory")
#define CP16(d, s) ASM("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(sa(d)), "l"(s) : "memory")
#define COMMIT ASM("cp.async.commit_group;" ::: "memory")
#define WAIT(n) ASM("cp.async.wait_group " #n ";" ::: "memory")
#define INIT(b, n) ASM("mbarrier.init.shared.b64 [%0], %1;" :: "r"(sa(b)), "r"(n) : "memory")
#define ARRIVE(b) ASM("mbarrier.arrive.shared.b64 _, [%0];" :: "r"(sa(b)) : "memory")
#define EXPECT(b, n) ASM("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" :: "r"(sa(b)), "r"(n) : "memory")
#define TRY(b, p) ASM("{ .reg .pred q;\\nL: mbarrier.try_wait.parity.shared.b64 q, [%0], %1;\\n@!q bra L; }" :: "r"(sa(b)), "r"(p) : "memory")
#define BULK(d, s, n, b) ASM("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" :: "r"(sa(d)), "l"(s), "r"(n), "r"(sa(b)) : "memory")
#define STORE(d, s, n) ASM("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" :: "l"(d), "r"(sa(s)), "r"(n) : "memory")
#define BCOMMIT ASM("cp.async.bulk.commit_group;" ::: "memory")
#define BWAIT ASM("cp.async.bulk.wait_group 0;" ::: "memory")
#define FENCE ASM("fence.proxy.async.shared::cta;" ::: "memory")
#define SYNC __syncthreads()
#define ARRIVEC ASM("barrier.cluster.arrive.aligned;" ::: "memory")
#define WAITC ASM("barrier.cluster.wait.aligned;" ::: "memory")
#define CLUSTER ARRIVEC; WAITC
__device__ __forceinline__ unsigned peer(const void* p, unsigned r) { unsigned d; asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(d) : "r"(sa(p)), "r"(r)); return d; }
#define FARLOAD(v, p) float v; ASM("ld.shared::cluster.f32 %0, [%1];" : "=f"(v) : "r"(p) : "memory")
#define FARSTORE(p, v) ASM("st.shared::cluster.f32 [%0], %1;" :: "r"(p), "f"((float)v) : "memory")
#define LDM(r, p) ASM("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(r) : "r"(sa(p)) : "memory")
extern "C" __global__ void k(float* a, float* b, int* f, int n) {
  int t = threadIdx.x, w = t / 32, l = t % 32, B = blockIdx.x;
"""


@dataclass
class Planted:
    """``body`` commits a fault at its lines marked ``//!``; ``fix`` turns it into the correct twin."""

    name: str
    check: str
    body: str
    fix: list[tuple[str, str]]
    block: int = 64
    grid: int = 1
    arch: str = "sm_80"
    options: dict[str, Any] = field(default_factory=dict)


CLUSTERED: dict[str, Any] = {"grid": 2, "arch": "sm_90", "options": {"cluster": (2, 1, 1)}}
S = "__shared__ __align__(128) float s[256];"
BAR = "__shared__ unsigned long long bar;"
PLANTED = [
    # bounds and alignment
    Planted("global_read_past_end", "bounds", "b[t] = a[t + 200]; //!", [("200", "100")]),
    Planted("global_read_before_start", "bounds", "b[t] = a[t - 1]; //!", [("t - 1", "t")]),
    Planted("global_write_past_end", "bounds", "a[t * 5] = 1; //!", [("* 5", "* 4")]),
    Planted("missing_guard", "bounds", "int i = B * 64 + t;\nb[i] = a[i]; //!", [("b[i] =", "if (i < n) b[i] =")], grid=5),
    Planted("vector_read_past_end", "bounds", "float4 v = ((float4*)a)[t + 1]; //!\nb[t] = v.x + v.w;", [("t + 1", "t")]),
    Planted("off_by_one_loop", "bounds", "float x = 0; for (int i = 0; i <= 256 / 64; ++i)\n x += a[i * 64 + t]; //!\nb[t] = x;",
            [("<=", "<")]),
    Planted("shared_read_past_end", "bounds", S + "s[t] = a[t]; SYNC;\nb[t] = s[t + n]; //!", [("t + n", "t")]),
    Planted("shared_write_past_end", "bounds", S + "\ns[t * n / 32] = a[t]; //!\nSYNC; b[t] = s[t];", [("t * n / 32", "t")]),
    Planted("dynamic_shared_too_small", "bounds", "extern __shared__ float d[];\nd[t] = a[t]; //!\nSYNC; b[t] = d[63 - t];",
            [("d[t]", "d[t & 31]"), ("63 - t", "t & 31")], options={"shared_bytes": 128}),
    Planted("atomic_past_end", "bounds", "atomicAdd(f + t, 1); //!", [("f + t", "f + t / 4")]),
    Planted("null_pointer", "bounds", "float* p = (float*)(unsigned long long)(n / 512);\nb[t] = p[t]; //!", [("p[t]", "a[t]")]),
    Planted("cp_async_source_past_end", "bounds", S + "\nCP(s + t, a + t + 200); //!\nCOMMIT; WAIT(0); SYNC; b[t] = s[t];",
            [(" + 200", "")]),
    Planted("ldmatrix_past_end", "bounds", S + "for (int i = t; i < 256; i += 64) s[i] = 1; SYNC; unsigned r;\n"
            "LDM(r, s + l * 4 + n / 256 * 240); //!\nb[t] = r;", [("n / 256 * 240", "0")]),
    Planted("misaligned_vector", "align", "float4 v = *(float4*)(a + t * 2); //!\nb[t] = v.x + v.y * v.z + v.w;", [("t * 2", "t / 2 * 4")]),
    Planted("misaligned_float2_store", "align", "*(float2*)(b + t) = make_float2(1, 2); //!", [("b + t", "b + t * 2")]),
    Planted("misaligned_shared_vector", "align", S + "for (int i = t; i < 256; i += 64) s[i] = 1; SYNC;\n"
            "float4 v = *(float4*)(s + t + n / 256); //!\nb[t] = v.x + v.y * v.z + v.w;", [("s + t + n / 256", "s + t * 4")]),
    Planted("misaligned_cp_async", "align", S + "\nCP16(s + t, a + t * 4); //!\nCOMMIT; WAIT(0); SYNC; b[t] = s[t];",
            [("s + t, a + t * 4", "s + t * 4, a + t * 4")]),
    Planted("misaligned_half_address", "align", "b[t] = *(float*)((char*)a + t); //!", [("(char*)a + t", "(char*)a + t * 4")]),
    # uninitialised
    Planted("uninitialised_shared", "uninitialised", S + "if (t < 32) s[t] = 1; SYNC;\nb[t] = s[t]; //!", [("if (t < 32) ", "")]),
    Planted("uninitialised_halo", "uninitialised", S + "s[t] = a[t]; SYNC;\nb[t] = s[t] + s[t + 1]; //!",
            [("SYNC;", "if (t == 0) s[64] = 0; SYNC;")]),
    Planted("uninitialised_accumulator", "uninitialised", S + "\natomicAdd(s + t % 4, 1.0f); //!\nSYNC; b[t] = s[0];",
            [("\natomicAdd", "if (t < 4) s[t] = 0; SYNC;\natomicAdd")]),
    Planted("uninitialised_local", "uninitialised", "float v[8]; for (int i = 0; i < n / 64; ++i) v[i] = i; int j = (int)a[t] + 5;\n"
            "b[t] = v[j]; //!", [("n / 64", "8")]),
    Planted("uninitialised_ldmatrix", "uninitialised", S + "if (l < 16) s[t] = 1; SYNC; unsigned r;\nLDM(r, s + l * 4);\nb[t] = r; //!",
            [("if (l < 16) s[t] = 1", "s[t] = s[t + 64] = 1")]),
    Planted("stage_never_filled", "uninitialised", S + "CP(s + t, a + t); COMMIT; WAIT(0); SYNC;\nb[t] = s[64 + t]; //!",
            [("s[64 + t]", "s[t]")]),
    # races in shared memory
    Planted("missing_barrier_after_fill", "race", S + "s[t] = a[t];\nb[t] = s[63 - t]; //!", [("a[t];", "a[t]; SYNC;")]),
    Planted("missing_barrier_before_overwrite", "race", S + "s[t] = a[t]; SYNC; float x = s[63 - t];\ns[t] = x; //!\n"
            "SYNC; b[t] = s[t];", [("float x = s[63 - t];", "float x = s[63 - t]; SYNC;")]),
    Planted("missing_barrier_in_reduction", "race", S + "s[t] = a[t]; SYNC; for (int o = 32; o; o >>= 1) { if (t < o)\n"
            "s[t] += s[t + o]; //!\n } b[0] = s[0];", [("\n } b[0]", "\nSYNC; } b[0]")]),
    Planted("two_writers", "race", S + "\ns[t / 2] = t; //!\nSYNC; b[t] = s[t / 2];", [("s[t / 2] = t", "s[t / 2] = t / 2")]),
    Planted("warp_without_syncwarp", "race", S + "s[t] = a[t];\nb[t] = s[t ^ 1]; //!", [("a[t];", "a[t]; __syncwarp();")], block=32),
    Planted("barrier_of_half_the_block", "race", S + 's[t] = a[t]; ASM("bar.sync %0, 32;" :: "r"(w + 1) : "memory");\n'
            "b[t] = s[63 - t]; //!", [("32;\" :: \"r\"(w + 1)", "64;\" :: \"r\"(1)")]),
    Planted("syncwarp_is_not_syncthreads", "race", S + "s[t] = a[t]; __syncwarp();\nb[t] = s[63 - t]; //!",
            [("__syncwarp()", "SYNC")]),
    Planted("double_buffer_overrun", "race", S + "for (int i = 0; i < 4; ++i) {\ns[(i & 1) * n / 512 + t] = a[i]; //!\nSYNC; "
            "b[t] = s[(i & 1) * n / 512 + 63 - t]; }", [("n / 512", "64")]),
    Planted("plain_store_against_atomic", "race", S + "if (t < 4) s[t] = 0; SYNC; atomicAdd(s, 1.0f);\n"
            "if (t == 63) s[0] = 5; //!\nSYNC; b[t] = s[0];", [("\nif (t == 63)", "SYNC;\nif (t == 63)")]),
    Planted("missing_barrier_after_cp_async_wait", "race", S + "CP(s + t, a + t); COMMIT; WAIT(0);\nb[t] = s[63 - t]; //!",
            [("WAIT(0);", "WAIT(0); SYNC;")]),
    Planted("copy_over_data_still_read", "race", S + "s[t] = a[t]; SYNC; float x = s[63 - t];\nCP(s + t, a + t); //!\n"
            "COMMIT; WAIT(0); SYNC; b[t] = s[t] + x;", [("float x = s[63 - t];", "float x = s[63 - t]; SYNC;")]),
    Planted("arrive_before_the_write", "race", S + BAR + "if (!t) INIT(&bar, 64); SYNC; ARRIVE(&bar); s[t] = a[t]; TRY(&bar, 0);\n"
            "b[t] = s[63 - t]; //!", [("ARRIVE(&bar); s[t] = a[t];", "s[t] = a[t]; ARRIVE(&bar);")], arch="sm_90"),
    Planted("no_wait_for_the_mbarrier", "race", S + BAR + "if (!t) INIT(&bar, 64); SYNC; s[t] = a[t]; ARRIVE(&bar);\n"
            "b[t] = s[63 - t]; //!", [("\nb[t]", "TRY(&bar, 0);\nb[t]")], arch="sm_90"),
    # races in global memory
    Planted("blocks_write_one_value", "global-race", "if (t == 0)\nb[0] = B; //!", [("b[0]", "b[B]")], grid=4),
    Planted("read_of_other_block", "global-race", "b[B * 64 + t] = t;\na[t] = b[(B ^ 1) * 64 + t]; //!",
            [("a[t] = b[(B ^ 1) * 64 + t]", "a[B * 64 + t] = b[B * 64 + t]")], grid=2),
    Planted("global_exchange_without_barrier", "global-race", "b[t] = a[t];\na[t] = b[63 - t]; //!", [("a[t];\n", "a[t]; SYNC;\n")]),
    Planted("non_atomic_counter", "global-race", "\nf[0] = f[0] + 1; //!", [("f[0] = f[0] + 1", "atomicAdd(f, 1)")]),
    Planted("flag_without_fence", "global-race", "if (t == 0) { if (B == 0) { b[0] = 3; atomicExch(f, 1); } else {\n"
            "while (atomicAdd(f, 0) == 0) {} __threadfence();\na[0] = b[0]; } } //!",
            [("b[0] = 3;", "b[0] = 3; __threadfence();")], grid=2),
    Planted("flag_without_acquire", "global-race", "if (t == 0) { if (B == 0) { b[0] = 3; __threadfence(); atomicExch(f, 1); } else {\n"
            "while (atomicAdd(f, 0) == 0) {}\na[0] = b[0]; } } //!", [("== 0) {}\na", "== 0) {} __threadfence();\na")], grid=2),
    Planted("read_only_argument_written", "readonly", "\na[t] = 1; //!", [("a[t]", "b[t]")], options={"readonly": True}),
    # asynchronous copies
    Planted("no_wait", "async", S + "CP(s + t, a + t); COMMIT; SYNC;\nb[t] = s[t]; //!\nWAIT(0);", [("COMMIT; SYNC;", "COMMIT; WAIT(0); SYNC;")]),
    Planted("wait_off_by_one", "async", S + "CP(s + t, a + t); COMMIT; CP(s + 64 + t, a + 64 + t); COMMIT; WAIT(1); SYNC;\n"
            "b[t] = s[64 + t]; //!", [("WAIT(1)", "WAIT(0)")]),
    Planted("commit_forgotten", "async", S + "CP(s + t, a + t); WAIT(0); SYNC;\nb[t] = s[t]; //!", [("WAIT(0)", "COMMIT; WAIT(0)")]),
    Planted("pipeline_one_stage_short", "async", S + "CP(s + t, a + t); COMMIT; for (int i = 0; i < 3; ++i) { if (i < 2) "
            "CP(s + (i + 1) * 64 + t, a + (i + 1) * 64 + t); COMMIT; WAIT(2); SYNC;\nb[i * 64 + t] = s[i * 64 + t]; //!\n }",
            [("WAIT(2)", "WAIT(1)")]),
    Planted("store_into_copy_in_flight", "async", S + "CP(s + t, a + t); COMMIT;\ns[t] = 1; //!\nWAIT(0); SYNC; b[t] = s[t];",
            [("COMMIT;\n", "COMMIT; WAIT(0); SYNC;\n")]),
    Planted("two_copies_to_one_place", "async", S + "CP(s + t, a + t);\nCP(s + t, a + 64 + t); //!\nCOMMIT; WAIT(0); SYNC; b[t] = s[t];",
            [("CP(s + t, a + 64", "CP(s + 64 + t, a + 64")]),
    Planted("bulk_data_before_wait", "async", S + BAR + "if (!t) INIT(&bar, 1); SYNC; if (!t) { EXPECT(&bar, 256); BULK(s, a, 256, &bar); }"
            " __syncwarp();\nb[t] = s[t]; //!\nTRY(&bar, 0);", [("__syncwarp();\n", "TRY(&bar, 0);\n")], arch="sm_90"),
    Planted("missing_proxy_fence", "proxy", S + "s[t] = a[t]; SYNC; if (!t) {\nSTORE(b, s, 256); //!\nBCOMMIT; BWAIT; }",
            [("a[t]; SYNC;", "a[t]; FENCE; SYNC;")], arch="sm_90"),
    Planted("proxy_fence_before_the_store", "proxy", S + "FENCE; s[t] = a[t]; SYNC; if (!t) {\nSTORE(b, s, 256); //!\nBCOMMIT; BWAIT; }",
            [("FENCE; s[t] = a[t];", "s[t] = a[t]; FENCE;")], arch="sm_90"),
    # warp-wide operations
    Planted("half_warp_shuffle", "sync", "if (l < 16)\na[t] = __shfl_xor_sync(~0u, t, 1); //!\nSYNC;", [("~0u", "0xffffu")]),
    Planted("shuffle_from_inactive_lane", "sync", "if (l < 16)\na[t] = __shfl_xor_sync(0xffffu, t, 16); //!", [("t, 16", "t, 8")]),
    Planted("lane_not_in_its_mask", "sync", "\na[t] = __ballot_sync(0xffffu, t & 1); //!", [("0xffffu", "~0u")]),
    Planted("half_warp_ballot", "sync", "if (t & 1)\na[t] = __ballot_sync(~0u, 1); //!\nSYNC;", [("~0u", "0xaaaaaaaau")]),
    Planted("half_warp_ldmatrix", "sync", S + "for (int i = t; i < 256; i += 64) s[i] = 1; SYNC; unsigned r = 0; if (l < n / 16)\n"
            "LDM(r, s + l % 8 * 4); //!\nb[t] = r;", [("n / 16", "32")]),
    Planted("syncwarp_in_a_branch", "sync", "if (l < 8) {\n__syncwarp(); //!\na[t] = 1; }\nSYNC;", [("__syncwarp()", "__syncwarp(0xff)")]),
    Planted("reduce_without_all_lanes", "sync", "if (l < 30)\nf[w] = __reduce_add_sync(~0u, t); //!\nSYNC;", [("~0u", "0x3fffffffu")]),
    # barriers
    Planted("barrier_in_a_branch", "deadlock", "if (t < 32)\nSYNC; //!\nelse { for (;;) if (atomicAdd(f, 0) == 7) break; }",
            [("SYNC; //!\nelse {", "a[t] = 1; //!\nif (t > 99) {")]),
    Planted("barrier_count_too_large", "deadlock", '\nASM("bar.sync 1, 96;" ::: "memory"); //!\na[t] = 1;', [("96", "64")]),
    Planted("barrier_counts_differ", "barrier", 'if (w) ASM("bar.arrive 1, 64;" ::: "memory"); else //!\nASM("bar.sync 1, 96;" ::: "memory"); //!\n'
            "a[t] = 1;", [("96", "64")]),
    Planted("barrier_count_not_of_warps", "barrier", '\nASM("bar.sync 1, %0;" :: "r"(n / 256 * 40) : "memory"); //!\na[t] = 1;',
            [("n / 256 * 40", "64")], block=64),
    Planted("expect_too_many_bytes", "deadlock", S + BAR + "if (!t) INIT(&bar, 1); SYNC; if (!t) { EXPECT(&bar, 512); BULK(s, a, 256, &bar); }\n"
            "TRY(&bar, 0); //!\nb[t] = s[t];", [("512", "256")], arch="sm_90"),
    Planted("arrivals_missing", "deadlock", BAR + "if (!t) INIT(&bar, 65); SYNC; ARRIVE(&bar);\nTRY(&bar, 0); //!\na[t] = 1;", [("65", "64")],
            arch="sm_90"),
    Planted("too_many_arrivals", "barrier", BAR + "if (!t) INIT(&bar, 63); SYNC; if (t < 33) ARRIVE(&bar); SYNC; if (t < 31)\n"
            'ASM("mbarrier.arrive.shared.b64 _, [%0], 31;" :: "r"(sa(&bar)) : "memory"); //!\na[t] = 1;', [("63", "994")], arch="sm_90"),
    Planted("wrong_phase", "deadlock", BAR + "if (!t) INIT(&bar, 64); SYNC; ARRIVE(&bar); TRY(&bar, 0);\nTRY(&bar, 1); //!\na[t] = 1;",
            [("TRY(&bar, 0);\n", "TRY(&bar, 0); ARRIVE(&bar);\n")], arch="sm_90"),
    Planted("mbarrier_not_initialised", "value", BAR + "\nARRIVE(&bar); //!\na[t] = 1;", [("\nARRIVE", "if (!t) INIT(&bar, 64); SYNC;\nARRIVE")],
            arch="sm_90"),
    # another block's shared memory
    Planted("far_read_without_a_cluster_barrier", "race", S + "s[t] = a[t]; SYNC;\nFARLOAD(v, peer(s + t, 1 - B)); b[64 * B + t] = v; //!\nCLUSTER;", [("SYNC;", "CLUSTER;")], **CLUSTERED),
    Planted("far_write_under_a_reader", "race", S + "s[t] = a[t]; CLUSTER;\nb[64 * B + t] = s[63 - t]; //!\nFARSTORE(peer(s + t, 1 - B), 2); //!\nCLUSTER;",
            [("FARSTORE", "CLUSTER; FARSTORE")], **CLUSTERED),
    Planted("far_write_read_too_early", "race", S + "CLUSTER; FARSTORE(peer(s + t, 1 - B), 2); SYNC;\nb[64 * B + t] = s[t]; //!\nCLUSTER;", [("SYNC;", "CLUSTER;")], **CLUSTERED),
    Planted("relaxed_arrival", "race", S + 's[t] = a[t]; ASM("barrier.cluster.arrive.relaxed.aligned;" ::: "memory"); WAITC;\nFARLOAD(v, peer(s + t, 1 - B)); b[64 * B + t] = v; //!\nCLUSTER;',
            [("arrive.relaxed", "arrive.release")], **CLUSTERED),
    Planted("write_after_the_arrival", "race", S + "ARRIVEC; s[t] = a[t]; WAITC;\nFARLOAD(v, peer(s + t, 1 - B)); b[64 * B + t] = v; //!\nCLUSTER;", [("ARRIVEC; s[t] = a[t];", "s[t] = a[t]; ARRIVEC;")], **CLUSTERED),
    Planted("far_plain_write_with_an_atomic", "race", S + 'if (!t) s[0] = 0; CLUSTER; if (t == 5 && B)\nFARSTORE(peer(s, 0), 3); //!\nelse ASM("red.shared::cluster.add.f32 [%0], 1.0;" :: "r"(peer(s, 0)) : "memory"); //!\n'
            "CLUSTER; b[t] = s[0];", [("if (t == 5 && B)", "if (t > 99)"), ("b[t] = s[0]", "if (!B) b[t] = s[0]")], **CLUSTERED),
    Planted("far_read_before_the_mbarrier", "race", S + BAR + 'if (!t) INIT(&bar, 64); s[t] = 0; CLUSTER; FARSTORE(peer(s + t, 1 - B), 7);\n'
            'ASM("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" :: "r"(peer(&bar, 1 - B)) : "memory");\nb[64 * B + t] = s[t]; //!\nTRY(&bar, 0); CLUSTER;',
            [("\nb[64 * B + t] = s[t]; //!\nTRY(&bar, 0);", "\nTRY(&bar, 0); b[64 * B + t] = s[t];")], **CLUSTERED),
    # orders that a coarser model misses
    Planted("neighbours_of_another_block_in_place", "global-race", "int i = B * 64 + t; float x = i ? a[i - 1] : 0, y = a[i], z = i < n - 1 ? a[i + 1] : 0; SYNC;\na[i] = x + y + z; //!",
            [("a[i] =", "b[i] =")], grid=4),
    Planted("write_after_reads_of_other_blocks", "global-race", "float v = a[0]; SYNC; b[64 * B + t] = v; if (B == 3 && t == 0)\na[0] = 2; //!", [("B == 3", "B == 9")], grid=4),
    Planted("halves_of_a_warp_sync_apart", "race", S + "s[t] = a[t]; __syncwarp(l < 16 ? 0xffffu : 0xffff0000u);\nb[t] = s[t ^ 16]; //!", [("t ^ 16", "t ^ 5")]),
    Planted("halves_of_a_warp_in_global_memory", "global-race", "b[t] = a[t]; __syncwarp(l < 16 ? 0xffffu : 0xffff0000u);\na[t] = b[t ^ 16]; //!", [("t ^ 16", "t ^ 5")]),
    Planted("two_barriers_of_one_warp", "sync", 'if (l < 16)\nSYNC; //!\nelse\nASM("bar.sync 0;" ::: "memory"); //!\na[t] = 1;', [("if (l < 16)", "if (w == 0)")]),
    Planted("source_of_a_bulk_store_reused", "async", S + "s[t] = a[t]; FENCE; SYNC; if (!t) { STORE(b, s, 256); BCOMMIT;\ns[0] = 9; //!\nBWAIT; }",
            [("BCOMMIT;\n", "BCOMMIT; BWAIT;\n")], arch="sm_90"),
    Planted("mbarrier_used_before_it_is_ready", "race", BAR + "if (!t) INIT(&bar, 64);\nARRIVE(&bar); //!\nTRY(&bar, 0);", [("64);\n", "64); SYNC;\n")], arch="sm_90"),
    Planted("bulk_copy_past_the_end", "bounds", S + BAR + "if (!t) INIT(&bar, 1); SYNC; if (!t) { EXPECT(&bar, 512);\nBULK(s + n - 64, a, 512, &bar); } //!\nTRY(&bar, 0); b[t] = s[n - 64];",
            [("+ n - 64", "+ n - 128"), ("s[n - 64]", "s[n - 128]")], arch="sm_90"),
    Planted("half_warp_at_a_product", "sync", "float c[4] = {0, 0, 0, 0}; unsigned x = 1; if (l < 16)\n"
            'ASM("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%4,%4,%4}, {%4,%4}, {%0,%1,%2,%3};" : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(x)); //!\nb[t] = c[0];',
            [("l < 16", "l < 32")]),
    Planted("a_register_never_written", "uninitialised", 'unsigned r;\nASM("{ .reg .u32 q; add.u32 %0, q, 1; }" : "=r"(r));\nb[t] = r; //!', [("add.u32 %0, q", "mov.u32 q, 3; add.u32 %0, q")]),
    Planted("local_array_past_its_end", "bounds", "volatile int v[16]; for (int i = 0; i < 16; i++) v[i] = i;\nb[t] = v[n / 8 + (int)a[t]]; //!", [("n / 8", "n / 32")]),
    # other
    Planted("trap", "trap", "if (a[t] == 1) { \n__trap(); //!\n } b[t] = 1;", [("a[t] == 1", "a[t] == 3")]),
    Planted("wait_for_a_flag_that_nobody_sets", "deadlock", "\nwhile (atomicAdd(f, 0) == 0) {} //!\na[t] = 1;", [("== 0", "== 9")]),
    Planted("wait_for_a_later_block", "deadlock", "if (t == 0) { if (B == 7) atomicExch(f, 1); else\nwhile (atomicAdd(f, 0) == 0) {} } //!",
            [("B == 7", "B == 0")], grid=8, options={"resident_blocks": 4}),
]


def launch(case: Planted, body: str) -> tuple[simulator.Report, str]:
    source = HEAD + body + "\n}\n"
    ptx = to_ptx_with_lines(source, case.arch)
    options = dict(case.options)
    a, b, f = np.ones(256, "f4"), np.zeros(256, "f4"), np.zeros(16, "i4")
    if options.pop("readonly", False):
        a.flags.writeable = False
    report = simulator.launch(ptx, "k", case.grid, case.block, [a, b, f, 256], collect=True, **options)
    return report, source


@pytest.mark.parametrize("case", PLANTED, ids=lambda case: case.name)
def test_fault_is_found_at_its_line(case: Planted) -> None:
    report, source = launch(case, case.body)
    marked = {number for number, line in enumerate(source.split("\n"), 1) if "//!" in line}
    found = {(fault.check, fault.source[1] if fault.source else 0) for fault in report.faults}
    assert any(check == case.check and line in marked for check, line in found), (found, marked)


@pytest.mark.parametrize("case", PLANTED, ids=lambda case: case.name)
def test_correct_twin_is_clean(case: Planted) -> None:
    body = case.body
    for old, new in case.fix:
        assert old in body
        body = body.replace(old, new)
    report, _ = launch(case, body)
    assert not report.faults, report.faults


def test_corpus_is_large_enough() -> None:
    assert len(PLANTED) >= 60
