"""Training of the text encoder and its tokenizer, like CLIP's, on pictures and captions of the drawn world.

The loss is CLIP's contrastive loss, plus the classification of nouns and attributes from the picture. The picture
encoder has the attribute judge's convolutions and is not kept. (A vision transformer in its place was slow to learn
shapes: 57 % of the objects after 600 steps, docs/log.md.) The text encoder is trained further together with the U-Net.
All settings are our choice.
"""

import json
import random
import re
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPTokenizer

from promptplus.pocket.clip_judge import ClipModel
from promptplus.pocket.world import ATTRIBUTES, CLASSES, MADE_UP, OBJECTS, Scene, caption, captions, random_scene
from promptplus.pocket.world.scenes import NOT_LABELLED, shapes_by_noun
from promptplus.pocket.world.words import ADJECTIVES
from promptplus.templates import OBJECT_TEMPLATES

from . import data
from .loop import Training, TrainingConfig, autocast, channels_last, to_pixels

LENGTH = 40
"""Tokens of a prompt, including start and end token."""
WIDTH = 128
"""Width of the text encoder's states: the U-Net's `cross_attention_dim`."""
LAYERS, HEADS = 4, 4
STEPS, BATCH, PEAK, WARMUP, SEED = 2500, 128, 1.2e-3, 60, 1
"""Steps, batch size, greatest learning rate, steps of warm-up, seed."""
WEIGHT_DECAY, BETAS = 0.05, (0.9, 0.98)
NOUNS = (*OBJECTS, *MADE_UP)
HEAD_CLASSES = {**CLASSES, "object": NOUNS}
"""Classes of the attribute heads, which classify made-up nouns too."""
HEADS_WEIGHT = 0.5
"""Weight of the classification beside the contrastive loss."""
NOISE, SHIFT = 0.06, 3
"""Standard deviation of the noise on every second batch; greatest shift of a batch in pixels."""
CAPTION_SAMPLE = 20_000
"""Number of captions whose length is checked."""
START, END = "<|startoftext|>", "<|endoftext|>"
END_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
FORMS = {
    "object": "a photo of a {}",
    "colour": "a {} object",
    "texture": "a {} object",
    "background": "an object on a {} background",
    "style": "an object, {}",
}
"""Prompts of the zero-shot classification, by attribute."""


def words() -> list[str]:
    """Every word that a caption can contain. Names of held-out concepts are not among them."""
    forms = [*OBJECT_TEMPLATES, *captions.BACKGROUND_FORMS, *captions.STYLE_FORMS, *captions.PICTURE_FORMS]
    forms += [*captions.TRIM_FORMS, *captions.PAIR_FORMS, *captions.ANY_OBJECT, *ADJECTIVES]
    names = [name for classes in CLASSES.values() for name in classes]
    textures = [name for names in captions.TEXTURE_WORDS.values() for name in names]
    trims = sorted({shape.trim for shape in shapes_by_noun().values() if shape.trim})
    text = " ".join([*forms, *names, *textures, *trims, *MADE_UP, "an"])
    return sorted(set(re.findall(r"[a-z]+", text)))


def build_tokenizer(folder: Path) -> CLIPTokenizer:
    """A byte-level BPE tokenizer in which each of `words()` is one token; it pads with the end token.

    A tokenizer that is already in `folder` is returned unchanged, because a resumed run needs the same token ids.
    """
    if (folder / "tokenizer.json").exists():
        return CLIPTokenizer.from_pretrained(folder)
    bpe = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=10_000,
        min_frequency=2,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bpe.train_from_iterator([" ".join(words())] * 2, trainer)
    model = json.loads(bpe.to_str())["model"]
    pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
    pieces += [letter + "</w>" for letter in alphabet if letter + "</w>" not in model["vocab"]]
    vocabulary = {piece: i for i, piece in enumerate([*(p for p in pieces if p != END), START, END])}
    merges: Any = [tuple(merge) for merge in model["merges"]]
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH, pad_token=END, unk_token=END)
    tokenizer.save_pretrained(folder)
    return tokenizer


def check_tokenizer(tokenizer: CLIPTokenizer) -> None:
    """Assert that no caption of a large sample is cut, each word is one token, and `<` and `>` are not unknown."""
    rng = random.Random(SEED)
    sample = [caption(random_scene(rng), rng) for _ in range(CAPTION_SAMPLE)]
    longest = max(len(ids) for ids in tokenizer(sample).input_ids)
    assert longest <= LENGTH, f"a caption has {longest} tokens, the context is {LENGTH}"
    split = [word for word in words() if len(tokenizer(word).input_ids) != 3]
    assert not split, f"words of more than one token: {split}"
    assert tokenizer.unk_token_id not in tokenizer("<robot>").input_ids[1:-1]


def token_ids(tokenizer: CLIPTokenizer, texts: list[str]) -> Int[Tensor, "batch 40"]:
    """Token ids, padded with the end token."""
    return tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids


def text_config(tokenizer: CLIPTokenizer, width: int, layers: int, heads: int) -> dict[str, Any]:
    """Arguments of `CLIPTextConfig` for a text encoder of this size and the tokenizer's special tokens."""
    shape = {"hidden_size": width, "intermediate_size": 3 * width, "num_hidden_layers": layers}
    ends = {name: getattr(tokenizer, name) for name in END_IDS}
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": LENGTH, "num_attention_heads": heads}
    return {**sizes, **shape, **ends}


def noun_table(scenes: list[Scene]) -> Int[Tensor, "scenes 5"]:
    """Like `data.label_table`, but made-up nouns have labels too."""
    table = data.label_table(scenes)
    table[:, 0] = torch.tensor([NOUNS.index(s.things[0].noun) if len(s.things) == 1 else NOT_LABELLED for s in scenes])
    return table


@torch.no_grad()
def zero_shot(model: ClipModel, tokenizer: CLIPTokenizer, config: TrainingConfig) -> dict[str, float]:
    """Zero-shot accuracy on the validation renders with the prompts of `FORMS`, by attribute."""
    pictures = data.pictures(config.work, "validation")
    labels = data.label_table(data.scenes("validation", len(pictures)))
    parts = [model.get_image_features(to_pixels(part, config.device)) for part in pictures.split(BATCH)]
    embedded = F.normalize(torch.cat([part.pooler_output for part in parts]).float(), dim=-1)
    scores = {}
    for column, name in enumerate(ATTRIBUTES):
        ids = token_ids(tokenizer, [FORMS[name].format(word) for word in CLASSES[name]]).to(config.device)
        texts = F.normalize(model.get_text_features(ids).pooler_output.float(), dim=-1)
        answers = (embedded @ texts.T).argmax(1).cpu()
        scores[name] = round((answers == labels[:, column]).float().mean().item(), 3)
    return scores


def losses(
    model: ClipModel,
    pixels: Float[Tensor, "batch 3 64 64"],
    ids: Int[Tensor, "batch tokens"],
    truth: Int[Tensor, "batch 5"],
) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """CLIP's contrastive loss plus the heads' classification loss, and numbers for the log.

    Args:
        model: with heads for `ATTRIBUTES`.
        pixels: in [-1, 1].
        ids: of each picture's caption.
        truth: labels as of `noun_table`.
    """
    targets = torch.arange(len(pixels), device=pixels.device)
    with autocast(pixels.device):
        features = model.pictures.features(pixels)
        logits = model.similarities(features, ids).float()
        heads = [model.pictures.heads[name](features).float() for name in ATTRIBUTES]
    contrast = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
    attributes = torch.stack([F.cross_entropy(head, truth[:, i]) for i, head in enumerate(heads)])
    top1 = (logits.argmax(1) == targets).float().mean().item()
    return contrast + HEADS_WEIGHT * attributes.sum(), {"contrast": contrast.item(), "top1": top1}


def run(config: TrainingConfig) -> None:
    """Train the text encoder and write it, with its tokenizer, to the folder `clip`."""
    torch.manual_seed(SEED)
    folder = config.work / "clip"
    tokenizer = build_tokenizer(folder)
    check_tokenizer(tokenizer)
    model = channels_last(ClipModel(text_config(tokenizer, WIDTH, LAYERS, HEADS), HEAD_CLASSES), config.device)
    pictures = data.pictures(config.work, "train")
    scenes = data.scenes("train", len(pictures))
    labels = noun_table(scenes)
    training = Training(
        "clip",
        model,
        config,
        steps=config.steps or STEPS,
        peak=PEAK,
        warmup=WARMUP,
        seed=SEED,
        betas=BETAS,
        weight_decay=WEIGHT_DECAY,
    )
    for step in training:
        chosen = torch.randint(len(pictures), (BATCH,), generator=training.generator)
        pixels = to_pixels(pictures[chosen], config.device)
        if step % 2:
            noise = torch.randn(pixels.shape, generator=training.generator)
            pixels = pixels + NOISE * noise.to(config.device)
        shift = [training.rng.randint(-SHIFT, SHIFT) for _ in range(2)]
        pixels = torch.roll(pixels, shift, (2, 3))
        texts = [caption(scenes[i], training.rng) for i in chosen.tolist()]
        ids = tokenizer(texts, padding="longest", return_tensors="pt").input_ids.to(config.device)
        loss, numbers = losses(model, pixels, ids, labels[chosen].to(config.device))
        training.update(loss, **numbers)
    model.text.save_pretrained(folder)
    print("text encoder, zero-shot on validation renders:", zero_shot(model, tokenizer, config), flush=True)
