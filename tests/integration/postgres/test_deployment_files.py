"""The files for deployment and CI are well-formed and agree with the code."""

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.settings import Settings
from cli.main import turnlog
from postgres.programs import VERSION

ROOT = Path(__file__).parents[3]
INSTRUCTIONS = {"FROM", "RUN", "WORKDIR", "COPY", "USER", "ENTRYPOINT", "CMD"}
SERVICE_KEYS = {
    "image", "build", "command", "environment", "ports", "volumes", "shm_size", "healthcheck", "stop_grace_period",
    "restart", "network_mode", "depends_on", "init",
}  # fmt: skip


@pytest.fixture
def services() -> dict[str, dict[str, Any]]:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert set(compose) == {"services", "volumes"}
    return compose["services"]


def test_compose_services_have_only_keys_of_its_schema(services: dict[str, dict[str, Any]]) -> None:
    for service in services.values():
        assert set(service) <= SERVICE_KEYS
        assert ("image" in service) != ("build" in service)
        assert set(service.get("depends_on", {})) <= set(services)
        assert not ("ports" in service and service.get("network_mode") == "host")


def test_compose_runs_the_same_version_of_postgresql_as_the_embedded_one(services: dict[str, dict[str, Any]]) -> None:
    assert services["postgres"]["image"] == f"postgres:{VERSION}"


def test_compose_publishes_ports_on_the_loopback_interface_only(services: dict[str, dict[str, Any]]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_runs_an_existing_command_with_existing_settings(services: dict[str, dict[str, Any]]) -> None:
    api = services["api"]
    name, *options = api["command"]
    context = turnlog.make_context("turnlog", [name])
    command = turnlog.get_command(context, name)
    assert command is not None
    command.make_context(name, options, parent=context)
    assert {variable.removeprefix("TURNLOG_").lower() for variable in api["environment"]} <= set(Settings.model_fields)


def test_the_dockerfile_has_known_instructions_and_starts_turnlog() -> None:
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line]
    steps = [line.split(maxsplit=1) for line in lines]
    assert {instruction for instruction, _ in steps} == INSTRUCTIONS
    last = dict(steps)
    assert json.loads(last["ENTRYPOINT"]) == ["turnlog"]
    assert json.loads(last["CMD"]) == ["serve"]
    assert last["USER"] != "root"


def test_the_image_gets_every_package_and_the_files_of_its_installation() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages | {"pyproject.toml", "constraints.txt", "LICENSE"} <= let_in


def test_constraints_name_a_version_of_every_dependency() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [re.fullmatch(r"([A-Za-z0-9._-]+)==[A-Za-z0-9.]+", line) for line in lines]
    assert all(pins), [line for line, pin in zip(lines, pins, strict=True) if not pin]
    pinned = {normalised(pin[1]) for pin in pins if pin}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    assert {normalised(re.split(r"[\[>=<]", requirement)[0]) for requirement in asked} <= pinned


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_pre_commit_and_ci_run_targets_of_the_makefile() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    script = (ROOT / ".ci" / "run").read_text()
    asked = {
        *re.findall(r"^make (\w+)", script, re.MULTILINE),
        *(hook["entry"].removeprefix("make ") for hook in hooks),
    }
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"check", "test"} <= asked <= targets
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True)
