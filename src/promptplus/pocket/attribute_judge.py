"""The attribute judge: a small classifier of the drawn world."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from promptplus.pocket import JUDGE

CHANNELS = (32, 48, 96, 96, 128, 128, 160, 160)
"""Widths of the eight convolutions; every other one halves the picture (pocket spike)."""


WIDTH = 192


SIZE = 64


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
    def load(cls, folder: Path = JUDGE) -> Self:
        """Read what `save` wrote: float32, eval mode, on the CPU."""
        judge = cls(json.loads((folder / "config.json").read_text())["classes"])
        judge.load_state_dict(load_file(folder / "model.safetensors"))
        return judge.float().eval()


BATCH = 256
