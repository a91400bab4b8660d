"""Prompts with parts → the text states of every stage and region, packed for the pipeline. One encoding for all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptplus.errors import PromptError, short
from promptplus.layers import LayerMap
from promptplus.packing import MASK_SIDE, pack, pack_stages
from promptplus.prompt_masks import Grid, read_masks
from promptplus.prompt_parts import Box
from promptplus.prompt_stages import LayerText, Stage, stage_at, stages_of
from promptplus.prompts import PPlusPrompt
from promptplus.text_encoding import send
from promptplus.text_states import PackedText, TextStates

TIMESTEP_DIGITS = 3  # decimals of a window's timestep: 1 - .6 is not .4 in floating point


@dataclass(frozen=True)
class StagedPrompt:
    """A prompt, resolved for the layers of a model.

    Attributes:
        default: the default text.
        stages: what holds when.
        grids: the weights of each mask.
    """

    default: str
    stages: tuple[Stage, ...]
    grids: Mapping[str | Box, Grid]

    @classmethod
    def of(cls, prompt: PPlusPrompt, layers: LayerMap) -> Self:
        """Read the masks, and find the stages.

        Raises LayerError for layers that the model does not have, PromptError for a mask that cannot be read.
        """
        prompt.texts(layers)  # a wrong layer is found before a file is read
        simpler, grids = read_masks(prompt)
        return cls(prompt.default, stages_of(simpler, layers), grids)


@dataclass(frozen=True)
class Frame:
    """The size that all prompts of a call share, the negative ones too.

    Attributes:
        starts: where stages begin, from 0 to 1.
        regions: the most masks that one stage has.
    """

    starts: tuple[float, ...]
    regions: int

    @classmethod
    def of(cls, prompts: Sequence[StagedPrompt]) -> Self:
        """The smallest frame that all prompts fit into."""
        stages = [stage for prompt in prompts for stage in prompt.stages]
        return cls(tuple(sorted({stage.start for stage in stages})), max(len(stage.regions) for stage in stages))

    def stages(self, prompt: StagedPrompt) -> list[Stage]:
        """The prompt's stage at each start."""
        return [stage_at(prompt.stages, start) for start in self.starts]

    def slots(self, stage: Stage) -> list[tuple[LayerText, ...]]:
        """For each layer the texts of a stage: outside of all masks, and inside of each; what is missing is outside."""
        inside = [
            tuple(text or below for text, below in zip(region.texts, stage.texts, strict=True))
            for region in stage.regions
        ]
        return [stage.texts, *inside, *[stage.texts] * (self.regions - len(inside))]


@dataclass(frozen=True)
class Conditioning:
    """The text states of some prompts in one frame.

    Attributes:
        states: what each layer attends to in each stage; the first slot is outside of all masks.
        masks: the weights of each region.
        covered: 1 where a region belongs to a layer, else 0.
        token_mask: 1 where a token counts; None where the denoiser takes no mask.
        pooled: an embedding of each prompt; None where the denoiser takes none.
    """

    states: Float[Tensor, "batch stages slots layers tokens width"]
    masks: Float[Tensor, "batch stages regions side side"]
    covered: Float[Tensor, "batch stages regions layers"]
    token_mask: Int[Tensor, "batch stages layers tokens"] | None = None
    pooled: Float[Tensor, "batch pooled"] | None = None

    @classmethod
    def same_everywhere(cls, states: TextStates, frame: Frame) -> Self:
        """Text states that hold in all stages of a frame."""
        batch, layers = states.states.shape[:2]
        slots = (len(frame.starts), 1 + frame.regions)
        mask = None if states.mask is None else states.mask[:, None].expand(-1, slots[0], -1, -1)
        everywhere = states.states[:, None, None].expand(-1, *slots, -1, -1, -1)
        return cls(everywhere, *no_masks(batch, frame, layers), mask, states.pooled)

    @property
    def tokens(self) -> int:
        """The length of a text."""
        return self.states.shape[-2]

    @property
    def plain(self) -> TextStates:
        """What holds in the first stage, outside of all masks."""
        return TextStates(self.states[:, 0, 0], None if self.token_mask is None else self.token_mask[:, 0], self.pooled)

    def with_states(self, own: Mapping[tuple[int, ...], Tensor]) -> Self:
        """The same with given states on some layers, in all stages and everywhere: ``[*batch, tokens, width]``.

        Raises PromptError where the states have another shape.
        """
        made = self
        for indices, given in own.items():
            batch, _, _, _, tokens, width = made.states.shape
            if not isinstance(given, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise PromptError(f"states of a layer are a tensor, not {short(given)}")
            if tuple(given.shape) not in {(tokens, width), (batch, tokens, width)}:
                raise PromptError(
                    f"states of a layer are [{tokens} tokens, width {width}], or [{batch} prompts, {tokens}, {width}] "
                    f"here, not {list(given.shape)}; encode them with this model's text encoder"
                )
            states, covered, chosen = made.states.clone(), made.covered.clone(), list(indices)
            states[:, :, :, chosen] = given.to(states).expand(batch, tokens, width)[:, None, None, None]
            covered[:, :, :, chosen] = 0.0
            mask = None if made.token_mask is None else made.token_mask.clone()
            if mask is not None:
                mask[:, :, chosen] = 1  # all given states count
            made = replace(made, states=states, covered=covered, token_mask=mask)
        return made

    def packed(self, frame: Frame, timesteps: int) -> PackedText:
        """All of it in one tensor; ``timesteps``: how many the model was trained with."""
        mask = None if self.token_mask is None else self.token_mask.flatten(1)
        if len(frame.starts) == 1 and not frame.regions:
            return PackedText(pack(self.states[:, 0, 0]), mask, self.pooled)
        first = [round((1 - start) * timesteps, TIMESTEP_DIGITS) for start in frame.starts]
        return PackedText(pack_stages(self.states, self.masks, self.covered, first), mask, self.pooled)


def no_masks(
    batch: int, frame: Frame, layers: int
) -> tuple[Float[Tensor, "batch stages regions side side"], Float[Tensor, "batch stages regions layers"]]:
    """Masks that are zero everywhere, and belong to no layer."""
    size = (batch, len(frame.starts), frame.regions)
    return torch.zeros(*size, MASK_SIDE, MASK_SIDE), torch.zeros(*size, layers)


def encode_prompts(
    prompts: Sequence[StagedPrompt],
    frame: Frame,
    whole: Sequence[str],
    text_states: Callable[..., TextStates],
    dtype: torch.dtype,
) -> Conditioning:
    """Encode all texts of all stages in one pass of each text encoder; each text once.

    Args:
        whole: for each prompt the text of its pooled embedding.
        text_states: encodes ``texts[row][layer]``, with ``whole_texts`` for each row.
    """
    slots = [slot for prompt in prompts for stage in frame.stages(prompt) for slot in frame.slots(stage)]
    each = len(slots) // len(prompts)
    rows = [[text.text for text in slot] for slot in slots]
    if blended := any(text.strength != 1 for slot in slots for text in slot):
        rows += [_defaults(prompt, slots[i * each : (i + 1) * each]) for i, prompt in enumerate(prompts)]
    owners = [i // each for i in range(len(slots))] + list(range(len(prompts))) * blended
    made = text_states(rows, whole_texts=[whole[i] for i in owners]).to(dtype)
    if blended:
        strengths = torch.tensor([[text.strength for text in slot] for slot in slots])
        made = _blend(made[: len(slots)], made[[len(slots) + i for i in owners[: len(slots)]]], strengths)
    shape = (len(prompts), len(frame.starts), 1 + frame.regions)
    mask = None if made.mask is None else made.mask.unflatten(0, shape)[:, :, 0]
    pooled = None if made.pooled is None else made.pooled[::each]
    return Conditioning(made.states.unflatten(0, shape), *_masks(prompts, frame), mask, pooled)


def _defaults(prompt: StagedPrompt, slots: Sequence[Sequence[LayerText]]) -> list[str]:
    """The default text on the layers where some text is blended with it; elsewhere a text that is encoded anyway."""
    return [
        prompt.default if any(text.strength != 1 for text in its) else its[0].text for its in zip(*slots, strict=True)
    ]


def _blend(parts: TextStates, defaults: TextStates, strengths: Float[Tensor, "rows layers"]) -> TextStates:
    """``default + strength * (part - default)``; where the strength is 1 the part's own states, bit for bit."""
    strength = send(strengths, parts.states.device)
    whole = strength == 1
    weight = strength[:, :, None, None].to(parts.states.dtype)
    mixed = defaults.states + weight * (parts.states - defaults.states)
    states = torch.where(whole[:, :, None, None], parts.states, mixed)
    if parts.mask is None or defaults.mask is None:
        return replace(parts, states=states)
    either = torch.where(whole[:, :, None], parts.mask, parts.mask | defaults.mask)
    return replace(parts, states=states, mask=either)


def _masks(
    prompts: Sequence[StagedPrompt], frame: Frame
) -> tuple[Float[Tensor, "batch stages regions side side"], Float[Tensor, "batch stages regions layers"]]:
    """The weights of each region, and the layers it belongs to."""
    masks, covered = no_masks(len(prompts), frame, len(prompts[0].stages[0].texts))
    for i, prompt in enumerate(prompts):
        for j, stage in enumerate(frame.stages(prompt)):
            for k, region in enumerate(stage.regions):
                masks[i, j, k] = prompt.grids[region.mask]
                covered[i, j, k] = torch.tensor([float(text is not None) for text in region.texts])
    return masks, covered
