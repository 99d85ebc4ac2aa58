"""Check in the source that routes reach an organization's data only through the principal's scope."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import softpro

WEB = Path(__file__).resolve().parents[2] / "plugins" / "softpro_web"
FILES = [*WEB.glob("routes/*.py"), WEB / "dag_runs.py"]
FOR_CALLERS = {
    ("integrations", "get"),
    ("integrations", "find"),
    ("integrations", "list_all"),
    ("quarantine_cases", "get"),
    ("sync_logs", "get"),
    ("sync_logs", "of_run"),
}
KNOWN = {("dag_runs.py", "_read")}  # the log that this request announced


def calls(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (function, module, attribute) of each call such as `integrations.get(…)`."""
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr=name)):
                    yield function.name, module, name


def test_every_route_that_starts_a_run_counts_it() -> None:
    """Each route that takes a `Launcher` also takes a `Starter`, whose calls are limited."""
    launching = {
        f"{path.name}: {function.name}": annotations
        for path in WEB.glob("routes/*.py")
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and function.decorator_list
        for annotations in [{ast.unparse(each.annotation) for each in function.args.args if each.annotation}]
        if "Launcher" in annotations
    }
    assert launching
    direct = {
        name for path in WEB.glob("routes/*.py") for name in ("announce_run", "trigger_dag") if name in path.read_text()
    }
    assert direct == set()  # only `Launcher.run` starts runs
    assert [name for name, annotations in launching.items() if "Starter" not in annotations] == []


@pytest.mark.parametrize(("module", "name"), sorted(FOR_CALLERS))
def test_the_scoped_functions_exist(module: str, name: str) -> None:
    """A renamed function would otherwise no longer be looked for."""
    found = [
        each.name for each in pkgutil.walk_packages(softpro.__path__, "softpro.") if each.name.endswith(f".{module}")
    ]
    assert [path for path in found if hasattr(importlib.import_module(path), name)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_route_asks_the_caller_for_what_belongs_to_an_organization(path: Path) -> None:
    passed_by = [
        f"{function} calls {module}.{name}: ask the caller"
        for function, module, name in calls(path)
        if (module, name) in FOR_CALLERS and (path.name, function) not in KNOWN
    ]
    assert passed_by == []
