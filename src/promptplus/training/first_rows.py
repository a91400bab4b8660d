"""The token rows that a training begins with: the initializer's where it learns, the class word's elsewhere."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from promptplus.choices import Tying
from promptplus.concept import tie
from promptplus.errors import ConceptError, SettingsError, warn
from promptplus.layers import LayerMap
from promptplus.placeholders import private_copy
from promptplus.pplus import PPlus
from promptplus.training.norm_constraint import NormConstraint
from promptplus.training.settings import InversionSettings


def learned_layers(layers: LayerMap, settings: InversionSettings, tying: Tying) -> tuple[int, ...]:
    """The layers whose rows are trained: those of ``learn``, or all.

    Raises LayerError where the model has no such layers, and SettingsError where a layer to be learned shares its row
    with one that is not.
    """
    if settings.learn is None:
        return tuple(range(len(layers)))
    learned, groups = layers.select(settings.learn), tie(tying, layers)
    numbers = {groups[layer] for layer in learned}
    if split := [layer for layer, group in enumerate(groups) if group in numbers and layer not in learned]:
        if tying == "all":
            raise SettingsError(f"learn {settings.learn!r}: all layers share one row (ti, tying all); use method xti")
        raise SettingsError(
            f"learn {settings.learn!r}: {layers.describe(tuple(split))} would share rows with these layers (tying "
            f"{tying}); name them too, or set tying to layer"
        )
    return learned


def class_word_rows(pplus: PPlus, class_word: str, vectors: int) -> Float[Tensor, "vectors width"]:
    """The class word's token embeddings: with them the layers that are not learned read the class word, exactly.

    Raises SettingsError where it has more or fewer tokens than ``vectors``: a text would have other words there.
    """
    parts: list[Float[Tensor, "vectors part"]] = []
    for encoder in pplus.encoders:
        ids = _token_ids(encoder.tokenizer, class_word)
        if len(ids) != vectors:
            raise SettingsError(
                f"vectors {vectors}: the layers that are not learned hold the class word {class_word!r}, which has "
                f"{len(ids)} token{'s' * (len(ids) != 1)}; give as many vectors, or another class word"
            )
        parts.append(encoder.table.detach()[ids].float().cpu())
    return torch.cat(parts, dim=-1)


def initial_rows(pplus: PPlus, initializer: str, settings: InversionSettings) -> Float[Tensor, "1 vectors width"]:
    """The rows that every layer begins with: the initializer's token embedding, the mean where it has several tokens.

    Where the settings' constraint forbids these rows, the nearest rows that it allows.
    Raises ConceptError where the tokenizer has no token for the initializer.
    """
    means: list[Float[Tensor, " part"]] = []
    for number, encoder in enumerate(pplus.encoders):
        ids = _token_ids(encoder.tokenizer, initializer)
        if not ids:
            raise ConceptError(
                f"the initializer {initializer!r} is no word of the tokenizer; give a plain word, as cat"
            )
        if len(ids) > 1 and not number:
            pieces = ", ".join(encoder.tokenizer.convert_ids_to_tokens(ids))
            warn(f"the initializer {initializer!r} has the pieces {pieces}; starting at their mean")
        means.append(encoder.table.detach()[ids].float().mean(dim=0))
    start = torch.cat(means).repeat(1, settings.vectors, 1)
    tables = [encoder.table.detach() for encoder in pplus.encoders]
    return NormConstraint.of(settings.constraint, tables, start).fit(start).cpu()


def _token_ids(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text's tokens as they are after another word, where Gemma's differ."""
    return private_copy(tokenizer)(f" {text}", add_special_tokens=False).input_ids
