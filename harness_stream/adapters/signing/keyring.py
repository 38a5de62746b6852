"""A realm's keys as files in one folder, and what each process reads of it.

    root.key, root.pub              the offline root (Ed25519): certifies workers, needed for nothing else
    pdp.key, pdp.pub                the PDP's X25519 key: every worker reads it, senders know its public half
    worker.key, worker.pub, .crt    a worker's Ed25519 key and its certificate
    values.key                      the key of value fingerprints that all clients of the realm share

Rule of this file: nothing is replaced but a certificate, and no process reads more than it needs. Whoever only reads
logs needs `root.pub` and nothing else; whoever enrols agents needs no private key but `values.key`; `root.key` is to be
taken off the machine once workers are certified. Who only reads keys may have them as one document instead of a folder
(`key_document.py`).
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from harness_stream.adapters.signing.certificate import EPOCHS_ALL, Certificate, certify
from harness_stream.adapters.signing.key_document import KeyDocument
from harness_stream.adapters.signing.keys import KEY_BYTES, kid_of, private_of, public_of, raw_of, text_of
from harness_stream.errors import ConfigError
from harness_stream.private_files import PRIVATE_MODE, PUBLIC_MODE, require_private, write_new
from harness_stream.wire.cloudevents import base64url, from_base64url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness_stream.adapters.signing.framing import Bound

ALGS: Final[Mapping[str, str]] = {"root": "ed25519", "pdp": "x25519", "worker": "ed25519"}
"""Purpose of a key pair → its algorithm."""
VALUES_FILE, CERTIFICATE_FILE = "values.key", "worker.crt"
FILES: Final = (*(f"{purpose}.{half}" for purpose in ALGS for half in ("key", "pub")), VALUES_FILE, CERTIFICATE_FILE)
"""Everything that `create` writes."""
FORMAT: Final = 1

# Ours have below 1 KiB; more is another file.
_FILE_BYTES_MAX: Final = 65_536


Keys = Path | KeyDocument
"""Where keys are read from."""


class WorkerKeys(NamedTuple):
    """What a worker signs and verifies with."""

    sign: Ed25519PrivateKey
    certificate: Certificate


def create(directory: Path, bound: Bound) -> Certificate:
    """Make all keys of a realm and certify the first worker.

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
    for purpose, alg in ALGS.items():
        private = Ed25519PrivateKey.generate() if alg == "ed25519" else X25519PrivateKey.generate()
        shared = {"v": FORMAT, "purpose": purpose, "alg": alg}
        _write(directory / f"{purpose}.key", {**shared, "private": text_of(private.private_bytes_raw())})
        public = public_of(private)
        _write(directory / f"{purpose}.pub", {**shared, "kid": kid_of(public), "public": text_of(public)}, PUBLIC_MODE)
    values = {"v": FORMAT, "purpose": "values", "alg": "blake2b", "private": text_of(secrets.token_bytes(KEY_BYTES))}
    _write(directory / VALUES_FILE, values)
    return certify_worker(directory, bound)


def certify_worker(
    directory: Path, bound: Bound, epochs: tuple[int, int] = EPOCHS_ALL, root: Path | None = None
) -> Certificate:
    """Certify the worker's key of a folder, anew if it has a certificate.

    Args:
        directory: has `worker.pub`.
        bound: realm and incarnation in which it shall count.
        epochs: first and last one, both inclusive.
        root: the root's private file; default `root.key` in the same folder.

    Raises:
        ConfigError: a key cannot be read, or the certificate cannot be written.
    """
    private = _root_private(root or directory / "root.key", directory)
    made = certify(private, bound, _public(directory, "worker"), epochs)
    document = {
        "v": FORMAT,
        "role": "worker",
        "realm": bound.realm,
        "incarnation": bound.incarnation,
        "kid": made.kid,
        "public": text_of(made.public),
        "first_epoch": made.first_epoch,
        "last_epoch": made.last_epoch,
        "sig": base64url(made.sig).decode(),
    }
    # Beside it first: a worker that starts meanwhile reads the old one or the new one.
    beside = directory / f".{CERTIFICATE_FILE}.{secrets.token_hex(4)}"
    _write(beside, document, PUBLIC_MODE)
    beside.replace(directory / CERTIFICATE_FILE)
    return made


def _root_private(path: Path, directory: Path) -> Ed25519PrivateKey:
    if not path.exists():
        raise ConfigError(f"`{path}` is missing", hint="`--root FILE` says where the root's private key is kept")
    private, known = cast("Ed25519PrivateKey", _private(path.parent, "root", path.name)), directory / "root.pub"
    if known.exists() and root_public(directory) != public_of(private):
        raise ConfigError(f"`{path}` is not the private half of `{known}`")
    return private


def root_public(keys: Keys) -> bytes:
    """Whom every reader of the decision log believes (raises ConfigError)."""
    return _public(keys, "root")


def pdp_public(keys: Keys) -> bytes:
    """With whom senders share keys (raises ConfigError)."""
    return _public(keys, "pdp")


def pdp_private(keys: Keys) -> X25519PrivateKey:
    """By which a worker judges inputs (raises ConfigError)."""
    return cast("X25519PrivateKey", _private(keys, "pdp"))


def value_key(keys: Keys) -> str:
    """The realm's fingerprint key as text (raises ConfigError)."""
    return _text(_read(keys, VALUES_FILE, private=True), "private", _place(keys, VALUES_FILE))


def worker_keys(keys: Keys, bound: Bound) -> WorkerKeys:
    """What a worker signs with, checked before anything is written with it.

    Raises:
        ConfigError: a file is missing or malformed, or the certificate would convince nobody here.
    """
    sign = cast("Ed25519PrivateKey", _private(keys, "worker"))
    place, said = _place(keys, CERTIFICATE_FILE), _read(keys, CERTIFICATE_FILE)
    folder = keys if isinstance(keys, Path) else "DIR"
    again = f"`harness keys certify {folder}` certifies the key for this realm's topics as they are now"
    for name, expected in (("realm", bound.realm), ("incarnation", bound.incarnation)):
        if said.get(name) != expected:
            told = "other log topics: they were recreated" if name == "incarnation" else f"realm `{said.get(name)}`"
            raise ConfigError(f"{place} is a certificate for {told}", hint=again)
    certificate = _certificate(said, place)
    if certificate.public != public_of(sign) or not certificate.signed_by(root_public(keys), bound):
        raise ConfigError(f"{place} does not certify `worker.key` by the root in `root.pub`", hint=again)
    return WorkerKeys(sign, certificate)


def _write(path: Path, document: Mapping[str, Any], mode: int = PRIVATE_MODE) -> None:
    write_new(path, json.dumps(document, indent=2) + "\n", mode)


def _place(keys: Keys, name: str) -> str:
    """What people call one of the keys."""
    return f"`{keys / name}`" if isinstance(keys, Path) else f"`{name}` in what {keys.name} holds"


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
        hint = "`harness keys init DIR` makes a realm's keys; `--keys DIR` (HARNESS_KEYS) says where they are"
        raise ConfigError(f"`{path}` is missing", hint=hint) from None
    except OSError as error:
        raise ConfigError(f"`{path}` cannot be read: {error.strerror}") from None
    except ValueError:
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


def _public(keys: Keys, purpose: str) -> bytes:
    name = f"{purpose}.pub"
    place = _place(keys, name)
    try:
        return raw_of(_text(_key(keys, name, purpose, "public"), "public", place))
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from None


def _certificate(said: Mapping[str, Any], place: str) -> Certificate:
    try:
        public, sig = raw_of(said["public"]), from_base64url(said["sig"])
        return Certificate(public, int(said["first_epoch"]), int(said["last_epoch"]), sig)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ConfigError(f"{place} is no certificate of ours") from None
