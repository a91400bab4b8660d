"""The texts of all layers → text states, with every text encoder of a pipeline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promptplus.errors import PromptError, short, warn
from promptplus.layers import LayerMap
from promptplus.placeholders import Placeholder, TokenizedText, private_copy
from promptplus.text_encoders import NAMES_OF_TWO, TextEncoder, device_of, text_encoders_of
from promptplus.text_encoding import EncodingPlan, encode_texts, send
from promptplus.text_states import TextStates


@dataclass(frozen=True)
class LayerTexts:
    """What is encoded.

    Attributes:
        layers: the layers of the denoiser.
        texts: for each prompt, one text for each layer in forward order.
        whole: for each prompt, the text of its pooled embedding.
        pooled_layers: the layers whose rows' mean stands for a token in it.
        negative: whether the texts are negative prompts.
        cut_padding: as in ``encode_texts``.
    """

    layers: LayerMap
    texts: Sequence[Sequence[str]]
    whole: Sequence[str]
    pooled_layers: Sequence[int]
    negative: bool = False
    cut_padding: bool = False


def common_text(texts: Sequence[str], chosen: Sequence[int], default: str) -> str:
    """The text of the chosen layers, or the default where none are chosen.

    Raises PromptError where the chosen layers have different texts.
    """
    found = list(dict.fromkeys(texts[layer] for layer in chosen)) or [default]
    if len(found) > 1:
        raise PromptError(f"pooled_layers have different texts, {short(found[0])} and {short(found[1])}; choose others")
    return found[0]


def encode_layer_texts(
    pipe: Any,
    layer_texts: LayerTexts,
    known: Mapping[str, Placeholder],
    *,
    clip_skip: int | None = None,
    lora_scale: float | None = None,
) -> TextStates:
    """Encode with each text encoder, and put the states side by side. Warns of words that do not fit.

    Args:
        known: the rows of all tokens that the texts may hold; with two text encoders a row holds both embeddings.
        clip_skip, lora_scale: as in ``PPlus.encode``.
    """
    encoded: list[TextStates] = []
    start = 0
    for encoder in text_encoders_of(pipe):
        columns = slice(start, start := start + encoder.width)
        own = {token: placeholder.of_columns(columns) for token, placeholder in known.items()}
        texts = layer_texts.texts
        if encoder.pools:  # one more text, as of one more layer
            own = {token: placeholder.with_mean_of(layer_texts.pooled_layers) for token, placeholder in own.items()}
            texts = [[*each, whole] for each, whole in zip(texts, layer_texts.whole, strict=True)]
        tokenized = _tokenized(pipe, encoder, texts, own, layer_texts.negative)
        if encoder.name in ("", NAMES_OF_TWO[0]):  # the other one cuts at the same word
            for each in tokenized:
                _warn_of_cuts(each[: len(layer_texts.layers)], layer_texts.layers, encoder.length)
        plan = EncodingPlan.of(tokenized, {token: placeholder.groups for token, placeholder in own.items()})
        device = device_of(encoder, pipe)
        cut, how = layer_texts.cut_padding, {"clip_skip": clip_skip, "lora_scale": lora_scale}
        made = encode_texts(encoder, plan, own, **how, device=device, cut_padding=cut)
        encoded.append(TextStates.of(made, send(plan.index, made.states.device), len(layer_texts.layers)))
    return TextStates.side_by_side(encoded)


def stock_form(pipe: Any, text: str, encoder: TextEncoder) -> str:
    """A text in which the multi-vector textual inversions that were loaded into the stock pipeline are spelled out."""
    convert = getattr(pipe, "maybe_convert_prompt", None)
    return convert(text, private_copy(encoder.tokenizer)) if convert else text


def _tokenized(
    pipe: Any,
    encoder: TextEncoder,
    texts: Sequence[Sequence[str]],
    known: Mapping[str, Placeholder],
    negative: bool,
) -> list[list[TokenizedText]]:
    vectors = {token: placeholder.vectors for token, placeholder in known.items()}
    unique = dict.fromkeys(text for each in texts for text in each)
    by_text = {text: encoder.tokenize(stock_form(pipe, text, encoder), vectors, negative=negative) for text in unique}
    return [[by_text[text] for text in each] for each in texts]


def _warn_of_cuts(texts: Sequence[TokenizedText], layers: LayerMap, length: int) -> None:
    """Warn about the words that did not fit into a text, with the layers whose text they belong to."""
    cuts: dict[str, list[int]] = {}
    for index, text in enumerate(texts):
        if text.cut:
            cuts.setdefault(text.cut, []).append(index)
    for cut, indices in cuts.items():
        warn(f"the text of {layers.describe(tuple(indices))} was cut to {length} tokens; left out: {cut!r}")
