"""What the hooks cost: generation with P+ against the stock pipeline, interleaved in one run, ratio of medians.

``python -m benchmarks.hooks [--cases pocket sd] [--rounds 9]``. Same prompt, steps and seeds; both sides encode their
text. Also: how much of a denoiser's call the keys and values of its cross-attention layers are, which is all that
computing them once per picture could save.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

import promptplus as pp
from benchmarks.architectures import stable_diffusion
from promptplus.profiles import GUIDANCE, STEPS

PROMPT, NEGATIVE = "a red house on a white background", "blurry"


@dataclass(frozen=True)
class Case:
    """Pictures at once, denoising steps, and the side of a picture in pixels."""

    batch: int
    steps: int
    pixels: int


CASES = {"pocket": Case(4, STEPS, 64), "sd": Case(1, 3, 256)}


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def generation(pipe: Any, case: Case, rounds: int) -> tuple[float, list[float]]:
    """Ratio of medians P+ / stock, and the ratios pair by pair."""

    def sample(**texts: object) -> None:
        size = {"height": case.pixels, "width": case.pixels}
        generator = torch.Generator().manual_seed(0)
        pipe(**texts, **size, num_inference_steps=case.steps, guidance_scale=GUIDANCE, generator=generator)

    def stock() -> None:
        sample(prompt=[PROMPT] * case.batch, negative_prompt=[NEGATIVE] * case.batch)

    def ours() -> None:
        with pp.PPlus(pipe) as pplus:
            sample(**pplus.encode([PROMPT] * case.batch, NEGATIVE))

    pipe.set_progress_bar_config(disable=True)
    for warm_up in (stock, ours):
        warm_up()
    pairs = [(timed(stock), timed(ours)) for _ in range(rounds)]
    medians = [statistics.median(times) for times in zip(*pairs, strict=True)]
    return medians[1] / medians[0], sorted(b / a for a, b in pairs)


@torch.no_grad()
def keys_and_values(pipe: Any, case: Case, rounds: int) -> float:
    """Share of a denoiser's call that goes into the cross-attention layers' keys and values."""
    unet = pipe.unet
    side = case.pixels // pipe.vae_scale_factor
    noisy = torch.randn(2 * case.batch, unet.config.in_channels, side, side)
    states = torch.randn(2 * case.batch, pipe.tokenizer.model_max_length, unet.config.cross_attention_dim)
    layers = [unet.get_submodule(path) for path in pp.LayerMap.of(unet).module_paths()]

    def projections() -> None:
        for layer in layers:
            layer.to_k(states)
            layer.to_v(states)

    def call() -> None:
        unet(noisy, 500, encoder_hidden_states=states)

    projections()
    call()
    pairs = [(timed(projections), timed(call)) for _ in range(rounds)]
    first, second = (statistics.median(times) for times in zip(*pairs, strict=True))
    return first / second


def main(cases: list[str] | None = None, rounds: int = 9) -> None:
    """Measure and print."""
    for name in cases or list(CASES):
        case, pipe = CASES[name], pp.load("pocket", device="cpu") if name == "pocket" else stable_diffusion()
        ratio, pairs = generation(pipe, case, rounds)
        share = keys_and_values(pipe, case, rounds)
        print(f"{name}, {case.pixels} px, batch {case.batch}, {case.steps} steps: P+ / stock = {ratio:.3f}", end="")
        print(f" (pairs {pairs[0]:.3f} to {pairs[-1]:.3f}); keys and values are {share:.1%} of a denoiser's call")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=list(CASES))
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    main(options.cases, options.rounds)
