"""Programs whose meaning is Python's: the engine that runs them untraced and those that trace them have to agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import tilus as tl

HOST = ("python", "interpret", "cpu")
ALL = (*HOST, "simulate:sm_80:ptx", "simulate:sm_80:cuda")


def outputs(kernel: Any, engine: str, count: int, *args: Any) -> list[int]:
    """What a kernel of an i64 array and some numbers writes into it."""
    out = np.full(count, -77, np.int64)
    kernel.on(engine)(out, *args)
    return out.tolist()


def agree(kernel: Any, want: Sequence[int], *args: Any, engines: Sequence[str] = HOST) -> None:
    got = {engine: outputs(kernel, engine, len(want), *args) for engine in engines}
    assert got == {engine: list(want) for engine in engines}


def refused(kernel: Any, code: str, line: str, *args: Any, engines: Sequence[str] = ("interpret", "cpu")) -> None:
    """The traced engines refuse the kernel at the line that holds this text."""
    for engine in engines:
        with pytest.raises(tl.UserError) as caught:
            outputs(kernel, engine, 4, *args)
        diagnostic = caught.value.diagnostics[0]
        assert diagnostic.code == code, str(caught.value)
        assert f"| {line}" in " ".join(str(caught.value).split()), str(caught.value)
