"""Learn the concept file that ships with the package by XTI: the demo's second concept."""

import shutil

import promptplus
from promptplus.demo import STEPS, STYLE

from .export import replace_folder
from .loop import TrainingConfig

NAMES = (STYLE,)
SEED = 0


def run(config: TrainingConfig) -> None:
    """Learn the concepts with the package's current weights and write `learned/NAME.safetensors`."""
    staging = config.package / ".learned"
    shutil.rmtree(staging, ignore_errors=True)
    pipe = promptplus.load(config.package / "pipeline", device=str(config.device))
    with promptplus.PPlus(pipe) as pplus:
        for name in NAMES:
            pictures = config.package / "concepts" / name
            concept = promptplus.invert(pplus, pictures, steps=STEPS, seed=SEED)
            concept.save(staging / f"{name}.safetensors")
    replace_folder(staging, config.package / "learned")
