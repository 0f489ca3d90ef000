"""Records are what data classes are."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any, ClassVar

import pytest

from tilus.records import field, record


@record(frozen=True, slots=True)
class Point:
    x: int
    y: int = 0
    tag: str = field(default="", compare=False, repr=False)
    ORIGIN: ClassVar[int] = 0


@record
class Bag:
    items: list[int] = field(default_factory=list)
    total: int = field(init=False)

    def __post_init__(self) -> None:
        self.total = sum(self.items)


@record
class Named(Bag):
    name: str = "bag"


@record(eq=False, repr=False)
class Plain:
    value: int


@record(frozen=True)
class OwnHash:
    value: int

    def __hash__(self) -> int:
        return 7


@record(frozen=True)
class OwnEquality:
    value: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OwnEquality)


@record(frozen=True)
class Nothing:
    pass


def like(cls: Any, **options: bool) -> Any:
    """The data class of the same fields."""
    fields = [(f.name, f.type, f) for f in dataclasses.fields(cls)]
    return dataclasses.make_dataclass(cls.__name__, [(n, t, copy.copy(f)) for n, t, f in fields], **options)


def test_methods_are_those_of_data_classes() -> None:
    twin = like(Point, frozen=True)
    for arguments in ((1,), (1, 2), (1, 2, "tag")):
        assert repr(Point(*arguments)) == repr(twin(*arguments))
        assert hash(Point(*arguments)) == hash(twin(*arguments))
        assert Point(*arguments) == Point(**dict(zip(("x", "y", "tag"), arguments, strict=False)))
    assert Point(1, 2, "a") == Point(1, 2, "b") != Point(2, 2)
    assert Point(1) != twin(1)
    assert Point.__eq__(Point(1), 1) is NotImplemented
    assert Nothing() == Nothing()
    assert hash(Nothing()) == hash(())
    assert repr(Nothing()) == "Nothing()"


@pytest.mark.parametrize("arguments", [((), {}), ((1, 2, "", 3), {}), ((1,), {"x": 1}), ((1,), {"z": 1})])
def test_arguments_that_do_not_fit(arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
    given, named = arguments
    with pytest.raises(TypeError, match="__init__"):
        Point(*given, **named)


def test_frozen_and_slots() -> None:
    point = Point(1)
    with pytest.raises(dataclasses.FrozenInstanceError, match="assign to field 'x'"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError, match="delete field 'x'"):
        del point.x  # type: ignore[misc]
    assert not hasattr(point, "__dict__")
    for again in (copy.copy(point), copy.deepcopy(point), pickle.loads(pickle.dumps(point))):
        assert again == point


def test_defaults_are_made_for_each_and_bases_come_first() -> None:
    first, second = Bag(), Bag([1, 2])
    first.items.append(3)
    assert (Bag().items, second.total) == ([], 3)
    named = Named([4], "x")
    assert (named.items, named.total, named.name) == ([4], 4, "x")
    assert repr(named) == "Named(items=[4], total=4, name='x')"
    assert Named() != Bag()
    assert Bag.__hash__ is None


def test_methods_of_the_class_and_options() -> None:
    assert hash(OwnHash(1)) == 7
    assert OwnHash(1) != OwnHash(2)
    assert OwnEquality(1) == OwnEquality(2)
    assert hash(OwnEquality(1)) == hash((1,))
    assert Plain(1) != Plain(1)
    assert repr(Plain(1)).startswith("<")


def test_functions_of_dataclasses() -> None:
    assert dataclasses.is_dataclass(Point)
    assert [(f.name, f.type) for f in dataclasses.fields(Point)] == [("x", "int"), ("y", "int"), ("tag", "str")]
    assert dataclasses.replace(Point(1, 2), y=3) == Point(1, 3)
    assert dataclasses.asdict(Named([1])) == {"items": [1], "total": 1, "name": "bag"}
    match Point(1, 2):
        case Point(x, y):
            assert (x, y) == (1, 2)
