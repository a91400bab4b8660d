"""Learn the concept file that ships with the package by XTI: the demo's second concept."""

import shutil

import promptplus
from promptplus.demo import STEPS, STYLE

from .export import replace_folder
from .loop import Options

NAMES = (STYLE,)
SEED = 0


def run(options: Options) -> None:
    """Learn the concepts with the package's current weights and write `learned/NAME.safetensors`."""
    staging = options.package / ".learned"
    shutil.rmtree(staging, ignore_errors=True)
    pipe = promptplus.load(options.package / "pipeline", device=str(options.device))
    with promptplus.PPlus(pipe) as pplus:
        for name in NAMES:
            pictures = options.package / "concepts" / name
            concept = promptplus.invert(pplus, pictures, steps=STEPS, seed=SEED)
            concept.save(staging / f"{name}.safetensors")
    replace_folder(staging, options.package / "learned")
