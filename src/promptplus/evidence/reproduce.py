"""The paper's evidence in one go: every study, and a table of claims beside what was measured.

Each study is written as soon as it is done and read again by the next call, if it was asked the same; the runs behind
it are tasks of a Matrix, which survive by themselves.
"""

import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from promptplus.concept import Concept
from promptplus.conditioning import PPlus
from promptplus.errors import SettingsError
from promptplus.evaluation.matrix import WORD, Matrix, Method, Task
from promptplus.evidence import attention, attributes, claims, evaluation, mixing, tokens
from promptplus.evidence.claims import Claim
from promptplus.evidence.defaults import asked_prompts, is_pocket, score_for, scorer_for, words_for
from promptplus.evidence.study import Study, to_csv, to_markdown
from promptplus.files import make_folder, write_atomically
from promptplus.generation import BATCH, generate
from promptplus.inversion.presets import PRESETS
from promptplus.inversion.trainer import run_inversion
from promptplus.report import Section, page

LEAD = (
    "What the paper claims, what was measured here, and whether it holds. Intervals are 95 %, by bootstrap. "
    "“Undecided”: the interval includes the opposite."
)
PROMPTS = 16  # about as many as the lists of prompts.py have
TRIED = 5  # training steps that an estimate is made from
DENSITIES = (0.002, 0.02)  # a peer's weight of the regulariser, and ten times that (our choice)
SPEAKING = ("torch", "diffusers", "transformers", "promptplus")


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        pairs, pair_seeds, parts: of the attribute study; ``prompts``, ``prompt_seeds``: of the attention study.
        concepts, runs: how many concepts, and trainings of each method on each.
        methods: compared; ``long``: on the first ``long_concepts`` alone, one training each.
        ours, rival: (method, steps) whose rows are looked at and mixed.
        regularised: ways to train that are mixed too, to see what the density term does.
        per_prompt: pictures of each prompt in the evaluation.
        mixes, mix_seeds: pairs of concepts that are mixed, and pictures of each.
    """

    name: str
    pairs: int
    pair_seeds: int
    parts: tuple[str, ...]
    prompts: int
    prompt_seeds: int
    concepts: int
    runs: int
    methods: tuple[Method, ...]
    ours: tuple[str, int]
    rival: tuple[str, int]
    per_prompt: int
    mixes: int
    mix_seeds: int
    long: tuple[Method, ...] = ()
    long_concepts: int = 0
    regularised: tuple[Method, ...] = ()

    def work(self, subsets: int, layers: int) -> tuple[int, int]:
        """Pictures drawn and training steps taken, roughly."""
        columns = {"subsets": subsets, "steps": subsets, "single": layers + 2, "windows": 3 * attributes.WINDOWS + 2}
        pictures = self.pairs * self.pair_seeds * sum(columns[part] for part in self.parts)
        pictures += self.prompts * self.prompt_seeds + self.mixes * self.mix_seeds * (subsets + 3)
        steps = 0
        for methods, concepts, runs in (
            (self.methods, self.concepts, self.runs),
            (self.long, self.long_concepts, 1),
            (self.regularised, self.concepts, 1),
        ):
            for method in methods:
                steps += method.steps[-1] * concepts * runs
                pictures += len(method.steps) * concepts * runs * self.per_prompt * PROMPTS
        return pictures, steps


def preset(name: str, *steps: int) -> Method:
    """A preset as a method, scored at these steps."""
    options: Mapping[str, Any] = {key: value for key, value in PRESETS[name].items() if key != "steps"}  # type: ignore[index]
    return Method(name, dict(options), steps)


NOTHING = Method(WORD, steps=(0,))
QUICK = Size(
    name="quick",
    pairs=64,
    pair_seeds=1,
    parts=("subsets",),
    prompts=32,
    prompt_seeds=1,
    concepts=4,
    runs=1,
    methods=(
        NOTHING,
        Method("xti", {"templates": "batch"}, (100,)),
        Method("ti", {"method": "ti", "templates": "batch"}, (100,)),
    ),
    ours=("xti", 100),
    rival=("ti", 100),
    per_prompt=2,
    mixes=2,
    mix_seeds=4,
)
"""At most 20 minutes of the pocket on two cores."""
FULL = Size(
    name="full",
    pairs=64,
    pair_seeds=4,
    parts=attributes.PARTS,
    prompts=64,
    prompt_seeds=4,
    concepts=12,
    runs=1,
    methods=(NOTHING, preset("paper-xti", 50, 100, 250, 500), preset("paper-ti", 500, 1000)),
    ours=("paper-xti", 500),
    rival=("paper-ti", 500),
    per_prompt=4,
    mixes=6,
    mix_seeds=8,
    long=(preset("paper-ti", 500, 1000, 2500, 5000),),
    long_concepts=4,
    regularised=tuple(
        Method(f"XTI, density {weight:g}", {**PRESETS["paper-xti"], "density": weight}, (500,)) for weight in DENSITIES
    ),
)
SIZES = {size.name: size for size in (QUICK, FULL)}
EQUAL, TENTH = "At equal steps XTI beats TI in subject and text similarity", "XTI at 500 steps beats TI at 5000 in both"
COMPARISONS: dict[str, list[tuple[str, str, claims.At, claims.At]]] = {
    "quick": [
        (EQUAL, "yes", QUICK.ours, QUICK.rival),
        (TENTH, "yes, ten times faster", ("paper-xti", 500), ("paper-ti", 5000)),
    ],
    "full": [
        (EQUAL, "yes", ("paper-xti", 500), ("paper-ti", 500)),
        (TENTH, "yes, ten times faster", ("paper-xti", 500), ("paper-ti", 5000)),
    ],
}
"""(claim, what the paper says, who, over whom)."""


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
        self.pplus, self.source, self.size, self.say, self.sampling = pplus, source, size, say, sampling
        self.concepts, self.folder = concepts[: size.concepts], make_folder(folder)
        scorer = scorer_for(pplus.pipe, per_prompt=size.per_prompt)
        self.matrix = Matrix(pplus, source, scorer, make_folder(folder / "methods"))
        self.words = words_for(pplus.pipe, {})

    def run(self) -> Report:
        """Measure what is not there yet, and judge the claims."""
        layers = self.study("attributes", self._attributes)
        looks = self.study("attention", self._attention)
        results = self.matrix.run(self.tasks)
        compared = self.study("evaluation", lambda: evaluation.study(results, self.size.rival), True)
        rows = self.study("density", self._density, True)
        compared_claims = [claims.better(*told, results) for told in COMPARISONS[self.size.name]]
        found = [*claims.layers(layers), *claims.attention(looks), *compared_claims, *claims.density(rows)]
        studies = [layers, looks, compared, rows]
        if is_pocket(self.pplus.pipe):
            studies.append(mixes := self.study("mixing", self._mixing))
            found += claims.mixing(mixes)
        found.append(claims.not_measured("People prefer XTI's pictures", "yes", "people (promptplus study)"))
        return Report(studies, found, self.made_by)

    @property
    def tasks(self) -> list[Task]:
        size = self.size
        some = [Task(c, m, seed) for m in size.methods for c in self.concepts for seed in range(size.runs)]
        some += [Task(c, m, 0) for m in size.long for c in self.concepts[: size.long_concepts]]
        return some + [Task(c, m, 0) for m in size.regularised for c in self.concepts]

    @property
    def made_by(self) -> dict[str, str]:
        """What has to be the same for the same numbers."""
        versions = {name: version(name) for name in SPEAKING}
        return {"size": self.size.name, "model": self.source, "python": platform.python_version(), **versions}

    def study(self, name: str, make: Callable[[], Study], always: bool = False) -> Study:
        """The one in the folder if it was asked the same, else a new one; ``always`` for what costs nothing."""
        asked = {"size": asdict(self.size), "sampling": self.sampling, **self.matrix.same}
        key = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()[:24]
        found = Study.read(self.folder, name)
        if found and found.key == key and not always:
            return found
        self.say(f"{name} …")
        made = make()
        made = Study(name, made.title, made.lead, made.sections, made.values, made.tables, key)
        made.write(self.folder)
        return made

    def estimate(self) -> str:
        """How long all of it takes here, in words, from one batch of pictures and a few training steps."""
        pictures, steps = self.size.work(len(self.pplus.layers.subsets()), len(self.pplus.layers))
        start = time.perf_counter()
        generate(self.pplus, [mixing.PROMPT.format("house")] * BATCH, range(BATCH))
        per_picture = (time.perf_counter() - start) / BATCH
        start = time.perf_counter()
        run_inversion(self.pplus, self.concepts[0], steps=TRIED, templates="batch", progress=False)
        per_step = (time.perf_counter() - start) / TRIED
        hours = (pictures * per_picture + steps * per_step) / 3600
        each = f"{pictures} pictures at {per_picture:.2f} s, {steps} training steps at {per_step:.2f} s"
        return f"about {hours:.1f} hours if nothing is there yet ({each})"

    def _attributes(self) -> Study:
        size, score = self.size, score_for(self.pplus.pipe, None)
        plan = attributes.Plan(self.words, score, size.pairs, size.pair_seeds, parts=size.parts)
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
        learned = {"XTI": self._learned(size.ours)}
        learned |= {method.name: self._learned((method.name, method.steps[-1])) for method in size.regularised}
        rivals = mixing.rivals(self.pplus, self._learned(size.rival))
        return mixing.study(self.pplus, learned, pairs, range(size.mix_seeds), rivals)

    def _learned(self, which: tuple[str, int]) -> dict[str, Concept]:
        """What a method learned of each concept, by the concept's name."""
        (method,) = (one for one in (*self.size.methods, *self.size.regularised) if one.name == which[0])
        return {folder.name: self.matrix.concept(Task(folder, method, 0), which[1]) for folder in self.concepts}
