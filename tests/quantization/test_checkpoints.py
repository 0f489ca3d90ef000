"""Public formats of quantised layers, in files that safetensors writes; and files of our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilus as tl
from tilus.quantization.checkpoints import awq_tensors, compressed_tensors, gptq_tensors, layers_in
from tilus.quantization.words import (
    AWQ_ORDER,
    awq_codes,
    awq_words,
    field_codes,
    field_words,
    stream_codes,
    stream_words,
)

safetensors = pytest.importorskip("safetensors.numpy")


def codes(shape: tuple[int, ...], bits: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 1 << bits, shape, np.uint8)


def weights(k: int, n: int) -> Any:
    return np.random.default_rng(3).standard_normal((k, n), np.float32) * 0.05


def test_three_words_of_three_bits() -> None:
    """GPTQ's rule for 32 values of 3 bits, written out."""
    v = [int(c) for c in codes((32,), 3)]
    first = sum(v[j] << 3 * j for j in range(10)) | (v[10] & 3) << 30
    second = v[10] >> 2 | sum(v[11 + j] << 3 * j + 1 for j in range(10)) | (v[21] & 1) << 31
    third = v[21] >> 1 | sum(v[22 + j] << 3 * j + 2 for j in range(10))
    assert stream_words(np.array(v, np.uint8), 3).view(np.uint32).tolist() == [first, second, third]


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 8])
def test_words_and_back(bits: int) -> None:
    c = codes((3, 64), bits)
    np.testing.assert_array_equal(stream_codes(stream_words(c, bits), bits), c)
    for count in (1, 31, 64):
        np.testing.assert_array_equal(field_codes(field_words(c[:, :count], bits), bits, count), c[:, :count])


def test_nibbles_of_awq() -> None:
    c = codes((2, 16), 4)
    words = awq_words(c).view(np.uint32)
    for row, word, nibble in np.ndindex(2, 2, 8):
        assert words[row, word] >> np.uint32(4 * nibble) & np.uint32(15) == c[row, 8 * word + AWQ_ORDER[nibble]]
    np.testing.assert_array_equal(awq_codes(awq_words(c)), c)
    with pytest.raises(ValueError, match="no multiple of 8"):
        awq_words(codes((2, 12), 4))


def same(found: tl.Quantized, expected: tl.Quantized) -> None:
    np.testing.assert_array_equal(tl.dequantize(found), tl.dequantize(expected))
    assert (found.dtype, found.shape, found.group, found.axis) == (expected.dtype, expected.shape, expected.group, 0)


@pytest.mark.sweep
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("form", [{}, {"symmetric": False}, {"act_order": True}, {"less_one": False}], ids=str)
def test_gptq(bits: int, form: dict[str, Any], tmp_path: Path) -> None:
    form = dict(form)
    less_one, act_order = form.pop("less_one", True), form.pop("act_order", False)
    w = weights(128, 64)
    x = np.random.default_rng(1).standard_normal((90, 128)) * np.linspace(0.5, 2, 128)
    q = tl.gptq(w, x, tl.integer(bits, False), group=32, act_order=act_order, **form)
    tensors = gptq_tensors(q, less_one)
    assert tensors["qweight"].shape == (128 * bits // 32, 64)
    assert tensors["qzeros"].shape == (4, 64 * bits // 32)
    safetensors.save_file({**{f"mlp.up.{k}": v for k, v in tensors.items()}, "norm": np.ones(4, np.float16)},
                          tmp_path / "m.safetensors")
    found = tl.load_weights(tmp_path / "m.safetensors", zeros_are_less_one=less_one)
    assert sorted(found) == ["mlp.up.weight", "norm"]
    same(found["mlp.up.weight"], q)
    # by the definition: s (v - z), with v at its place in the words
    k, n = 77, 13
    bit = k * bits
    stream = sum(int(np.uint32(word)) << 32 * i for i, word in enumerate(tensors["qweight"].view(np.uint32)[:, n]))
    code = stream >> bit & (1 << bits) - 1
    group = tensors["g_idx"][k]
    zeros = sum(int(np.uint32(word)) << 32 * i for i, word in enumerate(tensors["qzeros"].view(np.uint32)[group]))
    zero = (zeros >> n * bits & (1 << bits) - 1) + less_one
    assert tl.dequantize(q)[k, n] == np.float32(tensors["scales"][group, n]) * (code - zero)


def test_gptq_without_g_idx_and_zero_points_beyond_the_type() -> None:
    q = tl.quantize(weights(64, 32), tl.u4, group=32, symmetric=False)
    tensors = gptq_tensors(q)
    del tensors["g_idx"]
    tensors["qzeros"][...] = -1  # 15, which stands for 16
    assert layers_in({f"a.{k}": v for k, v in tensors.items()})[0]["a.weight"].zeros == 16.0


@pytest.mark.parametrize("symmetric", [True, False])
def test_awq(symmetric: bool, tmp_path: Path) -> None:
    q = tl.quantize(weights(128, 64), tl.u4, group=64, symmetric=symmetric)
    safetensors.save_file({f"l.{k}": v for k, v in awq_tensors(q).items()}, tmp_path / "m.safetensors")
    same(tl.load_weights(tmp_path / "m.safetensors")["l.weight"], q)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("form", [{}, {"symmetric": False}, {"group": -1}, {"act_order": True}], ids=str)
def test_compressed_tensors(bits: int, form: dict[str, Any], tmp_path: Path) -> None:
    w = weights(96, 40)
    x = np.random.default_rng(1).standard_normal((90, 96)) * np.linspace(0.5, 2, 96)
    q = tl.gptq(w, x, tl.integer(bits, False), **{"group": 32, **form})
    safetensors.save_file({f"l.{k}": v for k, v in compressed_tensors(q).items()}, tmp_path / "m.safetensors")
    same(tl.load_weights(tmp_path / "m.safetensors")["l.weight"], q)


def test_compressed_tensors_of_whole_bytes_and_fours() -> None:
    w = weights(64, 24)
    i8, f8 = tl.quantize(w, tl.i8), tl.quantize(w, tl.f8e4m3fn)
    for q in (i8, f8):
        array = np.asarray(q.values.argument.array)
        tensors = {"l.weight": np.ascontiguousarray(array.T), "l.weight_scale": np.ascontiguousarray(q.scales.T)}
        same(layers_in(tensors)[0]["l.weight"], q)
    four = tl.quantize(w, tl.nvfp4)
    nibbles = tl.unpack(tl.packed(four.values.base, tl.u4, (64, 24)), np.uint8).T
    scales = np.asarray(four.scales.values.argument.array)
    tensors = {"l.weight_packed": nibbles[:, ::2] | nibbles[:, 1::2] << 4,
               "l.weight_scale": np.ascontiguousarray(scales.T),
               "l.weight_global_scale": (1 / np.asarray(four.scales.scales)).astype(np.float32)}
    found = layers_in(tensors)[0]["l.weight"]
    np.testing.assert_allclose(tl.dequantize(found), tl.dequantize(four), rtol=3e-7)
    micro = tl.quantize(w, tl.mxfp4)
    nibbles = tl.unpack(tl.packed(micro.values.base, tl.u4, (64, 24)), np.uint8).T
    tensors = {"l.weight_packed": nibbles[:, ::2] | nibbles[:, 1::2] << 4,
               "l.weight_scale": np.ascontiguousarray(np.asarray(micro.scales).view(np.uint8).T)}
    same(layers_in(tensors)[0]["l.weight"], micro)


SAVED: list[tuple[Any, dict[str, Any]]] = [
    (tl.u4, {"group": 32}), (tl.u3, {"group": 32, "symmetric": False}), (tl.i5, {"scale_dtype": tl.bf16}),
    (tl.nf4, {"group": 16, "scale_dtype": tl.f32}), (tl.mxfp4, {}), (tl.nvfp4, {}), (tl.qlora, {"axis": None}),
    (tl.u4, {"symmetric": False, "zero_dtype": tl.bf16}), (tl.f8e4m3fn, {"scale_dtype": tl.float(5, 3, signed=False)}),
    (tl.codebook("odd", [-1.5, 0.25, 3.0]), {}),
]


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
@pytest.mark.parametrize(("dtype", "how"), SAVED, ids=str)
def test_own_files(dtype: Any, how: dict[str, Any], suffix: str, tmp_path: Path) -> None:
    q = tl.quantize(weights(64, 24), dtype, **how)
    tl.save_weights(tmp_path / f"m{suffix}", {"a.weight": q, "b": np.arange(3)})
    found = tl.load_weights(tmp_path / f"m{suffix}")
    assert sorted(found) == ["a.weight", "b"]
    again = found["a.weight"]
    np.testing.assert_array_equal(tl.dequantize(again), tl.dequantize(q))
    assert (again.dtype, again.scale_dtype, again.group, again.axis) == (q.dtype, q.scale_dtype, q.group, q.axis)


def test_files_keep_orders_and_prepacked_codes(tmp_path: Path) -> None:
    from dataclasses import replace

    from kernels_zoo.quantized.matmul import Weights

    x = np.random.default_rng(1).standard_normal((90, 128))
    q = tl.gptq(weights(128, 128), x, tl.u4, group=64, act_order=True)
    tl.save_weights(tmp_path / "m.npz", {"w": q, "p": replace(q, values=Weights(q, "sm_80").w)})
    found = tl.load_weights(tmp_path / "m.npz")
    for again in found.values():
        np.testing.assert_array_equal(again.order, q.order)
    assert isinstance(found["p"].values, tl.PrepackedArray)
    np.testing.assert_array_equal(tl.dequantize(found["p"]), tl.dequantize(q))
    np.testing.assert_array_equal(tl.unpack(tl.unprepack(found["p"].values)), tl.unpack(q.values))


def test_files_are_those_of_the_library(tmp_path: Path) -> None:
    arrays = {"a": np.arange(5, dtype=np.float32), "b": np.ones((2, 3), np.float16), "c": np.zeros((0, 4), np.int8),
              "d": np.array(2.0), "e": np.ones((2, 2), tl.bf16.numpy), "f": np.array([True, False])}
    safetensors.save_file(arrays, tmp_path / "a.safetensors")
    tl.save_weights(tmp_path / "b.safetensors", arrays)
    for found in (tl.load_weights(tmp_path / "a.safetensors"), safetensors.load_file(tmp_path / "b.safetensors")):
        assert sorted(found) == sorted(arrays)
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(("change", "words"), [
    ({"a.qzeros": None}, "no qzeros"),
    ({"a.qweight": np.zeros((8, 64), np.int64)}, "of int64, not of int32"),
    ({"a.scales": np.zeros((3, 64), np.float16)}, "are of no format"),
    ({"a.g_idx": np.zeros(128, np.int32)}, "each of 4 groups as often"),
    ({"a.g_idx": np.zeros(5, np.int32)}, "g_idx has 5 elements"),
    ({"a.qzeros": np.zeros((4, 10), np.int32)}, "of no format of 2, 3, 4 or 8 bits"),
    ({"a.scales": np.zeros((4,), np.float16)}, "scales is float16 of rank 1"),
], ids=lambda v: str(v)[:30])
def test_layers_that_are_none(change: dict[str, Any], words: str) -> None:
    q = tl.quantize(weights(128, 64), tl.u4, group=32)
    tensors = {**{f"a.{k}": v for k, v in gptq_tensors(q).items()}, **change}
    with pytest.raises(ValueError, match=words):
        layers_in({k: v for k, v in tensors.items() if v is not None})


@pytest.mark.parametrize(("make", "words"), [
    (lambda q: gptq_tensors(tl.quantize(weights(64, 32), tl.i4)), "unsigned integers"),
    (lambda q: gptq_tensors(tl.quantize(weights(65, 32), tl.u4)), "do not fill words"),
    (lambda q: awq_tensors(tl.quantize(weights(64, 12), tl.u4)), "no multiple of 8"),
    (lambda q: gptq_tensors(tl.quantize(weights(64, 32), tl.u4, symmetric=False, zero_dtype=tl.f16)), "are integers"),
    (lambda q: gptq_tensors(tl.quantize(np.abs(weights(64, 32)), tl.u4, symmetric=False)), "store them as they are"),
])
def test_what_formats_lack(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make(None)
