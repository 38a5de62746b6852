"""Which pair a realm has: signed by the keys that settings name, unsigned only with `dev`.

Rule of this file: nobody gets the unsigned pair without having asked for it, and nothing of the signed one is loaded
for those who did.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness_stream.adapters.signing.framing import Bound
from harness_stream.adapters.signing.key_document import KeyDocument
from harness_stream.adapters.signing.unsigned import UnsignedSigner, UnsignedVerifier
from harness_stream.errors import ConfigError
from harness_stream.secret_source import is_secret_source

if TYPE_CHECKING:
    from harness_stream.adapters.signing.keyring import CertifiedKey
    from harness_stream.config import Settings
    from harness_stream.ports import DecisionSigner, RulesSigner, Verifier


def keys_of(settings: Settings) -> Path | KeyDocument | None:
    """Where the realm's keys are read from; None if the realm is unsigned.

    Raises:
        ConfigError: the settings name neither keys nor `dev`, or both, or a folder that is not there, or a variable or
            command that gives none.
    """
    if settings.dev:
        if settings.keys:
            hint = "leave out `--keys` (HARNESS_KEYS), or `--dev` (HARNESS_DEV)"
            raise ConfigError("keys are given, and `--dev` says that the realm is unsigned", hint=hint)
        return None
    if not settings.keys:
        raise ConfigError(
            "records are signed, and it is not said where the realm's keys are",
            hint="`--keys DIR` (or HARNESS_KEYS) names the folder that `harness keys init DIR` made, or `env:NAME` or "
            "`command:WORDS`, what holds or prints them; an unsigned realm needs `--dev` (or HARNESS_DEV=1), and every "
            "checkpoint will say so",
        )
    if is_secret_source(settings.keys):
        return KeyDocument(settings.keys)
    directory = Path(settings.keys)
    if not directory.is_dir():
        raise ConfigError(f"`{directory}`, which `keys` names, is no folder", hint="`harness keys init DIR` makes one")
    return directory


def verifier_of(settings: Settings, incarnation: str) -> Verifier:
    """Who is believed by those who only read the decision log: they need the root's public key.

    Raises:
        ConfigError: as `keys_of`, or the key cannot be read.
    """
    keys = keys_of(settings)
    if keys is None:
        return UnsignedVerifier()
    from harness_stream.adapters.signing.keyring import root_public  # noqa: PLC0415  `--dev` needs no cryptography
    from harness_stream.adapters.signing.verifier import SignedVerifier  # noqa: PLC0415  same

    return SignedVerifier(Bound(settings.realm, incarnation), root_public(keys))


def worker_pair(settings: Settings, incarnation: str) -> tuple[DecisionSigner, Verifier]:
    """What a worker signs with, and whom it believes.

    Raises:
        ConfigError: as `keys_of`, or a key or the certificate cannot be used.
    """
    keys = keys_of(settings)
    if keys is None:
        return UnsignedSigner(), UnsignedVerifier()
    from harness_stream.adapters.signing.keyring import pdp_former, pdp_private, root_public  # noqa: PLC0415  as above
    from harness_stream.adapters.signing.verifier import SignedVerifier  # noqa: PLC0415  same

    bound = Bound(settings.realm, incarnation)
    verifier = SignedVerifier(bound, root_public(keys), pdp_private(keys), pdp_former(keys))
    return operator_signer(settings, incarnation), verifier


def operator_signer(settings: Settings, incarnation: str) -> DecisionSigner:
    """What an operator's record is signed with: the worker's key of the folder.

    Raises:
        ConfigError: as `worker_pair`.
    """
    bound = Bound(settings.realm, incarnation)
    own = _certified(settings, bound, "worker")
    if own is None:
        return UnsignedSigner()
    from harness_stream.adapters.signing.decisions import SignedDecisions  # noqa: PLC0415  as above

    return SignedDecisions(bound, own.sign, own.certificate)


def rules_signer(settings: Settings, incarnation: str) -> RulesSigner:
    """What a rule-pusher signs with.

    Raises:
        ConfigError: as `worker_pair`.
    """
    bound = Bound(settings.realm, incarnation)
    own = _certified(settings, bound, "rules")
    if own is None:
        return UnsignedSigner()
    from harness_stream.adapters.signing.rules import SignedRules  # noqa: PLC0415  as above

    return SignedRules(bound, own.sign, own.certificate)


def _certified(settings: Settings, bound: Bound, role: str) -> CertifiedKey | None:
    """None in a `--dev` realm."""
    keys = keys_of(settings)
    if keys is None:
        return None
    from harness_stream.adapters.signing.keyring import certified_key  # noqa: PLC0415  as above

    return certified_key(keys, bound, role)
