"""Random masks, repeats and strides against the formula of lanes: repeat, block of 32 B, element."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import pytest

from tilus.twin import Finding, Program, TwinError, build

SIZE = 16384  # bytes of each tensor
DTYPES = {"float": np.float32, "half": np.float16, "int16_t": np.int16, "int32_t": np.int32}
PARAMETERS = ("mask", "high", "bits", "repeats", "d", "a", "b", "dr", "ar", "br")


def branch(ctype: str) -> str:
    return f"""
        LocalTensor<{ctype}> x(TPosition::VECIN, 0, {SIZE} / sizeof({ctype})), y(TPosition::VECIN, {SIZE}, x.GetSize()),
            z(TPosition::VECOUT, 2 * {SIZE}, x.GetSize());
        if (bits) Sub(z, x, y, lanes, repeats, strides); else Sub(z, x, y, mask, repeats, strides);"""


SOURCE = f"""#include "kernel_operator.h"
using namespace AscendC;
extern "C" __global__ __aicore__ void k(GM_ADDR gx, GM_ADDR gy, GM_ADDR gz, uint32_t type, uint32_t known,
    {", ".join(f"uint64_t {name}" for name in PARAMETERS)}) {{
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
    InitSocState();
    GlobalTensor<uint8_t> g[3];
    g[0].SetGlobalBuffer(gx); g[1].SetGlobalBuffer(gy); g[2].SetGlobalBuffer(gz);
    LocalTensor<uint8_t> raw[3];
    for (int i = 0; i < 3; ++i) {{
        raw[i] = LocalTensor<uint8_t>(TPosition::VECIN, i * {SIZE}, {SIZE});
        DataCopyPad(raw[i], g[i], DataCopyExtParams(1, i ? {SIZE} : known, 0, 0, 0), DataCopyPadExtParams<uint8_t>());
    }}
    SetFlag<HardEvent::MTE2_V>(0);
    WaitFlag<HardEvent::MTE2_V>(0);
    uint64_t lanes[2] = {{mask, high}};
    BinaryRepeatParams strides(d, a, b, dr, ar, br);
    switch (type) {{
{"".join(f"    case {i}: {{{branch(ctype)}{chr(10)}        break; }}{chr(10)}" for i, ctype in enumerate(DTYPES))}
    }}
    SetFlag<HardEvent::V_MTE3>(0);
    WaitFlag<HardEvent::V_MTE3>(0);
    DataCopyPad(g[2], raw[2], DataCopyExtParams(1, {SIZE}, 0, 0, 0));
    PipeBarrier<PIPE_ALL>();
}}
"""


class Call(NamedTuple):
    type: int
    dtype: np.dtype
    active: list[int]
    parameters: dict[str, int]

    def indices(self, block: str, repeat: str) -> np.ndarray:
        """Elements of the active lanes, repeat by repeat."""
        of_block = 32 // self.dtype.itemsize
        lanes = np.array(self.active)
        starts = np.arange(self.parameters["repeats"])[:, None] * self.parameters[repeat]
        return (starts + lanes // of_block * self.parameters[block]) * of_block + lanes % of_block


def draw(random: np.random.Generator) -> Call:
    type = int(random.integers(len(DTYPES)))
    dtype = np.dtype([*DTYPES.values()][type])
    lanes = 256 // dtype.itemsize
    names = dict(d=int(random.integers(1, 5)), **{name: int(random.integers(0, 5)) for name in ("a", "b")},
                 **{name: int(random.integers(0, 34)) for name in ("dr", "ar", "br")})
    names["repeats"] = int(random.integers(1, 12))
    names["bits"] = int(random.integers(2))
    if names["bits"]:
        active = sorted({int(lane) for lane in random.integers(0, lanes, random.integers(1, lanes))})
        whole = sum(1 << lane for lane in active)
        names |= {"mask": whole & (2**64 - 1), "high": whole >> 64}
    else:
        names |= {"mask": int(random.integers(1, lanes + 1)), "high": 0}
        active = list(range(names["mask"]))
    return Call(type, dtype, active, names)


@functools.cache
def program() -> Program:
    return build(SOURCE, "k", ("gm", "gm", "gm", "uint32_t", "uint32_t", *["uint64_t"] * len(PARAMETERS)))


def run(call: Call, arrays: list[np.ndarray], known: int) -> tuple[Finding, ...]:
    try:
        program().run([*arrays, call.type, known, *(call.parameters[name] for name in PARAMETERS)], blocks=1)
    except TwinError as error:
        return error.findings
    return ()


@pytest.mark.parametrize("seed", range(8))
def test_lanes_follow_the_formula(seed: int):
    random = np.random.default_rng(seed)
    compared = 0
    for _ in range(60):
        call = draw(random)
        x, y, z = (random.integers(-30, 30, SIZE // call.dtype.itemsize).astype(call.dtype) for _ in range(3))
        to, first, second = (call.indices(block, repeat) for block, repeat in (("d", "dr"), ("a", "ar"), ("b", "br")))
        expected = z.copy()
        expected[to.ravel()] = (x[first] - y[second]).ravel()
        # All that is read of x is known, and then all but the last element of it.
        known = (int(first.max()) + 1) * call.dtype.itemsize
        findings = run(call, [x, y, z], known)
        if np.unique(to).size < to.size:
            assert [finding.kind for finding in findings] == ["overlap"], call
            continue
        assert findings == (), call
        np.testing.assert_array_equal(z, expected, str(call))
        findings = run(call, [x, y, z], known - call.dtype.itemsize)
        assert [finding.kind for finding in findings] == ["uninitialised"], call
        compared += 1
    assert compared > 20
