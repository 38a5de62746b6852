"""Servers that let in only whom they know: one broker with an authorizer, SCRAM users and TLS; one Redis with TLS."""

import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from certificates import Pair, made
from real_servers import unavailable

from harness_stream.access import Secret
from harness_stream.config import Settings
from harness_stream.errors import HarnessError
from harness_stream.local.kafka import BrokerSettings, LocalKafka
from harness_stream.local.process import LOOPBACK, free_port, free_ports

PASSWORD = "a secret of {}"  # noqa: S105  of users that live as long as the test
ROOT = "root"
SERVES_S = 10.0


@dataclass(frozen=True)
class Guarded:
    """Where it is, and whom it trusts.

    Attributes:
        folder: whatever a test writes.
        sasl: address of the SASL_SSL listener.
        mtls: address of the listener that wants certificates.
        ca: that vouches for servers and clients.
    """

    folder: Path
    sasl: str
    mtls: str
    ca: Pair

    def settings(self, user, prefix, **over):
        """As a process of this user reads them."""
        secret = Secret(PASSWORD.format(user))
        named = {"sasl_user": user, "sasl_password": secret, "ssl_ca": str(self.ca.crt), "group": f"{prefix}-group"}
        named |= {"bootstrap": self.sasl, "prefix": prefix, "partitions": 2, "dev": True}
        return Settings(**(named | over))

    def environment(self, user, prefix, **over):
        """The same for a process; `over` are settings, an empty one is left out."""
        named = {"bootstrap": self.sasl, "prefix": prefix, "partitions": "2", "dev": "1", "group": f"{prefix}-group"}
        named |= {"sasl_user": user, "sasl_password": PASSWORD.format(user), "ssl_ca": str(self.ca.crt)} | over
        ours = {f"HARNESS_{name.upper()}": value for name, value in named.items() if value}
        others = {name: value for name, value in os.environ.items() if not name.startswith("HARNESS_")}
        return {**others, "PYTHONPATH": str(Path(__file__).parents[2]), **ours}

    def started(self, *words, user, prefix, out=subprocess.PIPE, **over):
        """A command that was begun."""
        return subprocess.Popen(
            [sys.executable, "-m", "harness_stream", *words],
            env=self.environment(user, prefix, **over),
            cwd=self.folder,
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def harness(self, *words, exit_code=0, **how):
        """Run a command to its end; what it said."""
        with self.started(*words, **how) as process:
            said, _ = process.communicate(timeout=60)
        assert process.returncode == exit_code, said
        return said


@contextmanager
def guarded_kafka(folder, users):
    """A broker of this test's own, with an authorizer; `users` may do nothing yet, but for ROOT."""
    ca = made(folder, "ca")
    server = made(folder, "broker", ca)
    (folder / "broker.pem").write_bytes(server.key.read_bytes() + server.crt.read_bytes())
    own, controller, sasl, mtls = free_ports(4)
    login = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    extra = {
        # Without a name only the broker speaks to itself, and the launcher asks whether it serves.
        "listeners": ",".join(
            f"{name}://{LOOPBACK}:{port}"
            for name, port in (("PLAINTEXT", own), ("CONTROLLER", controller), ("SASL_SSL", sasl), ("SSL", mtls))
        ),
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:ANONYMOUS;User:{ROOT}",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": login,
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "broker.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(ca.crt),
        "listener.name.ssl.ssl.client.auth": "required",
        "ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/$1/,DEFAULT",
    }
    flags = [f"SCRAM-SHA-512=[name={user},password={PASSWORD.format(user)}]" for user in (ROOT, *users)]
    format_flags = ("--standalone", *(word for flag in flags for word in ("--add-scram", flag)))
    broker = LocalKafka(BrokerSettings(folder / "kafka", own, controller, extra=extra, format_flags=format_flags))
    try:
        broker.start()
    except HarnessError as error:
        unavailable(error.message)
    try:
        yield Guarded(folder, f"{LOOPBACK}:{sasl}", f"{LOOPBACK}:{mtls}", ca)
    finally:
        broker.stop()


@contextmanager
def guarded_redis(folder, ca, users):
    """A Redis that speaks TLS only, and knows these users (name → ACL rules); its URL."""
    program = shutil.which("redis-server")
    if program is None:
        unavailable("there is no redis-server, and the embedded server speaks no TLS")
    server, port = made(folder, "redis", ca), free_port()
    lines = [
        f'port 0\ntls-port {port}\nbind {LOOPBACK}\ntls-auth-clients optional\nsave ""\ndir {folder}',
        f"tls-cert-file {server.crt}\ntls-key-file {server.key}\ntls-ca-cert-file {ca.crt}",
        "user default off",
        *(f"user {name} on >{name}-password {' '.join(rules)}" for name, rules in users.items()),
    ]
    (folder / "redis.conf").write_text("\n".join(lines) + "\n")
    with (folder / "redis.log").open("wb") as out:
        process = subprocess.Popen([program, str(folder / "redis.conf")], stdout=out, stderr=out)
    try:
        end = time.monotonic() + SERVES_S
        while "Ready to accept" not in (said := (folder / "redis.log").read_text()):
            if process.poll() is not None or time.monotonic() > end:
                unavailable(f"redis-server does not start with TLS: {said[-300:]}")
            time.sleep(0.05)
        yield f"rediss://{LOOPBACK}:{port}/0"
    finally:
        process.terminate()
        process.wait(SERVES_S)
