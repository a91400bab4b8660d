"""Weights and long texts through compel, per layer, on the pocket model and on a tiny SDXL."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import promptplus as pp
from promptplus.errors import ModelError, PromptError
from promptplus.weighted_texts import to_compel, without_weights
from tests import tiny_models
from tests.conftest import make_concept

pytest.importorskip("compel")
LONG = "a red house on a white background with many windows, " * 12


@pytest.fixture(scope="module")
def sdxl() -> Any:
    return tiny_models.sdxl()


@pytest.fixture(params=["pocket", "SDXL"])
def pplus(request: pytest.FixtureRequest, pipe: Any, sdxl: Any) -> Iterator[pp.PPlus]:
    with pp.PPlus(pipe if request.param == "pocket" else sdxl) as pplus:
        pplus.add(make_concept(pplus, "<thing>", seed=1, vectors=2))
        yield pplus


def layers_of(pplus: pp.PPlus, prompt: str, **options: Any) -> Tensor:
    """The states of one prompt: [layers, tokens, width]."""
    packed = pplus.encode(prompt, **options)["prompt_embeds"]
    return packed[0].unflatten(-1, (len(pplus.layers), -1)).transpose(0, 1)


@pytest.mark.parametrize("text", ["a red house", "a <thing>, red", "a <thing> || fine: a <thing> in blue"])
def test_texts_without_weights_are_as_ever(pplus: pp.PPlus, text: str) -> None:
    torch.testing.assert_close(layers_of(pplus, text, compel=True), layers_of(pplus, text))


def test_a_weight_scales_the_difference_from_the_empty_text(pplus: pp.PPlus) -> None:
    """compel's definition for weights above 1; "red" is the third token. All other tokens stay."""
    plain, empty = layers_of(pplus, "a red house"), layers_of(pplus, "")
    for text in ("a (red:1.5) house", "a (red)1.5 house"):
        weighted = layers_of(pplus, text, compel=True)
        expected = plain.clone()
        expected[:, 2] = empty[:, 2] + 1.5 * (plain[:, 2] - empty[:, 2])
        torch.testing.assert_close(weighted, expected)


def test_weights_hold_on_the_layers_of_their_part(pplus: pp.PPlus) -> None:
    plain = layers_of(pplus, "a <thing> || fine: a <thing> in red")
    weighted = layers_of(pplus, "a <thing> || fine: a (<thing>:1.4) in (red:0.6)", compel=True)
    changed = [i for i in range(len(plain)) if not torch.allclose(plain[i], weighted[i], atol=1e-5)]
    assert tuple(changed) == pplus.layers.select("fine")


def test_words_beyond_the_context_are_read(pplus: pp.PPlus) -> None:
    with pytest.warns(UserWarning, match="was cut"):
        assert layers_of(pplus, LONG).shape[1] == pplus.positions
    end, other = (layers_of(pplus, f"{LONG} {word}", compel=True) for word in ("cat", "dog"))
    assert end.shape[1] % pplus.positions == 0
    assert end.shape[1] > pplus.positions
    assert torch.equal(end[:, : pplus.positions], other[:, : pplus.positions])
    assert not torch.equal(end, other)


@pytest.mark.parametrize("negative", [None, "bad", LONG])
def test_prompt_and_negative_prompt_are_equally_long_and_can_be_drawn(pplus: pp.PPlus, negative: str | None) -> None:
    embeds: Any = pplus.encode(["a (red:1.2) house", LONG[: len(LONG) // 3]], negative, compel=True)
    assert embeds["prompt_embeds"].shape == embeds["negative_prompt_embeds"].shape
    made = pplus.pipe(**embeds, **tiny_models.small(pplus.pipe), output_type="latent").images
    assert torch.isfinite(made).all()


def test_own_states_are_as_long_as_the_longer_of_both(pplus: pp.PPlus) -> None:
    length = pplus.encode("a", LONG, compel=True)["prompt_embeds"].shape[1]
    own = torch.randn(length, pplus.width)
    made = layers_of(pplus, "a", negative=LONG, compel=True, states={"coarse": own})
    assert all(torch.equal(made[i], own) for i in pplus.layers.select("coarse"))


def test_parts_keep_their_options(pplus: pp.PPlus) -> None:
    plain, part = (layers_of(pplus, f"a || fine: {text}", compel=True) for text in ("a", "a (red:1.3) house"))
    made = layers_of(pplus, "a || fine*0.5: a (red:1.3) house", compel=True)
    torch.testing.assert_close(made, plain + 0.5 * (part - plain))


def test_pooled_embeddings_are_of_the_plain_words(sdxl: Any) -> None:
    with pp.PPlus(sdxl) as pplus:
        weighted = pplus.encode("a (red:1.5) house", compel=True)
        plain = pplus.encode("a red house")
    torch.testing.assert_close(weighted["pooled_prompt_embeds"], plain["pooled_prompt_embeds"])


def test_compel_is_for_clip() -> None:
    with pp.PPlus(tiny_models.pixart()) as pplus, pytest.raises(ModelError, match="not for T5EncoderModel"):
        pplus.encode("a (red:1.5) house", compel=True)


def test_without_compel_the_remedy_is_named(pplus: pp.PPlus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "compel", None)
    with pytest.raises(ModelError, match=r"pip install 'promptplus\[compel\]'"):
        pplus.encode("a (red:1.5) house", compel=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("()", "compel cannot read"),
        ('("a","b").blend(1)', "compel cannot read"),
        ("(" * 300, "brackets are 300 deep"),
        ("(((((a)))))", "brackets are 5 deep"),
        ("(red:-0.5)", "a weight is 0 or more, not -0.5"),
    ],
)
def test_what_compel_cannot_read_is_one_sentence(pplus: pp.PPlus, text: str, message: str) -> None:
    with pytest.raises(PromptError, match=message) as caught:
        pplus.encode(text, compel=True)
    assert "\n" not in str(caught.value)


def test_an_unknown_token_is_found(pplus: pp.PPlus) -> None:
    with pytest.raises(PromptError, match="no concept defines <cat>"):
        pplus.encode("a (<cat>:1.3)", compel=True)


@pytest.mark.parametrize(
    ("text", "compels", "plain"),
    [
        ("a (red:1.3) car", "a (red)1.3 car", "a red car"),
        ("a ((old:1.2) car:0.9)", "a ((old)1.2 car)0.9", "a old car"),
        ("a (red:+1.3) car", "a (red)1.3 car", "a red car"),
        ("a (red:1.) car", "a (red)1 car", "a red car"),
        ("a (red car). Nice", "a (red car). Nice", "a red car. Nice"),
        (r"a \(red\) (car)-", r"a \(red\) (car)-", "a (red) car"),
        ("time (a) : 1.3)", "time (a) : 1.3)", "time a : 1.3"),
        ("a red++ car--", "a red++ car--", "a red car"),
        ("a (red) car, 3:4", "a (red) car, 3:4", "a red car, 3:4"),
        ("well-known", "well-known", "well-known"),
    ],
)
def test_weights_of_other_tools_become_compels(text: str, compels: str, plain: str) -> None:
    assert to_compel(text) == compels
    assert without_weights(text) == plain
