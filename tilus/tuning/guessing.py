"""The variant of a call that nobody has tuned: what a model takes for the fastest one.

Predictions take time, so the cache has what was guessed, and the next process has the same variant at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tilus.runtime.cache import default_cache, key_of
from tilus.runtime.engines import Engine
from tilus.tuning.identity import Identity, decoded, encoded, identity_of
from tilus.tuning.keys import TuningKey
from tilus.tuning.space import Space, Variant

if TYPE_CHECKING:
    from tilus.tuning.autotune import AutotunedFunction


def guessed_variant(function: AutotunedFunction, key: TuningKey, engine: Engine, arguments: Mapping[str, Any],
                    space: Space, usual: Variant) -> Variant:
    """The variant of a space that the model of the engine's target prefers for arguments; the usual one where there is
    no model."""
    identity = identity_of(function.function, key, engine.target)
    variant = _remembered(identity, space)
    if variant is None:
        from tilus.tuning.ranking import guess, predictor_of  # models take long to load

        if predictor_of(engine.target) is None:
            return usual
        given = {name: value for name, value in arguments.items() if name not in function.space.names}
        variant = guess(function, engine, (), given, space, usual)
        stored = {name: encoded(value) for name, value in variant.items()}
        default_cache().put(_entry_key(identity), {}, {"variant": stored})
    return variant


def _remembered(identity: Identity, space: Space) -> Variant | None:
    """What was guessed before, where it is still in the space."""
    entry = default_cache().get(_entry_key(identity))
    variant = None if entry is None else decoded(entry.metadata["variant"], space.parameters)
    return variant if variant is not None and variant in space else None


def _entry_key(identity: Identity) -> str:
    return key_of(["guess", identity.digest])


__all__ = ["guessed_variant"]
