"""Runs one program on several engines and says how they agree."""

from __future__ import annotations

import linecache
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import tilus as tl
from tests.fuzz_python.generate import OUTPUTS, Generator

ARGUMENTS = ((0, 0), (3, 1), (5, 2), (1, 7))


@dataclass
class Verdict:
    """``kind``: "same", "refused" (an error at a line), "skipped" (Python itself raises), or "wrong"."""

    seed: int
    kind: str
    detail: str = ""


def kernel_of(seed: int) -> tuple[str, Any]:
    source = Generator(seed).program()
    name = f"<fuzz {seed}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    space: dict[str, Any] = {"__name__": "fuzzed"}
    exec(compile(source, name, "exec"), space)
    return source, space["kernel"]


def outputs(kernel: Any, engine: str, arguments: tuple[int, int]) -> list[int]:
    out = np.zeros(OUTPUTS, np.int64)
    kernel.on(engine)(out, *arguments)
    return out.tolist()


def check(seed: int, engines: Sequence[str]) -> Verdict:
    _, kernel = kernel_of(seed)
    try:
        want = {arguments: outputs(kernel, "python", arguments) for arguments in ARGUMENTS}
    except Exception as error:
        return Verdict(seed, "skipped", f"{type(error).__name__}: {error}")
    refusals = []
    for engine in engines:
        for arguments, expected in want.items():
            try:
                got = outputs(kernel, engine, arguments)
            except tl.UserError as error:
                diagnostic = error.diagnostics[0]
                if diagnostic.span is None or diagnostic.code not in ("E0104", "E0110", "E0303", "E0113"):
                    return Verdict(seed, "wrong", f"{engine}: {error}")
                refusals.append(str(error))
                break
            except Exception as error:
                return Verdict(seed, "wrong", f"{engine}: {type(error).__name__}: {error}")
            if got != expected:
                return Verdict(seed, "wrong", f"{engine}{arguments}: {got}, and in Python {expected}")
    if refusals and len(refusals) < len(engines):
        return Verdict(seed, "wrong", f"only some engines refuse: {refusals[0]}")
    return Verdict(seed, "refused", refusals[0]) if refusals else Verdict(seed, "same")
