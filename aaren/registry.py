"""Names of attentions: what `Backbone(attention="...")` and a command line can ask for."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from aaren.attention import Attention

_ATTENTIONS: dict[str, type[Attention]] = {}

A = TypeVar("A", bound="type[Attention]")


def register_attention(name: str) -> Callable[[A], A]:
    """Class decorator: makes an `Attention` known under `name`.

    Raises:
        ValueError: another class already has the name.
    """

    def register(cls: A) -> A:
        known = _ATTENTIONS.get(name)
        # The same class again is a module imported twice under one name (a reloaded plugin), no clash.
        if known is not None and known.__qualname__ != cls.__qualname__:
            raise ValueError(f"attention {name!r} is already registered by {known.__module__}.{known.__qualname__}")
        _ATTENTIONS[name] = cls
        return cls

    return register


def attention_names() -> tuple[str, ...]:
    """All registered names, sorted."""
    return tuple(sorted(_ATTENTIONS))


def attention_class(name: str) -> type[Attention]:
    """The class registered under `name`.

    Raises:
        ValueError: unknown name; the message lists near misses and all names.
    """
    if name in _ATTENTIONS:
        return _ATTENTIONS[name]
    near = difflib.get_close_matches(name, _ATTENTIONS, n=3)
    hint = f" Did you mean {', '.join(near)}?" if near else ""
    raise ValueError(
        f"unknown attention {name!r}.{hint} Registered: {', '.join(attention_names())}. "
        "Add your own with @register_attention in a file that is imported first."
    )
