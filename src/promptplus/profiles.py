"""What concepts are asked to do when they are evaluated; ``{}`` is the concept's word."""

import inspect
import json
from pathlib import Path
from typing import Any

from promptplus.errors import ModelError
from promptplus.pocket import PIPELINE

REAL = (
    "a photo of a {}",
    "a photo of a {} in the jungle",
    "a photo of a {} on a beach",
    "a photo of a {} in Times Square",
    "a photo of a {} on the moon",
    "a painting of a {} in the style of Monet",
    "an oil painting of a {}",
    "a Marc Chagall painting of a {}",
    "a manga drawing of a {}",
    "a watercolor painting of a {}",
    "a statue of a {}",
    "an app icon of a {}",
    "a sand sculpture of a {}",
    "a colorful graffiti of a {}",
    "two {} on a table",
)
"""For real models: a proxy for the paper's fifteen, of which five are known (a later paper's list)."""

POCKET_EASY = (
    "a photo of a {}",
    "a picture of a {} on a white background",
    "a {} on a grass background",
    "a {} on a night background",
    "a {} on a sand background",
    "a {} on a brick background",
    "a {} on a water background",
    "a {} on a sunset background",
    "a {} in front of a sky background",
    "a photo of a small {} with a grass background",
)
POCKET_HARD = (
    "a red {}",
    "a blue striped {}",
    "a {}, pixel art",
    "a watercolor of a {}",
    "a {} and a yellow car",
    "a {} on a night background, sketch",
)
POCKET = POCKET_EASY + POCKET_HARD
"""For the pocket, in its own vocabulary (tested). The hard third recolours, retextures, restyles, adds an object."""


STEPS = 12  # the pocket's; its captions are followed as well as with 25 of DDIM (docs/log.md)


GUIDANCE = 3.0  # the pocket's best of 1, 2, 3 and 5 (docs/log.md)


SAMPLING = "sampling.json"  # in a pipeline's folder: its usual {steps, guidance}


def usual_sampling(pipe: Any, steps: int | None = None, guidance: float | None = None) -> tuple[int, float]:
    """Denoising steps and guidance scale, as usual for the model where not given.

    That is the pocket's own, what a pipeline we wrote says in its ``sampling.json``, and for any other model what its
    stock pipeline takes (Stable Diffusion: 50 and 7.5).
    """
    if steps is not None and guidance is not None:
        return steps, guidance
    source = str(pipe.config.get("_name_or_path"))
    if source == str(PIPELINE):
        usual = (STEPS, GUIDANCE)
    elif (path := Path(source) / SAMPLING).is_file():
        usual = _read_sampling(path)
    else:
        stock = inspect.signature(type(pipe).__call__).parameters
        usual = (stock["num_inference_steps"].default, stock["guidance_scale"].default)
    return usual[0] if steps is None else steps, usual[1] if guidance is None else guidance


def _read_sampling(path: Path) -> tuple[int, float]:
    try:
        told = json.loads(path.read_text("utf-8"))
        return int(told["steps"]), float(told["guidance"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise ModelError(f"{path} does not hold {{steps, guidance}}") from error
