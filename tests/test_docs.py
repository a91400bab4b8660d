"""The documentation is true: the map equals the tree, links lead somewhere, and commands and modules exist."""

import ast
import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "promptplus"
NODES = ROOT / "integrations" / "comfyui" / "README.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", NODES, *sorted((ROOT / "docs").glob("*.md"))]
CHANGELOG = ROOT / "CHANGELOG.md"  # names the old modules on purpose
REMOVED = re.compile(
    r"promptplus[./](?:inversion|evidence|analysis|conditioning|recipes|text|figures)\b"
    r"|python -m pocket\b(?!_)"
    r"|(?<![\w/])(?:inversion|evidence|analysis)/\w+"
    r"|(?<![\w/])pocket/(?:muon|dino|clip|unet|vae|common|assemble|bars)\.py"
)


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def fenced(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    titles = re.findall(r"^#+ (.+)$", prose(page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def read_map() -> set[str]:
    """The paths that the map in docs/architecture.md lists; packages end with a slash."""
    [block] = fenced((ROOT / "docs" / "architecture.md").read_text("utf-8"), "map")
    parents, listed = [""], set()
    for line in block.splitlines():
        match = re.fullmatch(r"( *)(\S+(?: \S+)*?) {2,}(\S.*)", line)
        assert match, f"no name and description, two spaces apart: {line!r}"
        depth = len(match[1]) // 2
        for name in match[2].split():
            assert name.endswith((".py", "/")), f"neither a module nor a package: {name!r}"
            listed.add(parents[depth] + name)
            parents[depth + 1 :] = [parents[depth] + name]
    return listed


def modules_and_packages() -> set[str]:
    """What the map has to list: all modules and packages; of the tests, the packages alone."""
    paths = {"tests/", "docs/"} | {f"tests/{p.name}/" for p in (ROOT / "tests").iterdir() if any(p.glob("*.py"))}
    for top in (SOURCE, ROOT / "pocket_training", ROOT / "integrations", ROOT / "benchmarks"):
        for path in top.rglob("*.py"):
            paths.add(f"{path.parent.relative_to(ROOT)}/")
            if not path.name.startswith("__"):
                paths.add(str(path.relative_to(ROOT)))
    return paths


def test_the_map_equals_the_tree() -> None:
    listed, present = read_map(), modules_and_packages()
    assert sorted(present - listed) == [], "missing from the map in docs/architecture.md"
    assert sorted(listed - present) == [], "in the map, but not in the tree"


@pytest.mark.parametrize("page", [*PAGES, CHANGELOG], ids=ids)
def test_links_and_pictures_exist(page: Path) -> None:
    text = prose(page.read_text("utf-8"))
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    broken = []
    for target in targets:
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_no_removed_module_is_named(page: Path) -> None:
    assert not [match[0] for match in REMOVED.finditer(page.read_text("utf-8"))]


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_python_modules_and_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    modules = set(re.findall(r"python -m ([a-z_]+(?:\.[a-z_]+)*)", text))
    assert not [name for name in modules if importlib.util.find_spec(name) is None]
    files = set(re.findall(r"`((?:\w+/)*\w+\.py)`", text))
    folders = (ROOT, SOURCE, page.parent, ROOT / "docs")
    planned = {"formats.py"}  # “where a new part goes” names it
    assert not [name for name in files - planned if not any((folder / name).is_file() for folder in folders)]


def test_the_log_lists_all_its_entries() -> None:
    log = ROOT / "docs" / "log.md"
    linked = set(re.findall(r"\| \[entry\]\(#([^)]+)\)", log.read_text("utf-8")))
    assert linked == {anchor for anchor in anchors(log) if anchor.startswith("20")}


def test_every_page_is_linked_from_the_readme_or_the_index() -> None:
    readme, index = (ROOT / "README.md").read_text("utf-8"), (ROOT / "docs" / "index.md").read_text("utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert not [name for name in pages if f"(docs/{name}" not in readme and f"({name}" not in index]


def command_lines() -> list[str]:
    """Every line of the README's and the prompt page's shell blocks that calls promptplus."""
    pages = (ROOT / "README.md", ROOT / "docs" / "prompts.md")
    blocks = [block for page in pages for block in fenced(page.read_text("utf-8"), "sh")]
    return [line for block in blocks for line in block.splitlines() if line.startswith("promptplus ")]


@pytest.mark.parametrize("line", command_lines())
def test_the_readmes_commands_have_these_options(line: str) -> None:
    from typer.main import get_command

    from promptplus.cli import app

    command: Any = get_command(app)
    words = shlex.split(line, comments=True)[1:]
    context: Any = None
    while words and hasattr(command, "get_command") and (inner := command.get_command(context, words[0])):
        command, words = inner, words[1:]
    known = {name for parameter in command.params for name in parameter.opts}
    assert not [word for word in words if word.startswith("--") and word not in known]


def test_the_settings_that_the_readme_sets_exist() -> None:
    from promptplus.training import settings

    fields = set(settings.InversionSettings.model_fields) | set(settings.LoraSettings.model_fields)
    named = [name for line in command_lines() for name in re.findall(r"--set (\w+)=", line)]
    assert named
    assert set(named) <= fields


def messages_in_the_code() -> str:
    """All texts in the source, one a line; formatted values are … and neighbouring literals are one text."""
    texts: list[str] = []
    for path in (ROOT / "src" / "promptplus").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                texts.append("".join(map(str, parts)))
    return "\n".join(texts)


def test_the_messages_in_troubleshooting_are_the_codes_own() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    cells = [row.split("|")[1] for row in re.findall(r"^\| .*$", page.replace(r"\|", "¦"), re.MULTILINE)]
    quoted = [text.replace("¦", "|") for cell in cells for text in re.findall(r"`([^`]+)`", cell)]
    assert len(quoted) > 40
    code = messages_in_the_code()
    for message in quoted:
        fragments = [part.strip() for part in re.split(r"…|<…>|<field>|'\(red:1\.3\)'", message)]
        missing = [part for part in fragments if len(part) > 8 and part not in code]
        assert not missing, f"troubleshooting.md quotes {message!r}, but the code never says {missing[0]!r}"
