"""Subject similarity and text similarity of generated pictures, the paper's two measures; always given together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from promptplus.denoisers import denoiser_of
from promptplus.evaluation.judges import ClipJudge, DinoJudge
from promptplus.evaluation.metrics import subject_similarity, text_similarity
from promptplus.generation import generate
from promptplus.pplus import PPlus
from promptplus.profiles import profile_of

PER_PROMPT = 4  # pictures per prompt (our choice)
SEED_STRIDE = 1000  # between the first seeds of two trainings; more than a training has scored pictures


@dataclass(frozen=True)
class Scores:
    """Subject and text similarity: means over prompts, and (subject, text) of each prompt."""

    subject: float
    text: float
    by_prompt: dict[str, tuple[float, float]]


def score_images(
    clip: ClipJudge, dino: DinoJudge, images: Sequence[Image.Image], prompts: Sequence[str], real: Sequence[Image.Image]
) -> tuple[float, float | None]:
    """Subject and text similarity of any pictures.

    Args:
        images: the pictures to score.
        prompts: one for each of them; empty: no text similarity.
        real: pictures of the concept.

    Returns:
        Subject similarity, and text similarity or None.
    """
    subject = subject_similarity(dino.embed(real), dino.embed(images))
    return subject, text_similarity(clip.embed(images), clip.embed_texts(prompts)) if prompts else None


class Scorer:
    """Generates pictures for prompts and scores them with two judges.

    Subject similarity is the mean pairwise cosine of DINO features to the real pictures. Text similarity is the cosine
    of CLIP features of a picture and its prompt, with the class word in place of the concept (paper section 4). A
    judge must not be a part of the generator.

    Args:
        prompts: each with ``{}`` where the concept's word goes.
        per_prompt: pictures per prompt.
        reference_noun: what replaces the concept in every text that pictures are compared with; default: the class
            word. For concepts without a name of their own: the class word would be another thing's name, and would
            lower the score of a concept that is learned well.
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
        """The judges of a pipeline's profile, with the given prompts, or else those of the profile."""
        profile = profile_of(pipe)
        device = "cpu" if profile.judges_on_cpu else str(denoiser_of(pipe).device)
        clip, dino = ClipJudge.load(profile.clip, device), DinoJudge.load(profile.dino, device)
        return cls(clip, dino, prompts or profile.prompts, per_prompt, profile.reference_noun)

    def score_model(
        self, pplus: PPlus, word: str, class_word: str, real: Sequence[Image.Image], seed: int
    ) -> tuple[Scores, list[Image.Image]]:
        """Generate and score the pictures of a pipeline that knows a concept.

        Args:
            word: the concept's word in prompts.
            real: pictures of the concept.
            seed: of the training; it decides the seeds of the pictures.

        Returns:
            The scores and the pictures, ``per_prompt`` for each prompt.
        """
        texts = [prompt.replace("{}", word) for prompt in self.prompts for _ in range(self.per_prompt)]
        pictures = generate(pplus, texts, range(SEED_STRIDE * seed, SEED_STRIDE * seed + len(texts)))
        return self.score_pictures(pictures, class_word, self.dino.embed(real)), pictures

    def score_pictures(
        self, pictures: Sequence[Image.Image], class_word: str, real: Float[Tensor, "real width"]
    ) -> Scores:
        """Score pictures that are sorted by prompt, ``per_prompt`` for each; ``real``: features of the real ones."""
        noun = self.reference_noun or class_word
        text_features = self.clip.embed_texts([prompt.replace("{}", noun) for prompt in self.prompts])
        dino_features, clip_features = self.dino.embed(pictures), self.clip.embed(pictures)
        by_prompt = {}
        for number, prompt in enumerate(self.prompts):
            part = slice(number * self.per_prompt, (number + 1) * self.per_prompt)
            text = text_similarity(clip_features[part], text_features[number].expand(self.per_prompt, -1))
            by_prompt[prompt] = (subject_similarity(real, dino_features[part]), text)
        subject, text = torch.tensor(list(by_prompt.values()), dtype=torch.float64).mean(0).tolist()
        return Scores(subject, text, by_prompt)
