"""Configs as plain data: frozen dataclasses to dicts that a checkpoint can carry, and back."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

Config = TypeVar("Config")


def to_plain(config: Any) -> dict[str, Any]:
    """Return a config's fields as dicts, lists, numbers and strings alone."""
    return {field.name: _plain(getattr(config, field.name)) for field in fields(config)}


def from_plain(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """Build the config again.

    Raises:
        ValueError: a key that `kind` has no field for, as from another version of the package.
    """
    types = get_type_hints(kind)
    unknown = sorted(set(values) - set(types))
    if unknown:
        raise ValueError(f"{kind.__name__} has no {', '.join(unknown)}; it has {', '.join(types)}")
    return kind(**{name: _typed(types[name], value) for name, value in values.items()})


def differences(expected: Mapping[str, Any], found: Mapping[str, Any], at: str = "") -> list[str]:
    """Return one 'key: expected x, found y' a leaf in which two nested dicts differ."""
    lines = []
    for key in [*expected, *(key for key in found if key not in expected)]:
        one, other = expected.get(key, "nothing"), found.get(key, "nothing")
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            lines += differences(one, other, f"{at}{key}.")
        elif one != other:
            lines.append(f"{at}{key}: expected {one!r}, found {other!r}")
    return lines


def _typed(kind: Any, value: Any) -> Any:
    """Return a plain value as a field's type has it: configs inside configs, lists as tuples."""
    if is_dataclass(kind) and isinstance(kind, type):
        return from_plain(kind, value)
    if isinstance(value, list) and tuple in (get_origin(one) for one in (kind, *get_args(kind))):
        return tuple(value)
    return value


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_plain(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
