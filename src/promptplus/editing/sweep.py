"""One edit with every nested set of layers, coarse to fine and fine to coarse: which layers does it need?"""

from collections.abc import Sequence
from typing import Any

from PIL import Image

from promptplus.editing.edit import EditSettings, InvertedPicture, Target, target_prompt
from promptplus.errors import PromptError
from promptplus.generation import BATCH
from promptplus.layers import LayerMap
from promptplus.pplus import PPlus, Prompt
from promptplus.prompts import PPlusPrompt
from promptplus.report.picture_grid import contact_sheet
from promptplus.start_image import StartImage

CELL = 144  # pixels of a picture on the strip
KINDS, KINDS_BY_DEPTH = ("coarsest", "finest"), ("first", "last")


def sweep(
    pplus: PPlus,
    start: StartImage,
    source: Prompt,
    target: Target,
    *,
    negative: Prompt = "",
    seed: int = 0,
    settings: EditSettings | None = None,
    batch: int = BATCH,
) -> Image.Image:
    """A strip of edits in which the target's texts take more and more layers.

    The first column has the source's texts in all layers: it shows what inversion keeps of the picture. The last one
    has the target's texts in all layers.

    Args:
        pplus, start, source, target, negative, seed, settings: as for ``edit`` and ``edit_batch``.
        batch: pictures that are denoised at once.
    """
    sets = layer_sets(pplus.layers)
    wanted = list(dict.fromkeys(layers for row in sets for layers in row))
    wanted_texts = target_prompt(source, target)
    if any(part.head != part.layers for part in wanted_texts.parts):
        raise PromptError("a strip gives texts to sets of layers; leave strength, window and mask of the parts out")
    whole = wanted_texts.texts(pplus.layers)
    texts: Any = pplus.encode([_with_texts(source, whole, layers) for layers in wanted], negative or None)
    inverted = InvertedPicture.of(pplus, start.resized(pplus.pipe, None, None), source, [seed], negative, settings)
    pictures: list[Image.Image] = []
    for begin in range(0, len(wanted), batch):
        rows = slice(begin, begin + batch)
        part: Any = {name: None if states is None else states[rows] for name, states in texts.items()}
        pictures += inverted.denoised(part)
    made = dict(zip(wanted, pictures, strict=True))
    kinds = KINDS_BY_DEPTH if pplus.layers.by_depth else KINDS
    labels = [
        _label(len(layers), kind, len(pplus.layers)) for row, kind in zip(sets, kinds, strict=True) for layers in row
    ]
    return contact_sheet([made[layers] for row in sets for layers in row], labels, columns=len(sets[0]), cell=CELL)


def layer_sets(layers: LayerMap) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """The nested sets of layers, coarse to fine, and their mirror image: as many steps, fine to coarse."""
    coarse = list(layers.subsets())
    fine = [tuple(i for i in range(len(layers)) if i not in kept) for kept in reversed(coarse)]
    return coarse, fine


def _with_texts(source: Prompt, texts: Sequence[str], layers: Sequence[int]) -> PPlusPrompt:
    """The source with other texts in some layers; ``texts`` has one for each layer."""
    changed = {str(index): texts[index] for index in layers}
    return target_prompt(source, changed) if changed else PPlusPrompt.of(source)


def _label(number: int, kind: str, all_layers: int) -> str:
    """Which layers have the target's texts."""
    if number in (0, all_layers):
        return "target everywhere" if number else "source everywhere"
    return f"{kind} layer" if number == 1 else f"{number} {kind} layers"
