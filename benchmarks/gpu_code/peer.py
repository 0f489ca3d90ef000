"""The peer's figures: its own Python compiles, here the machine code is read and the PTX simulated."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmarks.gpu_code.cases import Peer
from benchmarks.gpu_code.figures import Figures, counted, padding, simulated
from tilus import simulator
from tilus.runtime.cubin import read_cubin
from tilus.runtime.toolchains.binutils import disassemble

TYPES = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "float64": "fp64", "int8": "i8", "int16": "i16",
         "int32": "i32", "int64": "i64", "uint8": "u8", "float8_e4m3fn": "fp8e4nv", "float8_e5m2": "fp8e5",
         "bool": "i1"}


class Compiler:
    """A process of the peer's Python that compiles one order a line."""

    def __init__(self, python: str) -> None:
        self.folder = tempfile.TemporaryDirectory()
        script = Path(__file__).with_name("triton_compile.py")
        environment = {**os.environ, "TRITON_CACHE_DIR": self.folder.name, "TRITON_DEFAULT_FP_FUSION": "1"}
        environment.pop("PYTHONPATH", None)
        self.process = subprocess.Popen([python, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True, env=environment)

    def close(self) -> None:
        _open(self.process.stdin).close()
        self.process.wait()
        self.folder.cleanup()

    def figures(self, peer: Peer, target: str, unit: int, total: int) -> tuple[Figures, list[Any]] | str:
        """Of a kernel, and what it has written; or why there are none."""
        answer = self._compiled(peer, target)
        if "error" in answer:
            return str(answer["error"])
        cubin = Path(answer["cubin"]).read_bytes()
        sass, spills = counted(disassemble(cubin), unit, peer.warps)
        registers = read_cubin(cubin).kernels[answer["name"]].registers
        values = [v for v in peer.arguments.values() if not _is_one(v)]
        report = simulator.launch(Path(answer["ptx"]).read_text(), answer["name"], peer.grid, 32 * peer.warps,
                                  [*values, 0, 0], shared_bytes=answer["shared"], checks=False)
        dyn, less, sectors, wavefronts = simulated([report])
        sass *= padding([report], total)
        found = Figures(sass, dyn, less, sectors, wavefronts, spills, registers, answer["seconds"])
        if peer.after is not None:
            following = self.figures(peer.after, target, 0, 0)
            if isinstance(following, str):
                return following
            found = _both(found, following[0])
        return found, [np.array(o) for o in (peer.after or peer).outputs]

    def _compiled(self, peer: Peer, target: str) -> dict[str, Any]:
        signature = {n: "constexpr" if _is_one(v) else _type_of(v) for n, v in peer.arguments.items()}
        ones = {n: 1 for n, v in peer.arguments.items() if _is_one(v)}
        divisible = [i for i, v in enumerate(peer.arguments.values())
                     if isinstance(v, np.ndarray) or (isinstance(v, int) and v % 16 == 0)]
        order = {"kernel": peer.kernel, "signature": signature, "constants": {**ones, **peer.constants},
                 "divisible": divisible, "arch": int(target.removeprefix("sm_").rstrip("af")), "warps": peer.warps,
                 "stages": peer.stages, "folder": self.folder.name}
        _open(self.process.stdin).write(json.dumps(order) + "\n")
        _open(self.process.stdin).flush()
        answer = _open(self.process.stdout).readline()
        found: dict[str, Any] = json.loads(answer) if answer else {"error": "the peer's process has ended"}
        return found


def _both(first: Figures, second: Figures) -> Figures:
    """Of two kernels, of which the first has the loop that is counted."""
    return Figures(first.sass, first.dyn + second.dyn, first.work + second.work, first.sectors + second.sectors,
                   first.wavefronts + second.wavefronts, first.spills + second.spills,
                   max(first.registers, second.registers), first.seconds + second.seconds)


def _open(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def _is_one(value: Any) -> bool:
    """Whether the peer makes an argument a constant of the kernel."""
    return isinstance(value, int) and value == 1


def _type_of(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return "*" + TYPES[value.dtype.name]
    return "fp32" if isinstance(value, float) else "i32"


__all__ = ["Compiler"]
