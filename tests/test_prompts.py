import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from promptplus import PPlusPrompt
from promptplus.errors import PromptError
from promptplus.layers import LayerMap
from promptplus.prompts import foreign_syntax

LAYERS = LayerMap.from_names([("down.0.0", 16), ("down.1.0", 8), ("mid.0", 8), ("up.0.0", 8), ("up.1.0", 16)])


def test_plain_text_goes_to_every_layer() -> None:
    assert PPlusPrompt.parse("a red cube").texts(LAYERS) == ("a red cube",) * 5


def test_plain_text_is_kept_to_the_letter() -> None:
    assert PPlusPrompt.parse("  a: red,  cube ").default == "  a: red,  cube "
    assert PPlusPrompt.parse("").texts(LAYERS) == ("",) * 5


def test_later_parts_win() -> None:
    prompt = PPlusPrompt.parse("a || mid,up: b || 3-4: c: d")
    assert prompt.texts(LAYERS) == ("a", "a", "b", "c: d", "c: d")


def test_escaped_bars_are_text() -> None:
    prompt = PPlusPrompt.parse(r"a \|\| b || mid: c \|\| d")
    assert prompt.texts(LAYERS)[0] == "a || b"
    assert prompt.texts(LAYERS)[2] == "c || d"


@pytest.mark.parametrize("text", ["a", "", r"a \|\| b", "a || mid: b", r"a || mid, up.0: b || 3-4: c \|\| d"])
def test_printing_gives_the_grammar_back(text: str) -> None:
    prompt = PPlusPrompt.parse(text)
    assert PPlusPrompt.parse(str(prompt)) == prompt


def test_dict_means_the_same() -> None:
    assert PPlusPrompt.of({"default": "a", "mid": "b"}) == PPlusPrompt.parse("a || mid: b")
    assert PPlusPrompt.of({"default": "", "mid": "x || y"}).texts(LAYERS) == ("", "", "x || y", "", "")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("a || b", "is not '<layers>: text'"),
        ("a ||", "is not '<layers>: text'"),
        ("a || mid:", "has no text"),
        ("a || mid:  || up: b", "has no text"),
        (" || mid: b", "before the first"),
        ("a || mid up: b", "is not '<layers>: text'"),
        ({"mid": "b"}, 'needs a "default"'),
        ({"default": 3}, "a dict of texts"),
        (7, "not 7"),
        (None, "not None"),
    ],
)
def test_bad_prompts_are_refused(value: object, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        PPlusPrompt.of(value)


TEXTS = st.text(st.sampled_from([*"a|\\ \n\t:<,\x1f\u00a0"]), max_size=8) | st.text(max_size=8)
PARTS = st.lists(st.tuples(st.sampled_from(["coarse", "4-9,12", "down.0.1", "IN08"]), TEXTS), max_size=3)


@settings(max_examples=500, deadline=None)
@given(TEXTS, PARTS)
@example("", [])
@example("a ||| b", [("coarse", "||")])
@example("", [("coarse", "")])
@example("\\", [("coarse", " \\ "), ("fine", "\\|")])
@example(" a ", [("coarse", "\n")])
def test_every_prompt_is_read_back_from_its_printed_form(default: str, parts: list[tuple[str, str]]) -> None:
    prompt = PPlusPrompt(default, tuple(parts))
    assert PPlusPrompt.parse(str(prompt)) == prompt


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        (r"\ || mid: a", ("", "a")),
        ("a || mid: \\", ("a", "")),
        ("a || mid: \\ b \\", ("a", " b ")),
        (r"a \| b || mid: c", ("a | b", "c")),
        ("a | b || mid: c | d", ("a | b", "c | d")),
        ("a || mid: b ||| c", None),
        (r"a || mid: b \|\|\| c", ("a", "b ||| c")),
    ],
)
def test_escapes(text: str, texts: tuple[str, str] | None) -> None:
    if texts is None:
        with pytest.raises(PromptError):
            PPlusPrompt.parse(text)
        return
    read = PPlusPrompt.parse(text).texts(LAYERS)
    assert (read[0], read[2]) == texts


@pytest.mark.parametrize("layers", ["", "mid up", "a:b", "mid,", "co||arse", "\n"])
def test_layers_that_no_text_can_name_are_refused(layers: str) -> None:
    with pytest.raises(PromptError, match="names no layers"):
        PPlusPrompt("a", ((layers, "b"),))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a (red:1.3) car", "(red:1.3)"),
        ("a (very red : .5) car", "(very red : .5)"),
        ("a [cat:dog:0.5]", "[cat:dog:0.5]"),
        ("a [cat:10]", "[cat:10]"),
        ("a cat BREAK a dog", "BREAK"),
    ],
)
def test_syntax_of_other_tools_is_named(text: str, found: str) -> None:
    assert foreign_syntax(text).startswith(f"{found!r} in {text!r} means")


@pytest.mark.parametrize("text", ["a (red) car", "time: 1.3", "(a:b)", "[x]", "a break", r"\(red:1.3)", "ratio 3:4"])
def test_plain_text_is_not_taken_for_the_syntax_of_other_tools(text: str) -> None:
    assert not foreign_syntax(text)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("(red car:1.3)", "a weight"),
        ("a (red (old) car:1.3)", "a weight"),
        ("(red:-1)", "a weight"),
        ("a (red car)++", "a weight"),
        ("a [cat:dog:0.5]", "prompt editing"),
        ("a [cat|dog]", "alternatives"),
        ("a {cat|dog}", "alternatives"),
        ("a cat BREAK a dog", "a break"),
        ("a cat AND a dog", "two prompts at once"),
        ("embedding:style, a __animal__", "a file's content"),
        *(
            (plain, "")
            for plain in ("((red)) car", "[red] car", r"\(red:1.3\)", "a cat and a dog", "a break", "a|b", ":-)")
        ),
    ],
)
def test_syntax_of_other_tools_is_named_and_ordinary_text_is_not(text: str, meaning: str) -> None:
    remark = foreign_syntax(text)
    assert f"means {meaning}" in remark if meaning else not remark
