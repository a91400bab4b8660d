"""What each kind of prompt part costs beside a plain P+ call, interleaved in one run: ratio of medians.

``python -m benchmarks.prompt_parts [--cases pocket sd] [--rounds 9]``. The plain call has a text for the fine layers;
the others have the same text with an option. Each call encodes its prompts and draws the pictures.
"""

import argparse
import statistics
from typing import Any

import torch

import promptplus as pp
from benchmarks.architectures import stable_diffusion
from benchmarks.hooks import CASES, Case, timed
from promptplus.profiles import GUIDANCE

DEFAULT, PART, NEGATIVE = "a red house on a white background", "a blue house", "blurry"
PLAIN = f"{DEFAULT} || fine: {PART}"
KINDS = {
    "plain, again": PLAIN,
    "strength": f"{DEFAULT} || fine*0.7: {PART}",
    "window": f"{DEFAULT} || fine@0.5-1: {PART}",
    "mask": f"{DEFAULT} || fine#0,0,0.5,1: {PART}",
    "mask, all layers": f"{DEFAULT} || down,mid,up#0,0,0.5,1: {PART}",
    "all three": f"{DEFAULT} || fine*0.7@0.5-1#0,0,0.5,1: {PART}",
    "two masks": f"{DEFAULT} || fine#0,0,0.5,1: {PART} || fine#0,0,1,0.5: a green house",
}
"""What is measured: prompts by the kind of their parts."""


def measure(pipe: Any, case: Case, rounds: int) -> dict[str, tuple[float, float, float]]:
    """For each kind the ratio of medians, and the smallest and largest ratio of a round."""
    pipe.set_progress_bar_config(disable=True)
    with pp.PPlus(pipe) as pplus:

        def draw(prompt: str) -> None:
            size = {"height": case.pixels, "width": case.pixels}
            generator = torch.Generator().manual_seed(0)
            embeds = pplus.encode([prompt] * case.batch, NEGATIVE)
            pipe(**embeds, **size, num_inference_steps=case.steps, guidance_scale=GUIDANCE, generator=generator)

        prompts = [PLAIN, *KINDS.values()]
        for prompt in prompts:
            draw(prompt)  # warm up
        times = [[timed(lambda prompt=prompt: draw(prompt)) for prompt in prompts] for _ in range(rounds)]
    plain, *kinds = zip(*times, strict=True)
    found: dict[str, tuple[float, float, float]] = {}
    for name, its in zip(KINDS, kinds, strict=True):
        ratios = [one / other for one, other in zip(its, plain, strict=True)]
        found[name] = (statistics.median(its) / statistics.median(plain), min(ratios), max(ratios))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    for name in given.cases:
        pipe = pp.load("pocket", device="cpu") if name == "pocket" else stable_diffusion()
        print(f"{name}: {CASES[name]}")
        for kind, (ratio, low, high) in measure(pipe, CASES[name], given.rounds).items():
            print(f"  {kind:<18} {ratio:.3f} of a plain call (rounds {low:.3f}–{high:.3f})")


if __name__ == "__main__":
    main()
