"""Training of the attribute judge: a classifier of renders that is robust to the flaws of generated pictures.

It is trained on renders of its own seeds, with noise, blur, shifts and JPEG compression. It never sees a picture from
the autoencoder or the U-Net, because those are the pictures it has to judge.
"""

import io

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pocket.world import ATTRIBUTES, CLASSES

from . import data
from .loop import Training, TrainingConfig, autocast, channels_last, to_pixels

STEPS, BATCH, PEAK, WARMUP, SEED = 4000, 96, 2e-3, 30, 3
WEIGHT_DECAY, SMOOTHING = 0.02, 0.02
"""All training settings are our choice. SMOOTHING: label smoothing of the cross-entropy."""
NOISE, SHIFT = 0.12, 4
"""Greatest standard deviation of the noise; greatest shift in pixels (our choice)."""
BLURRED, COMPRESSED, SHRUNK = 0.33, 0.33, 0.15
"""Probabilities that a picture is blurred, compressed as JPEG, scaled to half size and back (our choice)."""
QUALITY = (25, 90)
"""Least and greatest JPEG quality."""


def compress(picture: np.ndarray, quality: int) -> np.ndarray:
    """A picture, uint8 [64, 64, 3], compressed as JPEG and decoded again."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def augment(pictures: UInt8[Tensor, "batch 64 64 3"], training: Training) -> Float[Tensor, "batch 3 64 64"]:
    """Pixels in [-1, 1] with random noise, blur, shifts and compression; `training` gives the random generators."""
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
def accuracy(
    judge: AttributeJudge, pictures: UInt8[Tensor, "pictures 64 64 3"], labels: Int[Tensor, "pictures 5"]
) -> dict[str, float]:
    """Share of pictures that the judge classifies correctly, by attribute; labels as of `data.label_table`."""
    device = next(judge.parameters()).device
    parts = [judge(to_pixels(part, device)) for part in pictures.split(BATCH)]
    answers = {name: torch.cat([part[name] for part in parts]).argmax(1).cpu() for name in ATTRIBUTES}
    return {name: round((answers[name] == labels[:, i]).float().mean().item(), 3) for i, name in enumerate(ATTRIBUTES)}


def run(config: TrainingConfig) -> None:
    """Train the attribute judge and write the folder `judge`."""
    torch.manual_seed(SEED)
    judge = channels_last(AttributeJudge(CLASSES), config.device)
    pictures = data.pictures(config.work, "judge")
    labels = data.label_table(data.scenes("judge", len(pictures)))
    training = Training(
        "judge",
        judge,
        config,
        steps=config.steps or STEPS,
        peak=PEAK,
        warmup=WARMUP,
        seed=SEED,
        weight_decay=WEIGHT_DECAY,
    )
    for _ in training:
        chosen = torch.randint(len(pictures), (BATCH,), generator=training.generator)
        pixels = augment(pictures[chosen], training).to(config.device)
        truth = labels[chosen].to(config.device)
        with autocast(config.device):
            logits = judge(pixels)
        losses = [
            F.cross_entropy(logits[name].float(), truth[:, i], label_smoothing=SMOOTHING)
            for i, name in enumerate(ATTRIBUTES)
        ]
        training.update(torch.stack(losses).sum())
    judge.save(config.work / "judge")
    renders = data.pictures(config.work, "validation")
    truth = data.label_table(data.scenes("validation", len(renders)))
    print("attribute judge, on validation renders:", accuracy(judge, renders, truth), flush=True)
