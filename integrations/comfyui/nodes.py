"""The nodes: load a concept, mix two, patch the model, encode a prompt by layers."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from promptplus.concept import Concept
from promptplus.errors import ConceptError, PromptError
from promptplus.mixing import mix
from promptplus.prompts import PPlusPrompt

from . import host
from .model_layers import ModelLayers, apply_patch
from .text_states import Conditioning, encode_default, encode_prompt

CATEGORY = "P+"
CONCEPT, CONCEPTS, LAYERS = "PPLUS_CONCEPT", "PPLUS_CONCEPTS", "PPLUS_LAYERS"
BY_PATH = "(the path below)"
"""The choice of a file that is in none of ComfyUI's folders."""
_CHAIN = (CONCEPTS, {"tooltip": "Concepts to go with this one: the output of another P+ Load Concept or P+ Mix."})
_log = logging.getLogger(__name__)
Concepts = tuple[Concept, ...]


class LoadConcept:
    """Read a concept file that promptplus wrote."""

    DESCRIPTION = "Reads a concept that promptplus learned: one token row for each layer (XTI), or one for all (TI)."
    CATEGORY = CATEGORY
    RETURN_TYPES = (CONCEPT, CONCEPTS)
    RETURN_NAMES = ("concept", "concepts")
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The node's inputs, in ComfyUI's form."""
        return {
            "required": {
                "file": ([*host.concept_names(), BY_PATH], {"tooltip": "A file in models/embeddings."}),
                "path": ("STRING", {"default": "", "tooltip": f"A file elsewhere, for the choice {BY_PATH}."}),
                "token": ("STRING", {"default": "", "tooltip": "Another placeholder token, as <cat>; empty: its own."}),
            },
            "optional": {"concepts": _CHAIN},
        }

    @classmethod
    def IS_CHANGED(cls, file: str, path: str, token: str, concepts: Concepts = ()) -> str:
        """ComfyUI runs the node again when this text changes: when the file was written anew."""
        try:
            state = cls._path(file, path).stat()
        except (OSError, ConceptError) as error:
            return str(error)  # the node itself will say it
        return f"{state.st_mtime_ns} {state.st_size}"

    @staticmethod
    def _path(file: str, path: str) -> Path:
        if file != BY_PATH:
            return host.concept_path(file)
        if not path.strip():
            raise ConceptError(f"P+ Load Concept has no path; choose a file, or write a path for {BY_PATH}")
        return Path(path.strip()).expanduser()

    def load(self, file: str, path: str, token: str, concepts: Concepts = ()) -> tuple[Concept, Concepts]:
        """The concept, and all concepts so far. Raises ConceptError where the file cannot be used."""
        concept = Concept.load(self._path(file, path))
        if token.strip():
            concept = replace(concept, token=token.strip())
        return concept, (*concepts, concept)


class Mix:
    """Mix two concepts by layers."""

    DESCRIPTION = "A new concept: one concept's rows in some layers (its shape), another's in the rest (its style)."
    CATEGORY = CATEGORY
    RETURN_TYPES = (CONCEPT, CONCEPTS)
    RETURN_NAMES = ("concept", "concepts")
    FUNCTION = "mix"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The node's inputs, in ComfyUI's form."""
        layers = "Layers that take the shape: coarse, medium, fine, names or numbers, as coarse,10-12."
        return {
            "required": {
                "shape": (CONCEPT, {"tooltip": "The concept that gives the shape."}),
                "style": (CONCEPT, {"tooltip": "The concept that gives colours and textures."}),
                "token": ("STRING", {"default": "<mix>", "tooltip": "The placeholder token of the new concept."}),
                "shape_layers": ("STRING", {"default": "coarse", "tooltip": layers}),
            },
            "optional": {"concepts": _CHAIN},
        }

    def mix(
        self, shape: Concept, style: Concept, token: str, shape_layers: str, concepts: Concepts = ()
    ) -> tuple[Concept, Concepts]:
        """The mix, and all concepts so far. Raises ConceptError or LayerError where the two cannot be mixed so."""
        mixed = mix(shape, style, token.strip(), shape_layers.strip() or None)
        return mixed, (*concepts, mixed)


class Apply:
    """Patch a model so that each of its cross-attention layers takes its own text."""

    DESCRIPTION = "Lets each cross-attention layer take its own text: Stable Diffusion 1, 2, XL. Others pass unchanged."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("MODEL", LAYERS)
    RETURN_NAMES = ("model", "layers")
    FUNCTION = "apply"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The node's inputs, in ComfyUI's form."""
        return {"required": {"model": ("MODEL", {"tooltip": "Stable Diffusion 1, 2 or XL."})}}

    def apply(self, model: Any) -> tuple[Any, ModelLayers | None]:
        """The patched model and its layers. A model that P+ does not know passes unchanged, without layers."""
        network = getattr(model.model, "diffusion_model", None)
        layers = ModelLayers.of(network)
        if layers is None:
            _log.warning(
                "P+ Apply passes %s unchanged: P+ works with the U-Nets of Stable Diffusion 1, 2 and XL",
                type(network).__name__,
            )
            return model, None
        return apply_patch(model, layers), layers


class Encode:
    """Encode a prompt that has a text for each layer."""

    DESCRIPTION = "Encodes a prompt by layers: default text || coarse: another text. Words in <> are concepts."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "encode"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The node's inputs, in ComfyUI's form."""
        grammar = "default text || <layers>: text; layers: coarse, medium, fine, down, mid, up, names or numbers."
        return {
            "required": {
                "clip": ("CLIP", {"tooltip": "The text encoder of the model."}),
                "layers": (LAYERS, {"tooltip": "The layers of the model, from P+ Apply."}),
                "text": ("STRING", {"multiline": True, "dynamicPrompts": True, "tooltip": grammar}),
            },
            "optional": {"concepts": (CONCEPTS, {"tooltip": "The concepts whose tokens the text may contain."})},
        }

    def encode(self, clip: Any, layers: ModelLayers | None, text: str, concepts: Concepts = ()) -> tuple[Conditioning]:
        """The conditioning. Raises PromptPlusError where the text or a concept cannot be used."""
        if clip is None:
            raise PromptError("P+ Encode got no text encoder: the checkpoint contains none; load one with Load CLIP")
        prompt = PPlusPrompt.parse(text)
        if layers is None:
            _log.warning("P+ Encode takes the default text alone, %r: the model's layers are not known", prompt.default)
            return (encode_default(clip, prompt, concepts),)
        return (encode_prompt(clip, layers, prompt, concepts),)


NODES = {"PPlusLoadConcept": LoadConcept, "PPlusMix": Mix, "PPlusApply": Apply, "PPlusEncode": Encode}
NAMES = {
    "PPlusLoadConcept": "P+ Load Concept",
    "PPlusMix": "P+ Mix",
    "PPlusApply": "P+ Apply",
    "PPlusEncode": "P+ Encode",
}
