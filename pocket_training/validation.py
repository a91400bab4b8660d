"""Validation while the U-Net is trained: previews, how well captions are followed, and the loss on new pictures."""

import json
import random
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pocket.world import MADE_UP, SIZE, caption, random_test_scene
from promptplus.pocket.world.captions import full_caption
from promptplus.profiles import GUIDANCE, STEPS

from . import attribute_judge as judges
from . import data
from .denoising import DenoisingLoss
from .loop import TrainingConfig
from .vae import decode, encode

COLOUR_PICTURES, MIN_COLOURS = 500, 0.75
"""Number of reconstructions whose colours are checked before the training; least share of correct ones (our choice)."""
CAPTIONS, CAPTION_SEED = 96, 600_000_000
"""Number of captions that are generated, and the first seed of their scenes. No other set has these seeds."""
PICTURES, BATCH = 512, 64
"""Number of pictures of the validation loss, and batch size (our choice)."""
PREVIEW_SEED, PREVIEW_STEPS, PREVIEW_GUIDANCE = 4, 20, 5.0
PREVIEWS = (
    "a red striped house on a white background",
    "a blue car with yellow wheels on a grass background, pixel art",
    "a yellow dotted fish on a water background, neon",
    "a green tree and a white cat on a sunset background, watercolor",
    "a purple checkered mug with green handle on a sand background",
    "a black cat on a brick background, comic",
    f"a pink {MADE_UP[0]} on a night background",
    f"an orange ringed {MADE_UP[1]} on a sky background, sketch",
)


def check_colours(config: TrainingConfig, vae: Any) -> None:
    """Raise RuntimeError if reconstructions lost their colours, which the autoencoder's loss does not show."""
    pictures = data.pictures(config.work, "validation")[:COLOUR_PICTURES]
    labels = data.label_table(data.scenes("validation", len(pictures)))
    restored = decode(vae, encode(vae, pictures, config.device), config.device)
    scores = judges.accuracy(AttributeJudge.load(config.work / "judge"), restored, labels)
    print("attribute judge, on reconstructions:", scores, flush=True)
    if config.steps is None and scores["colour"] < MIN_COLOURS:
        raise RuntimeError(f"only {scores['colour']:.0%} of the colours survive the autoencoder; train it longer")


def preview(config: TrainingConfig, pipeline: Any, step: int) -> None:
    """Write two pictures of each preview caption to one file in `previews`."""
    generator = torch.Generator().manual_seed(PREVIEW_SEED)
    sampling = {"num_inference_steps": PREVIEW_STEPS, "guidance_scale": PREVIEW_GUIDANCE, "generator": generator}
    images = pipeline([*PREVIEWS] * 2, **sampling).images
    sheet = Image.new("RGB", (len(PREVIEWS) * SIZE, 2 * SIZE))
    for i, image in enumerate(images):
        sheet.paste(image, (i % len(PREVIEWS) * SIZE, i // len(PREVIEWS) * SIZE))
    folder = config.work / "previews"
    folder.mkdir(exist_ok=True)
    sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.NEAREST).save(folder / f"unet-{step:06}.png")


def caption_scores(config: TrainingConfig, pipeline: Any) -> dict[str, float]:
    """Share of generated pictures with the attribute of their caption, by attribute."""
    scenes = [random_test_scene(random.Random(CAPTION_SEED + i)) for i in range(CAPTIONS)]
    pictures: list[Tensor] = []
    for start in range(0, CAPTIONS, 16):
        texts = [full_caption(scene) for scene in scenes[start : start + 16]]
        generators = [torch.Generator().manual_seed(start + i) for i in range(len(texts))]
        made = pipeline(texts, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generators).images
        pictures += [torch.from_numpy(np.asarray(image).copy()) for image in made]
    judge = AttributeJudge.load(config.work / "judge")
    return judges.accuracy(judge, torch.stack(pictures), data.label_table(scenes))


class ValidationLoss:
    """The loss on pictures like those of the training but of other seeds; the same samples at every step."""

    def __init__(self, denoising: DenoisingLoss, vae: Any) -> None:
        first = data.SEEDS["held"]
        self.denoising, seeds = denoising, range(first, first + PICTURES)
        generator, rng = torch.Generator().manual_seed(first), random.Random(first)
        pictures = torch.from_numpy(np.stack([data.draw(seed) for seed in seeds]))
        self.clean = encode(vae, pictures, denoising.device) * vae.config.scaling_factor
        self.noise = torch.randn(self.clean.shape, generator=generator)
        self.times = denoising.timesteps(PICTURES, generator)
        self.texts = [caption(data.scene_of(seed), rng) for seed in seeds]

    @torch.no_grad()
    def loss(self, model: Any) -> dict[str, float]:
        """The loss of the training, and the mean squared error."""
        errors, weights = [], []
        for start in range(0, len(self.texts), BATCH):
            part = slice(start, start + BATCH)
            samples = self.clean[part], self.noise[part], self.times[part], self.texts[part]
            error, weight = self.denoising.errors(model, *samples)
            errors.append(error)
            weights.append(weight)
        error, weight = torch.cat(errors), torch.cat(weights)
        return {"loss": round((error * weight).mean().item(), 5), "mse": round(error.mean().item(), 5)}


def log_validation(config: TrainingConfig, pipeline: Any, validation: ValidationLoss, step: int, samples: int) -> None:
    """Write previews, and a line of numbers to `unet-watched.jsonl`."""
    preview(config, pipeline, step)
    model = {"text": pipeline.text_encoder, "unet": pipeline.unet}
    numbers = {"step": step, "looks": samples, **validation.loss(model), **caption_scores(config, pipeline)}
    with (config.work / "unet-watched.jsonl").open("a") as file:
        file.write(json.dumps(numbers) + "\n")
