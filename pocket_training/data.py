"""Draw the training pictures once and keep them: uint8 pixels. What they show follows from their seeds."""

import os
import random
import sys
from dataclasses import replace
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from promptplus.pocket.world import BACKGROUNDS, Scene, labels, random_scene, random_test_scene, render

from .loop import Options

CHUNK = 128
JUDGE_SHARE, VIEWS_SHARE = 0.3, 0.3
"""Pictures for the attribute and CLIP judges and pairs for DINO, as shares of the model's own pictures (our choice)."""
VALIDATION = 2000
SEEDS = {"train": 0, "held": 50_000_000, "judge": 100_000_000, "validation": 200_000_000, "views": 60_000_000}
"""First seed of each set; they never overlap, so the judges see no picture that the model is trained on. "held": as
those of the training, for the U-Net's loss on pictures it has never seen."""


def scene_of(seed: int) -> Scene:
    """The scene of one seed; validation scenes are of one named thing, as those of the caption test."""
    make = random_test_scene if seed >= SEEDS["validation"] else random_scene
    return make(random.Random(seed))


def draw(seed: int) -> np.ndarray:
    """The picture of one seed, uint8 [64, 64, 3]."""
    return np.asarray(render(scene_of(seed), seed))


def draw_views(seed: int) -> np.ndarray:
    """Two pictures of the things of one seed, on other backgrounds and in other poses, uint8 [2, 64, 64, 3]."""
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


def pictures(work: Path, name: str) -> Tensor:
    """One drawn set, uint8 [N, 64, 64, 3]."""
    return torch.from_numpy(np.load(work / f"{name}.npy"))


def views(work: Path) -> Tensor:
    """Pairs of pictures of the same things, uint8 [N, 2, 64, 64, 3]."""
    return pictures(work, "views")


def scenes(name: str, count: int) -> list[Scene]:
    """What the first `count` pictures of a set show."""
    return [scene_of(SEEDS[name] + i) for i in range(count)]


def label_table(scenes: list[Scene]) -> Tensor:
    """int64 [N, 5]: the class of each attribute, `scenes.NOT_LABELLED` where there is none."""
    return torch.tensor([labels(scene) for scene in scenes])


def draw_set(work: Path, name: str, count: int) -> None:
    """Draw a set's first `count` pictures, unless they are there."""
    path = work / f"{name}.npy"
    if path.exists():
        return
    partial = path.with_suffix(".partial.npy")
    np.save(partial, draw_many(SEEDS[name], count, name))
    os.replace(partial, path)


def run(options: Options) -> None:
    """Draw the sets that are not there yet."""
    draw_set(options.work, "train", options.pictures)
    draw_set(options.work, "judge", int(options.pictures * JUDGE_SHARE))
    draw_set(options.work, "validation", min(VALIDATION, options.pictures))
    draw_set(options.work, "views", int(options.pictures * VIEWS_SHARE))
