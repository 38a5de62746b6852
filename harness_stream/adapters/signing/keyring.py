"""A realm's keys as files in one folder, and what each process reads of it.

    root.key, root.pub              the offline root (Ed25519): certifies workers, needed for nothing else
    pdp.key, pdp.pub                the PDP's X25519 key: every worker reads it, senders know its public half
    pdp.former.key                  the PDP's key before the last rotation; it counts until its `not_after`
    worker.key, worker.pub, .crt    a worker's Ed25519 key and its certificate
    enroll.key, enroll.pub, .crt    the enroller's Ed25519 key and its certificate: vouches for enforcers' keys
    rules.key, rules.pub, .crt      a rule-pusher's Ed25519 key and its certificate
    values.key                      the key of value fingerprints that all clients of the realm share

Rule of this file: nothing is replaced but a certificate and what is rotated, and no process reads more than it needs.
Whoever only reads logs or takes tokens needs `root.pub` and nothing else; whoever enrols agents needs no private keys
but `values.key` and `enroll.key`; `root.key` is to be taken off the machine once workers are certified.
"""

from __future__ import annotations

import json
import secrets
import struct
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from harness_stream.adapters.signing.certificate import ENROLLER, EPOCHS_ALL, RULES, WORKER, Certificate, certify
from harness_stream.adapters.signing.enforcers import Enforcer, certify_enforcer
from harness_stream.adapters.signing.keys import KEY_BYTES, kid_of, private_of, public_of, raw_of, text_of
from harness_stream.errors import ConfigError
from harness_stream.private_files import PRIVATE_MODE, PUBLIC_MODE, require_private, write_new
from harness_stream.wire.cloudevents import base64url, from_base64url

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness_stream.adapters.signing.framing import Bound

ALGS: Final[Mapping[str, str]] = {
    "root": "ed25519",
    "pdp": "x25519",
    "worker": "ed25519",
    "enroll": "ed25519",
    "rules": "ed25519",
}
"""Purpose of a key pair → its algorithm."""
ROLES: Final[Mapping[str, bytes]] = {"worker": WORKER, "enroll": ENROLLER, "rules": RULES}
"""What a key is certified for → as it is bound into the signature."""
VALUES_FILE, FORMER_FILE = "values.key", "pdp.former.key"
FILES: Final = (
    *(f"{purpose}.{half}" for purpose in ALGS for half in ("key", "pub")),
    *(f"{role}.crt" for role in ROLES),
    VALUES_FILE,
)
"""Everything that `create` writes."""
FORMAT: Final = 1

# Ours have below 1 KiB; more is another file.
_FILE_BYTES_MAX: Final = 65_536


class CertifiedKey(NamedTuple):
    """What somebody in one of `ROLES` signs with."""

    sign: Ed25519PrivateKey
    certificate: Certificate


def create(directory: Path, bound: Bound) -> Certificate:
    """Make all keys of a realm and certify the first of each role; the worker's certificate.

    Args:
        directory: made if it is not there; none of `FILES` may be in it.
        bound: realm and incarnation of the certificates.

    Raises:
        ConfigError: a file is there already, or cannot be written; what was there is untouched.
    """
    there = [name for name in FILES if (directory / name).exists()]
    if there:
        hint = "keys are never replaced: give another folder, or certify with `harness keys certify`"
        raise ConfigError(f"`{directory}` has keys already ({', '.join(there)}); nothing was written", hint=hint)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"`{directory}` cannot be made: {error.strerror}") from None
    for purpose in ALGS:
        _make(directory, purpose)
    values = {"v": FORMAT, "purpose": "values", "alg": "blake2b", "private": text_of(secrets.token_bytes(KEY_BYTES))}
    _write(directory / VALUES_FILE, values)
    for role in ROLES:
        certify_role(directory, bound, role)
    return certify_role(directory, bound)


def _make(directory: Path, purpose: str, beside: str = "") -> None:
    """Write a new pair; `beside` is put in front of the names."""
    alg = ALGS[purpose]
    private = Ed25519PrivateKey.generate() if alg == "ed25519" else X25519PrivateKey.generate()
    shared = {"v": FORMAT, "purpose": purpose, "alg": alg}
    _write(directory / f"{beside}{purpose}.key", {**shared, "private": text_of(private.private_bytes_raw())})
    public = public_of(private)
    told = {**shared, "kid": kid_of(public), "public": text_of(public)}
    _write(directory / f"{beside}{purpose}.pub", told, PUBLIC_MODE)


def certify_role(
    directory: Path,
    bound: Bound,
    role: str = "worker",
    epochs: tuple[int, int] = EPOCHS_ALL,
    root: Path | None = None,
) -> Certificate:
    """Certify a folder's key for a role, anew if it has a certificate; all but a worker's key is made if there is none.

    Args:
        directory: has `<role>.pub`.
        bound: realm and incarnation in which it shall count.
        role: one of `ROLES`.
        epochs: first and last one, of a rule-pusher revisions, both inclusive.
        root: the root's private file; default `root.key` in the same folder.

    Raises:
        ConfigError: a key cannot be read, or a certificate cannot be written.

    Returns:
        The worker's.
    """
    private = _root_private(root or directory / "root.key", directory)
    if role != "worker" and not (directory / f"{role}.pub").exists():
        _make(directory, role)
    made = certify(private, bound, _public(directory / f"{role}.pub", role), epochs, ROLES[role])
    document = {
        "v": FORMAT,
        "role": role,
        "realm": bound.realm,
        "incarnation": bound.incarnation,
        "kid": made.kid,
        "public": text_of(made.public),
        "first_epoch": made.first_epoch,
        "last_epoch": made.last_epoch,
        "sig": base64url(made.sig).decode(),
    }
    # Beside it first: a worker that starts meanwhile reads the old one or the new one.
    beside = directory / f".{role}.crt.{secrets.token_hex(4)}"
    _write(beside, document, PUBLIC_MODE)
    beside.replace(directory / f"{role}.crt")
    return made


def rotate(directory: Path, purpose: str, former_until_ms: int) -> str:
    """Put a new pair in the place of one: a worker's, a rule-pusher's or the PDP's; its key id.

    The PDP's former key goes on counting for inputs appended up to `former_until_ms`; others need a new certificate.

    Args:
        directory: the realm's keys.
        purpose: worker, rules or pdp.
        former_until_ms: epoch ms.

    Raises:
        ConfigError: there is no such pair, or the PDP's key was rotated and the one before still counts.
    """
    before = _private(directory / f"{purpose}.key", purpose)
    if purpose == "pdp":
        if any(not_after > time.time_ns() // 1_000_000 for _, not_after in pdp_former(directory)):
            hint = "wait until it has ended; give senders credentials with the new key meanwhile"
            raise ConfigError(f"`{directory / FORMER_FILE}` still counts, and two keys do at most", hint=hint)
        (directory / FORMER_FILE).unlink(missing_ok=True)
        shared = {"v": FORMAT, "purpose": "pdp", "alg": ALGS["pdp"], "not_after": former_until_ms}
        _write(directory / FORMER_FILE, {**shared, "private": text_of(before.private_bytes_raw())})
    beside = f".{secrets.token_hex(4)}."
    _make(directory, purpose, beside)
    for half in ("pub", "key"):
        (directory / f"{beside}{purpose}.{half}").replace(directory / f"{purpose}.{half}")
    return kid_of(_public(directory / f"{purpose}.pub", purpose))


def require_root(directory: Path, root: Path | None) -> None:
    """The root can certify; asked before anything is changed (raises ConfigError)."""
    _root_private(root or directory / "root.key", directory)


def _root_private(path: Path, directory: Path) -> Ed25519PrivateKey:
    if not path.exists():
        raise ConfigError(f"`{path}` is missing", hint="`--root FILE` says where the root's private key is kept")
    private, known = cast("Ed25519PrivateKey", _private(path, "root")), directory / "root.pub"
    if known.exists() and root_public(directory) != public_of(private):
        raise ConfigError(f"`{path}` is not the private half of `{known}`")
    return private


def public_key_file(path: Path, purpose: str) -> bytes:
    """A public key's 32 bytes from its file, wherever it lies (raises ConfigError)."""
    return _public(path, purpose)


def root_public(directory: Path) -> bytes:
    """Whom every reader of the decision log believes (raises ConfigError)."""
    return _public(directory / "root.pub", "root")


def pdp_public(directory: Path) -> bytes:
    """With whom senders share keys (raises ConfigError)."""
    return _public(directory / "pdp.pub", "pdp")


def pdp_private(directory: Path) -> X25519PrivateKey:
    """By which a worker judges inputs (raises ConfigError)."""
    return cast("X25519PrivateKey", _private(directory / "pdp.key", "pdp"))


def pdp_former(directory: Path) -> tuple[tuple[X25519PrivateKey, int], ...]:
    """The PDP's key before the last rotation, and the epoch ms up to which it counts; nothing if there is none.

    Raises:
        ConfigError: the file is none of ours.
    """
    path = directory / FORMER_FILE
    if not path.exists():
        return ()
    not_after = _key(path, "pdp", "private").get("not_after")
    if type(not_after) is not int:
        raise ConfigError(f"`{path}` does not say until when it counts")
    return ((cast("X25519PrivateKey", _private(path, "pdp")), not_after),)


def value_key(directory: Path) -> str:
    """The realm's fingerprint key as text (raises ConfigError)."""
    return _text(_read(directory / VALUES_FILE, private=True), "private", directory / VALUES_FILE)


def vouch(directory: Path, bound: Bound, enforcer: Enforcer) -> str:
    """Certify an enforcer's key by the enroller's, as credentials have it (raises ConfigError)."""
    keys = certified_key(directory, bound, "enroll")
    return text_of(certify_enforcer(keys.sign, keys.certificate, bound, enforcer).packed())


def certified_key(directory: Path, bound: Bound, role: str = "worker") -> CertifiedKey:
    """What somebody in a role signs with, checked before anything is written with it.

    Raises:
        ConfigError: a file is missing or malformed, or the certificate would convince nobody here.
    """
    flag = "" if role == "worker" else f" --role {role}"
    again = f"`harness keys certify {directory}{flag}` certifies the key for this realm's topics as they are now"
    sign, path = _private(directory / f"{role}.key", role), directory / f"{role}.crt"
    if not path.exists():
        raise ConfigError(f"`{path}` is missing", hint=again)
    said = _read(path)
    for name, expected in (("realm", bound.realm), ("incarnation", bound.incarnation)):
        if said.get(name) != expected:
            told = "other log topics: they were recreated" if name == "incarnation" else f"realm `{said.get(name)}`"
            raise ConfigError(f"`{path}` is a certificate for {told}", hint=again)
    certificate = _certificate(said, path)
    trusted = certificate.signed_by(root_public(directory), bound, ROLES[role])
    if certificate.public != public_of(sign) or not trusted:
        raise ConfigError(f"`{path}` does not certify `{role}.key` by the root in `root.pub`", hint=again)
    return CertifiedKey(cast("Ed25519PrivateKey", sign), certificate)


def _write(path: Path, document: Mapping[str, Any], mode: int = PRIVATE_MODE) -> None:
    write_new(path, json.dumps(document, indent=2) + "\n", mode)


def _read(path: Path, *, private: bool = False) -> dict[str, Any]:
    if private:
        require_private(path)
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_FILE_BYTES_MAX))
    except FileNotFoundError:
        hint = "`harness keys init DIR` makes a realm's keys; `--keys DIR` (HARNESS_KEYS) says where they are"
        raise ConfigError(f"`{path}` is missing", hint=hint) from None
    except OSError as error:
        raise ConfigError(f"`{path}` cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"`{path}` is no key file of ours: it must be JSON") from None
    if not isinstance(found, dict) or found.get("v") != FORMAT:
        raise ConfigError(f"`{path}` is no key file of ours, or of another version")
    return found


def _key(path: Path, purpose: str, half: str) -> dict[str, Any]:
    found = _read(path, private=half == "private")
    if found.get("purpose") != purpose or found.get("alg") != ALGS[purpose]:
        raise ConfigError(f"`{path}` is no {purpose} key, but `{found.get('purpose')}`, `{found.get('alg')}`")
    return found


def _text(found: Mapping[str, Any], name: str, path: Path) -> str:
    text = found.get(name)
    if not isinstance(text, str):
        raise ConfigError(f"`{path}` has no `{name}`")
    return text


def _private(path: Path, purpose: str) -> Ed25519PrivateKey | X25519PrivateKey:
    try:
        return private_of(ALGS[purpose], _text(_key(path, purpose, "private"), "private", path))
    except ValueError as error:
        raise ConfigError(f"`{path}`: {error}") from None


def _public(path: Path, purpose: str) -> bytes:
    try:
        return raw_of(_text(_key(path, purpose, "public"), "public", path))
    except ValueError as error:
        raise ConfigError(f"`{path}`: {error}") from None


def _certificate(said: Mapping[str, Any], path: Path) -> Certificate:
    try:
        public, sig = raw_of(said["public"]), from_base64url(said["sig"])
        made = Certificate(public, int(said["first_epoch"]), int(said["last_epoch"]), sig)
        return Certificate.unpacked(made.packed()) or made  # what cannot be packed is none
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, struct.error):
        raise ConfigError(f"`{path}` is no certificate of ours") from None
