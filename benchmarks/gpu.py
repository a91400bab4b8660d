"""XTI at Stable Diffusion 1.4's size on a GPU: the whole table in one run, in under eight minutes on one large card.

``python -m benchmarks.gpu [--parts step …] [--smallest]``. Random weights of the real architecture, 512 px: time does
not depend on the weights' values. TF32 as torch has it by default: off in matrix products, on in convolutions.
``--smallest``: the pocket, a handful of steps, on any device, to see that the script works; its numbers mean nothing.

- *step*: floor, ours and the published recipe (as in ``xti_step``), float32 and bfloat16, both template modes; ours as
  it is, compiled, as CUDA graphs, and with weights in channels-last order.
- *run*: a whole training, cold (compiled or recorded first) and warm, for each speed.
- *generation*: P+ against the stock pipeline.
- *memory*: peak of a training step at batch 1 and 8, with and without gradient checkpointing.
- *side*: seconds per concept, several in shared batches.
- *numerics*: rows learned in bfloat16 against float32, cosine by layer.
"""

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, get_args
from unittest.mock import patch

import diffusers
import torch
from transformers.utils.logging import disable_progress_bar

import promptplus as pp
from benchmarks import hooks
from benchmarks.architectures import stable_diffusion
from benchmarks.side_by_side import print_per_concept
from benchmarks.xti_step import CONTESTANTS, TEMPLATES, WORD, Bench, Case, in_turns, only
from promptplus.datasets import load_pictures
from promptplus.pocket import CONCEPTS
from promptplus.training.compilation import Speed
from promptplus.training.invert import run_inversion
from promptplus.training.trainable import frozen

PICTURES = sorted((CONCEPTS / "robot").glob("*.png"))
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Plan:
    """How much is measured, of which architecture, and where."""

    device: str
    make: Callable[[], Any]
    case: Case
    rounds: int
    steps: int
    counts: tuple[int, ...]
    numeric_steps: int
    speeds: tuple[Speed, ...]

    def bench(self, dtype: torch.dtype) -> Bench:
        return Bench(self.case, self.make(), self.device, dtype)


def real() -> Plan:
    """Stable Diffusion 1.4's size on CUDA."""
    return Plan("cuda", stable_diffusion, Case(512, 8, 8), 5, 500, (1, 4, 16), 100, get_args(Speed))


def smallest() -> Plan:
    """The pocket, anywhere."""
    return Plan("cpu", lambda: pp.load("pocket", device="cpu"), Case(64, 2, 2), 1, 2, (1, 2), 2, ("plain",))


def step(plan: Plan) -> None:
    """Milliseconds per step, and the ratios."""
    for name, dtype in DTYPES.items():
        bench = plan.bench(dtype)
        with bench.ready():
            calls = {label: bench.contestant(label) for label in CONTESTANTS}
            for speed in plan.speeds[1:]:
                calls[f"ours, batch, {speed}"] = bench.ours("batch", speed)
            medians = in_turns(calls, plan.rounds)
            bench.pipe.unet.to(memory_format=torch.channels_last)
            medians |= in_turns({"ours, batch, channels last": bench.ours("batch")}, plan.rounds)
        for label, seconds in medians.items():
            print(f"  {name:<9} {label:<28} {1000 * seconds:9.1f} ms")
        for templates in TEMPLATES:
            mine = medians[f"ours, {templates}"]
            floor, published = mine / medians[f"floor, {templates}"], medians["published"] / mine
            print(f"  {name:<9} {templates:<8} ours / floor {floor:.3f}   published / ours {published:.2f}")


def run(plan: Plan) -> None:
    """Seconds of a whole training, cold and warm."""
    for speed in plan.speeds:
        pipe = plan.make().to(plan.device, torch.bfloat16)
        seconds = []
        with nothing_compiled():
            for seed in range(2):  # the second one finds kernels compiled; a graph is recorded anew
                start = time.perf_counter()
                with pp.PPlus(pipe) as pplus:
                    learn(pplus, plan, seed=seed, speed=speed)
                seconds.append(time.perf_counter() - start)
        print(f"  {speed:<9} {plan.steps} steps: cold {seconds[0]:.1f} s, warm {seconds[1]:.1f} s")


@contextmanager
def nothing_compiled() -> Iterator[None]:
    """While inside, the compiler remembers nothing of before, not on the disk either."""
    torch.compiler.reset()
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, TORCHINDUCTOR_CACHE_DIR=folder):
        yield


def learn(pplus: pp.PPlus, plan: Plan, **options: Any) -> torch.Tensor:
    """The rows of a training ``[layer, vector, width]``."""
    call = {"steps": plan.steps, "batch_size": plan.case.batch, "templates": "batch", **options}
    found = run_inversion(pplus, load_pictures(PICTURES), "<x>", WORD, progress=False, preview_every=0, **call)
    return found.concept.rows


def generation(plan: Plan) -> None:
    """P+ / stock."""
    pipe = plan.make().to(plan.device, torch.bfloat16)
    ratio, pairs = hooks.generation(pipe, hooks.Case(1, plan.rounds * 5, plan.case.pixels), plan.rounds)
    print(f"  P+ / stock {ratio:.3f} (pairs {pairs[0]:.3f} to {pairs[-1]:.3f})")


def memory(plan: Plan) -> None:
    """Peak memory of a step in bfloat16, GiB, the pipeline's weights counted."""
    if plan.device != "cuda":
        print("  needs CUDA")
        return
    for checkpointing in (False, True):
        for batch in (1, plan.case.batch):
            bench = replace(plan, case=replace(plan.case, batch=batch, micro=batch)).bench(torch.bfloat16)
            if checkpointing:
                bench.pipe.unet.enable_gradient_checkpointing()
            torch.cuda.reset_peak_memory_stats()
            with bench.ready():
                peak = only(bench, "ours, batch")
            print(f"  batch {batch}, gradient checkpointing {'on' if checkpointing else 'off'}: {peak:.2f} GiB")
            del bench
            torch.cuda.empty_cache()


def side(plan: Plan) -> None:
    """Seconds per concept and step, against one alone."""
    pipe = plan.make().to(plan.device, torch.bfloat16)
    with pp.PPlus(pipe) as pplus, frozen(pipe.unet, pipe.vae, pipe.text_encoder):
        print_per_concept(pplus, plan.counts, "batch", plan.case.micro, plan.rounds)


def numerics(plan: Plan) -> None:
    """Cosine of what was learned in bfloat16 and in float32, by layer."""
    rows = []
    for dtype in DTYPES.values():
        with pp.PPlus(plan.make().to(plan.device, dtype)) as pplus:
            rows.append(learn(pplus, plan, steps=plan.numeric_steps).flatten(1))
    cosines = torch.nn.functional.cosine_similarity(*rows)
    print(f"  after {plan.numeric_steps} steps: " + " ".join(f"{value:.3f}" for value in cosines.tolist()))


PARTS = (step, run, generation, memory, side, numerics)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print, part by part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [part.__name__ for part in PARTS]
    parser.add_argument("--parts", nargs="+", default=names, choices=names)
    parser.add_argument("--smallest", action="store_true")
    options = parser.parse_args(arguments)
    if not options.smallest and not torch.cuda.is_available():
        print("no CUDA device: nothing was measured (--smallest shows that the script works)")
        return
    plan = smallest() if options.smallest else real()
    where = torch.cuda.get_device_name() if plan.device == "cuda" else "the CPU, at the smallest sizes: no measurement"
    print(f"{where}; {plan.case.pixels} px, batch {plan.case.batch}; torch {torch.__version__}")
    warnings.filterwarnings("ignore", module="torch")
    disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()
    start = time.perf_counter()
    for part in PARTS:
        if part.__name__ in options.parts:
            print(f"{part.__name__}: {(part.__doc__ or '').strip()}", flush=True)
            part(plan)
    print(f"{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
