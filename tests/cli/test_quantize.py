"""``tilus quantize``: what it writes, what it says, and files that are damaged."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilus as tl
from tests.cli.test_prepack import tilus
from tilus.quantization.bitsandbytes import bitsandbytes_tensors
from tilus.quantization.checkpoints import awq_tensors, compressed_tensors, gptq_tensors


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def weights(*shape: int, seed: int = 0) -> Any:
    return (np.random.default_rng(seed).standard_normal(shape) * 0.05).astype(np.float32)


def model() -> dict[str, Any]:
    return {"a.weight": weights(96, 64), "b.weight": weights(32, 96, seed=1).astype(tl.bf16.numpy),
            "norm.weight": np.ones(64, np.float16), "step": np.array(7)}


def test_matrices_become_codes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tl.save_weights("m.safetensors", model())
    assert tilus("quantize", "m.safetensors", "--type", "u4", "--group", 32, "-o", "out.safetensors") == 0
    shown = capsys.readouterr().out
    found = tl.load_weights("out.safetensors")
    for name, w in model().items():
        if w.ndim != 2:
            np.testing.assert_array_equal(found[name], w)
            continue
        expected = tl.quantize(np.ascontiguousarray(w.T), tl.u4, group=32)
        np.testing.assert_array_equal(tl.dequantize(found[name]), tl.dequantize(expected))
        error = np.linalg.norm(tl.dequantize(expected) - w.T.astype(np.float32)) / np.linalg.norm(w.astype(np.float32))
        line = next(line for line in shown.splitlines() if name in line)
        assert "rounded" in line
        assert f"{error:.2e}" in line
        assert f"{expected.nbytes:,}" in line
    assert "rank 1" in shown
    assert "wrote out.safetensors" in shown


@pytest.mark.parametrize("type_", ["nf4", "mxfp4", "nvfp4", "u3", "f6e3m2", "ternary"])
def test_types(type_: str, folder: Path) -> None:
    np.savez("m.npz", w=weights(64, 48))
    assert tilus("quantize", "m.npz", "--type", type_, "-o", "out.npz") == 0
    dtype = getattr(tl, type_, None) or tl.float(3, 2)
    np.testing.assert_array_equal(tl.dequantize(tl.load_weights("out.npz")["w"]),
                                  tl.dequantize(tl.quantize(weights(64, 48), dtype)))


def test_gptq(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(5).standard_normal((90, 64)) * np.linspace(0.2, 2, 64)
    tl.save_weights("m.safetensors", model())
    np.savez("x.npz", **{"a": x, "b.weight.moments": np.eye(96)})
    arguments = ("quantize", "m.safetensors", "--type", "u3", "--group", 32, "--gptq", "x.npz", "-o", "out.safetensors")
    assert tilus(*arguments, "--act-order", "--asymmetric") == 0
    found = tl.load_weights("out.safetensors")
    expected = tl.gptq(np.ascontiguousarray(model()["a.weight"].T), x, tl.u3, group=32, act_order=True, symmetric=False)
    np.testing.assert_array_equal(tl.dequantize(found["a.weight"]), tl.dequantize(expected))
    np.testing.assert_array_equal(found["a.weight"].order, expected.order)
    w = model()["a.weight"].T
    error = np.linalg.norm(x @ (tl.dequantize(expected) - w)) / np.linalg.norm(x @ w)
    assert f"{error:.2e}" in next(line for line in capsys.readouterr().out.splitlines() if "a.weight" in line)


def test_prepacked(folder: Path) -> None:
    from kernels_zoo.quantized.matmul import Weights

    np.savez("m.npz", w=weights(128, 128))
    assert tilus("quantize", "m.npz", "--type", "u4", "--group", 128, "--prepack", "for", "sm_80", "-o", "o.npz") == 0
    expected = Weights(tl.quantize(weights(128, 128), tl.u4, group=128), "sm_80").w
    found = tl.load_weights("o.npz")["w"].values
    assert found.header == expected.header
    np.testing.assert_array_equal(found.bytes, expected.bytes)
    # what is quantised, and prepacked, already
    assert tilus("quantize", "o.npz", "--type", "u4", "--prepack", "for", "sm_90a", "-o", "again.npz") == 0
    np.testing.assert_array_equal(tl.unpack(tl.unprepack(tl.load_weights("again.npz")["w"].values)),
                                  tl.unpack(tl.unprepack(found)))


def test_names_and_axes(folder: Path) -> None:
    np.savez("m.npz", **{"a.w": weights(64, 48), "b.w": weights(48, 64)})
    assert tilus("quantize", "m.npz", "--type", "i4", "--only", "a*", "--axis", 1, "-o", "out.npz") == 0
    found = tl.load_weights("out.npz")
    assert found["a.w"].shape == (48, 64)
    assert isinstance(found["b.w"], np.ndarray)
    assert tilus("quantize", "m.npz", "--type", "i4", "--skip", "a*", "-o", "out.npz") == 0
    assert isinstance(tl.load_weights("out.npz")["a.w"], np.ndarray)


MISTAKES: dict[str, tuple[tuple[str, ...], str]] = {
    "no file": (("none.npz", "--type", "u4"), "cannot read 'none.npz'"),
    "another file": (("m.txt", "--type", "u4"), "'m.txt': the name of a file of weights ends in .safetensors or .npz"),
    "no type": (("m.npz", "--type", "q4"), "--type q4: there is no such element type"),
    "a type too wide": (("m.npz", "--type", "f16"), "--type f16: numbers are quantised to"),
    "zero points of floats": (("m.npz", "--type", "nf4", "--asymmetric"), "nf4 has no zero points"),
    "no target": (("m.npz", "--type", "u4", "--prepack", "for", "sm_81"), "unknown target 'sm_81'"),
    "samples of nothing": (("m.npz", "--type", "u4", "--gptq", "strange.npz"), "there are samples of 'q'"),
    "no samples": (("m.npz", "--type", "u4", "--gptq", "m.txt"), "'m.txt': it is no .npz file, or damaged"),
    "samples that do not fit": (("m.npz", "--type", "u4", "--gptq", "wrong.npz"), "'w': calibration samples of shape"),
    "groups that fit nothing": (("m.npz", "--type", "u4", "--group", "100"), "nothing of 'm.npz' would be quantised"),
    "a NaN": (("nan.npz", "--type", "u4"), "'w': w[1, 2] is nan"),
    "bf16 to .npz": (("bf16.safetensors", "--type", "u4", "--only", "x"), "which .npz files lack"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, words = MISTAKES[mistake]
    w = weights(64, 48)
    np.savez("m.npz", w=w)
    Path("m.txt").write_text("weights")
    np.savez("strange.npz", q=np.ones((3, 64)))
    np.savez("wrong.npz", w=np.ones((3, 63)))
    tl.save_weights("bf16.safetensors", {"w": w.astype(tl.bf16.numpy)})
    w[1, 2] = np.nan
    np.savez("nan.npz", w=w)
    assert tilus("quantize", *arguments, "-o", "out.npz") == 1
    err = capsys.readouterr().err
    assert words in err
    assert err.count("error[") == 1
    assert not Path("out.npz").exists()
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]


def own(path: Path) -> None:
    q = tl.gptq(weights(64, 32), np.random.default_rng(1).standard_normal((80, 64)), tl.u3, group=32, act_order=True,
                symmetric=False)
    other = tl.quantize(weights(32, 16), tl.qlora, axis=None)
    tl.save_weights(path, {"a.weight": q, "b.weight": other, "c": weights(8)})


def plain(path: Path) -> None:
    tl.save_weights(path, {"a.weight": weights(32, 16), "b": np.arange(5)})


def of_gptq(path: Path) -> None:
    q = tl.quantize(weights(64, 32), tl.u3, group=32)
    tl.save_weights(path, {f"a.{k}": v for k, v in gptq_tensors(q).items()})


def of_compressed_tensors(path: Path) -> None:
    q = tl.quantize(weights(64, 32), tl.u4, group=32, symmetric=False)
    tl.save_weights(path, {f"a.{k}": v for k, v in compressed_tensors(q).items()})


def of_awq(path: Path) -> None:
    q = tl.quantize(weights(64, 32), tl.u4, group=32, symmetric=False)
    tl.save_weights(path, {f"a.{k}": v for k, v in awq_tensors(q).items()})


def of_bitsandbytes(path: Path) -> None:
    q = tl.quantize(weights(32, 128), tl.qlora, axis=1)
    tl.save_weights(path, bitsandbytes_tensors(q, "a.weight"))


def of_micro_scales(path: Path) -> None:
    """compressed-tensors' fours with a power of two each, and whole bytes."""
    q, other = tl.quantize(weights(64, 32), tl.mxfp4), tl.quantize(weights(64, 32), tl.f8e4m3fn)
    nibbles = tl.unpack(tl.packed(q.values.base, tl.u4, (64, 32)), np.uint8).T
    tl.save_weights(path, {
        "a.weight_packed": nibbles[:, ::2] | nibbles[:, 1::2] << 4,
        "a.weight_scale": np.ascontiguousarray(np.asarray(q.scales).view(np.uint8).T),
        "b.weight": np.ascontiguousarray(np.asarray(other.values.argument.array).T),
        "b.weight_scale": np.ascontiguousarray(other.scales.T)})


def prepacked(path: Path) -> None:
    from dataclasses import replace

    from kernels_zoo.quantized.matmul import Weights

    q = tl.quantize(weights(128, 128), tl.u4, group=64)
    tl.save_weights(path, {"a": replace(q, values=Weights(q, "sm_80").w)})


FILES: list[tuple[Callable[[Path], None], str]] = [
    (plain, ".safetensors"), (own, ".safetensors"), (of_gptq, ".safetensors"), (of_compressed_tensors, ".safetensors"),
    (of_awq, ".safetensors"), (of_bitsandbytes, ".safetensors"), (of_micro_scales, ".safetensors"),
    (prepacked, ".safetensors"), (plain, ".npz"), (own, ".npz"), (of_gptq, ".npz"), (prepacked, ".npz"),
]


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Some change that damages a file: most where the headers are."""
    at = int(rng.integers(0, len(data) if rng.random() < 0.4 else min(len(data), 600)))
    kind = rng.integers(0, 6)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + data[at + int(rng.integers(1, 40)) :]
    if kind == 2:
        return data[:at] + rng.bytes(int(rng.integers(1, 40))) + data[at:]
    changed = bytearray(data)
    if kind == 3:
        changed[at] ^= 1 << int(rng.integers(0, 8))
    elif kind == 4:
        changed[at] = int(rng.choice(list(b'0123456789,:{}[]"-e.')))
    else:
        n = int(rng.integers(2, 16))
        changed[at : at + n] = rng.bytes(min(n, len(data) - at))
    return bytes(changed)


def check_mutations(make: Callable[[Path], None], suffix: str, count: int) -> None:
    """Each ends with one error and no file, or is one that the format cannot tell from a whole file."""
    source, damaged, out = Path(f"m{suffix}"), Path(f"d{suffix}"), Path("out.safetensors")
    make(source)
    data = source.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for n in range(count):
        damaged.write_bytes(mutated(data, rng))
        shown, said = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(said):
            status = tilus("quantize", damaged, "--type", "u4", "-o", out)
        assert status in (0, 1), (n, said.getvalue())
        assert out.exists() == (status == 0), n
        assert said.getvalue().count("error[") == status, (n, said.getvalue())
        refused += status
        if status == 0:
            for array in tl.load_weights(out).values():
                if isinstance(array, tl.Quantized):
                    tl.dequantize(array)
            out.unlink()
        assert not [p for p in Path().iterdir() if p.name.startswith(".")]
    assert refused >= count // 2


@pytest.mark.parametrize(("make", "suffix"), FILES, ids=lambda v: getattr(v, "__name__", v))
def test_damaged_files(make: Callable[[Path], None], suffix: str, folder: Path) -> None:
    check_mutations(make, suffix, 50)


@pytest.mark.slow
@pytest.mark.parametrize(("make", "suffix"), FILES, ids=lambda v: getattr(v, "__name__", v))
def test_many_damaged_files(make: Callable[[Path], None], suffix: str, folder: Path) -> None:
    check_mutations(make, suffix, 1000)


def test_damaged_samples(folder: Path) -> None:
    np.savez("m.npz", w=weights(32, 16))
    np.savez("x.npz", w=weights(40, 32))
    data, rng = Path("x.npz").read_bytes(), np.random.default_rng(0)
    for _ in range(30):
        Path("d.npz").write_bytes(mutated(data, rng))
        said = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            status = tilus("quantize", "m.npz", "--type", "u4", "--gptq", "d.npz", "-o", "out.npz")
        assert said.getvalue().count("error[") == status
        assert Path("out.npz").exists() == (status == 0)
        Path("out.npz").unlink(missing_ok=True)
