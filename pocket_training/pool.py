"""Training pictures drawn while training: a file of latents that grows with the step.

Entry i is the picture of seed i, encoded. At a step only the first `size(step)` entries may be chosen, so that what is
trained on is a function of (seed, step), and a run that was killed goes on as one that was not.
"""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor
from tqdm import tqdm

from . import data
from .loop import first_rank, rank, wait, world_size
from .vae import LATENT_CHANNELS, LATENT_SIZE, encode

FIRST, FRESH, EVERY = 20_000, 80, 16
"""Pictures to begin with, and how many come anew every so many steps: 12 ms each beside 40 ms for a step's share of
training on one; 470,000 after three million looks (our choice, docs/log.md). `FIRST` is a multiple of `FRESH`."""
SHAPE = (LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)
BYTES = 2 * LATENT_CHANNELS * LATENT_SIZE**2
"""Of an entry, in half precision."""


def size(step: int) -> int:
    """How many pictures there are to choose from at `step`."""
    return FIRST + FRESH * (step // EVERY)


class Pool:
    """Latents [N, 8, 16, 16] by number, float16 in the file `path`; the processes draw and encode a part each."""

    def __init__(self, path: Path, vae: Any, device: torch.device) -> None:
        self.path, self.vae, self.device = path, vae, device
        stored = path.stat().st_size // BYTES if path.exists() else 0
        self.whole = stored // FRESH * FRESH  # a draw cut short is drawn again
        self.latents = self.mapped()

    def mapped(self) -> np.ndarray:
        """The file, as far as it is whole."""
        if not self.whole:
            return np.empty((0, *SHAPE), np.float16)
        return np.memmap(self.path, np.float16, "r", shape=(self.whole, *SHAPE))

    def grow(self, count: int) -> None:
        """Draw until there are `count` pictures, a multiple of `FRESH`."""
        missing = range(self.whole, count, FRESH)
        if not missing:
            return
        for first in tqdm(missing, "draw", file=sys.stdout, mininterval=10, ascii=True, disable=len(missing) == 1):
            latents = self.draw(first)
            if first_rank():
                self.write(first, latents)
        wait()
        self.whole = missing[-1] + FRESH
        self.latents = self.mapped()

    def draw(self, first: int) -> Tensor:
        """Latents of the pictures `first` to `first + FRESH`."""
        latents = torch.zeros(FRESH, *SHAPE)
        mine = slice(rank(), None, world_size())
        pictures = np.stack([data.draw(data.SEEDS["train"] + i) for i in range(first, first + FRESH)[mine]])
        latents[mine] = encode(self.vae, torch.from_numpy(pictures), self.device) * self.vae.config.scaling_factor
        if world_size() > 1:
            torch.distributed.all_reduce(latents)
        return latents

    def write(self, first: int, latents: Tensor) -> None:
        """Put `latents` at their place in the file, and see that they stay there."""
        with self.path.open("r+b" if self.path.exists() else "wb") as file:
            file.seek(first * BYTES)
            file.write(latents.half().numpy().tobytes())
            file.flush()
            os.fsync(file.fileno())

    def __getitem__(self, chosen: Tensor) -> Tensor:
        """float32 [B, 8, 16, 16] of the numbers `chosen`."""
        return torch.from_numpy(self.latents[chosen.numpy()]).float()
