"""What the hooks cost: generation with P+ against the stock pipeline, interleaved in one run, ratio of medians.

``python -m benchmarks.hooks [--rounds 9]``. Same prompt, steps and seeds; both sides encode their text.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

import promptplus as pp
from promptplus.generation import GUIDANCE, STEPS, quiet

PROMPT, NEGATIVE, BATCH = "a red house on a white background", "blurry", 4


def main(rounds: int = 9) -> None:
    """Measure and print."""
    pipe = pp.load("pocket")

    def sample(**texts: object) -> None:
        generator = torch.Generator().manual_seed(0)
        pipe(**texts, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generator)

    def stock() -> None:
        sample(prompt=[PROMPT] * BATCH, negative_prompt=[NEGATIVE] * BATCH)

    def ours() -> None:
        with pp.PPlus(pipe) as pplus:
            sample(**pplus.encode([PROMPT] * BATCH, NEGATIVE))

    def timed(call: Callable[[], None]) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    with quiet(pipe):
        for warm_up in (stock, ours):
            warm_up()
        pairs = [(timed(stock), timed(ours)) for _ in range(rounds)]
    medians = [statistics.median(times) for times in zip(*pairs, strict=True)]
    ratios = sorted(b / a for a, b in pairs)
    print(f"pocket, batch {BATCH}, {STEPS} steps: P+ / stock = {medians[1] / medians[0]:.3f} (ratio of medians)")
    print(f"pair by pair {ratios[0]:.3f} to {ratios[-1]:.3f}; stock {medians[0]:.2f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    main(parser.parse_args().rounds)
