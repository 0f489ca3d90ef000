"""Views of memory as a kernel's variables hold them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from tilus.ir.core import Value
from tilus.ir.dtypes import DType
from tilus.ir.ops import Dim, Load, PermuteView, Store, Stride, Subview
from tilus.ir.types import ViewType
from tilus.lang.context import current
from tilus.lang.values import Tile, absent_element, arithmetic, as_index, as_tile, emit, fail, no_attribute


class View:
    """A bounded window of memory: an array parameter, shared memory, a workspace, or part of one.

    ``shape`` gives compile-time extents as int and run-time ones as scalars. Indexing with slices and integers gives
    a view; indexing every dimension with an integer loads that element.
    """

    DESCRIPTION: ClassVar[str] = "view of an array"
    REMEDY: ClassVar[str] = "load a tile from it first: tl.load(array, offsets, shape)"

    __slots__ = ("_dims", "prepacked", "value")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: Value, dims: tuple[Any, ...] | None = None, prepacked: bool = False) -> None:
        self.value = value
        self._dims = dims
        self.prepacked = prepacked
        """Whether it is an array in the order of ``tl.prepack``, a compile-time value."""

    @property
    def type(self) -> ViewType:
        return self.value.view

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def rank(self) -> int:
        return self.type.rank

    @property
    def shape(self) -> tuple[Any, ...]:
        """Extents: Python ints where known, i64 scalars elsewhere."""
        if self._dims is not None:
            return self._dims
        span = current().span
        return tuple(
            emit(Dim(self.value, d, span=span)) if n is None else n for d, n in enumerate(self.type.shape)
        )

    @property
    def strides(self) -> tuple[Tile, ...]:
        """Strides in elements, as i64 scalars."""
        span = current().span
        return tuple(emit(Stride(self.value, d, span=span)) for d in range(self.rank))

    @property
    def T(self) -> View:
        return self.transpose()

    def transpose(self, *permutation: int) -> View:
        """A view with its dimensions permuted (reversed by default)."""
        order = permutation or tuple(reversed(range(self.rank)))
        (value,) = current().emit(PermuteView(self.value, order, span=current().span))
        return View(value, None if self._dims is None else tuple(self._dims[p] for p in order))

    def __getitem__(self, key: Any) -> Any:
        keys = self._keys(key)
        span = current().span
        if all(not isinstance(k, slice) for k in keys):
            offsets = tuple(as_index(k).value for k in keys)
            return emit(Load(self.value, offsets, (), None, absent_element(self.dtype), span=span))
        starts, extents, shape, dims, dropped = [], [], [], [], []
        for d, (k, extent) in enumerate(zip(keys, self.shape, strict=True)):
            if isinstance(k, slice):
                start, size = self._window(k, extent)
                shape.append(size if isinstance(size, int) else None)
                dims.append(size)
            else:
                start, size = k, 1
                dropped.append(d)
            starts.append(as_index(start, "a bound of a view").value)
            extents.append(as_index(size, "a bound of a view").value)
        if all(isinstance(k, slice) and k.start is None and k.stop is None and k.step is None for k in keys):
            return self
        op = Subview(self.value, tuple(starts), tuple(extents), tuple(shape), tuple(dropped), span=span)
        return View(current().emit(op)[0], tuple(dims))

    def __setitem__(self, key: Any, value: Any) -> None:
        keys = self._keys(key)
        if any(isinstance(k, slice) for k in keys):
            raise fail("E0301", "assignment to a slice of an array",
                       help="use tl.store(array, offsets, tile)")
        span = current().span
        offsets = tuple(as_index(k).value for k in keys)
        current().emit(Store(self.value, offsets, as_tile(value, self.dtype).value, span=span))

    def _keys(self, key: Any) -> list[Any]:
        keys = list(key) if isinstance(key, tuple) else [key]
        if sum(k is Ellipsis for k in keys) > 1:
            raise fail("E0304", "more than one `...` in an index")
        if any(k is Ellipsis for k in keys):
            at = next(i for i, k in enumerate(keys) if k is Ellipsis)
            keys[at : at + 1] = [slice(None)] * (self.rank - len(keys) + 1)
        if len(keys) > self.rank:
            raise fail("E0304", f"an array of rank {self.rank} is indexed by {len(keys)} indices")
        for k in keys:
            if isinstance(k, Tile) and k.shape:
                raise fail("E0304", f"an array is indexed by a tile of shape {k.shape}",
                           help="use tl.gather(array, indices)")
            if k is None:
                raise fail("E0304", "views have no `None` dimensions", help="add the dimension to the loaded tile")
        return keys + [slice(None)] * (self.rank - len(keys))

    def _window(self, key: slice, extent: Any) -> tuple[Any, Any]:
        if key.step not in (None, 1):
            raise fail("E0304", "views have no step", help="load whole tiles, or pass the array with that step")
        for bound in (key.start, key.stop):
            if isinstance(bound, int) and bound < 0:
                raise fail("E0304", f"the bound {bound} of a view counts from its start: negative ones are out of "
                                    "bounds", help="write it from the extent, e.g. `a.shape[0] - 1`")
        start = 0 if key.start is None else key.start
        if key.stop is None:
            return start, extent if isinstance(start, int) and start == 0 else _extent(start, extent)
        return start, key.stop if isinstance(start, int) and start == 0 else _extent(start, key.stop)

    def __len__(self) -> int:
        if self.rank and isinstance(self.shape[0], int):
            return self.shape[0]
        raise fail("E0113", "len() of an array is a run-time value", help="use `x.shape[0]`")

    def __getattr__(self, name: str) -> Any:
        raise no_attribute("a view of an array", name)

    def _refused(self, other: Any) -> Any:
        raise fail("E0201", "arithmetic with a view of an array", help=self.REMEDY)

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _refused
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __and__ = __or__ = __lt__ = __le__ = _refused
    __gt__ = __ge__ = __matmul__ = __rmatmul__ = _refused

    def __copy__(self) -> View:
        return self

    def __deepcopy__(self, memo: Any) -> View:
        return self  # it names memory

    def __bool__(self) -> bool:
        raise fail("E0113", "a view of an array is used as a condition",
                   help="use `is None` to test an optional parameter")

    def __iter__(self) -> Iterator[Any]:
        raise fail("E0113", "an array is iterated over by Python", help="load tiles from it in a tl.range loop")


def _extent(start: Any, stop: Any) -> Any:
    size = stop - start
    return max(0, size) if isinstance(size, int) else arithmetic("max", size, 0)


__all__ = ["View"]
