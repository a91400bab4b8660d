"""Building a study: nothing says which method made a picture, and everything is balanced."""

import re
import struct
from collections import Counter
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image, ImageCms

from promptplus.errors import OutputError, PromptPlusError, StudyError
from promptplus.evaluation.grid import GridResult, _sheet
from promptplus.evaluation.store import RecordStore
from promptplus.user_study.build import StudyPlan, build
from promptplus.user_study.design import KEY_JSON, STUDY_JSON, Question, draw_order, picture_path, read_design, read_key
from promptplus.user_study.items import items_from_evaluation, items_from_folders
from tests.user_study.studies import make_items, make_study, picture

METHODS = ("secretone", "othermethod", "thirdway")


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_same_input_gives_the_same_study_and_another_seed_another(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_study(tmp_path / name, METHODS, seed=seed)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert not set(tree(tmp_path / "a")) & {name for name in tree(tmp_path / "c") if name.startswith("pictures")}


def test_what_the_server_reads_names_no_method_concept_or_file(tmp_path: Path) -> None:
    items = [
        type(item)(f"hidden{item.concept}", f"{item.name}-seed7", "a text", item.pictures)
        for item in make_items(METHODS)
    ]
    real = {item.concept: [picture("real", item.concept, n) for n in range(5)] for item in items}
    build(items, real, StudyPlan(), tmp_path / "study")
    public = {name: data for name, data in tree(tmp_path / "study").items() if name not in (KEY_JSON, "catch.png")}
    assert len(public) > 10
    for name, data in public.items():
        assert re.fullmatch(r"study\.json|pictures/[0-9a-f]{32}\.png", name)
        for word in (*METHODS, "hidden", "seed7"):
            assert word.encode() not in data
    assert b"secretone" in (tmp_path / "study" / KEY_JSON).read_bytes()  # so the words are looked for rightly


def chunks(data: bytes) -> list[bytes]:
    kinds, position = [], 8
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        kinds.append(data[position + 4 : position + 8])
        position += 12 + length
    return kinds


def test_pictures_hold_pixels_alone_and_have_one_size(tmp_path: Path) -> None:
    """Whatever the methods' files were: sizes, formats, profiles, EXIF."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0131] = "secretone"  # Software
    for method, side, kind in (("secretone", 40, "jpg"), ("othermethod", 24, "png")):
        for concept in ("x", "y"):
            folder = tmp_path / method / concept
            folder.mkdir(parents=True)
            made = picture(method, concept, side=side).resize((side * 2, side))
            made.save(folder / f"0.{kind}", exif=exif, icc_profile=profile)
            (folder / "prompts.json").write_text(f'{{"0.{kind}": "a thing"}}')
    items = items_from_folders({name: tmp_path / name for name in ("secretone", "othermethod")})
    real = {name: [picture("real", name, n, side=90) for n in range(2)] for name in ("x", "y")}
    with pytest.warns(UserWarning, match="sides of 24 to 40 pixels"):
        design = build(items, real, StudyPlan(), tmp_path / "study")
    assert design.size == 24
    for name in design.pictures:
        data = picture_path(tmp_path / "study", name).read_bytes()
        assert set(chunks(data)) == {b"IHDR", b"IDAT", b"IEND"}
        with Image.open(picture_path(tmp_path / "study", name)) as shown:
            assert (shown.size, shown.mode) == ((24, 24), "RGB")


def test_sides_methods_concepts_and_questions_are_balanced(tmp_path: Path) -> None:
    design, key = make_study(tmp_path / "study", METHODS, concepts=3, count=5)
    ordinary = [pair for pair in design.pairs if not pair.everyone]
    assert len(ordinary) == 3 * 3 * 5
    assert all(pair.questions == ("subject", "text") for pair in ordinary)
    for first, second in combinations(METHODS, 2):
        own = [key.pairs[pair.id] for pair in ordinary]
        own = [one for one in own if {one.a, one.b} == {first, second}]
        assert abs(sum(1 if one.a == first else -1 for one in own)) == 1  # of 15
        for concept in ("c0", "c1", "c2"):
            there = [one for one in own if one.concept == concept]
            assert len(there) == 5
            assert abs(sum(1 if one.a == first else -1 for one in there)) == 1  # of 5
    for begin in range(0, 45, 9):  # any round of the pairs has each two methods and each concept once
        kinds = [key.pairs[pair.id] for pair in ordinary[begin : begin + 9]]
        assert len({(one.concept, *sorted((one.a, one.b))) for one in kinds}) == 9


def test_a_pair_shows_the_pictures_of_its_methods(tmp_path: Path) -> None:
    design, key = make_study(tmp_path / "study")
    for pair in design.pairs:
        if pair.everyone:
            continue
        one = key.pairs[pair.id]
        assert pair.prompt == f"a {one.concept} {one.item}"
        for side, method in ((pair.a, one.a), (pair.b, one.b)):
            with Image.open(picture_path(tmp_path / "study", side)) as shown:
                assert shown.tobytes() == picture(method, one.concept, int(one.item)).tobytes()
        assert len(pair.real) == 4


def test_the_right_answers_of_catch_trials_are_right_and_only_in_the_key(tmp_path: Path) -> None:
    design, key = make_study(tmp_path / "study", catch=4)
    trials = [pair for pair in design.pairs if pair.everyone]
    assert Counter(pair.questions for pair in trials) == {("subject",): 4, ("text",): 4}
    assert Counter(key.pairs[pair.id].right for pair in trials) == {"A": 4, "B": 4}
    for pair in trials:
        one = key.pairs[pair.id]
        sides = {"A": pair.a, "B": pair.b}
        own = {picture("real", one.concept, n).tobytes() for n in range(5)}
        own |= {picture(m, one.concept, n).tobytes() for m in key.methods for n in range(2)}
        shown = {}
        for side, name in sides.items():
            with Image.open(picture_path(tmp_path / "study", name)) as file:
                shown[side] = file.tobytes()
        assert [side for side, data in shown.items() if data in own] == [one.right]
    assert "right" not in (tmp_path / "study" / STUDY_JSON).read_text()


def test_every_participant_has_an_order_of_its_own_that_depends_on_the_code(tmp_path: Path) -> None:
    design, _ = make_study(tmp_path / "study", count=6)
    ids = [pair.id for pair in design.pairs]
    first = draw_order(design, "ABCDE-FGHJK", ids)
    assert first == draw_order(design, "ABCDE-FGHJK", ids[::-1])
    assert sorted(first) == sorted(ids)
    assert first != draw_order(design, "ABCDE-FGHJM", ids)


def test_a_changed_key_or_a_missing_picture_is_found(tmp_path: Path) -> None:
    design, _ = make_study(tmp_path / "study")
    path = tmp_path / "study" / KEY_JSON
    text = path.read_text()
    path.write_text(text.replace('"A"', '"B"', 1))
    with pytest.raises(StudyError, match="not the key that"):
        read_key(tmp_path / "study", design)
    picture_path(tmp_path / "study", min(design.pictures)).unlink()
    with pytest.raises(StudyError, match="is missing; build the study again"):
        read_design(tmp_path / "study")


MINE = Question(name="mine", text="Nicer?", real=False, prompt=False)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"questions": ()}, "at least one"),
        ({"questions": (MINE, MINE)}, "every question once"),
        ({"catch": 1, "most_wrong": 2}, "exclude nobody"),
        ({"pairs": 3}, "fewer than the 3 pairs"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_and_leaves_nothing(tmp_path: Path, plan: dict, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        make_study(tmp_path / "study", **plan)
    assert not any(tmp_path.iterdir())


def test_questions_need_what_they_show(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="--real FOLDER"):
        build(make_items(), {}, StudyPlan(), tmp_path / "study")
    blank = [type(item)(item.concept, item.name, "", item.pictures) for item in make_items()]
    with pytest.raises(StudyError, match=r"prompts\.json"):
        build(blank, {}, StudyPlan(questions=StudyPlan().questions[1:]), tmp_path / "study")
    build(blank, {}, StudyPlan(questions=(MINE,)), tmp_path / "study")
    assert read_design(tmp_path / "study").questions == (MINE,)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="already holds something"):
        make_study(tmp_path / "study")
    assert tree(tmp_path) == {"study/mine.txt": b"mine"}


def test_a_write_that_fails_leaves_no_half_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("promptplus.user_study.study_files._catch_sheet", full)
    with pytest.raises(PromptPlusError, match="No space left"):
        make_study(tmp_path / "study")
    assert not any(tmp_path.iterdir())


def test_items_have_common_concepts_names_and_prompts(tmp_path: Path) -> None:
    for method, names in (("a", ("0.png", "1.png", "2.png")), ("b", ("0.png", "1.png"))):
        folder = tmp_path / method / "cat"
        folder.mkdir(parents=True)
        for name in names:
            picture(method, name).save(folder / name)
        (folder / "prompts.json").write_text(f'{{"0.png": "a <cat-{method}> in {method}", "1.png": "a <cat> up"}}')
    folders = {name: tmp_path / name for name in ("a", "b")}
    with (
        pytest.warns(UserWarning, match="left out 1 pictures .* cat/2"),
        pytest.raises(StudyError, match="other prompts"),
    ):
        items_from_folders(folders)
    (tmp_path / "b" / "cat" / "prompts.json").write_text('{"0.png": "a <cat-b> in a", "1.png": "a <cat> up"}')
    with pytest.warns(UserWarning, match="left out"):
        items = items_from_folders(folders, word="cat")
    assert [(item.concept, item.name, item.prompt) for item in items] == [
        ("cat", "0", "a cat in a"),  # no token, which may name a method
        ("cat", "1", "a cat up"),
    ]
    (tmp_path / "b" / "cat" / "prompts.json").write_text('{"0.png": "a cat || fine: a red cat"}')
    with pytest.raises(StudyError, match="single layers"):
        items_from_folders(folders)
    with pytest.raises(StudyError, match="two or more methods"):
        items_from_folders({"a": tmp_path / "a"})


def test_a_folder_that_is_no_evaluation_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no results of promptplus evaluate"):
        items_from_evaluation(tmp_path)
    assert not any(tmp_path.iterdir())


def test_the_sheets_of_an_evaluation_are_cut_into_its_pictures(tmp_path: Path) -> None:
    """The sheet and the record are written by the grid's own functions."""
    store = RecordStore(tmp_path / "results")
    made: dict[tuple[str, str], list[Image.Image]] = {}
    for method in ("xti", "ti"):
        for concept in ("cat", "mug"):
            pictures = [picture(method, concept, n) for n in range(6)]  # two prompts, three pictures of each
            made[f"{method}@50", concept] = pictures
            by_prompt = {"a {} up": (0.5, 0.5), "a red {}": (0.5, 0.5)}
            result = GridResult(
                concept, method, seed=2, steps=50, subject=0.5, text=0.5, seconds=1, by_prompt=by_prompt
            )
            entry_id = f"{method}{concept}"
            store.write(entry_id, asdict(result))
            store.path(entry_id).with_suffix(".png").write_bytes(_sheet(pictures, 3))
    for packed in (False, True):
        if packed:
            store.pack()
        items = items_from_evaluation(tmp_path, word="toy")
        assert len(items) == 2 * 6
        for item in items:
            column, row = map(int, re.findall(r"seed2-prompt(\d)-(\d)", item.name)[0])
            assert item.prompt == ("a toy up", "a red toy")[column]
            for method, shown in item.pictures.items():
                assert shown.tobytes() == made[method, item.concept][column * 3 + row].tobytes()
    assert list(items_from_evaluation(tmp_path, ["xti@50", "ti@50"])[0].pictures) == ["xti@50", "ti@50"]
    with pytest.raises(StudyError, match="holds no results of dreambooth@1; it has ti@50, xti@50"):
        items_from_evaluation(tmp_path, ["dreambooth@1", "xti@50"])
    store.path("xticat").with_suffix(".png").unlink()
    with pytest.raises(StudyError, match="the pictures of xti on cat were not kept"):
        items_from_evaluation(tmp_path)
