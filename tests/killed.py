"""A short inversion in its own process, which kills itself where it is told to: ``python -m tests.killed OUT …``."""

import argparse
import os
import signal
from pathlib import Path
from typing import Any

import torch

import promptplus as pp
from promptplus import files
from promptplus.inversion import checkpoint, sitting
from promptplus.inversion.rows import RowTrainer
from promptplus.pocket import CONCEPTS


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_before_step(step: int) -> None:
    advance = RowTrainer.advance

    def wrapped(self: RowTrainer) -> Any:
        if self.step == step:
            die()
        return advance(self)

    RowTrainer.advance = wrapped


def kill_inside_save(number: int) -> None:
    """Die when half of a checkpoint's new file is written."""
    write, saves = files.write_atomically, iter(range(10**6))

    def wrapped(path: Any, data: bytes) -> Any:
        if next(saves) == number:
            (Path(path).parent / f".{Path(path).name}.halfdone").write_bytes(data[: len(data) // 2])
            die()
        return write(path, data)

    checkpoint.write_atomically = wrapped


def main() -> None:
    """Train on the robot; two pictures a step, a checkpoint every second step."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--before-step", type=int)
    parser.add_argument("--inside-save", type=int)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sitting.CHECKPOINT_EVERY = 2
    if options.before_step is not None:
        kill_before_step(options.before_step)
    if options.inside_save is not None:
        kill_inside_save(options.inside_save)
    pictures = CONCEPTS / "robot"
    with pp.PPlus(pp.load("pocket", device="cpu")) as pplus:
        print("ready", flush=True)
        pp.invert(pplus, pictures, steps=options.steps, batch_size=2, out=options.out, progress=False)


if __name__ == "__main__":
    main()
