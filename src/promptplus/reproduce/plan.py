"""Plans: how much ``reproduce`` measures, and the methods that it compares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from promptplus.errors import SettingsError
from promptplus.evaluation.training_cache import WORD, MethodSpec, Task
from promptplus.experiments import attributes, single_attribute
from promptplus.experiments.attribute_concepts import LEARNED
from promptplus.experiments.takeover import single_takeovers
from promptplus.layers import LayerMap
from promptplus.pocket.world import ATTRIBUTES
from promptplus.training.settings import PRESETS, settings_kind

MethodAt = tuple[str, int]
"""A method's name and the number of steps after which it is looked at."""

EVALUATION_PROMPTS = 16  # about as many as a model's profile has
EDIT_PICTURES = 30  # one case of the study of editing takes as long as about so many pictures
TWO_CONCEPT_PROMPTS = 2 * 3  # two methods; two concepts in one prompt, and each alone
IDENTIFIERS = ("sks", "ohwx")  # usual for DreamBooth, because no caption has these words
DENSITIES = (0.0002, 0.002)  # weights of the density term: of an earlier `fast`, and of another implementation


def preset_method(name: str, *steps: int) -> MethodSpec:
    """The method of a preset, scored after these numbers of steps."""
    options: Mapping[str, Any] = {key: value for key, value in PRESETS[name].items() if key != "steps"}  # type: ignore[index]
    return MethodSpec(name, dict(options), steps)


def with_identifier(method: MethodSpec, number: int) -> MethodSpec:
    """DreamBooth with the identifier of the concept ``number``; other methods as they are.

    Neighbours have different identifiers, because they may be named in one prompt.
    """
    if not method.is_dreambooth:
        return method
    return replace(method, options={**method.options, "identifier": IDENTIFIERS[number % len(IDENTIFIERS)]})


def _with_rate(name: str, preset: str, rate: float, *steps: int) -> MethodSpec:
    """A preset's method at another learning rate."""
    return MethodSpec(f"{name}, rate {rate:g}", {**preset_method(preset).options, "learning_rate": rate}, steps)


CLASS_WORD = MethodSpec(WORD, steps=(0,))
"""Learns nothing: the class word stands in the concept's place."""
DREAMBOOTH = MethodSpec("dreambooth", {"method": "dreambooth", "batch_size": 4, "learning_rate": 1e-4}, (200,))
DREAMBOOTH_LORA = MethodSpec(
    "dreambooth-lora", {"method": "dreambooth-lora", "batch_size": 4, "learning_rate": 5e-3}, (200,)
)
"""DreamBooth as it is best for the pocket, chosen on its `dev` concepts (docs/log.md); others: see ``published``."""
TUNED = (
    _with_rate("XTI", "paper-xti", 0.08, 50, 100, 250, 500),
    _with_rate("TI", "paper-ti", 0.16, 50, 100, 250, 500),
)
"""The paper's settings at the best learning rates for the pocket, chosen on its `dev` concepts (docs/log.md)."""
ONE_PICTURE = (
    MethodSpec("one picture, XTI", preset_method("paper-single").options, (500,), pictures=1),
    MethodSpec("one picture, TI", {**preset_method("paper-single").options, "method": "ti"}, (500,), pictures=1),
    replace(DREAMBOOTH, name="one picture, DreamBooth", pictures=1),
    replace(DREAMBOOTH_LORA, name="one picture, DreamBooth-LoRA", pictures=1),
)
REGULARISED = tuple(
    MethodSpec(f"XTI, density {weight:g}", {**preset_method("paper-xti").options, "density": weight}, (500,))
    for weight in DENSITIES
)


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        name: ``quick`` or ``full``.
        pairs, pair_seeds, parts: of the attribute study; ``map_seeds``: of its heat maps.
        prompts, prompt_seeds: of the attention study.
        concepts: the number of concepts that are learned.
        runs: the number of trainings of each of ``methods`` on each concept; other methods are trained once.
        methods: compared on all concepts.
        ours, rival: the trained rows that the other studies use, of XTI and of TI.
        per_prompt: the number of pictures of each evaluation prompt.
        mixes: the number of concept pairs that are mixed and put into one prompt; no concept is in two pairs.
        mix_seeds: the number of pictures of each pair.
        long: on the first ``few`` concepts, these replace the first training of the method of the same name.
        few_methods: compared on the first ``few`` concepts only.
        tuned_methods: compared on the first ``tuned`` concepts only.
        edits: the number of edits of each attribute.
        things, thing_prompts: the things of which single attributes are learned, and the prompts of each concept.
        lora: the LoRAs that are added up, as another method than mixing.
        regularised: methods with the density term whose concepts are mixed as well.
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
    ours: MethodAt
    rival: MethodAt
    per_prompt: int
    mixes: int
    mix_seeds: int
    edits: int
    things: int
    thing_prompts: int
    long: tuple[MethodSpec, ...] = ()
    few: int = 0
    few_methods: tuple[MethodSpec, ...] = ()
    tuned: int = 0
    tuned_methods: tuple[MethodSpec, ...] = ()
    lora: MethodAt | None = None
    map_seeds: int = 1
    regularised: tuple[MethodSpec, ...] = ()

    def tasks(self, concepts: Sequence[Path]) -> list[Task]:
        """All trainings. On the first ``few`` concepts a long method replaces the first training of its short one."""
        long = {method.name: method for method in self.long}
        groups = [(self.methods, None), (self.regularised, None)]
        groups += [(self.tuned_methods, self.tuned), (self.few_methods, self.few)]
        tasks = []
        for method, count in ((method, count) for methods, count in groups for method in methods):
            for number, concept in enumerate(concepts[:count]):
                for seed in range(self.runs if method in self.methods else 1):
                    longer = number < self.few and seed == 0
                    chosen = long.get(method.name, method) if longer else method
                    tasks.append(Task(concept, with_identifier(chosen, number), seed))
        return tasks

    def work(self, layers: LayerMap, objects: int) -> tuple[int, int]:
        """About how many pictures and training steps the plan takes; ``objects``: the number of words for objects."""
        subsets = len(layers.subsets())
        columns = {"subsets": subsets, "steps": subsets, "single": len(single_takeovers(layers))}
        columns |= {"windows": 3 * attributes.WINDOWS + 2, "split": 0}
        seeds = dict.fromkeys(columns, self.pair_seeds) | dict.fromkeys(("single", "windows"), self.map_seeds)
        pictures = self.pairs * sum(columns[part] * seeds[part] for part in self.parts)
        pictures += 2 * objects * self.pair_seeds * ("split" in self.parts)
        per_pair = subsets + 3 + len(self.regularised)  # mixes at each split, and other methods
        pictures += self.prompts * self.prompt_seeds + self.mixes * self.mix_seeds * (per_pair + TWO_CONCEPT_PROMPTS)
        pictures += self.edits * len(ATTRIBUTES) * EDIT_PICTURES
        concepts = self.things * len(LEARNED)
        pictures += concepts * self.thing_prompts * (len(single_attribute.WAYS) + 1)  # and plain words
        tasks = [task.method.steps for task in self.tasks([Path(str(number)) for number in range(self.concepts)])]
        steps = sum(counts[-1] for counts in tasks) + single_attribute.training_steps(self.things)
        pictures += sum(len(counts) for counts in tasks) * self.per_prompt * EVALUATION_PROMPTS
        return pictures, steps


MIN_COUNTS = {
    **dict.fromkeys(("pairs", "prompts", "concepts"), 2),
    **dict.fromkeys(("pair_seeds", "map_seeds", "prompt_seeds", "runs", "per_prompt", "mixes", "mix_seeds"), 1),
    **dict.fromkeys(("few", "tuned"), 0),
    **dict.fromkeys(("edits", "things", "thing_prompts"), 1),
}
"""The counts that may be changed, each with its smallest value."""


def change_counts(plan: Plan, counts: Mapping[str, int | None]) -> Plan:
    """A plan with other counts; None leaves a count as it is. With fewer concepts there are fewer pairs.

    Raises SettingsError on a count that is unknown or too small, and on more pairs than the concepts can make.
    """
    given = {name: count for name, count in counts.items() if count is not None}
    for name, count in given.items():
        if name not in MIN_COUNTS:
            raise SettingsError(f"a plan has no {name}; what may be changed: {', '.join(MIN_COUNTS)}")
        if count < MIN_COUNTS[name]:
            raise SettingsError(f"{name} {count} is too few; give {MIN_COUNTS[name]} or more")
    most = given.get("concepts", plan.concepts) // 2
    if given.get("mixes", 0) > most:
        raise SettingsError(
            f"mixes {given['mixes']}: no concept is in two pairs, so give {most} or fewer, or more concepts"
        )
    return replace(plan, **{"mixes": min(plan.mixes, most), **given})


def command(plan: Plan) -> str:
    """The command that runs a plan, with the default model and concepts."""
    usual, renamed = PLANS[plan.name], {"concepts": "concept-count"}
    changed = [name for name in MIN_COUNTS if getattr(plan, name) != getattr(usual, name)]
    flags = [f"--{renamed.get(name, name).replace('_', '-')} {getattr(plan, name)}" for name in changed]
    return " ".join(["promptplus reproduce", f"--{plan.name}", *flags])


def published(plan: Plan) -> Plan:
    """The plan for a model that nothing was tuned on: DreamBooth as published, and no tuned methods."""

    def with_defaults(method: MethodSpec) -> MethodSpec:
        if not method.is_dreambooth:
            return method
        options = {"method": method.options["method"]}
        return replace(method, options=options, steps=(settings_kind(options)().steps,))

    methods, few = (tuple(map(with_defaults, each)) for each in (plan.methods, plan.few_methods))
    lora = next((method.end for method in methods if plan.lora and method.name == plan.lora[0]), None)
    return replace(plan, methods=methods, few_methods=few, tuned_methods=(), lora=lora)


QUICK = Plan(
    name="quick",
    pairs=64,
    pair_seeds=1,
    parts=("subsets", "split"),
    prompts=32,
    prompt_seeds=1,
    concepts=4,
    runs=1,
    methods=(
        CLASS_WORD,
        MethodSpec("xti", {}, (100,)),
        MethodSpec("ti", {"method": "ti"}, (100,)),
    ),
    ours=("xti", 100),
    rival=("ti", 100),
    per_prompt=2,
    mixes=2,
    mix_seeds=4,
    edits=4,
    things=1,
    thing_prompts=2,
)
"""At most 20 minutes for the pocket on two cores."""
FULL = Plan(
    name="full",
    pairs=64,
    pair_seeds=4,
    parts=attributes.PARTS,
    prompts=64,
    prompt_seeds=4,
    concepts=12,
    runs=1,
    methods=(
        CLASS_WORD,
        preset_method("fast", 10, 25, 50),
        preset_method("paper-xti", 50, 100, 250, 500),
        preset_method("paper-ti", 500, 1000),
        DREAMBOOTH,
        DREAMBOOTH_LORA,
    ),
    ours=("paper-xti", 500),
    rival=("paper-ti", 500),
    per_prompt=2,
    mixes=6,
    mix_seeds=8,
    edits=40,
    things=6,
    thing_prompts=4,
    long=(preset_method("paper-ti", 500, 1000, 2500, 5000),),
    few=6,
    few_methods=ONE_PICTURE,
    tuned=6,
    tuned_methods=TUNED,
    lora=DREAMBOOTH_LORA.end,
    regularised=REGULARISED,
)
PLANS = {plan.name: plan for plan in (QUICK, FULL)}
