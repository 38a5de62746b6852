"""What it means that a broker lets a client not in, or not do what it asked for, in words that say what to do.

Rule of this file: librdkafka tries again for ever and tells of it only through its error callback, so each client has
one; whoever waits for an answer looks here and gives up, whoever runs on raises an alarm. A secret is in no text.
"""

from __future__ import annotations

import logging
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError

from harness_stream.access import SASL_SSL, SSL, KafkaAccess
from harness_stream.alarms import Alarm, sound
from harness_stream.errors import AccessRefused
from harness_stream.wire import acls

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

# One of several brokers may have a wrong certificate, or not know a new user yet, while another one answers.
SECOND_CHANCE_S: Final = 1.0
# Librdkafka connects again up to ten times a second; a log needs it once in a while.
ALARM_S: Final = 60.0

_KINDS: Final = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "group",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "cluster",
}
"""What a broker answers to who has no right → the kind of thing that it is missing on."""
_WITHOUT_PLACE: Final = re.compile(r"^\S+/\S+: | \(after \d+ms in state [^)]*\)$")


def is_denial(error: KafkaError) -> bool:
    """Did a broker say that a right is missing?"""
    return error.code() in _KINDS


def denied(access: KafkaAccess, kind: str, name: str, *operations: str) -> AccessRefused:
    """A right is missing: which, and the command that gives it.

    Args:
        access: who asked.
        kind: `topic`, `group` or `cluster`.
        name: of the thing.
        operations: what was wanted.
    """
    words = " and ".join(operations)
    able = [set(acls.roles_that_may(kind, name, operation)) for operation in operations]
    roles = [r for r in acls.roles_that_may(kind, name, operations[0]) if all(r in a for a in able)]
    role = roles[0] if roles else "ROLE"
    others = f" ({', '.join(roles[1:])} may, too)" if roles[1:] else ""
    return AccessRefused(
        f"{access.who} may not {words} {kind} `{name}`: the right is missing",
        hint="who administers ACLs gives it: "
        f"`harness topics apply --acls --principal {role}={access.principal}`{others}{_whose(access)}",
    )


def _whose(access: KafkaAccess) -> str:
    """A broker makes a name of a certificate by rules of its own."""
    named = access.user or not access.tls.cert
    return "" if named else "; NAME is the certificate's whole subject, unless the broker maps it"


def denied_by(access: KafkaAccess, error: KafkaError, name: str = "", *operations: str) -> AccessRefused:
    """The same, of what a broker has answered.

    Args:
        access: who asked.
        error: one of which `is_denial` is true.
        name: of the thing; empty if it is not known here.
        operations: what was wanted.
    """
    kind = _KINDS[error.code()]
    if kind == "cluster":
        return denied(access, kind, acls.CLUSTER, *(operations or (acls.ALTER,)))
    if not name:
        return AccessRefused(
            f"{access.who} has no right on a {kind}: {error.str()}",
            hint=f"`harness topics apply --acls --check --principal ROLE={access.principal}` shows which is missing",
        )
    return denied(access, kind, name, *(operations or (acls.READ,)))


def refusal(access: KafkaAccess, error: KafkaError) -> AccessRefused | None:
    """What a failed connection means; None if it does not mean that somebody has to correct something."""
    text = _WITHOUT_PLACE.sub("", error.str())
    at = f"Kafka at {access.bootstrap}"
    if error.code() == KafkaError._AUTHENTICATION:  # noqa: SLF001  public name of librdkafka's local error
        return _unauthenticated(access, at, text)
    if error.code() == KafkaError._SSL:  # noqa: SLF001  same
        return _untrusted(access, at, text)
    if "PLAINTEXT broker listener" in text:
        return AccessRefused(
            f"{at} does not encrypt on this port, and `security_protocol` is {access.protocol}",
            hint="name the port of its TLS listener in `bootstrap`",
        )
    if "alert" in text and access.encrypted:
        return _our_certificate(access, at, text)
    return None


def _unauthenticated(access: KafkaAccess, at: str, text: str) -> AccessRefused:
    if "nsupported SASL mechanism" in text:
        return AccessRefused(
            f"{at} does not take SASL mechanism {access.mechanism}: {text.rpartition('mechanism: ')[2]}",
            hint="set `sasl_mechanism` (HARNESS_SASL_MECHANISM) to one that it takes",
        )
    return AccessRefused(
        f"{at} refuses user `{access.user}`: wrong user or password ({access.mechanism})",
        hint="correct `sasl_user` and its password (HARNESS_SASL_PASSWORD or `sasl_password_file`); "
        "docs/transport.md says how a user gets one",
    )


def _untrusted(access: KafkaAccess, at: str, text: str) -> AccessRefused:
    ca = f"`ssl_ca` `{access.tls.ca}`" if access.tls.ca else "the system's CAs (there is no `ssl_ca`)"
    if "expired" in text:
        return AccessRefused(f"the certificate of {at} has expired", hint="who runs the broker renews it")
    if "mismatch" in text:
        return AccessRefused(
            f"the certificate of {at} is for another name",
            hint="name the broker in `bootstrap` as its certificate does, or have it certified for this name",
        )
    if "verify failed" in text:
        return AccessRefused(
            f"the certificate of {at} is not vouched for by {ca}",
            hint="set `ssl_ca` (HARNESS_SSL_CA) to the PEM file of the CA that signed it; is this the right broker?",
        )
    if "alert" in text:
        return _our_certificate(access, at, text)
    return AccessRefused(f"no TLS with {at}: {text}", hint="is this the port of a TLS listener?")


def _our_certificate(access: KafkaAccess, at: str, text: str) -> AccessRefused:
    cert = access.tls.cert
    if not cert:
        return AccessRefused(
            f"{at} wants a certificate from its clients", hint="set `ssl_cert` and `ssl_key`, or another port"
        )
    ends = expiry(cert)
    if ends is not None and ends < datetime.now(UTC):
        return AccessRefused(f"our certificate `{cert}` expired at {ends:%Y-%m-%d %H:%M} UTC", hint="renew `ssl_cert`")
    return AccessRefused(
        f"{at} does not accept our certificate `{cert}` ({text.rpartition('alert ')[2]})",
        hint="`ssl_cert` must be signed by a CA that the broker trusts",
    )


def expiry(path: str) -> datetime | None:
    """Until when a PEM certificate counts; None if it cannot be read."""
    from cryptography import x509  # noqa: PLC0415  only an error needs it

    try:
        return x509.load_pem_x509_certificate(Path(path).read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return None


class Refusals:
    """What one client was refused: the callback that librdkafka tells.

    Args:
        access: who it is.
        elapsed_s: a clock for durations.
    """

    def __init__(self, access: KafkaAccess, elapsed_s: Callable[[], float] = time.monotonic) -> None:
        self._access, self._elapsed_s = access, elapsed_s
        self._first: tuple[AccessRefused, float] | None = None
        self.nobody = False  # nothing listens at one of the addresses
        self._sounded_s: dict[str, float] = {}

    def note(self, error: KafkaError) -> None:
        """Take an error of a connection."""
        self.nobody |= "Connect to" in error.str()
        found = refusal(self._access, error)
        if found is not None and self._first is None:
            self._first = found, self._elapsed_s()

    def due(self) -> AccessRefused | None:
        """The first refusal, once nobody else has answered for a while."""
        if self._first is None or self._elapsed_s() - self._first[1] < SECOND_CHANCE_S:
            return None
        return self._first[0]

    def first(self) -> AccessRefused | None:
        """The first refusal."""
        return None if self._first is None else self._first[0]

    def alarm(self, error: KafkaError, name: str = "", *operations: str) -> None:
        """Take an error of a client that runs on, and log what it means, once in a while."""
        denial = denied_by(self._access, error, name, *operations) if is_denial(error) else None
        found = denial or refusal(self._access, error)
        if found is None:
            return
        now_s = self._elapsed_s()
        if now_s - self._sounded_s.get(found.message, -ALARM_S) >= ALARM_S:
            self._sounded_s[found.message] = now_s
            sound(log, Alarm.ACCESS_REFUSED, f"{found.message}; {found.hint}")


def wrong_port(access: KafkaAccess) -> str:
    """What to look at where a listener of another protocol hangs up without a word."""
    if access.encrypted:
        return f"if it is up, does this port speak {access.protocol}?"
    return f"if it is up, does this port want `security_protocol` {SASL_SSL} or {SSL}?"
