"""The methods that the evidence compares."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from promptplus.evaluation.training_cache import WORD, MethodSpec
from promptplus.training.settings import PRESETS

IDENTIFIERS = ("sks", "ohwx")  # customary for DreamBooth, as no caption uses them
DENSITIES = (0.0002, 0.002)  # the weight of the preset `fast`, and a peer's


def preset(name: str, *steps: int) -> MethodSpec:
    """A preset as a method, scored at these steps."""
    options: Mapping[str, Any] = {key: value for key, value in PRESETS[name].items() if key != "steps"}  # type: ignore[index]
    return MethodSpec(name, dict(options), steps)


def named_apart(method: MethodSpec, number: int) -> MethodSpec:
    """Neighbours' subjects are called by different words, for they may meet in one prompt; rows have their tokens."""
    if not method.is_dreambooth:
        return method
    return replace(method, options={**method.options, "identifier": IDENTIFIERS[number % len(IDENTIFIERS)]})


def tuned(name: str, preset_name: str, rate: float, *steps: int) -> MethodSpec:
    """A preset at another learning rate."""
    return MethodSpec(f"{name}, rate {rate:g}", {**preset(preset_name).options, "learning_rate": rate}, steps)


NOTHING = MethodSpec(WORD, steps=(0,))
BOOTH = MethodSpec("dreambooth", {"method": "dreambooth", "batch_size": 4, "learning_rate": 1e-4}, (200,))
LORA = MethodSpec("dreambooth-lora", {"method": "dreambooth-lora", "batch_size": 4, "learning_rate": 5e-3}, (200,))
"""DreamBooth as the pocket learns best by it, chosen on its `dev` concepts (docs/log.md); see ``sizes.published``."""
TUNED = (
    tuned("XTI", "paper-xti", 0.08, 50, 100, 250, 500),
    tuned("TI", "paper-ti", 0.16, 50, 100, 250, 500),
)
"""The paper's recipes as the pocket learns best by them, chosen on its `dev` concepts (docs/log.md)."""
ONE_PICTURE = (
    MethodSpec("one picture, XTI", preset("paper-single").options, (500,), pictures=1),
    MethodSpec("one picture, TI", {**preset("paper-single").options, "method": "ti"}, (500,), pictures=1),
    replace(BOOTH, name="one picture, DreamBooth", pictures=1),
    replace(LORA, name="one picture, DreamBooth-LoRA", pictures=1),
)
REGULARISED = tuple(
    MethodSpec(f"XTI, density {weight:g}", {**preset("paper-xti").options, "density": weight}, (500,))
    for weight in DENSITIES
)
