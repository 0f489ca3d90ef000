"""Properties of the machine code of the main loops: which instructions, how many, and no spills."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.gpu_code import loop_instructions
from kernels_zoo.attention.flash_attention import flash_attention_forward
from kernels_zoo.attention.flash_attention_backward import attention_backward_keys
from kernels_zoo.gemm.matmul import matmul


def mnemonics(code: list[str]) -> Counter[str]:
    words = [t.split() for t in code]
    return Counter(w[1] if w[0].startswith("@") else w[0] for w in words)


def starting(counts: Counter[str], *stems: str) -> int:
    return sum(n for name, n in counts.items() if name.startswith(stems))


@pytest.mark.parametrize("via", ["cuda", "ptx"])
def test_matmul(via: str) -> None:
    """128×128×32 in f16: what a K tile needs, one barrier, and few integer instructions beside."""
    compiled = matmul.compile(target="sm_80", via=via)
    assert compiled.metadata["spill_stores"] == compiled.metadata["local_bytes"] == 0
    sass = compiled.sass()
    counts = mnemonics(loop_instructions(sass))
    tiles, rest = divmod(counts["HMMA.16816.F32"], 64)
    assert tiles >= 1
    assert rest == 0
    assert counts["LDSM.16.M88.4"] == counts["LDSM.16.MT88.4"] == 8 * tiles
    copies = [name for name in counts if name.startswith("LDGSTS")]
    assert sum(counts[c] for c in copies) == 8 * tiles
    assert all(".128" in c for c in copies)
    assert starting(counts, "BAR") == tiles
    assert starting(counts, "ISETP", "UISETP") <= 1
    assert starting(counts, "MOV", "IMAD.MOV", "PRMT") <= tiles
    assert starting(counts, "I2F", "F2I", "MUFU", "STS") == 0
    assert sum(counts.values()) <= 112 * tiles
    stores = [line for line in sass.splitlines() if "STG." in line]
    assert stores
    assert all("STG.E.128" in line for line in stores)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("via", ["cuda", "ptx"])
def test_rows_that_are_copied(via: str) -> None:
    """Addresses and bounds of twice as many rows do not fill the registers."""
    compiled = matmul.compile(target="sm_80", via=via, BK=64)
    assert compiled.metadata["spill_stores"] == compiled.metadata["spill_loads"] == 0
    assert sum(mnemonics(loop_instructions(compiled.sass())).values()) <= 3 * 216


@pytest.mark.parametrize("via", ["cuda", "ptx"])
@pytest.mark.parametrize("causal", [False, True])
def test_attention(via: str, causal: bool) -> None:
    """Scores stay in registers, row sums are reduced once after the loop, and addresses take an instruction or none."""
    compiled = flash_attention_forward.compile(target="sm_80", via=via, causal=causal)
    assert compiled.metadata["spill_stores"] == compiled.metadata["local_bytes"] == 0
    counts = mnemonics(loop_instructions(compiled.sass()))
    assert counts["HMMA.16816.F32"] == 128
    assert starting(counts, "STS") == 0
    assert starting(counts, "SHFL") <= 8
    assert sum(counts.values()) <= 580


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("via", ["cuda", "ptx"])
def test_backward_attention(via: str, causal: bool) -> None:
    """Tiles of queries and of their gradients serve two products each, once turned: both read them by ldmatrix, and
    results become operands in the registers that they are in."""
    compiled = attention_backward_keys.compile(target="sm_80", via=via, causal=causal)
    assert compiled.metadata["spill_stores"] == compiled.metadata["local_bytes"] == 0
    counts = mnemonics(loop_instructions(compiled.sass()))
    tiles, rest = divmod(counts["HMMA.16816.F32"], 128)
    assert tiles >= 1
    assert rest == 0
    assert counts["LDSM.16.M88.4"] == counts["LDSM.16.MT88.4"] == 32 * tiles
    assert starting(counts, "STS", "SHFL", "PRMT", "LDL", "STL") == 0
    assert starting(counts, "BAR") == tiles
    assert counts.total() <= 410 * tiles
