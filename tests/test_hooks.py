"""Hooks: shared by all owners, gone with the last one, and what they refuse."""

import copy
import gc
import pickle
from typing import Any

import accelerate
import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, UNet2DConditionModel, UNetMotionModel
from PIL import Image

import promptplus as pp
from promptplus.errors import LayerError, ModelError, PromptError, PromptPlusError
from tests.conftest import latents, make_concept


def count(model: torch.nn.Module) -> int:
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())


def all_hooks(pipe: Any) -> int:
    return count(pipe.unet) + count(pipe.text_encoder)


def test_hooks_leave_with_their_owner(pipe: Any) -> None:
    assert all_hooks(pipe) == 0
    pplus = pp.PPlus(pipe)
    assert (count(pipe.unet), count(pipe.text_encoder)) == (16, 1)
    del pplus
    gc.collect()
    assert all_hooks(pipe) == 0


def test_hooks_do_not_pile_up(pipe: Any) -> None:
    owners = [pp.PPlus(pipe) for _ in range(4)]
    assert all_hooks(pipe) == 17
    owners[0].remove()
    assert all_hooks(pipe) == 17
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
    assert count(pipe.unet) == 16
    with pp.per_layer(pipe.unet):
        assert count(pipe.unet) == 16
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
        assert all_hooks(copied) == 17
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


def test_a_video_denoiser_is_refused_for_what_it_is() -> None:
    options = {"block_out_channels": (32, 64), "norm_num_groups": 8, "cross_attention_dim": 8, "layers_per_block": 1}
    options |= {"down_block_types": ("CrossAttnDownBlockMotion", "DownBlockMotion"), "motion_num_attention_heads": 2}
    options |= {"up_block_types": ("UpBlockMotion", "CrossAttnUpBlockMotion"), "num_attention_heads": 2}
    with pytest.raises(LayerError, match="makes videos"):
        pp.per_layer(UNetMotionModel(**options))


# ---- ControlNets


@pytest.fixture(scope="module")
def controlnet(pipe: Any) -> ControlNetModel:
    torch.manual_seed(0)
    model = ControlNetModel.from_unet(pipe.unet, conditioning_embedding_out_channels=(8, 16, 32)).eval()
    with torch.no_grad():
        for block in (*model.controlnet_down_blocks, model.controlnet_mid_block):
            block.weight.normal_(0, 0.02)
    return model


def control_pipeline(pipe: Any, model: Any) -> Any:
    own = StableDiffusionControlNetPipeline(**pipe.components, controlnet=model, requires_safety_checker=False)
    own.set_progress_bar_config(disable=True)
    return own


@pytest.mark.parametrize("number", [1, 2])
def test_a_controlnet_takes_the_parts_of_its_layers(pipe: Any, controlnet: ControlNetModel, number: int) -> None:
    own = control_pipeline(pipe, controlnet if number == 1 else [controlnet] * number)
    edges = Image.new("RGB", (64, 64), "white")
    call = {"image": edges if number == 1 else [edges] * number, "height": 64, "width": 64}
    bare = latents(own, prompt="a red house", negative_prompt="", **call)
    with pp.PPlus(own) as pplus:
        assert torch.equal(latents(own, **pplus.encode("a red house"), **call), bare)
        split = latents(own, **pplus.encode("a red house || coarse: a car"), **call)
    assert not torch.equal(split, bare)
    assert count(controlnet) == 0


def test_the_layers_of_a_controlnet_see_their_own_text(pipe: Any, controlnet: ControlNetModel) -> None:
    seen: dict[str, torch.Tensor] = {}
    with pp.PPlus(control_pipeline(pipe, controlnet)) as pplus:
        own = pp.LayerMap.of(controlnet)
        assert own.names == pplus.layers.names[:7]
        states = torch.randn(1, 16, 5, 128)
        handles = [
            controlnet.get_submodule(path).to_k.register_forward_pre_hook(
                lambda _m, args, name=name: seen.__setitem__(name, args[0].clone())
            )
            for name, path in zip(own.names, own.module_paths(), strict=True)
        ]
        noisy, condition = torch.randn(1, pipe.unet.config.in_channels, 16, 16), torch.zeros(1, 3, 64, 64)
        with torch.no_grad():
            controlnet(noisy, 500, encoder_hidden_states=pp.pack(states), controlnet_cond=condition)
        for handle in handles:
            handle.remove()
    for name in own.names:
        assert torch.equal(seen[name], states[:, pplus.layers.names.index(name)])


def test_a_controlnet_alone_needs_the_layers_of_its_unet(pipe: Any, controlnet: ControlNetModel) -> None:
    with pytest.raises(ModelError, match=r"per_layer\(controlnet, layers=LayerMap.of\(unet\)\)"):
        pp.per_layer(controlnet)
    with pp.per_layer(controlnet, layers=pp.LayerMap.of(pipe.unet)):
        assert count(controlnet) == 7
    assert count(controlnet) == 0


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
        assert all_hooks(copied.pipe) == (17 if copied.pipe is pipe else 0)
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


def test_a_text_encoder_that_is_offloaded_alone_encodes(pipe: Any) -> None:
    own = copy.copy(pipe)
    own.register_modules(text_encoder=copy.deepcopy(pipe.text_encoder))
    with pp.PPlus(own) as pplus:
        pplus.add(make_concept(pplus, "<x>", 1))
        expected = pplus.encode("a <x>")["prompt_embeds"]
        accelerate.cpu_offload(own.text_encoder, execution_device=torch.device("cpu"))
        assert torch.equal(pplus.encode("a <x>")["prompt_embeds"], expected)
