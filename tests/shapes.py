"""Checks the shapes in signatures while tests run.

jaxtyping's import hook wraps the functions of the modules below, and beartype checks their tensor annotations on every
call. Other annotations are left out: wrong arguments of other types reach the library, whose own errors are tested.
"""

from collections.abc import Callable
from typing import Any, get_args

import jaxtyping
from beartype import beartype

MODULES = (
    "concept",
    "conditioning",
    "denoiser_calls",
    "density",
    "evaluation.judges",
    "evaluation.metrics",
    "evaluation.scoring",
    "fingerprints",
    "formats.found",
    "formats.layouts",
    "formats.own",
    "formats.writing",
    "generation",
    "layer_hooks",
    "mixing",
    "packing",
    "pictures",
    "placeholders",
    "prompt_masks",
    "text_encoders",
    "text_encoding",
    "text_states",
    "weighted_texts",
)


def install() -> None:
    """Install the import hook; modules that were imported before are not checked."""
    jaxtyping.install_import_hook([f"promptplus.{name}" for name in MODULES], f"{__name__}.{check_shapes.__name__}")


def check_shapes(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have the tensor arguments and results of a function checked on every call."""
    hints = {name: hint for name, hint in function.__annotations__.items() if _has_shape(hint)}
    if not hints:
        return function
    function.__annotations__ = hints
    return beartype(function)


def _has_shape(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(map(_has_shape, get_args(hint)))
