"""SDXL with a text for each of its transformers, and a concept learned from a few photos.

``python examples/sdxl.py PHOTOS [MODEL]``: a folder of photos of a cat, and a folder, file or hub id of an SDXL model.
"""

import sys
from pathlib import Path
from typing import Any

import promptplus as pp


def main(photos: str, model: str = "stabilityai/stable-diffusion-xl-base-1.0", **training: Any) -> None:
    """Draw three pictures: with one text by group, with one by transformer, and with the learned concept."""
    pplus = pp.PPlus(pp.load(model))
    print(pplus.layers)  # 70 layers in 11 transformers, such as down.2.1 and up.0.1

    by_group = pplus.encode("a red cube on a beach || coarse: a green lizard", negative="blurry")
    pplus.pipe(**by_group).images[0].save("by-group.png")

    # a transformer's name stands for all of its layers; B-LoRA finds content in up.0.0 and style in up.0.1
    by_transformer = pplus.encode({"default": "a photo of a cat", "up.0.1": "an ink drawing"})
    pplus.pipe(**by_transformer).images[0].save("by-transformer.png")

    # XTI for both text encoders: one row for each transformer; tying="layer" learns one for each of the 70 layers
    cat = pp.invert(pplus, photos, token="<my-cat>", initializer="cat", **training)
    cat.save(Path("my-cat.safetensors"))
    pplus.add(cat)
    pplus.pipe(**pplus.encode("a <my-cat> on the moon")).images[0].save("my-cat.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
