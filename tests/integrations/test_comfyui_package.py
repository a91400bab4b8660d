"""The node package: how ComfyUI loads it, what the registry reads, its workflows and their pictures."""

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import promptplus as pp
from tests.integrations.conftest import Bench
from tests.integrations.hosts import NODES

WORKFLOWS = sorted((NODES / "workflows").glob("*.json"))
COMFYUI: dict[str, tuple[list[str], list[str]]] = {
    "CheckpointLoaderSimple": ([], ["MODEL", "CLIP", "VAE"]),
    "EmptyLatentImage": ([], ["LATENT"]),
    "KSampler": (["MODEL", "CONDITIONING", "CONDITIONING", "LATENT"], ["LATENT"]),
    "VAEDecode": (["LATENT", "VAE"], ["IMAGE"]),
    "SaveImage": (["IMAGE"], []),
}
"""Types of the inputs and outputs of ComfyUI's own nodes."""


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))


def test_every_node_says_what_comfyui_asks(nodes: ModuleType) -> None:
    assert set(nodes.NODE_CLASS_MAPPINGS) == set(nodes.NODE_DISPLAY_NAME_MAPPINGS)
    names = {"P+ Load Concept", "P+ Encode", "P+ Apply", "P+ Mix"}
    assert set(nodes.NODE_DISPLAY_NAME_MAPPINGS.values()) == names
    for node in nodes.NODE_CLASS_MAPPINGS.values():
        assert callable(getattr(node(), node.FUNCTION))
        assert len(node.RETURN_TYPES) == len(getattr(node, "RETURN_NAMES", node.RETURN_TYPES))
        assert node.DESCRIPTION
        assert node.CATEGORY == "P+"


def test_the_nodes_import_neither_diffusers_nor_transformers() -> None:
    """ComfyUI has its own versions of much, so the nodes need only what reads prompts and concepts."""
    code = (
        "import sys; from tests.integrations.hosts import load_nodes; before = set(sys.modules); load_nodes();"
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    root = NODES.parent.parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    loaded = set(done.stdout.split())
    assert "promptplus" in loaded
    assert not loaded & {"diffusers", "transformers", "accelerate", "huggingface_hub", "matplotlib", "peft", "gradio"}


def test_the_registrys_fields() -> None:
    project = tomllib.loads((NODES / "pyproject.toml").read_text("utf-8"))
    fields = project["project"]
    assert re.fullmatch(r"[A-Za-z][\w.-]*", fields["name"])
    assert "comfyui" not in fields["name"].lower()  # the registry's rule
    assert fields["version"] == pp.__version__
    assert fields["license"] == {"text": "Apache-2.0"}
    assert {"PublisherId", "DisplayName"} <= set(project["tool"]["comfy"])
    ours = tomllib.loads((NODES.parent.parent / "pyproject.toml").read_text("utf-8"))["project"]
    assert fields["requires-python"] == ours["requires-python"]


def test_what_the_readme_says_the_nodes_need_is_what_they_import() -> None:
    """pip install --no-deps promptplus, and these packages beside what ComfyUI has."""
    readme = (NODES / "README.md").read_text("utf-8")
    [command] = re.findall(r"^python -m pip install (jaxtyping.*)$", readme, re.MULTILINE)
    assert set(command.split()) == {"jaxtyping", "pydantic", "safetensors"}


def sockets(node: Any) -> tuple[list[tuple[str, str]], list[str]]:
    """The inputs of a node that take a link, and its settings, in the order in which ComfyUI shows them."""
    kinds = node.INPUT_TYPES()
    every = {**kinds["required"], **kinds.get("optional", {})}
    settings = [name for name, (kind, *_) in every.items() if isinstance(kind, list) or kind == "STRING"]
    return [(name, kind) for name, (kind, *_) in every.items() if name not in settings], settings


@pytest.fixture
def listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ComfyUI's folder of embeddings."""
    module = ModuleType("folder_paths")
    module.get_filename_list = lambda kind: sorted(p.name for p in tmp_path.iterdir())  # type: ignore[attr-defined]
    module.get_full_path = lambda kind, name: str(tmp_path / name)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "folder_paths", module)
    return tmp_path


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_fits_the_nodes(path: Path, nodes: ModuleType, listing: Path) -> None:
    workflow = load(path)
    by_id = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: link for link in workflow["links"]}
    for node in workflow["nodes"]:
        inputs, outputs = [x["type"] for x in node["inputs"]], [x["type"] for x in node["outputs"]]
        if ours := nodes.NODE_CLASS_MAPPINGS.get(node["type"]):
            linked, settings = sockets(ours)
            assert [(x["name"], x["type"]) for x in node["inputs"]] == linked
            assert outputs == list(ours.RETURN_TYPES)
            assert [x["name"] for x in node["outputs"]] == list(getattr(ours, "RETURN_NAMES", ours.RETURN_TYPES))
            assert len(node["widgets_values"]) == len(settings)
            assert all(x["link"] or x["name"] == "concepts" for x in node["inputs"])
        else:
            assert (inputs, outputs) == COMFYUI[node["type"]]
            assert all(x["link"] for x in node["inputs"])
    for number, source, out, target, into, kind in links.values():
        assert by_id[source]["outputs"][out]["type"] == by_id[target]["inputs"][into]["type"] == kind
        assert number in by_id[source]["outputs"][out]["links"]
        assert by_id[target]["inputs"][into]["link"] == number
    assert workflow["last_link_id"] == max(links)
    assert workflow["last_node_id"] == max(by_id)


def run(workflow: dict[str, Any], bench: Bench) -> torch.Tensor:
    """Run a workflow up to its latents, with ComfyUI's own nodes replaced by the test's model and sampler."""
    by_id = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: (link[1], link[2]) for link in workflow["links"]}
    results: dict[int, tuple[Any, ...]] = {}

    def result(number: int) -> tuple[Any, ...]:
        if number not in results:
            node = by_id[number]
            given = {}
            for socket in node["inputs"]:
                if socket["link"]:
                    source, out = links[socket["link"]]
                    given[socket["name"]] = result(source)[out]
            if node["type"] == "CheckpointLoaderSimple":
                results[number] = bench.stock_model, bench.clip, None
            elif node["type"] == "EmptyLatentImage":
                results[number] = (None,)
            elif node["type"] == "KSampler":
                results[number] = (bench.sample(given["positive"], given["negative"], given["model"]),)
            else:
                ours = bench.classes[node["type"]]
                settings = dict(zip(sockets(ours)[1], node["widgets_values"], strict=True))
                results[number] = getattr(ours(), ours.FUNCTION)(**given, **settings)
        return results[number]

    [sampler] = [node["id"] for node in workflow["nodes"] if node["type"] == "KSampler"]
    return result(sampler)[0]


def test_the_layers_workflow_runs(bench: Bench, listing: Path) -> None:
    latents = run(load(NODES / "workflows" / "layers.json"), bench)
    expected = bench.sample(bench.encode("a red house || coarse: a green car"), bench.encode("blurry"))
    assert torch.equal(latents, expected)


def test_the_mix_workflow_runs(bench: Bench, listing: Path) -> None:
    layers, width = bench.layers.layers, bench.layers.width
    encoders = {"sd1": (), "sdxl": (("clip_l", 32), ("clip_g", 48))}[bench.kind]
    for seed, name in enumerate(("cat", "mug")):
        rows = 0.2 * torch.randn(len(layers), 1, width, generator=torch.Generator().manual_seed(seed))
        pp.Concept(f"<{name}>", rows, layers, encoders=encoders).save(listing / f"{name}.safetensors")
    latents = run(load(NODES / "workflows" / "mix.json"), bench)
    cat, mug = (pp.Concept.load(listing / f"{name}.safetensors") for name in ("cat", "mug"))
    text = "a photo of a <mix> on a beach || fine: a watercolour of a <mix> on a beach"
    expected = bench.sample(bench.encode(text, pp.mix(cat, mug, "<mix>", "coarse")), bench.encode("blurry"))
    assert torch.equal(latents, expected)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflows_picture_is_drawn_from_its_file(path: Path) -> None:
    spec = importlib.util.spec_from_file_location("draw_workflow", NODES / "workflows" / "draw.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    picture = path.with_suffix(".png")
    assert picture.stat().st_size <= 60_000
    with Image.open(picture) as committed:
        drawn = script.draw(load(path)).convert("RGB")
        assert committed.size == drawn.size
        difference = np.abs(np.asarray(committed.convert("RGB"), float) - np.asarray(drawn, float))
    assert difference.mean() < 0.5  # other versions of Pillow may draw letters a little differently
