"""Forms of instructions that no other test reaches, each against its definition."""
# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501, ISC004
from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from tests.simulator.instruction_table import REASONS, TARGET, forms, shortened
from tests.simulator.test_instructions import FLOATS, HALVES, INTS, N, b16, each, f, f16, text, verify
from tilus import simulator
from tilus.diagnostics import CheckError

H = HALVES.view("u4")
FILLED = H.copy()
FILLED[0, ::5] = 0x7FFF7FFF
PAIR = lambda b, c: np.stack([b[::2], c[::2]], 1).reshape(-1)  # noqa: E731
WIDE = "{{ .reg .f64 x, y, z; cvt.f64.f32 x, %b; cvt.f64.f32 y, %c; {0} cvt.rn.f32.f64 %d, z; }}"
BAR = "{ .reg .b64 m, n; .shared .align 8 .b64 bar; setp.eq.u32 %q, %tx, 0; @%q mbarrier.init.shared.b64 [bar], COUNT; bar.sync 0; BODY bar.sync 0; mbarrier.test_wait.parity.shared.b64 %q, [bar], 0; selp.b32 %d, 1, 0, %q; }"


def tf32(x: np.ndarray) -> np.ndarray:
    """Ties away from zero at 10 bits of mantissa."""
    bits = x.astype("u8") + 0x1000
    return np.where(np.isfinite(x.view("f4")), (bits & 0xFFFFE000).astype("u4"), x)


def power_of_two(x: np.ndarray) -> np.ndarray:
    """ue8m0 of positive numbers, upwards."""
    return np.ceil(np.log2(np.maximum(np.abs(x.astype("f8")), 2.0 ** -127))).astype("i8") + 127


ones: Callable[..., np.ndarray] = lambda a, b, c: np.ones(N, "u4")  # noqa: E731
first: Callable[..., np.ndarray] = lambda a, b, c: a  # noqa: E731
ROWS: list[tuple[str, np.ndarray, Callable[..., np.ndarray], float]] = [
    ("abs.f16x2 %d, %a;", H, lambda a, b, c: a & 0x7FFF7FFF, 0), ("sub.f16x2 %d, %a, %b;", H, f16(lambda a, b, c: a - b), 0),
    ("sub.rn.sat.f16x2 %d, %a, %b;", H, f16(lambda a, b, c: np.clip(a - b, 0, 1)), 0), ("min.NaN.f16x2 %d, %a, %b;", H, f16(lambda a, b, c: np.minimum(a, b)), 0),
    ("min.bf16x2 %d, %b, %c;", FLOATS.view("u4"), b16(lambda a, b, c: np.fmin(b, c)), 0),
    ("fma.rn.oob.f16x2 %d, %a, %b, %c;", FILLED, lambda a, b, c: np.where(a == 0x7FFF7FFF, 0, f16(lambda x, y, z: x * y + z)(a, b, c)).astype("u4"), 0),
    ("fma.rn.oob.relu.f16x2 %d, %b, %c, %a;", H, f16(lambda a, b, c: np.maximum(b * c + a, 0)), 0),
    ("cnot.b32 %d, %a;", INTS, each(lambda a, b, c: int(a == 0)), 0),
    ("{ .reg .b32 lo; mad.lo.cc.u32 lo, %a, %b, %c; madc.hi.u32 %d, %a, %b, 0; }", INTS, each(lambda a, b, c: a * b + c >> 32), 0),
    (WIDE.format("mad.rn.f64 z, x, y, x;"), FLOATS, f(lambda a, b, c: b.astype("f8") * c + b), 0), (WIDE.format("max.f64 z, x, y;"), FLOATS, f(lambda a, b, c: np.maximum(b, c)), 0),
    (WIDE.format("min.f64 z, x, y;"), FLOATS, f(lambda a, b, c: np.minimum(b, c)), 0), (WIDE.format("neg.f64 z, x;"), FLOATS, f(lambda a, b, c: -b), 0),
    (WIDE.format("sub.rn.f64 z, x, y;"), FLOATS, f(lambda a, b, c: b.astype("f8") - c), 0), (WIDE.format("rcp.approx.ftz.f64 z, x;"), FLOATS, f(lambda a, b, c: 1 / b.astype("f8")), 16),
    ("{ .reg .b64 x, y; mov.b64 x, {%b, %c}; mov.b64 y, {%c, %b}; sub.rn.f32x2 x, x, y; mov.b64 {_, %d}, x; }", FLOATS, f(lambda a, b, c: c - b), 0),
    ("{ .reg .b16 h; cvt.rn.relu.f16.f32 h, %b; cvt.u32.u16 %d, h; }", FLOATS, lambda a, b, c: np.maximum(b.view("f4"), 0).astype("f2").view("u2").astype("u4"), 0),
    ("{ .reg .b16 h; cvt.rz.satfinite.ue8m0x2.f32 h, %b, %c; cvt.rp.satfinite.ue8m0x2.f32 h, %b, %c; cvt.u32.u16 %d, h; }", np.abs(FLOATS),
     lambda a, b, c: (power_of_two(b.view("f4")) << 8 | power_of_two(c.view("f4"))).astype("u4"), 0),
    ("{ .reg .b16 h; cvt.u16.u32 h, %a; cvt.rn.bf16x2.ue8m0x2 %d, h; }", INTS & 0x7F7F | 0x0101,
     lambda a, b, c: np.ldexp(1.0, np.stack([a & 255, a >> 8], 1).astype("i4") - 127).astype("f4").astype(ml_dtypes.bfloat16).view("u4")[:, 0], 0),
    ("{ .reg .f32 r; mov.b32 r, %b; cvt.rna.tf32.f32 %d, r; }", FLOATS, lambda a, b, c: tf32(b), 0),
    ("redux.sync.min.f32 %d, %b, 0xffffffff;", FLOATS, lambda a, b, c: np.repeat(b.view("f4").reshape(-1, 32).min(1), 32).view("u4"), 0),
    ("redux.sync.max.abs.NaN.f32 %d, %b, 0xffffffff;", FLOATS, lambda a, b, c: np.repeat(np.abs(b.view("f4")).reshape(-1, 32).max(1), 32).view("u4"), 0),
    ("shfl.bfly.b32 %d, %a, 5, 31;", INTS, lambda a, b, c: a[np.arange(N) ^ 5], 0),
    ("vote.all.pred %q, %p; vote.ballot.b32 %d, %p; @%q add.u32 %d, %d, 1;", INTS,
     lambda a, b, c: np.repeat([sum(int(x) << i for i, x in enumerate(w)) + w.all() for w in (a < b).reshape(-1, 32)], 32).astype("u4"), 0),
    ("atom.global.xor.u32 %d, [%o], %a; ld.mmio.relaxed.sys.global.u32 %d, [%o]; st.mmio.relaxed.sys.global.u32 [%o], %b; ldu.global.u32 %z, [%pc]; xor.b32 %d, %d, %z;", INTS, lambda a, b, c: a ^ c, 0),
    ("{ .reg .b32 x, y; and.b32 x, %tx, 1; setp.eq.u32 %q, x, 0; @%q atom.global.add.v2.f32 {x, y}, [%o], {%b, %c}; bar.sync 0; ld.global.b32 %d, [%o]; }", FLOATS, lambda a, b, c: PAIR(b, c), 0),
    ("{ .reg .b32 x; and.b32 x, %tx, 1; setp.eq.u32 %q, x, 0; @%q red.global.max.noftz.v2.f16x2 [%o], {%a, %b}; bar.sync 0; ld.global.b32 %d, [%o]; }", H & 0x7FFF7FFF, lambda a, b, c: PAIR(a, b), 0),
    ("{ .reg .b128 x, y; .reg .b64 l, h; .reg .b32 m; mov.b64 l, {%a, %b}; mov.b64 h, {%b, %c}; mov.b128 x, {l, h}; and.b32 m, %tx, 3; setp.eq.u32 %q, m, 0; @%q atom.global.exch.b128 y, [%o], x; "
     "bar.sync 0; ld.global.b32 %d, [%o]; }", INTS, lambda a, b, c: np.stack([a[::4], b[::4], b[::4], c[::4]], 1).reshape(-1), 0),
    ("setp.lt.u32 %q, %tx, 32; @%q barrier.cta.arrive 1, 64; @!%q barrier.cta.sync 1, 64; mov.u32 %d, %a;", INTS, first, 0),
    ("barrier.cta.red.and.aligned.pred %q, 0, %p; barrier.cta.red.or.pred %s, 0, %p; selp.b32 %d, 1, 0, %q; @%s add.u32 %d, %d, 2;", INTS,
     lambda a, b, c: np.repeat([w.all() + 2 * w.any() for w in (a < b).reshape(-1, 64)], 64).astype("u4"), 0),
    (BAR.replace("COUNT", "64").replace("BODY", "mbarrier.arrive.noComplete.shared.b64 m, [bar], 1;" .replace("mbarrier", "setp.lt.u32 %q, %tx, 63; @%q mbarrier") + " bar.sync 0; @!%q mbarrier.arrive.shared.b64 m, [bar];"), INTS, ones, 0),
    (BAR.replace("COUNT", "64").replace("BODY", "setp.lt.u32 %q, %tx, 63; @%q mbarrier.arrive_drop.noComplete.shared.b64 m, [bar], 1; bar.sync 0; @!%q mbarrier.arrive.shared.b64 m, [bar];"), INTS, ones, 0),
    (BAR.replace("COUNT", "64").replace("BODY", "mbarrier.arrive_drop.expect_tx.shared.b64 m, [bar], 4; mbarrier.complete_tx.shared.b64 [bar], 4;"), INTS, ones, 0),
    (BAR.replace("COUNT", "64").replace("BODY", "mbarrier.expect_tx.relaxed.cta.shared.b64 [bar], 8; bar.sync 0; mbarrier.arrive.shared.b64 m, [bar]; bar.sync 0; mbarrier.complete_tx.shared.b64 [bar], 8;"), INTS, ones, 0),
    ("membar.proxy.alias; membar.proxy.async; fence.acquire.sync_restrict::shared::cluster.cluster; fence.proxy.tensormap::generic.release.gpu; fence.proxy.async::generic.acquire.sync_restrict::shared::cluster.cluster; "
     "fence.proxy.async::generic.release.sync_restrict::shared::cta.cluster; mov.u32 %d, %a;", INTS, first, 0),
    ("{ .reg .b64 y; prefetch.global.L2::evict_last [%o]; prefetch.tensormap [%o]; prefetchu.L1 [%o]; createpolicy.fractional.L2::evict_last.b64 y, 1.0; createpolicy.range.global.L2::evict_last.L2::evict_unchanged.b64 y, [%o], 64, 128; createpolicy.cvt.L2.b64 y, 0x10; ld.global.L2::cache_hint.u32 %d, [%pa], y; pmevent 1; }", INTS, first, 0),
]


@pytest.mark.parametrize(("line", "inputs", "definition", "ulps"), ROWS, ids=[re.sub(r"\W.*", "", r[0].strip("{ ")) + f"-{n}" for n, r in enumerate(ROWS)])
def test_form(line: str, inputs: np.ndarray, definition: Callable[..., np.ndarray], ulps: float) -> None:
    verify(line, inputs, definition, ulps)


def test_compare_and_swap_of_128_bits() -> None:
    line = ("{ .reg .b128 x, y, z; .reg .b64 l, h, o; .reg .b32 m; mov.b64 o, 0; mov.b64 l, {%a, %b}; mov.b64 h, {%b, %c}; mov.b128 x, {l, h}; mov.b128 y, {o, o}; and.b32 m, %tx, 3; setp.eq.u32 %q, m, 0; "
            "@%q atom.global.cas.b128 z, [%o], y, x; bar.sync 0; ld.global.b32 %d, [%o]; }")
    verify(line, INTS, lambda a, b, c: np.stack([a[::4], b[::4], b[::4], c[::4]], 1).reshape(-1), 0)


def test_load_and_store_of_128_bits() -> None:
    line = ("{ .reg .b128 x, y; .reg .b64 l, h; .reg .b32 m, n; .shared .align 16 .b8 s[1024]; mov.b64 l, {%a, %b}; mov.b64 h, {%b, %c}; mov.b128 x, {l, h}; mov.u32 m, s; mad.lo.u32 m, %tx, 16, m; st.shared.b128 [m], x; "
            "ld.shared.b128 y, [m]; mov.b128 {l, h}, y; mov.b64 {n, %d}, h; }")
    verify(line, INTS, lambda a, b, c: c, 0)


def test_bulk_zeros_in_shared_memory() -> None:
    line = ("{ .reg .b32 m, n; .reg .b64 w, k; .shared .align 8 .b8 s[512]; mov.u32 m, s; mad.lo.u32 m, %tx, 8, m; st.shared.v2.b32 [m], {%a, %b}; bar.sync 0; cvt.u64.u32 w, m; cvta.shared.u64 w, w; mov.u64 k, 16; and.b32 n, %tx, 3; "
            "setp.eq.u32 %q, n, 1; @%q st.bulk.weak [w], k, 0; mov.u32 n, s; setp.eq.u32 %q, %tx, 8; add.u32 m, n, 64; cvt.u64.u32 w, m; @%q st.bulk.shared::cta [w], 8, 0; bar.sync 0; mad.lo.u32 m, %tx, 8, n; ld.shared.b32 %d, [m]; }")

    def wanted(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        t = np.arange(N) % 64
        return np.where((t % 4 == 1) | (t % 4 == 2) | (t == 8), 0, a)

    verify(line, INTS, wanted, 0)


def test_assert_fail_by_its_other_name() -> None:
    source = text("mov.u32 %d, %a; { .param .b64 m; .param .b64 f; .param .b32 l; .param .b64 n; .param .b64 s; st.param.b64 [m], %pa; st.param.b64 [f], %pa; st.param.b32 [l], 7; st.param.b64 [n], %pa; st.param.b64 [s], 1; "
                  "call.uni __assert_fail, (m, f, l, n); }")
    declared = source.replace(".visible .entry", ".extern .func __assert_fail(.param .b64 m, .param .b64 f, .param .b32 l, .param .b64 n);\n.visible .entry", 1)
    with pytest.raises(CheckError, match="assertion"):
        simulator.launch(declared, "k", 1, 64, [np.full(N, 0x41, "u4")] * 5)


def test_every_form_has_a_test_or_a_reason() -> None:
    """The published table holds each form with the test that executes it, or with the reason why none can."""
    table = dict(re.findall(r"^\| `(.*?)` \| (.*?) \|$", Path(TARGET).read_text(), re.M))
    missing = [spec for spec in forms() if table.get(shortened(spec), "—") == "—"]
    assert not missing, "run python -m tests.simulator.instruction_table; without a test: " + "; ".join(missing)
    root = Path(__file__).parent
    for entry in table.values():
        match = re.match(r"(test_\w+\.py)::(\w+)$", entry)
        assert entry.startswith("no test: ") or (match and f"def {match[2]}(" in (root / match[1]).read_text()), entry
    assert set(REASONS) <= set(forms())
