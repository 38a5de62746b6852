"""Known answers: what others have published comes out of what we use (RFC 5869, 7748, 8032, 9162)."""

from __future__ import annotations

import hmac
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from harness_stream.adapters.signing import merkle
from harness_stream.adapters.signing.framing import Bound, framed, number
from harness_stream.adapters.signing.keys import kid_of, mac_key, private_of, public_of, raw_of, signed_by, text_of

# --- HKDF and the MAC key ---


def hkdf(secret, salt, info, length=32):
    """RFC 5869 §2 in four lines."""
    pseudo, out, block = hmac.digest(salt or bytes(32), secret, sha256), b"", b""
    while len(out) < length:
        block = hmac.digest(pseudo, block + info + bytes([len(out) // 32 + 1]), sha256)
        out += block
    return out[:length]


RFC_5869 = [
    (
        b"\x0b" * 22,
        bytes(range(0x0D)),
        bytes(range(0xF0, 0xFA)),
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x50)),
        bytes(range(0x60, 0xB0)),
        bytes(range(0xB0, 0x100)),
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    (
        b"\x0b" * 22,
        b"",
        b"",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
]


@pytest.mark.parametrize(("secret", "salt", "info", "expected"), RFC_5869)
def test_hkdf_gives_the_answers_of_rfc_5869(secret, salt, info, expected):
    length = len(expected) // 2
    assert HKDF(SHA256(), length, salt or None, info).derive(secret).hex() == expected
    assert hkdf(secret, salt, info, length).hex() == expected


ALICE = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"
ALICE_PUBLIC = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
BOB = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"
BOB_PUBLIC = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
SHARED = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"


def test_the_mac_key_is_hkdf_over_the_shared_secret_of_rfc_7748():
    alice, bob = (X25519PrivateKey.from_private_bytes(bytes.fromhex(key)) for key in (ALICE, BOB))
    sender, pdp = public_of(alice), public_of(bob)
    assert (sender.hex(), pdp.hex()) == (ALICE_PUBLIC, BOB_PUBLIC)
    bound, kid = Bound("acme", "t1.t2"), kid_of(sender)
    info = b"".join(
        len(part).to_bytes(4, "big") + part
        for part in (b"harness-stream/1 input mac key", b"acme", b"t1.t2", kid.encode(), sender, pdp)
    )
    expected = hkdf(bytes.fromhex(SHARED), b"", info)
    assert mac_key(bound, alice, pdp, sender, pdp, kid) == expected
    assert mac_key(bound, bob, sender, sender, pdp, kid) == expected


def test_a_point_of_low_order_gives_no_key():
    alice = X25519PrivateKey.from_private_bytes(bytes.fromhex(ALICE))
    with pytest.raises(ValueError):
        mac_key(Bound("r", "i"), alice, bytes(32), bytes(32), public_of(alice), "k")


# --- Ed25519 ---

RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
]


@pytest.mark.parametrize(("private", "public", "message", "sig"), RFC_8032)
def test_ed25519_gives_the_answers_of_rfc_8032(private, public, message, sig):
    key = private_of("ed25519", text_of(bytes.fromhex(private)))
    assert isinstance(key, Ed25519PrivateKey)
    assert public_of(key).hex() == public
    assert key.sign(bytes.fromhex(message)).hex() == sig
    assert signed_by(bytes.fromhex(public), bytes.fromhex(sig), bytes.fromhex(message))
    assert not signed_by(bytes.fromhex(public), bytes.fromhex(sig), b"another")


# --- Merkle trees ---

CT_LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
"""The roots that Certificate Transparency implementations test themselves by."""


CT_PATHS = {
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
    (0, 1): [],
}
"""Inclusion proofs from the same source, by place and size."""


def mth(leaves):
    """RFC 9162 §2.1.1 as it stands there."""
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0]).digest()
    k = split(len(leaves))
    return sha256(b"\1" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m, leaves):
    """RFC 9162 §2.1.3.1 as it stands there."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    return [*path(m, leaves[:k]), mth(leaves[k:])] if m < k else [*path(m - k, leaves[k:]), mth(leaves[:k])]


def split(n):
    """The largest power of two below n."""
    return 1 << ((n - 1).bit_length() - 1)


@pytest.mark.parametrize("size", range(1, len(CT_LEAVES) + 1))
def test_roots_are_those_of_certificate_transparency(size):
    root, _ = merkle.tree([bytes.fromhex(leaf) for leaf in CT_LEAVES[:size]])
    assert root.hex() == CT_ROOTS[size - 1]


@pytest.mark.parametrize(("place", "size"), CT_PATHS)
def test_proofs_are_those_of_certificate_transparency(place, size):
    leaves = [bytes.fromhex(leaf) for leaf in CT_LEAVES[:size]]
    proof = merkle.Proof(place, size, tuple(map(bytes.fromhex, CT_PATHS[place, size])))
    assert merkle.tree(leaves)[1][place] == proof
    assert merkle.root_of(leaves[place], proof).hex() == CT_ROOTS[size - 1]


@pytest.mark.parametrize("size", [*range(1, 40), 63, 64, 65, 127, 200, 255, 256])
def test_roots_and_proofs_are_those_of_rfc_9162(size):
    leaves = [sha256(bytes([n])).digest() for n in range(size)]
    root, proofs = merkle.tree(leaves)
    assert root == mth(leaves)
    for index, (leaf, proof) in enumerate(zip(leaves, proofs, strict=True)):
        assert proof == (index, size, tuple(path(index, leaves)))
        assert merkle.root_of(leaf, proof) == root
        assert merkle.Proof.unpacked(proof.packed()) == proof


def test_a_proof_fits_no_other_place_and_no_other_size_without_telling():
    leaves = [bytes([n]) for n in range(13)]
    root, proofs = merkle.tree(leaves)
    for proof in proofs:
        others = [proof._replace(at=at) for at in range(15) if at != proof.at]
        assert all(merkle.root_of(leaves[proof.at], other) != root for other in others)


@pytest.mark.parametrize("data", [b"", bytes(7), bytes(9), bytes(8 + 31)])
def test_what_is_no_proof_is_none(data):
    assert merkle.Proof.unpacked(data) is None


# --- Statements ---


def test_statements_are_unambiguous():
    parts = [(b"a", b"bc"), (b"ab", b"c"), (b"abc",), (b"abc", b""), (b"", b"abc"), (b"", b"ab", b"c")]
    assert len({framed(b"d", each) for each in parts}) == len(parts)
    assert framed(b"d", (b"",)) != framed(b"", (b"d",))
    assert number(258) == b"\0\0\0\0\0\0\1\2"


@pytest.mark.parametrize("text", ["", "A" * 42, "A" * 44, "A" * 42 + "B", "ä" * 43, "A" * 42 + "="])
def test_what_is_no_key_is_refused_and_not_repeated(text):
    with pytest.raises(ValueError) as refused:
        raw_of(text)
    assert not text or text not in str(refused.value)
