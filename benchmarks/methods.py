"""Methods side by side: subject and text similarity, steps, seconds, paired by concept.

``python -m benchmarks.methods compare`` fills the table of docs/inversion.md on `report` concepts;
``python -m benchmarks.methods search [PATTERN …]`` tries the variants of the same name on `dev` concepts, which is what
defaults and the preset `fast` are chosen by. Processes that run the same call side by side share its tasks.
Results are kept under ``--out``, packed in one file at the end, and are never computed again.
"""

import argparse
import fnmatch
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

import promptplus as pp
from promptplus.evaluation.comparison import compare, comparison_table
from promptplus.evaluation.grid import ExperimentGrid
from promptplus.evaluation.scoring import Scorer
from promptplus.evaluation.training_cache import MethodSpec, Task
from promptplus.experiments.methods import gallery
from promptplus.pocket import CONCEPTS
from promptplus.pocket.held_out import DEV, REPORT
from promptplus.report.tables import to_markdown
from promptplus.reproduce.plan import CLASS_WORD, DREAMBOOTH, DREAMBOOTH_LORA, FULL


def rates(name: str, options: dict[str, object], steps: tuple[int, ...], *values: float) -> list[MethodSpec]:
    """A method at several learning rates."""
    return [MethodSpec(f"{name} lr {value:g}", {**options, "learning_rate": value}, steps) for value in values]


XTI: dict[str, object] = {"method": "xti", "templates": "batch"}
TI = {**XTI, "method": "ti"}
COSINE = {**XTI, "schedule": "cosine"}
FORGETTING = {**XTI, "beta1": 0.8, "beta2": 0.95}
SOONER = {**XTI, "beta1": 0.7, "beta2": 0.9}
EIGHT = {**SOONER, "vectors": 8}
SEARCHED = (
    CLASS_WORD,
    *rates("templates picture", {**XTI, "templates": "picture"}, (100,), 0.04),
    *rates("templates batch", XTI, (100,), 0.04),
    *rates("xti", XTI, (100, 500), 0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32),
    *rates("ti", TI, (100, 500), 0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32),
    *rates("fast cosine", COSINE, (50,), 0.01, 0.02, 0.04, 0.08),
    *rates("fast constant", XTI, (50,), 0.02, 0.04),
    *rates("fast forgetting", FORGETTING, (50,), 0.02, 0.04, 0.08),
    *rates("fast forgetting sooner", SOONER, (50,), 0.04),
    *rates("fast stratified", {**FORGETTING, "stratified": True}, (50,), 0.04),
    *rates("fast antithetic", {**FORGETTING, "antithetic": True}, (50,), 0.04),
    *rates("fast average", {**FORGETTING, "average": 0.8}, (50,), 0.04),
    *rates("fast noisier", {**FORGETTING, "timestep_bias": 2.0}, (50,), 0.04),
    *rates("fast norm", {**FORGETTING, "constraint": "norm"}, (50,), 0.04),
    *rates("fast direction", {**FORGETTING, "constraint": "direction"}, (50,), 0.04),
    *rates("fast min-snr", {**FORGETTING, "min_snr": 5.0}, (50,), 0.04),
    *rates("fast vectors", {**FORGETTING, "vectors": 2}, (50,), 0.04),
    *rates("fast vectors sooner", {**SOONER, "vectors": 2}, (50,), 0.01, 0.02, 0.03, 0.04),
    *rates("fast vectors min-snr", {**SOONER, "vectors": 2, "min_snr": 5.0}, (50,), 0.04),
    *rates("fast vectors dense", {**SOONER, "vectors": 2, "density": 0.002}, (50,), 0.04),
    *rates("fast vectors norm", {**SOONER, "vectors": 2, "constraint": "norm"}, (50,), 0.01, 0.02, 0.04, 0.08),
    *rates("fast vectors more", {**FORGETTING, "vectors": 4}, (50,), 0.01, 0.02, 0.04),
    *rates("fast vectors more norm", {**SOONER, "vectors": 4, "constraint": "norm"}, (50,), 0.005, 0.01),
    *rates("fast vectors eight", EIGHT, (50,), 0.003, 0.005, 0.01, 0.015, 0.02),
    *rates("fast vectors eight norm", {**EIGHT, "constraint": "norm"}, (50,), 0.003, 0.005, 0.0075, 0.01),
    *rates("fast vectors eight cleaner", {**EIGHT, "timestep_bias": 0.5}, (50,), 0.005),
    *rates("fast vectors eight average", {**EIGHT, "average": 0.8}, (50,), 0.005, 0.01, 0.02),
    *rates("fast vectors eight average dense", {**EIGHT, "average": 0.8, "density": 2e-4}, (50,), 0.005, 0.0075),
    *rates("fast vectors eight average denser", {**EIGHT, "average": 0.8, "density": 5e-4}, (50,), 0.01),
    *rates("fast vectors eight dense", {**EIGHT, "density": 2e-4}, (50,), 0.005, 0.0075, 0.01),
    *rates("fast vectors eight denser", {**EIGHT, "density": 5e-4}, (50,), 0.005, 0.0075),
    *rates("fast vectors eight min-snr", {**EIGHT, "min_snr": 5.0}, (50,), 0.005),
    *rates("fast vectors sixteen", {**SOONER, "vectors": 16}, (50,), 0.002, 0.004),
    *rates("dreambooth", DREAMBOOTH.options, (50, 100, 200), 2e-5),
    *rates("dreambooth", DREAMBOOTH.options, (50, 100, 200, 400), 1e-4, 3e-4),
    *rates("lora", DREAMBOOTH_LORA.options, (50, 100, 200), 1e-4, 1e-3, 5e-3),
)


class Question(NamedTuple):
    """What is compared on which concepts, what gains are over, and where results are kept."""

    concepts: Sequence[str]
    methods: Sequence[MethodSpec]
    baseline: tuple[str, int]
    folder: str


QUESTIONS = {
    "compare": Question(
        REPORT, (*FULL.methods, *FULL.tuned_methods, *FULL.few_methods), ("paper-xti", 500), "docs/results/methods"
    ),
    "search": Question(DEV, SEARCHED, ("fast forgetting lr 0.04", 50), "docs/results/search"),
}


def parser_of(doc: str | None, seeds: int, out: str | None) -> argparse.ArgumentParser:
    """The options of every comparison, with these defaults; ``out``: None where it depends on what is asked."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concepts", type=int, default=6, help="how many of the dev (or report) concepts")
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--per-prompt", type=int, default=2, help="pictures of each prompt")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=out)
    parser.add_argument("--picture", type=Path, help="where to draw the first concept, a row for each method")
    return parser


def measure(tasks: list[Task], options: argparse.Namespace, baseline: tuple[str, int]) -> None:
    """Train, judge, print."""
    torch.set_num_threads(options.threads)
    with pp.PPlus(pp.load("pocket")) as pplus:
        scorer = Scorer.for_model(pplus.pipe, per_prompt=options.per_prompt)
        grid = ExperimentGrid(pplus, "pocket", scorer, options.out)
        print(to_markdown(comparison_table(compare(grid.run(tasks), baseline))))
        if options.picture and (shown := gallery(grid, tasks)):
            shown.save(options.picture, optimize=True)
        grid.pack()


def main() -> None:
    """Choose methods and concepts, and measure them."""
    parser = parser_of(__doc__, seeds=1, out=None)
    parser.add_argument("what", choices=QUESTIONS)
    parser.add_argument("patterns", nargs="*", help="of the methods' names, as 'fast*'; default: all")
    parser.add_argument("--long", type=int, default=0, help="on so many concepts paper-ti's first run goes on to 5000")
    options = parser.parse_args()
    asked = QUESTIONS[options.what]
    options.out = options.out or Path(asked.folder)
    patterns = options.patterns or ["*"]
    chosen = tuple(method for method in asked.methods if any(fnmatch.fnmatch(method.name, one) for one in patterns))
    plan = replace(
        FULL, methods=chosen, tuned_methods=(), few_methods=(), regularised=(), runs=options.seeds, few=options.long
    )
    measure(plan.tasks([CONCEPTS / name for name in asked.concepts[: options.concepts]]), options, asked.baseline)


if __name__ == "__main__":
    main()
