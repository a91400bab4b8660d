"""Named settings for ``invert``, each with its source."""

from typing import Any, Literal

Preset = Literal["paper-ti", "paper-xti", "paper-single"]

PRESETS: dict[Preset, dict[str, Any]] = {
    "paper-ti": {"method": "ti", "batch_size": 8, "steps": 5000, "learning_rate": 0.005},
    "paper-xti": {"method": "xti", "batch_size": 8, "steps": 500, "learning_rate": 0.005},
    "paper-single": {"method": "xti", "batch_size": 8, "steps": 500, "learning_rate": 0.001},
}
"""``paper-…``: the paper's section 4; ``single`` is for one picture, which learns too fast otherwise."""
