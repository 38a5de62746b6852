"""Certificates made on the spot, for tests of TLS: a CA, and whom it vouches for."""

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM
DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, in files."""

    crt: Path
    key: Path
    certificate: x509.Certificate
    private: ec.EllipticCurvePrivateKey


def made(folder, name, by=None, *, days=1, password=None):
    """A certificate for `name` on this machine, signed by `by` (itself: a CA), that ends in `days`."""
    private, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * DAY)
        .not_valid_after(now + days * DAY)
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
    )
    if by is not None:
        here = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(here), critical=False)
    certificate = builder.sign(by.private if by else private, hashes.SHA256())
    sealed = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    pair = Pair(folder / f"{name}.crt", folder / f"{name}.key", certificate, private)
    pair.crt.write_bytes(certificate.public_bytes(PEM))
    pair.key.write_bytes(private.private_bytes(PEM, serialization.PrivateFormat.PKCS8, sealed))
    pair.key.chmod(0o600)
    return pair
