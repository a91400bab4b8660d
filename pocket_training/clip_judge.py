"""Training of the judge CLIP, on renders that only judges see.

The picture encoder starts from the attribute judge's weights and is trained further (similar to locked-image tuning,
Zhai et al., 2022). A vision transformer in its place recognised an eighth of the objects after 1500 steps
(docs/log.md). The text encoder and the tokenizer are not those of the generating pipeline.
"""

import torch
from transformers import CLIPImageProcessorPil

from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pocket.clip_judge import ClipModel
from promptplus.pocket.world import SIZE, caption

from . import data
from .attribute_judge import augment
from .loop import Training, TrainingConfig, channels_last
from .text_encoder import BETAS, HEAD_CLASSES, WEIGHT_DECAY, build_tokenizer, losses, noun_table, text_config, zero_shot

WIDTH, LAYERS, HEADS = 128, 3, 4
LENGTHS = {"cpu": (2000, 128), "cuda": (6_000, 256)}
"""Steps and batch size, by kind of device (our choice)."""
PEAK, WARMUP, SEED = 1e-3, 100, 5
"""Greatest learning rate, steps of warm-up, seed (our choice)."""


def run(config: TrainingConfig) -> None:
    """Train the judge CLIP and write the folder `judge_clip`."""
    torch.manual_seed(SEED)
    folder, device = config.work / "judge_clip", config.device
    tokenizer = build_tokenizer(folder)
    model = ClipModel(text_config(tokenizer, WIDTH, LAYERS, HEADS), HEAD_CLASSES)
    attribute_judge = AttributeJudge.load(config.work / "judge")
    for part in ("trunk", "neck"):
        getattr(model.pictures, part).load_state_dict(getattr(attribute_judge, part).state_dict())
    channels_last(model, device)
    steps, batch = LENGTHS[device.type]
    pictures = data.pictures(config.work, "judge")
    scenes = data.scenes("judge", len(pictures))
    labels = noun_table(scenes)
    training = Training(
        "judge_clip",
        model,
        config,
        steps=config.steps or steps,
        peak=PEAK,
        warmup=WARMUP,
        seed=SEED,
        betas=BETAS,
        weight_decay=WEIGHT_DECAY,
    )
    for _ in training:
        chosen = torch.randint(len(pictures), (batch,), generator=training.generator)
        pixels = augment(pictures[chosen], training).to(device)
        texts = [caption(scenes[i], training.rng) for i in chosen.tolist()]
        ids = tokenizer(texts, padding="longest", return_tensors="pt").input_ids.to(device)
        loss, numbers = losses(model, pixels, ids, labels[chosen].to(device))
        training.update(loss, **numbers)
    print("judge CLIP, zero-shot on validation renders:", zero_shot(model, tokenizer, config), flush=True)
    model.save(folder)
    half = [0.5, 0.5, 0.5]
    CLIPImageProcessorPil(
        size={"shortest_edge": SIZE},
        crop_size={"height": SIZE, "width": SIZE},
        image_mean=half,
        image_std=half,
    ).save_pretrained(folder)
