"""The programs of PostgreSQL come from the first wheel that is installed."""

import re
import tomllib
from importlib import invalidate_caches
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from postgres.errors import ClusterError
from postgres.programs import VERSION, WHEELS, find_programs, run_program

ROOT = Path(__file__).parents[3]
PACKAGES = [package.replace("_", "-") for package, _ in WHEELS]
TWO_WHEELS = (("first_test_wheel", "pginstall/bin"), ("second_test_wheel", "bin"))


def install(directory: Path, package: str, programs: str) -> Path:
    found = directory / package / programs
    found.mkdir(parents=True)
    invalidate_caches()
    return found


def test_the_first_wheel_is_used_if_both_are_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    first, _ = [install(tmp_path, *wheel) for wheel in TWO_WHEELS]
    assert find_programs(TWO_WHEELS) == first


def test_the_second_wheel_is_used_if_it_is_the_only_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    second = install(tmp_path, *TWO_WHEELS[1])
    assert find_programs(TWO_WHEELS) == second


def test_a_package_without_the_programs_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, "first_test_wheel", "pginstall17/bin")
    second = install(tmp_path, *TWO_WHEELS[1])
    assert find_programs(TWO_WHEELS) == second


def test_the_error_names_the_packages_that_contain_postgresql() -> None:
    with pytest.raises(ClusterError, match="first-test-wheel or second-test-wheel"):
        find_programs(TWO_WHEELS)


def test_the_installed_programs_have_the_required_version(tmp_path: Path) -> None:
    assert re.search(rf"\(PostgreSQL\) {VERSION}\.", run_program(tmp_path, "postgres", "--version").stdout)


@pytest.mark.parametrize("machine", ["x86_64", "AMD64", "aarch64", "arm64", "armv7l", "ARM64", "ppc64le", "s390x"])
def test_every_platform_installs_one_wheel(machine: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wheels = [wheel for wheel in map(Requirement, project["dependencies"]) if wheel.name in PACKAGES]
    platform = {"platform_machine": machine}
    installed = [wheel.name for wheel in wheels if wheel.marker is None or wheel.marker.evaluate(platform)]
    assert installed == [PACKAGES[machine in ("ARM64", "ppc64le", "s390x")]]
