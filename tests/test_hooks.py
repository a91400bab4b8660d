"""Hooks: shared by all owners, gone with the last one, and what they refuse."""

import copy
import gc
import pickle
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

import promptplus as pp
from promptplus.errors import ModelError, PromptError, PromptPlusError
from tests.conftest import latents, make_concept


@pytest.fixture(scope="module")
def pipe() -> Any:
    """A pipeline of this file alone: transformers leaves hooks of its own where hidden states were asked for."""
    pipe = pp.load("pocket", device="cpu")
    pipe.set_progress_bar_config(disable=True)
    return pipe


ON_UNET = 1 + 2 * 16  # one on the U-Net, and before and after each layer


def count(model: torch.nn.Module) -> int:
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())


def all_hooks(pipe: Any) -> int:
    return count(pipe.unet) + count(pipe.text_encoder)


def test_hooks_leave_with_their_owner(pipe: Any) -> None:
    assert all_hooks(pipe) == 0
    pplus = pp.PPlus(pipe)
    assert (count(pipe.unet), count(pipe.text_encoder)) == (ON_UNET, 1)
    del pplus
    gc.collect()
    assert all_hooks(pipe) == 0


def test_hooks_do_not_pile_up(pipe: Any) -> None:
    owners = [pp.PPlus(pipe) for _ in range(4)]
    assert all_hooks(pipe) == ON_UNET + 1
    owners[0].remove()
    assert all_hooks(pipe) == ON_UNET + 1
    assert latents(pipe, **owners[1].encode("a red house || coarse: a car")).isfinite().all()
    for owner in owners:
        owner.remove()
    assert all_hooks(pipe) == 0


def test_what_was_encoded_keeps_the_hooks(pipe: Any) -> None:
    kwargs = pp.PPlus(pipe).encode("a red house || coarse: a car")
    gc.collect()
    assert latents(pipe, **kwargs).isfinite().all()
    del kwargs
    gc.collect()
    assert all_hooks(pipe) == 0


def test_hooks_of_per_layer_stay_until_they_are_removed(pipe: Any) -> None:
    pp.per_layer(pipe.unet)
    gc.collect()
    assert count(pipe.unet) == ON_UNET
    with pp.per_layer(pipe.unet):
        assert count(pipe.unet) == ON_UNET
    assert count(pipe.unet) == 0


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_of_a_hooked_model_works_and_can_be_cleaned(pipe: Any, duplicate: Any) -> None:
    with pp.PPlus(pipe) as pplus:
        pplus.add(make_concept(pplus, "<x>", 1))
        packed = pplus.encode("a <x> || coarse: a car")
        parts = {"unet": duplicate(pipe.unet), "text_encoder": duplicate(pipe.text_encoder)}
        expected = latents(pipe, **packed)
    copied = type(pipe)(**{**pipe.components, **parts}, requires_safety_checker=False)
    copied.set_progress_bar_config(disable=True)
    assert torch.equal(latents(copied, **packed), expected)
    with pp.PPlus(copied) as pplus:
        assert all_hooks(copied) == ON_UNET + 1
        pplus.add(make_concept(pplus, "<x>", 1))
        assert torch.equal(pplus.encode("a <x> || coarse: a car")["prompt_embeds"], packed["prompt_embeds"])
    assert all_hooks(copied) == 0


def test_an_exchanged_denoiser_is_noticed(pipe: Any) -> None:
    own = copy.copy(pipe)
    with pp.PPlus(own) as pplus:
        own.register_modules(unet=copy.deepcopy(pipe.unet))
        with pytest.raises(ModelError, match="another denoiser since P\\+ was installed"):
            pplus.encode("a")


def small_unet(**options: Any) -> UNet2DConditionModel:
    blocks = {"block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8, "sample_size": 16}
    blocks |= {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D")}
    blocks |= {"up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "cross_attention_dim": 8}
    return UNet2DConditionModel(**{**blocks, "attention_head_dim": 8, **options})


@pytest.mark.parametrize(
    "options",
    [
        {"encoder_hid_dim_type": "text_proj", "encoder_hid_dim": 12},
        {"addition_embed_type": "text", "encoder_hid_dim": None},
    ],
    ids=["text projection", "text embedding"],
)
def test_a_denoiser_that_takes_text_elsewhere_is_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=f"has {next(iter(options))} '.*cannot be packed"):
        pp.per_layer(small_unet(**options))


# ---- arguments


def test_states_of_another_shape_are_not_packed() -> None:
    with pytest.raises(PromptError, match=r"\[batch, layers, tokens, width\], not \[2, 3, 4\]"):
        pp.pack(torch.zeros(2, 3, 4))


# ---- what was exchanged, or copied, since P+ was installed


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda owner: pickle.loads(pickle.dumps(owner))])
def test_a_copy_of_a_pplus_has_hooks_of_its_own(pipe: Any, duplicate: Any) -> None:
    with pp.PPlus(pipe) as pplus:
        pplus.add(make_concept(pplus, "<x>", 1))
        packed = pplus.encode("a <x> || coarse: a car")
        expected = latents(pipe, **packed)
        copied = duplicate(pplus)
        copied.pipe.set_progress_bar_config(disable=True)
        again = copied.encode("a <x> || coarse: a car")
        assert torch.equal(again["prompt_embeds"], packed["prompt_embeds"])
        assert torch.equal(latents(copied.pipe, **again), expected)
        copied.remove()
        assert all_hooks(copied.pipe) == (ON_UNET + 1 if copied.pipe is pipe else 0)
        assert torch.equal(latents(pipe, **pplus.encode("a <x> || coarse: a car")), expected)
        with pytest.raises(PromptPlusError, match="was removed"):
            duplicate(copied).encode("a")


def test_an_exchanged_tokenizer_is_used(pipe: Any) -> None:
    own = copy.copy(pipe)
    with pp.PPlus(own) as pplus:
        tokenizer = copy.deepcopy(pipe.tokenizer)
        tokenizer.add_tokens(["zzz"])
        own.register_modules(tokenizer=tokenizer)
        assert pplus.tokenize("a zzz").ids[2] == len(tokenizer) - 1
