"""Two concepts at once: mixes that a judge tells from all others, and two in one prompt."""

import pytest
import torch

import promptplus as pp
from promptplus.evaluation.scoring import SEED_STRIDE, Scorer
from promptplus.experiments import mixing
from promptplus.experiments.mix_judge import RENDERS, SEED, MixJudge, disjoint_pairs, enough_objects
from promptplus.experiments.two_concepts import compare_prompts, score_pair, similarity_to_concepts, thresholds
from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pocket.held_out import DEV, HELD_OUT_OBJECTS, render_mixture
from promptplus.pocket.world import BACKGROUNDS
from tests.conftest import make_concept

FRESH = SEED + 10 * RENDERS  # no reference has it


@pytest.fixture(scope="module")
def judge() -> MixJudge:
    return MixJudge(AttributeJudge.load(), DEV[:6])


def test_the_judge_of_mixes_knows_fresh_renders(judge: MixJudge) -> None:
    """Far above chance, one in 36, where no render is one of its references."""
    assert judge.chance == 1 / 36
    renders = [render_mixture(*pair, BACKGROUNDS[i % 8], FRESH + i) for i, pair in enumerate(judge.combinations)]
    right = [a == b for a, b in zip(judge.classify(renders), judge.combinations, strict=True)]
    assert sum(right) / len(right) > 0.9


def test_the_judge_of_mixes_may_see_neither(judge: MixJudge) -> None:
    """Pictures of other concepts of the study count for no combination of a pair's two."""
    first, second, other, another = judge.names[:4]
    pairs = [(other, another), (another, other), (other, other)]
    renders = [render_mixture(*pair, BACKGROUNDS[i % 8], FRESH + i) for i in range(4) for pair in pairs]
    of_the_two = {(a, b) for a in (first, second) for b in (first, second)}
    assert not of_the_two & set(judge.classify(renders))


def test_few_objects_get_company() -> None:
    names = enough_objects(["teapot", "robot", "teapot"])
    assert names[:2] == ["teapot", "robot"]
    assert len(names) == len(set(names)) == 6
    assert set(names) <= set(HELD_OUT_OBJECTS)
    assert enough_objects(DEV) == list(DEV)


def test_no_concept_and_no_noise_is_in_two_pairs() -> None:
    assert disjoint_pairs("abcde") == [("a", "b"), ("c", "d")]
    assert disjoint_pairs("a") == []
    for count in (3, SEED_STRIDE + 1):
        seeds = [seed for noise in mixing.seeds_by_pair(3, count) for seed in noise]
        assert len(set(seeds)) == len(seeds) == 3 * count


def test_a_study_says_that_its_pairs_share_concepts(pplus: pp.PPlus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promptplus.profiles.STEPS", 1)
    concepts = {name: make_concept(pplus, f"<{name}>", i) for i, name in enumerate(("robot", "teapot"))}
    pairs = [mixing.ConceptPair("robot", "teapot"), mixing.ConceptPair("teapot", "robot")]
    study = mixing.study(pplus, {"XTI": concepts}, pairs, 1, {})
    assert study.lead == mixing.LEAD + mixing.SHARED
    assert study.values["seeds"] == [[0], [SEED_STRIDE]]


def test_both_are_there_above_both_thresholds() -> None:
    """Two concepts as two directions, which have nothing in common: bars are at half; the third is neither."""
    a, b, shared = torch.eye(3)
    mean = torch.nn.functional.normalize(a + b, dim=0)
    real = [torch.stack([a, a]), torch.stack([b])]
    drawn = [torch.stack([mean, a, shared, mean]), torch.stack([a, a]), torch.stack([b, shared])]
    likeness = [similarity_to_concepts([one], real)[0] for one in drawn]
    assert [tuple(one.shape) for one in likeness] == [(4, 2), (2, 2), (2, 2)]
    assert thresholds(real).tolist() == [0.5, 0.5]
    assert thresholds([torch.stack([a, b]), torch.stack([mean])]).tolist() == pytest.approx(
        [0.5**0.5 / 2, (1 + 0.5**0.5) / 2]
    )
    both = [likeness[0], *(torch.cat([one, one]) for one in likeness[1:])]
    found = compare_prompts(torch.stack(both), thresholds(real))
    assert found["both"] == 0.5
    assert found["together"] == pytest.approx((4 * 0.5**0.5 + 1) / 8)
    assert found["alone"] == pytest.approx(0.75)
    assert found["other"] == 0


def test_two_concepts_in_one_prompt(
    pplus: pp.PPlus, random_scorer: Scorer, pictures: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Concepts of one token are told apart; one that is both is as like itself under either name."""
    monkeypatch.setattr("promptplus.profiles.STEPS", 2)
    one, two = (make_concept(pplus, "<same>", seed) for seed in (1, 2))
    found, drawn = score_pair(pplus, [one, two], [pictures[:2], pictures[2:]], [0, 1], random_scorer)
    assert len(drawn) == found.count == 2
    assert not pplus.concepts
    twice, _ = score_pair(pplus, [one, one], [pictures, pictures], [0, 1], random_scorer)
    assert twice.alone == pytest.approx(twice.other)


def test_what_was_known_before_is_known_after(pplus: pp.PPlus) -> None:
    first, second = make_concept(pplus, "<a>", 1), make_concept(pplus, "<b>", 2)
    pplus.add(second)
    with pytest.raises(pp.PromptPlusError, match="added already"), pplus.added([first, second]):
        pass
    assert list(pplus.concepts) == ["<b>"]
