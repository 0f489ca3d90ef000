"""Records: data classes that cost little to declare.

``dataclasses`` compiles a text for every method of every class, which took a fifth of the time of a small kernel's
first compilation. A record has the same options, for type checkers it is a data class, and the functions of
``dataclasses`` (``fields``, ``replace``, ``asdict``) take it; but its ``__init__``, ``__eq__`` and ``__hash__`` are
compiled when they are first called, and the other methods are shared by all records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as record
    from dataclasses import field
else:
    _ABSENT = object()

    class field:
        """A field with options, as of ``dataclasses``."""

        __slots__ = ("compare", "default", "default_factory", "init", "repr", "type")

        def __init__(self, *, default=_ABSENT, default_factory=_ABSENT, init=True, repr=True, compare=True):
            self.default, self.default_factory = default, default_factory
            self.init, self.repr, self.compare = init, repr, compare
            self.type = ""

    def record(cls=None, /, *, eq=True, repr=True, frozen=False, slots=False):
        """As ``dataclass``, with those of its options that are in use."""
        if cls is None:
            return lambda cls: record(cls, eq=eq, repr=repr, frozen=frozen, slots=slots)
        fields = _take_fields(cls, keep_defaults=not slots)
        if slots:
            cls = _with_slots(cls, fields)
        cls.__match_args__ = tuple(name for name, f in fields.items() if f.init)
        cls.__record_fields__ = fields
        cls.__dataclass_fields__ = _DataclassFields()
        cls.__dataclass_params__ = _Params(eq, frozen)
        own = vars(cls)
        if repr and "__repr__" not in own:
            cls.__repr__ = _repr
        if frozen:
            cls.__setattr__ = cls.__delattr__ = _refuse
        _compile_later(cls, "__init__", _init_source, frozen)
        if eq:
            if own.get("__hash__") is None:  # as Python leaves it too where the class has an __eq__ of its own
                cls.__hash__ = None
                if frozen:
                    _compile_later(cls, "__hash__", _hash_source)
            if "__eq__" not in own:
                _compile_later(cls, "__eq__", _eq_source)
        return cls

    def _take_fields(cls, keep_defaults):
        """The fields of the bases and of the class itself, by name, whose defaults remain as its attributes or not."""
        fields = {}
        for base in reversed(cls.__mro__[1:]):
            fields.update(vars(base).get("__record_fields__", {}))
        for name, annotation in vars(cls).get("__annotations__", {}).items():
            if annotation.startswith("ClassVar"):
                continue
            default = vars(cls).get(name, _ABSENT)
            found = fields[name] = default if isinstance(default, field) else field(default=default)
            found.type = annotation
            if default is _ABSENT:
                continue
            if keep_defaults and found.default is not _ABSENT:
                setattr(cls, name, found.default)
            else:
                delattr(cls, name)
        return fields

    def _with_slots(cls, fields):
        """A copy of the class with a slot for every field that its bases have none for."""
        members = dict(vars(cls))
        members.pop("__dict__", None)
        members.pop("__weakref__", None)
        inherited = {slot for base in cls.__mro__[1:] for slot in vars(base).get("__slots__", ())}
        members["__slots__"] = tuple(name for name in fields if name not in inherited)
        members.setdefault("__getstate__", _values)
        members.setdefault("__setstate__", _set_values)
        return type(cls)(cls.__name__, cls.__bases__, members)

    def _compile_later(cls, name, source, *options):
        """Give the class a method whose first call compiles it and puts it in its own place, as ``compile`` does of who
        wants to see it."""

        def compile():
            text, names = source(cls, *options)
            exec(text, names)
            compiled = names[name]
            compiled.__qualname__ = f"{cls.__qualname__}.{name}"
            if name == "__init__":
                types = {n: f.type for n, f in cls.__record_fields__.items() if f.init}
                compiled.__annotations__ = {**types, "return": None}
            setattr(cls, name, compiled)
            return compiled

        def method(self, /, *args, **kwargs):
            return compile()(self, *args, **kwargs)

        method.compile = compile
        setattr(cls, name, method)

    def _init_source(cls, frozen):
        names = {"_set": object.__setattr__, "_absent": _ABSENT}
        parameters, lines = ["self"], []
        for name, f in cls.__record_fields__.items():
            value, default = name, ""
            if f.default_factory is not _ABSENT:
                names[f"_new_{name}"] = f.default_factory
                value, default = f"_new_{name}() if {name} is _absent else {name}", "=_absent"
            elif f.default is not _ABSENT:
                names[f"_default_{name}"] = f.default
                default = f"=_default_{name}"
            if f.init:
                parameters.append(f"{name}{default}")
                lines.append(f" _set(self, {name!r}, {value})" if frozen else f" self.{name} = {value}")
        if hasattr(cls, "__post_init__"):
            lines.append(" self.__post_init__()")
        return f"def __init__({', '.join(parameters)}):\n" + "\n".join(lines or [" pass"]), names

    def _tuple_of(cls, value):
        """The text of a tuple of what is compared of ``value``."""
        return f"({''.join(f'{value}.{name}, ' for name, f in cls.__record_fields__.items() if f.compare)})"

    def _eq_source(cls):
        compared = f"{_tuple_of(cls, 'self')} == {_tuple_of(cls, 'other')}"
        test = "other.__class__ is self.__class__"
        return f"def __eq__(self, other): return {compared} if {test} else NotImplemented", {}

    def _hash_source(cls):
        return f"def __hash__(self): return hash({_tuple_of(cls, 'self')})", {}

    def _repr(self):
        shown = ", ".join(f"{n}={getattr(self, n)!r}" for n, f in self.__record_fields__.items() if f.repr)
        return f"{self.__class__.__qualname__}({shown})"

    def _refuse(self, name, *value):
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot {'assign to' if value else 'delete'} field {name!r}")

    def _values(self):
        return [getattr(self, name) for name in self.__record_fields__]

    def _set_values(self, values):
        for name, value in zip(self.__record_fields__, values, strict=True):
            object.__setattr__(self, name, value)

    class _Params:
        """Where ``dataclasses`` looks how a class has been declared."""

        __slots__ = ("eq", "frozen")

        def __init__(self, eq, frozen):
            self.eq, self.frozen = eq, frozen

    class _DataclassFields:
        """Where ``dataclasses`` looks which fields a class has; its own records of them are made when it does."""

        __slots__ = ()

        def __get__(self, instance, owner):
            import dataclasses

            members = {"__annotations__": {}}
            for name, f in owner.__record_fields__.items():
                given = {"default": f.default, "default_factory": f.default_factory}
                members[name] = dataclasses.field(**{k: v for k, v in given.items() if v is not _ABSENT},
                                                  init=f.init, repr=f.repr, compare=f.compare)
                members["__annotations__"][name] = f.type
            like = dataclasses.dataclass(init=False, repr=False, eq=False)(type(owner.__name__, (), members))
            owner.__dataclass_fields__ = like.__dataclass_fields__
            return owner.__dataclass_fields__


__all__ = ["field", "record"]
