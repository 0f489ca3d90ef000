"""Kernels that exercise the GPU lowering, op family by op family."""

import tilus as tl


def arithmetic(dt):
    @tl.jit
    def kernel(x: dt["N"], y: dt["N"], z: dt["N"], B: int = 128):
        i = tl.grid(tl.cdiv(x.shape[0], B))
        a, b = tl.load(x, i * B, B), tl.load(y, i * B, B)
        r = a * b - a + b
        r = tl.maximum(r, a) + tl.minimum(b, a)
        tl.store(z, i * B, tl.where(a < b, r, r - b))

    return kernel


def integers(dt):
    @tl.jit
    def kernel(x: dt["N"], y: dt["N"], z: dt["K", "N"], B: int = 128):
        i = tl.grid(tl.cdiv(x.shape[0], B))
        a, b = tl.load(x, i * B, B), tl.load(y, i * B, B)
        tl.store(z[0, :], i * B, a // b)
        tl.store(z[1, :], i * B, a % b)
        tl.store(z[2, :], i * B, (a & b) | (a ^ 3))
        tl.store(z[3, :], i * B, (a << 2) >> (b & 3))
        tl.store(z[4, :], i * B, tl.popcount(a) + tl.clz(b))
        tl.store(z[5, :], i * B, a // 7 + a % 8)

    return kernel


def convert(source, target):
    @tl.jit
    def kernel(x: source["N"], y: target["N"], B: int = 256):
        i = tl.grid(tl.cdiv(x.shape[0], B))
        tl.store(y, i * B, tl.load(x, i * B, B).to(target))

    return kernel


@tl.jit
def reductions(x: tl.f32["M", "N"], rows: tl.f32["M"], columns: tl.f32["N"], best: tl.i64["M"], total: tl.f32["One"],
               BM: int = 16, BN: int = 64):
    tl.grid(1)
    v = tl.load(x, (0, 0), (BM, BN))
    tl.store(rows, 0, tl.sum(v, 1))
    tl.store(columns, 0, tl.max(v, 0))
    inside = (tl.arange(BM)[:, None] < x.shape[0]) & (tl.arange(BN)[None, :] < x.shape[1])
    tl.store(best, 0, tl.argmin(tl.where(inside, v, 1e30), 1))
    total[0] = tl.sum(v * v)


@tl.jit
def rearranged(x: tl.f32["M", "N"], y: tl.f32["N", "M"], z: tl.f32["P", "Q"], w: tl.f32["M", "N"],
               M: int = 32, N: int = 48):
    tl.grid(1)
    v = tl.load(x, (0, 0), (M, N))
    tl.store(y, (0, 0), v.T)
    tl.store(z, (0, 0), v.reshape(M * 2, N // 2)[: M, :])
    left, right = v[:, : N // 2], v[:, N // 2 :]
    tl.store(w, (0, 0), tl.concatenate([right, left], 1))


@tl.jit
def scans(x: tl.f32["M", "N"], y: tl.f32["M", "N"], z: tl.f32["M", "N"], M: int = 8, N: int = 256):
    tl.grid(1)
    v = tl.load(x, (0, 0), (M, N))
    tl.store(y, (0, 0), tl.cumsum(v, 1))
    tl.store(z, (0, 0), tl.cummax(v, 0, reverse=True))


@tl.jit
def scan_vector(x: tl.i32["N"], y: tl.i32["N"], N: int = 1000):
    tl.grid(1)
    tl.store(y, 0, tl.cumsum(tl.load(x, 0, N)))


@tl.jit
def gathers(x: tl.f32["N"], index: tl.i32["K"], y: tl.f32["K"], z: tl.f32["N"], count: tl.i32["C"], B: int = 128):
    i = tl.grid(tl.cdiv(index.shape[0], B))
    at = tl.load(index, i * B, B, other=-1)
    v = tl.gather(x, at, other=-5.0)
    tl.store(y, i * B, v)
    tl.scatter(z, at, v + 1.0, mask=at >= 0)
    tl.atomic_add(count, at % 4, 1, mask=at >= 0)


@tl.jit
def control(x: tl.f32["N"], n: tl.i32, y: tl.f32["N"], B: int = 64):
    i = tl.grid(tl.cdiv(x.shape[0], B))
    v = tl.load(x, i * B, B)
    total = 0
    for k in range(n):
        if k == 7:
            break
        if k > 3:
            total = total + k
            continue
        total += 2
    if i == 1:
        v = v * 2.0
    m = tl.max(v)
    while m > 1.0:
        m = m * 0.5
    tl.store(y, i * B, v * m + total)


def matmul(da, dc, precision="ieee"):
    @tl.jit
    def kernel(a: da["M", "K"], b: da["K", "N"], c: dc["M", "N"], BM: int = 64, BN: int = 64, BK: int = 32,
               stages: int = 3):
        m, k = a.shape
        n = b.shape[1]
        i, j = tl.grid(tl.cdiv(m, BM), tl.cdiv(n, BN))
        acc = tl.zeros((BM, BN), dc)
        for p in tl.range(0, k, BK, stages=stages):
            x = tl.load(a, (i * BM, p), (BM, BK))
            y = tl.load(b, (p, j * BN), (BK, BN))
            acc = tl.dot(x, y, acc, precision=precision)
        tl.store(c, (i * BM, j * BN), acc)

    return kernel


@tl.jit
def explicit_shared(x: tl.f32["M", "N"], y: tl.f32["N", "M"], B: int = 32):
    i, j = tl.grid(tl.cdiv(x.shape[0], B), tl.cdiv(x.shape[1], B))
    s = tl.shared((B, B), tl.f32)
    tl.copy_async(s, x, (i * B, j * B))
    tl.commit()
    tl.wait(0)
    tl.sync()
    tl.store(y, (j * B, i * B), tl.load(s.T, (0, 0), (B, B)))


@tl.jit
def broadcasts(x: tl.f16["M", "N"], bias: tl.f16["N"], scale: tl.f32["M"], y: tl.f16["M", "N"], BM: int = 32,
               BN: int = 64):
    i, j = tl.grid(tl.cdiv(x.shape[0], BM), tl.cdiv(x.shape[1], BN))
    v = tl.load(x, (i * BM, j * BN), (BM, BN)).to(tl.f32)
    b = tl.load(bias, j * BN, BN).to(tl.f32)
    s = tl.load(scale, i * BM, BM)
    tl.store(y, (i * BM, j * BN), (v * s[:, None] + b[None, :]).to(tl.f16))


@tl.jit
def rows_of_swizzled(x: tl.f32["M", "N"], y: tl.f32["M", "N"], first: tl.i32):
    """Rows at run-time places, whole and in part, of shared memory whose swizzle reaches over several rows."""
    M, N = 8, 16
    tl.block(warps=1)
    tl.grid(1)
    s = tl.shared((M, N), tl.f32, tl.layouts.row_major(M, N).with_swizzle(3, 1, 3))
    tl.store(s, (0, 0), tl.load(x, (0, 0), (M, N)))
    tl.sync()
    for row in range(M):
        place = (row + first) % M
        tl.store(y[row, :], 0, tl.load(s[place, :], 0, N // 2))
        half = s[place, N // 2 :]
        tl.store(y[row, :], N // 2, tl.load(half[:], 0, N // 2))
