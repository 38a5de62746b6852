"""Who says something on a command line: the identity of a credentials file, or with `--dev` just a name.

Rule of this file: a credentials file says everything, realm, broker and keys; whoever has it needs no folder of keys.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

# typer reads the annotations of commands at run time.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness_stream.errors import CallerError, ConfigError

if TYPE_CHECKING:
    from harness_stream.client.credentials import Credentials
    from harness_stream.config import Settings
    from harness_stream.ports import InputSigner, Verifier

CredentialsFile = Annotated[
    Path | None, typer.Option("--credentials", metavar="FILE", help="Who says it, as `harness agents enroll` wrote it.")
]


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who says something, and where.

    Attributes:
        by: the identity; empty if nobody was named, who then only reads.
        settings: of its realm.
        credentials: its file; None without one.
    """

    by: str
    settings: Settings
    credentials: Credentials | None = None

    def require_root(self) -> None:
        """It knows whom to believe (raises ConfigError); asked before any broker is."""
        from harness_stream.adapters.signing.pairs import keys_of  # noqa: PLC0415  slow to load, `--help` is not

        if self.credentials is None:
            keys_of(self.settings)

    def signer(self, incarnation: str) -> InputSigner:
        """What it speaks by (raises ConfigError)."""
        from harness_stream.adapters.signing import UnsignedSigner  # noqa: PLC0415  slow to load, `--help` is not
        from harness_stream.client.connect import pair_of  # noqa: PLC0415  same

        return UnsignedSigner() if self.credentials is None else pair_of(self.credentials, incarnation)[0]

    def verifier(self, incarnation: str) -> Verifier:
        """Whom it believes: the root that its file names, else the one in the folder of keys (raises ConfigError)."""
        from harness_stream.adapters.signing.pairs import verifier_of  # noqa: PLC0415  slow to load, `--help` is not
        from harness_stream.client.connect import pair_of  # noqa: PLC0415  same

        if self.credentials is None:
            return verifier_of(self.settings, incarnation)
        return pair_of(self.credentials, incarnation)[1]


def reader_of(settings: Settings, file: Path | None) -> Speaker:
    """Who only reads.

    Raises:
        ConfigError: the file cannot be used.
    """
    return Speaker("", settings) if file is None else _of_file(settings, file)


def speaker_of(settings: Settings, file: Path | None, by: str | None, role: str) -> Speaker:
    """Who says something that is signed.

    Args:
        settings: as the command line has them.
        file: credentials.
        by: the name that was given; needed without a file.
        role: what one must be to say it, for the hint.

    Raises:
        ConfigError: the file cannot be used; or there is none, and the realm is signed.
        CallerError: the file is another identity's, or nobody is named.
    """
    if file is not None:
        speaker = _of_file(settings, file)
        if by not in {None, speaker.by}:
            raise CallerError(f"`{file}` is of `{speaker.by}`, not of `{by}`", hint="leave out `--by`")
        return speaker
    enroll = f"--credentials FILE, which `harness agents enroll NAME --tenant T --role {role}` writes"
    if not settings.dev:
        raise ConfigError(f"an {role} signs what is said", hint=f"{enroll}; an unsigned realm needs `--by` and `--dev`")
    if by is None:
        raise CallerError(f"it is not said who is the {role}", hint=f"--by NAME; in a signed realm {enroll}")
    return Speaker(by, settings)


def _of_file(settings: Settings, file: Path) -> Speaker:
    from harness_stream.client.connect import require_keys  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.client.credentials import Credentials  # noqa: PLC0415  same

    found = Credentials.of(file)
    require_keys(found)
    said = {name: getattr(found, name) for name in ("bootstrap", "realm", "prefix", "dev")}
    return Speaker(found.agent_id, replace(settings, **said), found)
