"""Files that hold secrets: for their owner alone, and never replaced.

Rule of this file: a secret is written where nothing was, with mode 0600 from its first byte on, and one that everybody
may read is refused before it is used. A group may read one: that is how platforms mount secrets.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from harness_stream.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE_MODE: Final = 0o600
PUBLIC_MODE: Final = 0o644


def write_new(path: Path, text: str, mode: int = PRIVATE_MODE) -> None:
    """Write a file that is not there yet.

    Raises:
        ConfigError: it is there already, or cannot be written.
    """
    try:
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"`{path}` is there already and is not replaced", hint="give another name") from None
    except OSError as error:
        raise ConfigError(f"`{path}` cannot be written: {error.strerror}") from None


def require_private(path: Path) -> None:
    """Refuse a file that everybody may read or write.

    Raises:
        ConfigError: it is one; a file that is not there is none.
    """
    if path.exists() and path.stat().st_mode & stat.S_IRWXO:
        raise ConfigError(f"`{path}` holds private keys, and everybody may read it", hint=f"chmod 600 {path}")
