"""What all pages of the studio share: the pipeline, the folders, the concepts and the queue of jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from promptplus.denoisers import denoiser_of
from promptplus.errors import SettingsError
from promptplus.files import make_folder
from promptplus.generation import BATCH
from promptplus.generation_parameters import GenerationParameters
from promptplus.models import POCKET
from promptplus.png_metadata import SavedPictures, make_pictures
from promptplus.pplus import PPlus
from promptplus.profiles import default_sampling
from promptplus.prompts import PPlusPrompt
from promptplus.start_image import StartImage
from promptplus.studio.concept_files import ConceptFile, ConceptFiles
from promptplus.studio.jobs import Job, Jobs, denoiser_calls
from promptplus.studio.recipe import ModelSource

MOST_PICTURES = 16  # of one click; the command line makes more
OWN = "studio"  # the studio's folder among the runs


@dataclass(frozen=True)
class Workplace:
    """The pipeline and the folders of one studio.

    Attributes:
        pplus: the pipeline with P+. Only jobs draw with it, one at a time.
        model: what it was loaded from.
        runs: the folder of training runs; the studio's own folder lies in it.
        jobs: the queue.
    """

    pplus: PPlus
    model: ModelSource
    runs: Path
    jobs: Jobs

    @property
    def pictures(self) -> Path:
        """The folder of pictures that were made here."""
        return self.runs / OWN / "pictures"

    @property
    def uploads(self) -> Path:
        """The folder of what a browser sent; gradio keeps its copies there too."""
        return self.runs / OWN / "uploads"

    @property
    def mixes(self) -> Path:
        """The folder of mixed concepts."""
        return self.runs / OWN / "concepts"

    @property
    def outputs(self) -> Path:
        """The folder of what trainings print."""
        return self.runs / OWN / "outputs"

    @cached_property
    def concept_files(self) -> ConceptFiles:
        """The concept files that fit the pipeline; what was read once is kept."""
        return ConceptFiles(self.pplus, (self.runs, self.mixes), bundled=self.model.name == POCKET)

    def make_folders(self) -> None:
        """Make the studio's folders. Raises OutputError where that cannot be."""
        for folder in (self.pictures, self.uploads, self.mixes, self.outputs):
            make_folder(folder)

    def check_texts(self, *prompts: PPlusPrompt) -> None:
        """Raise PromptError or LayerError where a prompt cannot be used with this model. Tokens are not looked at."""
        for prompt in prompts:
            prompt.texts(self.pplus.layers)

    def parameters(self, prompt: PPlusPrompt, **values: Any) -> GenerationParameters:
        """The generation parameters of a prompt with the added concepts. ``values``: what else was chosen."""
        steps, guidance = default_sampling(self.pplus.pipe, values.pop("steps", None), values.pop("guidance", None))
        given = {"model": self.model.name, "prompt": str(prompt), "steps": steps, "guidance": guidance, **values}
        return GenerationParameters.of(self.pplus, **given)

    def draw(
        self,
        job: Job,
        prompts: Sequence[PPlusPrompt],
        seeds: Sequence[int],
        concepts: Sequence[ConceptFile],
        start: StartImage | None = None,
        calls_per_picture: int = 1,
        **values: Any,
    ) -> list[tuple[GenerationParameters, SavedPictures]]:
        """Pictures of each prompt from the same seeds, with their files. Called by a job's work.

        Args:
            concepts: are added while the pictures are drawn.
            start: the picture that is edited or begun with.
            calls_per_picture: how often the denoiser is called for each denoising step.
            values: fields of the generation parameters, besides the prompt.
        """
        made: list[tuple[GenerationParameters, SavedPictures]] = []
        with self.pplus.added([one.concept for one in concepts]):
            wanted = [self.parameters(prompt, **values) for prompt in prompts]
            batches = -(-len(seeds) // BATCH)
            calls = sum(one.steps for one in wanted) * batches * calls_per_picture
            with denoiser_calls(job, denoiser_of(self.pplus.pipe), calls):
                for one in wanted:
                    saved = make_pictures(self.pplus, one, seeds, self.pictures, start=start, progress=False)
                    made.append((one, saved))
        return made


def seeds_of(seed: float | None, count: float) -> list[int]:
    """Consecutive seeds. Raises SettingsError where the seed is no whole number from 0 on."""
    first = whole(seed, "the seed", least=0)
    return list(range(first, first + int(count)))


def whole(value: float | None, name: str, least: int = 1) -> int:
    """A whole number from a field. Raises SettingsError where it is empty, a fraction, or too small."""
    if value is None or value != int(value) or value < least:
        raise SettingsError(f"{name}: a whole number from {least} on is needed, not {value}")
    return int(value)
