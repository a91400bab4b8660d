"""What the tests of the ComfyUI nodes run on: real ComfyUI, or the stand-in.

With ``PROMPTPLUS_COMFYUI`` set to a checkout of ComfyUI the tests use its own modules (``real_comfyui.py``), else those
of ``stand_in.py``. The name of the test says which: ``[stand-in]`` or ``[ComfyUI]``.
"""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol

import torch

CHECKOUT = os.environ.get("PROMPTPLUS_COMFYUI", "")
NODES = Path(__file__).parent.parent.parent / "integrations" / "comfyui"
Kind = Literal["sd1", "sdxl"]


class Host(Protocol):
    """ComfyUI, as far as the tests need it: tiny models with random weights, which depend on a fixed seed."""

    name: str

    def clip(self, kind: Kind) -> Any:
        """A text encoder, as a loader node returns it."""
        ...

    def model(self, kind: Kind) -> Any:
        """A model, as a loader node returns it. It has the layers of ``tiny_models``."""
        ...

    def sample(self, model: Any, positive: Any, negative: Any, batch: int = 1) -> torch.Tensor:
        """Latents after two steps from fixed noise, with guidance 4, as the node KSampler makes them."""
        ...


def host() -> Host:
    """The one that the environment asks for."""
    if CHECKOUT:
        from tests.integrations.real_comfyui import RealComfyUI

        return RealComfyUI(Path(CHECKOUT))
    from tests.integrations.stand_in import StandIn

    return StandIn()


def load_nodes() -> ModuleType:
    """The node package, loaded as ComfyUI loads a folder of custom_nodes: by path, under a name of its own."""
    name = "custom_nodes_promptplus"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, NODES / "__init__.py", submodule_search_locations=[str(NODES)]
        )
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]
