"""``tilus prepack``, ``unprepack``, ``compile --prepacked`` and ``simulate`` on files of weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilus as tl
from tilus.cli.main import main

KERNELS = '''
from __future__ import annotations

import tilus as tl


@tl.jit
def product(wtype: tl.DType, x: tl.f16["M", "K"], w: wtype["K", "N"], y: tl.f32["M", "N"], BN: int = 64, BK: int = 64):
    M, K = x.shape
    i, j = tl.grid(tl.cdiv(M, 16), tl.cdiv(y.shape[1], BN))
    acc = tl.zeros((16, BN), tl.f32)
    for k in tl.range(0, K, BK, stages=2):
        acc = tl.dot(tl.load(x, (i * 16, k), (16, BK)), tl.load(w, (k, j * BN), (BK, BN)).to(tl.f16), acc)
    tl.store(y, (i * 16, j * BN), acc)


@tl.fuse
def fused(x: tl.f16["M", "K"], w: tl.f16["K", "N"]):
    return x @ w
'''
K, N = 128, 64


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"product_of_{tmp_path.name}.py"
    path.write_text(KERNELS)
    return path


def tilus(*arguments: object) -> int:
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in arguments])
    return int(done.value.code or 0)


def codes(bits: int, *shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(bits).integers(0, 256, -(-int(np.prod(shape)) * bits // 8), np.uint8)


def read(file: Path, name: str) -> tl.PrepackedArray:
    with np.load(file) as arrays:
        return tl.prepacked(arrays[name], str(arrays[f"{name}.header"]))


@pytest.mark.parametrize("type_", ["u3", "nf4", "f6e3m2", "odd:5(3,-1.5,0.25)"])
@pytest.mark.parametrize("target", ["sm_80", "cpu"])
def test_bytes_there_and_back(kernel: Path, type_: str, target: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of an array among others, for a kernel: what tl.prepack makes; and the same bytes again."""
    from tilus.ir.dtypes import parse_dtype

    dtype = parse_dtype(type_)
    bytes_, scales = codes(dtype.bits, K, N), np.arange(N, dtype=np.float16)
    np.savez("in.npz", q=bytes_, scales=scales)
    assert tilus("prepack", "in.npz:q", "--type", type_, "--shape", f"{K}x{N}", "--for", f"{kernel}:product",
                 "--target", target, "--set", f"wtype={type_}", "--parameter", "w", "-o", "out.npz") == 0
    assert f"q: <prepacked {dtype}[128, 64]" in capsys.readouterr().out
    found = read(Path("out.npz"), "q")
    packed = tl.packed(bytes_, dtype, (K, N))
    from tilus.cli.loading import find_kernel

    expected = tl.prepack(packed, for_=find_kernel(f"{kernel}:product"), target=target, wtype=dtype)
    assert (found.header, found.bytes.tobytes()) == (expected.header, expected.bytes.tobytes())
    with np.load("out.npz") as arrays:
        np.testing.assert_array_equal(arrays["scales"], scales)
    assert tilus("unprepack", "out.npz", "-o", "back.npz") == 0
    assert f"q: {dtype}[128, 64] row by row, packed in {bytes_.size} bytes" in capsys.readouterr().out
    with np.load("back.npz") as arrays:
        assert set(arrays) == {"q", "scales"}
        np.testing.assert_array_equal(arrays["q"], bytes_)
    assert tilus("unprepack", "out.npz:q", "--numbers", "f32", "-o", "numbers.npy") == 0
    np.testing.assert_array_equal(np.load("numbers.npy"), tl.unpack(packed))


def test_numbers(kernel: Path) -> None:
    """An array of NumPy's own type, and numbers that become elements."""
    numbers = np.arange(K * N, dtype=np.int8).reshape(K, N)
    np.save("w.npy", numbers)
    options = ("--for", f"{kernel}:product", "--parameter", "w")
    assert tilus("prepack", "w.npy", *options, "--set", "wtype=i8", "-o", "i8.npz") == 0
    assert tilus("unprepack", "i8.npz", "-o", "i8.npy") == 0
    np.testing.assert_array_equal(np.load("i8.npy"), numbers)
    np.save("w.npy", numbers % 8)
    assert tilus("prepack", "w.npy:w", *options, "--set", "wtype=i4", "--type", "i4", "-o", "i4.npz") == 0
    assert read(Path("i4.npz"), "w").dtype is tl.i4
    assert tilus("unprepack", "i4.npz", "--numbers", "f64", "-o", "i4.npy") == 0
    np.testing.assert_array_equal(np.load("i4.npy"), numbers % 8)


def test_for_a_cubin(kernel: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The signature beside a cubin says the format, in which weights are packed without the kernel; the PTX runs on
    them."""
    options = (f"{kernel}:product", "--set", "wtype=u4", "--prepacked", "w")
    assert tilus("compile", *options, "-o", "product.cubin") == 0
    signature = json.loads(Path("product.json").read_text())
    formats = {p["name"]: p.get("prepacked") for p in signature["parameters"]}
    assert formats["x"] is formats["y"] is None
    assert formats["w"]["dtype"] == "u4"
    header = Path("product.h").read_text()
    assert f"product_w_format[] = {json.dumps(json.dumps(formats['w']))};" in header
    assert "/* w is prepacked: u4 in tiles of 64×64 for 128 threads (" in header

    bytes_ = codes(4, K, N)
    np.save("w.npy", bytes_)
    packing = ("--type", "u4", "--shape", f"{K},{N}")
    assert tilus("prepack", "w.npy", *packing, "--for", "product.json:w", "-o", "a.npz") == 0
    assert tilus("prepack", "w.npy", *packing, "--for", f"{kernel}:product", "--set", "wtype=u4", "-o", "b.npz") == 0
    assert tilus("prepack", "w.npy", *packing, "--for", "b.npz", "-o", "c.npz") == 0
    assert tilus("prepack", "w.npy", *packing, "--for", json.dumps(formats["w"]), "-o", "d.npz") == 0
    arrays = [read(Path(f"{name}.npz"), "w") for name in "abcd"]
    assert len({(a.header, a.bytes.tobytes()) for a in arrays}) == 1

    assert tilus("compile", *options, "--emit", "ptx", "-o", "product.ptx") == 0
    x = np.random.default_rng(0).standard_normal((16, K)).astype(np.float16)
    np.save("x.npy", x)
    np.save("y.npy", np.zeros((16, N), np.float32))
    values = {"x": "x.npy", "x.shape[0]": 16, "x.shape[1]": K, "w": "a.npz:w", "w.shape[1]": N, "y": "y.npy",
              "grid.x": 1}
    given = [f"--arg={i}={values[name]}" for i, (name, _) in enumerate(signature["arguments"])]
    capsys.readouterr()
    assert tilus("simulate", "product.ptx", "--block", signature["threads"], "--shared",
                 signature["dynamic_shared_bytes"], "--save", *given) == 0
    expected = x.astype(np.float32) @ tl.unpack(tl.packed(bytes_, tl.u4, (K, N)))
    np.testing.assert_allclose(np.load("y.npy"), expected, atol=1e-3)


@pytest.mark.parametrize(("arguments", "message"), [
    (("none.npy", "--for", "k"), "there is no file 'none.npy'"),
    (("two.npz", "--for", "k"), "has 2 row-major arrays"),
    (("two.npz:v", "--for", "k"), "has no row-major array 'v'"),
    (("text.npy", "--for", "k"), "cannot be read as a .npy or .npz file"),
    (("two.npz:a", "--type", "q", "--for", "k"), "--type q: there is no such element type"),
    (("two.npz:a", "--shape", "4x4", "--for", "k"), "say their --type"),
    (("two.npz:a", "--type", "u4", "--shape", "4x5", "--for", "k"), "takes 10 bytes (4 bits an element), not 16"),
    (("two.npz:a", "--type", "u4", "--shape", "4xy", "--for", "k"), "write extents as 4,2 or 4x2"),
    (("two.npz:a", "--for", "k.py"), "there is no file"),
    (("two.npz:a", "--type", "u4", "--for", "{}"), "is not the format of a prepacked array"),
    (("two.npz:a", "--type", "u4", "--for", "two.npz"), "has 0 prepacked arrays"),
    (("two.npz:a", "--type", "u4", "--for", "FORMAT", "--set", "BK=64"), "a format says all"),
    (("two.npz:a", "--for", "FORMAT"), "the format is one of u4, and the weights are u8"),
    (("two.npz:a", "-o", "x.npy", "--for", "k"), "-o x.npy: the file's name ends in .npz"),
])
def test_mistakes(kernel: Path, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    square = np.arange(16, dtype=np.uint8).reshape(4, 4)
    np.savez("two.npz", a=square, b=square)
    Path("text.npy").write_text("no array")
    format = str(tl.prepack(tl.packed(square.ravel()[:8], tl.u4, (4, 4)), layout=tl.layouts.local(2, 4)).format)
    given = [format if a == "FORMAT" else a for a in arguments]
    assert tilus("prepack", *given, *(() if "-o" in given else ("-o", "out.npz"))) != 0
    assert message in capsys.readouterr().err
    assert not Path("out.npz").exists()


def test_mistakes_on_the_way_back(kernel: Path, capsys: pytest.CaptureFixture[str]) -> None:
    array = tl.prepack(tl.packed(np.zeros(8, np.uint8), tl.u4, (4, 4)), layout=tl.layouts.local(2, 4))
    np.savez("w.npz", **{"w": array.bytes, "w.header": np.array(array.header)})  # type: ignore[arg-type]
    np.savez("short.npz", **{"w": array.bytes[1:], "w.header": np.array(array.header)})  # type: ignore[arg-type]
    np.save("rows.npy", np.zeros(4))
    for given, message in ((("rows.npy", "-o", "a.npy"), "has no prepacked array"),
                           (("w.npz", "-o", "a.txt"), "ends in .npy or .npz"),
                           (("w.npz", "--numbers", "u4", "-o", "a.npy"), "NumPy has no array of it"),
                           (("short.npz", "-o", "a.npy"), "takes 8 bytes, not 7")):
        assert tilus("unprepack", *given) != 0
        assert message in capsys.readouterr().err
    assert tilus("compile", f"{kernel}:fused", "--prepacked", "w") == 1
    assert "fused is a fused function" in capsys.readouterr().err
    assert tilus("compile", f"{kernel}:product", "--prepacked", "v", "--set", "wtype=u4") == 1
    assert "has no array 'v'" in capsys.readouterr().err
