"""What is looked at while the U-Net is trained: pictures, captions followed, and the loss on pictures never seen."""

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
from .denoising import Denoising
from .loop import Options
from .vae import decode, encode

CHECKED = 500
"""Validation pictures that the colour gate looks at."""
COLOUR_GATE = 0.75
"""Least share of right colours over reconstructions: below it the autoencoder is not worth a U-Net (our choice)."""
FOLLOWED, FOLLOW_SEED = 96, 600_000_000
"""How many captions are tried, and the seed of their scenes: no other set's, so stopping may go by them."""
HELD, HELD_BATCH = 512, 64
"""Pictures of the loss on pictures never seen, and how many are looked at together (our choice)."""
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


def check_colours(options: Options, vae: Any) -> None:
    """Stop before hours of training if reconstructions lost their colours, which the autoencoder's loss cannot tell."""
    pictures = data.pictures(options.work, "validation")[:CHECKED]
    labels = data.label_table(data.scenes("validation", len(pictures)))
    restored = decode(vae, encode(vae, pictures, options.device), options.device)
    scores = judges.accuracy(AttributeJudge.load(options.work / "judge"), restored, labels)
    print("judge, on reconstructions:", scores, flush=True)
    if options.steps is None and scores["colour"] < COLOUR_GATE:
        raise RuntimeError(f"only {scores['colour']:.0%} of the colours survive the autoencoder; train it longer")


def preview(options: Options, pipeline: Any, step: int) -> None:
    """Two pictures of each preview caption, in one file under `previews`."""
    generator = torch.Generator().manual_seed(PREVIEW_SEED)
    given = {"num_inference_steps": PREVIEW_STEPS, "guidance_scale": PREVIEW_GUIDANCE, "generator": generator}
    images = pipeline([*PREVIEWS] * 2, **given).images
    sheet = Image.new("RGB", (len(PREVIEWS) * SIZE, 2 * SIZE))
    for i, image in enumerate(images):
        sheet.paste(image, (i % len(PREVIEWS) * SIZE, i // len(PREVIEWS) * SIZE))
    folder = options.work / "previews"
    folder.mkdir(exist_ok=True)
    sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.NEAREST).save(folder / f"unet-{step:06}.png")


def followed(options: Options, pipeline: Any) -> dict[str, float]:
    """How well full captions are followed, by attribute: to know when more steps do not help."""
    scenes = [random_test_scene(random.Random(FOLLOW_SEED + i)) for i in range(FOLLOWED)]
    pictures: list[Tensor] = []
    for start in range(0, FOLLOWED, 16):
        texts = [full_caption(scene) for scene in scenes[start : start + 16]]
        generators = [torch.Generator().manual_seed(start + i) for i in range(len(texts))]
        made = pipeline(texts, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generators).images
        pictures += [torch.from_numpy(np.asarray(image).copy()) for image in made]
    judge = AttributeJudge.load(options.work / "judge")
    return judges.accuracy(judge, torch.stack(pictures), data.label_table(scenes))


class Unseen:
    """Pictures, captions, noise and timesteps of the training's kind but not of it, the same at every step."""

    def __init__(self, denoising: Denoising, vae: Any) -> None:
        first = data.SEEDS["held"]
        self.denoising, seeds = denoising, range(first, first + HELD)
        generator, rng = torch.Generator().manual_seed(first), random.Random(first)
        pictures = torch.from_numpy(np.stack([data.draw(seed) for seed in seeds]))
        self.clean = encode(vae, pictures, denoising.device) * vae.config.scaling_factor
        self.noise = torch.randn(self.clean.shape, generator=generator)
        self.times = denoising.timesteps(HELD, generator)
        self.texts = [caption(data.scene_of(seed), rng) for seed in seeds]

    @torch.no_grad()
    def loss(self, model: Any) -> dict[str, float]:
        """Loss as the training weighs it, and the mean squared error."""
        errors, weights = [], []
        for start in range(0, len(self.texts), HELD_BATCH):
            part = slice(start, start + HELD_BATCH)
            found = self.denoising.errors(model, self.clean[part], self.noise[part], self.times[part], self.texts[part])
            errors.append(found[0])
            weights.append(found[1])
        error, weight = torch.cat(errors), torch.cat(weights)
        return {"loss": round((error * weight).mean().item(), 5), "mse": round(error.mean().item(), 5)}


def note(options: Options, pipeline: Any, unseen: Unseen, step: int, looks: int) -> None:
    """A sheet of previews, and a line of numbers in `unet-watched.jsonl`."""
    preview(options, pipeline, step)
    model = {"text": pipeline.text_encoder, "unet": pipeline.unet}
    numbers = {"step": step, "looks": looks, **unseen.loss(model), **followed(options, pipeline)}
    with (options.work / "unet-watched.jsonl").open("a") as file:
        file.write(json.dumps(numbers) + "\n")
