"""The paper's evidence in one go: every study, and a table of claims beside what was measured.

Each study is written as soon as it is done and read again by the next call, if it was asked the same; the runs behind
it are tasks of a ExperimentGrid, which survive by themselves.
"""

import hashlib
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from promptplus.errors import BusyError, SettingsError
from promptplus.evaluation.grid import ExperimentGrid, GridResult
from promptplus.evaluation.scoring import Scorer
from promptplus.evaluation.training_cache import Task
from promptplus.experiments import attention, attributes, methods, mixing, token_density, two_concepts
from promptplus.experiments.attention import draw_prompts
from promptplus.experiments.study import Study
from promptplus.experiments.takeover import judges_for
from promptplus.files import make_folder
from promptplus.fingerprints import weights_hash
from promptplus.generation import BATCH, generate
from promptplus.pictures import load_pictures
from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pplus import PPlus
from promptplus.profiles import default_sampling, profile_of
from promptplus.reproduce import claims
from promptplus.reproduce.claims import Claim
from promptplus.reproduce.plan import FULL, Size, call, comparisons, published
from promptplus.reproduce.report import Report
from promptplus.reproduce.trained_concepts import TrainedConcepts
from promptplus.training.invert import run_inversion

NO_PAIR = "two concepts that every method has learned"
TRIED = 5  # training steps that an estimate is made from
SPEAKING = ("torch", "diffusers", "transformers", "promptplus")
JUDGES = ("clip", "dino", "says")  # what studies share with the grid's own question

MIXED = "A mix has one concept's shape and another's looks"
REGULARISED = "The density regulariser makes more mixes succeed"
TWO = "Two concepts in one prompt are more like themselves with XTI than with TI"


class Reproduction:
    """One model, one size, one folder.

    Args:
        source: the name the pipeline was loaded by.
        concepts: folders of pictures; at least as many as the size wants.
        say: gets a sentence about what begins.
    """

    def __init__(
        self,
        pplus: PPlus,
        source: str,
        size: Size,
        concepts: Sequence[Path],
        folder: Path,
        say: Callable[[str], None],
        **sampling: Any,
    ) -> None:
        if len(concepts) < size.concepts:
            raise SettingsError(f"{size.name} needs {size.concepts} concepts, there are {len(concepts)}; give more")
        for one in concepts[: size.concepts]:
            load_pictures(one)  # a bad folder is found before anything is measured
        self.profile = profile_of(pplus.pipe)
        size, self.full = (one if self.profile.tuned else published(one) for one in (size, FULL))
        self.pplus, self.source, self.size, self.say, self.sampling = pplus, source, size, say, sampling
        self.concepts, self.folder = concepts[: size.concepts], make_folder(folder)
        scorer = Scorer.for_model(pplus.pipe, per_prompt=size.per_prompt)
        self.grid = ExperimentGrid(pplus, source, scorer, make_folder(folder / "methods"))
        self.words = self.profile.words
        self.judged = self.profile.can_draw_mixes(one.name for one in self.concepts)

    def run(self) -> Report:
        """Measure what is not there yet, and judge the claims. Concepts whose training fails are left out."""
        words, size = {"words": self.words, "sampling": self.sampling}, self.size
        of_layers = {"pairs": size.pairs, "seeds": [size.pair_seeds, size.map_seeds], "parts": size.parts, **words}
        if self.profile.attribute_judge:
            of_layers["judge"] = weights_hash(AttributeJudge.load(self.profile.attribute_judge))
        layers = self.study("attributes", of_layers, self._attributes)
        of_looks = {"prompts": size.prompts, "seeds": size.prompt_seeds, **words}
        looks = self.study("attention", of_looks, self._attention)
        results = self.grid.run(self.tasks)
        if left := sum(None in self.grid.find(t) for t in self.tasks if t not in self.grid.failed):
            raise BusyError(f"{left} tasks are being done by other processes; run this again when they are done")
        learned = TrainedConcepts(self.grid, size, self.concepts, results)
        of_methods = {"runs": [vars(result) for result in results], "left_out": learned.left_out}
        compared = self.study("methods", of_methods, lambda: _noted(self._evaluation(results), learned))
        rows = self.study("density", learned.rows_key, lambda: _noted(self._density(learned), learned))
        better = [claims.better(*told, results) for told in comparisons(size, self.full)]
        found = [*claims.layers(layers), *claims.attention(looks), *better, *claims.density(rows)]
        studies = [layers, looks, compared, rows]
        for study, told in (self._two_in_one(learned), self._mixes(learned)):
            studies += [study] if study else []
            found += told
        found.append(claims.not_measured("People prefer XTI's pictures", "yes", "people (promptplus study)"))
        self.grid.pack()
        return Report(studies, found, self.made_by)

    def _two_in_one(self, learned: TrainedConcepts) -> tuple[Study | None, list[Claim]]:
        if not learned.plain_pairs:
            return None, [claims.not_measured(TWO, "not in the paper", NO_PAIR)]
        found = self.study("two-concepts", learned.key, lambda: _noted(self._several(learned), learned))
        return found, claims.several(found, "XTI", "TI")

    def _mixes(self, learned: TrainedConcepts) -> tuple[Study | None, list[Claim]]:
        unknown = [] if self.size.regularised else [claims.not_measured(REGULARISED, claims.HELPS, "--full")]
        asked = {**learned.key, "judge": weights_hash(AttributeJudge.load())}
        if not self.judged:
            return None, [claims.not_measured(MIXED, "shown in figures", "concepts whose true mixes can be drawn")]
        if not learned.pairs:
            unknown = [claims.not_measured(REGULARISED, claims.HELPS, NO_PAIR)]
            return None, [claims.not_measured(MIXED, "shown in figures", NO_PAIR), *unknown]
        found = self.study("mixing", asked, lambda: _noted(self._mixing(learned), learned))
        return found, [*claims.mixing(found), *unknown]

    @property
    def tasks(self) -> list[Task]:
        """What is trained."""
        return self.size.tasks(self.concepts)

    @property
    def made_by(self) -> dict[str, Any]:
        """What made the numbers."""
        failed = "; ".join(map(str, self.grid.failed))
        told = {"command": call(self.size), "training seeds": ", ".join(map(str, range(self.size.runs)))}
        told |= {"concepts": ", ".join(one.name for one in self.concepts)}
        return {**told, **({"left out, training failed": failed} if failed else {}), **self._machine}

    @property
    def _machine(self) -> dict[str, Any]:
        """What makes the same question's answer another one."""
        versions = {name: version(name) for name in SPEAKING}
        pipe = self.pplus.pipe
        steps, guidance = default_sampling(pipe)
        told = {
            "model": self.source,
            "dtype": str(pipe.unet.dtype),
            "device": pipe.unet.device.type,
        }
        told |= {"denoising steps": steps, "guidance": guidance}
        return {**told, "python": platform.python_version(), **versions}

    def study(self, name: str, asked: dict[str, Any], make: Callable[[], Study]) -> Study:
        """The one in the folder if it was asked the same, else a new one."""
        judges = {name: self.grid.scoring_key[name] for name in JUDGES}
        told = {"asked": asked, "made_by": self._machine, **self.grid.cache.model_key, **judges}
        key = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:24]
        found = Study.read(self.folder, name)
        if found and found.key == key:
            return found
        self.say(f"{name} …")
        made = replace(make(), key=key)
        made.write(self.folder)
        return made

    def estimate(self) -> str:
        """How long all of it takes here, in words, from one batch of pictures and a few training steps."""
        pictures, steps = self.size.work(self.pplus.layers, len(self.words["object"]))
        trained = next(method for method in self.size.methods if method.name == self.size.ours[0])
        start = time.perf_counter()
        generate(self.pplus, [mixing.PROMPT.format("house")] * BATCH, range(BATCH))
        per_picture = (time.perf_counter() - start) / BATCH
        start = time.perf_counter()
        options: dict[str, Any] = {**trained.options, "steps": TRIED}
        run_inversion(self.pplus, self.concepts[0], progress=False, **options)
        per_step = (time.perf_counter() - start) / TRIED
        hours = (pictures * per_picture + steps * per_step) / 3600
        each = f"{pictures} pictures at {per_picture:.2f} s, {steps} training steps at {per_step:.2f} s"
        return f"about {hours:.1f} hours if nothing is there yet ({each})"

    def _attributes(self) -> Study:
        size, judges = self.size, judges_for(self.pplus.pipe, None, self.words)
        settings = attributes.AttributeStudySettings(
            self.words, judges, size.pairs, size.pair_seeds, size.map_seeds, parts=size.parts
        )
        return attributes.study(self.pplus, settings, **self.sampling)

    def _attention(self) -> Study:
        asked = draw_prompts(self.words, self.size.prompts)
        return attention.study(self.pplus, asked, range(self.size.prompt_seeds), **self.sampling)

    def _evaluation(self, results: Sequence[GridResult]) -> Study:
        return methods.study(results, self.size.rival, methods.gallery(self.grid, self.tasks))

    def _density(self, learned: TrainedConcepts) -> Study:
        groups = {"XTI rows": learned.of(self.size.ours), "TI rows": learned.of(self.size.rival)}
        return token_density.study(self.pplus, {name: list(found.values()) for name, found in groups.items() if found})

    def _several(self, learned: TrainedConcepts) -> Study:
        by_method = {"XTI": learned.of(self.size.ours), "TI": learned.of(self.size.rival)}
        real = {folder.name: load_pictures(folder) for folder in self.concepts}
        scorer = self.grid.scorer
        return two_concepts.study(self.pplus, by_method, real, learned.plain_pairs, self.size.mix_seeds, scorer)

    def _mixing(self, learned: TrainedConcepts) -> Study:
        pairs = [mixing.ConceptPair(*pair) for pair in learned.pairs]
        rivals = mixing.other_methods(self.pplus, learned.of(self.size.rival))
        if self.size.lora:
            rivals[mixing.ADDED] = mixing.added_loras(self.grid.cache, learned.loras)
        ways = {way: learned.of(at) for way, at in learned.ways.items()}
        return mixing.study(self.pplus, ways, pairs, self.size.mix_seeds, rivals)


def _noted(study: Study, learned: TrainedConcepts) -> Study:
    """With a sentence about what was left out."""
    return replace(study, lead=f"{study.lead} {learned.left_out}".strip())
