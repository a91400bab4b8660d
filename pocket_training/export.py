"""Export the trained parts into the package: the pipeline in half precision, the judges, the concepts' pictures."""

import hashlib
import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from promptplus.evaluation.judges import DinoJudge
from promptplus.evaluation.metrics import subject_similarity
from promptplus.pocket.held_out import (
    DEV,
    HELD_OUT_OBJECTS,
    HELD_OUT_STYLES,
    REPORT,
    render_object_concept,
    render_style_concept,
)
from promptplus.pocket.world import NO_STYLE, OBJECTS
from promptplus.pocket.world.captions import ANY_OBJECT
from promptplus.pocket.world.painting import paint
from promptplus.pocket.world.scenes import shapes_by_noun

from .loop import TrainingConfig
from .unet import build_pipeline

JUDGES = ("judge", "judge_clip", "dino")
"""Folders of the attribute judge, the judge CLIP and the judge DINO."""
MAX_FILE = 16 * 2**20
"""Greatest size of a bundled file in bytes (our choice)."""
CONCEPT_BACKGROUNDS = ("white", "sky", "grass", "sand", "brick")
"""Backgrounds of a concept's five pictures: all different, so that no background is learned with the concept."""
NEAREST_PICTURES = 4
"""Number of renders of each named shape that a concept is compared with."""
CARD_PROMPT = "a red house on a white background"
"""Prompt of the small picture in `card.json`."""
CONCEPT_SEED = 300_000_000
"""First seed of the concepts' pictures; no training picture has it."""


def replace_folder(new: Path, target: Path) -> None:
    """Replace the folder `target` by `new`. Both steps are renames, so `target` is missing for a moment only."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def write_pipeline(work: Path, folder: Path) -> None:
    """Write the `StableDiffusionPipeline` of the trained parts in `work`, in half precision."""
    pipeline = build_pipeline(
        AutoencoderKL.from_pretrained(work / "vae"),
        CLIPTextModel.from_pretrained(work / "text"),
        CLIPTokenizer.from_pretrained(work / "clip"),
        UNet2DConditionModel.from_pretrained(work / "unet"),
    )
    pipeline.to(torch.float16).save_pretrained(folder)
    for part in ("vae", "unet"):  # diffusers records a path of this machine
        path = folder / part / "config.json"
        config = {key: value for key, value in json.loads(path.read_text()).items() if key != "_name_or_path"}
        path.write_text(json.dumps(config, indent=2) + "\n")


def write_pictures(folder: Path, pictures: list[Image.Image], note: dict[str, str]) -> None:
    """Write a concept's folder: its pictures and `concept.json`, the note that `datasets.read_note` reads."""
    folder.mkdir(parents=True)
    for i, image in enumerate(pictures):
        image.save(folder / f"{i}.png", optimize=True)
    (folder / "concept.json").write_text(json.dumps(note, indent=2) + "\n")


def nearest_object(judge: DinoJudge, name: str, pictures: list[Image.Image]) -> str:
    """The named shape that looks most like the concept when it is painted in the concept's colours."""
    look, real = HELD_OUT_OBJECTS[name], judge.embed(pictures)
    scores = {}
    for noun in OBJECTS:
        named = replace(look, shape=shapes_by_noun()[noun])
        drawn = [paint([named], place, NO_STYLE, random.Random(i)) for i, place in enumerate(CONCEPT_BACKGROUNDS)]
        scores[noun] = subject_similarity(real, judge.embed(drawn[:NEAREST_PICTURES]))
    return max(scores, key=scores.__getitem__)


def write_concepts(folder: Path, judge: DinoJudge) -> None:
    """Write five pictures of each held-out concept, and `split.json`: which objects are `dev`, which `report`."""
    for number, name in enumerate(HELD_OUT_OBJECTS):
        seed = CONCEPT_SEED + 100 * number
        pictures = [render_object_concept(name, place, seed + i) for i, place in enumerate(CONCEPT_BACKGROUNDS)]
        word = nearest_object(judge, name, pictures)
        note = {"token": f"<{name}>", "initializer": ANY_OBJECT[0], "class_word": word, "kind": "object"}
        write_pictures(folder / name, pictures, note)
    for number, name in enumerate(HELD_OUT_STYLES):
        seed = CONCEPT_SEED + 100 * (len(HELD_OUT_OBJECTS) + number)
        pictures = [render_style_concept(name, seed + i) for i in range(len(CONCEPT_BACKGROUNDS))]
        note = {"token": f"<{name}>", "initializer": NO_STYLE, "class_word": NO_STYLE, "kind": "style"}
        write_pictures(folder / name, pictures, note)
    split = {"dev": DEV, "report": REPORT, "styles": HELD_OUT_STYLES}
    (folder / "split.json").write_text(json.dumps(split, indent=2) + "\n")


def write_card(package: Path) -> None:
    """Write `card.json`, which tests compare with the weights: their hashes and a generated picture, 4 x 4."""
    folders = ("pipeline/unet", "pipeline/vae", "pipeline/text_encoder", *JUDGES)
    files = {folder: next((package / folder).glob("*.safetensors")) for folder in folders}
    pipeline: Any = StableDiffusionPipeline.from_pretrained(package / "pipeline", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    picture = pipeline(CARD_PROMPT, num_inference_steps=10, guidance_scale=5.0, generator=generator).images[0]
    card = {
        "sha256": {folder: hashlib.sha256(file.read_bytes()).hexdigest() for folder, file in files.items()},
        "prompt": CARD_PROMPT,
        "picture": np.asarray(picture.resize((4, 4), Image.Resampling.BOX)).tolist(),
    }
    (package / "card.json").write_text(json.dumps(card) + "\n")


def run(config: TrainingConfig) -> None:
    """Write the folders `pipeline`, the judges' and `concepts` to the package; each is replaced as a whole."""
    config.package.mkdir(parents=True, exist_ok=True)
    staging = config.package / ".staging"
    shutil.rmtree(staging, ignore_errors=True)
    write_pipeline(config.work, staging / "pipeline")
    for name in JUDGES:
        shutil.copytree(config.work / name, staging / name)
    write_concepts(staging / "concepts", DinoJudge.load(config.work / "dino"))
    sizes = {path: path.stat().st_size for path in staging.rglob("*") if path.is_file()}
    too_large = [str(path) for path, size in sizes.items() if size > MAX_FILE]
    if too_large:
        raise RuntimeError(f"larger than {MAX_FILE >> 20} MB: {', '.join(too_large)}")
    for name in ("pipeline", *JUDGES, "concepts"):
        replace_folder(staging / name, config.package / name)
    staging.rmdir()
    write_card(config.package)
    print(f"exported {sum(sizes.values()) / 2**20:.1f} MB into {config.package}", flush=True)
