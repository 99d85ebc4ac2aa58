"""Check the pinned packages: hashes for all, and no test tool in the image."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKED = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("requirements*.txt")]
LOCKED += ["tests/benchmarks/requirements.txt", "tests/fab/requirements.txt"]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def pins(name: str) -> dict[str, str]:
    """Return each package's version with its hashes."""
    return dict(re.findall(r"^([\w.-]+)==(\S+(?: \\\n +--hash=\S+)*)", read(name), re.MULTILINE))


def named(name: str) -> set[str]:
    """Return the packages that a `.in` file names."""
    return set(re.findall(r"^([\w.-]+)(?=[\s=<>~[]|$)", read(name), re.MULTILINE)) - {"-r"}


@pytest.mark.parametrize("name", LOCKED)
def test_every_package_is_pinned_with_its_hashes(name: str) -> None:
    assert pins(name)
    assert [package for package, pin in pins(name).items() if "--hash=sha256:" not in pin] == []


@pytest.mark.parametrize("name", LOCKED)
def test_no_package_index_is_recorded(name: str) -> None:
    assert re.findall(r"^--(?!hash).*|://\S+| @ \S+", read(name), re.MULTILINE) == []


def test_the_tests_run_with_the_packages_of_the_image() -> None:
    image, development = pins("requirements.txt"), pins("requirements-dev.txt")
    assert {package: development.get(package) for package in image} == image


def test_the_image_holds_no_test_tools() -> None:
    tools = named("requirements-dev.in") - named("requirements.in")
    assert {"pytest", "mypy", "ruff", "cyclonedx-bom"} <= tools
    needed_by_airflow = {"jsonschema", "pyjwt", "setuptools"}
    assert (tools - needed_by_airflow) & set(pins("requirements.txt")) == set()


def test_the_image_installs_the_packages_of_the_run_time_only() -> None:
    dockerfile, allowed = read("Dockerfile"), read(".dockerignore").splitlines()
    assert re.findall(r"--requirement (\S+)", dockerfile) == ["/tmp/requirements.txt"]  # noqa: S108 - in the image
    assert "--require-hashes" in dockerfile
    assert "!requirements-dev.txt" not in allowed
    assert {"include/softpro_sandbox", "include/softpro_demo"} <= set(allowed)


def test_make_installs_by_hash_only() -> None:
    installs = re.findall(r"pip .*--requirement .*", read("Makefile").replace("\\\n", ""))
    assert installs
    assert [line for line in installs if "--require-hashes" not in line] == []
