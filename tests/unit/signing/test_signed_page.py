"""`docs/signed.md` is true: its commands are understood, and the files it names are those that are made."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from harness_stream.adapters.signing import keyring
from harness_stream.adapters.signing.framing import Bound
from harness_stream.adapters.signing.pairs import keys_of, worker_pair
from harness_stream.config import Settings
from harness_stream.core.reasons import Garbage
from harness_stream.ports import LogRecord, Sender
from tests.pages import understood
from tests.signed import SignedRealm

PAGE = (Path(__file__).parents[3] / "docs/signed.md").read_text("utf-8")
BLOCK = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
FIRST, OTHERS = ([re.sub(r"\s+(#.*|&.*)$", "", line) for b in block for line in b.splitlines()] for block in (BLOCK[:1], BLOCK[1:]))
MENTIONED = sorted(set(re.findall(r"`(harness (?:keys|agents) [a-z]+ [^`]+)`", PAGE)))


@pytest.mark.parametrize("line", [*FIRST, *OTHERS, *MENTIONED])
def test_a_command_is_understood(line):
    understood(line.removeprefix("HARNESS_KEYS=keys ").replace("--root FILE", "--root root.key"))


def test_from_keys_to_a_verified_verdict_are_at_most_four_commands():
    assert 1 <= len(FIRST) <= 4
    assert "intents send" in FIRST[-1]


def test_every_file_has_its_reader():
    named = set(re.findall(r"`([a-z]+\.(?:key|pub|crt))`", PAGE))
    assert named <= set(keyring.FILES)
    assert set(keyring.FILES) == named
    assert f"`{keyring.FORMER_FILE}`" in PAGE
    assert f"`{Garbage.NOT_AUTHENTIC}`" in PAGE


def test_the_document_of_keys_that_the_page_makes_is_taken(tmp_path, monkeypatch):
    keyring.create(tmp_path / "keys", Bound("acme", "t1.t2"))
    (script,) = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    shell = shutil.which("bash")
    assert shell is not None
    made = subprocess.run([shell, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert {"root.key", "rules.key"}.isdisjoint(json.loads(made.stdout))
    monkeypatch.setenv("REALM_SECRETS", made.stdout)
    settings = Settings(realm="acme", keys="env:REALM_SECRETS")
    assert worker_pair(settings, "t1.t2")[1].judges_inputs
    assert keyring.value_key(keys_of(settings)) == keyring.value_key(tmp_path / "keys")


def part(*values):
    return b"".join(len(value).to_bytes(4, "big") + value for value in values)


def test_a_client_that_follows_the_page_alone_is_believed():
    """Written after the page, with none of our code but the record's type and the verifier."""
    realm = SignedRealm("acme", "t1.t2")
    own, _ = realm.speaker("a")
    public = own.public_key().public_bytes_raw()
    kid = hashlib.sha256(public).hexdigest()[:16].encode()
    secret = own.exchange(realm.pdp.public_key())
    info = part(b"harness-stream/1 input mac key", b"acme", b"t1.t2", kid, public, realm.pdp_public)
    key = HKDF(SHA256(), 32, None, info).derive(secret)
    value = b'{"type":"intent"}'
    statement = part(b"harness-stream/1 input mac", b"acme", b"t1.t2", b"harness.intents", b"lane-1", value)
    sig = base64.urlsafe_b64encode(hmac.digest(key, statement, "sha256")).rstrip(b"=")
    headers = [("hs-alg", b"x25519-hmac-sha256"), ("hs-kid", kid), ("hs-sig", sig)]
    record = LogRecord("harness.intents", 0, 0, b"lane-1", value, 1, headers)
    assert realm.verifier().input_authentic(record, Sender("intent", "lane-1", realm.keys("a")))


def test_a_reader_that_follows_the_page_alone_verifies_what_a_worker_signed():
    """The same, for a micro-batch of two."""
    realm, values = SignedRealm("acme", "t1.t2"), [b"{}", b"[]"]
    digests = [hashlib.sha256(value).digest() for value in values]
    said = dict(realm.worker().seal_batch(5, [digest.hex() for digest in digests])[1])
    sig, proof, cert = (base64.urlsafe_b64decode(said[name] + b"==") for name in ("hs-sig", "hs-proof", "hs-cert"))
    place, size, path = int.from_bytes(proof[:4], "big"), int.from_bytes(proof[4:8], "big"), proof[8:]
    assert (place, size, len(path)) == (1, 2, 32)
    leaf = hashlib.sha256(b"\x00" + digests[1]).digest()
    root = hashlib.sha256(b"\x01" + path + leaf).digest()
    public, epochs, root_sig = cert[:32], (cert[32:40], cert[40:48]), cert[48:]
    assert said["hs-kid"] == hashlib.sha256(public).hexdigest()[:16].encode()
    certified = part(b"harness-stream/1 certificate", b"worker", b"acme", b"t1.t2", public, *epochs)
    Ed25519PublicKey.from_public_bytes(realm.root_public).verify(root_sig, certified)
    number = (5).to_bytes(8, "big"), (2).to_bytes(8, "big")
    statement = part(b"harness-stream/1 decision batch", b"acme", b"t1.t2", *number, root)
    Ed25519PublicKey.from_public_bytes(public).verify(sig, statement)
