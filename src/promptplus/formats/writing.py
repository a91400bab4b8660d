"""Write a concept for other tools: kohya's sixteen layers, a textual inversion, a folder for the hub."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from PIL import Image
from safetensors.torch import save
from torch import Tensor

from promptplus.errors import ConceptError, OutputError, short
from promptplus.files import make_folder, write_atomically
from promptplus.formats import hub
from promptplus.formats.found import KOHYA_XTI, FoundConcept
from promptplus.formats.model_card import card
from promptplus.formats.own import own_bytes, own_keys
from promptplus.pictures import to_picture

KOHYA_WIDTH = 768  # kohya's scripts know XTI for Stable Diffusion 1 alone


@dataclass(frozen=True)
class HubExtras:
    """What a folder for the hub holds beside the concept.

    Attributes:
        licence: an identifier of the hub, as ``cc-by-4.0``; "" leaves the model card's field "unknown".
        grid: pictures that were made with the concept, on one sheet.
        pictures: those it was learned from. They are written anew, so that no data of the camera goes along.
        repo: the repository, for the model card's examples.
    """

    licence: str = ""
    grid: Image.Image | None = None
    pictures: Sequence[Any] = ()
    repo: str = ""

    def __post_init__(self) -> None:
        if self.licence and not hub.LICENCE.fullmatch(self.licence):
            raise OutputError(f"a licence is an identifier of the hub, as cc-by-4.0 or mit, not {short(self.licence)}")


def spread(rows: Float[Tensor, "layers vectors width"]) -> float:
    """How far the layers' rows lie from their mean: root mean square distance, over their root mean square length.

    0: all layers have the same rows, and the mean loses nothing. 1: the mean is zero, and keeps nothing.
    """
    length: float = cast(Any, rows).square().mean().item()
    distance: float = cast(Any, rows - rows.mean(dim=0)).square().mean().item()
    return (distance / length) ** 0.5 if length else 0.0


def mean_bytes(concept: FoundConcept) -> bytes:
    """The mean over all layers as a textual inversion file: diffusers' with one text encoder, kohya's with two."""
    same = concept.tying == "all"  # their mean could differ from them by rounding
    means = {name: rows[0] if same else rows.mean(dim=0) for name, rows in concept.parts.items()}
    return save({name or concept.token: rows.contiguous() for name, rows in means.items()}, {"format": "pt"})


def kohya_bytes(concept: FoundConcept) -> bytes:
    """The rows under kohya's sixteen names. Raises ConceptError on a concept of other layers, or of another width."""
    width = concept.rows.shape[2]
    if concept.layers[0].kohya is None or concept.encoders or width != KOHYA_WIDTH:
        raise ConceptError(
            f"{concept.token} cannot be written as {KOHYA_XTI}: it has {len(concept.layers)} layers of width {width}, "
            f"and kohya's scripts take the sixteen layers of Stable Diffusion 1, of width {KOHYA_WIDTH}; "
            "write a textual-inversion instead"
        )
    rows = zip(own_keys(concept.layers, ""), concept.rows, strict=True)
    return save({key: row.clone(memory_format=torch.contiguous_format) for key, row in rows}, {"format": "pt"})


def write_hub_folder(concept: FoundConcept, folder: Path, extras: HubExtras) -> None:
    """Write the files of a concept's repository into a folder. Raises PictureError where a picture is none."""
    pictures = [to_picture(one) for one in extras.pictures]
    text = card(
        concept,
        spread(concept.rows),
        repo=extras.repo,
        licence=extras.licence,
        grid=extras.grid is not None,
        pictures=bool(pictures),
    )
    files = {
        hub.OURS: own_bytes(concept),
        hub.LEARNED: mean_bytes(concept),
        hub.TOKEN: concept.token.encode(),
        hub.KIND: concept.kind.encode(),
        hub.CARD: text.encode(),
    }
    for name, data in files.items():
        write_atomically(folder / name, data)
    if extras.grid:
        extras.grid.save(folder / hub.GRID, "PNG")
    for number, picture in enumerate(pictures):
        make_folder(folder / hub.IMAGES)
        picture.save(folder / hub.IMAGES / f"{number}.png", "PNG")
