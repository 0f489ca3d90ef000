"""Samples that torch keeps for its operators; ``python -m tests.torch.samples`` has all of them."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")

NAMES = ("add", "nn.functional.pad", "gather", "cumsum", "nn.functional.layer_norm", "addmm", "var", "index_select",
         "where", "roll", "amax", "nn.functional.conv2d", "stack", "sort", "nn.functional.cross_entropy")


@pytest.mark.sweep(keep=5)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("derived", [False, True])
def test_samples(name: str, derived: bool) -> None:
    from tests.torch.samples import disagreements, operators

    op = next(op for op in operators() if op.name == name)
    found = list(disagreements(op, torch.float32, 3, derived))
    assert found
    assert not any(found), found
