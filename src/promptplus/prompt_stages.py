"""Which texts hold on which layers, when and where: a prompt with parts → stages of the denoising. No tensors.

``print`` shows a plan; ``promptplus generate --explain`` prints it as a table.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from promptplus.layers import LayerMap
from promptplus.prompt_parts import Box, Part
from promptplus.prompts import PPlusPrompt


@dataclass(frozen=True)
class LayerText:
    """The text of one layer.

    Attributes:
        text: the text.
        strength: ``states = default + strength * (states of the text - default)``.
    """

    text: str
    strength: float = 1.0


@dataclass(frozen=True)
class Region:
    """A text inside a mask, laid over what holds below it.

    Attributes:
        mask: where.
        texts: for each layer its text; None where the region does not belong to the layer.
    """

    mask: str | Box
    texts: tuple[LayerText | None, ...]


@dataclass(frozen=True)
class Stage:
    """What holds in one stretch of the denoising.

    Attributes:
        start: where it begins, from 0 (pure noise) to 1.
        texts: for each layer its text.
        regions: texts inside masks, the uppermost last.
    """

    start: float
    texts: tuple[LayerText, ...]
    regions: tuple[Region, ...] = ()


def stages_of(prompt: PPlusPrompt, layers: LayerMap) -> tuple[Stage, ...]:
    """The stages of a prompt, each as long as nothing changes. The first begins at 0.

    Raises LayerError for layers that the model does not have.
    """
    chosen = [(part, layers.select(part.layers)) for part in prompt.parts]
    starts = sorted({0.0, *(share for part in prompt.parts for share in part.window if share < 1)})
    stages: list[Stage] = []
    for start in starts:
        stage = _stage(prompt.default, chosen, start, len(layers))
        if not stages or (stage.texts, stage.regions) != (stages[-1].texts, stages[-1].regions):
            stages.append(stage)
    return tuple(stages)


def _stage(default: str, parts: Sequence[tuple[Part, tuple[int, ...]]], start: float, count: int) -> Stage:
    """What holds from ``start`` on."""
    texts = [LayerText(default)] * count
    regions: list[Region] = []
    for part, indices in parts:
        if not part.holds_at(start):
            continue
        text = LayerText(part.text, part.strength) if part.strength else LayerText(default)
        if part.mask is None:
            texts = [text if i in indices else below for i, below in enumerate(texts)]
            regions = list(_without(regions, indices))
        else:
            regions.append(Region(part.mask, tuple(text if i in indices else None for i in range(count))))
    return Stage(start, tuple(texts), tuple(regions))


def _without(regions: Iterable[Region], indices: tuple[int, ...]) -> Iterable[Region]:
    """Regions without some layers, on which a later part covers them."""
    for region in regions:
        texts = tuple(None if i in indices else text for i, text in enumerate(region.texts))
        if any(texts):
            yield Region(region.mask, texts)


def stage_at(stages: Sequence[Stage], progress: float) -> Stage:
    """The stage that holds at a point of the denoising."""
    return [stage for stage in stages if stage.start <= progress][-1]
