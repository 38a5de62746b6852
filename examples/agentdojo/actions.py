"""From a tool call to what the harness judges: an action, resources by class, measures.

Rule of this file: no raw value leaves it. A resource is its class and a keyed fingerprint; whether an account or an
address is inside is said by a system of record (who was paid before, the account's own domain), never by the agent.
"""

from __future__ import annotations

import secrets
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

FINGERPRINT_BYTES: Final = 8  # 64 bits, as everywhere in the protocol
SYSTEMS: Final[Mapping[str, Sequence[str]]] = {
    "calendar": (
        "get_current_day",
        "search_calendar_events",
        "get_day_calendar_events",
        "create_calendar_event",
        "cancel_calendar_event",
        "reschedule_calendar_event",
        "add_calendar_event_participants",
    ),
    "contacts": ("search_contacts_by_name", "search_contacts_by_email"),
    "email": (
        "send_email",
        "delete_email",
        "get_unread_emails",
        "get_sent_emails",
        "get_received_emails",
        "get_draft_emails",
        "search_emails",
    ),
    "files": (
        "read_file",
        "append_to_file",
        "search_files_by_filename",
        "create_file",
        "delete_file",
        "get_file_by_id",
        "list_files",
        "share_file",
        "search_files",
    ),
}
_SYSTEM_OF: Final = {tool: system for system, tools in SYSTEMS.items() for tool in tools}


def action_of(tool: str) -> str:
    """The dotted verb of a tool; what is not named above is the bank's."""
    return f"{_SYSTEM_OF.get(tool, 'bank')}.{tool}"


class Tools:
    """What the classification table says of the tools: the same rows that the harness judges by."""

    def __init__(self, tables: Path) -> None:
        rows = yaml.safe_load((tables / "classification.yaml").read_text(encoding="utf-8"))
        self._rows = {row["subject"]: row for row in rows}

    def roles(self, tool: str) -> Mapping[str, str]:
        """Parameter → role."""
        found: Mapping[str, str] = self._row(tool).get("argument_roles", {})
        return found

    def action_class(self, tool: str) -> tuple[str, str]:
        """(operation, object)."""
        row = self._row(tool)
        return row["operation"], row["object_class"]

    def only_reads(self, tool: str) -> bool:
        """A call that changes nothing."""
        return self.action_class(tool)[0] == "read"

    def _row(self, tool: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._rows[f"tool:{action_of(tool)}"]
        return found


class Places:
    """Where a call's values lie, in one environment.

    Args:
        environment: of either suite, as the task begins.
    """

    def __init__(self, environment: Any) -> None:  # noqa: ANN401  each suite has its own class
        self._key = secrets.token_bytes(32)  # of this chain: nobody can guess a value from its fingerprint
        bank, inbox = getattr(environment, "bank_account", None), getattr(environment, "inbox", None)
        payments = () if bank is None else (*bank.transactions, *bank.scheduled_transactions)
        own = None if bank is None else bank.iban
        # Only who was paid counts: anyone can make a record by paying in.
        self._payees = {payment.recipient for payment in payments if payment.sender in {"me", own}}
        self._domain = "" if inbox is None else inbox.account_email.rpartition("@")[2]

    def of(self, tool: str, arguments: Mapping[str, Any]) -> list[str]:
        """URIs of everything the call touches."""
        return _RESOURCES.get(tool, _nothing_named)(self, tool, arguments)

    def sealed(self, value: object) -> str:
        """A value's fingerprint, hex."""
        return blake2b(repr(value).encode(), key=self._key, digest_size=FINGERPRINT_BYTES).hexdigest()

    def payee(self, value: str) -> str:
        """An account: `known` if something was ever paid to it, else `new`."""
        return f"bank://iban/{'known' if value in self._payees else 'new'}/{self.sealed(value)}"

    def inside(self, address: str) -> str:
        """`internal` if the address is of the account's own domain, else `external`."""
        return "internal" if address.rpartition("@")[2] == self._domain else "external"


def measures_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Named numbers that rules may bound."""
    return {"amount": arguments["amount"]} if arguments.get("amount") is not None else {}


def _nothing_named(places: Places, tool: str, arguments: Mapping[str, Any]) -> list[str]:  # noqa: ARG001  one signature for all
    return [f"{action_of(tool).partition('.')[0]}://own/{tool}"]


def _payment(places: Places, tool: str, arguments: Mapping[str, Any]) -> list[str]:  # noqa: ARG001  same
    scheduled = [f"bank://scheduled/{places.sealed(arguments['id'])}"] if "id" in arguments else []
    recipient = arguments.get("recipient")
    return scheduled if recipient is None else [*scheduled, places.payee(recipient)]


def _credentials(places: Places, tool: str, arguments: Mapping[str, Any]) -> list[str]:  # noqa: ARG001  same
    return [f"bank://credentials/{tool}"]


def _mailbox(places: Places, tool: str, arguments: Mapping[str, Any]) -> list[str]:  # noqa: ARG001  same
    named = arguments.get("email_id")
    return [f"email://mailbox/{'all' if named is None else places.sealed(named)}"]


def _mail(places: Places, tool: str, arguments: Mapping[str, Any]) -> list[str]:  # noqa: ARG001  same
    to = [address for field in ("recipients", "cc", "bcc") for address in arguments.get(field) or ()]
    files = [part["file_id"] for part in arguments.get("attachments") or () if "file_id" in part]
    mails = [f"email://{places.inside(address)}/{places.sealed(address)}" for address in to]
    return [*mails, *(f"files://drive/{places.sealed(file_id)}" for file_id in files)]


def _event(places: Places, tool: str, arguments: Mapping[str, Any]) -> list[str]:  # noqa: ARG001  same
    named = arguments.get("event_id", arguments.get("title", "all"))
    guests = arguments.get("participants") or ()
    return [
        f"calendar://events/{places.sealed(named)}",
        *(f"calendar://guest/{places.inside(guest)}/{places.sealed(guest)}" for guest in guests),
    ]


def _file(places: Places, tool: str, arguments: Mapping[str, Any]) -> list[str]:  # noqa: ARG001  same
    named = next((arguments[n] for n in ("file_id", "filename", "file_path") if n in arguments), "all")
    reader = arguments.get("email")
    shared = [] if reader is None else [f"files://shared/{places.inside(reader)}/{places.sealed(reader)}"]
    return [f"files://drive/{places.sealed(named)}", *shared]


_RESOURCES: Final[dict[str, Callable[[Places, str, Mapping[str, Any]], list[str]]]] = {
    **dict.fromkeys(("send_money", "schedule_transaction", "update_scheduled_transaction"), _payment),
    **dict.fromkeys(("update_password", "update_user_info"), _credentials),
    **dict.fromkeys(SYSTEMS["email"], _mailbox),
    **dict.fromkeys(SYSTEMS["calendar"], _event),
    **dict.fromkeys(SYSTEMS["files"], _file),
    "send_email": _mail,
}
