"""docs/images.md runs, and what it computes is right."""

from __future__ import annotations

import re
import runpy
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels_zoo.checking import relative_error
from kernels_zoo.images.reference import resized

DOCUMENT = Path(__file__).parents[2] / "docs" / "images.md"
BLOCKS = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


def chunks(data: bytes) -> dict[bytes, bytes]:
    """Of a PNG file, whose check sums are right."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    found, at = {}, 8
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        kind, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert int.from_bytes(data[at + 8 + size : at + 12 + size], "big") == zlib.crc32(kind + content)
        found[kind], at = content, at + 12 + size
    return found


def test_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "example.py"
    file.write_text("\n\n".join([BLOCKS[0], "first = batch", *BLOCKS[1:]]))
    names: dict[str, Any] = runpy.run_path(str(file))
    image = names["image"].astype(float)
    parts = [image[t : t + r, s : s + c] for t, s, r, c in names["crops"]]
    exact = np.stack([(resized(p, 128, 64)[..., ::-1] / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
                      for p in parts]).transpose(0, 3, 1, 2)
    assert relative_error(names["first"], exact) < 1e-6
    thumbnails = names["thumbnails"]
    assert (thumbnails[0, :12] == np.rint(255 * (114 / 255) ** 0.8)).all()      # above an image that is wider than high
    fitted = 255 * (resized(parts[0], 72, 96) / 255) ** 0.8
    assert np.abs(thumbnails[0, 12:84] - fitted).max() <= 0.5001
    lines = np.frombuffer(zlib.decompress(chunks(Path("thumbnails.png").read_bytes())[b"IDAT"]), np.uint8)
    written = lines.reshape(96, 1 + 3 * 96 * 3)[:, 1:].reshape(96, 3, 96, 3).transpose(1, 0, 2, 3)
    assert np.array_equal(written, thumbnails)
    assert relative_error(names["batch"][0], resized(parts[0], 64, 64).transpose(2, 0, 1)) < 1e-6
