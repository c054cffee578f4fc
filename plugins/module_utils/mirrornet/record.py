# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the rooms of every run use of ``dataclasses``, without what that imports: half of the start of a run that finds nothing would be for it.

Type checkers see the original, and a test holds the two against each other. Rooms that only some runs need use the original.
"""

from __future__ import annotations

#: Type checkers take a name like this for true. ``typing`` has one too, but is as slow to import.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from dataclasses import asdict, dataclass, field, replace
else:
    _NAMES, _FACTORIES = "__record_names__", "__record_factories__"

    class _Field:
        def __init__(self, default_factory):
            self.default_factory = default_factory

    def field(*, default_factory):
        """A field whose value is made for each object."""
        return _Field(default_factory)

    def dataclass(cls=None, *, frozen=False):
        """Give a class what its annotations ask for: a constructor, equality, and its fields when it is shown."""
        if cls is None:
            return lambda one: dataclass(one, frozen=frozen)
        factories = {name: value.default_factory for name, value in vars(cls).items() if isinstance(value, _Field)}
        for name in factories:
            delattr(cls, name)
        setattr(cls, _NAMES, tuple(cls.__annotations__))
        setattr(cls, _FACTORIES, factories)
        for kind in (_Plain, _Frozen) if frozen else (_Plain,):
            for name in kind.GIVEN:
                setattr(cls, name, vars(kind)[name])
        return cls

    class _Plain:
        """What classes are given; nothing is an object of this one."""

        GIVEN = ("__init__", "__repr__", "__eq__", "__hash__")

        def __init__(self, *values, **named):
            names, factories = getattr(self, _NAMES), getattr(self, _FACTORIES)
            given = dict(zip(names, values), **named)
            if len(given) != len(values) + len(named) or not given.keys() <= set(names):
                raise TypeError(f"{type(self).__name__} takes {', '.join(names)}; it got {len(values)} values and {', '.join(named)}")
            for name in names:
                if name in factories and name not in given:
                    given[name] = factories[name]()
                elif name not in given and not hasattr(type(self), name):
                    raise TypeError(f"{type(self).__name__} needs {name}")
            self.__dict__.update(given)

        def __repr__(self):
            return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in getattr(self, _NAMES))})"

        def __eq__(self, other):
            return _values(self) == _values(other) if other.__class__ is self.__class__ else NotImplemented

        __hash__ = None

    class _Frozen:
        """The same for classes whose objects don't change."""

        GIVEN = ("__setattr__", "__delattr__", "__hash__")

        def __setattr__(self, name, value):
            raise AttributeError(f"cannot assign to field {name!r}")

        def __delattr__(self, name):
            raise AttributeError(f"cannot delete field {name!r}")

        def __hash__(self):
            return hash(_values(self))

    def _values(one):
        return tuple(getattr(one, name) for name in getattr(one, _NAMES))

    def asdict(one):
        """The fields by name; nothing in them is shared with the object."""
        return {name: _copied(getattr(one, name)) for name in getattr(one, _NAMES)}

    def _copied(value):
        if hasattr(value, _NAMES):
            return asdict(value)
        if isinstance(value, (list, tuple)):
            copies = map(_copied, value)
            return type(value)(*copies) if hasattr(value, "_fields") else type(value)(copies)
        if isinstance(value, dict):
            return {key: _copied(item) for key, item in value.items()}
        return value

    def replace(one, /, **changes):
        """The same object but for some fields."""
        return type(one)(**{name: getattr(one, name) for name in getattr(one, _NAMES)} | changes)


__all__ = ["TYPE_CHECKING", "asdict", "dataclass", "field", "replace"]
