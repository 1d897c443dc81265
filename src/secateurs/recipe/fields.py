"""Plain values against annotations: the fields of a dataclass, and one clear line where a value does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from secateurs.types import SecateursError


def check_names(owner: str, what: str, given: Mapping[str, Any], own: Iterable[Field[Any]]) -> None:
    """Refuse names that are none of these fields, and missing ones that have no default.

    Args:
        owner: Whose fields they are, for the message.
        what: What a name is called, e.g. ``key``.
        given: Names and values as given.
        own: The fields there are.

    Raises:
        SecateursError: An unknown name (with its near match), or a missing one.
    """
    known = {f.name: f for f in own if f.init}
    for name in given:
        if name not in known:
            raise SecateursError(f"{owner}: {unknown(what, str(name), known)}")
    for name, f in known.items():
        if name not in given and f.default is MISSING and f.default_factory is MISSING:
            raise SecateursError(f"{owner}: {what} '{name}' is missing")


def build(cls: type, owner: str, values: Mapping[str, Any]) -> Any:
    """An instance of a dataclass from plain values, each read against its annotation.

    Raises:
        SecateursError: An unknown or missing field, a value of the wrong type, or one that the class itself refuses.
    """
    check_names(owner, "field", values, fields(cls))
    hints = get_type_hints(cls)
    fitted = {name: fit(owner, name, value, hints[name]) for name, value in values.items()}
    try:
        return cls(**fitted)
    except (TypeError, ValueError) as error:
        raise SecateursError(f"{owner}: {error}") from error


def fit(owner: str, name: str, value: Any, hint: Any) -> Any:
    """The value as its annotation wants it: lists become tuples, and ints floats, where asked for.

    Raises:
        SecateursError: It does not fit; the message names owner, field and type.
    """
    try:
        return _fitted(value, hint)
    except TypeError:
        raise SecateursError(f"{owner}: {name} must be {_say(hint)}, got {brief(value)}") from None


def _fitted(value: Any, hint: Any) -> Any:
    """The value as its annotation wants it; TypeError where it cannot be. Exotic annotations are not judged."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        fits = any(value == choice and type(value) is type(choice) for choice in args)
    elif origin in (Union, UnionType):
        return _first_fit(value, args)
    elif origin is tuple:
        return _fitted_tuple(value, args)
    elif hint is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        value = float(value) if fits else value
    else:
        cls = origin or hint
        judged = isinstance(cls, type) and cls is not Any
        fits = not judged or (isinstance(value, cls) and not (isinstance(value, bool) and cls is int))
    if not fits:
        raise TypeError
    return value


def _first_fit(value: Any, hints: tuple[Any, ...]) -> Any:
    for hint in hints:
        try:
            return _fitted(value, hint)
        except TypeError:
            continue
    raise TypeError


def _fitted_tuple(value: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError
    if args[1:] == (...,):
        args = (args[0],) * len(value)
    if len(args) != len(value):
        raise TypeError
    return tuple(_fitted(item, hint) for item, hint in zip(value, args, strict=True))


def _say(hint: Any) -> str:
    """An annotation in words: ``an int``, ``one of 1, 2``, ``a list of str``."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(map(str, args))}"
    if origin in (Union, UnionType):
        return " or ".join(_say(arg) for arg in args)
    if origin is tuple:
        return f"a list of {' and '.join(dict.fromkeys(getattr(a, '__name__', str(a)) for a in args if a is not ...))}"
    name = "null" if hint is type(None) else getattr(origin or hint, "__name__", str(hint))
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}" if name != "null" else name


def brief(value: Any) -> str:
    """A value as one short piece of a line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Say that a name is unknown, with the nearest known one, else all of them."""
    near = get_close_matches(name, list(known), n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there is {', '.join(known) or 'none'}"
    return f"unknown {what} '{name}'; {hint}"
