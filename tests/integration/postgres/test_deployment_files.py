"""The files for deployment and CI are well-formed and agree with the code."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict

from api.settings import Settings, load_settings
from cli import serve
from cli.main import turnlog
from cli.processes import ENDING_TIMEOUT_S
from postgres.programs import VERSION
from tests.support.servers.serving import ServedApp
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[3]
INSTRUCTIONS = {"FROM", "RUN", "WORKDIR", "COPY", "USER", "ENTRYPOINT", "CMD"}
SERVICE_KEYS = {
    "image", "build", "command", "environment", "ports", "volumes", "shm_size", "healthcheck", "stop_grace_period",
    "restart", "env_file", "depends_on", "init",
}  # fmt: skip


def run(arguments: list[str]) -> click.Context:
    """Parse arguments of `turnlog`, and return the context of their command."""
    command: click.Command = turnlog
    context: click.Context | None = None
    name = "turnlog"
    while isinstance(command, click.Group):
        context = command.make_context(name, arguments[:1], parent=context)
        name, *arguments = arguments
        found = command.get_command(context, name)
        assert found is not None, name
        command = found
    return command.make_context(name, arguments, parent=context)


def interpolated(environment: dict[str, str]) -> dict[str, str]:
    """Return an environment as it is without a file of settings."""
    return {name: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value) for name, value in environment.items()}


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


def test_compose_runs_the_same_version_of_postgresql_as_the_embedded_one(services: dict[str, dict[str, Any]]) -> None:
    assert services["postgres"]["image"] == f"postgres:{VERSION}"


def test_compose_publishes_the_server_and_not_the_database(services: dict[str, dict[str, Any]]) -> None:
    assert {name: service.get("ports") for name, service in services.items()} == {
        "postgres": None,
        "turnlog": ["${PUBLISH:-8000}:8000"],
    }


def test_compose_runs_an_existing_command_with_existing_settings(services: dict[str, dict[str, Any]]) -> None:
    server = services["turnlog"]
    run(server["command"])
    given = {name for name in server["environment"] if name.startswith("TURNLOG_")}
    assert {variable.removeprefix("TURNLOG_").lower() for variable in given} <= set(Settings.model_fields)


def test_compose_authenticates_callers_on_an_address_of_the_network(services: dict[str, dict[str, Any]]) -> None:
    server = services["turnlog"]
    environment = interpolated(server["environment"])
    settings = load_settings(
        **{name.removeprefix("TURNLOG_").lower(): value for name, value in environment.items() if name != "PGPASSWORD"}
    )
    assert settings.auth == "keys"
    host = run(server["command"]).params["host"]
    serve._refuse_unauthenticated_network(host, settings)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(serve.WrongUseError):
        serve._refuse_unauthenticated_network(host, load_settings())  # pyright: ignore[reportPrivateUsage]


def test_compose_gives_the_server_the_database_with_its_password(services: dict[str, dict[str, Any]]) -> None:
    database, server = (interpolated(services[name]["environment"]) for name in ("postgres", "turnlog"))
    url = conninfo_to_dict(server["TURNLOG_DATABASE_URL"])
    assert url == {
        "user": database["POSTGRES_USER"],
        "dbname": database["POSTGRES_DB"],
        "host": "postgres",
        "port": "5432",
    }
    assert server["PGPASSWORD"] == database["POSTGRES_PASSWORD"]
    assert services["turnlog"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_compose_waits_longer_for_the_server_than_the_server_for_its_workers(
    services: dict[str, dict[str, Any]],
) -> None:
    grace_s = int(services["turnlog"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > load_settings().shutdown_grace_s + ENDING_TIMEOUT_S


@pytest.mark.parametrize("hosts", [None, "api.example.com"])
def test_the_health_check_of_compose_passes_while_the_server_is_ready(
    services: dict[str, dict[str, Any]], database_url: str, hosts: str | None
) -> None:
    kind, *check = services["turnlog"]["healthcheck"]["test"]
    assert kind == "CMD"

    def status(port: str) -> int:
        shown = [argument.replace("8000", port) for argument in check[1:]]
        return subprocess.run([sys.executable, *shown], capture_output=True, check=False).returncode

    with ServedApp(database_url, auth="keys", allowed_hosts=hosts) as served:
        port = served.url.rpartition(":")[2]
        eventually(lambda: status(port) == 0)
    assert status(port) == 1


def test_the_commands_in_the_head_of_the_compose_file_exist(services: dict[str, dict[str, Any]]) -> None:
    told = re.findall(r"^#   docker compose (\w+) (.*)$", (ROOT / "docker-compose.yml").read_text(), re.MULTILINE)
    assert [command for command, _ in told] == ["up", "exec"]
    service, program, *arguments = shlex.split(told[1][1])
    assert service in services
    assert program == "turnlog"
    run(arguments)


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
