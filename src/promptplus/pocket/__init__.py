"""The pocket model: a small Stable Diffusion, trained on a drawn world and shipped with the package.

`world` draws its training pictures, `held_out` the concepts that are not among them. The folders below hold weights and
pictures. `CARD.md` describes data, training and limits.
"""

from pathlib import Path

PIPELINE = Path(__file__).parent / "pipeline"
"""Folder of a `StableDiffusionPipeline`: 64 x 64 pictures, half precision."""

JUDGE = Path(__file__).parent / "judge"
"""Folder of the attribute judge (`promptplus.pocket.attribute_judge.AttributeJudge`)."""

CLIP = Path(__file__).parent / "judge_clip"
"""Folder of the pocket's CLIP (`promptplus.evaluation.judges.ClipJudge`)."""

DINO = Path(__file__).parent / "dino"
"""Folder of the pocket's DINO (`promptplus.evaluation.judges.DinoJudge`)."""

LEARNED = Path(__file__).parent / "learned"
"""Folder of concept files, learned by XTI from held-out concepts (`python -m pocket_training learn`)."""

CONCEPTS = Path(__file__).parent / "concepts"
"""Folder of the held-out concepts: for each a folder of five pictures and a `concept.json`."""
