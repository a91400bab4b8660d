"""The attribute judge: a small convolutional classifier of pictures of the drawn world."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from pydantic import BaseModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from promptplus.errors import ModelError
from promptplus.pocket import JUDGE
from promptplus.text_files import read_json

CHANNELS = (32, 48, 96, 96, 128, 128, 160, 160)
"""Channels of the eight convolutions; every second one has stride 2 (our choice)."""
WIDTH = 192
"""Width of the features."""
SIZE = 64
"""Width and height of the pictures it takes."""
BATCH = 256
"""Pictures that are judged at once."""


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class JudgeConfig(BaseModel):
    """The content of the judge's `config.json`: the words of each attribute."""

    classes: dict[str, list[str]]


class AttributeJudge(nn.Module):
    """A convolutional classifier with one head for each attribute.

    It is trained on renders only and never sees a picture that a model generated, so it can judge those.

    Args:
        classes: the words of each attribute, in the order of the head's outputs.
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

    def features(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 192"]:
        """Features of pixels in [-1, 1]; pictures of other sizes than 64 x 64 are resized."""
        if pixels.shape[-2:] != (SIZE, SIZE):
            pixels = nn.functional.interpolate(pixels, (SIZE, SIZE), mode="bilinear", antialias=True)
        return self.neck(self.trunk(pixels))

    def forward(self, pixels: Float[Tensor, "batch 3 height width"]) -> dict[str, Float[Tensor, "batch _"]]:
        """Logits [batch, classes] for each attribute; pixels in [-1, 1]."""
        features = self.features(pixels)
        return {name: head(features) for name, head in self.heads.items()}

    def pixels(self, images: Sequence[Image.Image]) -> Float[Tensor, "batch 3 64 64"]:
        """Pixels in [-1, 1] of pictures of any size, on the judge's device."""
        resized = [image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BOX) for image in images]
        stacked = torch.from_numpy(np.stack([np.asarray(image) for image in resized]))
        return (stacked.permute(0, 3, 1, 2).float() / 127.5 - 1).to(next(self.parameters()).device)

    @torch.no_grad()
    def classify(self, images: Sequence[Image.Image]) -> dict[str, list[str]]:
        """The most probable word for each picture, by attribute."""
        answers: dict[str, list[str]] = {name: [] for name in self.classes}
        for start in range(0, len(images), BATCH):
            for name, logits in self(self.pixels(images[start : start + BATCH])).items():
                answers[name] += [self.classes[name][i] for i in logits.argmax(1).tolist()]
        return answers

    @torch.no_grad()
    def embed(self, images: Sequence[Image.Image]) -> Float[Tensor, "pictures 192"]:
        """Features of unit length. Their cosine measures how similar two pictures are."""
        parts = [self.features(self.pixels(images[i : i + BATCH])) for i in range(0, len(images), BATCH)]
        return nn.functional.normalize(torch.cat(parts), dim=-1)

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` in half precision and `config.json` with the class words."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {k: v.half() if v.is_floating_point() else v for k, v in self.state_dict().items()}
        save_file({k: v.contiguous() for k, v in state.items()}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"classes": self.classes}, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path = JUDGE) -> Self:
        """Read a folder that `save` wrote: float32, eval mode, on the CPU."""
        judge = cls(read_json(folder / "config.json", JudgeConfig, ModelError, "is no judge's description").classes)
        judge.load_state_dict(load_file(folder / "model.safetensors"))
        return judge.float().eval()
