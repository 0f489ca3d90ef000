"""Back ends as values: what a machine needs to be compiled for and run on, in one record each.

The compiler, the engines, ``tilus compile``, ``tilus opt`` and ``explain`` read the records and know no back end by
name. A new one is a module with a :class:`Backend` and a call of :func:`register`.
"""

from tilus.backends.record import Artifact, Backend, Linked, Options, Route
from tilus.backends.registry import backend_of, backends, engine_backend, register, unregister

__all__ = [
    "Artifact", "Backend", "Linked", "Options", "Route", "backend_of", "backends", "engine_backend", "register",
    "unregister",
]
