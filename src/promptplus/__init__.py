"""Every cross-attention layer of a diffusion model its own text, and concepts learned as one token per layer."""

from promptplus.concept import Concept
from promptplus.errors import PromptPlusError
from promptplus.hooks import pack, per_layer
from promptplus.layers import LayerMap
from promptplus.mixing import mix
from promptplus.models import load
from promptplus.pplus import PPlus
from promptplus.prompts import PPlusPrompt
from promptplus.training.invert import invert

__all__ = [
    "Concept",
    "LayerMap",
    "PPlus",
    "PPlusPrompt",
    "PromptPlusError",
    "invert",
    "load",
    "mix",
    "pack",
    "per_layer",
]
