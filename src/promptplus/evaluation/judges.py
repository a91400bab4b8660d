"""Judges: models that embed pictures and texts, to measure similarity.

`ClipJudge` and `DinoJudge` load any transformers folder or hub id: the pocket's own judges, or CLIP ViT-B/32 and DINO
ViT-S/16 for real models. The pocket's `AttributeJudge`, which classifies drawings, is in `promptplus.pocket`.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from promptplus.errors import ModelError
from promptplus.pocket import CLIP, DINO
from promptplus.text_files import read_json

BATCH = 256  # pictures per forward pass


def _load_pocket_clip(folder: Path) -> nn.Module:
    from promptplus.pocket.clip_judge import ClipModel  # only for a folder of the pocket's

    return ClipModel.load(folder)


CLIP_LOADERS: dict[str, Callable[[Path], nn.Module]] = {"drawn-clip": _load_pocket_clip}
"""Functions that load a CLIP which transformers does not know, by the `model_type` in its folder's `config.json`."""


def _model_type(source: str | Path) -> str:
    """The `model_type` of a local folder; empty for a hub id. Raises ModelError on a damaged `config.json`."""
    path = Path(source) / "config.json"
    if not path.is_file():
        return ""
    config = read_json(path, dict[str, Any], ModelError, "is no model's description", finite=False)
    return str(config.get("model_type", ""))


class DinoJudge:
    """Picture features for subject similarity: the class token of a DINO model (paper section 4: DINO ViT-S/16)."""

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model, processor

    @classmethod
    def load(cls, source: str | Path = DINO, device: str = "cpu") -> Self:
        """Load a folder or hub id, such as ``facebook/dino-vits16``, in float32 and eval mode."""
        from transformers import ViTImageProcessorPil, ViTModel  # slow to import: only where a judge is needed

        model: Any = ViTModel.from_pretrained(source, add_pooling_layer=False, dtype=torch.float32)
        return cls(model.to(device).eval(), ViTImageProcessorPil.from_pretrained(source))

    @torch.no_grad()
    def embed(self, images: Sequence[Image.Image]) -> Float[Tensor, "images width"]:
        """Features of unit length, on the CPU; their cosine is the similarity of two pictures."""
        parts = []
        for pixels in _batches(self.processor, images, self.model.device):
            parts.append(self.model(pixel_values=pixels).last_hidden_state[:, 0].cpu())
        return nn.functional.normalize(torch.cat(parts), dim=-1)


class ClipJudge:
    """Picture and text features in CLIP's shared space, for text similarity."""

    def __init__(self, model: Any, processor: Any, tokenizer: Any) -> None:
        self.model, self.processor, self.tokenizer = model, processor, tokenizer

    @classmethod
    def load(cls, source: str | Path = CLIP, device: str = "cpu") -> Self:
        """Load a folder or hub id, such as ``openai/clip-vit-base-patch32``, in float32 and eval mode."""
        from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer  # slow, as above

        load = CLIP_LOADERS.get(_model_type(source))
        model: Any = load(Path(source)) if load else CLIPModel.from_pretrained(source, dtype=torch.float32)
        processor, tokenizer = (part.from_pretrained(source) for part in (CLIPImageProcessorPil, CLIPTokenizer))
        return cls(model.to(device).eval(), processor, tokenizer)

    @torch.no_grad()
    def embed(self, images: Sequence[Image.Image]) -> Float[Tensor, "images width"]:
        """Picture features of unit length, on the CPU."""
        batches = _batches(self.processor, images, self.model.device)
        parts = [self.model.get_image_features(pixel_values=pixels).pooler_output.cpu() for pixels in batches]
        return nn.functional.normalize(torch.cat(parts), dim=-1)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "texts width"]:
        """Text features of unit length, on the CPU; texts longer than CLIP's context are truncated."""
        ids = self.tokenizer(list(texts), padding="max_length", truncation=True, return_tensors="pt").input_ids
        features = self.model.get_text_features(input_ids=ids.to(self.model.device)).pooler_output.cpu()
        return nn.functional.normalize(features, dim=-1)


def _batches(
    processor: Any, images: Sequence[Image.Image], device: torch.device
) -> Iterator[Float[Tensor, "batch 3 height width"]]:
    """Preprocessed pixels of the pictures, batch by batch."""
    for start in range(0, len(images), BATCH):
        part = [image.convert("RGB") for image in images[start : start + BATCH]]
        yield processor(part, return_tensors="pt").pixel_values.to(device)
