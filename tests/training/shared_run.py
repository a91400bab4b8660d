"""Trainings in float64, shared by processes: ``torchrun --nproc_per_node 2 -m tests.training.shared_run OUT``."""

import sys
from pathlib import Path
from typing import Any

import torch

import promptplus as pp
from promptplus.pocket import CONCEPTS
from promptplus.training.dreambooth import dreambooth
from promptplus.training.invert import run_inversions

FOLDERS = [CONCEPTS / "robot", CONCEPTS / "teapot"]


def main(out: Path, steps: int = 20) -> None:
    """Learn two concepts side by side, then train a denoiser; batches of 3 do not divide by two."""
    torch.set_num_threads(1)
    with pp.PPlus(pp.load("pocket", device="cpu", dtype=torch.float64)) as pplus:
        run_inversions(pplus, FOLDERS, out=out, steps=steps, batch_size=3, preview_every=0, progress=False)
        settings: Any = {"steps": 3, "batch_size": 3, "learning_rate": 1e-3, "preview_every": 0, "progress": False}
        dreambooth(pplus, FOLDERS[0], out=out / "denoiser", class_pictures=FOLDERS[1], **settings)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
