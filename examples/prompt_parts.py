"""Strength, time and place of a prompt part, on the pocket model: a sheet of pictures from two seeds.

``python examples/prompt_parts.py [FILE]`` made docs/pictures/prompt-parts.png.
"""

import sys

import promptplus as pp
from promptplus.generation import generate
from promptplus.report.picture_grid import labelled_grid

DEFAULT, BLUE = "a red house on a white background", "a blue house on a white background"
CAR = "a blue car on a white background"
PARTS = {
    "the default text": (),
    "fine,medium: a blue house": (pp.Part("fine,medium", BLUE),),
    "*0.5: half as strong": (pp.Part("fine,medium", BLUE, strength=0.5),),
    "@0.5-1: late": (pp.Part("fine,medium", BLUE, window=(0.5, 1)),),
    "@0-0.5: early": (pp.Part("fine,medium", BLUE, window=(0, 0.5)),),
    "#0,0,0.5,1: on the left": (pp.Part("fine,medium", BLUE, mask=(0, 0, 0.5, 1)),),
    "0-15#0,0,0.5,1: a blue car": (pp.Part("0-15", CAR, mask=(0, 0, 0.5, 1)),),
}
SEEDS = (1, 2)
COLOURS = 64  # of the file: drawn pictures need no more


def main(file: str = "prompt-parts.png") -> None:
    """Draw each prompt from each seed, and write the sheet."""
    with pp.PPlus(pp.load("pocket")) as pplus:
        prompts = [pp.PPlusPrompt(DEFAULT, parts) for parts in PARTS.values() for _ in SEEDS]
        pictures = generate(pplus, prompts, SEEDS * len(PARTS), progress=True)
    rows = [pictures[seed :: len(SEEDS)] for seed in range(len(SEEDS))]
    sheet = labelled_grid(rows, row_labels=[f"seed {seed}" for seed in SEEDS], column_labels=list(PARTS), cell=112)
    sheet.quantize(COLOURS).save(file, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
