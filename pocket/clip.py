"""The text encoder: trained as CLIP's is, on pictures and captions of the drawn world, with a tokenizer of its own.

Contrastive loss plus a classification of nouns and attributes from the picture side. The picture tower is thrown away
in the end; it has the judge's design and weights of its own, for the spike's vision transformer was slow to learn
shapes (57 % of the objects after 600 steps). The text encoder learns on beside the U-Net. Other numbers from the spike.
"""

import json
import math
import random
import re
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from promptplus.evaluation import judges
from promptplus.evaluation.judges import AttributeJudge
from promptplus.pocket import captions
from promptplus.pocket.scenes import NOT_LABELLED, figures
from promptplus.pocket.words import ADJECTIVES
from promptplus.pocket.world import ATTRIBUTES, CLASSES, MADE_UP, OBJECTS, Scene, caption, random_scene
from promptplus.templates import OBJECT_TEMPLATES

from . import data
from .common import Options, Training, autocast, channels_last, to_pixels

LENGTH = 40
"""Tokens of a prompt, start and end included."""
WIDTH = 128
"""Width of the text states, the U-Net's cross_attention_dim."""
LAYERS, HEADS = 4, 4
STEPS, BATCH, PEAK, WARMUP, SEED = 2500, 128, 1.2e-3, 60, 1
WEIGHT_DECAY, BETAS = 0.05, (0.9, 0.98)
NOUNS = (*OBJECTS, *MADE_UP)
HEADS_WEIGHT = 0.5
FIRST_LOGIT_SCALE, MAX_LOGIT_SCALE = math.log(14), math.log(30)
NOISE, SHIFT = 0.06, 3
"""Half of the batches get noise; every batch is shifted by up to three pixels."""
CAPTION_SAMPLE = 20_000
START, END = "<|startoftext|>", "<|endoftext|>"
END_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def words() -> list[str]:
    """Every word that a caption can hold. The concepts' names are not among them."""
    forms = [*OBJECT_TEMPLATES, *captions.BACKGROUND_FORMS, *captions.STYLE_FORMS, *captions.PICTURE_FORMS]
    forms += [*captions.TRIM_FORMS, *captions.PAIR_FORMS, *captions.ANY_OBJECT, *ADJECTIVES]
    names = [name for classes in CLASSES.values() for name in classes]
    textures = [name for names in captions.TEXTURE_WORDS.values() for name in names]
    trims = sorted({figure.trim for figure in figures().values() if figure.trim})
    text = " ".join([*forms, *names, *textures, *trims, *MADE_UP, "an"])
    return sorted(set(re.findall(r"[a-z]+", text)))


def build_tokenizer(folder: Path) -> CLIPTokenizer:
    """A byte-level BPE in which each of `words()` is one token; anything else falls into pieces. Pads with the end.

    A tokenizer that is already in `folder` is taken as it is, for a resumed run must not number its words anew.
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
    """No caption of a large sample is cut, each word is one token, and `<` and `>` are known."""
    rng = random.Random(SEED)
    sample = [caption(random_scene(rng), rng) for _ in range(CAPTION_SAMPLE)]
    longest = max(len(ids) for ids in tokenizer(sample).input_ids)
    assert longest <= LENGTH, f"a caption has {longest} tokens, the context is {LENGTH}"
    split = [word for word in words() if len(tokenizer(word).input_ids) != 3]
    assert not split, f"words of more than one token: {split}"
    assert tokenizer.unk_token_id not in tokenizer("<robot>").input_ids[1:-1]


def token_ids(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Ids [B, 40], padded with the end token."""
    return tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids


class CaptionedPictures(nn.Module):
    """The text encoder, a picture tower with a head for each attribute, and one space that both point into."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        ends: dict[str, Any] = {name: getattr(tokenizer, name) for name in END_IDS}
        config = CLIPTextConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=LENGTH,
            hidden_size=WIDTH,
            intermediate_size=3 * WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            **ends,
        )
        self.text = CLIPTextModel(config)
        self.pictures = AttributeJudge({**CLASSES, "object": NOUNS})
        self.text_projection = nn.Linear(WIDTH, WIDTH, bias=False)
        self.picture_projection = nn.Linear(judges.WIDTH, WIDTH, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(FIRST_LOGIT_SCALE))

    def picture_embedding(self, features: Tensor) -> Tensor:
        """Features [B, 192] of the picture tower → unit embedding [B, 128]."""
        return F.normalize(self.picture_projection(features).float(), dim=-1)

    def text_embedding(self, ids: Tensor) -> Tensor:
        """Ids [B, S] → unit embedding [B, 128]."""
        return F.normalize(self.text_projection(self.text(input_ids=ids).pooler_output).float(), dim=-1)

    def similarities(self, features: Tensor, ids: Tensor) -> Tensor:
        """Scaled cosines [texts, pictures]."""
        scale = self.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
        return scale * self.text_embedding(ids) @ self.picture_embedding(features).T


def noun_table(scenes: list[Scene]) -> Tensor:
    """int64 [N, 5]: as `data.label_table`, but made-up nouns count as objects too."""
    table = data.label_table(scenes)
    table[:, 0] = torch.tensor([NOUNS.index(s.things[0].noun) if len(s.things) == 1 else NOT_LABELLED for s in scenes])
    return table


@torch.no_grad()
def zero_shot(model: CaptionedPictures, tokenizer: CLIPTokenizer, options: Options) -> dict[str, float]:
    """Accuracy over the validation renders when the words pick the class: "a photo of a house", "a red object", …"""
    forms = {
        "object": "a photo of a {}",
        "colour": "a {} object",
        "texture": "a {} object",
        "background": "an object on a {} background",
        "style": "an object, {}",
    }
    pictures = data.pictures(options.work, "validation")
    labels = data.label_table(data.scenes("validation", len(pictures)))
    features = [model.pictures.features(to_pixels(part, options.device)) for part in pictures.split(BATCH)]
    embeddings = model.picture_embedding(torch.cat(features))
    scores = {}
    for column, name in enumerate(ATTRIBUTES):
        texts = [forms[name].format(word) for word in CLASSES[name]]
        answers = (embeddings @ model.text_embedding(token_ids(tokenizer, texts).to(options.device)).T).argmax(1)
        scores[name] = round((answers.cpu() == labels[:, column]).float().mean().item(), 3)
    return scores


def run(options: Options) -> None:
    """Train, and write the text encoder and its tokenizer to the folder `clip`."""
    torch.manual_seed(SEED)
    folder = options.work / "clip"
    tokenizer = build_tokenizer(folder)
    check_tokenizer(tokenizer)
    model = channels_last(CaptionedPictures(tokenizer), options.device)
    pictures = data.pictures(options.work, "train")
    scenes = data.scenes("train", len(pictures))
    labels = noun_table(scenes)
    training = Training(
        "clip",
        model,
        options,
        steps=options.steps or STEPS,
        peak=PEAK,
        warmup=WARMUP,
        seed=SEED,
        betas=BETAS,
        weight_decay=WEIGHT_DECAY,
    )
    targets = torch.arange(BATCH, device=options.device)
    for step in training:
        chosen = torch.randint(len(pictures), (BATCH,), generator=training.generator)
        pixels = to_pixels(pictures[chosen], options.device)
        if step % 2:
            noise = torch.randn(pixels.shape, generator=training.generator)
            pixels = pixels + NOISE * noise.to(options.device)
        shift = [training.rng.randint(-SHIFT, SHIFT) for _ in range(2)]
        pixels = torch.roll(pixels, shift, (2, 3))
        texts = [caption(scenes[i], training.rng) for i in chosen.tolist()]
        ids = tokenizer(texts, padding="longest", return_tensors="pt").input_ids.to(options.device)
        with autocast(options.device):
            features = model.pictures.features(pixels)
            logits = model.similarities(features, ids).float()
            heads = {name: head(features).float() for name, head in model.pictures.heads.items()}
        contrast = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
        truth = labels[chosen].to(options.device)
        attributes = torch.stack([F.cross_entropy(heads[name], truth[:, i]) for i, name in enumerate(ATTRIBUTES)])
        top1 = (logits.argmax(1) == targets).float().mean().item()
        training.update(contrast + HEADS_WEIGHT * attributes.sum(), contrast=contrast.item(), top1=top1)
    model.text.save_pretrained(folder)
    print("clip, zero-shot on validation renders:", zero_shot(model, tokenizer, options), flush=True)
