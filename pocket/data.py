"""Draw the training pictures once and keep them: uint8 pixels. What they show follows from their seeds."""

import os
import random
import sys
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from promptplus.pocket.world import SIZE, Scene, labels, random_scene, random_test_scene, render

from .common import Options

CHUNK = 128
JUDGE_SHARE = 0.4
VALIDATION = 2000
SEEDS = {"train": 0, "judge": 100_000_000, "validation": 200_000_000}
"""First seed of each set; they never overlap, so the judges see no picture that the model is trained on."""


def scene_of(seed: int) -> Scene:
    """The scene of one seed; validation scenes are of one named thing, as those of the caption test."""
    make = random_test_scene if seed >= SEEDS["validation"] else random_scene
    return make(random.Random(seed))


def draw(seed: int) -> np.ndarray:
    """The picture of one seed, uint8 [64, 64, 3]."""
    return np.asarray(render(scene_of(seed), seed))


def draw_many(first: int, count: int, name: str) -> np.ndarray:
    """`count` pictures, uint8 [N, 64, 64, 3]."""
    pictures = np.empty((count, SIZE, SIZE, 3), np.uint8)
    with Pool(os.cpu_count()) as pool:
        drawn = pool.imap(draw, range(first, first + count), chunksize=CHUNK)
        bar = tqdm(drawn, total=count, desc=f"draw {name}", file=sys.stdout, mininterval=10, ascii=True)
        for i, picture in enumerate(bar):
            pictures[i] = picture
    return pictures


def pictures(work: Path, name: str) -> Tensor:
    """One drawn set, uint8 [N, 64, 64, 3]."""
    return torch.from_numpy(np.load(work / f"{name}.npy"))


def scenes(name: str, count: int) -> list[Scene]:
    """What the first `count` pictures of a set show."""
    return [scene_of(SEEDS[name] + i) for i in range(count)]


def label_table(scenes: list[Scene]) -> Tensor:
    """int64 [N, 5]: the class of each attribute, `scenes.NOT_LABELLED` where there is none."""
    return torch.tensor([labels(scene) for scene in scenes])


def run(options: Options) -> None:
    """Draw the three sets that are not there yet."""
    counts = {
        "train": options.pictures,
        "judge": int(options.pictures * JUDGE_SHARE),
        "validation": min(VALIDATION, options.pictures),
    }
    for name, count in counts.items():
        path = options.work / f"{name}.npy"
        if path.exists():
            continue
        partial = path.with_suffix(".partial.npy")
        np.save(partial, draw_many(SEEDS[name], count, name))
        os.replace(partial, path)
