"""A realm of one measurement's own on a real broker: topics, rows, rules, keys, worker, and nothing left behind.

Rule of this file: it starts, watches and ends its own processes only, by their ids, and deletes only its own topics and
keys. A signed realm is one as `docs/signed.md` makes it, but for its replicas: a worker insists on three of them, and a
measurement has one broker. So its worker is started by `signed_worker.py`, which does not look at them.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # re-exported without saying so
from cpus import only_on
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from machine import UNKNOWN, java_version
from redis.exceptions import RedisError
from workload import Mix, agent_of, few_rules, tables

from harness_stream.access import KAFKA_SETTINGS, REDIS_SETTINGS
from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.kafka import settings as client_settings
from harness_stream.adapters.kafka.admin import KafkaAdmin, incarnation
from harness_stream.adapters.redis.keys import Whose
from harness_stream.adapters.redis.state import RedisStateStore, client_of
from harness_stream.adapters.signing import UnsignedSigner, keyring
from harness_stream.adapters.signing.framing import Bound
from harness_stream.adapters.signing.inputs import SignedInputs, Speaker
from harness_stream.adapters.signing.keys import kid_of, public_of, text_of
from harness_stream.adapters.signing.pairs import verifier_of
from harness_stream.config import LANE_RATE_MAX, Settings, load_settings
from harness_stream.core.rate import Rate
from harness_stream.errors import BrokerUnavailable, CallerError, HarnessError, StateRefused, StateUnavailable
from harness_stream.local.artifacts import KAFKA_VERSION
from harness_stream.local.process import free_port
from harness_stream.local.stack import Stack
from harness_stream.wire.topics import Topics, topic_specs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from concurrent.futures import Future

    import redis

    from harness_stream.ports import InputSigner, Verifier

PARTITIONS: Final = 8
READY_S_MAX: Final = 90.0  # a worker is ready in 3 s; a machine that does much else takes its time
STOP_S_MAX: Final = 10.0  # ten times what a clean stop may take
COMMAND_S_MAX: Final = 120.0
ADMIN_S_MAX: Final = 15.0
ANSWER_S_MAX: Final = 3.0  # of a broker that is asked whether it is there
# So high that no lane meets it: the other benchmarks measure judging, not refusing.
UNBOUNDED: Final = Rate(LANE_RATE_MAX, LANE_RATE_MAX)
_CLOCK_TICKS: Final = os.sysconf("SC_CLK_TCK")
NAMED_BY: Final = ("HARNESS_BOOTSTRAP", "HARNESS_REDIS_URL")
_BOTH: Final = "name both, or none"
_OWN: Final = "this starts a Kafka and a Redis of its own"
REDIS_MS_MAX: Final = 5_000
# Its processes run where no `harness.toml` of the user's says anything else.
NOWHERE: Final = tempfile.gettempdir()


@dataclass(frozen=True, slots=True)
class Servers:
    """Where Kafka and Redis are.

    Attributes:
        bootstrap: Kafka's address.
        redis_url: of Redis.
        versions: of both, and of Java if we started it, for the head of an output.
        worker_cpus: on which each worker runs; none: on all.
    """

    bootstrap: str
    redis_url: str
    versions: Mapping[str, str] = field(default_factory=dict)
    worker_cpus: frozenset[int] = frozenset()


@contextmanager
def servers() -> Iterator[Servers]:
    """Those that HARNESS_BOOTSTRAP and HARNESS_REDIS_URL name, else a stack of our own until the end.

    Raises:
        HarnessError: only one of them is named, one does not answer, or what a stack needs is not there.
    """
    bootstrap, redis_url = (os.environ.get(name, "") for name in NAMED_BY)
    if bool(bootstrap) != bool(redis_url):
        named, missing = NAMED_BY if bootstrap else NAMED_BY[::-1]
        raise CallerError(f"{named} is set, and {missing} is not", hint=f"{_BOTH}; without {named} {_OWN}")
    if bootstrap:
        # No protocol of Kafka's tells a broker's version.
        yield _answering(Servers(bootstrap, redis_url), {"kafka": UNKNOWN})
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        stack = Stack(Path(directory), kafka_port=free_port(), redis_port=free_port())
        try:
            stack.up(lambda line: print(line, file=sys.stderr))
            own = {"kafka": KAFKA_VERSION, "java": java_version()}
            yield _answering(Servers(stack.bootstrap, stack.redis_url), own)
        finally:
            stack.down()


def _answering(where: Servers, versions: Mapping[str, str]) -> Servers:
    """The same with versions, once both have answered."""
    settings = replace(load_settings(), bootstrap=where.bootstrap, redis_url=where.redis_url)
    hint = f"{' and '.join(NAMED_BY)} name what is measured on; without them {_OWN}"
    admin = KafkaAdmin(settings.kafka)
    try:
        admin.result(admin.client.describe_cluster(request_timeout=ANSWER_S_MAX))
    except BrokerUnavailable as error:
        raise BrokerUnavailable(error.message, hint=hint) from None
    try:
        RedisStateStore(settings.redis, Whose("bench", ""), SystemClock(), timeout_ms=REDIS_MS_MAX).head(0)
    except StateRefused:
        raise
    except StateUnavailable as error:
        raise StateUnavailable(f"{error.message} ({without_secret(where.redis_url)})", hint=hint) from None
    return replace(where, versions={**versions, "redis server": redis_version(settings)})


def without_secret(url: str) -> str:
    """A URL as it may be shown."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def redis_version(settings: Settings) -> str:
    """What the server says that it is; whoever may not ask does not know."""
    try:
        with closing(redis_client(settings)) as client:
            said = client.info("server")
    except RedisError:
        return UNKNOWN
    return f"Valkey {said['valkey_version']}" if "valkey_version" in said else str(said.get("redis_version", UNKNOWN))


def redis_client(settings: Settings) -> redis.Redis:
    """As a worker's store has one, for what a store does not do."""
    return client_of(settings.redis, REDIS_MS_MAX)


@dataclass(frozen=True, slots=True)
class BenchRealm:
    """One realm, empty but for rows and rules.

    Attributes:
        settings: as every process of it reads them.
        mix: what its agents do.
        speakers: agent → its keys; none in an unsigned realm.
        worker_cpus: on which each worker runs; none: on all.
    """

    settings: Settings
    mix: Mix = field(default_factory=few_rules)
    speakers: Mapping[str, Speaker] = field(default_factory=dict)
    worker_cpus: frozenset[int] = frozenset()

    @property
    def topics(self) -> Topics:
        """Its topics."""
        return Topics(self.settings.prefix)

    @property
    def echo_in(self) -> str:
        """As the input log, for the bare echo."""
        return f"{self.settings.prefix}.echo-in"

    @property
    def echo_out(self) -> str:
        """As the decision log, for the bare echo."""
        return f"{self.settings.prefix}.echo-out"

    @property
    def _bound(self) -> Bound:
        return Bound(self.settings.realm, incarnation(self.settings))

    def input_signer(self) -> InputSigner:
        """What clients of all its agents sign with."""
        if self.settings.dev:
            return UnsignedSigner()
        return SignedInputs(self._bound, keyring.pdp_public(Path(self.settings.keys)), self.speakers)

    def verifier(self) -> Verifier:
        """Whom they believe."""
        return verifier_of(self.settings, incarnation(self.settings))

    @contextmanager
    def worker(self) -> Iterator[int]:
        """A worker process that is ready; its process id."""
        with tempfile.TemporaryFile() as log:
            with only_on(self.worker_cpus):
                process = subprocess.Popen(self._worker_command(), env=self._environment(), cwd=NOWHERE, stderr=log)
            try:
                _wait_until_ready(process, log.fileno())
                yield process.pid
            finally:
                _end(process)

    @contextmanager
    def draining_worker(self, stages: Path | None = None) -> Iterator[int]:
        """A worker process, right after its start, for a log that was filled before; its process id.

        Args:
            stages: it notes there where its CPU time goes; signed realms only.
        """
        words = ["patient", *([] if stages is None else [str(stages)])]
        command, own = self._worker_command(*words), self._environment()
        with only_on(self.worker_cpus):
            process = subprocess.Popen(command, env=own, cwd=NOWHERE, stderr=subprocess.DEVNULL)
        try:
            yield process.pid
        finally:
            _end(process)

    def _worker_command(self, *words: str) -> list[str]:
        if self.settings.dev and not words:
            return _command("worker", "--metrics-port", "0")
        return [sys.executable, str(Path(__file__).with_name("signed_worker.py")), *words]

    def push_rules(self) -> None:
        """Put its rules in force."""
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            file = Path(directory) / "rules.yaml"
            file.write_text(self.mix.rules, encoding="utf-8")
            self.run("rules", "push", str(file))

    def run(self, *words: str) -> None:
        """Run one `harness` command."""
        done = subprocess.run(
            _command(*words),
            env=self._environment(),
            cwd=NOWHERE,
            capture_output=True,
            text=True,
            timeout=COMMAND_S_MAX,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"`harness {' '.join(words)}` failed:\n{done.stderr}")

    def _environment(self) -> dict[str, str]:
        names = ("bootstrap", "redis_url", "prefix", "partitions", "group", "lane_rate", "lane_burst")
        own = {f"HARNESS_{name.upper()}": str(getattr(self.settings, name)) for name in names}
        keys = {"HARNESS_DEV": "1"} if self.settings.dev else {"HARNESS_KEYS": self.settings.keys}
        inherited = {name: value for name, value in os.environ.items() if name not in {"HARNESS_DEV", "HARNESS_KEYS"}}
        return {**inherited, **own, **keys}


@contextmanager
def realm(
    where: Servers,
    agents: int,
    rate: Rate = UNBOUNDED,
    mix: Mix | None = None,
    *,
    signed: bool = False,
    pushed: bool = True,
) -> Iterator[BenchRealm]:
    """A realm with the workload's rows and rules; its topics and keys are deleted at the end.

    Args:
        where: its broker and Redis.
        agents: of the workload.
        rate: what one lane may ask of its workers.
        mix: what agents do, and the rules; default `few_rules`.
        signed: it has keys, and each agent has its own.
        pushed: its rules are there; else its workers wait until `push_rules`.
    """
    prefix, given = f"bench{secrets.token_hex(4)}", load_settings()
    settings = Settings(
        where.bootstrap,
        where.redis_url,
        prefix=prefix,
        partitions=PARTITIONS,
        dev=True,
        group=prefix,
        lane_rate=rate.per_s,
        lane_burst=rate.burst,
        **{name: getattr(given, name) for name in (*KAFKA_SETTINGS, *REDIS_SETTINGS)},
    )
    made = BenchRealm(settings, mix or few_rules(), worker_cpus=where.worker_cpus)
    try:
        _create_echo_topics(made)
        made.run("topics", "apply", "--dev")
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            if signed:
                made = _with_keys(made, Path(directory) / "keys", agents)
            _write(Path(directory), made, agents)
            made.run("tables", "load", f"{directory}/tables")
            if pushed:
                made.push_rules()
            yield made
    finally:
        _forget(made)


def _with_keys(made: BenchRealm, folder: Path, agents: int) -> BenchRealm:
    """The same realm signed: the keys of `harness keys init`, and of each agent those that its enrolment makes."""
    keyring.create(folder, Bound(made.settings.realm, incarnation(made.settings)))
    signed = replace(made.settings, dev=False, keys=str(folder))
    return replace(made, settings=signed, speakers=speakers_of(agents))


def speakers_of(agents: int) -> dict[str, Speaker]:
    """New keys of so many agents."""
    return {agent_of(n): Speaker(X25519PrivateKey.generate(), Ed25519PrivateKey.generate()) for n in range(agents)}


def public_keys(speaker: Speaker) -> list[dict[str, str]]:
    """As an identity row has them."""
    return [public_key("x25519", public_of(speaker.exchange)), public_key("ed25519", public_of(speaker.sign))]


def public_key(alg: str, public: bytes) -> dict[str, str]:
    """One of them."""
    return {"kid": kid_of(public), "alg": alg, "public": text_of(public)}


def cpu_s(pid: int) -> float:
    """CPU seconds (user and system, all threads) that a process has used; Linux."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS


def peak_mib(pid: int) -> float:
    """The most memory that a process has had resident; Linux."""
    return _memory_bytes(pid, "VmHWM:") / 2**20


def resident_bytes(pid: int | str = "self") -> int:
    """What a process has resident now; Linux."""
    return _memory_bytes(pid, "VmRSS:")


def available_bytes() -> int:
    """What the machine could still give without swapping; Linux."""
    return _kib(Path("/proc/meminfo"), "MemAvailable:") * 1024


def _memory_bytes(pid: int | str, name: str) -> int:
    return _kib(Path(f"/proc/{pid}/status"), name) * 1024


def _kib(path: Path, name: str) -> int:
    return int(path.read_text(encoding="ascii").partition(name)[2].split()[0])


def _command(*words: str) -> list[str]:
    return [sys.executable, "-P", "-c", "from harness_stream.cli.main import main; main()", *words]


def _wait_until_ready(process: subprocess.Popen[bytes], log: int) -> None:
    end = time.monotonic() + READY_S_MAX
    while True:
        said = os.pread(log, 1 << 20, 0).decode(errors="replace")
        if any(line.endswith(" ready") for line in said.splitlines()):
            return
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"the worker did not become ready:\n{said[-2_000:]}")
        time.sleep(0.05)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _write(directory: Path, made: BenchRealm, agents: int) -> None:
    (directory / "tables").mkdir()
    found = tables(agents, made.mix.actions)
    if made.speakers:
        found["identity"] = [{**row, "keys": public_keys(made.speakers[row["agent_id"]])} for row in found["identity"]]
    for name, rows in found.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (directory / "tables" / f"{name}.jsonl").write_text(lines, encoding="utf-8")


def _create_echo_topics(made: BenchRealm) -> None:
    """With the settings of the two logs, so that the floor pays for the same durability."""
    settings, topics = made.settings, made.topics
    specs = {s.name: s for s in topic_specs(settings.prefix, PARTITIONS, settings.max_timespan_ms, 1)}
    same_as = {made.echo_in: specs[topics.intents], made.echo_out: specs[topics.verdicts]}
    wanted = [
        NewTopic(
            name, num_partitions=PARTITIONS, replication_factor=1, config={r.name: r.value for r in spec.requirements}
        )
        for name, spec in same_as.items()
    ]
    admin = AdminClient(client_settings.admin(settings.kafka))  # it must outlive its answers
    _settle(admin.create_topics(wanted).values())


def _forget(made: BenchRealm) -> None:
    """Delete its topics, group and keys; what cannot be deleted is told, and does not hide why all this ends."""
    # Keys first: they are named by the topics' ids.
    for what, forget in (("keys in Redis", _forget_keys), ("topics", _forget_topics), ("group", _forget_group)):
        try:
            forget(made)
        except (KafkaException, HarnessError, TimeoutError) as error:
            print(f"{what} of `{made.settings.prefix}` were left behind: {error}", file=sys.stderr)


def _forget_topics(made: BenchRealm) -> None:
    settings = made.settings
    own = [spec.name for spec in topic_specs(settings.prefix, PARTITIONS, settings.max_timespan_ms, 1)]
    admin = AdminClient(client_settings.admin(settings.kafka))
    there = admin.list_topics(timeout=ADMIN_S_MAX).topics
    doomed = [name for name in (*own, made.echo_in, made.echo_out) if name in there]
    if doomed:
        _settle(admin.delete_topics(doomed).values())


def _forget_group(made: BenchRealm) -> None:
    admin = AdminClient(client_settings.admin(made.settings.kafka))
    try:
        _settle(admin.delete_consumer_groups([made.settings.group]).values())
    except KafkaException as error:
        # None is there, or a killed worker's membership runs out later; then the broker removes it by itself.
        if error.args[0].code() not in {KafkaError.GROUP_ID_NOT_FOUND, KafkaError.NON_EMPTY_GROUP}:
            raise


def _forget_keys(made: BenchRealm) -> None:
    settings = made.settings
    whose = Whose.of(settings, incarnation(settings))
    with closing(RedisStateStore(settings.redis, whose, SystemClock(), timeout_ms=REDIS_MS_MAX)) as store:
        for partition in range(PARTITIONS):
            while not store.clear(partition, store.head(partition)):
                pass


def _settle(futures: Iterable[Future[None]]) -> None:
    for future in futures:
        future.result(ADMIN_S_MAX)
