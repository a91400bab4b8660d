"""Short inversions in processes of their own, which die on request: ``python -m tests.training.killed_run``.

The process loads the pocket once and forks for each order, a line of JSON {out, before_step, inside_save, seconds}; it
answers with how that run ended. One thread only, for a process with more cannot be forked safely.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import promptplus as pp
from promptplus import files
from promptplus.pocket import CONCEPTS
from promptplus.training import checkpoint
from promptplus.training.invert import run_inversion
from promptplus.training.step import TrainingStep
from promptplus.training.trainable import Trainable

STEPS, SAVE_EVERY = 9, 2


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_before_step(step: int) -> None:
    advance = TrainingStep.advance

    def wrapped(self: TrainingStep) -> Any:
        if self.trainables[0].step == step:
            die()
        return advance(self)

    TrainingStep.advance = wrapped


def kill_inside_save(number: int) -> None:
    """Die when half of a checkpoint's new file is written."""
    saves = iter(range(10**6))

    @contextmanager
    def wrapped(path: Path) -> Iterator[Path]:
        with files.whole_file(path) as temporary:
            yield temporary
            if next(saves) == number:
                os.truncate(temporary, temporary.stat().st_size // 2)
                die()

    checkpoint.whole_file = wrapped


def train(pplus: pp.PPlus, order: dict[str, Any]) -> None:
    """Learn the robot; two pictures a step."""
    if "before_step" in order:
        kill_before_step(order["before_step"])
    if "inside_save" in order:
        kill_inside_save(order["inside_save"])
    settings: Any = {"steps": STEPS, "batch_size": 2, "preview_every": 0, "progress": False}
    run_inversion(pplus, CONCEPTS / "robot", out=order["out"], **settings)


def obey(pplus: pp.PPlus, order: dict[str, Any]) -> int:
    """How a forked run ended: 0, 1 or minus the signal's number."""
    child = os.fork()
    if child == 0:
        try:
            train(pplus, order)
        except BaseException as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    if "seconds" in order:
        time.sleep(order["seconds"])
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    """Obey order after order."""
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # the default one is shared with the forks: a killed one could hold it for ever
    Trainable.checkpoint_every = SAVE_EVERY
    with pp.PPlus(pp.load("pocket", device="cpu")) as pplus:
        print("ready", flush=True)
        for line in sys.stdin:
            print(obey(pplus, json.loads(line)), flush=True)


if __name__ == "__main__":
    main()
