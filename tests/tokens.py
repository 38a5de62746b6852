"""A token's parts for tests, each of which may be made wrong."""

from __future__ import annotations

from hashlib import sha256

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from harness_stream.adapters.signing.certificate import ENROLLER, certify
from harness_stream.adapters.signing.enforcers import Enforcer, certify_enforcer
from harness_stream.adapters.signing.keys import public_of
from harness_stream.adapters.signing.tokens import Sealed, TokenSeal
from harness_stream.core.canonical import arguments_digest
from harness_stream.ports import LogRecord
from tests.signed import SignedRealm, seed

REALM = SignedRealm("acme", "topic-a.topic-b")
NOW, LANE, AGENT, GATE = 1_700_000_000_000, "lane-1", "support-1", "gate-1"
ARGUMENTS = {"order": 1234, "amount": 40}
FAR = 2**53 - 1


def verdict_body(n=0, realm=REALM, **over):
    """As a worker writes it; `event` may be given in part."""
    event = {
        "id": f"intent-{n}",
        "lane": LANE,
        "agent_id": AGENT,
        "action": "crm.refund",
        "resources": [{"uri": "crm://orders/1234", "labels": ["pii"]}],
        "measures": {"amount": 40},
    }
    given = over.pop("event", {})
    return {
        "kind": "verdict",
        "incarnation": realm.incarnation,
        "epoch": 7,
        "writer": "a" * 32,
        "prev": "0" * 64,
        "covers": [n, n],
        "t": NOW,
        "decision": "approve",
        "agent_id": AGENT,
        "intent_id": f"intent-{n}",
        "intent_digest": "1" * 64,
        "arguments_digest": arguments_digest(ARGUMENTS),
        "enforcer_nonce": "2" * 32,
        "reasons": [],
        "valid_for_ms": 5_000,
        "remember_until": NOW + 130_000,
        "rules": {"digest": "3" * 64, "revision": 1},
        "event": None if given is None else {**event, **given},
        "inputs": {},
        **over,
    }


def records(*bodies, realm=REALM, partition=3, worker=None):
    """One micro-batch."""
    values = [body if isinstance(body, bytes) else orjson.dumps(body) for body in bodies]
    headers = (worker or realm.worker()).seal_batch(partition, [sha256(value).hexdigest() for value in values])
    pairs = enumerate(zip(values, headers, strict=True))
    return [LogRecord("v", partition, n, None, value, NOW, own) for n, (value, own) in pairs]


def enforcer_key(name=GATE):
    return Ed25519PrivateKey.from_private_bytes(seed(name, "e"))


def certificate(realm=REALM, name=GATE, lane=LANE, times=(NOW - 1_000, NOW + 90_000_000), key=None, role=ENROLLER, **of):
    """An enforcer's certificate, packed."""
    enroller = Ed25519PrivateKey.from_private_bytes(seed("enroller"))
    above = certify(of.get("root", realm.root), realm.bound, public_of(enroller), role=role, **of.get("given", {}))
    said = Enforcer(name, lane, public_of(key or enforcer_key(name)), *times)
    return certify_enforcer(of.get("by", enroller), above, realm.bound, said).packed()


def seal(realm=REALM, name=GATE, key=None, **of):
    key = key or enforcer_key(name)
    return TokenSeal(realm.bound, key, certificate(realm, name, key=key, **of))


def token(record=None, audience="payments", not_after=NOW + 5_000, by=None):
    return (by or seal()).seal_token(record or records(verdict_body())[0], audience, not_after)


def parts(text):
    return Sealed.of_text(text)
