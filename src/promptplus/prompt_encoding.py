"""The texts of all layers → text states, with every text encoder of a pipeline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promptplus.errors import warn
from promptplus.layers import LayerMap
from promptplus.placeholders import Placeholder, TokenizedText, private_copy
from promptplus.text_encoders import NAMES_OF_TWO, TextEncoder, device_of, text_encoders_of
from promptplus.text_encoding import EncodingPlan, encode_texts, send
from promptplus.text_states import TextStates
from promptplus.weighted_texts import WeightedEncoder, without_weights


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
        chunks: 0: a text ends where the context of its text encoder ends. Else compel reads weights and long texts (see
            ``weighted_texts``), and this is the least length in contexts.
    """

    layers: LayerMap
    texts: Sequence[Sequence[str]]
    whole: Sequence[str]
    pooled_layers: Sequence[int]
    negative: bool = False
    cut_padding: bool = False
    chunks: int = 0


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
        if encoder.pools:  # one more text, as of one more layer
            own = {token: placeholder.with_mean_of(layer_texts.pooled_layers) for token, placeholder in own.items()}
        encode = _weighted if layer_texts.chunks else _plain
        encoded.append(encode(pipe, encoder, layer_texts, own, clip_skip, lora_scale))
    return TextStates.side_by_side(encoded)


def _plain(
    pipe: Any,
    encoder: TextEncoder,
    layer_texts: LayerTexts,
    own: Mapping[str, Placeholder],
    clip_skip: int | None,
    lora_scale: float | None,
) -> TextStates:
    """What one text encoder gives, with each text cut to its context."""
    texts, layers = layer_texts.texts, len(layer_texts.layers)
    if encoder.pools:
        texts = [[*each, whole] for each, whole in zip(texts, layer_texts.whole, strict=True)]
    tokenized = _tokenized(pipe, encoder, texts, own, layer_texts.negative)
    if encoder.name in ("", NAMES_OF_TWO[0]):  # the other one cuts at the same word
        for each in tokenized:
            _warn_of_cuts(each[:layers], layer_texts.layers, encoder.length)
    plan = EncodingPlan.of(tokenized, {token: placeholder.groups for token, placeholder in own.items()})
    device, cut = device_of(encoder, pipe), layer_texts.cut_padding
    made = encode_texts(encoder, plan, own, clip_skip=clip_skip, lora_scale=lora_scale, device=device, cut_padding=cut)
    return TextStates.of(made, send(plan.index, made.states.device), layers)


def _weighted(
    pipe: Any,
    encoder: TextEncoder,
    layer_texts: LayerTexts,
    own: Mapping[str, Placeholder],
    clip_skip: int | None,
    lora_scale: float | None,
) -> TextStates:
    """What one text encoder gives for texts with weights, of any length. The pooled text has no weights, and is cut."""
    device = device_of(encoder, pipe)
    weighted = WeightedEncoder(encoder, device or encoder.model.device, clip_skip, lora_scale)
    made = weighted(layer_texts.texts, own, layer_texts.chunks)
    pooled = None
    if encoder.pools:
        texts = _tokenized(pipe, encoder, [[without_weights(whole)] for whole in layer_texts.whole], own, False)
        last = {token: Placeholder(placeholder.rows[-1:], (0,)) for token, placeholder in own.items()}
        plan = EncodingPlan.of(texts, {token: placeholder.groups for token, placeholder in last.items()})
        whole = encode_texts(encoder, plan, last, lora_scale=lora_scale, device=device)
        pooled = whole.pooled if whole.pooled is None else whole.pooled[send(plan.index[:, 0], whole.states.device)]
    return TextStates(made.states[send(made.row_of, made.states.device)], pooled=pooled)


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
