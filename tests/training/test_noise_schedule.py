"""Each kind of prediction is trained on its own target; all others are refused by name."""

import copy
from typing import Any

import diffusers
import pytest
import torch
from PIL import Image

import promptplus as pp
from promptplus.denoiser_calls import DenoiserCall
from promptplus.errors import ModelError
from promptplus.training.batches import Batch, BatchRule, LatentCache
from promptplus.training.loss import denoising_losses
from promptplus.training.noise_schedule import check_trainable, target_of, training_scheduler
from tests.conftest import make_concept


def with_scheduler(pipe: Any, scheduler: Any) -> Any:
    own = copy.copy(pipe)
    own.scheduler = scheduler
    return own


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_the_target_gives_the_clean_latents_back(pipe: Any, kind: str) -> None:
    """Oracle in float64: the clean latents, solved from the noisy ones and the target by hand."""
    scheduler = training_scheduler(
        with_scheduler(pipe, type(pipe.scheduler).from_config(pipe.scheduler.config, prediction_type=kind))
    )
    latents, noise = torch.randn(2, 3, 4, 5, 5, dtype=torch.float64)
    timestep = torch.tensor([3, 400, 900])
    alpha = scheduler.alphas_cumprod.double()[timestep].view(-1, 1, 1, 1)
    noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
    target = target_of(scheduler, latents, noise, timestep)
    solved = {
        "epsilon": (noisy - (1 - alpha).sqrt() * target) / alpha.sqrt(),
        "v_prediction": alpha.sqrt() * noisy - (1 - alpha).sqrt() * target,
        "sample": target,
    }[kind]
    torch.testing.assert_close(solved, latents, rtol=1e-5, atol=1e-5)  # the schedule itself is in float32


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_min_snr_is_the_clipped_error_of_the_clean_latents(pplus: pp.PPlus, kind: str) -> None:
    """Whatever is predicted, the weighed error is min(SNR, 5) times the squared error of the clean latents."""
    scheduler = type(training_scheduler(pplus.pipe)).from_config(
        pplus.pipe.scheduler.config, prediction_type=kind, rescale_betas_zero_snr=False
    )
    shape = (1, 1, pplus.pipe.vae.config.latent_channels, 16, 16)
    cache = LatentCache(torch.randn(2, *shape[1:]), torch.zeros(2, *shape[1:]), 1.0, 0.0)
    batch = Batch.of("0/<x>", 0, cache, BatchRule(3, 1000, 1))
    latents, states = cache.sample(batch), pplus.text_states([["a house"] * 16] * 3)
    with torch.no_grad():
        weighed = denoising_losses(DenoiserCall.of(pplus.pipe), scheduler, latents, batch, states, 5.0)
        noisy = scheduler.add_noise(latents, batch.noise, batch.timestep)
        answer = pplus.pipe.unet(noisy, batch.timestep, encoder_hidden_states=pp.pack(states.states)).sample
    alpha = scheduler.alphas_cumprod[batch.timestep].view(-1, 1, 1, 1)
    clean = {
        "epsilon": (noisy - (1 - alpha).sqrt() * answer) / alpha.sqrt(),
        "v_prediction": alpha.sqrt() * noisy - (1 - alpha).sqrt() * answer,
        "sample": answer,
    }[kind]
    snr = (alpha / (1 - alpha)).flatten()
    expected = snr.clamp(max=5.0) * (clean - latents).square().mean((1, 2, 3))
    torch.testing.assert_close(weighed, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "FlowMatchEulerDiscreteScheduler",
        "EDMEulerScheduler",
        "SCMScheduler",
        "IPNDMScheduler",
        "CMStochasticIterativeScheduler",
    ],
)
def test_schedulers_of_other_kinds_are_refused_by_name(pipe: Any, name: str) -> None:
    with pytest.raises(ModelError, match=f"{name} with prediction type"):
        check_trainable(with_scheduler(pipe, getattr(diffusers, name)()))


@pytest.mark.parametrize("name", ["FlowMatchEulerDiscreteScheduler", "EDMEulerScheduler", "CogVideoXDDIMScheduler"])
def test_a_scheduler_that_keeps_the_models_settings_unused_is_refused(pipe: Any, name: str) -> None:
    """``from_config`` copies prediction type and betas into classes that ignore them."""
    with pytest.raises(ModelError, match=f"{name} with prediction type 'v_prediction'"):
        check_trainable(with_scheduler(pipe, getattr(diffusers, name).from_config(pipe.scheduler.config)))


@pytest.mark.parametrize(
    "name", ["DDIMScheduler", "HeunDiscreteScheduler", "LCMScheduler", "PNDMScheduler", "UnCLIPScheduler"]
)
def test_the_noise_schedule_is_the_schedulers_own_also_by_default(pipe: Any, name: str) -> None:
    """``from_config`` gives settings that are a class's defaults the other class's defaults instead."""
    scheduler = getattr(diffusers, name)()
    made = training_scheduler(with_scheduler(pipe, scheduler))
    torch.testing.assert_close(made.alphas_cumprod, scheduler.alphas_cumprod)


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler"])
def test_flow_prediction_is_refused_by_name(pplus: pp.PPlus, pictures: list[Image.Image], name: str) -> None:
    scheduler = getattr(diffusers, name)(prediction_type="flow_prediction", use_flow_sigmas=True)
    with (
        pp.PPlus(with_scheduler(pplus.pipe, scheduler)) as own,
        pytest.raises(ModelError, match="prediction type 'flow_prediction' cannot be trained with"),
    ):
        pp.invert(own, pictures, "<x>", "object", steps=1, progress=False)


def test_denoisers_with_further_inputs_are_refused_by_name(pipe: Any) -> None:
    own = copy.copy(pipe)
    own.register_modules(unet=type(pipe.unet).from_config(pipe.unet.config, num_class_embeds=4))
    with pytest.raises(ModelError, match="has num_class_embeds 4"):
        check_trainable(own)
    adapted = copy.copy(pipe)
    adapted.register_modules(unet=copy.deepcopy(pipe.unet))
    adapted.unet.encoder_hid_proj = torch.nn.Identity()
    with pytest.raises(ModelError, match="unload_ip_adapter"):
        check_trainable(adapted)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_training_works_where_the_caller_records_no_gradients(
    pplus: pp.PPlus, pictures: list[Image.Image], mode: Any
) -> None:
    options: dict[str, Any] = {"steps": 2, "batch_size": 1, "progress": False}
    expected = pp.invert(pplus, pictures, "<x>", "object", **options)
    with mode():
        learned = pp.invert(pplus, pictures, "<x>", "object", **options)
        assert not torch.is_grad_enabled()
    assert torch.equal(learned.rows, expected.rows)
    pplus.add(make_concept(pplus, "<y>", 0))
    with mode():
        inside = pplus.encode("a <y>")["prompt_embeds"].clone()
    assert torch.equal(inside, pplus.encode("a <y>")["prompt_embeds"])
