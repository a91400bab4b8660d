"""Small studies for tests: pictures of plain colours with a little noise."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from promptplus.user_study.build import StudyPlan, build
from promptplus.user_study.design import StudyDesign, StudyKey, read_design, read_key
from promptplus.user_study.items import Item


def picture(*of: object, side: int = 16) -> Image.Image:
    """A picture that differs for every argument, and is the same for the same ones."""
    generator = random.Random(repr(of))
    base = np.array([generator.randrange(200) for _ in range(3)], np.uint8)
    noise = np.frombuffer(generator.randbytes(side * side * 3), np.uint8).reshape(side, side, 3) // 5
    return Image.fromarray(base + noise)


def make_items(methods: Sequence[str] = ("xti", "ti"), concepts: int = 2, count: int = 2) -> list[Item]:
    return [
        Item(f"c{c}", f"{n}", f"a c{c} {n}", {method: picture(method, f"c{c}", n) for method in methods})
        for c in range(concepts)
        for n in range(count)
    ]


def make_study(
    folder: Path, methods: Sequence[str] = ("xti", "ti"), concepts: int = 2, count: int = 2, **plan: Any
) -> tuple[StudyDesign, StudyKey]:
    """Build a study of generated pictures in a folder."""
    real = {f"c{c}": [picture("real", f"c{c}", n) for n in range(5)] for c in range(concepts)}
    build(make_items(methods, concepts, count), real, StudyPlan(**plan), folder)
    design = read_design(folder)
    return design, read_key(folder, design)
