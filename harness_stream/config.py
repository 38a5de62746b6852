"""Settings: flags over `HARNESS_*` over `harness.toml` over these defaults. Frozen once read.

Reading the environment and the file happens here and nowhere else. A setting in the file or among the flags that nobody
knows is an error with a suggestion. The environment is shared (`HARNESS_TEST_*` of our own tests, another program's
`HARNESS_BUILD_ID`), so an unknown variable there is left alone, unless it is so near to a setting that it must be a
typing mistake: then it is named once on standard error, and ignored.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import stat
import tomllib
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness_stream.access import (
    KAFKA_SETTINGS,
    NONE,
    REDIS_SETTINGS,
    SCRAM_512,
    SECRETS,
    KafkaAccess,
    RedisAccess,
    Secret,
    kafka_access,
    redis_access,
    require_no_password,
)
from harness_stream.alarms import Alarm, sound
from harness_stream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIG_FILE = "harness.toml"
# A topic's name has 249 characters at most (Apache Kafka); our longest word after the prefix has 14.
PREFIX_CHARS_MAX = 200
_PREFIX = re.compile(rf"[A-Za-z0-9._-]{{1,{PREFIX_CHARS_MAX}}}")
# As an identifier of an event (`core.scalars`), since every event names the realm.
NAME_CHARS_MAX = 256
_NAME = re.compile(rf"[^\s\x00-\x1f\x7f]{{1,{NAME_CHARS_MAX}}}")
_NAMES: Final = frozenset({"realm", "group", "rule_set"})
_MAY_BE_EMPTY: Final = frozenset({"risk_ignored_rules", "keys", *KAFKA_SETTINGS, *REDIS_SETTINGS})
ENV_PREFIX = "HARNESS_"
COMMAND: Final = "command:"
"""A setting of secrets that begins so is a program to be run, see `secret_source`."""
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH

# A letter wrong or missing leaves 0.8 even of `dev`; `test_bootstrap`, which our tests mean, is at 0.78 of `bootstrap`.
TYPING_MISTAKE_RATIO = 0.8

log = logging.getLogger(__name__)

# 24 h: the longest window a rule may ask for unless the operator keeps the log longer (PROTOCOL §2).
MAX_TIMESPAN_MS_DEFAULT = 24 * 3_600_000


# 1 min: bounds what a worker that lost Redis folds again, and is far below the hour that retention counts on.
SNAPSHOT_INTERVAL_MS_DEFAULT = 60_000

# 5 min and 20: a loop of one denial a second is high risk within half a minute, and an agent that stops is below 0.8
# two minutes later.
RISK_HALF_LIFE_MS_DEFAULT = 300_000
RISK_DENIALS_FULL_DEFAULT = 20

# What one core decides: more from one lane is a runaway, or a lane that wants a worker of its own and a higher setting.
LANE_RATE_DEFAULT = 1_000
# Two seconds' worth: judged within the usual deadline of five even if it comes all at once.
LANE_BURST_DEFAULT = 2_000
# Buckets count in microseconds.
LANE_RATE_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything one process of a realm needs to know.

    Attributes:
        bootstrap: Kafka bootstrap servers, `host:port[,host:port]`.
        redis_url: Redis URL, e.g. `redis://127.0.0.1:6379/0`; not shown, since it may hold a password.
        realm: name of this deployment; topics are `<prefix>.intents` and so on.
        prefix: first part of every topic name.
        partitions: partition count P of intents and verdicts, fixed for a realm's life.
        rule_set: which `active/<rule set>` this realm decides by.
        dev: unsigned records, named in every checkpoint; one replica suffices.
        keys: folder of the realm's keys, see `adapters.signing.keyring`, or `env:NAME` or `command:WORDS`, see
            `secret_source`; empty in a `dev` realm.
        replication: how many brokers must have each record; 0: three, with `dev` one.
        max_timespan_ms: longest window a rule may ask for.
        group: consumer group of the workers.
        metrics_port: HTTP port of liveness, readiness and Prometheus metrics; 0 turns it off.
        metrics_host: address that port binds; loopback unless probes come from elsewhere.
        snapshot_interval_ms: how often changed chains are written to the chains topic.
        hot_units_max: units of state kept in memory per worker before idle ones leave.
        lane_rate: intents a second of one lane that a worker evaluates; more are denied (`rate`).
        lane_burst: how many of them at once, after a silence.
        risk_half_life_ms: after this a denial weighs half in `topologies.risk`.
        risk_denials_full: so many denials at once are risk 1.
        risk_ignored_rules: ids, separated by commas, of rules that deny by that risk; they must not feed it.
        security_protocol: how Kafka is spoken to; empty: SASL_SSL with a `sasl_user`, SSL with a file, else PLAINTEXT.
        sasl_mechanism: how the user proves that he knows the password.
        sasl_user: who connects to Kafka.
        sasl_password: the user's.
        sasl_password_file: file of mode 0600 that holds it instead.
        ssl_ca: PEM file of the CA that vouches for brokers; empty: the system's.
        ssl_cert: PEM file of our own certificate, for brokers that ask for one.
        ssl_key: PEM file of its private key.
        ssl_key_password: of an encrypted key.
        ssl_key_password_file: file of mode 0600 that holds it instead.
        redis_user: who connects to Redis.
        redis_password: the user's.
        redis_password_file: file of mode 0600 that holds it instead.
        redis_ca: as `ssl_ca`, for `rediss://`.
        redis_cert: as `ssl_cert`.
        redis_key: as `ssl_key`.
    """

    bootstrap: str = "127.0.0.1:9092"
    redis_url: str = field(default="redis://127.0.0.1:6379/0", repr=False)
    realm: str = "default"
    prefix: str = "harness"
    partitions: int = 8
    rule_set: str = "production"
    dev: bool = False
    replication: int = 0
    max_timespan_ms: int = MAX_TIMESPAN_MS_DEFAULT
    group: str = "harness-workers"
    metrics_port: int = 9464
    hot_units_max: int = 100_000
    snapshot_interval_ms: int = SNAPSHOT_INTERVAL_MS_DEFAULT
    metrics_host: str = "127.0.0.1"
    lane_rate: int = LANE_RATE_DEFAULT
    lane_burst: int = LANE_BURST_DEFAULT
    risk_half_life_ms: int = RISK_HALF_LIFE_MS_DEFAULT
    risk_denials_full: int = RISK_DENIALS_FULL_DEFAULT
    risk_ignored_rules: str = "too-risky"
    keys: str = ""
    security_protocol: str = ""
    sasl_mechanism: str = SCRAM_512
    sasl_user: str = ""
    sasl_password: Secret = NONE
    sasl_password_file: str = ""
    ssl_ca: str = ""
    ssl_cert: str = ""
    ssl_key: str = ""
    ssl_key_password: Secret = NONE
    ssl_key_password_file: str = ""
    redis_user: str = ""
    redis_password: Secret = NONE
    redis_password_file: str = ""
    redis_ca: str = ""
    redis_cert: str = ""
    redis_key: str = ""

    @property
    def kafka(self) -> KafkaAccess:
        """The way into Kafka: what every client of it is made of.

        Raises:
            ConfigError: its settings contradict each other, or a file cannot be used.
        """
        return kafka_access(self.bootstrap, {name: getattr(self, name) for name in KAFKA_SETTINGS})

    @property
    def redis(self) -> RedisAccess:
        """The way into Redis.

        Raises:
            ConfigError: as `kafka`.
        """
        return redis_access(self.redis_url, {name: getattr(self, name) for name in REDIS_SETTINGS})



def _coerce(name: str, value: object, where: str) -> object:
    default = next(f.default for f in fields(Settings) if f.name == name)
    if isinstance(default, bool):
        if isinstance(value, bool):
            return value
        if str(value).lower() in {"1", "true", "yes", "0", "false", "no"}:
            return str(value).lower() in {"1", "true", "yes"}
        raise ConfigError(f"{where}: `{name}` must be true or false, not `{value}`")
    if isinstance(default, int):
        try:
            return int(str(value))
        except ValueError:
            raise ConfigError(f"{where}: `{name}` must be a whole number, not `{value}`") from None
    return Secret(str(value)) if isinstance(default, Secret) else str(value)


def _known(name: str, where: str) -> str:
    names = [f.name for f in fields(Settings)]
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, 1)
    raise ConfigError(
        f"{where}: unknown setting `{name}`",
        hint=f"did you mean `{near[0]}`?" if near else f"known settings: {', '.join(names)}",
    )


def _from_file(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    if str(table.get("keys", "")).startswith(COMMAND) and path.stat().st_mode & _OTHERS_WRITE:
        hint = f"chmod go-w {path}"
        raise ConfigError(f"{path}: `keys` is a command, and others may write what it is", hint=hint)
    found = {_known(k, str(path)): _coerce(k, v, str(path)) for k, v in table.items()}
    _require_no_secret(found, str(path))
    return found


def _require_no_secret(found: Mapping[str, Any], where: str) -> None:
    """A settings file is shared and committed, a command line is seen by everybody on the machine."""
    for name in sorted(SECRETS & found.keys()):
        raise ConfigError(
            f"{where}: `{name}` is a secret, and does not belong there",
            hint=f"set {ENV_PREFIX}{name.upper()}, or `{name}_file`: a file of mode 0600 that holds it",
        )
    if isinstance(url := found.get("redis_url"), str):
        require_no_password(url, where)


def _from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    names = [f.name for f in fields(Settings)]
    found = {k: k[len(ENV_PREFIX) :].lower() for k in env if k.startswith(ENV_PREFIX)}
    for variable, name in found.items():
        if name not in names and (meant := _meant(name, names)) is not None:
            _say_once(f"{variable} is no setting and is ignored; did you mean {ENV_PREFIX}{meant.upper()}?")
    return {name: _coerce(name, env[key], key) for key, name in found.items() if name in names}


def _meant(name: str, known: list[str]) -> str | None:
    """The setting that a variable must have been meant for: nearly its name, or its name with a word more or less."""
    near = difflib.get_close_matches(name, known, 1, TYPING_MISTAKE_RATIO)
    near += [k for k in known if k.startswith(f"{name}_") or name.startswith(f"{k}_")]
    return near[0] if near else None


@cache
def _say_once(text: str) -> None:
    """Without any set-up of logging, as in a command, this is a plain line on standard error."""
    sound(log, Alarm.SETTING_IGNORED, text)


def _check_texts(settings: Settings) -> None:
    """A text that is empty was meant to be something: an unset variable of a script, as a rule."""
    for name in (f.name for f in fields(Settings) if isinstance(f.default, str) and f.name not in _MAY_BE_EMPTY):
        text = getattr(settings, name)
        if not text.strip():
            raise ConfigError(f"`{name}` is empty", hint="leave it out to get its default, or say what it is")
        if name in _NAMES and not _NAME.fullmatch(text):
            raise ConfigError(f"`{name}` cannot be `{text}`", hint=f"at most {NAME_CHARS_MAX} characters, no blanks")


def load_settings(path: Path | None = None, env: Mapping[str, str] | None = None, **flags: object) -> Settings:
    """Read settings once, at the edge.

    Args:
        path: a settings file that must exist; default `harness.toml` in the current directory, if there.
        env: the environment; default the process's.
        flags: what the command line said; None means not given.

    Raises:
        ConfigError: a setting is unknown or malformed, or `path` does not exist.
    """
    if path is not None and not path.exists():
        raise ConfigError(f"settings file `{path}` does not exist")
    values = _from_file(path or Path(CONFIG_FILE))
    values |= _from_environment(os.environ if env is None else env)
    given = {_known(k, "flags"): _coerce(k, v, "flags") for k, v in flags.items() if v is not None}
    _require_no_secret(given, "flags")
    values |= given
    settings = replace(Settings(), **values)
    if not _PREFIX.fullmatch(settings.prefix):
        raise ConfigError(
            f"`prefix` is the first part of topic names, and `{settings.prefix}` cannot be one",
            hint=f"use letters, digits, `.`, `_` and `-`, at most {PREFIX_CHARS_MAX}",
        )
    _check_texts(settings)
    if settings.partitions < 1:
        raise ConfigError("`partitions` must be at least 1")
    if settings.lane_burst < 1 or not 1 <= settings.lane_rate <= LANE_RATE_MAX:
        raise ConfigError(f"`lane_burst` must be at least 1, and `lane_rate` 1 to {LANE_RATE_MAX:,}")
    if min(settings.risk_half_life_ms, settings.risk_denials_full) < 1:
        raise ConfigError("`risk_half_life_ms` and `risk_denials_full` must be at least 1")
    return settings
