"""The words that options choose from. This module imports nothing heavy, so that ``--help`` is quick."""

from typing import Literal

Kind = Literal["object", "style"]
"""What a concept is. It decides the caption templates."""
Tying = Literal["layer", "transformer", "block", "resolution", "all"]
"""Which layers share one row."""
InversionMethod = Literal["xti", "ti"]
"""Methods that train token rows."""
DreamBoothMethod = Literal["dreambooth", "dreambooth-lora"]
"""Methods that train the denoiser."""
TrainingMethod = Literal["xti", "ti", "dreambooth", "dreambooth-lora"]
Preset = Literal["paper-ti", "paper-xti", "paper-single", "fast"]
"""Names in ``training.settings.PRESETS``."""
Templates = Literal["batch", "picture"]
"""What shares one caption template in a training step."""
Schedule = Literal["constant", "cosine"]
"""How the learning rate changes over a training run."""
Constraint = Literal["none", "norm", "direction"]
"""Where token rows may lie; see ``training.norm_constraint``."""
Speed = Literal["plain", "compiled", "graphed"]
"""How the frozen denoiser runs; see ``training.compilation``."""
