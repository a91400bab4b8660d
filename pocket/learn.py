"""Learn each bundled concept with XTI's default settings; the concept files ship with the package."""

import shutil

import promptplus
from promptplus.pocket import world

from .assemble import replace_folder
from .common import Options

SEED = 0


def run(options: Options) -> None:
    """Write `learned/NAME.safetensors` beside the package's other weights, from the weights there now."""
    staging = options.package / ".learned"
    shutil.rmtree(staging, ignore_errors=True)
    pipe = promptplus.load(options.package / "pipeline", device=str(options.device))
    with promptplus.PPlus(pipe) as pplus:
        for name in world.CONCEPTS:
            concept = promptplus.invert(pplus, options.package / "concepts" / name, seed=SEED)
            concept.save(staging / f"{name}.safetensors")
    replace_folder(staging, options.package / "learned")
