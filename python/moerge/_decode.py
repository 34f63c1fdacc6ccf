"""Turns JSON into dataclasses by their type hints.

Keys that a dataclass does not have are ignored, so the binary may add some. Fields with a default may be missing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def decode(cls: type[T], value: Mapping[str, Any]) -> T:
    """An instance of the dataclass `cls` with the fields in `value`.

    Raises KeyError if a field without a default is missing.
    """
    fields = {}
    for field, key, hint in _fields(cls):  # type: ignore[arg-type]
        if key in value:
            fields[field.name] = _convert(hint, value[key])
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise KeyError(f"{cls.__name__}: the JSON has no `{key}`")
    return cls(**fields)


@lru_cache(maxsize=None)
def _fields(cls: type[Any]) -> list[tuple[dataclasses.Field[Any], str, Any]]:
    """The fields of a dataclass, with their names in JSON and their types."""
    hints = get_type_hints(cls)
    return [(field, field.metadata.get("json", field.name), hints[field.name]) for field in dataclasses.fields(cls)]


def _convert(hint: Any, value: Any) -> Any:
    arguments = get_args(hint)
    if value is None or hint is Any:
        return value
    if get_origin(hint) is Union:
        # Optional: the other member is None.
        return _convert(arguments[0], value)
    if get_origin(hint) is tuple:
        return tuple(_convert(arguments[0], item) for item in value)
    if dataclasses.is_dataclass(hint):
        return decode(hint, value)  # type: ignore[arg-type]
    # JSON has paths as strings, and may have a whole number for a float.
    return hint(value) if hint in (float, Path) else value
