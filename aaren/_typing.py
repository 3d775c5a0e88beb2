"""Tensor annotations that work with or without jaxtyping.

`Float[Tensor, "B H N"]` documents a shape. With jaxtyping installed it is jaxtyping's own type (the tests
check it at run time); without it the annotation is an ordinary `Tensor`, so that nothing depends on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
else:
    try:
        from jaxtyping import Bool, Float, Int
    except ImportError:

        class _ShapeNote:
            """Stands in for a jaxtyping class: subscripting yields the array type, the shape is a note."""

            def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
                array_type, _shape = item
                return array_type

        Bool = Float = Int = _ShapeNote

__all__ = ["Bool", "Float", "Int"]
