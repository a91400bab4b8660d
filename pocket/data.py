"""Draw the training pictures once and keep them: uint8 pixels and the scenes they show."""

import os
import random
import sys
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from promptplus.pocket.world import CLASSES, COLOURS, SIZE, Scene, labels, random_scene, render

from .common import Options

CHUNK = 128
TRIM_SHARE = 0.35
"""How many of the objects with a trim get one of a second colour (our choice)."""
JUDGE_SHARE = 0.25
VALIDATION = 2000
SEEDS = {"train": 0, "judge": 100_000_000, "validation": 200_000_000}
"""First seed of each set; they never overlap, so the judge sees no picture that the model is trained on."""
TRIMS = (None, *COLOURS)


def draw(seed: int, held_out: bool = False, trim_share: float = 0) -> tuple[Scene, np.ndarray]:
    """The scene and the picture (uint8 [64, 64, 3]) of one seed."""
    scene = random_scene(random.Random(seed), held_out=held_out, trim_share=trim_share)
    return scene, np.asarray(render(scene, seed))


def draw_many(first: int, count: int, trim_share: float, name: str) -> tuple[np.ndarray, np.ndarray]:
    """`count` pictures, uint8 [N, 64, 64, 3], and their labels, uint8 [N, 6]: five attributes and the trim."""
    pictures = np.empty((count, SIZE, SIZE, 3), np.uint8)
    table = np.empty((count, len(CLASSES) + 1), np.uint8)
    with Pool(os.cpu_count()) as pool:
        drawn = pool.imap(partial(draw, trim_share=trim_share), range(first, first + count), chunksize=CHUNK)
        bar = tqdm(drawn, total=count, desc=f"draw {name}", file=sys.stdout, mininterval=10, ascii=True)
        for i, (scene, picture) in enumerate(bar):
            pictures[i] = picture
            table[i] = (*labels(scene), TRIMS.index(scene.trim))
    return pictures, table


def scene_of(row: list[int]) -> Scene:
    """The scene that a row of labels describes."""
    *attributes, trim = row
    words = [names[i] for names, i in zip(CLASSES.values(), attributes, strict=True)]
    return Scene(*words, trim=TRIMS[trim])


def load(work: Path, name: str) -> tuple[Tensor, Tensor]:
    """One drawn set: pictures uint8 [N, 64, 64, 3] and labels int64 [N, 6]."""
    with np.load(work / f"{name}.npz") as file:
        return torch.from_numpy(file["pictures"]), torch.from_numpy(file["labels"].astype(np.int64))


def run(options: Options) -> None:
    """Draw the three sets that are not there yet."""
    counts = {
        "train": options.pictures,
        "judge": int(options.pictures * JUDGE_SHARE),
        "validation": min(VALIDATION, options.pictures),
    }
    for name, count in counts.items():
        path = options.work / f"{name}.npz"
        if path.exists():
            continue
        pictures, table = draw_many(SEEDS[name], count, 0 if name == "validation" else TRIM_SHARE, name)
        partial_path = path.with_suffix(".partial.npz")
        np.savez(partial_path, pictures=pictures, labels=table)
        os.replace(partial_path, path)
