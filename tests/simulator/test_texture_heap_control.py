"""Textures against their definition, device heaps, and clusters that take over the work of others."""
# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.simulator.cuda import to_ptx
from tilus import simulator
from tilus.diagnostics import UserError

RNG = np.random.default_rng(3)
TEX = """extern "C" __global__ void k(unsigned long long t, const float* x, const float* y, {type}* out, int n) {{ int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= n) return;
  {type} a, b, c, d; asm("tex.{geom}.v4.{kind}.{coord} {{%0, %1, %2, %3}}, [%4, {{{places}}}];" : "={r}"(a), "={r}"(b), "={r}"(c), "={r}"(d) : "l"(t), {operands});
  out[4 * i] = a; out[4 * i + 1] = b; out[4 * i + 2] = c; out[4 * i + 3] = d; }}"""


def sample(texture: simulator.Texture, x: np.ndarray, y: np.ndarray | None = None, kind: str = "f32") -> np.ndarray:
    """What a kernel reads at the places, (n, 4)."""
    whole = x.dtype.kind == "i"
    letter, cast = ("r", "(int)") if whole else ("f", "")
    source = TEX.format(type={"f32": "float", "u32": "unsigned", "s32": "int"}[kind], geom="1d" if y is None else "2d", kind=kind, coord="s32" if whole else "f32", r="f" if kind == "f32" else "r",
                        places="%5" if y is None else "%5, %6", operands=f'"{letter}"({cast}x[i])' + ("" if y is None else f', "{letter}"({cast}y[i])'))
    n = x.size
    out = np.zeros((n, 4), {"f32": "f4", "u32": "u4", "s32": "i4"}[kind])
    floats = [(np.zeros(n) if v is None else v).astype("f4") for v in (x, y)]
    simulator.launch(to_ptx(source), "k", (n + 63) // 64, 64, [texture, *floats, out, n])
    return out


X, Y = (RNG.random(200) * 24 - 4).astype("f4"), (RNG.random(200) * 16 - 4).astype("f4")


@pytest.mark.parametrize("address", ["clamp", "border"])
def test_points_of_an_image(address: str) -> None:
    image = RNG.random((9, 16)).astype("f4")
    found = sample(simulator.Texture(image, address=address), X, Y)
    i, j = np.floor(X).astype(int), np.floor(Y).astype(int)
    inside = (i >= 0) & (i < 16) & (j >= 0) & (j < 9)
    wanted = image[np.clip(j, 0, 8), np.clip(i, 0, 15)]
    np.testing.assert_array_equal(found[:, 0], np.where(inside, wanted, 0) if address == "border" else wanted)
    np.testing.assert_array_equal(found[inside, 1:], np.tile([0, 0, 1], (inside.sum(), 1)))


@pytest.mark.parametrize("address", ["clamp", "border", "wrap", "mirror"])
@pytest.mark.parametrize("normalised", [True, False])
def test_linear_filtering_of_an_image(address: str, normalised: bool) -> None:
    image = RNG.random((8, 16, 4)).astype("f4")
    options: dict[str, Any] = {"channels": 4, "filter": "linear", "address": address, "normalised_coordinates": normalised}
    if not normalised and address in ("wrap", "mirror"):
        with pytest.raises(UserError, match="needs normalised coordinates"):
            simulator.Texture(image, **options)
        return
    scale = (16, 8) if normalised else (1, 1)
    found = sample(simulator.Texture(image, **options), (X / scale[0]).astype("f4"), (Y / scale[1]).astype("f4"))
    for n in range(0, 200, 7):
        place = [float(np.float32(v / s)) * s - 0.5 for v, s in zip((X[n], Y[n]), scale, strict=True)]
        low = [int(np.floor(p)) for p in place]
        weight = [round((p - q) * 256) / 256 for p, q in zip(place, low, strict=True)]
        wanted = np.zeros(4)
        for di in (0, 1):
            for dj in (0, 1):
                wanted += (weight[0] if di else 1 - weight[0]) * (weight[1] if dj else 1 - weight[1]) * texel(image, low[0] + di, low[1] + dj, address)
        np.testing.assert_allclose(found[n], wanted, rtol=1e-6)


def texel(image: np.ndarray, i: int, j: int, address: str) -> np.ndarray:
    height, width = image.shape[:2]
    if address == "border" and not (0 <= i < width and 0 <= j < height):
        return np.zeros(4)
    if address == "wrap":
        i, j = i % width, j % height
    if address == "mirror":
        i, j = (p % (2 * e) if p % (2 * e) < e else 2 * e - 1 - p % (2 * e) for p, e in ((i, width), (j, height)))
    return image[min(max(j, 0), height - 1), min(max(i, 0), width - 1)]


def test_a_line_by_index_and_its_types() -> None:
    index = np.arange(-2, 12)
    for dtype, kind in (("f4", "f32"), ("i2", "s32"), ("u1", "u32"), ("f2", "f32")):
        line = (RNG.random(10) * 200).astype(dtype)
        found = sample(simulator.Texture(line), index, kind=kind)
        np.testing.assert_array_equal(found[:, 0], line[np.clip(index, 0, 9)].astype(found.dtype))
    pairs = RNG.integers(-128, 128, (10, 2)).astype("i1")
    found = sample(simulator.Texture(pairs, channels=2, normalised_values=True), index)
    np.testing.assert_allclose(found[:, :2], np.maximum(pairs[np.clip(index, 0, 9)] / np.float32(127), -1), rtol=1e-7)


def test_texture_references_and_bad_handles() -> None:
    text = """.version 8.0
    .target sm_80
    .address_size 64
    .global .texref image;
    .visible .entry k(.param .u64 t, .param .u64 o) { .reg .b64 a, b; .reg .f32 f<8>; ld.param.u64 a, [t]; ld.param.u64 b, [o]; mov.f32 f1, 0f3F800000; mov.f32 f2, 0f40000000;
      tex.2d.v4.f32.f32 {f3, f4, f5, f6}, [image, {f1, f2}]; st.global.f32 [b], f3; tex.2d.v4.f32.f32 {f3, f4, f5, f6}, [a, {f1, f2}]; st.global.f32 [b+4], f3; ret; }"""
    image, out = RNG.random((4, 4)).astype("f4"), np.zeros(2, "f4")
    texture = simulator.Texture(image)
    simulator.launch(text, "k", 1, 1, [texture, out], variables={"image": texture})
    assert (out == image[2, 1]).all()
    for handle in (7, simulator.Texture(image[0])):
        report = simulator.launch(text, "k", 1, 1, [handle, out], variables={"image": texture}, collect=True)
        assert ["no texture of 2 dimensions" in f.message for f in report.faults] == [True]
    for bad in ({"filter": "cubic"}, {"channels": 3}, {"address": "mirror"}, {"normalised_values": True}):
        with pytest.raises(UserError):
            simulator.Texture(image, **bad)


# -- the heap

def heap(body: str, n: int = 64, **options: Any) -> tuple[np.ndarray, simulator.Report]:
    out = np.zeros(n, "i4")
    declared = 'extern "C" __device__ void* malloc(size_t); extern "C" __device__ void free(void*);\n'
    report = simulator.launch(to_ptx(declared + f'extern "C" __global__ void k(int* out, int n) {{ int t = threadIdx.x; {body} }}'), "k", 1, n, [out, 5], collect=True, **options)
    return out, report


def test_lists_on_the_heap() -> None:
    out, report = heap("struct N { int v; N* next; }; N* head = 0; for (int i = 0; i < n + t % 3; i++) { N* p = (N*)malloc(sizeof(N)); p->v = i * t; p->next = head; head = p; } int s = 0; while (head) { s += head->v; N* p = head->next; free(head); head = p; } out[t] = s;")
    t = np.arange(64)
    count = 5 + t % 3
    np.testing.assert_array_equal(out, t * count * (count - 1) // 2)
    assert not report.faults


def test_memory_of_a_thread_that_another_frees() -> None:
    out, report = heap("__shared__ int* p[64]; p[t] = (int*)malloc(4 * n); for (int i = 0; i < n; i++) p[t][i] = t; __syncthreads(); int s = 0; for (int i = 0; i < n; i++) s += p[63 - t][i]; __syncthreads(); free(p[63 - t]); int* q = (int*)malloc(4 * n); q[0] = s; out[t] = q[0]; free(q);")
    np.testing.assert_array_equal(out, 5 * (63 - np.arange(64)))
    assert not report.faults, report.fault_lines()


def test_a_heap_that_is_exhausted() -> None:
    out, report = heap("char* p = (char*)malloc(2000); out[t] = p != 0; if (p) p[1999] = 1;", heap_bytes=1 << 16)
    assert 20 <= out.sum() < 33
    assert not report.faults


@pytest.mark.parametrize(("body", "check", "message"), [
    ("int* p = (int*)malloc(16); p[4] = t;", "bounds", r"write of 4 bytes at byte 16 of malloc\(16\)"), ("int* p = (int*)malloc(16); free(p); p[0] = t;", "bounds", "write of 4 bytes"),
    ("int* p = (int*)malloc(16); free(p); free(p);", "value", "is free already"), ("free(out);", "value", "malloc did not return"), ("int* p = (int*)malloc(1 << 30); p[0] = t;", "bounds", "where nothing is allocated"),
    ("__shared__ int* p; if (!t) p = (int*)malloc(16); __syncthreads(); p[0] = t;", "global-race", ""),
])
def test_faults_on_the_heap(body: str, check: str, message: str) -> None:
    import re

    _, report = heap(body)
    assert any(f.check == check and re.search(message, f.message) for f in report.faults), report.fault_lines()


# -- clusterlaunchcontrol

STEAL = """#define ASM(...) asm volatile(__VA_ARGS__)
extern "C" __global__ void k(int* owner, int* count, int* out) {
  __shared__ alignas(16) unsigned response[4]; __shared__ alignas(8) unsigned long long bar; int t = threadIdx.x; unsigned r = __cvta_generic_to_shared(response), b = __cvta_generic_to_shared(&bar);
  if (!t) ASM("mbarrier.init.shared.b64 [%0], 1;" :: "r"(b) : "memory"); __syncthreads(); int x = blockIdx.x, y = blockIdx.y;
  for (int phase = 0;; phase ^= 1) {
    __syncthreads();
    if (!t) { ASM("fence.proxy.async::generic.acquire.sync_restrict::shared::cluster.cluster;" ::: "memory"); ASM("mbarrier.arrive.expect_tx.shared.b64 _, [%0], 16; clusterlaunchcontrol.try_cancel.async.shared::cta.mbarrier::complete_tx::bytes.b128 [%1], [%0];" :: "r"(b), "r"(r) : "memory"); }
    int place = y * gridDim.x + x; if (!t) { atomicAdd(count + place, 1); owner[place] = blockIdx.y * gridDim.x + blockIdx.x; } out[place * blockDim.x + t] = place * 1000 + t;
    ASM("{ .reg .pred q; L: mbarrier.try_wait.parity.shared.b64 q, [%0], %1; @!q bra L; }" :: "r"(b), "r"(phase) : "memory");
    int more, nx, ny; ASM("{ .reg .pred p; .reg .b128 v; ld.shared.b128 v, [%3]; clusterlaunchcontrol.query_cancel.is_canceled.pred.b128 p, v; selp.s32 %0, 1, 0, p; mov.s32 %1, 0; mov.s32 %2, 0; @p clusterlaunchcontrol.query_cancel.get_first_ctaid.v4.b32.b128 {%1, %2, _, _}, v; @p clusterlaunchcontrol.query_cancel.get_first_ctaid::x.b32.b128 %1, v; }" : "=r"(more), "=r"(nx), "=r"(ny) : "r"(r) : "memory");
    ASM("fence.proxy.async::generic.release.sync_restrict::shared::cta.cluster;" ::: "memory"); if (!more) break; x = nx; y = ny; } }"""


@pytest.mark.parametrize("resident", [None, 4, 1])
def test_blocks_take_over_blocks(resident: int | None) -> None:
    owner, count, out = np.full(30, -1, "i4"), np.zeros(30, "i4"), np.zeros((30, 64), "i4")
    report = simulator.launch(to_ptx(STEAL, "sm_100a"), "k", (6, 5), 64, [owner, count, out], resident_blocks=resident, collect=True)
    assert not report.faults, report.fault_lines()
    assert (count == 1).all()
    np.testing.assert_array_equal(out, np.arange(30)[:, None] * 1000 + np.arange(64))
    assert len(set(owner.tolist())) == (resident or 30)
