"""Memory: weights on another device than they run on, or in fewer bits; and what is computed twice or in parts.

The CPU stands for the accelerator: the same hooks of accelerate and diffusers move weights from the CPU to the CPU.
"""

from typing import Any

import accelerate
import pytest
import torch

import promptplus as pp
from tests.compatibility.cases import ALL, Expected, check_both_orders, compatible, draw, own, same
from tests.compatibility.oracle import denoisers

CPU = torch.device("cpu")


@compatible("enable_model_cpu_offload", *ALL)
def test_model_offloading(pipe: Any, plain: Expected) -> None:
    check_both_orders(pipe, lambda pipe: pipe.enable_model_cpu_offload(device="cpu"), plain)


@compatible("enable_sequential_cpu_offload", *ALL)
def test_sequential_offloading(pipe: Any, plain: Expected) -> None:
    """This is what enable_sequential_cpu_offload does. It says "cpu:0", for which accelerate fails, without P+ too."""

    def offload(pipe: Any) -> None:
        for part in pipe.components.values():
            if isinstance(part, torch.nn.Module):
                accelerate.cpu_offload(part, CPU, offload_buffers=len(part._parameters) > 0)

    check_both_orders(pipe, offload, plain)


@compatible("enable_group_offload", *ALL)
@pytest.mark.parametrize("level", ["block_level", pytest.param("leaf_level", marks=pytest.mark.slow)])
def test_group_offloading(pipe: Any, plain: Expected, level: str) -> None:
    call = {"onload_device": CPU, "offload_type": level}
    call |= {"num_blocks_per_group": 1} if level == "block_level" else {}
    check_both_orders(pipe, lambda pipe: pipe.enable_group_offload(**call), plain)


@compatible("enable_layerwise_casting", *ALL)
def test_layerwise_casting(pipe: Any, plain: Expected) -> None:
    """Weights are kept in eight bits, and cast for each layer's computation."""
    types = {"storage_dtype": torch.float8_e4m3fn, "compute_dtype": torch.float32}
    expected = check_both_orders(pipe, lambda pipe: denoisers(pipe)[0].enable_layerwise_casting(**types))
    assert not torch.equal(expected.stock, plain.stock)


@compatible("a text encoder that is offloaded alone", *ALL)
def test_an_offloaded_text_encoder(pipe: Any, plain: Expected) -> None:
    """Only what it encodes is compared: a stock pipeline takes the text encoder's device for its own."""
    with pp.PPlus(pipe) as pplus:
        expected = own(pplus)
        accelerate.cpu_offload(pipe.text_encoder, execution_device=CPU)
        encoded = own(pplus)
    assert encoded.keys() == expected.keys()
    assert all(torch.equal(encoded[name], expected[name]) for name in encoded if "embeds" in name)


@compatible("VAE tiling and slicing", *ALL)
def test_vae_tiling(pipe: Any) -> None:
    def pictures(**texts: Any) -> Any:
        return torch.from_numpy(draw(pipe, **texts, output_type="np"))

    pipe.vae.enable_tiling()
    pipe.vae.enable_slicing()
    stock = pictures(prompt="a red house", negative_prompt="blurry")
    with pp.PPlus(pipe) as pplus:
        assert torch.equal(pictures(**same(pplus)), stock)
        assert not torch.equal(pictures(**own(pplus)), stock)


@compatible("gradient checkpointing", *ALL)
def test_gradient_checkpointing(pipe: Any) -> None:
    """Gradients with respect to the text states are the same with and without, and reach every layer's."""
    model, calls = denoisers(pipe)[0].requires_grad_(False), []
    with pp.PPlus(pipe) as pplus:
        spy = model.register_forward_pre_hook(
            lambda _, args, kwargs: calls.append((args, dict(kwargs))), with_kwargs=True, prepend=True
        )
        draw(pipe, **own(pplus))
        spy.remove()
        args, kwargs = calls[0]
        gradients = []
        for checkpointing in (False, True):
            if checkpointing:
                model.enable_gradient_checkpointing()
                model.train()
            states = kwargs["encoder_hidden_states"].detach().clone().requires_grad_()
            output = model(*args, **{**kwargs, "encoder_hidden_states": states, "return_dict": False})[0]
            output.square().mean().backward()
            gradients.append(states.grad)
        parts = gradients[0].unflatten(-1, (len(pplus.layers), -1))
    assert torch.equal(*gradients)
    assert (parts.abs().amax(dim=(0, 1, 3)) > 0).all()
