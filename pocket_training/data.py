"""Stage `data`: draw the pictures of each set and store them as uint8 pixels. A seed decides scene and picture."""

import os
import random
import sys
from dataclasses import replace
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor
from tqdm import tqdm

from promptplus.pocket.world import BACKGROUNDS, Scene, labels, random_scene, random_test_scene, render

from .loop import TrainingConfig

CHUNK = 128
"""Pictures that a process draws at a time."""
JUDGE_SHARE, VIEWS_SHARE = 0.3, 0.3
"""Number of pictures for the attribute judge and the judge CLIP, and of pairs for the judge DINO, as shares of the
number of training pictures (our choice)."""
VALIDATION = 2000
"""Number of validation pictures."""
SEEDS = {"train": 0, "held": 50_000_000, "judge": 100_000_000, "validation": 200_000_000, "views": 60_000_000}
"""First seed of each set. The sets do not overlap, so no judge sees a picture that the model is trained on. "held" are
pictures like those of "train", for the U-Net's validation loss."""


def scene_of(seed: int) -> Scene:
    """The scene of a seed. Validation scenes show one named thing, like those of the caption test."""
    make = random_test_scene if seed >= SEEDS["validation"] else random_scene
    return make(random.Random(seed))


def draw(seed: int) -> np.ndarray:
    """The picture of a seed, uint8 [64, 64, 3]."""
    return np.asarray(render(scene_of(seed), seed))


def draw_views(seed: int) -> np.ndarray:
    """Two pictures of the things of a seed, on different backgrounds and in different poses, uint8 [2, 64, 64, 3]."""
    scene, rng = scene_of(seed), random.Random(seed)
    places = rng.sample(BACKGROUNDS, 2)
    drawn = [render(replace(scene, background=place), 10 * seed + i) for i, place in enumerate(places)]
    return np.stack([np.asarray(picture) for picture in drawn])


def draw_many(first: int, count: int, name: str) -> np.ndarray:
    """`count` pictures, uint8 [N, 64, 64, 3], or pairs of views, uint8 [N, 2, 64, 64, 3]."""
    one = draw_views if name == "views" else draw
    pictures = np.empty((count, *one(first).shape), np.uint8)
    with Pool(os.cpu_count()) as pool:
        drawn = pool.imap(one, range(first, first + count), chunksize=CHUNK)
        bar = tqdm(drawn, total=count, desc=f"draw {name}", file=sys.stdout, mininterval=10, ascii=True)
        for i, picture in enumerate(bar):
            pictures[i] = picture
    return pictures


def pictures(work: Path, name: str) -> UInt8[Tensor, "*pictures 64 64 3"]:
    """A stored set of pictures (or of pairs, see `views`)."""
    return torch.from_numpy(np.load(work / f"{name}.npy"))


def views(work: Path) -> UInt8[Tensor, "pairs 2 64 64 3"]:
    """The stored pairs of pictures of the same things."""
    return pictures(work, "views")


def scenes(name: str, count: int) -> list[Scene]:
    """The scenes of the first `count` pictures of a set."""
    return [scene_of(SEEDS[name] + i) for i in range(count)]


def label_table(scenes: list[Scene]) -> Int[Tensor, "scenes 5"]:
    """The class index of each attribute (see `world.labels`)."""
    return torch.tensor([labels(scene) for scene in scenes])


def draw_set(work: Path, name: str, count: int) -> None:
    """Draw the first `count` pictures of a set, unless its file exists."""
    path = work / f"{name}.npy"
    if path.exists():
        return
    partial = path.with_suffix(".partial.npy")
    np.save(partial, draw_many(SEEDS[name], count, name))
    os.replace(partial, path)


def run(config: TrainingConfig) -> None:
    """Draw the sets whose files do not exist."""
    draw_set(config.work, "train", config.pictures)
    draw_set(config.work, "judge", int(config.pictures * JUDGE_SHARE))
    draw_set(config.work, "validation", min(VALIDATION, config.pictures))
    draw_set(config.work, "views", int(config.pictures * VIEWS_SHARE))
