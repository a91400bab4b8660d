"""Run a plan: all studies, and the paper's claims beside what was measured.

Each study is written as soon as it is measured. The next run reads it again if nothing that it depends on has changed.
The trainings behind the studies are tasks of an experiment grid, which keeps its own results.
"""

import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Unpack

from promptplus.datasets import load_pictures
from promptplus.denoisers import denoiser_of
from promptplus.errors import BusyError, SettingsError
from promptplus.evaluation.grid import ExperimentGrid, GridResult
from promptplus.evaluation.scoring import Scorer
from promptplus.evaluation.training_cache import Task
from promptplus.experiments import (
    attention,
    attributes,
    editing,
    methods,
    mixing,
    single_attribute,
    token_density,
    two_concepts,
)
from promptplus.experiments.attention import draw_prompts
from promptplus.experiments.study import Study
from promptplus.experiments.takeover import judges_for
from promptplus.files import make_folder
from promptplus.fingerprints import weights_hash
from promptplus.generation import BATCH, generate
from promptplus.kept_pictures import keeping
from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pplus import PPlus
from promptplus.profiles import SamplingOptions, default_sampling, profile_of
from promptplus.reproduce import claims
from promptplus.reproduce.claims import Claim
from promptplus.reproduce.comparisons import comparisons
from promptplus.reproduce.plan import FULL, Plan, command, published
from promptplus.reproduce.report import Report
from promptplus.reproduce.trained_concepts import TrainedConcepts
from promptplus.training.invert import run_inversion

NO_PAIR = "two concepts that every method has learned"
ESTIMATE_STEPS = 5  # training steps that an estimate is made from
PACKAGES = ("torch", "diffusers", "transformers", "promptplus")
JUDGE_KEYS = ("clip", "dino", "says")  # the parts of the grid's key that all studies share


class Reproduction:
    """A plan for one model, with its results in one folder.

    Args:
        source: the name the pipeline was loaded by.
        concepts: folders of pictures, at least as many as the plan wants.
        say: is called with a sentence when a study begins.
        people: the report of a user study; None: there is none.
        sampling: of the studies of attributes and attention.

    Raises SettingsError where there are too few concepts, and PictureError on a bad folder.
    """

    def __init__(
        self,
        pplus: PPlus,
        source: str,
        plan: Plan,
        concepts: Sequence[Path],
        folder: Path,
        say: Callable[[str], None],
        people: Study | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> None:
        if len(concepts) < plan.concepts:
            raise SettingsError(f"{plan.name} needs {plan.concepts} concepts, there are {len(concepts)}; give more")
        for folder_of_pictures in concepts[: plan.concepts]:
            load_pictures(folder_of_pictures)  # so that a bad folder is found before anything is measured
        self.profile = profile_of(pplus.pipe)
        plan, self.full = (one if self.profile.tuned else published(one) for one in (plan, FULL))
        self.pplus, self.source, self.plan, self.say, self.sampling = pplus, source, plan, say, sampling
        self.people = people
        self.concepts, self.folder = concepts[: plan.concepts], make_folder(folder)
        scorer = Scorer.for_model(pplus.pipe, per_prompt=plan.per_prompt)
        self.grid = ExperimentGrid(pplus, source, scorer, make_folder(folder / "methods"))
        self.words = self.profile.words

    def run(self) -> Report:
        """Measure what is not measured yet, and judge the claims. Concepts whose training fails are left out."""
        layers, looks = self._attribute_study(), self._attention_study()
        results = self.grid.run(self.tasks)
        if left := sum(None in self.grid.find(t) for t in self.tasks if t not in self.grid.failed):
            raise BusyError(f"{left} tasks are being done by other processes; run this again when they are done")
        trained = TrainedConcepts(self.grid, self.plan, self.concepts, results)
        compared, rows = self._method_study(results, trained), self._density_study(trained)
        better = [claims.better(comparison, results) for comparison in comparisons(self.plan, self.full)]
        judged = [*claims.layers(layers), *claims.attention(looks), *better, *claims.density(rows)]
        studies = [layers, looks, compared, rows]
        others = self._two_concept_study(trained), self._mixing_study(trained), self._editing_study()
        others += (self._single_attribute_study(),)
        for study, its_claims in others:
            studies += [study] if study else []
            judged += its_claims
        studies += [self.people] if self.people else []
        judged.append(claims.people(self.people, "XTI", "TI"))
        self.grid.pack()
        return Report(studies, judged, self.made_by)

    # The names and values of `depends` are hashed below. Under another name, the results of before would not be reused.

    def _attribute_study(self) -> Study:
        plan = self.plan
        depends = {"pairs": plan.pairs, "seeds": [plan.pair_seeds, plan.map_seeds], "parts": plan.parts}
        depends |= {"words": self.words, "sampling": self.sampling}
        if self.profile.attribute_judge:
            depends["judge"] = weights_hash(AttributeJudge.load(self.profile.attribute_judge))

        def measure() -> Study:
            judges = judges_for(self.pplus.pipe, None, self.words)
            settings = attributes.AttributeStudySettings(
                self.words, judges, plan.pairs, plan.pair_seeds, plan.map_seeds, parts=plan.parts
            )
            return attributes.study(self.pplus, settings, **self.sampling)

        return self.study("attributes", depends, measure)

    def _attention_study(self) -> Study:
        plan = self.plan
        depends = {"prompts": plan.prompts, "seeds": plan.prompt_seeds, "words": self.words, "sampling": self.sampling}

        def measure() -> Study:
            prompts = draw_prompts(self.words, plan.prompts)
            return attention.study(self.pplus, prompts, range(plan.prompt_seeds), **self.sampling)

        return self.study("attention", depends, measure)

    def _method_study(self, results: Sequence[GridResult], trained: TrainedConcepts) -> Study:
        depends = {"runs": [vars(result) for result in results], "left_out": trained.left_out}

        def measure() -> Study:
            gallery = methods.gallery(self.grid, self.tasks)
            return _with_note(methods.study(results, self.plan.rival, gallery), trained)

        return self.study("methods", depends, measure)

    def _density_study(self, trained: TrainedConcepts) -> Study:
        def measure() -> Study:
            groups = {"XTI rows": trained.of(self.plan.ours), "TI rows": trained.of(self.plan.rival)}
            listed = {name: list(group.values()) for name, group in groups.items() if group}
            return _with_note(token_density.study(self.pplus, listed), trained)

        return self.study("density", trained.rows_key, measure)

    def _two_concept_study(self, trained: TrainedConcepts) -> tuple[Study | None, list[Claim]]:
        """The study and its claims; without two concepts that both methods have learned, None and what is missing."""
        if not trained.plain_pairs:
            says = claims.TWO_CONCEPTS.format("XTI", "TI")
            return None, [claims.not_measured(says, "not in the paper", NO_PAIR)]

        def measure() -> Study:
            by_method = {"XTI": trained.of(self.plan.ours), "TI": trained.of(self.plan.rival)}
            real = {folder.name: load_pictures(folder) for folder in self.concepts}
            count, scorer = self.plan.mix_seeds, self.grid.scorer
            study = two_concepts.study(self.pplus, by_method, real, trained.plain_pairs, count, scorer)
            return _with_note(study, trained)

        study = self.study("two-concepts", trained.key, measure)
        return study, [claims.two_concepts(study, "XTI", "TI")]

    def _mixing_study(self, trained: TrainedConcepts) -> tuple[Study | None, list[Claim]]:
        """The study and its claims; where mixes cannot be judged or made, None and what is missing."""
        mix, regularised = (claims.MIX, "shown in figures"), (claims.REGULARISED, claims.REGULARISER_HELPS)
        if not self.profile.can_draw_mixes(folder.name for folder in self.concepts):
            return None, [claims.not_measured(*mix, "concepts whose true mixes can be drawn")]
        if not trained.pairs:
            return None, [claims.not_measured(*one, NO_PAIR) for one in (mix, regularised)]

        def measure() -> Study:
            pairs = [mixing.ConceptPair(*pair) for pair in trained.pairs]
            rivals = mixing.other_methods(self.pplus, trained.of(self.plan.rival))
            if self.plan.lora:
                rivals[mixing.ADDED] = mixing.added_loras(self.grid.cache, trained.loras)
            mixed = {name: trained.of(method) for name, method in trained.mixed_methods.items()}
            return _with_note(mixing.study(self.pplus, mixed, pairs, self.plan.mix_seeds, rivals), trained)

        depends = {**trained.key, "judge": weights_hash(AttributeJudge.load())}
        study = self.study("mixing", depends, measure)
        missing = [] if self.plan.regularised else [claims.not_measured(*regularised, "--full")]
        return study, [*claims.mixing(study), *missing]

    def _editing_study(self) -> tuple[Study | None, list[Claim]]:
        """The study and its claim; where true edits cannot be drawn, None and what is missing."""
        judge = self.profile.attribute_judge
        if not judge:
            return None, [
                claims.not_measured(claims.EDITING, "not in the paper", "a model whose pictures can be drawn")
            ]
        depends = {"edits": self.plan.edits, "judge": weights_hash(AttributeJudge.load(judge))}
        study = self.study("editing", depends, lambda: editing.study(self.pplus, self.plan.edits))
        return study, [claims.editing(study)]

    def _single_attribute_study(self) -> tuple[Study | None, list[Claim]]:
        """The study and its claims; where no judge knows the attributes, None and what is missing."""
        judge, plan = self.profile.attribute_judge, self.plan
        if not judge:
            says, needs = claims.ONE_ATTRIBUTE.format("another way"), "a model whose pictures can be drawn"
            return None, [claims.not_measured(says, "not in the paper", needs)]
        depends = {
            "things": plan.things,
            "prompts": plan.thing_prompts,
            "judge": weights_hash(AttributeJudge.load(judge)),
        }
        depends |= {"settings": single_attribute.SETTINGS, "layers": single_attribute.LAYERS}
        depends["ways"] = [way.name for way in single_attribute.WAYS]
        study = self.study(
            "single-attribute", depends, lambda: single_attribute.study(self.pplus, plan.things, plan.thing_prompts)
        )
        return study, claims.single_attribute(study)

    @property
    def tasks(self) -> list[Task]:
        """All trainings of the plan."""
        return self.plan.tasks(self.concepts)

    @property
    def made_by(self) -> dict[str, Any]:
        """The command, the concepts, the model and the versions that made the numbers."""
        failed = "; ".join(map(str, self.grid.failed))
        record = {"command": command(self.plan), "training seeds": ", ".join(map(str, range(self.plan.runs)))}
        record |= {"concepts": ", ".join(folder.name for folder in self.concepts)}
        return {**record, **({"left out, training failed": failed} if failed else {}), **self._environment}

    @property
    def _environment(self) -> dict[str, Any]:
        """The model, its sampling, the kind of device and the versions: other ones give other numbers."""
        pipe = self.pplus.pipe
        steps, guidance = default_sampling(pipe)
        denoiser = denoiser_of(pipe)
        model = {"model": self.source, "dtype": str(denoiser.dtype), "device": denoiser.device.type}
        sampling = {"denoising steps": steps, "guidance": guidance}
        versions = {name: version(name) for name in PACKAGES}
        return {**model, **sampling, "python": platform.python_version(), **versions}

    def study(self, name: str, depends: Mapping[str, Any], measure: Callable[[], Study]) -> Study:
        """The study in the folder if it depended on the same, else a new one, which is written there."""
        judges = {name: self.grid.scoring_key[name] for name in JUDGE_KEYS}
        record = {"asked": depends, "made_by": self._environment, **self.grid.cache.model_key, **judges}
        key = hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()[:24]
        kept = Study.read(self.folder, name)
        if kept and kept.key == key:
            return kept
        self.say(f"{name} …")
        with keeping(self.folder):
            study = replace(measure(), key=key)
        study.write(self.folder)
        return study

    def estimate(self) -> str:
        """A sentence: how many hours the whole plan takes here, from one batch of pictures and a few training steps."""
        pictures, steps = self.plan.work(self.pplus.layers, len(self.words["object"]))
        method = next(one for one in self.plan.methods if one.name == self.plan.ours[0])
        start = time.perf_counter()
        generate(self.pplus, [mixing.PROMPT.format("house")] * BATCH, range(BATCH))
        per_picture = (time.perf_counter() - start) / BATCH
        start = time.perf_counter()
        options: dict[str, Any] = {**method.options, "steps": ESTIMATE_STEPS}
        run_inversion(self.pplus, self.concepts[0], progress=False, **options)
        per_step = (time.perf_counter() - start) / ESTIMATE_STEPS
        hours = (pictures * per_picture + steps * per_step) / 3600
        each = f"{pictures} pictures at {per_picture:.2f} s, {steps} training steps at {per_step:.2f} s"
        return f"about {hours:.1f} hours if nothing is there yet ({each})"


def _with_note(study: Study, trained: TrainedConcepts) -> Study:
    """The study with a sentence about the trainings that failed."""
    return replace(study, lead=f"{study.lead} {trained.left_out}".strip())
