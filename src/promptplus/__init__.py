"""Every cross-attention layer of a diffusion model its own text, and concepts learned as one token per layer.

Public names are imported when they are first used, so that ``import promptplus`` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptplus.concept import Concept
    from promptplus.editing.edit import edit
    from promptplus.errors import PromptPlusError
    from promptplus.hooks import per_layer
    from promptplus.layers import LayerMap
    from promptplus.mixing import mix
    from promptplus.models import load
    from promptplus.packing import pack
    from promptplus.pplus import PPlus
    from promptplus.prompt_parts import Part
    from promptplus.prompts import PPlusPrompt
    from promptplus.training.invert import invert

__version__ = "0.1.0"

__all__ = [
    "Concept",
    "LayerMap",
    "PPlus",
    "PPlusPrompt",
    "Part",
    "PromptPlusError",
    "edit",
    "invert",
    "load",
    "mix",
    "pack",
    "per_layer",
]

_MODULES = {
    "Concept": "concept",
    "LayerMap": "layers",
    "PPlus": "pplus",
    "PPlusPrompt": "prompts",
    "Part": "prompt_parts",
    "PromptPlusError": "errors",
    "edit": "editing.edit",
    "invert": "training.invert",
    "load": "models",
    "mix": "mixing",
    "pack": "packing",
    "per_layer": "hooks",
}


if not TYPE_CHECKING:  # else a type checker would take any name for a public one

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
