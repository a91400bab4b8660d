"""The judge of words: a whole CLIP (text and vision transformer) of its own, trained on renders that only judges see.

Its text tower, tokenizer and weights are not the generator's. Contrastive loss, helped by heads that name nouns and
attributes and are thrown away. The folder has the layout of `openai/clip-vit-base-patch32`.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from promptplus.pocket.world import ATTRIBUTES, CLASSES, SIZE, caption

from . import data
from .clip import END_IDS, LENGTH, NOUNS, build_tokenizer, noun_table, token_ids
from .common import Options, Training, autocast, to_pixels
from .judges import blemish

WIDTH, PATCH = 192, 8
TEXT = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3, "num_attention_heads": 4}
VISION = {"hidden_size": WIDTH, "intermediate_size": 3 * WIDTH, "num_hidden_layers": 5, "num_attention_heads": 4}
LENGTHS = {"cpu": (1500, 96), "cuda": (12_000, 256)}
"""Steps and batch on each kind of device."""
PEAK, WARMUP, SEED = 1e-3, 100, 5
WEIGHT_DECAY, BETAS = 0.05, (0.9, 0.98)
HEADS_WEIGHT = 0.5
FORMS = {
    "object": "a photo of a {}",
    "colour": "a {} object",
    "texture": "a {} object",
    "background": "an object on a {} background",
    "style": "an object, {}",
}
"""Zero-shot prompts: the word picks the class."""


class Judge(nn.Module):
    """CLIP, and a head for each attribute over its picture embeddings."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        ends: dict[str, Any] = {name: getattr(tokenizer, name) for name in END_IDS}
        text = {**TEXT, **ends, "vocab_size": len(tokenizer), "max_position_embeddings": LENGTH}
        vision = {**VISION, "image_size": SIZE, "patch_size": PATCH}
        self.clip: Any = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH))
        classes = {**CLASSES, "object": NOUNS}
        self.heads = nn.ModuleDict({name: nn.Linear(WIDTH, len(words)) for name, words in classes.items()})

    def pictures(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, 64, 64] in [-1, 1] → embeddings [B, 192], not normalised."""
        return self.clip.get_image_features(pixel_values=pixels).pooler_output.float()

    def texts(self, ids: Tensor) -> Tensor:
        """Ids [B, S] → embeddings [B, 192], not normalised."""
        return self.clip.get_text_features(input_ids=ids).pooler_output.float()

    def similarities(self, pictures: Tensor, texts: Tensor) -> Tensor:
        """Scaled cosines [texts, pictures] of embeddings."""
        return self.clip.logit_scale.exp() * F.normalize(texts, dim=-1) @ F.normalize(pictures, dim=-1).T


@torch.no_grad()
def zero_shot(model: Judge, tokenizer: CLIPTokenizer, options: Options) -> dict[str, float]:
    """Accuracy over the validation renders when the words of `FORMS` pick the class."""
    pictures = data.pictures(options.work, "validation")
    labels = data.label_table(data.scenes("validation", len(pictures)))
    embedded = torch.cat([model.pictures(to_pixels(part, options.device)) for part in pictures.split(128)])
    scores = {}
    for column, name in enumerate(ATTRIBUTES):
        ids = token_ids(tokenizer, [FORMS[name].format(word) for word in CLASSES[name]]).to(options.device)
        answers = model.similarities(embedded, model.texts(ids)).argmax(0).cpu()
        scores[name] = round((answers == labels[:, column]).float().mean().item(), 3)
    return scores


def run(options: Options) -> None:
    """Train, and write the folder `judge_clip`."""
    torch.manual_seed(SEED)
    folder, device = options.work / "judge_clip", options.device
    tokenizer = build_tokenizer(folder)
    model = Judge(tokenizer).to(device)
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
    targets = torch.arange(batch, device=device)
    for _ in training:
        chosen = torch.randint(len(pictures), (batch,), generator=training.generator)
        pixels = blemish(pictures[chosen], training).to(device)
        texts = [caption(scenes[i], training.rng) for i in chosen.tolist()]
        ids = tokenizer(texts, padding="longest", return_tensors="pt").input_ids.to(device)
        truth = labels[chosen].to(device)
        with autocast(device):
            embedded = model.pictures(pixels)
            logits = model.similarities(embedded, model.texts(ids))
        contrast = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
        heads = [F.cross_entropy(model.heads[name](embedded), truth[:, i]) for i, name in enumerate(ATTRIBUTES)]
        top1 = (logits.argmax(1) == targets).float().mean().item()
        training.update(contrast + HEADS_WEIGHT * torch.stack(heads).sum(), contrast=contrast.item(), top1=top1)
    print("judge CLIP, zero-shot on validation renders:", zero_shot(model, tokenizer, options), flush=True)
    model.clip.half().save_pretrained(folder)
    half = [0.5, 0.5, 0.5]
    CLIPImageProcessorPil(
        size={"shortest_edge": SIZE},
        crop_size={"height": SIZE, "width": SIZE},
        image_mean=half,
        image_std=half,
    ).save_pretrained(folder)
