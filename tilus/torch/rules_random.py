"""Random numbers by a seed that the graph has drawn."""

from __future__ import annotations

from typing import Any

from tilus.lang.builtins import random
from tilus.lang.values import Tile
from tilus.torch import random_numbers  # noqa: F401  (defines the operators)
from tilus.torch.node import Call
from tilus.torch.registry import rule


@rule("tilus::random_uniform")
def uniform(call: Call, seed: Tile, *_: Any) -> Tile:
    return random.uniform(call.shape, seed.reshape(()))


@rule("tilus::random_normal")
def normal(call: Call, seed: Tile, *_: Any) -> Tile:
    return random.normal(call.shape, seed.reshape(()))
