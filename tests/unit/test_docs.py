"""Compare the documentation with the code: names, defaults, routes, columns and links."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from softpro import settings
from softpro.__main__ import app
from softpro.entities import EntityType
from softpro.mapping.columns import COLUMNS, Type
from softpro.mapping.defaults import FIELDS
from softpro.quality.batch import ROW_COUNT
from softpro.quality.suite import load_suite
from softpro.quality.value_rule_expectations import CHECKS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
DESIGN_PAGES = sorted(ROOT.glob("docs/design/*.md"))
DEVELOPER_PAGES = [ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *DESIGN_PAGES]
FOLDERS = [ROOT, ROOT / "include" / "softpro", ROOT / "plugins", ROOT / "tests"]
"""The folders from which a page may name a file."""
COMPOSE = (ROOT / "docker-compose.yaml").read_text(encoding="utf-8")
SQL_TYPES = {
    Type.TEXT: "text",
    Type.MONEY: "numeric(14,2)",
    Type.NUMBER: "numeric",
    Type.TIMESTAMP: "timestamptz",
    Type.JSON: "jsonb",
}
BLOCK = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
OTHER_WORDS = {"SOFTPRO_TO_ROI", "SOFTPRO_WINS", "SOFTPRO_ERROR"}  # a direction, a strategy, an error code
RIGHTS = {"Reader": "read", "Operator": "operate", "Starter": "operate", "Launch": "operate", "Configurer": "configure"}

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
every_design_page = pytest.mark.parametrize("page", DESIGN_PAGES, ids=lambda page: page.name)
every_developer_page = pytest.mark.parametrize("page", DEVELOPER_PAGES, ids=lambda page: page.name)


def doc(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def code_in(page: Path) -> str:
    """Return the page's code blocks and code spans, one per line."""
    return "\n".join([*BLOCK.findall(page.read_text(encoding="utf-8")), *spans(page)])


def spans(page: Path) -> list[str]:
    """Return the page's code spans."""
    return re.findall(r"`([^`\n]+)`", BLOCK.sub("", page.read_text(encoding="utf-8")))


def section(text: str, heading: str) -> str:
    """Return the text below a second-level heading, up to the next one."""
    return re.split(r"^## ", text.split(f"\n## {heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of all table rows, without heads and separators."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    heads = {number - 1 for number, line in enumerate(lines) if set(line) <= set("|-")}
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for number, line in enumerate(lines)
        if number not in heads and not set(line) <= set("|-")
    ]


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub creates for a page's headings."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_every_link_and_image_leads_somewhere(page: Path) -> None:
    broken = []
    for address in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = address.partition("#")
        if path.startswith("https://"):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.is_file() or (anchor and anchor not in anchors(target)):
            broken.append(address)
    assert broken == []


def test_the_architecture_can_be_read_in_one_go() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_architecture_lists_every_package() -> None:
    listed = section((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"), "The packages")
    packages = [path.parent.name for path in ROOT.glob("include/softpro/*/__init__.py")]
    modules = [path.name for path in ROOT.glob("include/softpro/*.py") if path.name != "__init__.py"]
    names = [*(f"{name}/" for name in packages), *modules]
    assert [name for name in names if f" {name} " not in listed] == []


def test_the_import_order_is_the_one_that_import_linter_checks() -> None:
    documented = section((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"), "The import order").split("```")[1]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    assert [set(re.findall(r"\w+", layer)) for layer in documented.split("→")] == [
        set(re.findall(r"\w+", layer.replace("softpro.", ""))) for layer in layers
    ]


def test_the_architecture_links_every_design_page() -> None:
    promises = section((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"), "The promises")
    assert {f"docs/design/{page.name}" for page in DESIGN_PAGES} == set(re.findall(r"\]\(([^)]+)\)", promises))


@every_developer_page
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    named = {span for span in spans(page) if re.fullmatch(r"[\w./-]+\.(?:py|yaml|md|toml|in)|[\w./-]+/", span)}
    assert [name for name in sorted(named) if not any((folder / name).exists() for folder in FOLDERS)] == []


@every_developer_page
def test_every_table_that_a_page_names_exists(page: Path) -> None:
    migrations = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("sql/migrations/versions/*.py"))
    named = {match[0] for span in spans(page) if (match := re.match(r"(?:softpro|raw|staging)\.\w+(?=$|\.\w+$)", span))}
    assert [name for name in sorted(named) if f"table {name} " not in migrations] == []


@every_design_page
def test_a_design_page_begins_with_a_promise_and_names_the_tests_that_try_to_break_it(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.match(r"# .+\n\n\*\*[^*]+\*\*: ", text)
    tests = rows(section(text, "Tests that try to break it"))
    files = [ROOT / row[0].strip("`") for row in tests]
    assert files
    assert [file.name for file in files if not file.is_file() or not file.name.startswith("test_")] == []
    assert all(row[1] for row in tests)


@every_page
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", code_in(page))) <= targets


@every_page
def test_no_page_names_a_setting_that_does_not_exist(page: Path) -> None:
    named = set(re.findall(r"(?<![A-Z_])SOFTPRO_[A-Z_]+", page.read_text(encoding="utf-8")))
    assert named <= {*aliases(), *re.findall(r"\$\{(\w+)", COMPOSE), *OTHER_WORDS}


def aliases() -> dict[str, str]:
    """Return every variable that the product reads, and how its default is written."""
    found = {}
    for group in settings.Group.__subclasses__():
        for field in group.model_fields.values():
            assert field.alias
            default = "none" if field.is_required() else "unset" if field.default is None else f"`{field.default}`"
            found[field.alias] = default
    return found


def test_every_setting_is_documented_with_its_default() -> None:
    documented = {row[0].strip("`"): row[3] for row in rows(section(doc("configuration.md"), "The product"))}
    assert {name: re.findall(r"`.*?`|\w+", default)[0] for name, default in documented.items()} == aliases()


def test_every_variable_of_compose_is_documented() -> None:
    deploying = section(doc("operations.md"), "Deploying")
    assert [name for name in set(re.findall(r"\$\{(\w+)", COMPOSE)) if f"`{name}`" not in deploying] == []


def options_of(command: Any) -> set[str]:
    """Return the options of a command and of its subcommands."""
    own = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
    return own.union(*(options_of(each) for each in getattr(command, "commands", {}).values()))


def test_every_command_and_option_is_documented_and_no_other() -> None:
    group = typer.main.get_command(app)
    commands = group.commands  # type: ignore[attr-defined]
    page = doc("command-line.md")
    assert set(re.findall(r"^## ([a-z-]+)$", page, re.MULTILINE)) == set(commands)
    for name, command in commands.items():
        options = options_of(command)
        assert options == {option for option in options if f"| `{option}` |" in section(page, name)}, name
        inner = getattr(command, "commands", {})
        assert set(re.findall(rf"^`python -m softpro {name} ([a-z-]+)", section(page, name), re.MULTILINE)) == set(
            inner
        )
    known = options_of(group)
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", page)) <= known | {"--help"}


@every_page
def test_every_command_that_a_page_calls_exists(page: Path) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert set(re.findall(r"-m softpro ([a-z-]+)", code_in(page))) <= set(commands)


def routes() -> Iterator[tuple[str, str]]:
    """Yield (method and path, right) of each route of the plugin.

    The source is parsed, since importing it needs Airflow.
    """
    folder = ROOT / "plugins" / "softpro_web"
    for path in [folder / "app.py", *folder.glob("routes/*.py")]:
        text = path.read_text(encoding="utf-8")
        prefix = re.search(r'APIRouter\(prefix="([^"]+)"', text)
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for decorator in map(ast.unparse, node.decorator_list):
                matched = re.match(r"(?:router|app)\.(get|post|put|patch|delete)\('([^']*)'", decorator)
                if matched:
                    annotations = [ast.unparse(a.annotation) for a in node.args.args if a.annotation]
                    right = next((RIGHTS[name] for name in annotations if name in RIGHTS), "open")
                    yield f"{matched[1].upper()} {prefix[1] if prefix else ''}{matched[2]}", right


def test_every_route_is_documented_with_the_right_it_needs() -> None:
    page = doc("http-api.md")
    documented = {row[0].strip("`"): row[1] for row in rows(page.split("\n## ")[0])}
    assert documented == dict(routes())
    headings = " ".join(re.findall(r"^## (.+)$", page, re.MULTILINE))
    assert [route for route in documented if route not in headings] == []


def test_the_readme_names_only_routes_that_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /[^`]*)`", readme)
    assert named
    assert set(named) <= dict(routes()).keys()


def test_every_error_code_of_the_api_is_documented() -> None:
    source = (ROOT / "plugins" / "softpro_web" / "responses.py").read_text(encoding="utf-8")
    answered = {*re.findall(r'\(\w+, (\d{3}), "([A-Z_]+)"\)', source), *re.findall(r'(\d{3}): "([A-Z_]+)"', source)}
    documented = {(row[0], row[1].strip("`")) for row in rows(section(doc("http-api.md"), "Errors"))}
    # A refused consent occurs only on the callback, which redirects.
    assert documented == answered - {("403", "CONSENT_REFUSED")}


@pytest.mark.parametrize("entity_type", EntityType)
def test_every_column_is_documented_with_its_type(entity_type: EntityType) -> None:
    documented = {
        column: row[1].split(":")[0]
        for row in rows(section(doc("data-model.md"), f"roi.{entity_type.table}"))
        for column in re.findall(r"`(\w+)`", row[0])
    }
    columns = {column: SQL_TYPES[kind] for column, kind in COLUMNS[entity_type].items()}
    assert {column: documented.get(column) for column in columns} == columns
    assert entity_type.key in documented


@pytest.mark.parametrize("entity_type", EntityType)
def test_the_documented_default_mappings_are_the_default_mappings(entity_type: EntityType) -> None:
    table = rows(section(doc("mappings.md"), f"The default set of {entity_type.table}"))
    assert [tuple(cell.strip("`") for cell in row) for row in table] == [
        (field, column, COLUMNS[entity_type][column].value) for field, column in FIELDS[entity_type].items()
    ]


@pytest.mark.parametrize("entity_type", EntityType)
def test_every_expectation_is_documented_with_its_severity(entity_type: EntityType) -> None:
    table = rows(section(doc("quality.md"), "The suites"))
    _, critical, warning = next(row for row in table if row[0] == entity_type.table)
    for severity, cell in (("critical", critical), ("warning", warning)):
        judged = {
            expectation["kwargs"]["column"]
            for expectation in load_suite(entity_type)
            if expectation["severity"] == severity
            and "column" in expectation["kwargs"]
            and expectation.get("level") != "batch"
        }
        assert set(re.findall(r"`(\w+)`", cell)) == judged, severity


@pytest.mark.parametrize("entity_type", EntityType)
def test_everything_that_holds_a_batch_is_documented(entity_type: EntityType) -> None:
    documented = {
        row[1].strip("`") for row in rows(section(doc("quality.md"), "Batches that are held")) if len(row) == 3
    }
    held = {expectation["type"] for expectation in load_suite(entity_type) if expectation.get("level") == "batch"}
    assert documented == held | {ROW_COUNT}


def test_every_validation_rule_is_documented_with_how_it_is_judged() -> None:
    documented = rows(section(doc("quality.md"), "Validation rules"))
    assert {rule for row in documented for rule in re.findall(r"`(\w+)`", row[0])} == set(CHECKS)
