"""Each mistake gives one clear message at the user's line: compared with its golden file.

``TILUS_UPDATE_GOLDEN=1`` writes the files; look at what changed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import tilus as tl
from tests.errors import (
    ascend_programs,
    call_programs,
    machine_programs,
    packed_programs,
    programs,
    python_programs,
    tile_programs,
    tuning_programs,
    value_programs,
)

GOLDEN = Path(__file__).parent / "golden"
MODULES = (programs, python_programs, call_programs, tile_programs, machine_programs, value_programs,
           packed_programs, tuning_programs, ascend_programs)
PROGRAMS = {name: (module, value) for module in MODULES for name, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", "") == module.__name__
            and name not in ("f32", "scale", "double", "array")}


ON_EVERY_ENGINE = [name for name, (module, _) in PROGRAMS.items() if module is value_programs]


def message_of(name: str, *engine: str) -> str:
    with pytest.raises(tl.TilusError) as caught:
        PROGRAMS[name][1](*engine)
    text = str(caught.value)
    return text.replace(str(Path(__file__).parent) + os.sep, "") + "\n"


def test_there_are_enough() -> None:
    assert len(PROGRAMS) >= 40


@pytest.mark.parametrize("name", PROGRAMS)
def test_message(name: str) -> None:
    text = message_of(name)
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("TILUS_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()
    assert text.count("error[") == 1
    assert "^" in text
    assert f"--> {PROGRAMS[name][0].__name__.split('.')[-1]}.py:" in text


@pytest.mark.parametrize("engine", ["cpu", "simulate:sm_80:ptx", "simulate:sm_80:cuda"])
@pytest.mark.parametrize("name", ON_EVERY_ENGINE)
def test_message_of_every_engine(name: str, engine: str) -> None:
    assert message_of(name, engine) == (GOLDEN / f"{name}.txt").read_text()


def test_no_golden_file_is_left_over() -> None:
    assert {p.stem for p in GOLDEN.glob("*.txt")} == set(PROGRAMS)
