"""What is usual for each model: sampling, prompts, words and judges. No other module asks which model it has.

``profile_of`` gives a pipeline's ``Profile``: the bundled pocket model's, or the one for all other models.
"""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict

from pydantic import BaseModel, Field

from promptplus.errors import ModelError
from promptplus.pocket import CLIP, CONCEPTS, DINO, JUDGE, PIPELINE
from promptplus.text_files import read_json

Words = Mapping[str, Sequence[str]]
"""The words of each attribute: ``{"colour": (…), "object": (…), "style": (…)}``."""

REAL_PROMPTS = (
    "a photo of a {}",
    "a photo of a {} in the jungle",
    "a photo of a {} on a beach",
    "a photo of a {} in Times Square",
    "a photo of a {} on the moon",
    "a painting of a {} in the style of Monet",
    "an oil painting of a {}",
    "a Marc Chagall painting of a {}",
    "a manga drawing of a {}",
    "a watercolor painting of a {}",
    "a statue of a {}",
    "an app icon of a {}",
    "a sand sculpture of a {}",
    "a colorful graffiti of a {}",
    "two {} on a table",
)
"""For real models: a proxy for the paper's fifteen prompts, of which five are known (from a later paper)."""

POCKET_EASY = (
    "a photo of a {}",
    "a picture of a {} on a white background",
    "a {} on a grass background",
    "a {} on a night background",
    "a {} on a sand background",
    "a {} on a brick background",
    "a {} on a water background",
    "a {} on a sunset background",
    "a {} in front of a sky background",
    "a photo of a small {} with a grass background",
)
POCKET_HARD = (
    "a red {}",
    "a blue striped {}",
    "a {}, pixel art",
    "a watercolor of a {}",
    "a {} and a yellow car",
    "a {} on a night background, sketch",
)
"""These change the colour, the texture or the style, or add an object."""
POCKET_PROMPTS = POCKET_EASY + POCKET_HARD
"""For the pocket: its vocabulary has all of these words (tested)."""

REAL_WORDS: Words = {
    "colour": ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "white", "black"),
    "object": (
        *("car", "house", "cat", "dog", "horse", "bird", "flower", "tree", "chair", "boat", "bicycle", "teapot"),
        *("lizard", "cube", "guitar", "mushroom"),
    ),
    "style": ("watercolor", "oil painting", "pencil sketch", "comic", "pixel art", "origami", "photo", "stained glass"),
}
"""Our choice, for the paper's prompts "{colour} {object}, {style}"; the paper does not list its words."""

PHRASES = {"colour": "a {} object", "object": "a photo of a {}", "style": "an object, {}"}
STEPS = 12  # the pocket follows its captions as well as with 25 steps of DDIM (docs/log.md)
GUIDANCE = 3.0  # the pocket's best of 1, 2, 3 and 5 (docs/log.md)
SAMPLING = "sampling.json"  # in a pipeline's folder: its default {steps, guidance}


class Sampling(NamedTuple):
    """The number of denoising steps and the guidance scale."""

    steps: int
    guidance: float


class SavedSampling(BaseModel):
    """The content of ``sampling.json`` in a pipeline's folder."""

    steps: Annotated[int, Field(ge=1)]
    guidance: Annotated[float, Field(ge=0)]


class SamplingOptions(TypedDict, total=False):
    """The sampling that a caller asks for; what is None or left out is the model's default."""

    steps: int | None
    guidance: float | None


@dataclass(frozen=True)
class Profile:
    """What is usual for one model.

    Attributes:
        prompts: what evaluated concepts are prompted with; ``{}`` is the concept's word.
        words: the words of each attribute, for the prompts of the studies of layers and attention.
        clip, dino: the judges of text and subject similarity (paper section 4), as folders or hub ids.
        attribute_judge: the folder of a classifier of the attributes, where there is one.
        judges_on_cpu: whether the judges stay on the CPU; they use the pipeline's device otherwise.
        phrases: the text that CLIP compares with a picture, for each attribute; ``{}`` is the attribute's word.
        reference_noun: what stands in the concept's place in reference texts; None: its class word.
        sampling: the default sampling; None: the stock pipeline's own.
        drawable: names of the concepts whose true mixes can be drawn.
        concepts: folders of pictures that ``reproduce`` learns from by default.
        tuned: whether the learning rates in the plan of ``reproduce`` were chosen on this model.
    """

    prompts: tuple[str, ...]
    words: Words
    clip: str | Path
    dino: str | Path
    attribute_judge: Path | None = None
    judges_on_cpu: bool = False
    phrases: Mapping[str, str] = field(default_factory=lambda: PHRASES)
    reference_noun: str | None = None
    sampling: Sampling | None = None
    drawable: tuple[str, ...] = ()
    concepts: tuple[Path, ...] = ()
    tuned: bool = False

    def words_with(self, given: Words) -> dict[str, Sequence[str]]:
        """The words of each attribute, with the given ones in place of the model's own."""
        return {name: given.get(name) or words for name, words in self.words.items()}

    def can_draw_mixes(self, names: Iterable[str]) -> bool:
        """Whether the true mix of any two of these concepts can be drawn, so that mixes can be judged."""
        return set(names) <= set(self.drawable) and bool(self.drawable)


REAL = Profile(REAL_PROMPTS, REAL_WORDS, clip="openai/clip-vit-base-patch32", dino="facebook/dino-vits16")
"""For every model but the pocket. The judges are the paper's."""


def pocket() -> Profile:
    """The pocket's profile.

    The reference noun: its held-out concepts have no name, and their class words are names of other things. "thing" is
    in its captions and goes with the article "a" of the prompts.
    """
    from promptplus.pocket import world  # slow: composes its shapes when it is imported
    from promptplus.pocket.held_out import HELD_OUT_OBJECTS, REPORT

    return Profile(
        prompts=POCKET_PROMPTS,
        words={"colour": tuple(world.COLOURS), "object": world.OBJECTS, "style": world.STYLES},
        clip=CLIP,
        dino=DINO,
        attribute_judge=JUDGE,
        judges_on_cpu=True,
        reference_noun="thing",
        sampling=Sampling(STEPS, GUIDANCE),
        drawable=tuple(HELD_OUT_OBJECTS),
        concepts=tuple(CONCEPTS / name for name in REPORT),
        tuned=True,
    )


def profile_of(pipe: Any) -> Profile:
    """The profile of a pipeline's model, by where it was loaded from."""
    return pocket() if _source(pipe) == str(PIPELINE) else REAL


def default_sampling(pipe: Any, steps: int | None = None, guidance: float | None = None) -> Sampling:
    """The given steps and guidance scale, or the model's defaults in their place.

    The defaults are those of the model's profile; else those in ``sampling.json``, which our pipeline folders hold;
    else those of the stock pipeline (Stable Diffusion: 50 and 7.5). Raises ModelError on a damaged file.
    """
    if steps is not None and guidance is not None:
        return Sampling(steps, guidance)
    usual = profile_of(pipe).sampling or _saved_sampling(pipe) or _stock_sampling(pipe)
    return Sampling(usual.steps if steps is None else steps, usual.guidance if guidance is None else guidance)


def _source(pipe: Any) -> str:
    return str(pipe.config.get("_name_or_path"))


def _saved_sampling(pipe: Any) -> Sampling | None:
    path = Path(_source(pipe)) / SAMPLING
    if not path.is_file():
        return None
    saved = read_json(path, SavedSampling, ModelError, "does not hold {steps, guidance}", "write them, or remove it")
    return Sampling(saved.steps, saved.guidance)


def _stock_sampling(pipe: Any) -> Sampling:
    stock = inspect.signature(type(pipe).__call__).parameters
    return Sampling(stock["num_inference_steps"].default, stock["guidance_scale"].default)
