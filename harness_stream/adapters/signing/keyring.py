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
but `values.key` and `enroll.key`; `root.key` is to be taken off the machine once workers are certified. Who only reads
keys may have them as one document instead of a folder (`key_document.py`).
"""

from __future__ import annotations

import json
import secrets
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from harness_stream.adapters.signing.certificate import ENROLLER, EPOCHS_ALL, RULES, WORKER, Certificate, certify
from harness_stream.adapters.signing.enforcers import Enforcer, certify_enforcer
from harness_stream.adapters.signing.key_document import KeyDocument
from harness_stream.adapters.signing.keys import KEY_BYTES, kid_of, private_of, public_of, raw_of, text_of
from harness_stream.errors import ConfigError
from harness_stream.private_files import PRIVATE_MODE, PUBLIC_MODE, require_private, write_new
from harness_stream.wire.cloudevents import base64url, from_base64url

if TYPE_CHECKING:
    from collections.abc import Mapping

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


Keys = Path | KeyDocument
"""Where keys are read from."""


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
    made = certify(private, bound, _public(directory, role), epochs, ROLES[role])
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
    """Put a new pair in the place of one: the PDP's, or that of a role; its key id.

    The PDP's former key goes on counting for inputs appended up to `former_until_ms`; others need a new certificate.

    Args:
        directory: the realm's keys.
        purpose: pdp, or one of `ROLES`.
        former_until_ms: epoch ms.

    Raises:
        ConfigError: there is no such pair, or the PDP's key was rotated and the one before still counts.
    """
    before = _private(directory, purpose)
    if purpose == "pdp":
        now_ms = time.time_ns() // 1_000_000
        # One that is still in its place is of a rotation that broke off.
        replaced = [ends_ms for key, ends_ms in pdp_former(directory) if public_of(key) != public_of(before)]
        if any(ends_ms > now_ms for ends_ms in replaced):
            hint = "wait until it has ended; give senders credentials with the new key meanwhile"
            raise ConfigError(f"`{directory / FORMER_FILE}` still counts, and two keys do at most", hint=hint)
        (directory / FORMER_FILE).unlink(missing_ok=True)
        shared = {"v": FORMAT, "purpose": "pdp", "alg": ALGS["pdp"], "not_after": former_until_ms}
        _write(directory / FORMER_FILE, {**shared, "private": text_of(before.private_bytes_raw())})
    beside = f".{secrets.token_hex(4)}."
    _make(directory, purpose, beside)
    # Broken off between, who is enrolled by a PDP's old half is still heard, and a worker goes on with its old pair.
    for half in ("key", "pub") if purpose == "pdp" else ("pub", "key"):
        (directory / f"{beside}{purpose}.{half}").replace(directory / f"{purpose}.{half}")
    return kid_of(_public(directory, purpose))


def require_root(directory: Path, root: Path | None) -> None:
    """The root can certify; asked before anything is changed (raises ConfigError)."""
    _root_private(root or directory / "root.key", directory)


def _root_private(path: Path, directory: Path) -> Ed25519PrivateKey:
    if not path.exists():
        raise ConfigError(f"`{path}` is missing", hint="`--root FILE` says where the root's private key is kept")
    private, known = cast("Ed25519PrivateKey", _private(path.parent, "root", path.name)), directory / "root.pub"
    if known.exists() and root_public(directory) != public_of(private):
        raise ConfigError(f"`{path}` is not the private half of `{known}`")
    return private


def public_key_file(path: Path, purpose: str) -> bytes:
    """A public key's 32 bytes from its file, wherever it lies (raises ConfigError)."""
    return _public(path.parent, purpose, path.name)


def root_public(keys: Keys) -> bytes:
    """Whom every reader of the decision log believes (raises ConfigError)."""
    return _public(keys, "root")


def pdp_public(keys: Keys) -> bytes:
    """With whom senders share keys (raises ConfigError)."""
    return _public(keys, "pdp")


def pdp_private(keys: Keys) -> X25519PrivateKey:
    """By which a worker judges inputs (raises ConfigError)."""
    return cast("X25519PrivateKey", _private(keys, "pdp"))


def pdp_former(keys: Keys) -> tuple[tuple[X25519PrivateKey, int], ...]:
    """The PDP's key before the last rotation, and the epoch ms up to which it counts; nothing if there is none.

    Raises:
        ConfigError: the file is none of ours.
    """
    if not _has(keys, FORMER_FILE):
        return ()
    not_after = _key(keys, FORMER_FILE, "pdp", "private").get("not_after")
    if type(not_after) is not int:
        raise ConfigError(f"{_place(keys, FORMER_FILE)} does not say until when it counts")
    return ((cast("X25519PrivateKey", _private(keys, "pdp", FORMER_FILE)), not_after),)


def value_key(keys: Keys) -> str:
    """The realm's fingerprint key as text (raises ConfigError)."""
    return _text(_read(keys, VALUES_FILE, private=True), "private", _place(keys, VALUES_FILE))


def vouch(keys: Keys, bound: Bound, enforcer: Enforcer) -> str:
    """Certify an enforcer's key by the enroller's, as credentials have it (raises ConfigError)."""
    own = certified_key(keys, bound, "enroll")
    return text_of(certify_enforcer(own.sign, own.certificate, bound, enforcer).packed())


def certified_key(keys: Keys, bound: Bound, role: str = "worker") -> CertifiedKey:
    """What somebody in a role signs with, checked before anything is written with it.

    Raises:
        ConfigError: a file is missing or malformed, or the certificate would convince nobody here.
    """
    folder, flag = keys if isinstance(keys, Path) else "DIR", "" if role == "worker" else f" --role {role}"
    again = f"`harness keys certify {folder}{flag}` certifies the key for this realm's topics as they are now"
    sign, name = _private(keys, role), f"{role}.crt"
    place = _place(keys, name)
    if not _has(keys, name):
        raise ConfigError(f"{place} is missing", hint=again)
    said = _read(keys, name)
    for field, expected in (("realm", bound.realm), ("incarnation", bound.incarnation)):
        if said.get(field) != expected:
            told = "other log topics: they were recreated" if field == "incarnation" else f"realm `{said.get(field)}`"
            raise ConfigError(f"{place} is a certificate for {told}", hint=again)
    certificate = _certificate(said, place)
    trusted = certificate.signed_by(root_public(keys), bound, ROLES[role])
    if certificate.public != public_of(sign) or not trusted:
        raise ConfigError(f"{place} does not certify `{role}.key` by the root in `root.pub`", hint=again)
    return CertifiedKey(cast("Ed25519PrivateKey", sign), certificate)


def _write(path: Path, document: Mapping[str, Any], mode: int = PRIVATE_MODE) -> None:
    write_new(path, json.dumps(document, indent=2) + "\n", mode)


def _place(keys: Keys, name: str) -> str:
    """What people call one of the keys."""
    return f"`{keys / name}`" if isinstance(keys, Path) else f"`{name}` in what {keys.name} holds"


def _has(keys: Keys, name: str) -> bool:
    return (keys / name).exists() if isinstance(keys, Path) else name in keys


def _read(keys: Keys, name: str, *, private: bool = False) -> dict[str, Any]:
    found = _file(keys / name, private=private) if isinstance(keys, Path) else keys.entry(name)
    if not isinstance(found, dict) or found.get("v") != FORMAT:
        raise ConfigError(f"{_place(keys, name)} is no key file of ours, or of another version")
    return found


def _file(path: Path, *, private: bool) -> Any:  # noqa: ANN401  whatever is in it
    if private:
        require_private(path)
    try:
        with path.open("rb") as file:
            return json.loads(file.read(_FILE_BYTES_MAX))
    except FileNotFoundError:
        hint = (
            "`--keys DIR` (HARNESS_KEYS) says where the realm's keys are; if it has any, bring this one from where "
            "they were made. `harness keys init DIR` makes those of a new realm"
        )
        raise ConfigError(f"`{path}` is missing", hint=hint) from None
    except OSError as error:
        raise ConfigError(f"`{path}` cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"`{path}` is no key file of ours: it must be JSON") from None


def _key(keys: Keys, name: str, purpose: str, half: str) -> dict[str, Any]:
    found = _read(keys, name, private=half == "private")
    if found.get("purpose") != purpose or found.get("alg") != ALGS[purpose]:
        told = f"`{found.get('purpose')}`, `{found.get('alg')}`"
        raise ConfigError(f"{_place(keys, name)} is no {purpose} key, but {told}")
    return found


def _text(found: Mapping[str, Any], name: str, place: str) -> str:
    text = found.get(name)
    if not isinstance(text, str):
        raise ConfigError(f"{place} has no `{name}`")
    return text


def _private(keys: Keys, purpose: str, name: str = "") -> Ed25519PrivateKey | X25519PrivateKey:
    name = name or f"{purpose}.key"
    place = _place(keys, name)
    try:
        return private_of(ALGS[purpose], _text(_key(keys, name, purpose, "private"), "private", place))
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from None


def _public(keys: Keys, purpose: str, name: str = "") -> bytes:
    name = name or f"{purpose}.pub"
    place = _place(keys, name)
    try:
        return raw_of(_text(_key(keys, name, purpose, "public"), "public", place))
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from None


def _certificate(said: Mapping[str, Any], place: str) -> Certificate:
    try:
        public, sig = raw_of(said["public"]), from_base64url(said["sig"])
        made = Certificate(public, int(said["first_epoch"]), int(said["last_epoch"]), sig)
        return Certificate.unpacked(made.packed()) or made  # what cannot be packed is none
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, struct.error):
        raise ConfigError(f"{place} is no certificate of ours") from None
