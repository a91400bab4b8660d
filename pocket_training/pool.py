"""A file of latents that grows while the U-Net is trained: its training pictures are drawn during training.

Entry i contains the latents of the picture of seed i. A training step chooses from the first `pool_size(step)` entries
only. So its batch depends on (seed, step) only, and a run that was killed continues with the same results.
"""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from . import data
from .loop import first_rank, rank, wait, world_size
from .vae import LATENT_CHANNELS, LATENT_SIZE, encode

FIRST, FRESH, EVERY = 20_000, 80, 16
"""Number of pictures at the first step (a multiple of `FRESH`); `FRESH` new pictures every `EVERY` steps. Drawing takes
12 ms per picture, training 40 ms per sample; after three million samples there are 470,000 pictures (our choice,
docs/log.md)."""
SHAPE = (LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)
BYTES = 2 * LATENT_CHANNELS * LATENT_SIZE**2
"""Size of an entry, in half precision."""


def pool_size(step: int) -> int:
    """The number of pictures that `step` chooses from."""
    return FIRST + FRESH * (step // EVERY)


class Pool:
    """Latents of training pictures, [8, 16, 16] each, as float16 in the file `path`. All processes draw and encode."""

    def __init__(self, path: Path, vae: Any, device: torch.device) -> None:
        self.path, self.vae, self.device = path, vae, device
        stored = path.stat().st_size // BYTES if path.exists() else 0
        self.complete = stored // FRESH * FRESH  # an incomplete last part is drawn again
        self.latents = self.open_file()

    def open_file(self) -> np.ndarray:
        """A memory map of the complete entries of the file."""
        if not self.complete:
            return np.empty((0, *SHAPE), np.float16)
        return np.memmap(self.path, np.float16, "r", shape=(self.complete, *SHAPE))

    def grow(self, count: int) -> None:
        """Draw until there are `count` pictures; `count` is a multiple of `FRESH`."""
        missing = range(self.complete, count, FRESH)
        if not missing:
            return
        for first in tqdm(missing, "draw", file=sys.stdout, mininterval=10, ascii=True, disable=len(missing) == 1):
            latents = self.draw(first)
            if first_rank():
                self.write(first, latents)
        wait()
        self.complete = missing[-1] + FRESH
        self.latents = self.open_file()

    def draw(self, first: int) -> Float[Tensor, "fresh 8 16 16"]:
        """Draw and encode the pictures `first` to `first + FRESH - 1`."""
        latents = torch.zeros(FRESH, *SHAPE)
        mine = slice(rank(), None, world_size())
        pictures = np.stack([data.draw(data.SEEDS["train"] + i) for i in range(first, first + FRESH)[mine]])
        latents[mine] = encode(self.vae, torch.from_numpy(pictures), self.device) * self.vae.config.scaling_factor
        if world_size() > 1:
            torch.distributed.all_reduce(latents)
        return latents

    def write(self, first: int, latents: Tensor) -> None:
        """Write `latents` to the file as the entries from `first` on, and flush them to disk."""
        with self.path.open("r+b" if self.path.exists() else "wb") as file:
            file.seek(first * BYTES)
            file.write(latents.half().numpy().tobytes())
            file.flush()
            os.fsync(file.fileno())

    def __getitem__(self, chosen: Int[Tensor, " batch"]) -> Float[Tensor, "batch 8 16 16"]:
        """The latents of the pictures with these numbers, float32."""
        return torch.from_numpy(self.latents[chosen.numpy()]).float()
