"""The judge of words: a CLIP of its own, trained on renders that only judges see.

Its picture tower begins as the attribute judge's, which knows shapes, and learns on (after locked-image tuning, Zhai et
al., 2022); a vision transformer in its place named an eighth of the objects after 1500 steps (docs/log.md). Its text
tower, tokenizer and weights are not the generator's.
"""

import torch
from transformers import CLIPImageProcessorPil

from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pocket.clip_judge import ClipModel
from promptplus.pocket.world import SIZE, caption

from . import data
from .attribute_judge import blemish
from .loop import Options, Training, channels_last
from .text_encoder import BETAS, HEADED, WEIGHT_DECAY, build_tokenizer, losses, noun_table, text_config, zero_shot

WIDTH, LAYERS, HEADS = 128, 3, 4
LENGTHS = {"cpu": (2000, 128), "cuda": (6_000, 256)}
"""Steps and batch on each kind of device."""
PEAK, WARMUP, SEED = 1e-3, 100, 5


def run(options: Options) -> None:
    """Train, and write the folder `judge_clip`."""
    torch.manual_seed(SEED)
    folder, device = options.work / "judge_clip", options.device
    tokenizer = build_tokenizer(folder)
    model = ClipModel(text_config(tokenizer, WIDTH, LAYERS, HEADS), HEADED)
    teacher = AttributeJudge.load(options.work / "judge")
    for part in ("trunk", "neck"):
        getattr(model.pictures, part).load_state_dict(getattr(teacher, part).state_dict())
    channels_last(model, device)
    steps, batch = LENGTHS[device.type]
    pictures = data.pictures(options.work, "judge")
    scenes = data.scenes("judge", len(pictures))
    labels = noun_table(scenes)
    training = Training(
        "judge_clip",
        model,
        options,
        steps=options.steps or steps,
        peak=PEAK,
        warmup=WARMUP,
        seed=SEED,
        betas=BETAS,
        weight_decay=WEIGHT_DECAY,
    )
    for _ in training:
        chosen = torch.randint(len(pictures), (batch,), generator=training.generator)
        pixels = blemish(pictures[chosen], training).to(device)
        texts = [caption(scenes[i], training.rng) for i in chosen.tolist()]
        ids = tokenizer(texts, padding="longest", return_tensors="pt").input_ids.to(device)
        loss, numbers = losses(model, pixels, ids, labels[chosen].to(device))
        training.update(loss, **numbers)
    print("judge CLIP, zero-shot on validation renders:", zero_shot(model, tokenizer, options), flush=True)
    model.save(folder)
    half = [0.5, 0.5, 0.5]
    CLIPImageProcessorPil(
        size={"shortest_edge": SIZE},
        crop_size={"height": SIZE, "width": SIZE},
        image_mean=half,
        image_std=half,
    ).save_pretrained(folder)
