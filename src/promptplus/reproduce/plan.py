"""How much `reproduce` measures: of the whole evidence, or of what fits into twenty minutes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from promptplus.errors import SettingsError
from promptplus.evaluation.training_cache import MethodSpec, Task
from promptplus.experiments import attributes
from promptplus.experiments.takeover import single_takeovers
from promptplus.layers import LayerMap
from promptplus.reproduce import claims
from promptplus.reproduce.compared_methods import (
    BOOTH,
    LORA,
    NOTHING,
    ONE_PICTURE,
    REGULARISED,
    TUNED,
    named_apart,
    preset,
)
from promptplus.training.settings import settings_kind

PROMPTS = 16  # about as many as the lists of prompts.py have
TOGETHER = 2 * 3  # two methods; two concepts in one prompt, and each by itself


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        pairs, pair_seeds, parts: of the attribute study; ``map_seeds``: of its heat maps.
        prompts, prompt_seeds: of the attention study.
        concepts, runs: how many concepts, and trainings of each method on each.
        methods: compared; ``long``: for the first ``few`` concepts the method of the same name, trained for longer;
            ``few_methods``: compared on these alone; ``tuned_methods``: on the first ``tuned``.
        ours, rival: (method, steps) whose rows are looked at and mixed; ``lora``: whose LoRAs are added up instead.
        regularised: ways to train that are mixed too, to see what the density term does.
        per_prompt: pictures of each prompt in the evaluation.
        mixes, mix_seeds: pairs of concepts that are mixed, and put into one prompt, and pictures of each. No concept
            is in two pairs.
    """

    name: str
    pairs: int
    pair_seeds: int
    parts: tuple[str, ...]
    prompts: int
    prompt_seeds: int
    concepts: int
    runs: int
    methods: tuple[MethodSpec, ...]
    ours: tuple[str, int]
    rival: tuple[str, int]
    per_prompt: int
    mixes: int
    mix_seeds: int
    long: tuple[MethodSpec, ...] = ()
    few: int = 0
    few_methods: tuple[MethodSpec, ...] = ()
    tuned: int = 0
    tuned_methods: tuple[MethodSpec, ...] = ()
    lora: claims.At | None = None
    map_seeds: int = 1
    regularised: tuple[MethodSpec, ...] = ()

    def tasks(self, concepts: Sequence[Path]) -> list[Task]:
        """What is trained. The first concepts' first training of a long method stands for its short one."""
        long = {method.name: method for method in self.long}
        groups = [(self.methods, None), (self.regularised, None)]
        groups += [(self.tuned_methods, self.tuned), (self.few_methods, self.few)]
        tasks = []
        for method, count in ((method, count) for methods, count in groups for method in methods):
            for number, concept in enumerate(concepts[:count]):
                for seed in range(self.runs if method in self.methods else 1):
                    longer = number < self.few and seed == 0
                    chosen = long.get(method.name, method) if longer else method
                    tasks.append(Task(concept, named_apart(chosen, number), seed))
        return tasks

    def work(self, layers: LayerMap, objects: int) -> tuple[int, int]:
        """Pictures drawn and training steps taken, roughly; ``objects``: how many words there are for them."""
        subsets = len(layers.subsets())
        columns = {"subsets": subsets, "steps": subsets, "single": len(single_takeovers(layers))}
        columns |= {"windows": 3 * attributes.WINDOWS + 2, "split": 0}
        seeds = dict.fromkeys(columns, self.pair_seeds) | dict.fromkeys(("single", "windows"), self.map_seeds)
        pictures = self.pairs * sum(columns[part] * seeds[part] for part in self.parts)
        pictures += 2 * objects * self.pair_seeds * ("split" in self.parts)
        ways = subsets + 3 + len(self.regularised)  # to mix
        pictures += self.prompts * self.prompt_seeds + self.mixes * self.mix_seeds * (ways + TOGETHER)
        tasks = [task.method.steps for task in self.tasks([Path(str(number)) for number in range(self.concepts)])]
        steps = sum(counts[-1] for counts in tasks)
        pictures += sum(len(counts) for counts in tasks) * self.per_prompt * PROMPTS
        return pictures, steps


LEAST = {
    **dict.fromkeys(("pairs", "prompts", "concepts"), 2),
    **dict.fromkeys(("pair_seeds", "map_seeds", "prompt_seeds", "runs", "per_prompt", "mixes", "mix_seeds"), 1),
    **dict.fromkeys(("few", "tuned"), 0),
}
"""The counts that may be changed, and what they are at least."""


def resized(size: Size, given: Mapping[str, int | None]) -> Size:
    """A size with some counts changed; fewer concepts make fewer pairs. Raises SettingsError on what cannot be."""
    told = {name: count for name, count in given.items() if count is not None}
    for name, count in told.items():
        if name not in LEAST:
            raise SettingsError(f"a size has no {name}; what may be changed: {', '.join(LEAST)}")
        if count < LEAST[name]:
            raise SettingsError(f"{name} {count} is too few; give {LEAST[name]} or more")
    most = told.get("concepts", size.concepts) // 2
    if told.get("mixes", 0) > most:
        raise SettingsError(
            f"mixes {told['mixes']}: no concept is in two pairs, so give {most} or fewer, or more concepts"
        )
    return replace(size, **{"mixes": min(size.mixes, most), **told})


def call(size: Size) -> str:
    """The command that measures so much, of the default model and concepts."""
    usual, named = SIZES[size.name], {"concepts": "concept-count"}
    changed = [name for name in LEAST if getattr(size, name) != getattr(usual, name)]
    flags = [f"--{named.get(name, name).replace('_', '-')} {getattr(size, name)}" for name in changed]
    return " ".join(["promptplus reproduce", f"--{size.name}", *flags])


QUICK = Size(
    name="quick",
    pairs=64,
    pair_seeds=1,
    parts=("subsets", "split"),
    prompts=32,
    prompt_seeds=1,
    concepts=4,
    runs=1,
    methods=(
        NOTHING,
        MethodSpec("xti", {}, (100,)),
        MethodSpec("ti", {"method": "ti"}, (100,)),
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
    methods=(
        NOTHING,
        preset("fast", 10, 25, 50),
        preset("paper-xti", 50, 100, 250, 500),
        preset("paper-ti", 500, 1000),
        BOOTH,
        LORA,
    ),
    ours=("paper-xti", 500),
    rival=("paper-ti", 500),
    per_prompt=2,
    mixes=6,
    mix_seeds=8,
    long=(preset("paper-ti", 500, 1000, 2500, 5000),),
    few=4,
    few_methods=ONE_PICTURE,
    tuned=6,
    tuned_methods=TUNED,
    lora=LORA.end,
    regularised=REGULARISED,
)
SIZES = {size.name: size for size in (QUICK, FULL)}
EQUAL, TENTH = "At equal steps XTI beats TI in subject and text similarity", "XTI at 500 steps beats TI at 5000 in both"
FAST, BOOTHS = "Our recipe at 50 steps beats {} in both", "XTI at 500 steps beats {} in both"
EARLY = "XTI at 100 steps beats TI at 1000 in both"
BEST = "At each one's best learning rate XTI at {} steps beats TI at {} in both"
ONE = "With one picture XTI beats {} in both"


def published(size: Size) -> Size:
    """For other models: without what was tuned on the pocket, DreamBooth with its published settings, the defaults."""

    def own(method: MethodSpec) -> MethodSpec:
        if not method.is_dreambooth:
            return method
        options = {"method": method.options["method"]}
        return replace(method, options=options, steps=(settings_kind(options)().steps,))

    methods, few = (tuple(map(own, found)) for found in (size.methods, size.few_methods))
    lora = next((method.end for method in methods if size.lora and method.name == size.lora[0]), None)
    return replace(size, methods=methods, few_methods=few, tuned_methods=(), lora=lora)


def comparisons(size: Size, full: Size = FULL) -> list[tuple[str, str, claims.At, claims.At]]:
    """(claim, what the paper says, who, over whom); what a quick run does not measure as ``full`` would."""
    xti, long, fast = ("paper-xti", 500), ("paper-ti", 5000), ("fast", 50)
    both = [(EQUAL, "yes", size.ours, size.rival), (TENTH, "yes, ten times faster", xti, long)]
    if size.name == "quick":
        return [*both, *comparisons(full)[len(both) :]]
    ends = {method.name: method.end for method in (*size.methods, *size.few_methods)}
    return [
        *both,
        (EARLY, "yes, ten times faster", ("paper-xti", 100), ("paper-ti", 1000)),
        (FAST.format("XTI at 500"), "not in the paper", fast, xti),
        (FAST.format("TI at 5000"), "not in the paper", fast, long),
        (BOOTHS.format("DreamBooth"), "not known", xti, ends["dreambooth"]),
        (BOOTHS.format("DreamBooth-LoRA"), "not in the paper", xti, ends["dreambooth-lora"]),
        (ONE.format("TI"), "not known", ends["one picture, XTI"], ends["one picture, TI"]),
        (ONE.format("DreamBooth"), "DreamBooth overfits", ends["one picture, XTI"], ends["one picture, DreamBooth"]),
        *_tuned(size),
    ]


def _tuned(size: Size) -> list[tuple[str, str, claims.At, claims.At]]:
    if not size.tuned_methods:
        return []
    xti, ti = size.tuned_methods
    return [
        (BEST.format(steps, ti.steps[-1]), "not known", (xti.name, steps), ti.end)
        for steps in (xti.steps[-1], xti.steps[0])
    ]
