"""PTX that is legal in its words and unreasonable in its shape: it ends in an error with its line, or runs, in bounded time and memory."""
# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501

from __future__ import annotations

import time

import pytest

from tilus import simulator
from tilus.diagnostics import TilusError

HEAD = ".version 8.0\n.target sm_90\n.address_size 64\n"


def kernel(body: str, params: str = ".param .u64 p", before: str = "") -> str:
    return (f"{HEAD}{before}.visible .entry k({params})\n{{\n.reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<12>; .reg .b64 %d<12>; .reg .f32 %f<12>;\n"
            f"{body}\nret;\n}}\n")


CALLS = "".join(f".func f{i}() {{ {f'call f{i - 1}; ' * 8} ret; }}\n" if i else ".func f0() { .reg .b32 %r; add.u32 %r, 1, 2; ret; }\n" for i in range(14))
# text, and what the error says, or "" where the text runs
SHAPES = {
    "deep_scopes": (kernel("{" * 3000 + "}" * 3000), "more than 64 scopes"),
    "open_scopes": (kernel("{" * 20000), "unexpected"),
    "parentheses": (kernel("call (" + "(" * 5000 + ");"), "unexpected token"),
    "brackets": (kernel("ld.global.u32 %r1, " + "[" * 5000 + "];"), "unexpected token"),
    "registers_in_one_range": (kernel(".reg .b32 %z<2000000>;"), "too many registers"),
    "registers_in_many_ranges": (kernel("".join(f".reg .b64 %z{i}_<60000>;" for i in range(18))), "more than 1048576 registers"),
    "long_number": (kernel("mov.u32 %r1, " + "9" * 100000 + ";"), "unexpected token"),
    "far_offset": (kernel("ld.global.u32 %r1, [%d1+" + "9" * 60 + "];"), "unexpected token"),
    "long_name": (kernel("mov.u32 %r1, " + "a" * 100000 + ";"), "is not declared"),
    "wide_vector": (kernel("mov.b64 {" + ",".join(["%r1"] * 10000) + "}, %d1;"), "10000 parts of 8 bytes"),
    "far_location": (kernel(".loc 99999999999999999999 99999999999 1\nadd.u32 %r1, 1, 2;"), ""),
    "calls_that_double": (kernel("call f13;", before=CALLS), ""),
    "call_of_itself": (kernel("call f;", before=".func f() { call f; ret; }\n"), ""),
    "large_shared": (kernel(".shared .align 8 .b8 s[2000000000];"), "shared memory"),
    "large_local": (kernel(".local .b8 s[16000000];"), "registers and local memory of one block"),
    "negative_size": (kernel(".shared .b8 s[-5];"), "unexpected"),
    "odd_alignment": (kernel(".shared .align 3 .b8 s[8];"), "align"),
    "large_module_variable": (kernel("", before=f".global .b32 g[{1 << 40}];\n"), "2 GiB"),
    "unknown_initial_value": (kernel("", before=".global .u64 g = nothing;\n"), "initial value"),
    "arguments_of_printf": (kernel("{ .param .b32 q; call.uni (q), vprintf, (); }", before=".extern .func (.param .b32 r) vprintf(.param .b64 a, .param .b64 b);\n"), "0 arguments instead of"),
    "product_into_constants": (kernel("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {1,2,3,4},{%r1,%r2,%r3,%r4},{%r5,%r6},{%f1,%f2,%f3,%f4};"), "destination is not a register"),
    "parameter_of_the_module": (kernel("st.param.u32 [q], 1;", before=".param .b32 q;\n"), "q"),
    "bulk_copy_of_4_gib": (kernel("mov.u32 %r1, 4294967280; cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [0], [%d1], %r1, [8];"), ""),
    "bulk_zeros_without_end": (kernel("mov.u64 %d1, 0; st.bulk.shared::cta [%d1], 99999999999992, 0;"), ""),
    "groups_without_number": (kernel(f"cp.async.wait_group {10 ** 30};"), "number of groups must be a constant"),
    "fewer_groups_than_none": (kernel("cp.async.bulk.wait_group -1;"), "number of groups must be a constant"),
    "comment_without_end": (kernel("/* add"), "unexpected"),
    "zero_byte": (kernel("\0"), "unexpected"),
    "carriage_returns": (kernel("add.u32 %r1, 1, 2;").replace("\n", "\r\n"), ""),
    "nothing": ("", "no .version directive"),
}


@pytest.mark.sweep(keep=11)
@pytest.mark.parametrize("name", SHAPES)
def test_shape(name: str) -> None:
    text, message = SHAPES[name]
    begin = time.perf_counter()
    if message:
        with pytest.raises(TilusError) as caught:
            simulator.launch(text, "k", 2, 256, [0], max_steps=20000)
        shown = str(caught.value)
        assert message in shown
        assert len(shown) < 2000
        assert caught.value.diagnostics[0].code == "E0503" or "line" in shown
    else:
        simulator.launch(text, "k", 2, 256, [0], max_steps=20000, collect=True)
    assert time.perf_counter() - begin < 60
