"""What a model's folder says about its layers and words: mistakes in prompts are found before the weights are read."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptplus.backbones import dit
from promptplus.errors import ModelError
from promptplus.layers import LayerMap
from promptplus.models import POCKET
from promptplus.pocket import PIPELINE
from promptplus.text_files import read_json


@dataclass(frozen=True)
class ModelFolder:
    """What is known of a model before it is loaded.

    Attributes:
        layers: the cross-attention layers of its denoiser.
        words: the tokenizer's vocabulary.
        added: the words in it that were added to the first vocabulary; a prompt may hold them as ``<...>``.
        timesteps: how many timesteps it was trained with.
    """

    layers: LayerMap
    words: frozenset[str]
    added: frozenset[str]
    timesteps: int

    @classmethod
    def read(cls, model: str | os.PathLike[str]) -> "ModelFolder | None":
        """Read a folder in diffusers' layout; None for other models, and where a file is missing or unusual."""
        folder = PIPELINE if str(model) == POCKET else Path(model)
        try:
            scheduler = _json(folder / "scheduler/scheduler_config.json")
            layers = _layers(folder)
            words, added = _vocabulary(folder / "tokenizer")
            return cls(layers, words, added, int(scheduler["num_train_timesteps"]))
        except (ModelError, KeyError, TypeError, ValueError):  # loading says what is wrong
            return None


def _json(path: Path) -> dict[str, Any]:
    # finite=False: a scheduler's may hold -Infinity
    return read_json(path, dict[str, Any], ModelError, "is no JSON object", finite=False)


def _vocabulary(folder: Path) -> tuple[frozenset[str], frozenset[str]]:
    """All words, and the added ones."""
    if (folder / "tokenizer.json").is_file():
        tokenizer = _json(folder / "tokenizer.json")
        added = frozenset(word["content"] for word in tokenizer["added_tokens"])
        vocabulary = tokenizer["model"]["vocab"]  # words by id, or a list of (word, score)
        return added.union(vocabulary if isinstance(vocabulary, dict) else (word for word, _ in vocabulary)), added
    words, more = frozenset(_json(folder / "vocab.json")), folder / "added_tokens.json"
    added = frozenset(_json(more) if more.is_file() else ()) | (words & {"<|startoftext|>", "<|endoftext|>"})
    return words | added, added


def _layers(folder: Path) -> LayerMap:
    """The layers of a model's denoiser, as ``LayerMap.of`` finds them in the model."""
    if (folder / "transformer/config.json").is_file():
        return _of_transformer(_json(folder / "transformer/config.json"))
    return _of_unet(_json(folder / "unet/config.json"))


def _of_transformer(config: Mapping[str, Any]) -> LayerMap:
    """Raises ValueError for a transformer that P+ does not know."""
    if config["_class_name"] not in dit.KNOWN:
        raise ValueError("an unknown transformer")
    resolution = config["sample_size"] // config["patch_size"]
    return LayerMap.from_names([(f"{dit.BLOCK}.{i}", resolution) for i in range(config["num_layers"])])


def _of_unet(config: Mapping[str, Any]) -> LayerMap:
    """Raises ValueError for a U-Net whose blocks differ in more than in how many cross-attention layers they have."""
    per_block, size = config["layers_per_block"], config["sample_size"]
    down, up = config["down_block_types"], config["up_block_types"]
    usual = {"CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"}
    middle = config.get("mid_block_type", "UNetMidBlock2DCrossAttn") == "UNetMidBlock2DCrossAttn"
    alike = isinstance(per_block, int) and isinstance(size, int) and middle
    if not alike or not {*down, *up} <= usual or config.get("reverse_transformer_layers_per_block"):
        raise ValueError("an unusual U-Net")
    last, given = len(down) - 1, config.get("transformer_layers_per_block", 1)
    depths = [given] * len(down) if isinstance(given, int) else list(given)
    found = [(f"down.{b}.{i}", b) for b, kind in enumerate(down) if "CrossAttn" in kind for i in range(per_block)]
    found.append(("mid.0", last))
    found += [
        (f"up.{b}.{i}", last - b) for b, kind in enumerate(up) if "CrossAttn" in kind for i in range(per_block + 1)
    ]
    deep = any(depths[level] > 1 for _, level in found)
    names = [(f"{name}.{k}" if deep else name, level) for name, level in found for k in range(depths[level])]
    return LayerMap.from_names([(name, -(-size // 2**level)) for name, level in names])
