"""Shapes in signatures are checked while tests run (see shapes.py)."""

import importlib

import jaxtyping
import pytest
import torch

from promptplus.text_states import TextStates
from tests.shapes import MODULES


@pytest.mark.parametrize("name", MODULES)
def test_the_listed_modules_have_shapes(name: str) -> None:
    module = importlib.import_module(f"promptplus.{name}")
    assert hasattr(module, "Float") or hasattr(module, "Shaped")


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="states"):
        TextStates(torch.zeros(2, 3, 4))
