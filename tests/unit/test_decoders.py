"""Every decoder of bytes that somebody else wrote: only its documented error, in bounded time and memory.

Rule of this file: a function that takes bytes apart stands in `DECODERS` or, with the reason, in `OWN`; a test looks for
others. `HARNESS_LONG=1` tries 50 times as many.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import os
import socket
import threading
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import factories as make
import orjson
import pytest
from hypothesis import HealthCheck, given, settings

from harness_stream.adapters.memory.clock import ManualClock
from harness_stream.adapters.memory.state import MemoryStateStore
from harness_stream.adapters.redis.keys import Whose
from harness_stream.adapters.redis.state import RedisStateStore
from harness_stream.adapters.signing import UNSIGNED_HEADERS, UnsignedVerifier, keyring, merkle, tokens
from harness_stream.adapters.signing.certificate import Certificate
from harness_stream.adapters.signing.enforcers import EnforcerCertificate
from harness_stream.adapters.signing.framing import Bound
from harness_stream.adapters.signing.inputs import speaker_of
from harness_stream.adapters.signing.key_document import KeyDocument
from harness_stream.adapters.tables_source import read_folder
from harness_stream.adapters.witness_file import held_in
from harness_stream.cli import log_verify, rules
from harness_stream.cli import token as token_command
from harness_stream.client.answer import Answer, readable
from harness_stream.client.credentials import Credentials
from harness_stream.client.fingerprints import read_key
from harness_stream.client.head import Head, answers_of, named_by, place_of, skipped_by
from harness_stream.client.running import Running
from harness_stream.client.signed_mandate import read_mandate, signed_mandate
from harness_stream.config import load_settings
from harness_stream.core.apply import change_of
from harness_stream.core.audit import resumed
from harness_stream.core.cases.read import read_cases
from harness_stream.core.fold import Place, fold_header, genesis
from harness_stream.core.groups import Kept
from harness_stream.core.ids import ids_unit
from harness_stream.core.join import Table
from harness_stream.core.notice import Stopped, notice
from harness_stream.core.rules import compile as compiler
from harness_stream.core.rules.document import read_json
from harness_stream.core.rules.mistakes import Findings
from harness_stream.core.state import PARTITION_UNIT, State
from harness_stream.core.units import as_of, decode_part, encode_unit, is_of_another_version, replay_unit
from harness_stream.core.witness import Held
from harness_stream.errors import (
    CallerError,
    ConfigError,
    GarbageRecord,
    InvalidInput,
    StateUnavailable,
    TokenRefused,
)
from harness_stream.local.process import DetachedProcess
from harness_stream.ports import LogRecord, Move, Sender, StoredHead
from harness_stream.runtime.audit_read import record_of
from harness_stream.runtime.chain_view import stored_place
from harness_stream.runtime.cold import units_named
from harness_stream.runtime.history import any_checkpoint_in
from harness_stream.runtime.replay_lines import Lines
from harness_stream.runtime.snapshots import Gathered, Key, key_of
from harness_stream.wire.cloudevents import SIGNATURE_NAMES, base64url, from_base64url, read_headers, signature_of
from harness_stream.wire.codec import decode_input, decode_row, encode
from harness_stream.wire.decisions import body_of, encode_body, read_body
from harness_stream.wire.rules_topic import Pushed, newest_active, read_active
from harness_stream.wire.witness import decode_line, encode_line
from tests.fuzz import EXAMPLES, HOSTILE, HOSTILE_BYTES_MAX, HOSTILE_S_MAX, mutations, peak_bytes, seconds
from tests.tokens import REALM, certificate, parts, records, token, verdict_body

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
FOLDER = TemporaryDirectory(prefix="decoders-")
HERE = Path(FOLDER.name)
OWN_BYTES = 20_000
INCARNATION, UNSIGNED, NOW, DAY = "i1", UnsignedVerifier(), make.NOW, 86_400_000


class Decoder(NamedTuple):
    """A decoder.

    Attributes:
        call: takes bytes apart, and asks whatever came out what its users ask.
        seeds: true ones.
        allowed: what it may raise.
        sites: `module::function` where bytes are taken apart.
        slow: it opens a file or a connection: fewer are tried.
        own: it reads what people wrote for themselves, or a server of the realm: hostile bytes are fewer.
    """

    call: Callable[[bytes], Any]
    seeds: list[bytes]
    allowed: tuple[type[Exception], ...] = ()
    sites: tuple[str, ...] = ()
    slow: bool = False
    own: bool = False


# --- True ones ---

CHECKPOINT = {
    "kind": "checkpoint", "incarnation": INCARNATION, "epoch": 2, "writer": "a" * 32, "partition": 0, "verdict_offset": 5,
    "record_digest": "b" * 64, "head": "c" * 64, "next_input": 4, "rules": {"digest": "d" * 64, "revision": 1},
    "t": NOW, "crash_claims": 0, "snapshot_cut": -1, "dev": True, "next_rules": None,
}
PLACE = Place.from_json(CHECKPOINT)
LINKED = {"incarnation": INCARNATION, "epoch": 2, "writer": "a" * 32, "prev": "c" * 64, "covers": [4, 4], "t": NOW}
SKIP = {**LINKED, "kind": "skip", "reason": "garbage", "count": 1, "digest": "0" * 64}
DENIED = [
    {"offset": 4 + n, "t": NOW, "agent_id": "a", "intent_id": make.uuid7(NOW, n), "intent_digest": "0" * 64, "remember_until": NOW,
     "arguments_digest": "0" * 64, "enforcer_nonce": "0" * 32, "code": "late", "detail": "x"}
    for n in range(3)
]
DECISIONS = [
    *({"kind": "claim", "incarnation": INCARNATION, "epoch": 3, "writer": "e" * 32, "after": "crash", "pending": True}, CHECKPOINT),
    {**verdict_body(), **LINKED, "rules": CHECKPOINT["rules"], "reasons": [{"code": "rule", "evidence": ["x"]}]},
    {**SKIP, "offsets": [{"offset": 4, "reason": "schema", "detail": "x"}]},
    {**LINKED, "kind": "denials", "covers": [4, 6], "rules": CHECKPOINT["rules"], "decided_at": NOW, "engine": "e", "denied": DENIED},
    {**LINKED, "kind": "ack", "agent_id": "a", "event_type": "outcome", "id": "x", "digest": "0" * 64, "status": "refused"},
    {**LINKED, "kind": "switch", "covers": [4, 3], "rules": {"digest": "e" * 64, "revision": 2}, "warmed": None},
    {**LINKED, "kind": "resume", "epoch": 9, "checkpoint": CHECKPOINT, "seal": {"hs-alg": "none"}, "head": "0" * 64, "next_input": 4, "rules": None},
    notice(PLACE.header, Stopped("a", "killed", 3)),
]
RULES = make.APPROVE_ALL.replace("rules:\n", "selections:\n  any: 'true'\nrules:\n", 1) + (
    "  - {id: flood, effect: deny, when: any, correlation: "
    "{type: event_count, rules: [any], group-by: [agent_id], timespan: 1h, condition: {gt: 50}}}\n"
)


def story() -> make.Story:
    told = make.Story(RULES)
    told.take(make.mandate())
    told.act(chain_id="chain-1", measures={"rows": 3})
    told.take(make.mandate(chain_id="chain-2", expires_at=NOW + 9 * DAY))
    told.take(make.mandate(chain_id="chain-2", close=True))
    told.take(make.mandate(chain_id="chain-3", expires_at=NOW + 9 * DAY), NOW + 2 * DAY)
    return told


STORY, WINDOWS = story(), make.windows(RULES)
UNITS = [encode_unit(STORY.state.confirmed(unit), 7, NOW) for unit in STORY.state.units()]
SEAL = encode_unit({**STORY.state.confirmed(PARTITION_UNIT), ("place",): PLACE.to_json()}, 7, NOW)
DELTAS = [orjson.dumps([9, change]) for change in (*STORY.changes, change_of({"kind": "denials", "denied": DENIED}, "0" * 64))]
KEPT = [kept.text.encode() for unit in STORY.state.units() for kept in STORY.state.confirmed(unit).values() if isinstance(kept, Kept)]
ROWS = {
    "identity": make.identity_row() | {"keys": [key.model_dump() for key in REALM.keys("a")]},
    "infrastructure": {"workload_id": "w", "environment": "prod", "attested": True},
    "risk": {"subject": "agent:a", "score": 0.5, "level": "high", "reasons": ["x"], "valid_until": NOW},
    "classification": {"subject": "tool:crm.*", "labels": ["pii"], "sensitivity": "high", "argument_roles": {"to": "destination"}},
}
HELD = encode_line(Held(PLACE, NOW, 3)).rstrip(b"\n")
CASES = b"rules: r.yaml\ncases:\n- name: one\n  given: []\n  when: {action: crm.read}\n  then: {decision: approve}\n"
EVENTS = [encode(made) for made in (make.intent(), make.mandate(), make.outcome(), make.approval())]
TIMED = [json.dumps({**json.loads(event), "at": NOW, "realm": "r"}).encode() for event in EVENTS]
LINES = [json.dumps({"type": "intent", "at": NOW, "agent_id": "agent-1", "action": "crm.read"}).encode(), *TIMED]
TABLE_LINE = json.dumps({"type": "table", "table": "identity", "row": ROWS["identity"]}).encode()
SPEAKER = {"mac": "A" * 43, "sign": "A" * 43, "certificate": "AAAA"}
CREDENTIALS = {"realm": "r", "agent_id": "a", "keys": SPEAKER, "others": {"g": SPEAKER}, "pdp_key": "A" * 43, "partitions": 4}
KEYS = HERE / "keys"
keyring.create(KEYS, Bound("r", INCARNATION))
TEXTS = {path.name: path.read_text("utf-8") for path in KEYS.iterdir()}
MANDATE = encode(make.mandate())
SIGNED_MANDATE = signed_mandate(make.mandate(), REALM.inputs(make.mandate().by), ("r", INCARNATION, "t", "l"))


# --- Ways to take them apart ---


def log_record(value: bytes, headers: Any = UNSIGNED_HEADERS, key: bytes = b"k") -> LogRecord:
    return LogRecord("t", 0, 6, key, value, NOW, headers)


def decision(value: bytes) -> None:
    """What a client, a worker's fold and an auditor do with it, from three places."""
    body, digest = read_body(value)
    fold_header(genesis(INCARNATION, 0), body, digest)
    fold_header(PLACE.header, body, digest)
    for place in (PLACE, Place.genesis(INCARNATION, 0)):
        head = Head(place, UNSIGNED)
        effective = head.take(log_record(value))
        if effective is None:
            continue
        Running().heard(0, effective)
        for answer in answers_of(effective, {row["intent_id"] for row in DENIED}):
            named_by(answer)
            skipped = skipped_by(answer)
            assert skipped is None or skipped.reason_of(4)
            assert not readable(answer.body) or repr(Answer(answer.body, digest, 6, log_record(value)))
    units_named(body)
    record_of(log_record(value), UNSIGNED)
    if readable(body):
        repr(Answer(body, digest, 6, log_record(value)))


def checkpoint(value: bytes) -> None:
    """Whoever starts from it can go on, and hold it."""
    place = place_of(log_record(value), INCARNATION, 0, UNSIGNED)
    body = any_checkpoint_in(log_record(value), 0, UNSIGNED)
    named = resumed.named_by({"checkpoint": body_of(value)}, PLACE)
    for found in (place, named, None if body is None else Place.from_json(body)):
        if found is not None:
            goes_on(found)
    if body is not None:
        decode_line(encode_line(Held(Place.from_json(body), NOW, 3)).rstrip(b"\n"))
        assert max(body["epoch"], body["snapshot_cut"]) >= -1
    told = rules._last([log_record(value)])
    rules.report_of("r", Pushed("d" * 64, 1), {0: told})
    rules.unusable_in(Pushed("d" * 64, 1), {0: told})


def goes_on(place: Place) -> None:
    claim = {**DECISIONS[0], "incarnation": place.header.incarnation, "epoch": place.header.epoch + 1}
    fold_header(place.header, claim, "0" * 64)
    assert place.offset >= -1
    assert place.header.t + 1 > place.header.t


def in_file(name: str, data: bytes) -> Path:
    path = HERE / name
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def row(table: Any) -> Callable[[bytes], Any]:
    def call(data: bytes) -> None:
        held = Table(table)
        held.put("k", data, 1)
        with suppress(ValueError):
            held.row("k")
        decode_row(table, data)

    return call


def unit(data: bytes) -> None:
    as_of(data)
    is_of_another_version(data)
    for turn in (None, 1):
        gathered = Gathered(INCARNATION)
        gathered.take(log_record(data, key=Key("a:agent-1", 2, 0, turn).encode(INCARNATION)))
    found = decode_part(data)
    dict(found.values.get(("closed",), ()))
    if ("place",) in found.values:
        goes_on(Place.from_json(found.values["place",]))


def delta(data: bytes) -> None:
    """Of the three kinds of units that change by deltas."""
    refused = 0
    for name in ("a:agent-1", "l:tenant-1", ids_unit(DENIED[0]["intent_id"])):
        try:
            replay_unit(name, None, [data], STORY.state.confirmed(PARTITION_UNIT), WINDOWS)
        except ValueError:
            refused += 1
    assert refused < 3 or data not in DELTAS


def chains_key(data: bytes) -> None:
    found = key_of(log_record(b"", key=data), INCARNATION)
    assert found is None or key_of(log_record(b"", key=found.encode(INCARNATION)), INCARNATION) == found


def headers(data: bytes) -> None:
    for name in SIGNATURE_NAMES:
        said = [("hs-alg", b"x25519-hmac-sha256"), ("hs-kid", b"0" * 16), (name, data)]
        read_headers([*said, (data.decode("latin-1"), data), ("traceparent", data), ("ce_time", None)])
        signature_of(said)
        record = log_record(b"{}", [("hs-alg", b"ed25519-merkle-sha256"), *[(n, data) for n in sorted(SIGNATURE_NAMES) if n != "hs-alg"]])
        assert not REALM.verifier().decision_authentic(record)
        assert not REALM.verifier().input_authentic(record._replace(headers=said), Sender("intent", "l", REALM.keys("a")))


def packed(data: bytes) -> None:
    found, proof, enforcer = Certificate.unpacked(data), merkle.Proof.unpacked(data), EnforcerCertificate.unpacked(data)
    assert found is None or found.packed() == data
    assert proof is None or merkle.root_of(b"x", proof) is None or proof.size > proof.at
    assert enforcer is None or enforcer.packed() == data
    assert enforcer is None or enforcer.vouched_for(REALM.root_public, REALM.bound) == (data == certificate())


def token_text(data: bytes) -> None:
    """Of the token's bytes as well as of its text."""
    for text in (data.decode("latin-1"), base64url(data).decode()):
        found = tokens.Sealed.of_text(text)
        assert found is None or found.text() == text
        tokens.believed(text, REALM.root_public, "payments", "acme", None, 1)


def key_file(name: str) -> Callable[[bytes], Any]:
    def call(data: bytes) -> None:
        in_file(f"keys/{name}", data)
        bound = Bound("r", INCARNATION)
        {"worker.crt": lambda: keyring.certified_key(KEYS, bound), "pdp.key": lambda: keyring.pdp_private(KEYS)}[name]()

    return call


def in_variable(data: bytes) -> None:
    """A variable holds no zero byte."""
    with mock.patch.dict(os.environ, {"KEYS_TRIED": data.decode("latin-1").replace("\0", "0")}):
        found = KeyDocument("env:KEYS_TRIED")
    refused: list[ConfigError] = []
    for take in (lambda: keyring.certified_key(found, Bound("r", INCARNATION)), lambda: keyring.pdp_former(found), lambda: keyring.value_key(found)):
        try:
            take()
        except ConfigError as error:
            refused.append(error)
    if refused:
        raise refused[0]


def stored_header(data: bytes) -> None:
    store = MemoryStateStore()
    store.move(Move(0, None, StoredHead(5, 2, data)))
    found = stored_place(store, 0)
    if found is not None:
        goes_on(found)


@contextmanager
def answering(reply: bytes):
    """A server that answers every question with this, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.settimeout(1)
                    try:
                        for _ in range(3):
                            if not client.recv(65_536):
                                break
                            client.sendall(reply)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        server.shutdown(socket.SHUT_RDWR)
    thread.join(2)


def redis_reply(data: bytes) -> None:
    clock = ManualClock()
    with answering(data) as url:
        store = RedisStateStore(url, Whose("r", "i1"), clock, timeout_ms=20)
        for ask in (lambda: store.head(0), lambda: store.units(0), lambda: store.load(0, ["a:1"]), lambda: store.clear(0, None)):
            clock.advance(1_000)
            try:
                ask()
            except StateUnavailable:
                continue
        store.close()


def folder_of(suffix: str) -> Callable[[bytes], Any]:
    def call(data: bytes) -> None:
        folder = HERE / suffix
        folder.mkdir(exist_ok=True)
        (folder / f"identity.{suffix}").write_bytes(data)
        read_folder(folder)

    return call


def as_yaml(document: Any) -> bytes:
    return json.dumps(document, indent=1).encode()


def as_csv(row_: dict[str, Any]) -> bytes:
    text = io.StringIO()
    plain = {name: value if isinstance(value, str) else json.dumps(value) for name, value in row_.items()}
    writer = csv.DictWriter(text, list(plain))
    writer.writeheader()
    writer.writerow(plain)
    return text.getvalue().encode()


def lines_of(data: bytes) -> None:
    Lines("r", make.tables(), State()).read(1, data)


def process_record(data: bytes) -> None:
    in_file("server.json", data)
    found = DetachedProcess("server", HERE).last()
    assert found is None or found


def text_key(data: bytes) -> None:
    text = data.decode("latin-1")
    for take in (lambda: read_key(text), lambda: speaker_of(text, text), lambda: from_base64url(text)):
        try:
            take()
        except ValueError:
            continue


SIGNING = "harness_stream/adapters/signing"
DECODERS: dict[str, Decoder] = {
    "input": Decoder(decode_input, EVENTS, (GarbageRecord,), ("harness_stream/wire/codec.py::decode_input", "harness_stream/wire/codec.py::_strict_json")),
    **{
        f"row of {table}": Decoder(row(table), [json.dumps(fields).encode()], (GarbageRecord,), ("harness_stream/wire/codec.py::decode_row", "harness_stream/core/join.py::_parse"))
        for table, fields in ROWS.items()
    },
    "decision": Decoder(decision, [encode_body(body) for body in DECISIONS], (), ("harness_stream/wire/decisions.py::body_of",)),
    "checkpoint": Decoder(
        checkpoint,
        [encode_body(CHECKPOINT), encode_body({**CHECKPOINT, "next_rules": {"revision": 1, "state": "unusable", "detail": "x"}})],
        (),
        tuple(f"harness_stream/{site}" for site in ("client/head.py::place_of", "runtime/history.py::place_before", "runtime/standing.py::place", "runtime/standing.py::_begun_by", "runtime/witness.py::_take", "core/audit/log.py::_statement", "core/audit/resumed.py::named_by", "runtime/history.py::any_checkpoint_in")),
    ),
    "checkpoint in a file": Decoder(
        lambda data: log_verify._in_file(in_file("checkpoint.json", data)), [encode_body(CHECKPOINT)], (CallerError,),
        ("harness_stream/cli/log_verify.py::_in_file",), slow=True,
    ),
    "active rules": Decoder(
        lambda data: (read_active(data), newest_active([(b"active/r", data)], "r")), [Pushed("d" * 64, 3).encode()], (),
        ("harness_stream/wire/rules_topic.py::read_active",),
    ),
    "bundle": Decoder(
        lambda data: (read_json(data, Findings("", "b")), compiler.from_bundle(data)), [compiler.load(RULES).bundle], (InvalidInput,),
        ("harness_stream/core/rules/document.py::read_json",), own=True),
    "rules": Decoder(
        lambda data: compiler.inspect(data.decode("utf-8", "replace"), "r.yaml"), [RULES.encode()], (),
        ("harness_stream/core/rules/document.py::read_yaml",), own=True),
    "cases": Decoder(lambda data: read_cases(data.decode("utf-8", "replace")), [CASES], (), ("harness_stream/core/cases/events.py::validated", "harness_stream/core/cases/rows.py::_made"), own=True),
    "unit": Decoder(
        unit, [*UNITS, SEAL], (ValueError,),
        tuple(f"harness_stream/{site}" for site in ("core/units.py::decode_part", "core/units.py::_place", "core/provenance.py::from_json", "runtime/snapshots_seen.py::_sealed_place", "runtime/loading.py::_from_snapshots", "runtime/cold.py::_changed_between", "runtime/cold.py::_follow_up")),
    ),
    "delta": Decoder(delta, DELTAS, (ValueError,), ("harness_stream/core/units.py::_delta",)),
    "key of the chains topic": Decoder(chains_key, [Key("a:x", 2).encode(INCARNATION), Key("a:x", 2, 1, 1).encode(INCARNATION), Key("a:@#~", 2**52).encode(INCARNATION)], (), ()),
    "headers": Decoder(headers, [b"AAAA", b"none", base64url(bytes(120)), b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01"], (), ("harness_stream/wire/cloudevents.py::_read_signature", "harness_stream/wire/cloudevents.py::from_base64url")),
    "packed": Decoder(
        packed, [certificate(), certificate()[32:144], bytes(8) + b"x" * 64], (),
        tuple(f"{SIGNING}/{site}" for site in ("certificate.py::unpacked", "enforcers.py::unpacked", "framing.py::unframed", "framing.py::number_of", "merkle.py::unpacked")),
    ),
    "token": Decoder(token_text, [token().encode(), from_base64url(token()), from_base64url(parts(token(records(verdict_body(), verdict_body(1))[1])).text())], (TokenRefused,), (f"{SIGNING}/tokens.py::of_text",)),
    "arguments": Decoder(lambda data: token_command._arguments(in_file("arguments.json", data)), [b'{"a": 1}'], (CallerError,), ("harness_stream/cli/token.py::_arguments",), slow=True),
    "key": Decoder(text_key, [b"A" * 43], (), (f"{SIGNING}/keys.py::raw_of", "harness_stream/client/fingerprints.py::read_key")),
    "worker's certificate": Decoder(key_file("worker.crt"), [(KEYS / "worker.crt").read_bytes()], (ConfigError,), (f"{SIGNING}/keyring.py::_file", f"{SIGNING}/keyring.py::_certificate"), slow=True),
    "private key": Decoder(key_file("pdp.key"), [(KEYS / "pdp.key").read_bytes()], (ConfigError,), (), slow=True),
    "keys in a variable": Decoder(
        in_variable, [json.dumps(TEXTS).encode(), json.dumps({name: json.loads(text) for name, text in TEXTS.items()}).encode()], (ConfigError,),
        ("harness_stream/secret_source.py::document_of", f"{SIGNING}/key_document.py::entry"),
    ),
    "enforcer's seal": Decoder(
        lambda data: tokens.seal_of(REALM.bound, REALM.root_public, "gate-1", "A" * 43, data.decode("latin-1")), [base64url(certificate())], (),
        (f"{SIGNING}/tokens.py::seal_of",),
    ),
    "mandate": Decoder(lambda data: read_mandate(data, None), [MANDATE, SIGNED_MANDATE], (InvalidInput,), ("harness_stream/client/signed_mandate.py::_parsed",)),
    "credentials": Decoder(lambda data: Credentials.of(in_file("agent.json", data)), [json.dumps(CREDENTIALS).encode()], (ConfigError,), ("harness_stream/client/credentials.py::_read",), slow=True),
    "settings": Decoder(lambda data: load_settings(in_file("harness.toml", data), {}), [b'realm = "r"\npartitions = 4\n'], (CallerError,), ("harness_stream/config.py::_from_file",), slow=True, own=True),
    "held line": Decoder(decode_line, [HELD], (ValueError,), ("harness_stream/wire/witness.py::decode_line",)),
    "witness file": Decoder(lambda data: list(held_in(str(in_file("heads.jsonl", data + b"\n")))), [HELD, HELD + b"\n" + HELD], (CallerError,), (), slow=True),
    "event line": Decoder(lines_of, [*LINES, TABLE_LINE], (GarbageRecord,), ("harness_stream/runtime/replay_lines.py::_object",)),
    "rows in YAML": Decoder(folder_of("yaml"), [as_yaml([ROWS["identity"]])], (), ("harness_stream/adapters/tables_source.py::_read_yaml", "harness_stream/adapters/tables_source.py::add"), slow=True, own=True),
    "rows in JSON lines": Decoder(folder_of("jsonl"), [json.dumps(ROWS["identity"]).encode()], (), ("harness_stream/adapters/tables_source.py::_read_jsonl",), slow=True, own=True),
    "rows in CSV": Decoder(folder_of("csv"), [as_csv(ROWS["identity"])], (), tuple(f"harness_stream/adapters/tables_source.py::{name}" for name in ("_csv_records", "_cell", "_is_json")), slow=True, own=True),
    "place in the store": Decoder(stored_header, [orjson.dumps(PLACE.to_json())], (StateUnavailable,), tuple(f"harness_stream/runtime/{site}" for site in ("chain_view.py::stored_place", "loading.py::_from_store", "standing.py::_stored"))),
    "answer of Redis": Decoder(redis_reply, [b"*3\r\n$1\r\n5\r\n$1\r\n1\r\n$2\r\n{}\r\n", b"*2\r\n$1\r\n0\r\n*1\r\n$2\r\na:\r\n", b":1\r\n", b"*1\r\n*1\r\n$2\r\nbx\r\n"], (), (), slow=True, own=True),
    "record of a process": Decoder(process_record, [b'{"pid": 1, "born": "x", "address": "a", "settings": {}}'], (), ("harness_stream/local/process.py::last",), slow=True),
}

OWN = {
    "harness_stream/client/binding.py::_read_back": "reads back what it has just written",
    "harness_stream/core/audit/answers.py::_expected": "reads back what it has just written",
    "harness_stream/core/audit/answers.py::_warmed": "of an effective record that has been read; ends as a finding",
    "harness_stream/runtime/loading.py::_count_open_warmups": "of an effective record that has been read",
    "harness_stream/runtime/loading.py::_count_warmup": "of an effective record that has been read",
    "harness_stream/runtime/loading.py::_fold_chained": "of a checkpoint that was read strictly",
    "harness_stream/runtime/case_explain.py::__init__": "of a bundle that was compiled here",
    "harness_stream/core/groups.py::state": "part of a unit, taken apart when asked for; the worker halts if it cannot be",
    "harness_stream/core/rules/syntax.py::_const": "of CEL's own parser",
    "harness_stream/cli/holds_read.py::_input_at": "shown to people, any object will do",
}
"""Not asked here, and why."""

PARSERS = {
    *("loads", "model_validate_json", "validate_json", "get_single_node", "unpack", "unpack_from", "unframed"),
    *("from_base64url", "b64decode", "urlsafe_b64decode", "hmget"),
}
WHOLE_NAMES = {"Place.from_json", "window.from_json", "csv.reader"}


def sites() -> set[str]:
    """Functions that take bytes apart, by what they call."""
    found = set()
    for path in [*(ROOT / "harness_stream").rglob("*.py"), *(ROOT / "topologies").rglob("*.py")]:
        text = path.read_text("utf-8")
        if any(name in text for name in (*PARSERS, *WHOLE_NAMES)):
            functions = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
            found |= {f"{path.relative_to(ROOT)}::{function.name}" for function in functions if takes_apart(function)}
    return found


def takes_apart(function: ast.AST) -> bool:
    names = {called(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)}
    return bool(names & WHOLE_NAMES) or any(name.split(".")[-1] in PARSERS for name in names)


def called(func: ast.expr) -> str:
    """`json.loads` of `json.loads(…)`, `.loads` of what is called on something longer."""
    if isinstance(func, ast.Attribute):
        return f"{func.value.id if isinstance(func.value, ast.Name) else ''}.{func.attr}"
    return func.id if isinstance(func, ast.Name) else ""


def test_every_function_that_takes_bytes_apart_is_asked_here_or_says_why_not():
    asked = {site for decoder in DECODERS.values() for site in decoder.sites}
    assert sites() - asked - set(OWN) == set()
    assert (asked | set(OWN)) - sites() == set(), "these are gone"


@pytest.mark.parametrize("name", DECODERS)
def test_true_ones_are_taken(name):
    decoder = DECODERS[name]
    for seed in decoder.seeds:
        with pytest.raises(TokenRefused) if name == "token" else nullcontext():  # true, and for another time
            decoder.call(seed)


@pytest.mark.parametrize("name", DECODERS)
def test_whatever_comes_it_is_read_or_refused(name):
    decoder = DECODERS[name]

    @settings(max_examples=max(10, EXAMPLES // 4) if decoder.slow else EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(mutations(decoder.seeds))
    def refused_or_read(data: bytes) -> None:
        try:
            decoder.call(data)
        except decoder.allowed:
            return

    refused_or_read()


@pytest.mark.parametrize("name", DECODERS)
def test_hostile_bytes_cost_a_bounded_time_and_memory(name):
    decoder = DECODERS[name]

    def call(data: bytes) -> None:
        try:
            decoder.call(data)
        except decoder.allowed:
            return

    for whole in HOSTILE:
        data = whole[:OWN_BYTES] if decoder.own else whole
        assert seconds(call, data) < HOSTILE_S_MAX, data[:20]
        assert decoder.own or peak_bytes(call, data) < HOSTILE_BYTES_MAX, data[:20]
