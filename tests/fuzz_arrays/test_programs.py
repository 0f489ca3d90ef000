"""Some random fused functions; ``python -m tests.fuzz_arrays`` runs more of them."""

from __future__ import annotations

import pytest

from tests.fuzz_arrays.program import disagreement, drawn


@pytest.mark.sweep
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("engine", ["cpu", "interpret"])
def test_random_function(engine: str, seed: int) -> None:
    program = drawn(seed + (0 if engine == "cpu" else 100))
    assert disagreement(program, engine, turned=seed % 5 == 0) is None, str(program)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("engine", ["simulate:sm_80:ptx", "simulate:sm_80:cuda"])
def test_simulated_function(engine: str, seed: int) -> None:
    program = drawn(seed + 200, 5)
    assert disagreement(program, engine) is None, str(program)
