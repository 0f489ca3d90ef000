"""What kernels and fused functions share: they are made anew where what their body read has changed, and they are
copied and pickled as functions are."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tilus.diagnostics import TilusError
from tilus.diagnostics.entry import public
from tilus.lang.capture import CapturedFunction
from tilus.lang.reads import Reads


class TracedFunction:
    """A function whose body is traced. ``reads`` is what the traces so far saw outside of it."""

    __qualname__: str
    __tilus_captured__: CapturedFunction
    function: Callable[..., Any]
    signature: Any

    def __init__(self) -> None:
        self.reads = Reads()

    if TYPE_CHECKING:
        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    else:
        __call__ = property(operator.attrgetter("called"))
        """Python calls what this gives, so that no frame of ours stands between; see :mod:`tilus.diagnostics.entry`."""

    @functools.cached_property
    def called(self) -> Callable[..., Any]:
        """What Python calls: ``call``, or what does the same faster."""
        return self.call

    @functools.cached_property
    def entry_place(self) -> tuple[str, int]:
        """Where the function is defined."""
        try:
            return self.__tilus_captured__.file, self.__tilus_captured__.node.lineno
        except TilusError:
            return self.__tilus_captured__.file, self.__tilus_captured__.line

    @public
    def call(self, *args: Any, **kwargs: Any) -> Any:
        """What ``function(…)`` does."""
        raise NotImplementedError

    def forget(self) -> None:
        """Drop what was made of the traces so far."""
        raise NotImplementedError

    def refresh(self) -> None:
        """Drop it where globals, closures, helpers or attributes that were read are no longer what they were."""
        if not self.reads.unchanged():
            self.reads = Reads()
            self.forget()

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """The function as a method: ``self`` is its first compile-time value."""
        return self if instance is None else BoundFunction(self, instance)

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self

    def __reduce__(self) -> str:
        return self.__qualname__  # by its name in its module, as functions are pickled


class BoundFunction:
    """A kernel or fused function as a method of an object, which is its first argument."""

    __tilus_bound__ = True

    def __init__(self, function: Any, instance: Any) -> None:
        self.__func__, self.__self__ = function, instance
        functools.update_wrapper(self, function.function)
        _, *rest = inspect.signature(function.function).parameters.values()
        self.__signature__ = inspect.Signature(rest)

    def __repr__(self) -> str:
        return f"<bound {self.__func__!r}>"

    if TYPE_CHECKING:
        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    else:
        __call__ = property(lambda self: functools.partial(self.__func__, self.__self__))

    def on(self, engine_name: str) -> Callable[..., Any]:
        """The method on a given engine."""
        return functools.partial(self.__func__.on(engine_name), self.__self__)

    def compile(self, *args: Any, **kwargs: Any) -> Any:
        """See :meth:`JitFunction.compile`."""
        return self.__func__.compile(*args, **{self._first: self.__self__, **kwargs})

    def explain(self, *args: Any, **kwargs: Any) -> str:
        """See :meth:`JitFunction.explain`."""
        given = (self.__self__, *args) if args else ()
        named = kwargs if args else {self._first: self.__self__, **kwargs}
        return self.__func__.explain(*given, **named)  # type: ignore[no-any-return]

    @property
    def _first(self) -> str:
        return self.__func__.signature.names[0]  # type: ignore[no-any-return]
