"""Named settings for ``invert``, each with its source."""

from typing import Any, Literal

Preset = Literal["paper-ti", "paper-xti", "paper-single", "fast"]

PRESETS: dict[Preset, dict[str, Any]] = {
    "paper-ti": {"method": "ti", "batch_size": 8, "steps": 5000, "learning_rate": 0.005},
    "paper-xti": {"method": "xti", "batch_size": 8, "steps": 500, "learning_rate": 0.005},
    "paper-single": {"method": "xti", "batch_size": 8, "steps": 500, "learning_rate": 0.001},
    "fast": {
        "method": "xti",
        "batch_size": 8,
        "steps": 50,
        "learning_rate": 0.005,
        "beta1": 0.7,
        "beta2": 0.9,
        "vectors": 8,
        "average": 0.8,
        "density": 2e-4,
    },
}
"""``paper-…``: the paper's section 4; ``single`` is for one picture, which learns too fast otherwise.

``fast``: our choice, found on the pocket's `dev` concepts (docs/log.md); on other models it is untried.
"""
