"""How well a concept is kept, and how well its prompts are followed: the paper's two similarities, always together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from PIL import Image
from torch import Tensor

from promptplus.evaluation.judges import ClipJudge, DinoJudge
from promptplus.evaluation.metrics import subject_similarity, text_similarity
from promptplus.generation import generate
from promptplus.pplus import PPlus
from promptplus.profiles import profile_of

PER_PROMPT = 4  # pictures of each prompt; our choice
SEEDS_APART = 1000  # between the pictures of two runs; more than any run has


@dataclass(frozen=True)
class Scores:
    """Subject and text similarity, means over prompts, and each prompt's own: (subject, text)."""

    subject: float
    text: float
    by_prompt: dict[str, tuple[float, float]]


def score_images(
    clip: ClipJudge, dino: DinoJudge, images: Sequence[Image.Image], prompts: Sequence[str], real: Sequence[Image.Image]
) -> tuple[float, float | None]:
    """Subject and text similarity of anybody's pictures; ``prompts``: one for each, or none (no text similarity)."""
    subject = subject_similarity(dino.embed(real), dino.embed(images))
    return subject, text_similarity(clip.embed(images), clip.embed_texts(prompts)) if prompts else None


class Scorer:
    """Generates each prompt's pictures and asks two judges, which must be none of the generator's parts.

    Subject similarity: mean pairwise cosine to the real pictures, DINO. Text similarity: cosine of a picture and its
    prompt with the class word in the concept's place, CLIP (paper section 4).

    Args:
        reference_noun: what stands in the concept's place in every text that pictures are compared with; default: its
            class word. For things that have no name: another thing's would punish learning what they look like.
    """

    def __init__(
        self,
        clip: ClipJudge,
        dino: DinoJudge,
        prompts: Sequence[str],
        per_prompt: int = PER_PROMPT,
        reference_noun: str | None = None,
    ) -> None:
        self.clip, self.dino, self.prompts, self.per_prompt = clip, dino, tuple(prompts), per_prompt
        self.reference_noun = reference_noun

    @classmethod
    def for_model(cls, pipe: Any, prompts: Sequence[str] = (), per_prompt: int = PER_PROMPT) -> Self:
        """The judges of a pipeline's profile, with the given prompts, else those of the profile."""
        profile = profile_of(pipe)
        device = "cpu" if profile.judges_on_cpu else str(pipe.unet.device)
        clip, dino = ClipJudge.load(profile.clip, device), DinoJudge.load(profile.dino, device)
        return cls(clip, dino, prompts or profile.prompts, per_prompt, profile.reference_noun)

    def of_model(
        self, pplus: PPlus, word: str, class_word: str, real: Sequence[Image.Image], seed: int
    ) -> tuple[Scores, list[Image.Image]]:
        """Of what a pipeline draws when the prompts hold ``word``; the pictures, ``per_prompt`` for each prompt."""
        texts = [prompt.format(word) for prompt in self.prompts for _ in range(self.per_prompt)]
        pictures = generate(pplus, texts, range(SEEDS_APART * seed, SEEDS_APART * seed + len(texts)))
        return self.of_pictures(pictures, class_word, self.dino.embed(real)), pictures

    def of_pictures(self, pictures: Sequence[Image.Image], class_word: str, real: Tensor) -> Scores:
        """Of pictures that are there, prompt by prompt; ``real``: the judge's features of the concept's own."""
        wanted = self.clip.embed_texts([prompt.format(self.reference_noun or class_word) for prompt in self.prompts])
        likeness, fit = self.dino.embed(pictures), self.clip.embed(pictures)
        by_prompt = {}
        for number, prompt in enumerate(self.prompts):
            part = slice(number * self.per_prompt, (number + 1) * self.per_prompt)
            text = text_similarity(fit[part], wanted[number].expand(self.per_prompt, -1))
            by_prompt[prompt] = (subject_similarity(real, likeness[part]), text)
        subject, text = torch.tensor(list(by_prompt.values()), dtype=torch.float64).mean(0).tolist()
        return Scores(subject, text, by_prompt)
