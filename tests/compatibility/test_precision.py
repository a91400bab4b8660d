"""Half precision: the pipeline is cast after P+ was installed, or before.

The last bits depend on the shape of a product: the oracle encodes each text alone, and a transformer with P+ projects
the texts of all layers at once. One bit is 4e-3 of a number in bfloat16, and 5e-4 in float16.
"""

from typing import Any

import pytest
import torch

from tests.compatibility.cases import TRANSFORMERS, UNETS, check_both_orders, compatible


@compatible("bfloat16", *UNETS)
def test_bfloat16(pipe: Any) -> None:
    check_both_orders(pipe, lambda pipe: pipe.to(torch.bfloat16), tolerance=2e-3)


@compatible("bfloat16", *TRANSFORMERS)
def test_bfloat16_in_transformers(pipe: Any) -> None:
    check_both_orders(pipe, lambda pipe: pipe.to(torch.bfloat16), tolerance=4e-2, exact=False)


@pytest.mark.slow
@compatible("float16", *UNETS)
def test_float16(pipe: Any) -> None:
    check_both_orders(pipe, lambda pipe: pipe.to(torch.float16), tolerance=5e-4)


@pytest.mark.slow
@compatible("float16", *TRANSFORMERS)
def test_float16_in_transformers(pipe: Any) -> None:
    check_both_orders(pipe, lambda pipe: pipe.to(torch.float16), tolerance=5e-3, exact=False)
