"""The record, and the engine: the C compiler at hand, and blocks one after the other."""

from __future__ import annotations

import ctypes
import itertools
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.toy_backend.emit import emit_c
from tilus.backends import Artifact, Backend, Options, Route
from tilus.interp import evaluate_launch
from tilus.ir.core import Module
from tilus.ir.dtypes import DType
from tilus.lowering.array.tiles import CPU_TILES
from tilus.lowering.pipelines import Pipeline
from tilus.lowering.simplify import simplify
from tilus.runtime.arrays import HOST, ArrayArgument
from tilus.runtime.compile import compile_specialisation
from tilus.runtime.engines import Engine, NoPlan, Runner
from tilus.runtime.specialise import Specialisation
from tilus.targets import Target

COMPILER = shutil.which("cc")


def mark_as_scalar_code(module: Module) -> Module:
    """Tiles stay as they are: the emitter makes loops of them."""
    module.attributes["scalar"] = True
    return module


PIPELINE = Pipeline((("simplify", simplify),), ("mark-as-scalar-code", mark_as_scalar_code))


def build(module: Module, target: Target, options: Options) -> Artifact:
    return Artifact({"c": emit_c(PIPELINE.run(module, target.name)).encode()}, {})


class CEngine(Engine):
    def make(self, specialisation: Specialisation) -> Runner:
        return _Running(specialisation)


class _Running(NoPlan):
    def __init__(self, specialisation: Specialisation) -> None:
        compiled = compile_specialisation(specialisation, "c")
        self.module = compiled.launch_module
        assert COMPILER is not None
        with tempfile.TemporaryDirectory() as folder:
            source, library = Path(folder, "kernel.c"), Path(folder, "kernel.so")
            source.write_bytes(compiled.blobs["c"])
            subprocess.run([COMPILER, "-O1", "-shared", "-fPIC", source, "-o", library, "-lm"], check=True)
            self.library = ctypes.CDLL(str(library))

    def run(self, arguments: Sequence[Any]) -> None:
        def words(numbers: Sequence[int]) -> Any:
            return (ctypes.c_int64 * max(1, len(numbers)))(*numbers)

        def start(name: str, grid: tuple[int, ...], args: list[Any]) -> None:
            given: list[Any] = []
            for array in args:
                given += [ctypes.c_void_p(array.address), words(array.shape), words(array.strides)]
            for block in itertools.product(*map(range, grid)):
                getattr(self.library, name)(*given, words(block))

        assert self.module.launch is not None
        evaluate_launch(self.module.launch, arguments, allocate=allocate, start=start, resident_blocks=lambda: 1)


def allocate(shape: tuple[int, ...], dtype: DType, zero: bool) -> ArrayArgument:
    array = np.zeros(shape, dtype.numpy)
    strides = tuple(s // array.itemsize for s in array.strides)
    return ArrayArgument(array, HOST, dtype, array.ctypes.data, shape, strides, True, array)


BACKEND = Backend(
    name="c", targets=(Target("c", "c"),), pipeline=lambda target: PIPELINE,
    routes=(Route("text", build, {"c": lambda kernel: kernel.blobs["c"].decode()}),), emitted="c",
    tiles=lambda: CPU_TILES, engines={"c": CEngine})
