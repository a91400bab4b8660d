"""The attribute judge: a small classifier of renders, hardened against the blemishes of generated pictures.

It sees renders only, drawn from seeds of its own, with noise, blur, shifts and JPEG compression; never a picture that
came out of the autoencoder or the U-Net, for those it has to judge.
"""

import io

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pocket.world import ATTRIBUTES, CLASSES

from . import data
from .loop import Options, Training, autocast, channels_last, to_pixels

STEPS, BATCH, PEAK, WARMUP, SEED = 4000, 96, 2e-3, 30, 3
WEIGHT_DECAY, SMOOTHING = 0.02, 0.02
NOISE, SHIFT = 0.12, 4
"""Noise of a deviation up to .12, shifts of up to four pixels (spike: .08 and four)."""
BLURRED, COMPRESSED, SHRUNK = 0.33, 0.33, 0.15
"""Shares of the pictures that are blurred, pass through JPEG, are halved and enlarged again (our choice)."""
QUALITY = (25, 90)


def compress(picture: np.ndarray, quality: int) -> np.ndarray:
    """uint8 [64, 64, 3] through JPEG and back."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def blemish(pictures: Tensor, training: Training) -> Tensor:
    """uint8 [B, 64, 64, 3] → [B, 3, 64, 64] in [-1, 1], each picture with its own blemishes."""
    rng, generator = training.rng, training.generator
    array = pictures.numpy().copy()
    for i in range(len(array)):
        if rng.random() < COMPRESSED:
            array[i] = compress(array[i], rng.randint(*QUALITY))
    pixels = to_pixels(torch.from_numpy(array), torch.device("cpu"))
    blurred = torch.rand(len(pixels), 1, 1, 1, generator=generator) < BLURRED
    pixels = torch.where(blurred, F.avg_pool2d(pixels, 3, 1, 1, count_include_pad=False), pixels)
    shrunk = torch.rand(len(pixels), 1, 1, 1, generator=generator) < SHRUNK
    pixels = torch.where(shrunk, F.interpolate(F.avg_pool2d(pixels, 2), scale_factor=2, mode="bilinear"), pixels)
    pixels = torch.roll(pixels, [rng.randint(-SHIFT, SHIFT) for _ in range(2)], (2, 3))
    strength = NOISE * torch.rand(len(pixels), 1, 1, 1, generator=generator)
    return pixels + strength * torch.randn(pixels.shape, generator=generator)


@torch.no_grad()
def accuracy(judge: AttributeJudge, pictures: Tensor, labels: Tensor) -> dict[str, float]:
    """Share of the pictures (uint8 [N, 64, 64, 3]) whose attribute the judge names right, for each attribute."""
    device = next(judge.parameters()).device
    parts = [judge(to_pixels(part, device)) for part in pictures.split(BATCH)]
    answers = {name: torch.cat([part[name] for part in parts]).argmax(1).cpu() for name in ATTRIBUTES}
    return {name: round((answers[name] == labels[:, i]).float().mean().item(), 3) for i, name in enumerate(ATTRIBUTES)}


def run(options: Options) -> None:
    """Train, and write the folder `judge`."""
    torch.manual_seed(SEED)
    judge = channels_last(AttributeJudge(CLASSES), options.device)
    pictures = data.pictures(options.work, "judge")
    labels = data.label_table(data.scenes("judge", len(pictures)))
    training = Training(
        "judge",
        judge,
        options,
        steps=options.steps or STEPS,
        peak=PEAK,
        warmup=WARMUP,
        seed=SEED,
        weight_decay=WEIGHT_DECAY,
    )
    for _ in training:
        chosen = torch.randint(len(pictures), (BATCH,), generator=training.generator)
        pixels = blemish(pictures[chosen], training).to(options.device)
        truth = labels[chosen].to(options.device)
        with autocast(options.device):
            logits = judge(pixels)
        losses = [
            F.cross_entropy(logits[name].float(), truth[:, i], label_smoothing=SMOOTHING)
            for i, name in enumerate(ATTRIBUTES)
        ]
        training.update(torch.stack(losses).sum())
    judge.save(options.work / "judge")
    shown = data.pictures(options.work, "validation")
    truth = data.label_table(data.scenes("validation", len(shown)))
    print("judge, on validation renders:", accuracy(judge, shown, truth), flush=True)
