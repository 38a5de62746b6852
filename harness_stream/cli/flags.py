"""Settings as flags: flags over `HARNESS_*` over `harness.toml` (DESIGN §10).

Rule of this file: a setting has one flag, one spelling and one line of help. A command names the settings it reads and
is handed them read; so none can take a setting by another name, or forget the one that says which realm is meant.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Final, get_type_hints

import typer

from harness_stream.access import KAFKA_SETTINGS, MECHANISMS, PROTOCOLS, REDIS_SETTINGS, SECRETS
from harness_stream.cli.elsewhere import pointing_elsewhere
from harness_stream.config import ENV_PREFIX, Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PANEL: Final = f"Settings (each also as {ENV_PREFIX}… or in harness.toml)"
TRANSPORT: Final = f"Transport (docs/transport.md; passwords only as {ENV_PREFIX}… or in files)"
SETTINGS: Final = "settings"
"""The parameter of a command that is handed what was read."""


@dataclass(frozen=True, slots=True)
class Flag:
    """How a setting is given on a command line.

    Attributes:
        help: its line in `--help`.
        name: the flag, where it is not the setting's own name.
        least: smallest value, of a number.
        panel: its group in `--help`.
    """

    help: str
    name: str | None = None
    least: int | None = None
    panel: str = PANEL


FLAGS: Final[Mapping[str, Flag]] = {
    "bootstrap": Flag("Kafka bootstrap servers, host:port, separated by commas."),
    "prefix": Flag("First part of every topic name."),
    "realm": Flag("Name of the deployment; every event names it."),
    "dev": Flag("Unsigned records, and one replica suffices: for one machine, not for production."),
    "keys": Flag("Folder of the realm's keys (`harness keys init`); or env:NAME, command:WORDS."),
    "replication": Flag("Replicas of each topic, two of them in sync; 0: three, with --dev one.", least=0),
    "redis_url": Flag("Redis URL (HARNESS_REDIS_URL).", "--redis"),
    "rule_set": Flag("The rule set this realm decides by."),
    "partitions": Flag("Partition count P, fixed for a realm's life.", least=1),
    "max_timespan_ms": Flag("Longest window a rule may ask for, ms.", least=1),
    "snapshot_interval_ms": Flag("How often changed chains are written to the log, ms.", least=1),
    "group": Flag("Consumer group of the workers."),
    "hot_units_max": Flag("Units of state a worker keeps in memory.", least=1),
    "lane_rate": Flag("Intents a second of one lane that are evaluated; more are denied.", least=1),
    "lane_burst": Flag("How many of them at once, after a silence.", least=1),
    "metrics_port": Flag("HTTP port of /livez, /readyz and /metrics; 0: none.", least=0),
    "metrics_host": Flag("Address that port binds."),
    "risk_half_life_ms": Flag("After this a denial weighs half, ms.", least=1),
    "risk_denials_full": Flag("So many denials at once are risk 1.", least=1),
    "risk_ignored_rules": Flag("Ids of rules that deny by that risk, separated by commas."),
    "security_protocol": Flag(f"{', '.join(PROTOCOLS)}; default by what else is said.", panel=TRANSPORT),
    "sasl_mechanism": Flag(f"{', '.join(MECHANISMS)}.", panel=TRANSPORT),
    "sasl_user": Flag("Kafka user.", panel=TRANSPORT),
    "sasl_password_file": Flag("File with the user's password.", panel=TRANSPORT),
    "ssl_ca": Flag("PEM file of the CA that vouches for brokers.", panel=TRANSPORT),
    "ssl_cert": Flag("PEM file of our certificate, for brokers.", panel=TRANSPORT),
    "ssl_key": Flag("PEM file of its private key.", panel=TRANSPORT),
    "ssl_key_password_file": Flag("File with the password of that key.", panel=TRANSPORT),
    "redis_user": Flag("Redis ACL user.", panel=TRANSPORT),
    "redis_password_file": Flag("File with the user's password.", panel=TRANSPORT),
    "redis_ca": Flag("PEM file of the CA that vouches for Redis (rediss://).", panel=TRANSPORT),
    "redis_cert": Flag("PEM file of our certificate, for Redis.", panel=TRANSPORT),
    "redis_key": Flag("PEM file of its private key.", panel=TRANSPORT),
}
"""Every setting but secrets."""

_WITH: Final[Mapping[str, tuple[str, ...]]] = {"bootstrap": KAFKA_SETTINGS, "redis_url": REDIS_SETTINGS}
"""Who takes a server's address takes the way into it."""


def takes(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the flags of these settings; it gets them as its keyword `settings`.

    Raises:
        ConfigError: when the command is run: a setting is unknown or malformed.
    """
    along = [name for known in names for name in (known, *_WITH.get(known, ()))]
    names = tuple(dict.fromkeys(name for name in along if name not in SECRETS))

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def run(**given: Any) -> None:  # noqa: ANN401  whatever the command takes
            flags = {name: given.pop(name) for name in names}
            settings = load_settings(**flags)
            with pointing_elsewhere(settings):
                command(settings=settings, **given)

        own = _own_parameters(command)
        flags = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in names]
        hints = {p.name: p.annotation for p in own} | {name: _hint(name) for name in names}
        run.__doc__, run.__module__, run.__name__ = command.__doc__, command.__module__, command.__name__
        run.__annotations__ = hints
        parameters = [p.replace(annotation=hints[p.name]) for p in (*own, *flags)]
        vars(run)["__signature__"] = inspect.Signature(parameters)
        return run

    return decorate


def _own_parameters(command: Callable[..., None]) -> list[inspect.Parameter]:
    """What the command takes besides settings, annotations resolved: typer would look for their names in this file."""
    declared = inspect.signature(command).parameters
    texts = {name: p.annotation for name, p in declared.items() if name != SETTINGS}
    holder = type("Declared", (), {"__annotations__": texts})
    hints = get_type_hints(holder, vars(inspect.getmodule(command)), include_extras=True)
    return [declared[name].replace(annotation=hints[name]) for name in texts]


def _hint(name: str) -> Any:  # noqa: ANN401  an annotation
    """The annotation by which typer makes the flag: of the setting's type, None if it is not given."""
    kind = next(type(field.default) for field in fields(Settings) if field.name == name)
    flag = FLAGS[name]
    spelled = flag.name or f"--{name.replace('_', '-')}"
    return Annotated[kind | None, typer.Option(spelled, help=flag.help, min=flag.least, rich_help_panel=flag.panel)]
