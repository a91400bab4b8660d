"""ComfyUI or its stand-in, once per session, and the node package as ComfyUI loads it."""

from types import ModuleType
from typing import Any

import pytest
import torch

from tests.integrations import hosts


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Warnings of real ComfyUI are not ours."""
    for item in items:
        if hosts.CHECKOUT and "integrations" in item.path.parts:
            item.add_marker(pytest.mark.filterwarnings("default"))


HOST = "ComfyUI" if hosts.CHECKOUT else "stand-in"


@pytest.fixture(scope="session", params=[HOST])
def host() -> hosts.Host:
    """Real ComfyUI where PROMPTPLUS_COMFYUI names a checkout, else the stand-in."""
    return hosts.host()


@pytest.fixture(scope="session")
def nodes() -> ModuleType:
    return hosts.load_nodes()


class Bench:
    """A model, its text encoder and the nodes, with the calls that the tests repeat."""

    def __init__(self, host: hosts.Host, nodes: ModuleType, kind: hosts.Kind) -> None:
        self.host, self.kind = host, kind
        self.classes = nodes.NODE_CLASS_MAPPINGS
        self.clip, self.stock_model = host.clip(kind), host.model(kind)
        self.model, self.layers = self.classes["PPlusApply"]().apply(self.stock_model)

    def encode(self, text: str, *concepts: Any) -> Any:
        """The conditioning of P+ Encode."""
        with torch.inference_mode():  # as ComfyUI runs all nodes
            [conditioning] = self.classes["PPlusEncode"]().encode(self.clip, self.layers, text, concepts)
        return conditioning

    def stock(self, text: str) -> Any:
        """The conditioning of ComfyUI's own node CLIP Text Encode."""
        with torch.inference_mode():
            return self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text))

    def sample(self, positive: Any, negative: Any, model: Any = None, batch: int = 1) -> torch.Tensor:
        with torch.inference_mode():
            return self.host.sample(model or self.model, positive, negative, batch)

    def contexts(self, positive: Any, negative: Any, batch: int = 1) -> tuple[list[torch.Tensor], list[dict[str, Any]]]:
        """What each layer attends to in the first call of a run, and where ComfyUI says that it is."""
        seen: list[torch.Tensor] = []
        places: list[dict[str, Any]] = []

        def look(query: Any, context: Any, value: Any, options: dict[str, Any]) -> Any:
            assert value is context
            seen.append(context.clone())
            places.append({key: options[key] for key in ("block", "block_index", "transformer_index")})
            return query, context, value

        watched = self.model.clone()
        watched.set_model_attn2_patch(look)
        self.sample(positive, negative, watched, batch)
        count = len(self.layers.layers)
        return seen[:count], places[:count]


@pytest.fixture(scope="session", params=["sd1", "sdxl"])
def bench(host: hosts.Host, nodes: ModuleType, request: pytest.FixtureRequest) -> Bench:
    return Bench(host, nodes, request.param)
