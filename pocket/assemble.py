"""Put the trained parts into the package: the pipeline in half precision, the judge, the concepts' pictures."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from promptplus.pocket.captions import ANY_OBJECT
from promptplus.pocket.world import CONCEPTS, render_concept

from .common import Options
from .unet import build_pipeline

MAX_FILE = 16 * 2**20
"""Bytes of the largest file we ship (our choice)."""
CONCEPT_BACKGROUNDS = ("white", "sky", "grass", "sand", "brick")
"""A different one behind each of a concept's pictures, so that the background is not learned with it."""
CLASS_WORDS = {"robot": "rocket", "teapot": "mug", "umbrella": "mushroom", "snail": "cat", "key": "fish"}
"""The named object that each concept looks most like (our choice)."""
CARD_PROMPT = "a red house on a white background"
CONCEPT_SEED = 300_000_000


def replace_folder(new: Path, target: Path) -> None:
    """Move `new` to where `target` is, with only a rename's moment between the two."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def write_pipeline(work: Path, folder: Path) -> None:
    pipeline = build_pipeline(
        AutoencoderKL.from_pretrained(work / "vae"),
        CLIPTextModel.from_pretrained(work / "clip"),
        CLIPTokenizer.from_pretrained(work / "clip"),
        UNet2DConditionModel.from_pretrained(work / "unet"),
    )
    pipeline.to(torch.float16).save_pretrained(folder)
    for part in ("vae", "unet"):  # diffusers notes the folder it came from; nobody else has it
        path = folder / part / "config.json"
        config = {key: value for key, value in json.loads(path.read_text()).items() if key != "_name_or_path"}
        path.write_text(json.dumps(config, indent=2) + "\n")


def write_concepts(folder: Path) -> None:
    """Five pictures of each unseen concept and what inversion needs to know about it."""
    for number, name in enumerate(CONCEPTS):
        target = folder / name
        target.mkdir(parents=True)
        for i, background in enumerate(CONCEPT_BACKGROUNDS):
            image = render_concept(name, background, CONCEPT_SEED + 100 * number + i)
            image.save(target / f"{i}.png", optimize=True)
        facts = {
            "token": f"<{name}>",
            "initializer": ANY_OBJECT[0],
            "class_word": CLASS_WORDS[name],
            "kind": "object",
        }
        (target / "concept.json").write_text(json.dumps(facts, indent=2) + "\n")


def write_card(package: Path) -> None:
    """`card.json`: the weights' hashes, and a small picture of what they draw, for the tests to hold them to."""
    folders = ("pipeline/unet", "pipeline/vae", "pipeline/text_encoder", "judge")
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


def run(options: Options) -> None:
    """Write `pipeline`, `judge` and `concepts` beside the package's own modules, each replaced as a whole."""
    options.package.mkdir(parents=True, exist_ok=True)
    staging = options.package / ".staging"
    shutil.rmtree(staging, ignore_errors=True)
    write_pipeline(options.work, staging / "pipeline")
    shutil.copytree(options.work / "judge", staging / "judge")
    write_concepts(staging / "concepts")
    sizes = {path: path.stat().st_size for path in staging.rglob("*") if path.is_file()}
    too_large = [str(path) for path, size in sizes.items() if size > MAX_FILE]
    if too_large:
        raise RuntimeError(f"larger than {MAX_FILE >> 20} MB: {', '.join(too_large)}")
    for name in ("pipeline", "judge", "concepts"):
        replace_folder(staging / name, options.package / name)
    staging.rmdir()
    write_card(options.package)
    print(f"assembled {sum(sizes.values()) / 2**20:.1f} MB into {options.package}", flush=True)
