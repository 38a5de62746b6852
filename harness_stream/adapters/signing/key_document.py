"""A realm's keys as one document instead of a folder: file name → what would be in that file, or its text.

Rule of this file: it only hands out entries; what a key is, `keyring.py` says. Nothing of it is shown by printing it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from harness_stream.errors import ConfigError
from harness_stream.secret_source import document_of, named

if TYPE_CHECKING:
    from collections.abc import Mapping


class KeyDocument:
    """Keys that a variable holds or a command has printed.

    Args:
        source: see `secret_source`; read now.

    Attributes:
        name: what people call the source.

    Raises:
        ConfigError: it cannot be read, or is no JSON object.
    """

    def __init__(self, source: str) -> None:
        self.name = named(source)
        self._entries: Mapping[str, Any] = document_of(source)

    def __contains__(self, name: str) -> bool:
        """Has it that entry?"""
        return name in self._entries

    def entry(self, name: str) -> object:
        """What the file of that name would hold.

        Raises:
            ConfigError: there is no such entry, or its text is no JSON.
        """
        if name not in self._entries:
            hint = f"it must be one JSON object with an entry `{name}`: what `harness keys init` writes into that file"
            raise ConfigError(f"{self.name} holds no `{name}`", hint=hint)
        found = self._entries[name]
        try:
            return json.loads(found) if isinstance(found, str) else found
        except (ValueError, RecursionError):
            raise ConfigError(f"`{name}` in what {self.name} holds is no JSON") from None
