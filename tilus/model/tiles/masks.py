"""Which share of a tile's elements a mask leaves."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import Any

import numpy as np

from tilus.interp.evaluate import evaluate
from tilus.ir.core import Value
from tilus.ir.rewriter import is_pure
from tilus.ir.types import TileType
from tilus.model.tiles.frames import Frame
from tilus.model.tiles.windows import Numbers

LARGEST = 1 << 14
"""Elements of masks that are looked at."""
MOST = 8
"""So many different masks of an access are looked at; of more every so-manieth one."""


def share_of(mask: Value | None, frame: Frame, assumed: set[str]) -> Numbers:
    """Of each lane the share of the elements for which a mask holds: masks are evaluated where they follow from numbers
    that are known, else taken to hold."""
    lanes = len(frame.blocks)
    if mask is None or not lanes:
        return 1.0
    tiles: list[Value] = []
    scalars: dict[Value, Any] = {}
    if mask.tile.size > LARGEST or not _leaves(mask, frame, tiles, scalars):
        assumed.add("masks that are data, or large, hold for all elements")
        return 1.0
    columns = [np.broadcast_to(n, (lanes,)) for n in scalars.values()]
    if not columns:
        return float(np.mean(_evaluated(mask, tiles, scalars)))
    numbers = np.stack([c.astype(np.float64) for c in columns], 1)
    rows, place, inverse = np.unique(numbers, axis=0, return_index=True, return_inverse=True)
    looked = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST)).astype(int))
    shares = [float(np.mean(_evaluated(mask, tiles, {v: c[place[n]] for v, c in zip(scalars, columns, strict=True)})))
              for n in looked]
    return np.interp(np.arange(len(rows)), looked, shares)[np.reshape(inverse, -1)]


def _leaves(value: Value, frame: Frame, tiles: list[Value], scalars: dict[Value, Any]) -> bool:
    """Find the tiles that a value follows from, in order, and the numbers; False where it follows from others."""
    if value in tiles or value in scalars:
        return True
    assert isinstance(value.type, TileType)
    if not value.type.shape:
        number = frame.get(value)
        if number is not None:
            scalars[value] = number
        return number is not None
    maker = value.defining
    if maker is None or maker.regions or not is_pure(maker) or len(maker.results) != 1:
        return False
    if any(not isinstance(v.type, TileType) or not _leaves(v, frame, tiles, scalars) for v in maker.operands):
        return False
    tiles.append(value)
    return True


def _evaluated(mask: Value, tiles: list[Value], scalars: dict[Value, Any]) -> Any:
    env: dict[Value, Any] = dict(scalars)
    for value in tiles:
        assert value.defining is not None
        results = evaluate(value.defining, env.__getitem__)
        if results is None:
            return 1.0
        env[value] = results[0]
    return env[mask]


__all__ = ["share_of"]
