"""An inversion in float64 that several processes share: ``torchrun --nproc_per_node 2 -m tests.shared OUT``."""

import sys
from pathlib import Path

import torch

import promptplus as pp
from promptplus.inversion.trainer import run_inversions
from promptplus.pocket import CONCEPTS

FOLDERS = [CONCEPTS / "robot", CONCEPTS / "teapot"]


def main(out: Path, steps: int = 20) -> None:
    """Learn two concepts side by side; batches of 3 do not divide by two."""
    torch.set_num_threads(1)
    with pp.PPlus(pp.load("pocket", device="cpu", dtype=torch.float64)) as pplus:
        run_inversions(pplus, FOLDERS, out=out, steps=steps, batch_size=3, preview_every=0, progress=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
