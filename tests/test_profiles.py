"""What is usual for each model."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from promptplus.errors import ModelError
from promptplus.pocket import PIPELINE
from promptplus.profiles import REAL, SAMPLING, default_sampling, pocket, profile_of


def pipe_from(source: object) -> Any:
    return SimpleNamespace(config={"_name_or_path": str(source)})


def test_the_bundled_folder_alone_is_the_pocket(tmp_path: Path) -> None:
    assert profile_of(pipe_from(PIPELINE)) == pocket()
    (tmp_path / "pocket").mkdir()
    assert profile_of(pipe_from(tmp_path / "pocket")) is REAL
    assert profile_of(pipe_from("CompVis/stable-diffusion-v1-4")) is REAL


def test_a_saved_pipelines_sampling_is_read_strictly(tmp_path: Path) -> None:
    pipe = pipe_from(tmp_path)
    (tmp_path / SAMPLING).write_text(json.dumps({"steps": 7, "guidance": 2}))
    assert default_sampling(pipe) == (7, 2.0)
    assert default_sampling(pipe, guidance=1.0) == (7, 1.0)
    for damaged in ("", "[]", "{}", '{"steps": "many", "guidance": 1}', '{"steps": 1e999, "guidance": 1}'):
        (tmp_path / SAMPLING).write_text(damaged)
        with pytest.raises(ModelError, match=r"does not hold \{steps, guidance\}"):
            default_sampling(pipe)
        assert default_sampling(pipe, 3, 1.0) == (3, 1.0)


def test_given_words_replace_the_models_own() -> None:
    words = REAL.words_with({"colour": ["red", "blue"], "style": []})
    assert words == {**REAL.words, "colour": ["red", "blue"]}


def test_true_mixes_can_be_drawn_of_the_pockets_unseen_concepts() -> None:
    assert pocket().can_draw_mixes(["robot", "teapot"])
    assert not pocket().can_draw_mixes(["robot", "somebody's cat"])
    assert not REAL.can_draw_mixes(["robot", "teapot"])


def test_a_profile_can_be_the_first_thing_that_a_process_asks_for() -> None:
    code = "from promptplus.profiles import pocket; print(pocket().reference_noun)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "thing\n"
