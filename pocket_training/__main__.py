"""`python -m pocket_training [stage …]`: train the pocket model. Stages that were stopped continue.

Without stages, all of them run in order. Each stage is a module and runs in a process of its own. The text encoder and
the judges are trained beside the autoencoder: on two cores, two processes of one thread are faster than one process of
two threads.
"""

import argparse
import importlib
import os
import subprocess
import sys
from pathlib import Path

import torch
import torch.distributed

from .loop import TrainingConfig, world_size

ROOT = Path(__file__).parent.parent
LANES = (
    (("data",),),
    (("text_encoder", "attribute_judge", "clip_judge", "dino_judge"), ("vae",)),
    (("unet",),),
    (("export", "learn", "report"),),
)
"""Groups of lanes of stages. The lanes of a group run in parallel; groups, and the stages of a lane, run in order."""
STAGES = ("bundled", "unet_on_gpu", *(stage for group in LANES for lane in group for stage in lane))
"""All stages. Two run only when they are named: `bundled` prepares a training of the U-Net alone, and `unet_on_gpu`
replaces `unet` where there is a GPU."""
SHARED = ("unet",)
"""Stages whose batches are distributed over processes: two processes of one thread take 0.83 of the time of one process
of two threads (docs/log.md)."""
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "10000000000", "MALLOC_TOP_PAD_": "268435456"}
"""glibc settings that keep freed memory. Without them a training step spends much of its time in page faults."""


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m pocket_training", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="stage", help=f"which of {', '.join(STAGES)}; default: all")
    parser.add_argument(
        "--work",
        type=Path,
        default=ROOT / "build" / "pocket",
        help="folder for pictures, checkpoints and trained parts",
    )
    parser.add_argument(
        "--package",
        type=lambda given: Path(given).resolve(),  # a concept file records the path of its model
        default=ROOT / "src" / "promptplus" / "pocket",
        help="folder to export to",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="number of CPU threads in all")
    parser.add_argument("--pictures", type=int, default=100_000, help="number of training pictures to draw")
    parser.add_argument("--steps", type=int, help="training steps of every stage, for a smoke test")
    parser.add_argument(
        "--samples",
        "--looks",
        type=int,
        help="number of samples that the U-Net is trained on; may change until its learning rate falls",
    )
    parser.add_argument(
        "--seconds", type=int, help="unet_on_gpu: time in all; the number of steps is measured until the rate falls"
    )
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="unet_on_gpu: compile nothing")
    parser.add_argument("--count", type=int, default=1000, help="number of pictures that the report generates")
    arguments = parser.parse_args()
    if unknown := set(arguments.stages) - set(STAGES):
        parser.error(f"unknown stage {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
    return arguments


def start(stages: tuple[str, ...], threads: int, arguments: argparse.Namespace) -> subprocess.Popen[bytes]:
    """Start a process that runs `stages` in order; a stage of `SHARED` runs in one process per CPU thread."""
    launcher = [sys.executable]
    if stages[0] in SHARED and threads > 1 and arguments.device == "cpu":
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={threads}"]
        threads = 1
    command = [*launcher, "-m", "pocket_training", *stages, "--threads", str(threads)]
    for name in ("work", "package", "device", "pictures", "steps", "count", "samples", "seconds"):
        if (value := getattr(arguments, name)) is not None:
            command += [f"--{name}", str(value)]
    if not arguments.compile:
        command += ["--no-compile"]
    return subprocess.Popen(command, env={**os.environ, **MALLOC})


def run_stage(stage: str, arguments: argparse.Namespace) -> None:
    """Run one stage in this process."""
    torch.set_num_threads(arguments.threads)
    if world_size() > 1:
        torch.distributed.init_process_group("gloo")
    config = TrainingConfig(
        work=arguments.work,
        package=arguments.package,
        device=torch.device(arguments.device),
        threads=arguments.threads,
        pictures=arguments.pictures,
        steps=arguments.steps,
        count=arguments.count,
        samples=arguments.samples,
        seconds=arguments.seconds,
        compile=arguments.compile,
    )
    print(f"--- {stage}", flush=True)
    importlib.import_module(f"pocket_training.{stage}").run(config)


def main() -> int:
    """Run the stages of the command line; return the exit status."""
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
