"""The text form: every stage of a kernel prints, is read back, and prints the same."""

import pytest

import tilus as tl
from tests.lowering import kernels
from tilus.diagnostics import InternalError, UserError
from tilus.ir.parser import parse_module
from tilus.ir.printer import print_module
from tilus.ir.verifier import verify_module
from tilus.lowering.pipelines import GPU_THREAD_PASSES, GPU_TILE_PASSES
from tilus.lowering.simt.lower import lower_to_threads

KERNELS = {
    "arithmetic": (kernels.arithmetic(tl.f16), {}),
    "reductions": (kernels.reductions, {}),
    "rearranged": (kernels.rearranged, {}),
    "scans": (kernels.scans, {}),
    "gathers": (kernels.gathers, {}),
    "control": (kernels.control, {}),
    "matmul": (kernels.matmul(tl.bf16, tl.f32), {}),
    "explicit_shared": (kernels.explicit_shared, {}),
}


def stages(kernel, constants):
    """The module at every stage, in order."""
    module = kernel.assume("divisible", constants).trace()
    module.target = "sm_80"
    yield "traced", module
    for name, run in GPU_TILE_PASSES:
        run(module)
        yield name, module
    threads = lower_to_threads(module)
    yield "lowered", threads
    for name, run in GPU_THREAD_PASSES:
        run(threads)
        yield name, threads


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("locations", [False, True])
def test_round_trip(name, locations):
    for stage, module in stages(*KERNELS[name]):
        text = print_module(module, locations=locations)
        again = parse_module(text)
        verify_module(again, stage)
        assert print_module(again, locations=locations) == text, stage


@pytest.mark.parametrize(("change", "message"), [
    (("binary(", "binray("), "did you mean 'binary'"),
    (("lhs=%", "left=%"), "has no field 'left'"),
    ((") {}", " {}"), "malformed IR"),
    ((") {}", ") {warp=4}"), "no attribute 'warp'"),
    (("f32[?]", "f33[?]"), "f33"),
    (("global<", "globe<"), "no memory space 'globe'"),
    (("lhs=%i", "lhs=%nowhere"), "%nowhere is not defined"),
])
def test_errors_name_the_place(change, message):
    module = kernels.control.assume("divisible", {}).trace()
    text = print_module(module)
    assert change[0] in text
    with pytest.raises(UserError) as caught:
        parse_module(text.replace(*change, 1), "kernel.tile")
    assert message in str(caught.value)
    assert "kernel.tile:" in str(caught.value)


SCHEDULED = """module {form=["layouts"], target="sm_80"}
kernel @k(%c: bool) {warps=1} {
  param {name="c", kind="scalar"}
  %t = const() {value=0.0, dtype=f32, shape=[64]} : f32[64, local(2).spatial(32)]
  %u = convert_layout(x=%t) {layout=<spatial(32).local(2)>} : f32[64, spatial(32).local(2)]
  %r = if(condition=%c) : f32[64, spatial(32).local(2)] ^then() {
    yield(values=[%u])
  } ^orelse() {
    yield(values=[%u])
  }
  print(values=[%r]) {format="{}"}
  yield(values=[])
}
"""


@pytest.mark.parametrize(("change", "message"), [
    (("layout=<spatial(32).local(2)>", "layout=<local(2).spatial(32)>"),
     "%u: f32[64, spatial(32).local(2)] does not have the layout that is asked for, local(2).spatial(32)"),
    (("shape=[64]} : f32[64, local(2).spatial(32)]", "shape=[64]} : f32[64]"), "%t: f32[64] has no layout"),
    (("yield(values=[%u])", "yield(values=[%t])"), "%t: f32[64, local(2).spatial(32)] becomes a result of type"),
])
def test_layouts_are_verified(change, message):
    verify_module(parse_module(SCHEDULED))
    assert change[0] in SCHEDULED
    with pytest.raises(InternalError) as caught:
        verify_module(parse_module(SCHEDULED.replace(*change, 1)))
    assert message in str(caught.value)
