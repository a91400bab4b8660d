"""Attention by layer: recomputed weights are the layer's own, and every share has its place."""

from typing import Any

import pytest
import torch

import promptplus as pp
from promptplus.errors import PromptError
from promptplus.experiments.attention import (
    KINDS,
    LabelledPrompt,
    attention_maps,
    attention_shares,
    attention_weights,
    kinds_of,
    positions,
    record_attention,
    shares_of_words,
)
from tests.conftest import latents, make_concept

PROMPT = LabelledPrompt("a red house on a white background", "house", ("red", "white background"))
FEW: dict[str, Any] = {"steps": 2, "guidance": 3.0}


def test_recomputed_weights_give_the_layers_own_output(pplus: pp.PPlus) -> None:
    """Weights times values through the output projection are what the attention returns, in every layer."""
    unet, seen, values = pplus.pipe.unet, {}, {}
    for path in pplus.layers.module_paths():
        attention = unet.get_submodule(path)
        for part in ("to_q", "to_k", "to_v"):
            hook = lambda _m, _i, output, key=(path, part): values.__setitem__(key, output)  # noqa: E731
            getattr(attention, part).register_forward_hook(hook)
        attention.register_forward_hook(lambda _m, _i, output, path=path: seen.__setitem__(path, output))
    kwargs = pplus.encode("a red house")
    with torch.no_grad():
        unet(torch.randn(1, unet.config.in_channels, 16, 16), 500, kwargs["prompt_embeds"])
        for path in pplus.layers.module_paths():
            attention = unet.get_submodule(path)
            query, key, value = (values[path, part] for part in ("to_q", "to_k", "to_v"))
            weights = attention_weights(attention, query, key)
            mixed = weights @ value.unflatten(-1, (attention.heads, -1)).transpose(1, 2)
            output = attention.to_out[0](mixed.transpose(1, 2).flatten(-2))
            torch.testing.assert_close(output, seen[path], rtol=1e-4, atol=1e-5)
    for path in pplus.layers.module_paths():
        for module in unet.get_submodule(path).modules():
            module._forward_hooks.clear()


def test_recording_changes_nothing_and_leaves_no_trace(pplus: pp.PPlus) -> None:
    hooks = [len(module._forward_hooks) for module in pplus.pipe.unet.modules()]
    before = latents(pplus.pipe, **pplus.encode("a red house"))
    with record_attention(pplus.pipe.unet, pplus.layers, guided=True) as recorder:
        assert torch.equal(latents(pplus.pipe, **pplus.encode("a red house")), before)
    assert set(recorder.calls.values()) == {3}
    assert not recorder.outputs
    assert [len(module._forward_hooks) for module in pplus.pipe.unet.modules()] == hooks


def test_maps_are_of_the_prompt_and_not_of_the_negative(pplus: pp.PPlus) -> None:
    """One seed alone equals its part of two; another negative changes the pictures, and the first step's maps not."""
    both, pictures = attention_maps(pplus, "a red house", [0, 1], **FEW)
    assert len(pictures) == 2
    assert [tuple(layer.shape) for layer in both] == [
        (2, layer.resolution**2, pplus.positions) for layer in pplus.layers
    ]
    for layer in both:
        torch.testing.assert_close(layer.sum(-1), torch.ones(layer.shape[:2]))
    alone, _ = attention_maps(pplus, "a red house", [1], **FEW)
    for one, two in zip(alone, both, strict=True):
        torch.testing.assert_close(one[0], two[1], rtol=1e-3, atol=1e-4)
    maps = []
    for negative in ("", "a blue car"):
        with record_attention(pplus.pipe.unet, pplus.layers, guided=True) as recorder:
            latents(pplus.pipe, **pplus.encode("a red house", negative), num_inference_steps=1)
        maps.append(recorder.maps)
    for one, two in zip(*maps, strict=True):
        torch.testing.assert_close(one, two)


def test_shares_sum_to_one(pplus: pp.PPlus) -> None:
    shares = attention_shares(pplus, [PROMPT, LabelledPrompt("a car", "car")], [0, 1], **FEW)
    assert shares.shape == (2, 16, len(KINDS))
    torch.testing.assert_close(shares.sum(-1), torch.ones(2, 16))
    assert (shares[1, :, KINDS.index("appearance")] == 0).all()
    assert (shares[0] > 0).all()
    torch.testing.assert_close(shares_of_words(shares).sum(-1), torch.ones(2, 16))
    torch.testing.assert_close(shares_of_words(shares)[0, :, 0], shares[0, :, 0] / shares[0, :, :4].sum(-1))


def test_every_position_has_its_kind(pplus: pp.PPlus) -> None:
    text = pplus.tokenize(PROMPT.text)
    names = [KINDS[kind] for kind in kinds_of(text, PROMPT, pplus)]
    look, other, after = "appearance", "other words", "after the object"
    assert names[:9] == ["start", other, look, "object", after, other, look, look, "end and padding"]
    assert set(names[9:]) == {"end and padding"}
    for text, kind in (("a house", "end and padding"), ("a house white", look)):
        prompt = LabelledPrompt(text, "house", ("white",) if "white" in text else ())
        assert KINDS[kinds_of(pplus.tokenize(text), prompt, pplus)[3]] == kind


def test_a_concepts_rows_are_its_word(pplus: pp.PPlus) -> None:
    pplus.add(make_concept(pplus, "<thing>", 1, vectors=2))
    text = pplus.tokenize("a red <thing> and a car")
    assert positions(text, "<thing>", pplus) == range(3, 5)
    assert positions(text, "car", pplus).stop - positions(text, "car", pplus).start == 1
    with pytest.raises(PromptError, match="'house' is no part of the text"):
        positions(text, "house", pplus)
