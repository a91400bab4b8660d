"""Judges: models that look at a picture and say what is in it, what it is like, or how well words fit it.

`AttributeJudge` knows the drawn world alone. `ClipJudge` and `DinoJudge` load any transformers folder or hub id: the
pocket's own, or CLIP ViT-B/32 and DINO ViT-S/16 for real models.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from promptplus import pocket

CHANNELS = (32, 48, 96, 96, 128, 128, 160, 160)
"""Widths of the eight convolutions; every other one halves the picture (pocket spike)."""
WIDTH = 192
SIZE = 64
BATCH = 256


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class AttributeJudge(nn.Module):
    """A small convolutional classifier of the drawn world: one head for each attribute.

    It was trained on renders only, never on pictures that a model made, so it may judge those.
    """

    def __init__(self, classes: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.classes = {attribute: tuple(words) for attribute, words in classes.items()}
        inputs = (3, *CHANNELS[:-1])
        self.trunk = nn.Sequential(
            *(_convolution(i, o, 1 + (n + 1) % 2) for n, (i, o) in enumerate(zip(inputs, CHANNELS, strict=True)))
        )
        grid = SIZE // 2 ** (len(CHANNELS) // 2)
        self.neck = nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS[-1] * grid**2, WIDTH), nn.ReLU(inplace=True))
        self.heads = nn.ModuleDict({name: nn.Linear(WIDTH, len(words)) for name, words in self.classes.items()})

    def features(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] in [-1, 1] → features [B, 192]; other sizes than 64 x 64 are resized."""
        if pixels.shape[-2:] != (SIZE, SIZE):
            pixels = nn.functional.interpolate(pixels, (SIZE, SIZE), mode="bilinear", antialias=True)
        return self.neck(self.trunk(pixels))

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Pixels [B, 3, H, W] in [-1, 1] → logits [B, classes] for each attribute."""
        features = self.features(pixels)
        return {name: head(features) for name, head in self.heads.items()}

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """Pictures of any size → [N, 3, 64, 64] in [-1, 1], on the judge's device."""
        resized = [image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BOX) for image in images]
        stacked = torch.from_numpy(np.stack([np.asarray(image) for image in resized]))
        return (stacked.permute(0, 3, 1, 2).float() / 127.5 - 1).to(next(self.parameters()).device)

    @torch.no_grad()
    def classify(self, images: Sequence[Image.Image]) -> dict[str, list[str]]:
        """The likeliest word of each attribute for each picture."""
        answers: dict[str, list[str]] = {name: [] for name in self.classes}
        for start in range(0, len(images), BATCH):
            for name, logits in self(self.pixels(images[start : start + BATCH])).items():
                answers[name] += [self.classes[name][i] for i in logits.argmax(1).tolist()]
        return answers

    @torch.no_grad()
    def embed(self, images: Sequence[Image.Image]) -> Tensor:
        """Features [N, 192] of unit length: their cosine says how alike two pictures are."""
        parts = [self.features(self.pixels(images[i : i + BATCH])) for i in range(0, len(images), BATCH)]
        return nn.functional.normalize(torch.cat(parts), dim=-1)

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` in half precision and `config.json` with the class words."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {k: v.half() if v.is_floating_point() else v for k, v in self.state_dict().items()}
        save_file({k: v.contiguous() for k, v in state.items()}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"classes": self.classes}, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path = pocket.JUDGE) -> Self:
        """Read what `save` wrote: float32, eval mode, on the CPU."""
        judge = cls(json.loads((folder / "config.json").read_text())["classes"])
        judge.load_state_dict(load_file(folder / "model.safetensors"))
        return judge.float().eval()


class DinoJudge:
    """Likeness: the class token of a vision transformer trained without labels (paper section 4: DINO ViT-S/16)."""

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model, processor

    @classmethod
    def load(cls, source: str | Path = pocket.DINO, device: str = "cpu") -> Self:
        """From a folder or hub id, such as ``facebook/dino-vits16``; float32, eval mode."""
        from transformers import ViTImageProcessorPil, ViTModel  # slow to import: only where a judge is asked for

        model: Any = ViTModel.from_pretrained(source, add_pooling_layer=False, dtype=torch.float32)
        return cls(model.to(device).eval(), ViTImageProcessorPil.from_pretrained(source))

    @torch.no_grad()
    def embed(self, images: Sequence[Image.Image]) -> Tensor:
        """Features [N, D] of unit length, on the CPU: their cosine says how alike two pictures are."""
        parts = []
        for pixels in _batches(self.processor, images, self.model.device):
            parts.append(self.model(pixel_values=pixels).last_hidden_state[:, 0].cpu())
        return nn.functional.normalize(torch.cat(parts), dim=-1)


class ClipJudge:
    """How well words fit a picture: CLIP's shared space of texts and pictures."""

    def __init__(self, model: Any, processor: Any, tokenizer: Any) -> None:
        self.model, self.processor, self.tokenizer = model, processor, tokenizer

    @classmethod
    def load(cls, source: str | Path = pocket.CLIP, device: str = "cpu") -> Self:
        """From a folder or hub id, such as ``openai/clip-vit-base-patch32``; float32, eval mode."""
        from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer  # slow, as above

        from promptplus.evaluation.drawn_clip import DrawnClip  # which has a judge's tower

        own = DrawnClip.is_in(source)
        model: Any = DrawnClip.load(Path(source)) if own else CLIPModel.from_pretrained(source, dtype=torch.float32)
        processor, tokenizer = (part.from_pretrained(source) for part in (CLIPImageProcessorPil, CLIPTokenizer))
        return cls(model.to(device).eval(), processor, tokenizer)

    @torch.no_grad()
    def embed(self, images: Sequence[Image.Image]) -> Tensor:
        """Picture features [N, D] of unit length, on the CPU."""
        batches = _batches(self.processor, images, self.model.device)
        parts = [self.model.get_image_features(pixel_values=pixels).pooler_output.cpu() for pixels in batches]
        return nn.functional.normalize(torch.cat(parts), dim=-1)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Text features [N, D] of unit length, on the CPU; texts beyond the context are cut, as CLIP's own are."""
        ids = self.tokenizer(list(texts), padding="max_length", truncation=True, return_tensors="pt").input_ids
        features = self.model.get_text_features(input_ids=ids.to(self.model.device)).pooler_output.cpu()
        return nn.functional.normalize(features, dim=-1)


def _batches(processor: Any, images: Sequence[Image.Image], device: Any) -> Iterator[Tensor]:
    """Pixels as `processor` makes them, a batch at a time."""
    for start in range(0, len(images), BATCH):
        part = [image.convert("RGB") for image in images[start : start + BATCH]]
        yield processor(part, return_tensors="pt").pixel_values.to(device)
