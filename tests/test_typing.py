"""What a type checker sees of the public names."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CALLS = """\
from diffusers import StableDiffusionPipeline
from torch import Tensor

import promptplus as pp


def typed(pipe: StableDiffusionPipeline, pplus: pp.PPlus) -> None:
    pipe(**pplus.encode("a red cube || coarse: a green lizard"), num_inference_steps=4)


def untyped(pipe: StableDiffusionPipeline, embeds: dict[str, Tensor]) -> None:
    pipe(**embeds)
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("pyright") is None, reason="needs pyright")
def test_a_typed_pipeline_takes_encoded_prompts(tmp_path: Path) -> None:
    """The last line shows that the pipeline is typed: a plain dict of tensors could hold any argument."""
    (tmp_path / "calls.py").write_text(CALLS)
    settings = {"extraPaths": [str(ROOT / "src")], "reportPrivateImportUsage": False}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    call = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson", "-p", str(tmp_path)]
    checked = subprocess.run(call, capture_output=True, text=True, check=False)
    diagnostics = json.loads(checked.stdout)["generalDiagnostics"]
    lines = {one["range"]["start"]["line"] + 1 for one in diagnostics if one["severity"] == "error"}
    assert lines == {len(CALLS.splitlines())}, diagnostics
