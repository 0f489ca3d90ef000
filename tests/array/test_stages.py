"""Array-level text, passes, and compilation for GPUs."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from click.testing import CliRunner

import tilus as tl
from tests.array.functions import layer_norm, mlp, softmax, two_layers
from tilus.cli.opt import command
from tilus.ir.parser import parse_module
from tilus.ir.printer import print_module
from tilus.ir.verifier import verify_module
from tilus.lowering.array import tile_arrays, unify_symbols
from tilus.lowering.pipelines import lower_for_gpu


def mlp_types(dtype: Any) -> dict[str, Any]:
    return {"x": dtype["M", "K"], "w": dtype["K", "N"], "b": dtype["N"]}


CALLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "mlp": (mlp, mlp_types(tl.f16)),
    "mlp-f32": (mlp, mlp_types(tl.f32)),
    "softmax": (softmax, {"x": tl.f32["M", "N"]}),
    "layer_norm": (layer_norm, {"x": tl.f16["M", "N"], "weight": tl.f16["N"], "bias": tl.f16["N"]}),
    "two_layers": (two_layers, {"x": tl.f16["M", "K"], "w1": tl.f16["K", "H"], "w2": tl.f16["H", "N"]}),
}

TEXT = """
module {level="array"}
kernel @scaled(%x: f16['M'x'K'], %w: f16['L'x'N'], %s: f32['N']) {scalars=[]} {
  param {name="x", kind="array", dims=["M", "K"]}
  param {name="w", kind="array", dims=["L", "N"]}
  param {name="s", kind="array", dims=["N"]}
  %y = contract(a=%x, b=%w) : f16['M'x'N']
  %wide = cast(x=%y) {dtype=f32} : f32['M'x'N']
  %row = reshape(x=%s) {shape=[1, "N"]} : f32[1x'N']
  %all = broadcast(x=%row) {shape=["M", "N"]} : f32['M'x'N']
  %z = binary(lhs=%wide, rhs=%all) {kind="mul"} : f32['M'x'N']
  yield(values=[%z])
}
"""


@pytest.mark.parametrize("name", CALLS)
def test_text_round_trip(name: str) -> None:
    function, types = CALLS[name]
    module = function.array_module(**types)
    verify_module(module)
    text = print_module(module)
    assert print_module(parse_module(text)) == text
    tiled = tile_arrays(parse_module(text))
    verify_module(tiled)
    assert tiled.level == "tile"


def test_symbols_that_meet_become_one() -> None:
    module = parse_module(TEXT)
    unify_symbols(module)
    assert "'L'" not in print_module(module)
    verify_module(module)


def test_malformed_text_is_an_error() -> None:
    with pytest.raises(tl.UserError, match="batch dimensions"):
        parse_module(TEXT.replace("x: f16['M'x'K']", "x: f16['B'x'M'x'K']").replace("w: f16[", "w: f16['C'x"))


@pytest.mark.parametrize("name", CALLS)
def test_every_pass_leaves_a_valid_module(name: str) -> None:
    function, types = CALLS[name]
    lower_for_gpu(tile_arrays(function.array_module(**types)), "sm_80", verify=True)


def test_opt_starts_from_array_level_text(tmp_path: Any) -> None:
    path = tmp_path / "scaled.array"
    path.write_text(TEXT)
    tiled = CliRunner().invoke(command, [str(path), "--passes", "unify-symbols,tile-arrays"])
    assert tiled.exit_code == 0, tiled.output
    assert "dot(" in tiled.output
    assert 'level="tile"' in tiled.output
    lowered = CliRunner().invoke(command, [str(path), "--target", "sm_80", "--lower"])
    assert lowered.exit_code == 0, lowered.output
    assert 'level="thread"' in lowered.output


@pytest.mark.sweep
@pytest.mark.parametrize("via", ["cuda", "ptx"])
@pytest.mark.parametrize("name", CALLS)
def test_compiles_without_spills(name: str, via: str) -> None:
    function, types = CALLS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled = function.compile(target="sm_80", via=via, **types)
    assert compiled.metadata["spill_stores"] == compiled.metadata["local_bytes"] == 0
    assert len(compiled.metadata["kernels"]) == (2 if name == "two_layers" else 1)


def test_the_product_runs_on_tensor_cores() -> None:
    compiled = mlp.compile(target="sm_80", **mlp_types(tl.f16))
    assert "HMMA" in compiled.sass()
    assert "HMMA" not in mlp.compile(target="sm_80", **mlp_types(tl.f32)).sass()


def test_explain() -> None:
    text = mlp.explain(**mlp_types(tl.f16))
    for part in ("contract", "fusion: 1 kernel\n", "in registers: ", "kernels: mlp", "registers a thread"):
        assert part in text


def test_explain_says_what_is_in_memory_and_why() -> None:
    function, types = CALLS["two_layers"]
    text = function.explain(**types)
    assert "fusion: 2 kernels\n" in text
    assert "bytes: a product would compute its sums again for every tile" in text
