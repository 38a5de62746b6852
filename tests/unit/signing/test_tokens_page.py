"""`docs/tokens.md` is true: its commands, its words, its examples; and who follows it alone comes to the same."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from harness_stream import token as executor
from harness_stream.adapters.signing import framing
from harness_stream.core import limits
from harness_stream.core.reasons import Token
from tests.pages import blocks, column, command_lines, understood
from tests.tokens import ARGUMENTS, NOW, REALM, records, token, verdict_body

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/tokens.md").read_text("utf-8")
LINES = [" ".join(line) for block in blocks(PAGE) if block.kind == "sh" for line in command_lines(block.text)]


@pytest.mark.parametrize("line", LINES)
def test_a_command_line_that_is_shown_is_understood(line):
    understood(line)


def test_every_word_of_refusal_stands_in_the_table():
    assert [word for word in column(PAGE) if word.startswith("token_")] == [
        *(word for word in column(PAGE) if word in set(Token))
    ]
    assert set(column(PAGE)) >= set(Token)


def test_every_domain_of_tokens_is_named_and_limits_are_as_they_are():
    named = set(re.findall(r"`(harness-stream/1 [a-z ]+)`", PAGE))
    wanted = (framing.TOKEN_DOMAIN, framing.TOKEN_TEXT_DOMAIN, framing.ENFORCER_DOMAIN, framing.ENFORCER_TEXT_DOMAIN)
    assert named == {domain.decode() for domain in (*wanted, framing.CERTIFICATE_DOMAIN)}
    assert f"{limits.TOKEN_CHARS_MAX:,} characters" in PAGE
    assert (limits.TOKEN_MS_MAX + limits.CLOCK_SKEW_MS_MAX, limits.DEADLINE_MS_MAX + limits.CLOCK_SKEW_MS_MAX) == (35_000, 65_000)


def test_the_executors_example_runs(tmp_path, monkeypatch):
    """As it stands there, with the time held still."""
    (example,) = [block.text for block in blocks(PAGE) if "token.verify" in block.text]
    public = {"v": 1, "purpose": "root", "alg": "ed25519", "public": url(REALM.root_public)}
    (tmp_path / "root.pub").write_text(json.dumps(public))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness_stream.adapters.clock.SystemClock.now_ms", lambda _self: NOW)
    names = {"text": token()}
    exec(example, names)  # noqa: S102  the page's own text
    assert names["allowed"].action == "crm.refund"
    with pytest.raises(executor.TokenRefused, match="token_used"):
        exec(example.replace("once = token.root_key", "_ = token.root_key").replace("token.Once()", "once"), names)  # noqa: S102  same


def url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def framed(*parts):
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def unframed(data):
    parts = []
    while data:
        size = int.from_bytes(data[:4], "big")
        parts.append(data[4 : 4 + size])
        data = data[4 + size :]
    return parts


def signed(public, sig, *parts):
    Ed25519PublicKey.from_public_bytes(public).verify(sig, framed(*parts))


def test_an_executor_that_follows_the_page_alone_verifies_a_token():
    """Written after the page, with none of our code but the token itself."""
    text = token(records(verdict_body(), verdict_body(1))[0])
    domain, *parts = unframed(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    assert domain == b"harness-stream/1 token text"
    realm, incarnation, partition, record, proof, batch, worker, enforcer, audience, nonce, not_after, sig = parts
    bound = (realm, incarnation)
    assert bound == (b"acme", b"topic-a.topic-b")
    # The worker, as docs/signed.md says.
    signed(REALM.root_public, worker[48:], b"harness-stream/1 certificate", b"worker", *bound, worker[:32], worker[32:40], worker[40:48])
    digest = hashlib.sha256(record).digest()
    leaf = hashlib.sha256(b"\x00" + digest).digest()
    root = hashlib.sha256(b"\x01" + leaf + proof[8:]).digest()
    size = (2).to_bytes(8, "big")
    signed(worker[:32], batch, b"harness-stream/1 decision batch", *bound, partition, size, root)
    # The enforcer.
    domain, enroller, name, lane, public, first, last, vouched = unframed(enforcer)
    assert domain == b"harness-stream/1 enforcer certificate text"
    epochs = (1).to_bytes(8, "big"), (2**53 - 1).to_bytes(8, "big")
    signed(REALM.root_public, enroller[48:], b"harness-stream/1 certificate", b"enroller", *bound, enroller[:32], *epochs)
    signed(enroller[:32], vouched, b"harness-stream/1 enforcer certificate", *bound, name, lane, public, first, last)
    signed(public, sig, b"harness-stream/1 token", *bound, digest, audience, nonce, not_after)
    # What it says.
    body = json.loads(record)
    assert (audience, int.from_bytes(not_after, "big")) == (b"payments", NOW + 5_000)
    assert (body["kind"], body["decision"], body["incarnation"].encode()) == ("verdict", "approve", incarnation)
    assert body["event"]["lane"].encode() == lane
    assert body["event"]["agent_id"].encode() != name
    canonical = json.dumps(ARGUMENTS, sort_keys=True, separators=(",", ":")).encode()
    assert body["arguments_digest"] == hashlib.sha256(canonical).hexdigest()
