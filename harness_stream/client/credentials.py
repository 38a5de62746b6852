"""Who a client is and where its realm lives: one JSON file, its text from elsewhere, or the same words as arguments.

Rule of this file: every mistake is named with its place before anything is connected.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from harness_stream.access import KAFKA_SETTINGS, PATHS, SCRAM_512, SECRETS, Secret
from harness_stream.client.fingerprints import dev_key, read_key
from harness_stream.config import load_settings
from harness_stream.core.refusals import refusals
from harness_stream.core.scalars import Identifier  # noqa: TC001  pydantic reads it at run time
from harness_stream.errors import ConfigError
from harness_stream.private_files import require_private
from harness_stream.secret_source import document_of, is_secret_source, named

# What is read of a file that claims to hold credentials; real ones are below 1 KiB.
_FILE_CHARS_MAX = 65_536
# Two names of ≤ 256 characters of ≤ 4 bytes, two keys, two signatures, framing; as base64url.
_CERTIFICATE_CHARS_MAX = 4_096


def _is_key(text: SecretStr) -> SecretStr:
    try:
        read_key(text.get_secret_value())
    except ValueError as error:
        raise ValueError(f"a fingerprint key is 32 bytes as base64url, and {error}") from None
    return text


def _is_signing_key(text: SecretStr) -> SecretStr:
    _is_public_key(text.get_secret_value())
    return text


def _is_public_key(text: str) -> str:
    try:
        read_key(text)
    except ValueError as error:
        raise ValueError(f"a key is 32 bytes as base64url, and {error}") from None
    return text


PrivateKeyText = Annotated[SecretStr, AfterValidator(_is_signing_key)]
PublicKeyText = Annotated[str, AfterValidator(_is_public_key)]


class SpeakerKeys(BaseModel):
    """One identity's private keys, 32 bytes each as base64url.

    Attributes:
        mac: X25519, for intents and outcomes.
        sign: Ed25519, for mandates, approvals and tokens.
        certificate: of `sign`, by which executors believe an enforcer's tokens; base64url.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mac: PrivateKeyText
    sign: PrivateKeyText
    certificate: Annotated[str, Field(max_length=_CERTIFICATE_CHARS_MAX)] | None = None


class Credentials(BaseModel):
    """What a client must know of itself and its realm.

    Attributes:
        realm: name of the deployment.
        agent_id: the agent that acts.
        lane: whose history its own is kept with: the identity row's lane, else its tenant, else the agent (default).
        workload_id: where it runs; default the agent's id.
        bootstrap: Kafka bootstrap servers, `host:port[,host:port]`.
        prefix: first part of every topic name.
        partitions: P, if it shall be checked; else the broker is asked.
        incarnation: ids of the two log topics, if they shall be checked; else the broker is asked.
        enforcer: identity with role `enforcer`, not the agent, that reports outcomes; only such a one is believed that
            an approved action never started (`abandoned`), which takes it out of what counts. Default the agent.
        dev: the realm is unsigned.
        fingerprint_key: the realm's key of value fingerprints, 32 bytes as base64url (`secrets.token_urlsafe(32)`);
            the same for every client and orchestrator of the realm. Without one a `dev` realm's is made of its name,
            which hides nothing from who knows the name; elsewhere no value can be named, and rules about origin deny.
        keys: the agent's own, as `harness agents enroll` made them; needed unless the realm is `dev`.
        others: keys of other identities that this process speaks for: its `enforcer`, an orchestrator.
        pdp_key: the PDP's public key, with whom MAC keys are shared.
        root_key: the realm's public root key, by which verdicts are believed.
        nonrepudiable: actions, or prefixes ending in `*`, whose intents are signed besides their MAC; workers refuse
            those that are not where the tool's row asks for it.
        security_protocol: this and the rest: the way into Kafka, as the settings of the same names; see `config`. A
            file that names any of them names all; else they are the process's settings. Paths in a file are relative
            to it.
        sasl_mechanism: see there.
        sasl_user: see there.
        sasl_password: see there.
        sasl_password_file: see there.
        ssl_ca: see there.
        ssl_cert: see there.
        ssl_key: see there.
        ssl_key_password: see there.
        ssl_key_password_file: see there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    realm: Identifier = "default"
    agent_id: Identifier
    lane: Identifier = ""
    workload_id: Identifier = ""
    bootstrap: Annotated[str, Field(min_length=1)] = "127.0.0.1:9092"
    prefix: Annotated[str, Field(min_length=1)] = "harness"
    partitions: Annotated[int, Field(ge=1)] | None = None
    incarnation: str | None = None
    enforcer: Identifier | None = None
    dev: bool = False
    fingerprint_key: Annotated[SecretStr, AfterValidator(_is_key)] | None = None
    keys: SpeakerKeys | None = None
    others: dict[Identifier, SpeakerKeys] = {}
    pdp_key: PublicKeyText | None = None
    root_key: PublicKeyText | None = None
    nonrepudiable: tuple[str, ...] = ()
    security_protocol: str = ""
    sasl_mechanism: str = SCRAM_512
    sasl_user: str = ""
    sasl_password: SecretStr = SecretStr("")
    sasl_password_file: str = ""
    ssl_ca: str = ""
    ssl_cert: str = ""
    ssl_key: str = ""
    ssl_key_password: SecretStr = SecretStr("")
    ssl_key_password_file: str = ""

    def transport(self) -> dict[str, str | Secret]:
        """The settings that say how Kafka is reached."""
        return {name: self._setting(name) for name in KAFKA_SETTINGS}

    def _setting(self, name: str) -> str | Secret:
        value = getattr(self, name)
        return Secret(value.get_secret_value()) if name in SECRETS else str(value)

    def home(self) -> str:
        """The lane."""
        return self.lane or self.agent_id

    def place(self) -> str:
        """The workload."""
        return self.workload_id or self.agent_id

    def reporter(self) -> str:
        """Who outcomes are by."""
        return self.enforcer or self.agent_id

    def signs(self, action: str) -> bool:
        """Is an intent to do this signed besides its MAC?"""
        return any(action == said or (said[-1:] == "*" and action.startswith(said[:-1])) for said in self.nonrepudiable)

    def value_key(self) -> bytes | None:
        """The key of value fingerprints; None if there is none."""
        if self.fingerprint_key is not None:
            return read_key(self.fingerprint_key.get_secret_value())
        return dev_key(self.realm) if self.dev else None

    @classmethod
    def of(cls, source: str | Path | Self | None, **given: object) -> Self:
        """Credentials from words over a file over the process's settings (`HARNESS_*`, harness.toml). None: not given.

        Args:
            source: a file; or `env:NAME`, a variable that holds its text, or `command:WORDS`, a program that prints it.
            given: single fields.

        Raises:
            ConfigError: the file is missing or not JSON, or a field is missing, unknown or malformed.
        """
        found = {name: value for name, value in given.items() if value is not None}
        if isinstance(source, cls):
            found = source.model_dump(exclude_unset=True) | found
        elif source is not None:
            found = _read(str(source)) | found
        settings = load_settings()
        names = ["bootstrap", "realm", "prefix", "dev"]
        names += [] if found.keys() & set(KAFKA_SETTINGS) else KAFKA_SETTINGS
        ours = {name: getattr(settings, name) for name in names}
        found = {k: v.reveal() if isinstance(v, Secret) else v for k, v in ours.items()} | found
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            raise ConfigError(_mistakes(error, source), hint="see `harness_stream.client.credentials`") from None


def _read(source: str) -> dict[str, object]:
    if is_secret_source(source):
        return dict(document_of(source))
    path = Path(source)
    try:
        with path.open(encoding="utf-8") as file:
            content = json.loads(file.read(_FILE_CHARS_MAX))
    except OSError as error:
        hint = "`harness agents enroll` writes one; is it in this folder?"
        raise ConfigError(f"credentials file `{path}` cannot be read: {error.strerror}", hint=hint) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"credentials file `{path}` cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"credentials file `{path}` must hold one JSON object")
    if any(content.get(name) for name in ("keys", "others", *SECRETS)):
        require_private(path)
    here = {name: str(path.parent / content[name]) for name in PATHS & content.keys() if content[name]}
    return content | here


def _mistakes(error: ValidationError, source: object) -> str:
    if isinstance(source, str) and is_secret_source(source):
        where = f"credentials in {named(source)}"
    else:
        where = f"credentials file `{source}`" if isinstance(source, str | Path) else "credentials"
    listed = "; ".join(f"`{'.'.join(map(str, r.loc))}`: {r.message}" for r in refusals(error))
    return f"{where}: {listed}"
