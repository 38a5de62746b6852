"""A realm's keys as files in one folder, and what each process reads of it.

    root.key, root.pub              the offline root (Ed25519): certifies workers, needed for nothing else
    pdp.key, pdp.pub                the PDP's X25519 key: every worker reads it, senders know its public half
    worker.key, worker.pub, .crt    a worker's Ed25519 key and its certificate
    enroll.key, enroll.pub, .crt    the enroller's Ed25519 key and its certificate: vouches for enforcers' keys
    values.key                      the key of value fingerprints that all clients of the realm share

Rule of this file: nothing is replaced but a certificate, and no process reads more than it needs. Whoever only reads
logs or takes tokens needs `root.pub` and nothing else; whoever enrols agents needs no private keys but `values.key` and
`enroll.key`; `root.key` is to be taken off the machine once workers are certified.
"""

from __future__ import annotations

import json
import secrets
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from harness_stream.adapters.signing.certificate import ENROLLER, EPOCHS_ALL, WORKER, Certificate, certify
from harness_stream.adapters.signing.enforcers import Enforcer, certify_enforcer
from harness_stream.adapters.signing.keys import KEY_BYTES, kid_of, private_of, public_of, raw_of, text_of
from harness_stream.errors import ConfigError
from harness_stream.private_files import PRIVATE_MODE, PUBLIC_MODE, require_private, write_new
from harness_stream.wire.cloudevents import base64url, from_base64url

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness_stream.adapters.signing.framing import Bound

ALGS: Final[Mapping[str, str]] = {"root": "ed25519", "pdp": "x25519", "worker": "ed25519", "enroll": "ed25519"}
"""Purpose of a key pair → its algorithm."""
VALUES_FILE, CERTIFICATE_FILE, ENROLLER_FILE = "values.key", "worker.crt", "enroll.crt"
_PAIRS: Final = (f"{purpose}.{half}" for purpose in ALGS for half in ("key", "pub"))
FILES: Final = (*_PAIRS, VALUES_FILE, CERTIFICATE_FILE, ENROLLER_FILE)
"""Everything that `create` writes."""
FORMAT: Final = 1

# Ours have below 1 KiB; more is another file.
_FILE_BYTES_MAX: Final = 65_536


class CertifiedKey(NamedTuple):
    """A key that the root certified, to sign with."""

    sign: Ed25519PrivateKey
    certificate: Certificate


def create(directory: Path, bound: Bound) -> Certificate:
    """Make all keys of a realm and certify the first worker and the enroller.

    Args:
        directory: made if it is not there; none of `FILES` may be in it.
        bound: realm and incarnation of the certificate.

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
    return certify_all(directory, bound)


def _make(directory: Path, purpose: str) -> None:
    alg = ALGS[purpose]
    private = Ed25519PrivateKey.generate() if alg == "ed25519" else X25519PrivateKey.generate()
    shared = {"v": FORMAT, "purpose": purpose, "alg": alg}
    _write(directory / f"{purpose}.key", {**shared, "private": text_of(private.private_bytes_raw())})
    public = public_of(private)
    _write(directory / f"{purpose}.pub", {**shared, "kid": kid_of(public), "public": text_of(public)}, PUBLIC_MODE)


def certify_all(
    directory: Path, bound: Bound, epochs: tuple[int, int] = EPOCHS_ALL, root: Path | None = None
) -> Certificate:
    """Certify the worker's key of a folder, and the enroller's, anew if they have certificates.

    Args:
        directory: has `worker.pub`.
        bound: realm and incarnation in which it shall count.
        epochs: first and last one of the worker's, both inclusive.
        root: the root's private file; default `root.key` in the same folder.

    Raises:
        ConfigError: a key cannot be read, or a certificate cannot be written.

    Returns:
        The worker's.
    """
    private = _root_private(root or directory / "root.key", directory)
    made = certify(private, bound, _public(directory / "worker.pub", "worker"), epochs)
    _write_certificate(directory / CERTIFICATE_FILE, made, bound, WORKER)
    if not (directory / "enroll.pub").exists():
        _make(directory, "enroll")
    enroller = certify(private, bound, _public(directory / "enroll.pub", "enroll"), role=ENROLLER)
    _write_certificate(directory / ENROLLER_FILE, enroller, bound, ENROLLER)
    return made


def _write_certificate(path: Path, made: Certificate, bound: Bound, role: bytes) -> None:
    document = {
        "v": FORMAT,
        "role": role.decode(),
        "realm": bound.realm,
        "incarnation": bound.incarnation,
        "kid": made.kid,
        "public": text_of(made.public),
        "first_epoch": made.first_epoch,
        "last_epoch": made.last_epoch,
        "sig": base64url(made.sig).decode(),
    }
    # Beside it first: a worker that starts meanwhile reads the old one or the new one.
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    _write(beside, document, PUBLIC_MODE)
    beside.replace(path)


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


def value_key(directory: Path) -> str:
    """The realm's fingerprint key as text (raises ConfigError)."""
    return _text(_read(directory / VALUES_FILE, private=True), "private", directory / VALUES_FILE)


def worker_keys(directory: Path, bound: Bound) -> CertifiedKey:
    """What a worker signs with; raises ConfigError as `_certified`."""
    return _certified(directory, bound, "worker", CERTIFICATE_FILE, WORKER)


def enroller_keys(directory: Path, bound: Bound) -> CertifiedKey:
    """What vouches for enforcers' keys; raises ConfigError as `_certified`."""
    return _certified(directory, bound, "enroll", ENROLLER_FILE, ENROLLER)


def vouch(directory: Path, bound: Bound, enforcer: Enforcer) -> str:
    """Certify an enforcer's key by the enroller's, as credentials have it (raises ConfigError)."""
    keys = enroller_keys(directory, bound)
    return text_of(certify_enforcer(keys.sign, keys.certificate, bound, enforcer).packed())


def _certified(directory: Path, bound: Bound, purpose: str, file: str, role: bytes) -> CertifiedKey:
    """A key and its certificate, checked before anything is written with them.

    Raises:
        ConfigError: a file is missing or malformed, or the certificate would convince nobody here.
    """
    sign = cast("Ed25519PrivateKey", _private(directory / f"{purpose}.key", purpose))
    path = directory / file
    said = _read(path)
    again = f"`harness keys certify {directory}` certifies the key for this realm's topics as they are now"
    for name, expected in (("realm", bound.realm), ("incarnation", bound.incarnation)):
        if said.get(name) != expected:
            told = "other log topics: they were recreated" if name == "incarnation" else f"realm `{said.get(name)}`"
            raise ConfigError(f"`{path}` is a certificate for {told}", hint=again)
    certificate = _certificate(said, path)
    if certificate.public != public_of(sign) or not certificate.signed_by(root_public(directory), bound, role):
        raise ConfigError(f"`{path}` does not certify `{purpose}.key` by the root in `root.pub`", hint=again)
    return CertifiedKey(sign, certificate)


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
