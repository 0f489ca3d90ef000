"""Compiling C++ for this machine, with results kept by content."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOLDER = Path(__file__).parent
INCLUDE = FOLDER / "include"
RUNTIME = FOLDER / "runtime"
# Compiled kernels and runtimes; most kernels take some tens of KB.
MOST_KEPT = 2000
_WARNINGS = ("-Wall", "-Wextra", "-Werror")
# The order of operations is the twin's statement of what the hardware does: nothing may be contracted or reassociated.
_COMMON = ("-std=c++17", "-fPIC", "-ffp-contract=off", "-fno-sanitize=undefined")


class CompilerError(Exception):
    """There is no C++ compiler, or it refuses a kernel; ``output`` is what it said."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message if not output else f"{message}\n{output}")
        self.output = output


@functools.cache
def find_compiler() -> tuple[str, ...]:
    """The command of a C++ compiler: ``$CXX``, g++, clang++, or that of the package ziglang.

    Raises:
        CompilerError: there is none.
    """
    if chosen := os.environ.get("CXX"):
        command = shlex.split(chosen)
        if shutil.which(command[0]) is None:
            raise CompilerError(f"CXX names {command[0]!r}, which is not there")
        return tuple(command)
    for name in ("g++", "clang++"):
        if path := shutil.which(name):
            return (path,)
    import importlib.util

    if importlib.util.find_spec("ziglang") is not None:
        return (sys.executable, "-m", "ziglang", "c++")
    raise CompilerError("running Ascend C kernels on this machine needs a C++ compiler: install g++ or clang++, or the "
                        "package ziglang (pip install 'tilus[ascend]'), or name one in CXX")


def library() -> Path:
    """The runtime as a shared library, compiled when it is first asked for."""
    return _library(find_compiler())


@functools.cache
def _library(compiler: tuple[str, ...]) -> Path:
    flags = (*_COMMON, *_WARNINGS, "-O2", "-ftree-vectorize", "-march=native", f"-I{INCLUDE}", f"-I{RUNTIME}")
    parts = [path.read_bytes() for path in sorted((*RUNTIME.iterdir(), *INCLUDE.rglob("*.h"))) if path.is_file()]

    def build(target: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            units = _units(Path(folder))
            objects = [unit.with_suffix(".o") for unit in units]
            with ThreadPoolExecutor(len(units)) as pool:
                commands = ([*compiler, *flags, "-c", str(unit), "-o", str(object_)]
                            for unit, object_ in zip(units, objects, strict=True))
                for _ in pool.map(lambda command: _run(command, "the twin's runtime does not compile"), commands):
                    pass
            _run([*compiler, "-shared", "-o", str(target), *map(str, objects)], "the twin's runtime does not link")

    return _kept("runtime", [_signature(compiler, flags), *parts], build)


def _units(folder: Path) -> list[Path]:
    """Two translation units of all sources: the standard library's headers take most of the time of a small one."""
    sources = sorted(RUNTIME.glob("*.cpp"))
    units = []
    for name, of_vectors in (("vectors", True), ("others", False)):
        unit = folder / f"{name}.cpp"
        chosen = [path for path in sources if path.name.startswith("vector") == of_vectors]
        unit.write_text("".join(f'#include "{path}"\n' for path in chosen))
        units.append(unit)
    return units


def compile_kernel(source: str) -> Path:
    """A kernel's source as a shared library, which finds the runtime's symbols where that is loaded.

    Raises:
        CompilerError: there is no compiler, or it refuses the source, whose file it calls ``kernel.cpp``.
    """
    compiler = find_compiler()
    flags = (*_COMMON, *_WARNINGS, "-O1", f"-I{INCLUDE}")
    parts = [_signature(compiler, flags), str(_library(compiler)).encode(), source.encode()]

    def build(target: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "kernel.cpp").write_text(source)
            _run([*compiler, *flags, "-shared", "kernel.cpp", "-o", str(target)], "the kernel does not compile",
                 cwd=folder)

    return _kept("kernel", parts, build)


def _run(command: Sequence[str], failure: str, cwd: str | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    if done.returncode != 0:
        raise CompilerError(failure, done.stderr.strip())


@functools.cache
def _signature(compiler: tuple[str, ...], flags: tuple[str, ...]) -> bytes:
    """All that decides what a compiler makes of a source; this machine's features too, for -march=native."""
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=False).stdout
    features = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next((line for line in lines if line.startswith(("flags", "Features"))), features)
    except OSError:
        pass
    return "\n".join((*compiler, version, *flags, platform.machine(), features)).encode()


def _kept(name: str, parts: Iterable[bytes], build: Callable[[Path], None]) -> Path:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    folder = _directory()
    target = folder / f"{name}-{digest.hexdigest()[:32]}.so"
    if _use(target):
        return target
    folder.mkdir(parents=True, exist_ok=True)
    # Processes that want the same wait for the first one.
    with open(target.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _use(target):
            return target
        handle, temporary = tempfile.mkstemp(suffix=".so", dir=folder)
        os.close(handle)
        try:
            build(Path(temporary))
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
        finally:
            os.unlink(lock.name)
    _sweep(folder)
    return target


def _use(target: Path) -> bool:
    """Whether a file is there; its time of change becomes that of its last use."""
    try:
        os.utime(target)
    except OSError:
        return target.exists()
    return True


def _sweep(folder: Path) -> None:
    """Remove the files unused for longest where there are too many; programs that have them open keep them."""
    files = list(folder.glob("*.so"))
    if len(files) <= MOST_KEPT:
        return
    times = {}
    for path in files:
        try:
            times[path] = path.stat().st_mtime
        except OSError:
            continue  # another process removed it
    for path in sorted(times, key=times.__getitem__)[:len(times) - MOST_KEPT * 3 // 4]:
        path.unlink(missing_ok=True)


def _directory() -> Path:
    """``$TILUS_CACHE_DIR/twin``, else ``$XDG_CACHE_HOME/tilus/twin``, else ``~/.cache/tilus/twin``."""
    if chosen := os.environ.get("TILUS_CACHE_DIR"):
        return Path(chosen).absolute() / "twin"
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "tilus" / "twin"


__all__ = ["CompilerError", "compile_kernel", "find_compiler", "library"]
