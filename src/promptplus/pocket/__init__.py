"""The pocket model: Stable Diffusion in miniature, trained on a drawn world and shipped with the package.

`world` draws that world; the folders below hold what was trained on it. `CARD.md` says how, with which scores.
"""

from pathlib import Path

PIPELINE = Path(__file__).parent / "pipeline"
"""A `StableDiffusionPipeline` folder, 64 x 64 pictures, half precision."""

JUDGE = Path(__file__).parent / "judge"
"""The attribute classifier that `promptplus.evaluation.judges.AttributeJudge` loads."""

CLIP = Path(__file__).parent / "judge_clip"
"""A CLIP of its own, which `promptplus.evaluation.judges.ClipJudge` loads."""

DINO = Path(__file__).parent / "dino"
"""A vision transformer trained by self-distillation, which `promptplus.evaluation.judges.DinoJudge` loads."""

LEARNED = Path(__file__).parent / "learned"
"""Concept files of unseen concepts, learned by XTI (`python -m pocket_training learn`)."""

CONCEPTS = Path(__file__).parent / "concepts"
"""One folder of five pictures and a `concept.json` for each unseen concept."""
