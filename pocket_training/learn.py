"""Learn bundled concepts with XTI: the concept files that ship with the package, as the demo's second concept."""

import shutil

import promptplus
from promptplus.demo import STEPS, STYLE

from .export import replace_folder
from .loop import Options

NAMES = (STYLE,)
SEED = 0


def run(options: Options) -> None:
    """Write `learned/NAME.safetensors` beside the package's other weights, from the weights there now."""
    staging = options.package / ".learned"
    shutil.rmtree(staging, ignore_errors=True)
    pipe = promptplus.load(options.package / "pipeline", device=str(options.device))
    with promptplus.PPlus(pipe) as pplus:
        for name in NAMES:
            pictures = options.package / "concepts" / name
            concept = promptplus.invert(pplus, pictures, steps=STEPS, seed=SEED)
            concept.save(staging / f"{name}.safetensors")
    replace_folder(staging, options.package / "learned")
