"""Pictures and captions that other processes draw ahead of a training on a GPU."""

import multiprocessing
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from transformers import CLIPTokenizer

from promptplus.pocket.world import caption

from . import data
from .text_encoder import token_ids

CHUNK = 100
"""Pictures that a process draws at a time."""
CAPTIONS = 6
"""Captions of each picture. A training step chooses one of them (our choice)."""
SPARE = 2
"""Cores that are left to the training."""

Drawn = tuple[np.ndarray, np.ndarray]
"""Pictures, uint8 [CHUNK, 64, 64, 3], and token ids of their captions, int32 [CHUNK, CAPTIONS, 40]."""

_tokenizer: CLIPTokenizer


def _prepare(folder: Path) -> None:
    global _tokenizer
    os.nice(19)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _tokenizer = CLIPTokenizer.from_pretrained(folder)


def draw_chunk(first: int) -> Drawn:
    """Draw the training pictures `first` to `first + CHUNK - 1`, and write captions for them."""
    seeds = [data.SEEDS["train"] + i for i in range(first, first + CHUNK)]
    texts: list[str] = []
    for seed in seeds:
        scene, rng = data.scene_of(seed), random.Random(f"captions/{seed}")
        texts += [caption(scene, rng) for _ in range(CAPTIONS)]
    ids = token_ids(_tokenizer, texts).numpy().astype(np.int32)
    return np.stack([data.draw(seed) for seed in seeds]), ids.reshape(CHUNK, CAPTIONS, -1)


class PictureStream:
    """An iterator of `Drawn`, in the order of the seeds, whatever the number of processes.

    Args:
        tokenizer: folder of the tokenizer.
        count: number of pictures in all, a multiple of `CHUNK`.
    """

    def __init__(self, tokenizer: Path, count: int) -> None:
        context = multiprocessing.get_context("spawn")  # a forked process could not follow one that uses a GPU
        workers = max(1, (os.cpu_count() or 1) - SPARE)
        self.pool = context.Pool(workers, _prepare, (tokenizer,))
        self.chunks: Iterator[Drawn] = self.pool.imap(draw_chunk, range(0, count, CHUNK))

    def __iter__(self) -> Iterator[Drawn]:
        return self.chunks

    def __next__(self) -> Drawn:
        return next(self.chunks)

    def close(self) -> None:
        """Stop the processes."""
        self.pool.terminate()
        self.pool.join()
