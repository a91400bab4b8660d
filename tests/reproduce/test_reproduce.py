"""The whole evidence at tiny sizes: studies are read again, mixes are drawn, claims follow from numbers."""

import html
import json
import os
import shutil
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

import promptplus as pp
from promptplus.datasets import read_note
from promptplus.errors import BusyError, LossError, ModelError, OutputError, SettingsError, TrainingError
from promptplus.evaluation import training_cache as tasks
from promptplus.evaluation.grid import ExperimentGrid, GridResult
from promptplus.evaluation.metrics import Interval
from promptplus.evaluation.ray_workers import Worker, run_on_ray
from promptplus.evaluation.scoring import Scorer
from promptplus.evaluation.training_cache import MethodSpec, Task, TrainingCache
from promptplus.experiments import mixing, single_attribute
from promptplus.experiments.methods import comparable
from promptplus.experiments.study import Study
from promptplus.pocket import CONCEPTS
from promptplus.reproduce import claims
from promptplus.reproduce.comparisons import Comparison, comparisons
from promptplus.reproduce.plan import FULL, MIN_COUNTS, QUICK, TUNED, Plan, change_counts, command, published
from promptplus.reproduce.run import Reproduction
from promptplus.reproduce.trained_concepts import TrainedConcepts
from tests.cli.test_cli import run
from tests.conftest import make_concept
from tests.pages import figures

TINY = replace(
    QUICK,
    pairs=2,
    prompts=2,
    concepts=2,
    methods=(
        MethodSpec("xti", {"batch_size": 1}, (1,)),
        MethodSpec("ti", {"method": "ti", "batch_size": 1}, (1,)),
        MethodSpec("lora", {"method": "dreambooth-lora", "prior_weight": 0.0}, (1,)),
    ),
    ours=("xti", 1),
    rival=("ti", 1),
    lora=("lora", 1),
    per_prompt=1,
    mixes=1,
    mix_seeds=1,
    edits=1,
    things=1,
    thing_prompts=1,
)
FOLDERS = [CONCEPTS / "robot", CONCEPTS / "teapot"]


@pytest.fixture(autouse=True)
def two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promptplus.profiles.STEPS", 2)
    monkeypatch.setattr(single_attribute, "WAYS", (single_attribute.OURS, single_attribute.TI))
    monkeypatch.setattr(single_attribute, "SETTINGS", {"steps": 1, "batch_size": 1})


@pytest.fixture
def small_judges(random_scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Judges with random weights wherever one is asked for."""
    monkeypatch.setattr(Scorer, "for_model", lambda *_, **__: random_scorer)


@pytest.mark.slow
@pytest.mark.usefixtures("small_judges")
def test_everything_once_and_then_nothing(pplus: pp.PPlus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    work = Reproduction(pplus, "pocket", TINY, FOLDERS, tmp_path, said.append)
    report = work.run()
    page = report.write(tmp_path).read_text()
    assert [study.name for study in report.studies] == [
        *("attributes", "attention", "methods", "density", "two-concepts", "mixing", "editing"),
        "single-attribute",
    ]
    assert said == [f"{study.name} …" for study in report.studies]
    for study in report.studies:
        assert html.escape(study.title) in page
        assert (tmp_path / f"{study.name}.html").exists()
    assert report.studies[-3].values["roles"][mixing.ADDED] == "rival"
    told = json.loads((tmp_path / "report.json").read_text())
    assert [row["says"] for row in told["claims"]] == [claim.says for claim in report.claims]
    assert {row["holds"] for row in told["claims"]} <= {"yes", "no", "undecided", "not measured"}
    assert "needs people" in told["claims"][-1]["measured"]
    measured = {row["says"]: row["measured"] for row in told["claims"]}
    assert all("see --full" in measured[says] for says in (one.says for one in comparisons(FULL)[1:]))
    assert (tmp_path / "report.csv").read_text().count("\n") == len(report.claims) + 1
    for part in ("attributes", "attention", "two_concepts", "mixing", "editing", "single_attribute"):
        monkeypatch.setattr(f"promptplus.experiments.{part}.study", lambda *_, **__: pytest.fail("measured again"))
    monkeypatch.setattr(ExperimentGrid, "do", lambda *_: pytest.fail("trained again"))
    shutil.rmtree(tmp_path / "methods" / "learned")  # what is read again needs no rows
    (tmp_path / "methods" / "learned.safetensors").unlink()
    again = Reproduction(pplus, "pocket", TINY, FOLDERS, tmp_path, said.append).run()
    assert again.claims == report.claims
    assert again.write(tmp_path).read_text() == page
    compared = {"first": "xti@500", "second": "ti@500", "share": {"value": 0.7, "low": 0.6, "high": 0.8}}
    questions = {"subject": {"preferences": [{**compared, "participants": 9, "concepts": 9}]}}
    counts = {
        "finished": 9,
        "rules": {"participants": 9},
        "counted": 9,
        "left_out": 0,
        "methods": ["xti@500", "ti@500"],
    }
    people = Study("people", "What people prefer", "", [], {**counts, "questions": questions})
    voted = Reproduction(pplus, "pocket", TINY, FOLDERS, tmp_path, said.append, people).run()
    assert voted.claims[:-1] == report.claims[:-1]
    assert (voted.claims[-1].holds, voted.studies[-1].name) == ("yes", "people")
    assert "What people prefer" in voted.write(tmp_path).read_text()
    with pytest.raises(SettingsError, match="needs 2 concepts"):
        Reproduction(pplus, "pocket", TINY, FOLDERS[:1], tmp_path, said.append)


@pytest.mark.slow
@pytest.mark.usefixtures("small_judges")
def test_what_failed_is_left_out(pplus: pp.PPlus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three concepts the first one's TI fails: the others make the pair, and every study of it says so."""
    train = tasks.run_inversion

    def failing(pplus: Any, pictures: Any, token: str, *args: Any, **options: Any) -> Any:
        if options.get("method") == "ti" and token == read_note(FOLDERS[0]).token:
            raise LossError("the loss is not finite")
        return train(pplus, pictures, token, *args, **options)

    monkeypatch.setattr(tasks, "run_inversion", failing)
    plan = replace(TINY, concepts=3, parts=(), prompts=2)
    work = Reproduction(pplus, "pocket", plan, [*FOLDERS, CONCEPTS / "key"], tmp_path, lambda _: None)
    blank = Study("", "", "", [], {})
    monkeypatch.setattr("promptplus.experiments.attributes.study", lambda *_, **__: blank)
    monkeypatch.setattr("promptplus.experiments.attention.study", lambda *_, **__: blank)
    monkeypatch.setattr("promptplus.experiments.editing.study", lambda *_, **__: blank)
    monkeypatch.setattr("promptplus.experiments.single_attribute.study", lambda *_, **__: blank)
    monkeypatch.setattr("promptplus.reproduce.claims.editing", lambda _: claims.not_measured("", "", ""))
    monkeypatch.setattr("promptplus.reproduce.claims.single_attribute", lambda _: [])
    monkeypatch.setattr("promptplus.reproduce.claims.layers", lambda _: [])
    monkeypatch.setattr("promptplus.reproduce.claims.attention", lambda _: [])
    with pytest.warns(UserWarning, match="left out: robot, ti, seed 0"):
        report = work.run()
    sentence = "Left out, because the training failed: robot, ti, seed 0."
    assert [sentence in study.lead for study in report.studies] == [False, False, True, True, True, True, False, False]
    assert report.made_by["left out, training failed"] == "robot, ti, seed 0"
    studies = {study.name: study.values for study in report.studies}
    assert studies["two-concepts"]["pairs"] == [["teapot", "key"]]
    assert studies["mixing"]["pairs"] == [{"shape": "teapot", "looks": "key"}]
    assert {name: len(own) for name, own in studies["density"]["by_concept"].items()} == {"XTI rows": 3, "TI rows": 2}
    work.plan = replace(plan, rival=("ti", 2))  # which nothing has learned
    monkeypatch.setattr(work.grid, "find", lambda _: [])
    monkeypatch.setattr(work.grid, "run", lambda _: results("xti", 1, 0, 0))
    assert [claim.holds for claim in work.run().claims] == ["not measured"] * len(work.run().claims)


def test_counts_are_checked() -> None:
    assert change_counts(QUICK, dict.fromkeys(MIN_COUNTS)) == QUICK
    assert command(QUICK) == "promptplus reproduce --quick"
    few = change_counts(FULL, {"concepts": 5, "runs": 3, "pairs": None})
    assert (few.concepts, few.mixes, few.runs, few.pairs) == (5, 2, 3, FULL.pairs)
    assert command(few) == "promptplus reproduce --full --concept-count 5 --runs 3 --mixes 2"
    assert change_counts(QUICK, {"concepts": 12, "mixes": 6}).mixes == 6
    for given, said in (
        ({"mixes": 3}, "no concept is in two pairs, so give 2 or fewer"),
        ({"pairs": 1}, "pairs 1 is too few; give 2 or more"),
        ({"methods": 2}, "a plan has no methods"),
    ):
        with pytest.raises(SettingsError, match=said):
            change_counts(QUICK, given)


@pytest.mark.usefixtures("small_judges")
def test_another_question_is_measured_again(pplus: pp.PPlus, tmp_path: Path) -> None:
    work = Reproduction(pplus, "pocket", TINY, FOLDERS, tmp_path, lambda _: None)
    counter = iter("abcd")

    def made(asked: dict[str, int]) -> str:
        return work.study("x", asked, lambda: Study("x", next(counter), "", [], {})).title

    assert [made({"pairs": 2}), made({"pairs": 2}), made({"pairs": 3})] == ["a", "a", "b"]


@pytest.mark.usefixtures("small_judges")
def test_every_count_is_asked_of_the_study_that_depends_on_it(
    pplus: pp.PPlus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `run` asks of layers and attention, and what pairs depend on; nothing is measured for it."""
    monkeypatch.setattr("promptplus.reproduce.claims.layers", lambda _: [])
    monkeypatch.setattr("promptplus.reproduce.claims.attention", lambda _: [])

    def asked(**given: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        plan = change_counts(TINY, given)
        work = Reproduction(pplus, "pocket", plan, FOLDERS, tmp_path, lambda _: None)
        monkeypatch.setattr(work, "study", lambda name, question, _: found.update({name: str(question)}))
        monkeypatch.setattr(work.grid, "run", lambda _: [])
        monkeypatch.setattr(work.grid, "find", lambda _: [None])
        with pytest.raises(BusyError):
            work.run()
        found["pairs"] = str(TrainedConcepts(work.grid, plan, FOLDERS, []).key)
        return found

    usual = asked()
    for count, depends in (
        ("pairs", "attributes"),
        ("pair_seeds", "attributes"),
        ("prompts", "attention"),
        ("prompt_seeds", "attention"),
        ("mix_seeds", "pairs"),
    ):
        other = asked(**{count: 9})
        assert [name for name in usual if other[name] != usual[name]] == [depends]


@pytest.mark.usefixtures("small_judges")
def test_long_trainings_stand_for_short_ones(pplus: pp.PPlus, tmp_path: Path) -> None:
    long = MethodSpec("ti", TINY.methods[1].options, (1, 2))
    one = MethodSpec("one picture", {"method": "dreambooth"}, (3,), pictures=1)
    other = MethodSpec("xti, rate 1", {"learning_rate": 1}, (1,))
    plan = replace(TINY, runs=2, long=(long,), few=1, few_methods=(one,), tuned=1, tuned_methods=(other,))
    asked = Reproduction(pplus, "pocket", plan, FOLDERS, tmp_path, lambda _: None).tasks
    tied = [(task.concept.name, task.seed, task.method.steps) for task in asked if task.method.name == "ti"]
    assert tied == [("robot", 0, (1, 2)), ("robot", 1, (1,)), ("teapot", 0, (1,)), ("teapot", 1, (1,))]
    assert [(str(task), task.subject) for task in asked if task.method.is_dreambooth and task.seed == 0] == [
        ("robot, lora, seed 0", "sks car"),
        ("teapot, lora, seed 0", "ohwx gift"),
        ("robot, one picture, seed 0", "sks car"),
    ]
    assert [str(task) for task in asked if task.method == other] == ["robot, xti, rate 1, seed 0"]
    _, steps = plan.work(pplus.layers, 65)
    assert (
        steps == sum(task.method.steps[-1] for task in asked) + 6
    )  # four attributes, and by TI the whole thing in two styles


def test_other_models_get_dreambooth_as_it_was_published() -> None:
    plan = published(FULL)
    trained = {task.method.name: task.method for task in plan.tasks(FOLDERS)}
    assert {name: (one.steps, one.settings.learning_rate) for name, one in trained.items() if one.is_dreambooth} == {
        **dict.fromkeys(("dreambooth", "one picture, DreamBooth"), ((800,), 5e-6)),
        **dict.fromkeys(("dreambooth-lora", "one picture, DreamBooth-LoRA"), ((500,), 1e-4)),
    }
    assert plan.lora == ("dreambooth-lora", 500)
    assert not {one.name for one in TUNED} & set(trained)
    assert {one.name for one in TUNED} < {task.method.name for task in FULL.tasks(FOLDERS)}
    assert not any("best learning rate" in one.says for one in comparisons(plan))
    rows = [method for method in FULL.methods if not method.is_dreambooth]
    assert [method for method in plan.methods if not method.is_dreambooth] == rows
    over = [one.baseline for one in comparisons(plan)]
    assert {("dreambooth", 800), ("dreambooth-lora", 500), ("one picture, DreamBooth", 800)} <= set(over)


@pytest.mark.usefixtures("small_judges")
def test_tasks_of_others_are_waited_for(pplus: pp.PPlus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Reproduction(pplus, "pocket", TINY, FOLDERS, tmp_path, lambda _: None)
    monkeypatch.setattr(work, "study", lambda *_: Study("", "", "", [], {}))
    monkeypatch.setattr(ExperimentGrid, "do", lambda *_: False)
    with pytest.raises(BusyError, match="6 tasks are being done by other processes"):
        work.run()


def test_the_estimate_counts_what_is_done(pplus: pp.PPlus) -> None:
    pictures, steps = QUICK.work(pplus.layers, 65)
    assert steps == 4 * 100 * 2 + 6
    attributes = 4 * 2 * (2 + 1)
    assert pictures == 64 * 8 + 2 * 65 + 32 + 2 * 4 * (8 + 3 + 6) + 4 * 5 * 30 + 3 * 4 * 2 * 16 + attributes


def test_a_study_is_read_as_it_was_written(pplus: pp.PPlus, tmp_path: Path) -> None:
    concepts = {name: make_concept(pplus, f"<{name}>", i) for i, name in enumerate(("a", "b"))}
    study = mixing.study_without_judge(pplus, concepts, [mixing.ConceptPair("a", "b")], 1)
    page = study.write(tmp_path).read_text()
    found = Study.read(tmp_path, "mixing")
    assert found is not None
    assert found.write(tmp_path / "again").read_text() == page
    assert Study.read(tmp_path, "nothing") is None
    (tmp_path / "mixing.json").write_text("{}")
    with pytest.raises(OutputError, match="is no study"):
        Study.read(tmp_path, "mixing")


@pytest.mark.slow
def test_mixing_is_judged_against_renders(pplus: pp.PPlus, tmp_path: Path) -> None:
    concepts = {name: make_concept(pplus, f"<{name}>", i) for i, name in enumerate(("robot", "teapot"))}
    pair = mixing.ConceptPair("robot", "teapot")
    study = mixing.study(pplus, {"XTI": concepts}, [pair], 2, mixing.other_methods(pplus, concepts))
    assert study.values["chance"] == 1 / 36
    assert study.lead == mixing.LEAD
    assert list(study.values["success"]) == ["XTI mix, coarse layers", "TI, “S1 in the style of S2”", "plain words"]
    assert all(0 <= share <= 1 for (share,) in study.values["success"].values())
    assert list(study.values["roles"].values()) == ["ours", "rival", "words"]
    assert [len(rows[0]) for rows in study.values["sweep"].values()] == [8, 8]
    assert list(figures(study.write(tmp_path).read_text())) == ["Shape and appearance by split", "Mixes"]
    assert not pplus.concepts


@pytest.mark.slow
def test_the_command_line(tmp_path: Path, pplus: pp.PPlus, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(make_concept(pplus, f"<{n}>", i).save(tmp_path / f"{n}.safetensors")) for i, n in enumerate("ab")]
    call = ("analyze", "mixing", *files, "--seeds", "1", "--device", "cpu", "--out", str(tmp_path / "mixing"))
    code, printed, _ = run(*call, capsys=capsys)
    assert code == 0
    assert "not judged" in printed
    code, _, said = run("analyze", "mixing", files[0], "--out", str(tmp_path / "one"), capsys=capsys)
    assert (code, "two or more concepts" in said) == (2, True)
    call = (*call[:-1], str(tmp_path / "between"), "--interpolate")
    code, printed, _ = run(*call, "--json", capsys=capsys)
    assert code == 0
    page = Path(json.loads(printed)["page"]).read_text()
    assert "from a to b" in page
    shown = figures(page)
    assert {title: len(pairs) for title, pairs in shown.items()} == {"Mixes": 1, "Between two concepts": 2}
    words = ("--quick", "--concept-count", "5", "--mixes", "3", "--out", str(tmp_path / "r"))
    code, _, said = run("reproduce", *words, capsys=capsys)
    assert (code, "no concept is in two pairs" in said) == (2, True)
    code, _, said = run("reproduce", capsys=capsys)
    assert (code, "--quick or --full" in said) == (2, True)


def test_counts_are_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each flag sets its own count; the run is stopped before it begins."""
    asked: list[Plan] = []

    def stop(_pplus: Any, _model: str, plan: Plan, *_: Any, **__: Any) -> Any:
        asked.append(plan)
        raise SettingsError("enough")

    monkeypatch.setattr("promptplus.reproduce.run.Reproduction", stop)
    counts = {name: 11 + number for number, name in enumerate(MIN_COUNTS)} | {"mixes": 3}
    plan = replace(FULL, **counts)
    _, *words = command(plan).split()
    assert len(words) == 2 + 2 * len(MIN_COUNTS)
    code, _, said = run(*words, "--device", "cpu", "--out", str(tmp_path / "r"), capsys=capsys)
    assert (code, "enough" in said) == (2, True)
    assert asked == [plan]


def results(method: str, steps: int, subject: float, text: float, concepts: int = 6) -> list[GridResult]:
    """Of concepts that differ more from each other than methods do."""
    return [GridResult(str(c), method, 0, steps, c + subject, c + text, 1.0, {}) for c in range(concepts)]


def test_claims_follow_from_numbers() -> None:
    base = results("ti", 10, 0, 0)
    told = Comparison("says", "yes", ("xti", 1), ("ti", 10))
    assert claims.better(told, base + results("xti", 1, 0.1, 0.1)).holds == "yes"
    assert claims.better(told, base + results("xti", 1, 0.1, -0.1)).holds == "no"
    assert claims.better(told, base + results("xti", 1, 0.1, 0.0)).holds == "undecided"
    assert claims.better(told, base).holds == "not measured"
    few = claims.better(told, base + results("xti", 1, 0.1, 0.1, concepts=5))
    assert (few.holds, few.measured[-10:]) == ("undecided", "5 concepts")
    assert "+0.100" in claims.better(told, base + results("xti", 1, 0.1, 0.1)).measured
    assert claims.verdict(Interval(1, -1, 2), units=99) == "undecided"


def test_curves_are_over_what_all_methods_share() -> None:
    """One that was scored once has no curve; of the others, only trainings that all have, scored at all their steps."""
    curved = [one for steps in (1, 2) for one in results("xti", steps, 0.1, 0.1)]
    longer = [one for steps in (1, 9) for one in results("ti", steps, 0, 0, concepts=2)]
    shorter = results("ti", 1, 0, 0)[2:]
    other = [replace(one, seed=1) for one in curved]
    found = comparable([*curved, *longer, *shorter, *other, *results("fast", 1, 0, 0)])
    assert found == [one for one in (*curved, *longer) if one.concept in ("0", "1")]
    assert comparable(results("fast", 1, 0, 0)) == []
    apart = [replace(one, concept="another") for one in longer]
    assert comparable([*curved, *apart]) == []


def test_claims_of_studies() -> None:
    halfway = {"object < style": [1, 0.5, 2], "style < colour": [-1, -2, -0.5], "object < colour": [3, 2, 4]}
    own: dict[str, Any] = {"halfway": halfway}
    values: dict[str, Any] = {"by_judge": {"classifier": own, "clip": {}}, "pairs": 64, "seeds": 1}
    assert [claim.holds for claim in claims.layers(told(values))] == ["yes", "no", "yes", "not measured"]
    for steps, holds in (([0, -1, 1], "yes"), ([-3, -3.5, -2.5], "undecided"), ([-5, -6, -4.5], "no")):
        own["halfway_by_steps"] = {"object < colour": steps}
        assert claims.layers(told(values))[-1].holds == holds
    for both, holds in (([0.7, 0.6, 0.8], "yes"), ([0.55, 0.4, 0.6], "undecided"), ([0.3, 0.2, 0.4], "no")):
        own["split"] = {"both": both, "pictures": 65}
        assert claims.layers(told(values))[-1].holds == holds
    names = "abcdef"
    rows = {"TI rows": dict.fromkeys(names, -90.0), "XTI rows": {name: -50.0 - i for i, name in enumerate(names)}}
    dense = {"log_density": {"words": [0.0, 1, 2]}, "by_concept": rows}
    assert [claim.holds for claim in claims.density(told(dense))] == ["yes", "yes"]
    rows["TI rows"]["a"] = 400.0
    assert [claim.holds for claim in claims.density(told(dense))] == ["undecided", "undecided"]
    ways = {"XTI mix": ("ours", 0.5), "density": ("regularised", 0.7), "TI": ("rival", 0.1), "words": ("words", 0.9)}
    values = {"success": {w: [s] * 6 for w, (_, s) in ways.items()}, "roles": {w: r for w, (r, _) in ways.items()}}
    found = claims.mixing(told(values))
    assert [claim.holds for claim in found] == ["yes", "yes", "no"]
    assert found[0].says == "“density” succeeds more often than “XTI mix”"
    assert found[1].says == "“XTI mix” succeeds more often than “TI”"
    both = {way: [{"together": like, "both": 0.5}] * 6 for way, like in (("XTI", 0.5), ("TI", 0.4))}
    found = claims.two_concepts(told({"by_method": both}), "XTI", "TI")
    assert (found.holds, "50% against 50%; 6 pairs" in found.measured) == ("yes", True)


def told(values: dict[str, Any]) -> Study:
    return Study("", "", "", [], values)


class Stub:
    """A grid whose work is a file for each task; the first worker on `dies` is killed."""

    def __init__(self, folder: Path, dies: str) -> None:
        self.folder, self.dies = folder, dies

    def find(self, task: Task) -> list[Any]:
        return [True if (self.folder / str(task.seed)).exists() else None]

    def do(self, task: Task) -> bool:
        marker = self.folder / "died"
        if self.dies == "always" or (task.seed == 2 and self.dies == "once" and not marker.exists()):
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        with (self.folder / str(task.seed)).open("a") as file:
            file.write("done\n")
        return True


def make_stub(folder: Path, dies: str) -> Any:
    return Stub(folder, dies)


def no_model() -> Any:
    raise OSError("no such model")


def test_a_worker_leaves_a_failed_training_undone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Who asked finds it undone, tries it again, and says why."""

    def fail(*_: Any) -> bool:
        raise LossError("the loss is not finite")

    monkeypatch.setattr(Stub, "find", lambda *_: [None])
    monkeypatch.setattr(Stub, "do", fail)
    Worker(partial(make_stub, tmp_path, ""), torch.get_num_threads()).do(Task(CONCEPTS / "robot", MethodSpec("xti"), 0))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_workers_may_die(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not find the tests
    tasks = [Task(CONCEPTS / "robot", MethodSpec("xti"), seed) for seed in range(5)]
    for _ in range(2):  # the second time there is nothing to do
        run_on_ray(partial(make_stub, tmp_path, "once"), tasks, workers=2, progress=False)
        assert (tmp_path / "died").exists()
        assert [(tmp_path / str(seed)).read_text() for seed in range(5)] == ["done\n"] * 5
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(TrainingError, match="3 workers died of it"):
        run_on_ray(partial(make_stub, other, "always"), tasks[:1], workers=1, progress=False)
    with pytest.raises(ModelError, match=r"could not begin: .*no such model"):
        run_on_ray(no_model, tasks[:1], workers=1, progress=False)


def test_the_key_of_mixes_names_what_was_learned_and_trains_nothing(
    pplus: pp.PPlus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a folder of results is read again where the rows themselves are gone; another class word is another mix."""
    folders = [Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in FOLDERS]
    grid = cast(Any, SimpleNamespace(failed=[], cache=TrainingCache(pplus, "pocket", tmp_path)))
    results = [GridResult(f.name, name, 0, 100, 0.0, 0.0, 0.0, {}) for f in folders for name in ("xti", "ti")]
    learned = TrainedConcepts(grid, QUICK, folders, results)
    monkeypatch.setattr(TrainedConcepts, "of", lambda *_: pytest.fail("rows were asked for"))
    before = learned.key
    assert learned.key == before
    note = json.loads((folders[0] / "concept.json").read_text())
    (folders[0] / "concept.json").write_text(json.dumps({**note, "class_word": "bus"}))
    assert learned.key != before
    assert learned.pairs == learned.plain_pairs == [("robot", "teapot")]
    assert TrainedConcepts(grid, QUICK, folders, results[1:]).pairs == []
