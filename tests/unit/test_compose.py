"""What can be seen of docker-compose.yml and the image without an engine: they agree with the code they start."""

import re
import subprocess
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
import typer
import yaml

from harness_stream.adapters.kafka.settings import POLL_INTERVAL_MS_MAX
from harness_stream.cli import main as cli
from harness_stream.config import ENV_PREFIX, Settings, load_settings
from harness_stream.core.limits import DRAIN_MS_MAX
from harness_stream.local.artifacts import KAFKA_VERSION

ROOT = Path(__file__).parents[2]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OURS = ["setup", "worker"]
KAFKA = SERVICES["kafka"]["environment"]


def commands() -> list[list[str]]:
    """Every `harness` command that compose runs or prints, as the shell of the image would split it."""
    script = SERVICES["setup"]["command"][-1].replace("$$", "$")
    said = subprocess.run(
        ["/bin/sh", "-euc", f'harness() {{ echo "harness $*"; }}\n{script}'], capture_output=True, text=True, check=True
    )
    return [SERVICES["worker"]["command"], *(found.split() for found in re.findall(r"harness .*", said.stdout))]


def parse(words: list[str]) -> dict[str, object]:
    """What the command line understands; typer raises its usage error for what it doesn't."""
    command, rest, context = typer.main.get_command(cli.app), words[1:], None
    while hasattr(command, "resolve_command"):
        context = command.make_context(command.name, rest, parent=context)
        _, command, rest = command.resolve_command(context, rest)
    return command.make_context(command.name, rest, parent=context).params


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_a_command_exists_with_these_options(words) -> None:
    assert parse(words)


def test_a_misspelt_option_would_be_noticed() -> None:
    with pytest.raises(Exception, match="No such option"):
        parse(["harness", "topics", "apply", "--devv"])


def test_files_named_by_setup_are_in_the_image() -> None:
    paths = [word for words in commands() for word in words if word.startswith("examples/")]
    assert paths
    assert all((ROOT / path).exists() for path in paths)
    assert "COPY examples examples" in (ROOT / "deploy/Dockerfile").read_text().rpartition("FROM ")[2]


@pytest.mark.parametrize("service", OURS)
def test_its_variables_are_settings(service) -> None:
    environment = SERVICES[service]["environment"]
    assert {name.removeprefix(ENV_PREFIX).lower() for name in environment} <= {f.name for f in fields(Settings)}
    settings = load_settings(env=environment)
    assert settings.dev
    assert f"PLAINTEXT://{settings.bootstrap}" in KAFKA["KAFKA_ADVERTISED_LISTENERS"].split(",")


def test_the_host_reaches_the_broker_and_redis_by_the_default_settings() -> None:
    default = Settings()
    assert f"HOST://{default.bootstrap}" in KAFKA["KAFKA_ADVERTISED_LISTENERS"].split(",")
    assert SERVICES["kafka"]["ports"] == [f"{default.bootstrap}:9092"]
    assert SERVICES["redis"]["ports"] == ["127.0.0.1:6379:6379"]
    assert default.redis_url.startswith("redis://127.0.0.1:6379/")


def test_the_health_check_asks_the_port_of_the_probes() -> None:
    assert f"127.0.0.1:{Settings().metrics_port}/readyz" in SERVICES["worker"]["healthcheck"]["test"][-1]


def test_a_clean_stop_has_the_time_it_may_take() -> None:
    grace_s = int(SERVICES["worker"]["stop_grace_period"].removesuffix("s"))
    assert grace_s * 1000 > DRAIN_MS_MAX + POLL_INTERVAL_MS_MAX


def test_a_stop_during_the_start_is_not_lost() -> None:
    assert all(SERVICES[service]["init"] for service in OURS)


def test_what_a_worker_needs_comes_back_with_it() -> None:
    restarts = {name: service.get("restart") for name, service in SERVICES.items()}
    assert restarts == dict.fromkeys(["kafka", "redis", "worker"], "unless-stopped") | {"setup": None}


def test_it_is_the_broker_that_harness_up_starts() -> None:
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"


def test_the_image_is_built_once_and_never_looked_for_elsewhere() -> None:
    assert [name for name, service in SERVICES.items() if "build" in service] == ["setup"]
    assert {SERVICES[service]["image"] for service in OURS} == {"harness-stream:dev"}
    assert {SERVICES[service]["pull_policy"] for service in OURS} == {"never"}


def test_the_image_is_built_from_all_that_the_wheel_needs() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]
    project = pyproject["project"]
    needed = {
        "pyproject.toml",
        project["readme"],
        *project["license-files"],
        *wheel["packages"],
        *wheel["force-include"],
    }
    build = (ROOT / "deploy/Dockerfile").read_text().split("FROM ")[1]
    copied = {source for line in re.findall(r"^COPY (.*)$", build, re.MULTILINE) for source in line.split()[:-1]}
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert needed <= copied <= sent
