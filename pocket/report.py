"""How well the assembled pocket model follows captions, in the judge's eyes.

Pictures of random full captions, beside fresh renders of the same scenes (the judge's own ceiling) and their
reconstructions by the autoencoder (the U-Net's ceiling); then the same on combinations that no training picture had.
"""

import json
import random
import sys
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from promptplus.evaluation.judges import AttributeJudge
from promptplus.generation import GUIDANCE, STEPS
from promptplus.pocket.world import ATTRIBUTES, Scene, caption, labels

from .common import Options
from .data import draw
from .judges import accuracy
from .vae import decode, encode

SEEDS = {"trained combinations": 400_000_000, "held-out combinations": 500_000_000}
BATCH = 20


def generate(pipeline: Any, scenes: list[Scene], seed: int) -> Tensor:
    """One picture for each scene's full caption, uint8 [N, 64, 64, 3]."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    prompts = [caption(scene, rng, full=True) for scene in scenes]
    images: list[Image.Image] = []
    for start in tqdm(range(0, len(prompts), BATCH), desc="generate", file=sys.stdout, mininterval=10, ascii=True):
        images += pipeline(
            prompts[start : start + BATCH],
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=generator,
        ).images
    return torch.from_numpy(np.stack([np.asarray(image) for image in images]))


def save_sheet(options: Options, rows: list[Tensor]) -> None:
    """Renders, reconstructions and generated pictures of the same scenes, one below the other."""
    strips = [torch.cat(list(row[:16]), 1) for row in rows]
    Image.fromarray(torch.cat(strips).numpy()).save(options.work / "previews" / "report.png")


def run(options: Options) -> None:
    """Print the table and write it to `report.json`."""
    pipeline: Any = StableDiffusionPipeline.from_pretrained(
        options.package / "pipeline", dtype=torch.float32, safety_checker=None
    )
    pipeline.to(options.device)
    pipeline.set_progress_bar_config(disable=True)
    judge = AttributeJudge.load(options.package / "judge").to(options.device)
    table: dict[str, dict[str, float]] = {}
    for kind, first in SEEDS.items():
        drawn = [draw(first + i, held_out=kind.startswith("held")) for i in range(options.count)]
        scenes = [scene for scene, _ in drawn]
        truth = torch.tensor([labels(scene) for scene in scenes])
        renders = torch.from_numpy(np.stack([picture for _, picture in drawn]))
        restored = decode(pipeline.vae, encode(pipeline.vae, renders, options.device), options.device)
        generated = generate(pipeline, scenes, first)
        if kind == "trained combinations":
            save_sheet(options, [renders, restored, generated])
        for source, pictures in (
            ("renders", renders),
            ("reconstructions", restored),
            ("generated", generated),
        ):
            table[f"{source}, {kind}"] = accuracy(judge, pictures, truth)
    width = max(map(len, table))
    print("".ljust(width), *(name.rjust(10) for name in ATTRIBUTES))
    for row, scores in table.items():
        print(row.ljust(width), *(f"{scores[name]:10.3f}" for name in ATTRIBUTES))
    settings = {"pictures": options.count, "steps": STEPS, "guidance": GUIDANCE}
    (options.work / "report.json").write_text(json.dumps({"settings": settings, "accuracy": table}, indent=2) + "\n")
