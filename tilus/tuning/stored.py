"""Results of earlier searches, for the first call of a kernel: in a new process this takes less than a millisecond."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tilus.targets import get_target
from tilus.tuning.choices import Choices
from tilus.tuning.identity import Identity, decoded, identity_of, store_path
from tilus.tuning.keys import TuningKey
from tilus.tuning.space import Variant

if TYPE_CHECKING:
    from tilus.tuning.autotune import AutotunedFunction


def stored_variant(function: AutotunedFunction, key: TuningKey) -> Variant | None:
    """The variant that a search, of whatever process, has stored for a key of this kernel; None where there is none, or
    where it is no longer in the space."""
    target = get_target(key.target)
    identity = identity_of(function.function, key, target)
    found = _choice(identity)
    if found is None and target.is_cuda:
        modelled = identity_of(function.function, key, target, modelled=True)
        found = _choice(modelled) if modelled != identity else None
    fixed = {name: value for name, value in key.constants if name in function.space.names}
    variant = None if found is None else decoded(found, function.space.parameters)
    if variant is None:
        return None
    whole = {name: {**fixed, **variant}[name] for name in function.space.names if name in fixed or name in variant}
    return whole if whole in (function.space.fixed(**fixed) if fixed else function.space) else None


def _choice(identity: Identity) -> dict[str, Any] | None:
    known, variant = Choices(store_path()).get(identity.digest)
    if known:
        return variant
    from tilus.tuning.store import default_store

    return default_store().choice(identity)


__all__ = ["stored_variant"]
