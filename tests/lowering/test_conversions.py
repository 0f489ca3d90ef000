"""Register conversions: every sequence of the table on all bit patterns, and what both routes make of them."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from benchmarks.conversions import converter, ptx_of, sass_per_element
from tilus.codegen.llvm.host import emit_functions
from tilus.interp.numbers import decode
from tilus.ir.attributes import Attributes
from tilus.ir.builder import Builder
from tilus.ir.core import Block, Function, Module, Value
from tilus.ir.dtypes import DType, bf16, codebook, f16, f32, f64, i8, integer, nf4, parse_dtype, u8, u32
from tilus.ir.ops import PtrLoad, PtrStore, Yield
from tilus.ir.ops.words import Regroup
from tilus.ir.types import PointerType
from tilus.ir.verifier import verify_module
from tilus.lowering.conversions import convert_words, group_of, order_for
from tilus.lowering.conversions.emit import holds_difference
from tilus.lowering.conversions.numbers import numbers_of
from tilus.lowering.conversions.program import AND_OR, SELECT, XOR, Program
from tilus.lowering.conversions.recipes import sources, targets_of
from tilus.lowering.conversions.table import TABLE, program_for, table
from tilus.lowering.conversions.verify import canonical, converted, is_exact, packed, patterns
from tilus.lowering.pipelines import CPU_THREAD_PASSES, run_passes
from tilus.runtime.cpu.llvm import LoadedObject, compile_object, function
from tilus.simulator import launch
from tools.conversions import line

LINES = {tuple(text.split(" | ")[:2]): text for text in TABLE.read_text().splitlines() if text[0] != "#"}
SAMPLE = ("u4", "i3", "u8", "nf4", "f3e2m0ieee", "f4e2m1", "f5e2m2", "f6e3m2", "f7e3m3ieee", "f8e4m3fn", "f8e5m2",
          "f6e3m3u", "f8e6m1")


def sources_in_table() -> list[str]:
    return list(dict.fromkeys(source for source, _ in table()))


@pytest.mark.sweep(keep=82)
@pytest.mark.parametrize("name", sources_in_table())
def test_every_program_is_exact(name: str) -> None:
    source = parse_dtype(name)
    for target in targets_of(source):
        for ordered in (True, False):
            p = program_for(source, target, ordered)
            if p is not None:
                assert is_exact(p, source, target), (target, ordered)
                assert f"{p.cost}/{p.elements}" in LINES[name, target.name]
                assert sorted(p.order) == list(range(p.elements))
                assert not ordered or list(p.order) == sorted(p.order)


@pytest.mark.sweep
@pytest.mark.parametrize("target", [f16, bf16, f32], ids=str)
@pytest.mark.parametrize("source", [integer(bits, signed) for bits in range(1, 9) for signed in (False, True)], ids=str)
def test_differences_are_exact(source: DType, target: DType) -> None:
    """Of all codes in all places from all integers that a sequence is used for."""
    for ordered in (True, False):
        whole = program_for(source, target, ordered)
        for less in (-1 << source.bits, -3, 1, 8, 1 << source.bits - 1, 1 << source.bits):
            p = program_for(source, target, ordered, less)
            if not holds_difference(source, target, less) or p is None or whole is None:
                continue
            assert p.order == whole.order
            codes = patterns(p.elements, source.bits)
            found = np.ascontiguousarray(p.evaluate(packed(codes, source.bits))).view(target.numpy)
            expected = np.array(numbers_of(source))[codes[:, list(p.order)]] - less
            np.testing.assert_array_equal(found.astype(np.float64), expected)


def test_differences_have_sequences() -> None:
    for source in (integer(bits, False) for bits in range(1, 9)):
        middle = 1 << source.bits - 1
        assert holds_difference(source, f16, middle)
        assert program_for(source, f16, False, middle) is not None


@pytest.mark.parametrize("name", SAMPLE)
def test_table_is_what_the_search_finds(name: str) -> None:
    source = parse_dtype(name)
    for target in targets_of(source):
        assert line(source, target) == LINES.get((name, target.name))


def test_what_has_no_sequence() -> None:
    """Numbers beyond f16, and three bits to bytes."""
    missing = {(s.name, t.name) for s in sources() for t in targets_of(s)} - set(table())
    assert {t for _, t in missing} == {"f16", "bf16", "f32", "i8", "u8"}
    for name, target in missing:
        source = parse_dtype(name)
        if source is nf4:
            assert target == "f32"
        elif target == "f16":
            assert source.exponent >= 5 or not source.has_zero
        elif target in ("bf16", "f32"):
            assert not source.has_zero
        else:
            assert 8 % source.bits
    assert program_for(nf4, f32, True) is None
    assert program_for(codebook("five", [0.0, 1.5, -2.0] * 7), f16, True) is None


def test_numbers() -> None:
    """By the description of the type as by the interpreter."""
    for source in sources():
        if source.is_float or source.is_codebook:
            codes = np.arange(1 << source.bits, dtype=np.uint8)
            wanted = decode(codes, source).astype(np.float64)
            np.testing.assert_array_equal(numbers_of(source), wanted, err_msg=str(source))


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", ["any", "whole", "short", "positive"])
def test_codebooks(bits: int, shape: str) -> None:
    """Those without a name have sequences as well."""
    rng = np.random.default_rng(bits)
    values = rng.standard_normal((1 << bits) - (shape == "short")) * 100
    values = np.round(values / 16) * 16 if shape == "whole" else abs(values) if shape == "positive" else values
    source = codebook("book", values.tolist(), bits)
    for target in (f16, bf16):
        for ordered in (True, False):
            p = program_for(source, target, ordered)
            assert p is not None
            assert is_exact(p, source, target)


def test_a_wrong_program_is_found() -> None:
    p = program_for(parse_dtype("f4e2m1"), f16, False)
    assert p is not None
    wrong = Program(p.bits, p.inputs, list(p.nodes), list(p.outputs[::-1]), p.order)
    assert not is_exact(wrong, parse_dtype("f4e2m1"), f16)


def run(source: DType, target: DType, where: str, route: str, ordered: bool, codes: Any) -> Any:
    """The results of a kernel on rows of codes, one for each thread."""
    rows, count = codes.shape
    module = converter(source, target, count, where, ordered)
    verify_module(module)
    x = packed(codes, source.bits)
    y = np.zeros((rows, count * target.bits // 32), np.uint32)
    launch(ptx_of(module, route), "convert", rows // 32, 32, [x, y])
    return canonical(y.view(f"u{target.bits // 8}"), target)


def check(source: DType, target: DType, where: str, route: str, ordered: bool) -> None:
    count = group_of(source, target)
    codes = patterns(count, source.bits)
    codes = codes[: len(codes) // 32 * 32] if len(codes) >= 32 else np.resize(codes, (32, count))
    wanted = converted(source, target)[codes]
    if not ordered:
        order = order_for(source, target, count)
        assert order is not None
        wanted = wanted[:, list(order)]
    np.testing.assert_array_equal(run(source, target, where, route, ordered, codes), wanted)


@pytest.mark.sweep
@pytest.mark.parametrize("route", ["ptx", "cuda"])
@pytest.mark.parametrize("where", ["sm_80", "sm_90a", "sm_120a"])
@pytest.mark.parametrize("name", ["i4", "f4e2m1", "f6e3m2", "f8e4m3fn", "f8e5m2"])
def test_routes(name: str, where: str, route: str) -> None:
    source = parse_dtype(name)
    for target in (f16, bf16):
        for ordered in (True, False):
            check(source, target, where, route, ordered)


@pytest.mark.parametrize("name", ["u1", "i3", "u8", "f5e2m2", "f7e3m3ieee", "f8e6m1", "f6e3m3u", "nf4", "f4e2m1fn"])
def test_other_types_and_targets(name: str) -> None:
    source = parse_dtype(name)
    for target in targets_of(source):
        if group_of(source, target):
            check(source, target, "sm_80", "ptx", False)
    check(source, f16 if source is nf4 else f32, "sm_80", "cuda", True)


@pytest.mark.parametrize("name", ["u1", "i2", "u4", "i4", "i8"])
def test_bytes(name: str) -> None:
    source = parse_dtype(name)
    for ordered in (True, False):
        check(source, i8 if name[0] == "i" else u8, "sm_80", "ptx", ordered)


def test_before_bf16_instructions() -> None:
    """Turing has no multiply-adds of bf16; the sequence is right all the same."""
    check(parse_dtype("f8e4m3fn"), bf16, "sm_75", "ptx", False)


@pytest.mark.parametrize(("name", "count"), [("u4", 2), ("u4", 12), ("i3", 10), ("f6e3m2", 6), ("f8e4m3fn", 6)])
def test_parts_of_groups(name: str, count: int) -> None:
    """Any even number of elements in order, and more than one group."""
    source = parse_dtype(name)
    codes = np.random.default_rng(0).integers(0, 1 << source.bits, (32, count)).astype(np.uint32)
    np.testing.assert_array_equal(run(source, f16, "sm_80", "ptx", True, codes),
                                  converted(source, f16)[codes])


def test_what_does_not_fit() -> None:
    b = Builder(Block())
    words = Value(PointerType(u32, "global"), owner=b.block)
    for source, count, target, ordered in ((parse_dtype("u4"), 3, f16, True), (parse_dtype("u4"), 12, f16, False),
                                           (parse_dtype("u4"), 8, f64, True), (nf4, 8, f32, True)):
        assert convert_words(b, words, source, count, target, ordered=ordered) is None
    assert b.block.ops == []
    assert order_for(parse_dtype("u4"), f16, 12) is None
    assert order_for(parse_dtype("u4"), f16, 16) == (*(first := (0, 2, 1, 3, 4, 6, 5, 7)), *(8 + i for i in first))


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize(("name", "most"), [
    ("u4", 1.1), ("i4", 1.2), ("f4e2m1", 1.7), ("f8e4m3fin", 1.8), ("f6e3m2", 2.4), ("u3", 1.5), ("u5", 1.8)])
def test_instructions(name: str, most: float) -> None:
    """ptxas makes one instruction of each operation, and a few moves of constants."""
    for route in ("ptx", "cuda"):
        assert sass_per_element(parse_dtype(name), f16, "sm_80", route, False) <= most


@pytest.mark.parametrize("name", ["i4", "f6e3m2", "f8e4m3fn", "nf4", "f4e2m1"])
def test_host(name: str) -> None:
    """The instructions on words as arithmetic."""
    source = parse_dtype(name)
    count = group_of(source, f16)
    body = Block()
    x, y = (Value(PointerType(u32, "global"), name=n, owner=body) for n in "xy")
    body.args = [x, y]
    b = Builder(body)
    words = b.add(PtrLoad(x, count * source.bits // 32, 4)).result
    numbers = convert_words(b, words, source, count, f16)
    assert numbers is not None
    b.add(PtrStore(y, b.add(Regroup(numbers, u32)).result, 4))
    b.add(Yield(()))
    made = Function("convert", body, [], Attributes(linkage="dso_local"))
    module = Module([made], None, "thread", frozenset(), "cpu")
    run_passes(module, CPU_THREAD_PASSES)
    loaded = LoadedObject(compile_object(emit_functions(module.kernels)))
    call = function(loaded.address("convert"), None, ctypes.c_void_p, ctypes.c_void_p)
    codes = patterns(count, source.bits)
    found = np.zeros((len(codes), count), np.uint16)
    for row, out in zip(packed(codes, source.bits), found, strict=True):
        call(row.ctypes.data, out.ctypes.data)
    np.testing.assert_array_equal(canonical(found, f16), converted(source, f16)[codes])


def test_truth_tables() -> None:
    """The columns of three bits as LOP3 numbers its rows."""
    for row in range(8):
        a, b, c = row >> 2 & 1, row >> 1 & 1, row & 1
        assert AND_OR >> row & 1 == (a & b | c)
        assert SELECT >> row & 1 == (b if c else a)
        assert XOR >> row & 1 == a ^ b


@pytest.mark.parametrize("source", [integer(bits, signed) for bits in (1, 2, 4) for signed in (False, True)], ids=str)
def test_differences_as_bytes(source: DType) -> None:
    for ordered in (True, False):
        for less in (1, 1 << source.bits - 1, 100):
            p = program_for(source, i8, ordered, less)
            assert holds_difference(source, i8, less)
            assert p is not None
            codes = patterns(p.elements, source.bits)
            found = np.ascontiguousarray(p.evaluate(packed(codes, source.bits))).view(np.int8)
            np.testing.assert_array_equal(found, np.array(numbers_of(source))[codes[:, list(p.order)]] - less)
