"""The house: which way imports run, what is public, and that the README's Python is true."""

import ast
import graphlib
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import promptplus as pp

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "promptplus"

# From the bottom of the house to the top. A file imports only from rows above its own, or from its own row.
ORDER = (
    ("choices", "errors", "templates"),
    ("files", "fingerprints", "layers", "memory", "pictures", "pocket", "report"),
    ("placeholders", "prompts", "text_encoding", "models", "profiles", "density"),
    ("concept", "hooks"),
    ("pplus", "mixing"),
    ("generation",),
    ("png_metadata",),
    ("training",),
    ("evaluation",),
    ("experiments",),
    ("reproduce", "demo"),
    ("cli",),
)
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
EXCEPTIONS = {"report/training_page.py": "training"}
"""Files that stand higher than their package."""


def room(path: Path) -> str:
    """The top-level module or package a file belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def module(path: Path) -> str:
    """A file's dotted name."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def files() -> list[Path]:
    return [p for p in sorted(SOURCE.rglob("*.py")) if room(p) not in ("__init__", "__main__")]


MODULES = {module(path): path for path in files()}


def imported(path: Path) -> set[Path]:
    """The files of promptplus that a file imports, also inside its functions and by relative names."""
    package = module(path) if path.name == "__init__.py" else module(path).rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: 1 - node.level or None] if node.level else []
            base = ".".join([*parents, *filter(None, [node.module])])
            names = {f"{base}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else base for name in names}
    return {MODULES[name] for name in found if name in MODULES and name != module(path)}


def rank(path: Path) -> int:
    return RANK[EXCEPTIONS.get(str(path.relative_to(SOURCE)), room(path))]


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_run_one_way(path: Path) -> None:
    assert room(path) in RANK, f"{room(path)} has no place in the house yet: add it to ORDER"
    higher = [str(other.relative_to(SOURCE)) for other in imported(path) if rank(other) > rank(path)]
    assert not higher, f"{path.relative_to(SOURCE)} imports {higher}, which stand above it"


def test_no_file_imports_itself_by_a_detour() -> None:
    graphlib.TopologicalSorter({path: imported(path) for path in files()}).prepare()  # raises CycleError


def test_only_the_command_line_imports_the_public_names() -> None:
    public = re.compile(r"^\s*(from promptplus import|import promptplus(?!\.))\b", re.MULTILINE)
    assert not [str(p) for p in files() if room(p) != "cli" and public.search(p.read_text("utf-8"))]


def test_every_room_has_a_place() -> None:
    assert {room(p) for p in files()} == set(RANK)


def test_the_public_names() -> None:
    assert set(pp.__all__) == {
        "load",
        "PPlus",
        "PPlusPrompt",
        "LayerMap",
        "Concept",
        "invert",
        "mix",
        "per_layer",
        "pack",
        "PromptPlusError",
    }
    assert all(getattr(pp, name).__doc__ for name in pp.__all__)


def public_definitions() -> list[tuple[str, str | None]]:
    found = []
    for path in files():
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                found.append((f"{path.relative_to(SOURCE)}:{node.name}", ast.get_docstring(node)))
    return found


def test_every_module_has_a_docstring_and_so_has_what_others_call() -> None:
    assert all(ast.get_docstring(ast.parse(p.read_text("utf-8"))) for p in files())
    assert not [name for name, doc in public_definitions() if not doc and not name.startswith("pocket")]


def test_modules_stay_small() -> None:
    long = {str(p.relative_to(ROOT)): n for p in files() if (n := len(p.read_text("utf-8").splitlines())) > 300}
    assert not [name for name in long if "pocket" not in name], long


def test_errors_have_one_root_and_bad_values_are_value_errors() -> None:
    from promptplus import errors

    kinds = [e for e in vars(errors).values() if isinstance(e, type)]
    assert all(issubclass(kind, pp.PromptPlusError) for kind in kinds)
    assert {k.__name__ for k in kinds if not issubclass(k, ValueError)} == {
        "PromptPlusError",
        "LossError",
        "TrainingError",
        "Interrupted",
    }


def test_pinned_versions_cover_every_dependency() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    wanted = project["dependencies"] + [name for extra in extras for name in extra]
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    names = {re.split(r"[\[><=~! ]", name)[0].lower().replace("_", "-") for name in wanted}
    assert names <= pinned
    assert "torch==2.13.0" in lines


def test_weights_and_pictures_in_the_tree_are_small() -> None:
    kinds, folders = {".safetensors", ".png", ".jpg", ".webp", ".gif"}, ("src", "docs")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    if (ROOT / ".git").exists() and shutil.which("git"):  # sheets of scored pictures and the like are ignored
        asked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *folders]
        told = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
        found = [ROOT / name for name in told.stdout.split("\0") if name] if told.returncode == 0 else found
    tree = [path for path in found if path.suffix in kinds and path.is_file()]
    assert tree
    assert sum(p.stat().st_size for p in tree) < 40 * 2**20
    assert not [p for p in tree if p.stat().st_size > 16 * 2**20]


def test_the_readmes_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first Python block, to the letter, but for the number of steps."""
    from promptplus.pocket import CONCEPTS
    from promptplus.training import invert as trainer

    code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)[0]
    for name, folder in (("robot", "photos/robot"), ("teapot", "photos/teapot")):
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / folder).symlink_to(CONCEPTS / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trainer.InversionSettings.model_fields["steps"], "default", 2)
    trainer.InversionSettings.model_rebuild(force=True)
    names: dict[str, Any] = {}
    try:
        exec(compile(code, "README.md", "exec"), names)
    finally:
        monkeypatch.undo()
        trainer.InversionSettings.model_rebuild(force=True)
    assert isinstance(names["mixed"], pp.Concept)
    assert (tmp_path / "robot.safetensors").is_file()
    names["pplus"].remove()
