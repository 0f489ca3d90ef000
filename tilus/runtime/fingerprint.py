"""What a compiled kernel depends on besides its source: tilus itself and the tools it calls."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator

from tilus.runtime.cache import Cache, blake2b, default_cache, key_of
from tilus.runtime.toolchains.locate import TOOLS, version

_SUFFIXES = (".py", ".lark", ".table")
_ASIDE = ("__pycache__", "simulator", "interp", "cli", "tuning")
"""Folders with nothing that compiled code depends on."""


@functools.cache
def toolchain_fingerprint() -> str:
    """The versions of LLVM's binding and of NVIDIA's wheels."""
    packages = ["llvmlite", *sorted({tool.package for tool in TOOLS.values()})]
    return " ".join(f"{package}=={version(package)}" for package in packages)


@functools.cache
def compiler_fingerprint() -> str:
    """A digest of tilus's own sources and of the Python that runs them."""
    return sources_digest(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), default_cache())


def sources_digest(directory: str, cache: Cache) -> str:
    """A digest of the contents of the sources under ``directory``.

    Reading them all takes long, so the digest is kept in the cache under their names, sizes and times of change.
    """
    files = sorted(_sources(directory))
    key = key_of(["sources", sys.version, *(f"{path} {stamp}" for path, stamp in files)])
    entry = cache.get(key)
    if entry is None:
        entry = cache.put(key, {}, {"digest": _digest(directory, [path for path, _ in files])})
    digest: str = entry.metadata["digest"]
    return digest


def _sources(directory: str) -> Iterator[tuple[str, str]]:
    """Path and stamp of every source file; the time of the inode's change cannot be set back as the file's can."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.endswith(_SUFFIXES):
                status = entry.stat()
                yield entry.path, f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
            elif entry.is_dir() and entry.name not in _ASIDE:
                yield from _sources(entry.path)


def _digest(directory: str, paths: list[str]) -> str:
    digest = blake2b(sys.version.encode(), digest_size=20)
    start = len(os.path.join(directory, ""))
    for path in paths:
        with open(path, "rb", buffering=0) as stream:
            data = stream.read()
        digest.update(f"{path[start:]} {len(data)} ".encode())
        digest.update(data)
    return digest.hexdigest()
