"""`python -m pocket_training [stage …]`: make the pocket model, from nothing or from where it stopped.

Without names all stages run in order. Each stage is a process of its own; the text encoder and the judges share a lane
beside the autoencoder, for on two cores two one-thread processes beat one two-thread process (spike).
"""

import argparse
import importlib
import os
import subprocess
import sys
from pathlib import Path

import torch
import torch.distributed

from .loop import Options, world_size

ROOT = Path(__file__).parent.parent
LANES = (
    (("data",),),
    (("clip", "judges", "judge_clip", "dino"), ("vae",)),
    (("unet",),),
    (("assemble", "learn", "report"),),
)
"""Groups that run one after the other; within a group the lanes run side by side, each lane's stages in order."""
STAGES = ("bundled", *(stage for group in LANES for lane in group for stage in lane))
"""`bundled`, only by name, takes all parts but the U-Net from the package, and the U-Net's start."""
SHARED = ("unet",)
"""Stages whose batches several processes share: two one-thread processes take 0.83 of a two-thread one's time."""
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "10000000000", "MALLOC_TOP_PAD_": "268435456"}
"""Keep freed memory: otherwise a training step spends its time in page faults (spike)."""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pocket_training", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="stage", help=f"which of {', '.join(STAGES)}; default: all")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "pocket", help="folder for all working files")
    parser.add_argument(
        "--package",
        type=lambda given: Path(given).resolve(),  # a concept notes which model it was learned on by its path
        default=ROOT / "src" / "promptplus" / "pocket",
        help="folder the result goes to",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads in all")
    parser.add_argument("--pictures", type=int, default=100_000, help="pictures to draw for training")
    parser.add_argument("--steps", type=int, help="steps of every stage, for a smoke test; default: each its own")
    parser.add_argument(
        "--looks", type=int, help="pictures the U-Net's training takes; may change until its rate falls"
    )
    parser.add_argument("--count", type=int, default=1000, help="pictures the report generates")
    arguments = parser.parse_args()
    if unknown := set(arguments.stages) - set(STAGES):
        parser.error(f"unknown stage {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
    return arguments


def start(stages: tuple[str, ...], threads: int, arguments: argparse.Namespace) -> subprocess.Popen[bytes]:
    """A process that runs `stages` one after the other; a stage of `SHARED` runs in one process per CPU thread."""
    launcher = [sys.executable]
    if stages[0] in SHARED and threads > 1 and arguments.device == "cpu":
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={threads}"]
        threads = 1
    command = [*launcher, "-m", "pocket_training", *stages, "--threads", str(threads)]
    for name in ("work", "package", "device", "pictures", "steps", "count", "looks"):
        if (value := getattr(arguments, name)) is not None:
            command += [f"--{name}", str(value)]
    return subprocess.Popen(command, env={**os.environ, **MALLOC})


def run_stage(stage: str, arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    if world_size() > 1:
        torch.distributed.init_process_group("gloo")
    options = Options(
        work=arguments.work,
        package=arguments.package,
        device=torch.device(arguments.device),
        threads=arguments.threads,
        pictures=arguments.pictures,
        steps=arguments.steps,
        count=arguments.count,
        looks=arguments.looks,
    )
    print(f"--- {stage}", flush=True)
    importlib.import_module(f"pocket_training.{stage}").run(options)


def main() -> int:
    arguments = parse()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if len(arguments.stages) == 1 and (arguments.stages[0] not in SHARED or arguments.threads == 1):
        run_stage(arguments.stages[0], arguments)
        return 0
    if arguments.stages:
        return int(any(start((stage,), arguments.threads, arguments).wait() for stage in arguments.stages))
    for lanes in LANES:
        processes = [start(lane, max(1, arguments.threads // len(lanes)), arguments) for lane in lanes]
        if any([process.wait() for process in processes]):
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
