"""Gathers and scatters of rows: accesses as wide as memory allows, copies ahead of their use in staged loops."""

import re
from typing import Any

import numpy as np
import pytest

import tilus as tl

ENGINES = ("python", "interpret", "cpu",
           *(f"simulate:{t}:{v}" for t in ("sm_70", "sm_80", "sm_90a") for v in ("cuda", "ptx")))


@tl.jit
def rows(x: tl.f16["V", "D"], index: tl.i32["T"], y: tl.f16["T", "D"], BT: int = 16, BD: int = 128):
    T, = index.shape
    _, D = x.shape
    i, j = tl.grid(tl.cdiv(T, BT), tl.cdiv(D, BD))
    r = tl.load(index, i * BT, BT, other=-1)
    columns = j * BD + tl.arange(0, BD)
    tl.store(y, (i * BT, j * BD), tl.gather(x, (r[:, None], columns[None, :])))


@tl.jit
def columns_first(x: tl.f16["D", "V"], index: tl.i32["T"], y: tl.f16["T", "D"], BT: int = 16, BD: int = 128):
    """The same through a transposed view: memory goes along the first index."""
    T, = index.shape
    D, _ = x.shape
    i, j = tl.grid(tl.cdiv(T, BT), tl.cdiv(D, BD))
    r = tl.load(index, i * BT, BT, other=-1)
    columns = j * BD + tl.arange(0, BD)
    tl.store(y, (i * BT, j * BD), tl.gather(x, (columns[:, None], r[None, :])).T)


@tl.jit
def masked(x: tl.f16["V", "D"], index: tl.i32["T"], y: tl.f16["T", "D"], BT: int = 16, BD: int = 128):
    T, = index.shape
    _, D = x.shape
    i, j = tl.grid(tl.cdiv(T, BT), tl.cdiv(D, BD))
    r = tl.load(index, i * BT, BT)
    columns = j * BD + tl.arange(0, BD)
    inside = (columns < D)[None, :] & (r >= 0)[:, None]
    tl.store(y, (i * BT, j * BD), tl.gather(x, (r[:, None], columns[None, :]), mask=inside, other=0.0))


@tl.jit
def scattered(x: tl.f16["V", "D"], index: tl.i32["T"], y: tl.f16["T", "D"], BT: int = 16, BD: int = 128):
    """y's rows are those of x in the opposite direction: row r of x is copied to row t with index[t] = r."""
    T, = index.shape
    _, D = x.shape
    i, j = tl.grid(tl.cdiv(T, BT), tl.cdiv(D, BD))
    columns = j * BD + tl.arange(0, BD)
    t = i * BT + tl.arange(0, BT)
    tile = tl.gather(x, (tl.load(index, i * BT, BT, other=-1)[:, None], columns[None, :]))
    tl.scatter(y, (t[:, None], columns[None, :]), tile)


KERNELS = {"rows": rows, "masked": masked, "scattered": scattered, "columns_first": columns_first}


def layout_of(name: str, x: Any) -> Any:
    return x.T if name == "columns_first" else x


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape", [(40, 256, 50), (33, 100, 19), (7, 77, 5)])
@pytest.mark.parametrize("name", KERNELS)
def test_values(name: str, shape: tuple[int, int, int], engine: str) -> None:
    vocabulary, width, count = shape
    rng = np.random.default_rng(shape)
    x = rng.standard_normal((vocabulary, width)).astype("f2")
    index = rng.integers(0, vocabulary, count).astype("i4")
    index[1] = -1
    y = np.zeros((count, width), "f2")
    KERNELS[name].on(engine)(layout_of(name, x), index, y)
    expected = np.where((index >= 0)[:, None], x[np.maximum(index, 0)], 0)
    np.testing.assert_array_equal(y, expected)


@pytest.mark.sweep(keep=11)
@pytest.mark.parametrize("engine", ENGINES[2:])
@pytest.mark.parametrize("name", ["rows", "scattered"])
def test_strided_rows(name: str, engine: str) -> None:
    """Rows of which only a part is the array, at odd addresses too."""
    rng = np.random.default_rng(0)
    whole = rng.standard_normal((40, 300)).astype("f2")
    index = rng.integers(0, 40, 30).astype("i4")
    for first, pitch in ((0, 1), (8, 1), (3, 1), (0, 2)):
        x = whole[:, first:first + 128 * pitch:pitch]
        y = np.zeros((30, 128), "f2")
        KERNELS[name].on(engine)(x, index, y)
        np.testing.assert_array_equal(y, x[index])


def accesses(kernel: Any, via: str) -> dict[str, int]:
    """How many accesses to global memory there are of each width."""
    ptx = kernel.compile("sm_80", via).ptx
    found = re.findall(r"(?:ld\.global|st\.global)[\w.]*\.(v4\.[bu]32|[bu]16)", ptx)
    widths = [width.replace("u", "b") for width in found]
    return {width: widths.count(width) for width in set(widths)}


@pytest.mark.parametrize("via", ["cuda", "ptx"])
@pytest.mark.parametrize("name", ["rows", "masked", "scattered"])
def test_widths(name: str, via: str) -> None:
    found = accesses(KERNELS[name], via)
    assert len(found) == 1
    assert sum(found.values()) == 4  # 16 rows of 128 by 128 threads, 8 elements each, twice


@tl.jit
def experts(a: tl.f16["T", "K"], b: tl.f16["K", "N"], index: tl.i32["R"], c: tl.f32["R", "N"],
            BM: int = 64, BN: int = 64, BK: int = 32, stages: int = 3):
    """Rows picked outside of the loop."""
    i, j = tl.grid(tl.cdiv(index.shape[0], BM), tl.cdiv(c.shape[1], BN))
    r = tl.load(index, i * BM, BM, other=-1)
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, a.shape[1], BK, stages=stages):
        x = tl.gather(a, (r[:, None], (k + tl.arange(0, BK))[None, :]))
        acc = tl.dot(x, tl.load(b, (k, j * BN), (BK, BN)), acc)
    tl.store(c, (i * BM, j * BN), acc)


@tl.jit
def paged(q: tl.f16["R", "D"], pages: tl.f16["P", "B", "D"], table: tl.i32["L"], c: tl.f32["R", "T"],
          BM: int = 32, BT: int = 64, D: int = 64, stages: int = 2):
    """Rows of a table that is read in the loop, a page and a place in it for each."""
    tl.grid(1)
    size = pages.shape[1]
    x = tl.load(q, (0, 0), (BM, D))
    for t in tl.range(0, c.shape[1], BT, stages=stages):
        place = t + tl.arange(0, BT)
        page = tl.gather(table, place // size, mask=place < c.shape[1], other=-1)
        y = tl.gather(pages, (page[:, None], (place % size)[:, None], tl.arange(0, D)[None, :]))
        tl.store(c, (0, t), tl.dot(x, y.T))


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("count", "depth", "columns"), [(70, 100, 72), (64, 128, 64), (5, 7, 3)])
def test_staged_rows(count: int, depth: int, columns: int, engine: str) -> None:
    rng = np.random.default_rng(count)
    a, b = rng.integers(-2, 3, (40, depth)).astype("f2"), rng.integers(-2, 3, (depth, columns)).astype("f2")
    index = rng.integers(0, 40, count).astype("i4")
    index[0] = -1
    expected = np.where((index >= 0)[:, None], a[np.maximum(index, 0)].astype("f8") @ b, 0)
    c = np.full((count, columns), np.nan, "f4")
    experts.on(engine)(a, b, index, c)
    np.testing.assert_array_equal(c, expected)


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("length", "size"), [(256, 16), (200, 16), (130, 7)])
def test_staged_pages(length: int, size: int, engine: str) -> None:
    rng = np.random.default_rng(length)
    count = -(-length // size)
    pages = rng.integers(-2, 3, (2 * count, size, 64)).astype("f2")
    q = rng.integers(-2, 3, (32, 64)).astype("f2")
    table = rng.permutation(2 * count)[:count].astype("i4")
    c = np.full((32, length), np.nan, "f4")
    paged.on(engine)(q, pages, table, c)
    np.testing.assert_array_equal(c, q.astype("f8") @ pages[table].reshape(-1, 64)[:length].T.astype("f8"))


@pytest.mark.parametrize("via", ["cuda", "ptx"])
@pytest.mark.parametrize("kernel", [experts, paged])
def test_staged_gathers_are_asynchronous(kernel: Any, via: str) -> None:
    ptx = kernel.compile("sm_80", via).ptx
    assert re.search(r"cp\.async\.c[ga]\.shared\.global[^;]*16", ptx)
    assert not re.search(r"ld\.global[\w.]*\.[bu]16", ptx)


@tl.jit
def convolution(x: tl.f16["H", "W", "C"], w: tl.f16["K", "N"], y: tl.f32["M", "N"], R: int = 3, BM: int = 32,
                BN: int = 32, BK: int = 32, stages: int = 2):
    """Without padding; k is row, column and channel of the window, of which channels are neighbours in memory."""
    H, W, C = x.shape
    K, N = w.shape
    i, j = tl.grid(tl.cdiv(y.shape[0], BM), tl.cdiv(N, BN))
    m = (i * BM + tl.arange(0, BM))[:, None]
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, K, BK, stages=stages):
        at = (k + tl.arange(0, BK))[None, :]
        tap, width = at // C, W - R + 1
        a = tl.gather(x, (m // width + tap // R, m % width + tap % R, at % C))
        acc = tl.dot(a, tl.load(w, (k, j * BN), (BK, BN)), acc)
    tl.store(y, (i * BM, j * BN), acc)


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("channels", "columns"), [(16, 32), (8, 40), (12, 16), (5, 7)])
def test_convolution(channels: int, columns: int, engine: str) -> None:
    rng = np.random.default_rng(channels)
    x, w = rng.integers(-3, 4, (7, 9, channels)).astype("f2"), rng.integers(-3, 4, (9 * channels, columns)).astype("f2")
    y = np.zeros((5 * 7, columns), "f4")
    convolution.on(engine)(x, w, y)
    patches = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (0, 1)).transpose(0, 1, 3, 4, 2).reshape(35, -1)
    np.testing.assert_array_equal(y, patches.astype("f8") @ w.astype("f8"))


@pytest.mark.parametrize("via", ["cuda", "ptx"])
def test_windows_are_copied_by_vectors(via: str) -> None:
    """Within 8 elements that begin at a multiple of 8 no multiple of the channels is crossed."""
    ptx = convolution.compile("sm_80", via).ptx
    assert "cp.async.cg.shared.global" in ptx
    assert "cp.async.ca.shared.global" not in ptx
    assert not re.search(r"ld\.global[\w.]*\.[bu]16", ptx)


@pytest.mark.parametrize("via", ["cuda", "ptx"])
def test_bounds_of_a_row_are_one_comparison(via: str) -> None:
    """The number of a row that is read may be negative or too large: one comparison without sign says both."""
    ptx = KERNELS["rows"].compile("sm_80", via).ptx
    assert len(re.findall(r"setp\.\w\w\.u32", ptx)) == 2
    assert not re.search(r"setp\.\w\w\.s32\s.*, (-1|0);", ptx)
