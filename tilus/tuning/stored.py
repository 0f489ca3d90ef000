"""Results of earlier searches, for the first call of a kernel: in a new process this takes less than a millisecond.

Loading SQLite takes several, so the cache of compiled kernels has a copy of each choice that has been looked up, under
the identity and the inode of the store's file.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tilus.runtime.cache import default_cache
from tilus.targets import get_target
from tilus.tuning.identity import Identity, copy_key, decoded, identity_of, store_path
from tilus.tuning.keys import TuningKey
from tilus.tuning.space import Variant

if TYPE_CHECKING:
    from tilus.tuning.autotune import AutotunedFunction


def stored_variant(function: AutotunedFunction, key: TuningKey) -> Variant | None:
    """The variant that a search, of whatever process, has stored for a key of this kernel; None where there is none, or
    where it is no longer in the space."""
    path = store_path()
    if not os.path.exists(path):
        return None
    target = get_target(key.target)
    identity, modelled = (identity_of(function.function, key, target, m) for m in (False, True))
    found = _choice(path, identity)
    if found is None and target.is_cuda and modelled != identity:
        found = _choice(path, modelled)
    fixed = {name: value for name, value in key.constants if name in function.space.names}
    variant = None if found is None else decoded(found, function.space.parameters)
    if variant is None:
        return None
    whole = {name: {**fixed, **variant}[name] for name in function.space.names if name in fixed or name in variant}
    return whole if whole in (function.space.fixed(**fixed) if fixed else function.space) else None


def _choice(path: str, identity: Identity) -> dict[str, Any] | None:
    entry = default_cache().get(copy_key(identity, path))
    if entry is not None:
        found: dict[str, Any] = entry.metadata["variant"]
        return found
    from tilus.tuning.store import default_store

    return default_store().choice(identity)


__all__ = ["stored_variant"]
