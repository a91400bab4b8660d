"""The study of editing: its cases differ in one attribute, its judge is right about true edits, its sums are right."""

import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import promptplus as pp
from promptplus.experiments import edit_methods, editing
from promptplus.experiments.edit_cases import EditJudge, EditScores, edit_cases
from promptplus.pocket.world import ATTRIBUTES, labels
from promptplus.reproduce import claims

CASES = edit_cases("dev", 2)


def test_source_and_target_differ_in_one_attribute() -> None:
    assert [case.attribute for case in CASES] == [name for name in ATTRIBUTES for _ in range(2)]
    for case in CASES:
        before, after = labels(case.source), labels(case.target)
        changed = [name for name, a, b in zip(ATTRIBUTES, before, after, strict=True) if a != b]
        assert changed == [case.attribute]


def test_nothing_but_the_edit_differs_in_the_drawings() -> None:
    for case in CASES:
        before, after = (np.asarray(picture).astype(int) for picture in (case.picture, case.truth))
        assert (before != after).any()
        if case.attribute == "style":
            assert not case.rest.any()
        else:
            assert case.rest.sum() > 100
            # some styles draw lines around what changes
            assert np.abs(before - after)[case.rest].mean() < 2


def test_parts_share_no_seed() -> None:
    assert not {case.seed for case in edit_cases("dev", 40)} & {case.seed for case in edit_cases("report", 40)}


def test_the_judge_knows_true_edits_from_pictures_left_alone() -> None:
    cases = edit_cases("dev", 4)
    judge = EditJudge(cases)
    true, same = (judge.scores([getattr(c, name) for c in cases]) for name in ("truth", "picture"))
    assert sum(one.success for one in true) >= len(cases) - 2
    assert sum(one.success for one in same) <= 1
    assert all(one.truth == 0 for one in true)
    assert all(one.structure < 1e-10 and one.kept == 1 for one in same)
    assert all(one.rest == 0 or math.isnan(one.rest) for one in same)
    assert np.mean([one.direction for one in true]) > 0.3


SCORES = EditScores(success=True, kept=1.0, rest=0.1, truth=0.2, structure=0.3, direction=0.4)
FAILED = replace(SCORES, success=False)


def test_the_gentlest_success_is_the_one_with_most_steps_left_out() -> None:
    by_skip = {0.15: [SCORES, FAILED, SCORES], 0.75: [FAILED, FAILED, SCORES], 0.35: [SCORES, FAILED, SCORES]}
    assert editing.gentlest(by_skip) == [(0.35, SCORES), None, (0.75, SCORES)]


def test_methods_are_compared_on_the_cases_that_both_edit() -> None:
    cases = [case for case in edit_cases("dev", 8) if case.attribute in ("colour", "style", "texture")]
    ours = [(0.5, SCORES)] * len(cases)
    theirs = [(0.5, replace(SCORES, rest=0.2, structure=0.5 + 0.01 * i)) if i % 4 else None for i in range(len(cases))]
    best = {editing.BY_LAYERS: ours, **dict.fromkeys(editing.RIVALS, theirs)}
    attributes = ["colour", "texture", "style"]
    differences = editing.compare(cases, best, attributes)
    found = differences["colour"][editing.RIVALS[0]]
    assert found["rest"]["cases"] == 6
    assert found["rest"]["value"] == pytest.approx(-0.1)
    assert found["structure"]["high"] < -0.2
    table = editing.differences_table(differences)
    assert len(table["minus"]) == 3 * len(editing.RIVALS)
    study = editing.Study("editing", "", "", [], {"differences": differences})
    claim = claims.editing(study)
    assert claim.holds == "yes"
    worse = {**best, editing.BY_LAYERS: theirs, **dict.fromkeys(editing.RIVALS, ours)}
    assert (
        claims.editing(replace(study, values={"differences": editing.compare(cases, worse, attributes)})).holds == "no"
    )
    rows = editing.summary(cases, best, attributes)
    assert rows["success"][1].startswith("0.75")


@pytest.mark.slow
def test_every_method_edits_every_case(pplus: pp.PPlus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edit_methods, "STEPS", 4)
    monkeypatch.setattr(edit_methods, "SKIPS", (0.0, 0.5))
    cases = edit_cases("dev", 1)
    made = edit_methods.edited(pplus, cases)
    assert set(made) == set(edit_methods.METHODS)
    for by_skip in made.values():
        assert set(by_skip) == {0.0, 0.5}
        for pictures in by_skip.values():
            assert [picture.size for picture in pictures] == [(64, 64)] * len(cases)
    pictures: list[Image.Image] = [made[name][0.0][0] for name in edit_methods.METHODS]
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)


def test_layers_are_chosen_on_other_cases(pplus: pp.PPlus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edit_methods, "STEPS", 2)
    monkeypatch.setattr(edit_methods, "SKIPS", (0.0,))
    cases = edit_cases("dev", 1, ["colour"])
    found = edit_methods.choose_layers(pplus, cases, ["fine", "coarse"], lambda own, made: (len(own), list(made)))
    assert found == {"colour": {"fine": (1, [0.0]), "coarse": (1, [0.0])}}
