"""A ControlNet holds the outlines, while the layers get texts of their own.

``python examples/controlnet.py EDGES.png [MODEL CONTROLNET]``: edges, white on black, and hub ids or folders.
"""

import sys

from diffusers import ControlNetModel, StableDiffusionControlNetPipeline
from PIL import Image

import promptplus as pp


def main(
    edges: str, model: str = "CompVis/stable-diffusion-v1-4", controlnet: str = "lllyasviel/sd-controlnet-canny"
) -> None:
    """Draw one picture: a house in its outlines, with the colours of a lizard."""
    stock = pp.load(model)
    control = ControlNetModel.from_pretrained(controlnet).to(stock.device, stock.dtype)
    pipe = StableDiffusionControlNetPipeline(**stock.components, controlnet=control)

    # PPlus gives the ControlNet's layers their part too, by name: it has the U-Net's down and mid layers
    pplus = pp.PPlus(pipe)
    embeds = pplus.encode("a green lizard || coarse: a house", negative="blurry")
    picture = Image.open(edges).convert("RGB")
    pipe(**embeds, image=picture).images[0].save("house.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
