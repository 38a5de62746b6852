"""What it means that Redis lets a client not in, or not do what it asked for, in words that say what to do.

Rule of this file: no secret is in a text; what is no refusal is None, and counts as a server that does not answer.
"""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Final

from redis.exceptions import AuthenticationError, NoPermissionError

from harness_stream.errors import StateRefused

if TYPE_CHECKING:
    from harness_stream.access import RedisAccess

PAGE: Final = "docs/transport.md"
# A script runs with the rights of its caller; what it may not do comes back as an error of the script.
_IN_A_SCRIPT: Final = re.compile(r"can't run this command|can't access at least one of the keys|NOPERM")
_COMMAND: Final = re.compile(r"'([a-z|]+)' command")


def refusal(access: RedisAccess, error: Exception) -> StateRefused | None:
    """What somebody has to correct; None if the server just does not answer."""
    text = str(error)
    if isinstance(error, NoPermissionError) or _IN_A_SCRIPT.search(text):
        command = _COMMAND.search(text)
        what = f"run `{command[1]}`" if command else "do what the state store does"
        return StateRefused(
            f"Redis user `{access.who}` may not {what} at {access.place}",
            hint=f"{PAGE} has the `ACL SETUSER` line with the commands and keys that are needed",
        )
    if isinstance(error, AuthenticationError):
        return _unauthenticated(access, text)
    if "CERTIFICATE_VERIFY_FAILED" in text or isinstance(error, ssl.SSLError) or "[SSL" in text:
        return _untrusted(access, text)
    return None


def _unauthenticated(access: RedisAccess, text: str) -> StateRefused:
    if not access.password and "@" not in access.url:
        return StateRefused(
            f"Redis at {access.place} wants a user and a password",
            hint="set `redis_user` and HARNESS_REDIS_PASSWORD (or `redis_password_file`)",
        )
    why = "wrong user or password" if "WRONGPASS" in text or "invalid" in text.lower() else "it is not let in"
    return StateRefused(
        f"Redis at {access.place} refuses user `{access.who}`: {why}",
        hint="correct `redis_user` and its password (HARNESS_REDIS_PASSWORD or `redis_password_file`)",
    )


def _untrusted(access: RedisAccess, text: str) -> StateRefused:
    ca = f"`redis_ca` `{access.tls.ca}`" if access.tls.ca else "the system's CAs (there is no `redis_ca`)"
    if "expired" in text:
        return StateRefused(f"the certificate of Redis at {access.place} has expired", hint="who runs it renews it")
    if "mismatch" in text or "not valid for" in text:
        return StateRefused(
            f"the certificate of Redis at {access.place} is for another name",
            hint="name the server in `redis_url` as its certificate does",
        )
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return StateRefused(
            f"the certificate of Redis at {access.place} is not vouched for by {ca}",
            hint="set `redis_ca` (HARNESS_REDIS_CA) to the PEM file of the CA that signed it; is it the right server?",
        )
    return StateRefused(
        f"no TLS with Redis at {access.place}",
        hint="is this its TLS port, and does it want a certificate (`redis_cert`, `redis_key`)?",
    )
