"""The twin's runtime is compiled once for all workers of a run, and for later runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="package", autouse=True)
def _shared_cache(tmp_path_factory: pytest.TempPathFactory, _private_cache: None) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TILUS_CACHE_DIR", str(tmp_path_factory.getbasetemp().parent / "tilus-twin-cache"))
        yield
