"""torch.compile: P+ first, then compile. A denoiser that was compiled before would ignore the hooks.

The backend here runs what was traced as it is: other backends make code of the same graphs.
"""

import copy
from typing import Any

import jaxtyping
import pytest
import torch

import promptplus as pp
from promptplus.errors import LayerError, ModelError
from tests.compatibility.cases import ALL, Expected, check, compatible
from tests.compatibility.oracle import denoisers


@compatible("torch.compile before P+", *ALL, refused="the denoiser is compiled already")
def test_a_denoiser_that_was_compiled_before_is_refused(pipe: Any, refused: str) -> None:
    name = "unet" if hasattr(pipe, "unet") else "transformer"
    wrapped = copy.copy(pipe)
    setattr(wrapped, name, torch.compile(getattr(pipe, name)))
    denoisers(pipe)[0].compile()
    for compiled in (wrapped, pipe):
        with pytest.raises(ModelError, match=refused):
            pp.PPlus(compiled)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No checks of shapes: the compiler cannot trace them."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@compatible("torch.compile after P+", *ALL)
def test_a_denoiser_that_is_compiled_later(pipe: Any, plain: Expected) -> None:
    graphs: list[Any] = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    with pp.PPlus(pipe) as pplus:
        denoisers(pipe)[0].compile(backend=backend)
        check(pplus, plain)
    assert graphs


def test_per_layer_refuses_a_compiled_denoiser() -> None:
    linear = torch.nn.Sequential(torch.nn.Linear(2, 2))
    with pytest.raises(LayerError):
        pp.per_layer(linear)
    for compiled in (torch.compile(linear), linear):
        if compiled is linear:
            linear[0].compile()
        with pytest.raises(ModelError, match="compiled already"):
            pp.per_layer(compiled)
