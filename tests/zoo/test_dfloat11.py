"""DFloat11: every bit comes back, whatever the numbers; and products that decode on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.checking import empty, normal, relative_error, run, wide
from kernels_zoo.compressed import dfloat11
from kernels_zoo.compressed.dfloat11_files import load, save
from kernels_zoo.compressed.dfloat11_format import LONGEST, code_for, code_of, encode, huffman_lengths
from tests.cli.test_quantize import mutated
from tests.zoo.turns import ROUTES, by_turns


def bits(kind: str, count: int) -> Any:
    """Bits of bf16 of some distribution."""
    rng = np.random.default_rng(0)
    if kind == "weights":
        found = (rng.standard_normal(count) * 0.02).astype(tl.bf16.numpy).view(np.uint16)
    elif kind == "uniform":  # every exponent as often, infinities and NaNs too
        found = rng.integers(0, 1 << 16, count).astype(np.uint16)
    elif kind == "one":
        found = np.full(count, 0x3F80, np.uint16)
    elif kind == "two":
        found = np.where(rng.random(count) < 0.999, 0x3F80, 0xFFFF).astype(np.uint16)
    elif kind == "fibonacci":  # the longest codes that so many numbers can have
        counts = [1, 1]
        while sum(counts) < count:
            counts.append(counts[-1] + counts[-2])
        exponents = np.repeat(np.arange(len(counts)), counts)[:count]
        found = (rng.permutation(exponents).astype(np.uint16) << np.uint16(7)) | rng.integers(0, 128, count).astype(
            np.uint16)
    else:  # runs of frequent and of rare exponents
        found = np.where(np.arange(count) // 300 % 2, 0x3F80, rng.integers(0, 1 << 16, count)).astype(np.uint16)
    return found


KINDS = ["weights", "uniform", "one", "two", "fibonacci", "runs"]


def decoded(found: Any, engine: str, **constants: Any) -> Any:
    e = encode(found.view(tl.bf16.numpy))
    arguments, own = dfloat11.arguments_of(e)
    y = np.zeros(len(found), np.uint16)
    dfloat11.dfloat11_decode.on(engine)(*arguments, y, **{**own, **constants})
    return y


@pytest.mark.parametrize("kind", KINDS)
def test_every_bit(kind: str) -> None:
    for count in (1, 2, 63, 20_000, 100_003):
        found = bits(kind, count)
        np.testing.assert_array_equal(decoded(found, "cpu"), found)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_ten_million(kind: str) -> None:
    found = bits(kind, 10_000_000)
    for serial in (True, False):
        np.testing.assert_array_equal(decoded(found, "cpu", serial=serial), found)


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize(("kind", "engine"), by_turns(KINDS, ["cpu", "interpret", *ROUTES]))
def test_threads_side_by_side(kind: str, engine: str) -> None:
    for count in (1, 3000) if engine == "interpret" or ":" in engine else (1, 63, 30_000):
        found = bits(kind, count)
        np.testing.assert_array_equal(decoded(found, engine, serial=False), found)


def test_the_interpreter_goes_code_by_code() -> None:
    found = bits("runs", 700)
    np.testing.assert_array_equal(decoded(found, "interpret"), found)


def test_nothing() -> None:
    assert encode(np.zeros((0, 4), tl.bf16.numpy)).words.tolist() == [0]
    assert dfloat11.decode(encode(np.zeros((0, 4), tl.bf16.numpy))).shape == (0, 4)


def test_size() -> None:
    e = encode(bits("weights", 1 << 20).view(tl.bf16.numpy))
    assert 0.65 < e.nbytes / (2 << 20) < 0.70


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize(("dtype", "engine"), by_turns([tl.bf16, tl.f32], ["cpu", "interpret", *ROUTES]))
def test_products(dtype: tl.DType, engine: str) -> None:
    for shape in dfloat11.PRODUCTS[:2] if engine != "cpu" else dfloat11.PRODUCTS:
        case = dfloat11.product_case(shape)
        *arguments, _ = case.arguments
        y = empty((shape[0], shape[1]), dtype)
        dfloat11.dfloat11_matmul.on(engine)(*arguments, y, **case.constants)
        assert relative_error(y, case.references[0]) <= case.tolerance


@pytest.mark.parametrize("serial", [True, False])
def test_products_of_any_numbers(serial: bool) -> None:
    """Tiles whose codes take many words, and more than a thread each."""
    rng = np.random.default_rng(0)
    w = (rng.standard_normal((130, 200)) * np.exp2(rng.integers(-60, 60, (130, 200)))).astype(tl.bf16.numpy)
    e = encode(w, dfloat11.TILE)
    x, y = normal(rng, (3, 130), tl.bf16), empty((3, 200), tl.f32)
    dfloat11.multiply(x, e, y, serial=serial)
    assert relative_error(y, wide(x) @ wide(w)) <= 1e-5


def test_huffman() -> None:
    """Kraft's equality, no code shorter than one of a more frequent symbol, and the bound on lengths."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        counts = rng.integers(0, 1000, 256) * (rng.random(256) < 0.3)
        lengths = huffman_lengths(counts).astype(int)
        used = lengths > 0
        assert np.array_equal(used, counts > 0)
        assert sum(2.0 ** -lengths[used]) == 1
        order = np.argsort(-counts[used], kind="stable")
        assert (np.diff(lengths[used][order]) >= 0).all() or len(set(counts[used])) < used.sum()
    fibonacci = np.zeros(256, np.int64)
    fibonacci[0] = fibonacci[1] = 1
    for n in range(2, 60):
        fibonacci[n] = fibonacci[n - 1] + fibonacci[n - 2]
    assert huffman_lengths(fibonacci).max() > LONGEST
    assert code_for(fibonacci).lengths.max() <= LONGEST


def encoded_weights() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    w = (rng.standard_normal((70, 130)) * 0.02).astype(tl.bf16.numpy)
    return {"a.weight": encode(w), "b": encode(w, dfloat11.TILE), "none": encode(w[:0]), "one": encode(w[:1, :1])}


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_files(suffix: str, tmp_path: Path) -> None:
    weights = encoded_weights()
    save(tmp_path / f"w{suffix}", weights)
    found = load(tmp_path / f"w{suffix}")
    assert sorted(found) == sorted(weights)
    for name, e in weights.items():
        again = found[name]
        assert (again.shape, again.tile, again.nbytes) == (e.shape, e.tile, e.nbytes)
        if e.tile is None:
            np.testing.assert_array_equal(dfloat11.decode(again).view(np.uint16), dfloat11.decode(e).view(np.uint16))
    x, y = normal(np.random.default_rng(1), (3, 70), tl.bf16), [empty((3, 130), tl.f32) for _ in range(2)]
    for e, out in zip((weights["b"], found["b"]), y, strict=True):
        dfloat11.multiply(x, e, out)
    np.testing.assert_array_equal(*y)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_damaged_files(count: int, suffix: str, tmp_path: Path) -> None:
    """Each is refused, or what is damaged is no part of the weights."""
    save(tmp_path / f"w{suffix}", encoded_weights())
    source, path, rng, refused = tmp_path / f"w{suffix}", tmp_path / f"d{suffix}", np.random.default_rng(0), 0
    data, whole = source.read_bytes(), load(source)
    for _ in range(count):
        path.write_bytes(mutated(data, rng))
        try:
            found = load(path)
        except ValueError:
            refused += 1
            continue
        for name, e in found.items():
            assert any(np.array_equal(e.rest, other.rest) and np.array_equal(e.words, other.words)
                       for other in whole.values()), name
    assert refused >= count // 2


@pytest.mark.parametrize(("change", "words"), [
    ({"rest": None}, "there is no rest"), ({"words": np.zeros(3, np.uint8)}, "its words is no array of uint64"),
    ({"lengths": np.full(256, 7, np.uint8)}, "its checksum is another one"),
], ids=["missing", "type", "other"])
def test_tensors_that_are_none(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    save(tmp_path / "w.npz", {"w": encoded_weights()["a.weight"]})
    arrays = {**tl.load_weights(tmp_path / "w.npz"), **{f"w.dfloat11.{part}": array for part, array in change.items()}}
    tl.save_weights(tmp_path / "d.npz", {name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(ValueError, match=f"'w': {words}"):
        load(tmp_path / "d.npz")
    tl.save_weights(tmp_path / "f.npz", {"w": np.ones(3, np.float32)})
    with pytest.raises(ValueError, match="'w' is not in DFloat11"):
        load(tmp_path / "f.npz")


def test_lengths_that_no_code_has() -> None:
    for used in ([], [7] * 256, [1, 2], [2], [1, 40]):
        with pytest.raises(ValueError, match="no code has these lengths"):
            code_of(np.pad(np.array(used, np.uint8), (0, 256 - len(used))))


def test_case() -> None:
    for shape in dfloat11.SHAPES:
        assert run(dfloat11.dfloat11_decode, dfloat11.case(shape)) == 0
