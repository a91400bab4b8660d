"""The source tree: the direction of imports, public names, packaging, and the README's Python."""

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

# From the lowest layer to the highest. A file imports only from rows above its own, or from its own row.
ORDER = (
    ("choices", "errors", "templates"),
    ("files",),
    ("text_files", "fingerprints"),
    (
        *("backbones", "denoisers", "layers", "shared_hooks", "stock_calls", "lora", "memory", "pocket", "report"),
        *("caption_files", "datasets", "picture_colours", "picture_folders", "pictures", "png_chunks"),
    ),
    (
        *("placeholders", "prompt_parts", "prompts", "prompt_stages", "prompt_masks", "packing"),
        *("text_encoders", "text_encoding", "weighted_texts", "models", "model_folder", "profiles"),
    ),
    ("density", "concept_record"),
    ("concept", "hooks", "layer_hooks"),
    ("text_states", "latents"),
    ("conditioning", "prompt_encoding", "denoiser_calls"),
    ("prompt_batch",),
    ("pplus", "mixing"),
    ("prompt_explanation",),
    ("pipelines", "start_image", "kept_pictures"),
    ("generation",),
    ("editing",),
    ("generation_parameters", "png_metadata"),
    ("training",),
    ("evaluation",),
    ("experiments",),
    ("user_study",),
    ("reproduce", "demo"),
    ("studio",),
    ("cli",),
)
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
EXCEPTIONS = {"report/training_page.py": "training"}
"""Files that belong to a higher row than their package."""


def package_of(path: Path) -> str:
    """The top-level module or package a file belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def module(path: Path) -> str:
    """A file's dotted name."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def files() -> list[Path]:
    """All files but the package's own ``__init__`` and ``__main__``."""
    return [p for p in sorted(SOURCE.rglob("*.py")) if package_of(p) not in ("__init__", "__main__")]


MODULES = {module(path): path for path in files()}


def imported(path: Path) -> set[Path]:
    """The files of promptplus that a file imports, also inside its functions and by relative names."""
    package = module(path) if path.name == "__init__.py" else module(path).rpartition(".")[0]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: 1 - node.level or None] if node.level else []
            base = ".".join([*parents, *filter(None, [node.module])])
            full = {f"{base}.{alias.name}" for alias in node.names}
            names |= {name if name in MODULES else base for name in full}
    return {MODULES[name] for name in names if name in MODULES and name != module(path)}


def rank(path: Path) -> int:
    return RANK[EXCEPTIONS.get(str(path.relative_to(SOURCE)), package_of(path))]


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_run_one_way(path: Path) -> None:
    assert package_of(path) in RANK, f"{package_of(path)} has no row yet: add it to ORDER"
    higher = [str(other.relative_to(SOURCE)) for other in imported(path) if rank(other) > rank(path)]
    assert not higher, f"{path.relative_to(SOURCE)} imports {higher}, which are in higher rows"


def test_no_file_imports_itself_by_a_detour() -> None:
    graphlib.TopologicalSorter({path: imported(path) for path in files()}).prepare()  # raises CycleError


def test_only_the_command_line_imports_the_public_names() -> None:
    public = re.compile(r"^\s*(from promptplus import|import promptplus(?!\.))\b", re.MULTILINE)
    assert not [str(p) for p in files() if package_of(p) != "cli" and public.search(p.read_text("utf-8"))]


def test_every_package_has_a_row() -> None:
    assert {package_of(p) for p in files()} == set(RANK)


def test_the_hooks_before_a_commit_are_make_check() -> None:
    recipe = (ROOT / "Makefile").read_text().split("\ncheck:")[1].split("\n\n")[0]
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()[1:]]
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"entry: (.*)", hooks) == commands


def test_every_target_of_make_is_documented() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.findall(r"^\.PHONY: (.*)", makefile, re.MULTILINE)[0].split()
    assert set(phony) <= set(re.findall(r"^([a-z-]+):[^#\n]*## ", makefile, re.MULTILINE))


def test_what_ships_is_typed_and_has_a_version() -> None:
    assert (SOURCE / "py.typed").is_file()
    assert re.fullmatch(r"\d+\.\d+\.\d+", pp.__version__)


def test_public_names_are_imported_when_they_are_used() -> None:
    assert set(pp.__all__) <= set(dir(pp))
    assert set(pp._MODULES) == set(pp.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pp.nothing  # type: ignore[attr-defined]


def test_the_public_names() -> None:
    assert set(pp.__all__) == {
        "load",
        "PPlus",
        "PPlusPrompt",
        "Part",
        "LayerMap",
        "Concept",
        "edit",
        "invert",
        "mix",
        "per_layer",
        "pack",
        "PromptPlusError",
    }
    assert all(getattr(pp, name).__doc__ for name in pp.__all__)


def public_definitions() -> list[tuple[str, str | None]]:
    definitions = []
    for path in files():
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                definitions.append((f"{path.relative_to(SOURCE)}:{node.name}", ast.get_docstring(node)))
    return definitions


def test_every_module_has_a_docstring_and_so_has_what_others_call() -> None:
    assert all(ast.get_docstring(ast.parse(p.read_text("utf-8"))) for p in files())
    assert not [name for name, doc in public_definitions() if not doc and not name.startswith("pocket")]


def test_modules_stay_small() -> None:
    long = {str(p.relative_to(ROOT)): n for p in files() if (n := len(p.read_text("utf-8").splitlines())) > 300}
    assert not [name for name in long if "pocket" not in name], long


def test_errors_have_one_root_and_bad_values_are_value_errors() -> None:
    from promptplus import errors

    kinds = [e for e in vars(errors).values() if isinstance(e, type) and e.__module__ == errors.__name__]
    assert all(issubclass(kind, pp.PromptPlusError) for kind in kinds)
    assert {k.__name__ for k in kinds if not issubclass(k, ValueError)} == {
        "PromptPlusError",
        "LossError",
        "TrainingError",
        "WriteError",
        "Interrupted",
    }


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_no_caught_exception_loses_its_reason(path: Path) -> None:
    """What is raised from a caught exception says in its message what that one said."""
    for handler in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(handler, ast.ExceptHandler):
            continue
        for raised in (node for node in ast.walk(handler) if isinstance(node, ast.Raise) and node.cause and node.exc):
            if isinstance(raised.cause, ast.Name) and raised.cause.id == handler.name:
                said = {
                    node.id for node in ast.walk(handler) if isinstance(node, ast.Name) and node is not raised.cause
                }
                assert handler.name in said, f"{path.name}:{raised.lineno} keeps the reason to itself"


def test_pinned_versions_cover_every_dependency() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    required = project["dependencies"] + [name for extra in extras for name in extra]
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    names = {re.split(r"[\[><=~! ]", name)[0].lower().replace("_", "-") for name in required}
    assert names <= pinned
    assert "torch==2.13.0" in lines


def test_weights_and_pictures_in_the_tree_are_small() -> None:
    kinds, folders = {".safetensors", ".png", ".jpg", ".webp", ".gif"}, ("src", "docs")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    if (ROOT / ".git").exists() and shutil.which("git"):  # sheets of scored pictures and the like are ignored
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *folders]
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        paths = [ROOT / name for name in listing.stdout.split("\0") if name] if listing.returncode == 0 else paths
    tree = [path for path in paths if path.suffix in kinds and path.is_file()]
    assert tree
    assert sum(p.stat().st_size for p in tree) < 40 * 2**20
    assert not [p for p in tree if p.stat().st_size > 16 * 2**20]


def test_the_readmes_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first Python block, to the letter, but for the numbers of steps."""
    from promptplus.editing.edit import METHODS, SKIP, EditSettings
    from promptplus.pocket import CONCEPTS
    from promptplus.training import invert as trainer

    code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)[0]
    for name, folder in (("robot", "photos/robot"), ("teapot", "photos/teapot")):
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / folder).symlink_to(CONCEPTS / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trainer.InversionSettings.model_fields["steps"], "default", 2)
    monkeypatch.setattr(EditSettings.__init__, "__defaults__", (METHODS[0], 2, None, SKIP))
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
