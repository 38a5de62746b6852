"""How a process gets into Kafka and Redis: who it is there, by which secret, and whom it believes to be the server.

Rule of this file: a secret is wrapped where it is read and only an adapter reveals it; what contradicts itself, or
would send a secret to whoever listens, is refused before anything is connected. There is no switch that leaves a
server's certificate unverified.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlsplit

from harness_stream.errors import ConfigError
from harness_stream.private_files import require_private

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL = "PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"
PROTOCOLS: Final = (PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL)
SCRAM_512: Final = "SCRAM-SHA-512"
MECHANISMS: Final = (SCRAM_512, "SCRAM-SHA-256", "PLAIN")
SECRET_CHARS_MAX: Final = 4_096  # a file that holds more is not a password's
FILE_SUFFIX: Final = "_file"
"""A setting `x_file` names a file that holds the secret `x`."""

KAFKA_SETTINGS: Final = (
    "security_protocol",
    "sasl_mechanism",
    "sasl_user",
    "sasl_password",
    "sasl_password_file",
    "ssl_ca",
    "ssl_cert",
    "ssl_key",
    "ssl_key_password",
    "ssl_key_password_file",
)
REDIS_SETTINGS: Final = ("redis_user", "redis_password", "redis_password_file", "redis_ca", "redis_cert", "redis_key")
SECRETS: Final = frozenset({"sasl_password", "ssl_key_password", "redis_password"})
"""Never a flag, since everybody on the machine sees a command line, and never in `harness.toml`, which is shared."""
PATHS: Final = frozenset(
    {"sasl_password_file", "ssl_ca", "ssl_cert", "ssl_key", "ssl_key_password_file"}
    | {"redis_password_file", "redis_ca", "redis_cert", "redis_key"}
)


class Secret:
    """A text that shows itself to nobody by accident: not in a traceback, a log line, `repr` or JSON."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text, for whom it is meant."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(Secret)  # a number made of the text would tell something of it

    def __repr__(self) -> str:
        return "Secret(***)" if self._text else "Secret()"

    __str__ = __repr__

    def __deepcopy__(self, memo: dict[int, object]) -> Secret:
        return self  # it never changes

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")


NONE: Final = Secret("")


@dataclass(frozen=True, slots=True)
class Tls:
    """Whom to believe, and how to prove who we are; texts are paths of PEM files, empty for none.

    Attributes:
        ca: certificates of who may vouch for the server; none: those of the system.
        cert: our own certificate.
        key: its private key.
        key_password: of an encrypted key.
    """

    ca: str = ""
    cert: str = ""
    key: str = ""
    key_password: Secret = NONE

    def context(self) -> ssl.SSLContext:
        """What Python's own TLS needs to do the same.

        Raises:
            ValueError: the files do not belong together, or hold something else; begins with which, and a backtick.
        """
        import ssl  # noqa: PLC0415  a command that connects nowhere does not pay for it

        try:
            # With a CA of ours the system's are believed no more: loading ours into the default would add it to them.
            context = ssl.create_default_context(cafile=self.ca or None)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise ValueError(f"ca`: {error}") from None
        try:
            if self.cert:
                # A text, also an empty one: without any, OpenSSL would ask whoever sits at the terminal.
                context.load_cert_chain(self.cert, self.key, self.key_password.reveal())
        except (OSError, ValueError) as error:
            raise ValueError(f"cert`: {error}") from None
        return context


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """A way into a Kafka cluster.

    Attributes:
        bootstrap: servers, `host:port[,host:port]`.
        protocol: one of `PROTOCOLS`.
        mechanism: one of `MECHANISMS`, where there is a user.
        user: SASL user, empty for none.
        password: the user's.
        tls: certificates.
    """

    bootstrap: str
    protocol: str = PLAINTEXT
    mechanism: str = SCRAM_512
    user: str = ""
    password: Secret = NONE
    tls: Tls = Tls()

    @property
    def encrypted(self) -> bool:
        """Does TLS protect the connection?"""
        return self.protocol in {SSL, SASL_SSL}

    @property
    def principal(self) -> str:
        """As ACLs name who connects; a certificate's name is the broker's to map."""
        if self.user:
            return f"User:{self.user}"
        return "User:NAME" if self.tls.cert else "User:ANONYMOUS"

    @property
    def who(self) -> str:
        """Who connects, for people."""
        return f"certificate `{self.tls.cert}`" if self.tls.cert and not self.user else f"`{self.principal}`"


@dataclass(frozen=True, slots=True)
class RedisAccess:
    """A way into a Redis server.

    Attributes:
        url: `redis://`, `rediss://` or `unix://`; may hold a user and a password, so it is shown to nobody.
        user: ACL user; empty: the one in the URL, else `default`.
        password: the user's; empty: the one in the URL.
        tls: certificates.
    """

    url: str
    user: str = ""
    password: Secret = NONE
    tls: Tls = Tls()

    @property
    def encrypted(self) -> bool:
        """Does TLS protect the connection?"""
        return urlsplit(self.url).scheme == "rediss"

    @property
    def place(self) -> str:
        """The URL without user, password and options, for people."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def who(self) -> str:
        """The ACL user."""
        return self.user or urlsplit(self.url).username or "default"

    def __repr__(self) -> str:
        return f"RedisAccess({self.place})"


def kafka_at(where: KafkaAccess | str) -> KafkaAccess:
    """A plain address is that of a broker which asks nobody who he is."""
    return KafkaAccess(where) if isinstance(where, str) else where


def redis_at(where: RedisAccess | str) -> RedisAccess:
    """A plain URL needs nothing else."""
    return redis_access(where, {}) if isinstance(where, str) else where


def kafka_access(bootstrap: str, said: Mapping[str, str | Secret]) -> KafkaAccess:
    """A way in, of the settings `KAFKA_SETTINGS`; absent and empty ones are not set.

    Raises:
        ConfigError: settings contradict each other, one is missing, or a file cannot be used.
    """
    words = {name: str(value) for name, value in said.items() if isinstance(value, str) and value}
    user, protocol = words.get("sasl_user", ""), _protocol(words)
    mechanism = words.get("sasl_mechanism", SCRAM_512).upper()
    if mechanism not in MECHANISMS:
        raise ConfigError(f"`sasl_mechanism` cannot be `{mechanism}`", hint=f"one of {', '.join(MECHANISMS)}")
    if protocol in {SASL_SSL, SASL_PLAINTEXT} and not user:
        raise ConfigError(f"`security_protocol` {protocol} needs a `sasl_user`", hint="set HARNESS_SASL_USER")
    if protocol in {PLAINTEXT, SSL} and user:
        raise ConfigError(
            f"there is a `sasl_user`, and `security_protocol` {protocol} names nobody to the broker",
            hint=f"`security_protocol` {SASL_SSL}; or leave the user out",
        )
    if protocol == SASL_PLAINTEXT and mechanism == "PLAIN":
        raise ConfigError(
            "PLAIN would send the password to whoever listens: SASL_PLAINTEXT does not encrypt",
            hint=f"`security_protocol` {SASL_SSL}, or `sasl_mechanism` {SCRAM_512}",
        )
    password = _secret("sasl_password", said) if user else NONE
    if user and not password:
        raise ConfigError(
            f"Kafka user `{user}` has no password",
            hint="HARNESS_SASL_PASSWORD, or `sasl_password_file`: a file of mode 0600 that holds it",
        )
    tls = _tls("ssl", said) if protocol in {SSL, SASL_SSL} else Tls()
    return KafkaAccess(bootstrap, protocol, mechanism, user, password, tls)


def _protocol(words: Mapping[str, str]) -> str:
    """As said, else what the other settings ask for."""
    given = words.get("security_protocol", "").upper().replace("-", "_")
    files = [name for name in ("ssl_ca", "ssl_cert", "ssl_key") if words.get(name)]
    if given and given not in PROTOCOLS:
        raise ConfigError(f"`security_protocol` cannot be `{given}`", hint=f"one of {', '.join(PROTOCOLS)}")
    if given in {PLAINTEXT, SASL_PLAINTEXT} and files:
        raise ConfigError(
            f"`security_protocol` {given} does not encrypt, and there is a `{files[0]}`",
            hint=f"`security_protocol` {SSL} or {SASL_SSL}; or leave the files out",
        )
    if given:
        return given
    if words.get("sasl_user"):
        return SASL_SSL
    return SSL if files else PLAINTEXT


def redis_access(url: str, said: Mapping[str, str | Secret]) -> RedisAccess:
    """A way in, of the settings `REDIS_SETTINGS`; absent and empty ones are not set.

    Raises:
        ConfigError: as `kafka_access`.
    """
    try:
        parts = urlsplit(url)
        inside = parts.password is not None
        options = {name for name, _ in parse_qsl(parts.query)}
    except ValueError:  # its text may quote a part of the password
        raise ConfigError("`redis_url` is malformed", hint="e.g. `redis://127.0.0.1:6379/0`") from None
    if forbidden := sorted(name for name in options if name.startswith("ssl_")):
        raise ConfigError(
            f"`redis_url` says `{forbidden[0]}`, and how the server is verified is not said there",
            hint="`redis_ca` names the CA, `redis_cert` and `redis_key` our own certificate; verification stays on",
        )
    words = {name: value for name, value in said.items() if isinstance(value, str) and value}
    files = [name for name in ("redis_ca", "redis_cert", "redis_key") if words.get(name)]
    if files and parts.scheme != "rediss":
        raise ConfigError(f"there is a `{files[0]}`, and `redis_url` does not encrypt", hint="begin it with `rediss://`")
    password = _secret("redis_password", said)
    if inside and (password or words.get("redis_user")):
        raise ConfigError("a password stands in `redis_url` and beside it", hint="leave it out of the URL")
    user = str(words.get("redis_user", ""))
    if user and not password:
        raise ConfigError(
            f"Redis user `{user}` has no password",
            hint="HARNESS_REDIS_PASSWORD, or `redis_password_file`: a file of mode 0600 that holds it",
        )
    return RedisAccess(url, user, password, _tls("redis", said))


def require_no_password(url: str, where: str) -> None:
    """Refuse a URL with a password where everybody can read it.

    Raises:
        ConfigError: it has one.
    """
    if "@" in url and ":" in url.rpartition("@")[0].rpartition("/")[2]:
        raise ConfigError(
            f"{where}: a password in `redis_url` is seen by everybody there",
            hint="leave it out of the URL, and set HARNESS_REDIS_PASSWORD or `redis_password_file`",
        )


def _secret(name: str, said: Mapping[str, str | Secret]) -> Secret:
    """The secret itself, or what its file holds."""
    given, file = said.get(name, NONE), str(said.get(f"{name}{FILE_SUFFIX}", ""))
    found = given if isinstance(given, Secret) else Secret(given)
    if not file:
        return found
    if found:
        raise ConfigError(f"there is a `{name}`, and a `{name}{FILE_SUFFIX}` as well", hint="leave one of them out")
    require_private(Path(file))
    try:
        with Path(file).open(encoding="utf-8") as opened:
            text = opened.read(SECRET_CHARS_MAX + 1).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"`{name}{FILE_SUFFIX}`: `{file}` cannot be read: {why}") from None
    if not text or len(text) > SECRET_CHARS_MAX:
        raise ConfigError(f"`{name}{FILE_SUFFIX}`: `{file}` " + ("is empty" if not text else "holds no password"))
    return Secret(text)


def _tls(prefix: str, said: Mapping[str, str | Secret]) -> Tls:
    """Certificates, once each file was looked into: what a handshake would say of them later is said of none."""
    ca, cert, key = (str(said.get(f"{prefix}_{name}", "")) for name in ("ca", "cert", "key"))
    if bool(cert) != bool(key):
        has, lacks = ("cert", "key") if cert else ("key", "cert")
        raise ConfigError(f"there is a `{prefix}_{has}` and no `{prefix}_{lacks}`", hint="they belong together")
    for name, path in (("ca", ca), ("cert", cert), ("key", key)):
        if path and not os.access(path, os.R_OK):
            raise ConfigError(f"`{prefix}_{name}`: `{path}` cannot be read", hint="is it there, and may you read it?")
    if key:
        require_private(Path(key))
    tls = Tls(ca, cert, key, _secret(f"{prefix}_key_password", said) if key else NONE)
    if not (ca or cert):
        return tls  # there is nothing to look into, and the system's CAs take a tenth of a second
    try:
        tls.context()
    except ValueError as error:
        raise ConfigError(
            f"`{prefix}_{error}",
            hint="PEM files; a key belongs to its certificate, and `ssl_key_password_file` opens an encrypted one",
        ) from None
    return tls
