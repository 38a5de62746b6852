"""The least rights that an ACL user of Redis needs, found in what the adapter asks for.

Rule of this file: commands inside of scripts are read from the scripts themselves, so that none can be forgotten; keys
are those of one realm. `docs/transport.md` shows the same lines, and a test with a real server tries them.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Final

from harness_stream.adapters.redis import keys

SCRIPTS_READ: Final = ("head.lua", "load.lua")
SCRIPTS_WRITTEN: Final = (*SCRIPTS_READ, "move.lua", "clear.lua")
# What `state.py` asks for itself; scripts run by their digest, and by their text where the server does not know it.
_DIRECT: Final = frozenset({"sscan", "evalsha", "eval"})
_CALL: Final = re.compile(r"redis\.call\('([A-Z]+)'")


def commands(*, writes: bool) -> tuple[str, ...]:
    """Every command that is needed, in lower case.

    Args:
        writes: a worker's and a resume's; else what `chain show`, `holds` and `partitions` ask for.
    """
    names = SCRIPTS_WRITTEN if writes else SCRIPTS_READ
    folder = files("harness_stream.adapters.redis").joinpath("scripts")
    texts = (folder.joinpath(name).read_text(encoding="utf-8") for name in names)
    return tuple(sorted(_DIRECT | {found.lower() for text in texts for found in _CALL.findall(text)}))


def rules(realm: str, *, writes: bool) -> tuple[str, ...]:
    """Rules for `ACL SETUSER`, without the password.

    Args:
        realm: `<realm>/<prefix>`, as the state store is told it.
        writes: see `commands`.
    """
    allowed = (f"+{command}" for command in commands(writes=writes))
    return ("resetkeys", f"~{keys.pattern(realm)}", "resetchannels", "-@all", *allowed)
