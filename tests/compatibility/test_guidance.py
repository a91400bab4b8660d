"""Guidance, schedulers, and options of the denoiser's attention."""

from typing import Any

import diffusers
import pytest
import torch

import promptplus as pp
from tests.compatibility.cases import ALL, TRANSFORMERS, UNETS, Expected, another, check, check_both_orders, compatible

PERTURBED = {
    "Stable Diffusion 1": ("StableDiffusionPAGPipeline", "mid"),
    "Stable Diffusion 2": ("StableDiffusionPAGPipeline", "mid"),
    "SDXL": ("StableDiffusionXLPAGPipeline", "mid"),
    "PixArt-Sigma": ("PixArtSigmaPAGPipeline", "blocks.1"),
    "Sana": ("SanaPAGPipeline", "transformer_blocks.1"),
}


@compatible("no guidance (a scale of 1)", *ALL)
def test_no_guidance(shared: Any) -> None:
    expected = Expected.of(shared, guidance_scale=1.0)
    with pp.PPlus(shared) as pplus:
        check(pplus, expected, guidance_scale=1.0)


@compatible("rescaled guidance", *UNETS)
def test_rescaled_guidance(shared: Any) -> None:
    call = {"guidance_scale": 9.0, "guidance_rescale": 0.7}
    expected = Expected.of(shared, **call)
    with pp.PPlus(shared) as pplus:
        check(pplus, expected, **call)


@compatible("perturbed-attention guidance (PAG)", *PERTURBED)
def test_perturbed_attention_guidance(shared: Any, model: str, plain: Expected) -> None:
    kind, layers = PERTURBED[model]
    perturbed = another(shared, kind, pag_applied_layers=[layers])
    expected = Expected.of(perturbed, pag_scale=2.0)
    with pp.PPlus(perturbed) as pplus:
        check(pplus, expected, pag_scale=2.0)
    assert not torch.equal(expected.stock, plain.stock)


@pytest.mark.slow
@compatible("schedulers: DDIM, DPM-Solver++, Euler, LCM", *UNETS, "PixArt-Sigma")
def test_schedulers(pipe: Any) -> None:
    for name in ("DDIMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler", "LCMScheduler"):
        pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config)
        expected = Expected.of(pipe)
        with pp.PPlus(pipe) as pplus:
            check(pplus, expected)


@compatible("flow schedulers: DPM-Solver++, Euler", "Sana")
def test_flow_schedulers(pipe: Any) -> None:
    euler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    for scheduler in (pipe.scheduler, euler):
        pipe.scheduler = scheduler
        expected = Expected.of(pipe)
        with pp.PPlus(pipe) as pplus:
            check(pplus, expected)


@compatible("FreeU", *UNETS)
def test_freeu(pipe: Any, plain: Expected) -> None:
    expected = check_both_orders(pipe, lambda pipe: pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4))
    assert not torch.equal(expected.stock, plain.stock)


@compatible("attention slicing", *UNETS)
def test_attention_slicing(pipe: Any) -> None:
    check_both_orders(pipe, lambda pipe: pipe.enable_attention_slicing(1))


@pytest.mark.slow
@compatible("fused projections (fuse_qkv_projections)", *UNETS, *TRANSFORMERS)
def test_fused_projections(pipe: Any) -> None:
    check_both_orders(pipe, lambda pipe: denoiser(pipe).fuse_qkv_projections())


def denoiser(pipe: Any) -> Any:
    return pipe.unet if hasattr(pipe, "unet") else pipe.transformer
