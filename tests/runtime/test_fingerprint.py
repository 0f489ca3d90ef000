from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import tilus
from tilus.runtime.cache import Cache, CacheWarning
from tilus.runtime.fingerprint import compiler_fingerprint, sources_digest, toolchain_fingerprint


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    directory = tmp_path / "package"
    (directory / "sub").mkdir(parents=True)
    (directory / "a.py").write_text("a = 1\n")
    (directory / "sub" / "b.lark").write_text("start: b\n")
    return directory


def test_any_change_of_a_source_changes_it(sources: Path, tmp_path: Path):
    cache = Cache(tmp_path / "cache")
    digests = [sources_digest(str(sources), cache)]
    stamp = os.stat(sources / "a.py")
    (sources / "a.py").write_text("a = 2\n")
    os.utime(sources / "a.py", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # same size, same time
    digests.append(sources_digest(str(sources), cache))
    (sources / "sub" / "b.lark").write_text("start: c\n")
    digests.append(sources_digest(str(sources), cache))
    (sources / "sub" / "c.py").write_text("")
    digests.append(sources_digest(str(sources), cache))
    (sources / "sub" / "c.py").rename(sources / "c.py")
    digests.append(sources_digest(str(sources), cache))
    assert len(set(digests)) == 5


def test_same_contents_elsewhere_are_the_same(sources: Path, tmp_path: Path):
    cache = Cache(tmp_path / "cache")
    copy = tmp_path / "copy"
    shutil.copytree(sources, copy)
    (copy / "notes.txt").write_text("not a source")
    (copy / "__pycache__").mkdir()
    (copy / "__pycache__" / "a.py").write_text("not a source either")
    assert sources_digest(str(sources), cache) == sources_digest(str(copy), cache)


def test_the_digest_is_kept(sources: Path, tmp_path: Path):
    cache = Cache(tmp_path / "cache")
    first = sources_digest(str(sources), cache)
    assert cache.misses == 1
    assert sources_digest(str(sources), cache) == first
    assert cache.hits == 1


def test_without_a_cache_it_is_computed(sources: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.warns(CacheWarning):
        digest = sources_digest(str(sources), Cache(tmp_path / "file" / "cache"))
    assert digest == sources_digest(str(sources), Cache(tmp_path / "cache"))


def test_of_tilus_itself():
    assert len(compiler_fingerprint()) == 40
    assert compiler_fingerprint() != sources_digest(os.path.join(os.path.dirname(tilus.__file__), "runtime"),
                                                    Cache(os.environ["TILUS_CACHE_DIR"]))
    assert "nvidia-cuda-nvcc==" in toolchain_fingerprint()
    assert "None" not in toolchain_fingerprint()


def test_tables_are_sources(sources: Path, tmp_path: Path):
    cache = Cache(tmp_path / "cache")
    digests = set()
    for text in ("", "a\n", "b\n"):
        (sources / "numbers.table").write_text(text)
        digests.add(sources_digest(str(sources), cache))
    assert len(digests) == 3
