"""The paper's evidence in one go: every study, and a table of claims beside what was measured.

Each study is written as soon as it is done and read again by the next call, if it was asked the same; the runs behind
it are tasks of a Matrix, which survive by themselves.
"""

import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from promptplus.concept import Concept
from promptplus.conditioning import PPlus
from promptplus.errors import BusyError, SettingsError
from promptplus.evaluation.judges import AttributeJudge
from promptplus.evaluation.matrix import Matrix
from promptplus.evaluation.tasks import Task
from promptplus.evidence import attention, attributes, claims, evaluation, mixing, tokens
from promptplus.evidence.claims import Claim
from promptplus.evidence.defaults import asked_prompts, is_pocket, judges_for, scorer_for, words_for
from promptplus.evidence.sizes import COMPARISONS, Size
from promptplus.evidence.study import Study, to_csv, to_markdown
from promptplus.files import make_folder, write_atomically
from promptplus.generation import BATCH, generate, usual_sampling
from promptplus.inversion.images import load_pictures
from promptplus.inversion.seat import weights_hash
from promptplus.inversion.trainer import run_inversion
from promptplus.pocket.world import UNSEEN_OBJECTS
from promptplus.report import Section, page

LEAD = (
    "What the paper claims, what was measured here, and whether it holds. Intervals are 95 %, by bootstrap. "
    "“Undecided”: the interval includes the opposite."
)
TRIED = 5  # training steps that an estimate is made from
SPEAKING = ("torch", "diffusers", "transformers", "promptplus")


MIXED = "A mix has one concept's shape and another's looks"
REGULARISED = "The density regulariser makes more mixes succeed"


@dataclass(frozen=True)
class Report:
    """All studies, the claims, and what made them."""

    studies: Sequence[Study] = field(repr=False)
    claims: Sequence[Claim]
    made_by: Mapping[str, str]

    def write(self, folder: Path) -> Path:
        """``report.html``, ``.md``, ``.csv`` and ``.json``; returns the page's path."""
        table = claims.table(self.claims)
        made = {"what": list(self.made_by), "value": list(self.made_by.values())}
        sections = [Section("Claims", table=table), Section("Made by", table=made)]
        for study in self.studies:
            sections += [Section(study.title, study.lead), *study.sections]
        title = "P+ and XTI, reproduced"
        lines = [f"# {title}", "", LEAD, "", to_markdown(table), "", to_markdown(made), ""]
        told = {"claims": [asdict(claim) for claim in self.claims], "made_by": dict(self.made_by)}
        write_atomically(folder / "report.md", "\n".join(lines).encode())
        write_atomically(folder / "report.csv", to_csv(table).encode())
        write_atomically(folder / "report.json", (json.dumps(told, indent=1) + "\n").encode())
        return write_atomically(folder / "report.html", page(title, LEAD, sections).encode())


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
        self.pplus, self.source, self.size, self.say, self.sampling = pplus, source, size, say, sampling
        self.concepts, self.folder = concepts[: size.concepts], make_folder(folder)
        scorer = scorer_for(pplus.pipe, per_prompt=size.per_prompt)
        self.matrix_folder = make_folder(folder / "methods")
        self.matrix = Matrix(pplus, source, scorer, self.matrix_folder)
        self.words = words_for(pplus.pipe, {})
        self.judged = is_pocket(pplus.pipe) and all(one.name in UNSEEN_OBJECTS for one in self.concepts)

    def run(self) -> Report:
        """Measure what is not there yet, and judge the claims."""
        words = {"words": self.words, "sampling": self.sampling}
        size = self.size
        of_layers = {"pairs": size.pairs, "seeds": size.pair_seeds, "parts": size.parts, **words}
        if is_pocket(self.pplus.pipe):
            of_layers["judge"] = weights_hash(AttributeJudge.load())
        layers = self.study("attributes", of_layers, self._attributes)
        of_looks = {"prompts": size.prompts, "seeds": size.prompt_seeds, **words}
        looks = self.study("attention", of_looks, self._attention)
        results = self.matrix.run(self.tasks)
        if left := sum(None in self.matrix.find(task) for task in self.tasks):
            raise BusyError(f"{left} tasks are being done by other processes; run this again when they are done")
        compared = self.study("evaluation", None, lambda: evaluation.study(results, size.rival))
        rows = self.study("density", None, self._density)
        better = [claims.better(*told, results) for told in COMPARISONS[size.name]]
        found = [*claims.layers(layers), *claims.attention(looks), *better, *claims.density(rows)]
        studies = [layers, looks, compared, rows]
        if self.judged:
            of_mixes = {
                name: [one.sha256 for one in self._learned(which).values()] for name, which in self._mixed.items()
            }
            studies.append(
                mixes := self.study("mixing", {**of_mixes, "mixes": size.mixes, "seeds": size.mix_seeds}, self._mixing)
            )
            found += claims.mixing(mixes)
            if not size.regularised:
                found.append(claims.not_measured(REGULARISED, "yes (the density term helps)", "--full"))
        else:
            found.append(claims.not_measured(MIXED, "shown in figures", "concepts whose true mixes can be drawn"))
        found.append(claims.not_measured("People prefer XTI's pictures", "yes", "people (promptplus study)"))
        return Report(studies, found, self.made_by)

    @property
    def tasks(self) -> list[Task]:
        """What is trained."""
        return self.size.tasks(self.concepts)

    @property
    def made_by(self) -> dict[str, Any]:
        """What made the numbers."""
        versions = {name: version(name) for name in SPEAKING}
        pipe = self.pplus.pipe
        steps, guidance = usual_sampling(pipe)
        told = {
            "size": self.size.name,
            "model": self.source,
            "dtype": str(pipe.unet.dtype),
            "device": pipe.unet.device.type,
        }
        told |= {
            "denoising steps": steps,
            "guidance": guidance,
            "concepts": ", ".join(one.name for one in self.concepts),
        }
        return {**told, "python": platform.python_version(), **versions}

    def study(self, name: str, asked: dict[str, Any] | None, make: Callable[[], Study]) -> Study:
        """The one in the folder if it was asked the same, else a new one; without ``asked`` always a new one."""
        told = {"asked": asked, "made_by": self.made_by, **self.matrix.learner.same, **self.matrix.asked}
        key = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:24]
        found = Study.read(self.folder, name) if asked else None
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
        plan = attributes.Plan(self.words, judges, size.pairs, size.pair_seeds, parts=size.parts)
        return attributes.study(self.pplus, plan, **self.sampling)

    def _attention(self) -> Study:
        asked = asked_prompts(self.words, self.size.prompts)
        return attention.study(self.pplus, asked, range(self.size.prompt_seeds), **self.sampling)

    def _density(self) -> Study:
        groups = {"XTI rows": self._learned(self.size.ours), "TI rows": self._learned(self.size.rival)}
        return tokens.study(self.pplus, {name: list(found.values()) for name, found in groups.items()})

    def _mixing(self) -> Study:
        size, names = self.size, [concept.name for concept in self.concepts]
        pairs = [mixing.Pair(a, b) for a, b in zip(names, names[1:] + names[:1], strict=True)][: size.mixes]
        learned = {name: self._learned(which) for name, which in self._mixed.items()}
        rivals = mixing.rivals(self.pplus, self._learned(size.rival))
        return mixing.study(self.pplus, learned, pairs, range(size.mix_seeds), rivals)

    @property
    def _mixed(self) -> dict[str, claims.At]:
        """What is mixed: (method, steps) by what reports call it."""
        return {
            "XTI": self.size.ours,
            **{method.name: (method.name, method.steps[-1]) for method in self.size.regularised},
        }

    def _learned(self, which: tuple[str, int]) -> dict[str, Concept]:
        """What a method learned of each concept, by the concept's name."""
        (method,) = (one for one in (*self.size.methods, *self.size.regularised) if one.name == which[0])
        return {folder.name: self.matrix.concept(Task(folder, method, 0), which[1]) for folder in self.concepts}
