"""What a step of XTI costs on SDXL, with a row for each transformer and with a row for each layer.

``python -m benchmarks.sdxl``: counts the products of the real architecture, on the meta device, so it needs no weights.
One caption for the batch. Activations that the backward pass keeps are counted as bytes in half precision.
"""

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from benchmarks.architectures import SDXL_UNET
from promptplus.hooks import per_layer
from promptplus.layers import LayerMap

BATCH, SIDE, CONTEXT, HALF = 4, 128, 77, 2  # samples, latent pixels at 1024 px, tokens, bytes
FIRST: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}
SECOND: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
}
"""The text encoders of Stable Diffusion XL: CLIP ViT-L/14 and OpenCLIP ViT-bigG/14."""


def text_encoders() -> tuple[Any, Any]:
    """The two text encoders, without weights."""
    second = CLIPTextConfig(vocab_size=49408, projection_dim=1280, **SECOND)
    return CLIPTextModel(CLIPTextConfig(vocab_size=49408, **FIRST)), CLIPTextModelWithProjection(second)


def text_cost(encoders: tuple[Any, Any], rows: int) -> tuple[float, float]:
    """(TFLOP, GB kept) of encoding so many texts, forward and backward to the token embeddings.

    The second text encoder encodes one more, for the pooled embedding.
    """
    kept = 0

    def note(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel() * HALF
        return tensor

    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(note, lambda one: one):
        for encoder, count in zip(encoders, (rows, rows + 1), strict=True):
            table = encoder.get_input_embeddings()
            width = table.weight.shape[1]
            leaf = torch.zeros(count, CONTEXT, width, requires_grad=True)
            handle = table.register_forward_hook(lambda *_, leaf=leaf: leaf)
            ids = torch.zeros(count, CONTEXT, dtype=torch.long)
            encoder(ids, output_hidden_states=True).hidden_states[-2].sum().backward()
            handle.remove()
    return counter.get_total_flops() / 1e12, kept / 1e9


def denoiser_cost(unet: Any, layers: int) -> float:
    """TFLOP of the denoiser's forward and backward to the text states."""
    noisy, states = torch.zeros(BATCH, 4, SIDE, SIDE), torch.zeros(BATCH, CONTEXT, layers * 2048, requires_grad=True)
    added = {"text_embeds": torch.zeros(BATCH, 1280), "time_ids": torch.zeros(BATCH, 6)}
    with FlopCounterMode(display=False) as counter:
        time = torch.ones(BATCH, dtype=torch.long)
        unet(noisy, time, encoder_hidden_states=states, added_cond_kwargs=added).sample.sum().backward()
    return counter.get_total_flops() / 1e12


def main() -> None:
    """Count and print."""
    with torch.device("meta"):
        unet, encoders = UNet2DConditionModel(**SDXL_UNET).requires_grad_(False), text_encoders()
        for encoder in encoders:
            encoder.requires_grad_(False)
        layers = LayerMap.of(unet)
        with per_layer(unet):
            denoiser = denoiser_cost(unet, len(layers))
        print(f"denoiser, batch {BATCH}, {8 * SIDE} px: {denoiser:.1f} TFLOP")
        for name, rows in (("transformer", len(layers.transformers)), ("layer", len(layers))):
            cost, kept = text_cost(encoders, rows)
            print(
                f"a row for each {name:<11} ({rows} texts): text {cost:.1f} TFLOP, {kept:.1f} GB kept; "
                f"a step {1 + cost / denoiser:.2f} of the denoiser's"
            )


if __name__ == "__main__":
    main()
