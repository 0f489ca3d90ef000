"""What tests of the CPU engine share."""

from collections.abc import Iterator
from typing import Any

import pytest

import tilus as tl


@pytest.fixture(params=[1, 2])
def threads(request: Any) -> Iterator[int]:
    """Once on one thread, once on two."""
    before = tl.get_num_threads()
    tl.set_num_threads(request.param)
    yield request.param
    tl.set_num_threads(before)
