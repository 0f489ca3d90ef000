"""Processors by name, and what is compiled for them."""

from __future__ import annotations

import pytest

import tilus as tl
from kernels_zoo.elementwise.vector_add import vector_add
from kernels_zoo.gemm.matmul import matmul
from tests.cpu.elf import architecture, undefined
from tests.cpu.run_level import integers
from tilus.diagnostics import UserError
from tilus.lowering.cpu.values import Machine
from tilus.runtime.cpu.processor import host, processor

SYSTEM = "unknown-linux-gnu"


@pytest.mark.parametrize(("name", "vector", "registers", "products", "fused"), [
    ("x86-64", 16, 16, "", False), ("x86-64-v2", 16, 16, "", False), ("x86-64-v3", 32, 16, "pmaddubsw", True),
    ("x86-64-v4", 64, 32, "pmaddubsw", True), ("haswell", 32, 16, "pmaddubsw", True),
    ("alderlake", 32, 16, "vpdpbusd", True), ("znver4", 64, 32, "vpdpbusd", True),
    ("sapphirerapids", 64, 32, "vpdpbusd", True),
])
def test_of_x86(name: str, vector: int, registers: int, products: str, fused: bool) -> None:
    """``fused``: whether there are multiply-adds and conversions of f16."""
    found = processor(name, f"x86_64-{SYSTEM}").machine
    assert (found.vector_bytes, found.registers, found.byte_products) == (vector, registers, products)
    assert (found.fma, found.halves) == (fused, fused)


@pytest.mark.parametrize(("name", "products"), [
    ("generic", ""), ("aarch64", ""), ("arm64", ""), (None, ""), ("cortex-a53", ""), ("neoverse-n1", "sdot"),
    ("apple-m1", "sdot"), ("neoverse-v1", "usdot"), ("apple-m2", "usdot"),
])
def test_of_aarch64(name: str | None, products: str) -> None:
    found = processor(name, f"aarch64-{SYSTEM}")
    assert (found.architecture, found.machine) == ("aarch64", Machine(16, 32, byte_products=products))


def test_architectures_are_found_by_names() -> None:
    assert processor("znver4").architecture == "x86_64"
    assert processor("neoverse-n1").architecture == processor("arm64").architecture == "aarch64"
    assert processor() == processor("native")
    assert (processor().name, processor().vectors) == (host().name, host().vectors)


@pytest.mark.parametrize(("name", "triple", "message"), [
    ("znver44", None, "there is no processor 'znver44' of x86_64 or aarch64.*near it: znver4"),
    ("neoverse-n1", f"x86_64-{SYSTEM}", "there is no processor 'neoverse-n1' of x86_64"),
    ("i386", f"x86_64-{SYSTEM}", "'i386' has no code of 64 bits"),
    (None, f"riscv64-{SYSTEM}", "there is no code for the triple"),
    ("arm64", f"x86_64-{SYSTEM}", "'arm64' is not the architecture of"),
])
def test_what_is_no_processor(name: str | None, triple: str | None, message: str) -> None:
    with pytest.raises(UserError, match=f"(?s){message}"):
        processor(name, triple)


def test_native_is_of_this_architecture() -> None:
    other = "aarch64" if host().architecture == "x86_64" else "x86_64"
    with pytest.raises(UserError, match="'native' is a processor of"):
        processor("native", f"{other}-{SYSTEM}")


@pytest.mark.parametrize(("cpu", "registers", "absent"), [
    ("x86-64-v4", ("zmm", "vfmadd"), ("vpdpbusd",)), ("x86-64-v3", ("ymm", "vfmadd"), ("zmm",)),
    ("x86-64", ("xmm",), ("ymm", "zmm", "vfmadd", "vcvtph2ps", "pshufb", "roundps")),
])
def test_code_has_the_instructions_of_the_processor_only(cpu: str, registers: tuple[str, ...],
                                                         absent: tuple[str, ...]) -> None:
    text = matmul.compile("cpu", a=tl.f16, b=tl.f16, c=tl.f16, cpu=cpu, triple=f"x86_64-{SYSTEM}").asm
    kernel = text.split("run_matmul:")[0]
    assert all(word in kernel for word in registers)
    assert not [word for word in absent if word in kernel]


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize(("cpu", "instruction"), [
    ("neoverse-n1", "\tsdot"), ("neoverse-v1", "\tusdot"), ("znver4", "vpdpbusd"), ("haswell", "vpmaddubsw")])
def test_products_of_bytes_have_instructions_of_their_own(cpu: str, instruction: str) -> None:
    assert instruction in integers.compile("cpu", cpu=cpu).asm


def test_the_least_processor_needs_the_c_library_only() -> None:
    """No functions of a compiler's own library, such as those that convert f16."""
    for dtype in (tl.f16, tl.bf16, tl.f32):
        compiled = matmul.compile("cpu", a=dtype, b=dtype, c=dtype, cpu="x86-64", triple=f"x86_64-{SYSTEM}")
        assert undefined(compiled.object) <= {"malloc", "free", "memset", "memcpy"}


def test_keys_keep_processors_apart() -> None:
    codes = {vector_add.compile("cpu", x=tl.f32, y=tl.f32, z=tl.f32, cpu=cpu).object
             for cpu in ("x86-64", "x86-64-v3", "x86-64-v4", "neoverse-n1")}
    assert len(codes) == 4
    named = vector_add.compile("cpu", x=tl.f32, y=tl.f32, z=tl.f32, cpu="x86-64", symbol="other")
    assert named.object not in codes


@pytest.mark.parametrize(("triple", "kind"), [(f"aarch64-{SYSTEM}", "aarch64"), (f"x86_64-{SYSTEM}", "x86_64")])
def test_objects_are_of_the_architecture(triple: str, kind: str) -> None:
    compiled = vector_add.compile("cpu", x=tl.f32, y=tl.f32, z=tl.f32, triple=triple)
    assert architecture(compiled.object) == kind
    assert triple in compiled.files("v.o")[".h"].decode()


def test_unknown_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILUS_CPU", "avx3")
    host.cache_clear()
    try:
        with pytest.raises(UserError, match=r"(?s)TILUS_CPU is 'avx3', which is no level of.*one of sse2, sse4"):
            host()
    finally:
        host.cache_clear()


@pytest.mark.parametrize(("cpu", "narrow"), [("znver4", True), ("x86-64-v4", False)])
def test_streams_go_by_half_registers(cpu: str, narrow: bool) -> None:
    """Where wide instructions are done in halves, and only in kernels that compute little."""
    types = dict.fromkeys("xyz", tl.f32)
    add = vector_add.compile("cpu", **types, assume="contiguous", cpu=cpu, triple=f"x86_64-{SYSTEM}").asm
    assert ("zmm" in add.split("run_vector_add:")[0]) != narrow
    product = matmul.compile("cpu", a=tl.f32, b=tl.f32, c=tl.f32, cpu=cpu, triple=f"x86_64-{SYSTEM}").asm
    assert "zmm" in product.split("run_matmul:")[0]
