"""Every kernel of the zoo against its float64 reference."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.checking import Case, relative_error, run

KERNELS = {
    "elementwise.vector_add": "vector_add", "elementwise.saxpy": "saxpy", "data_movement.transpose": "transpose",
    "reduction.row_sum": "row_sum", "normalization.softmax": "softmax", "normalization.layer_norm": "layer_norm",
    "normalization.rms_norm": "rms_norm", "gemm.matmul": "matmul", "gemm.matmul_explicit": "matmul_explicit",
    "gemm.matmul_split_k": "matmul_split_k", "gemm.batched_matmul": "batched_matmul",
    "attention.flash_attention": "flash_attention_forward",
    "attention.flash_attention_backward": "attention_backward_keys", "rnn.lstm": "lstm_step",
    "attention.bias_gradient": "attention_bias_gradient", "attention.sink_gradient": "attention_sink_gradient",
    "attention.decoding": "attention_split", "attention.latent_attention": "latent_attention_split",
    "linear_attention.lightning": "lightning_attention",
    "linear_attention.lightning_quadratic": "lightning_attention_quadratic",
    "linear_attention.scalar_gated_attention": "scalar_gated_outputs",
    "linear_attention.gated_linear_attention": "gla_outputs",
    "quantized.matmul": "quantized_matmul", "quantized.matmul_int8": "quantized_matmul_int8",
    "quantized.gptq": "gptq_matmul", "quantized.nf4": "nf4_matmul",
    "quantized.bitlinear": "bitlinear", "quantized.scaled": "scaled_matmul", "quantized.shift_add": "shift_matmul",
    "quantized.block_scaled": "block_scaled_matmul", "quantized.quartet": "quartet_forward",
    "quantized.experts": "quantized_matmul_grouped",
    "quantized.mlp": "gate_and_up", "quantized.embedding": "embedding_lookup", "sparse.two_four": "sparse_matmul",
    "compressed.dfloat11": "dfloat11_decode", "images.batch": "fused_images",
}
SMALL = 40_000
"""Elements of the largest argument of a shape that is quick on the interpreter."""


def module_of(name: str) -> ModuleType:
    return importlib.import_module(f"kernels_zoo.{name}")


def dtypes_of(name: str) -> list[Any]:
    halves = [tl.f16, tl.bf16]
    few = {"elementwise.saxpy": [tl.f32], "gemm.matmul_explicit": halves, "quantized.matmul": halves,
           "quantized.gptq": halves, "quantized.shift_add": [tl.f32],
           "compressed.dfloat11": [tl.bf16],
           "quantized.block_scaled": [tl.f32, tl.f16], "quantized.quartet": [tl.f32, tl.bf16],
           "quantized.experts": halves, "sparse.two_four": halves, "quantized.mlp": halves,
           "quantized.matmul_int8": halves, "images.batch": [tl.u8, tl.u16, tl.f32]}
    return few.get(name, [tl.f32, tl.f16, tl.bf16])


def variants(name: str) -> list[dict[str, Any]]:
    if name.startswith("normalization"):
        return [{}, {"fits": True}]
    return [{}, {"causal": True}] if name.startswith("attention.") else [{}]


def size_of(case: Case) -> int:
    return max(a.size for a in case.arguments if isinstance(a, np.ndarray))


CASES = [(name, dtype) for name in KERNELS for dtype in dtypes_of(name)]


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize("engine", ["interpret", "cpu"])
@pytest.mark.parametrize(("name", "dtype"), CASES, ids=str)
def test_small_shapes(name: str, dtype: tl.DType, engine: str) -> None:
    module = module_of(name)
    kernel = getattr(module, KERNELS[name])
    ran = 0
    for shape in module.SHAPES:
        for keywords in variants(name):
            case = module.case(shape, dtype, **keywords)
            if size_of(case) <= SMALL:
                assert run(kernel, case, engine) <= case.tolerance, (shape, keywords)
                ran += 1
    assert ran >= 3


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), CASES, ids=str)
def test_all_shapes_on_the_cpu(name: str, dtype: tl.DType) -> None:
    module = module_of(name)
    for shape in module.SHAPES:
        for keywords in variants(name):
            case = module.case(shape, dtype, **keywords)
            assert run(getattr(module, KERNELS[name]), case, "cpu") <= case.tolerance, (shape, keywords)


def spread(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same values in memory with gaps, and reversed along the first axis."""
    shape = tuple(2 * n + 1 for n in array.shape)
    view = np.zeros(shape, array.dtype)[tuple(slice(1, 2 * n + 1, 2) for n in array.shape)][::-1]
    view[...] = array
    return view


@pytest.mark.sweep(keep=12)
@pytest.mark.parametrize("engine", ["interpret", "cpu"])
@pytest.mark.parametrize("name", KERNELS)
def test_non_contiguous_views(name: str, engine: str) -> None:
    module = module_of(name)
    dtype = dtypes_of(name)[0]
    shape = module.SHAPES[3]
    case = module.case(shape, dtype)
    arguments = [spread(a) if isinstance(a, np.ndarray) else a for a in case.arguments]
    getattr(module, KERNELS[name]).on(engine)(*arguments, **case.constants)
    for output, reference in zip(case.outputs, case.references, strict=True):
        place = next(i for i, a in enumerate(case.arguments) if a is output)
        assert relative_error(arguments[place], reference) <= case.tolerance


@pytest.mark.sweep(keep=26)
@pytest.mark.parametrize("name", KERNELS)
def test_eager_python_agrees(name: str) -> None:
    module = module_of(name)
    dtype = dtypes_of(name)[0]
    case = min((module.case(s, dtype) for s in module.SHAPES if all(s)), key=size_of)
    assert run(getattr(module, KERNELS[name]), case, "python") <= case.tolerance


@pytest.mark.parametrize("name", ["elementwise.vector_add", "gemm.matmul"])
def test_main(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module_of(name).main()
    assert "WRONG" not in capsys.readouterr().out
