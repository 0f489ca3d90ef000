from __future__ import annotations

from pathlib import Path

import pytest

from tilus.cli.main import main
from tilus.runtime.cache import Cache, default_cache, key_of


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TILUS_CACHE_DIR", str(tmp_path))
    default_cache.cache_clear()
    yield Cache(tmp_path)
    default_cache.cache_clear()


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["cache", *arguments])
    return int(caught.value.code or 0)


def test_path_stats_clear(cache: Cache, capsys: pytest.CaptureFixture[str]):
    cache.put(key_of(["a"]), {"x": bytes(2 << 20)})
    assert run("path") == 0
    assert capsys.readouterr().out == cache.path + "\n"
    assert run("stats") == 0
    out = capsys.readouterr().out
    assert "entries          1" in out
    assert "2.0 MiB of at most 4096 MiB" in out
    assert run("clear") == 0
    assert capsys.readouterr().out == "removed 1 entries\n"
    assert cache.stats().entries == 0


def test_verify(cache: Cache, capsys: pytest.CaptureFixture[str]):
    key = key_of(["a"])
    cache.put(key, {"x": b"y"})
    assert run("verify") == 0
    Path(cache.path, "entries", key[:2], key).write_bytes(b"damaged")
    assert run("verify") == 1
    captured = capsys.readouterr()
    assert "1 entries read, 1 damaged and removed" in captured.out
    assert key in captured.err
    assert run("verify") == 0
