"""One realm of a test's own on real servers: its processes, raw records in, the folded decision log out.

What goes in is made by hand, not by our client, so that a test can send what no client would.
"""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from confluent_kafka import Producer

from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.kafka import topics
from harness_stream.adapters.kafka.admin import KafkaAdmin, incarnation
from harness_stream.adapters.kafka.log import KafkaReader, KafkaWriter
from harness_stream.adapters.redis.keys import Whose
from harness_stream.adapters.redis.state import RedisStateStore
from harness_stream.adapters.signing import keyring
from harness_stream.adapters.signing.framing import Bound
from harness_stream.cli.rules import Trust, publish
from harness_stream.cli.tables import Options, load_folder, topics_of
from harness_stream.client.ids import Ids
from harness_stream.config import Settings
from harness_stream.core.denials import answers_in
from harness_stream.core.fold import Place
from harness_stream.core.lanes import partition_of
from harness_stream.core.rules.compile import load
from harness_stream.core.rules.windows import Windows
from harness_stream.runtime.to_end import ends_of, read_to_end
from harness_stream.wire.decisions import read_body
from harness_stream.wire.topics import Topics
from tests.log_checker import check_coverage, check_store, fold_partition

UNSIGNED = {"hs-alg": "none"}
PATIENCE_S = 30.0  # two shared cores: a process that answers in 1 s alone takes 10 s among others


class OwnRealm:
    """Topics, tables (rows by table, or a folder of files), rules and processes under a prefix nobody else uses."""

    def __init__(self, bootstrap, redis_url, folder, *, rules, tables, partitions=2, replication=0, dev=True, **environment):
        prefix = f"own{secrets.token_hex(4)}"
        self.settings = Settings(
            bootstrap=bootstrap,
            redis_url=redis_url,
            prefix=prefix,
            partitions=partitions,
            replication=replication,
            group=prefix,
            dev=dev,
        )
        self.folder, self._rules, self._environment = folder, rules, environment
        self.topics, self.clock = Topics(prefix), SystemClock()
        self._ids = Ids(self.clock)
        self.verifier = None  # of a signed realm: what it does not believe does not count
        self._producer = Producer({"bootstrap.servers": bootstrap, "message.max.bytes": 10_000_000, "acks": "all", "log_level": 0})
        self._write(tables)

    def _write(self, tables):
        if isinstance(tables, Path):
            shutil.copytree(tables, self.folder / "tables")
            return
        (self.folder / "tables").mkdir()
        for name, rows in tables.items():
            (self.folder / "tables" / f"{name}.yaml").write_text(json.dumps(rows))

    def prepare(self):
        """Everything a worker needs; in this process, since each command costs seconds on a busy machine."""
        admin = KafkaAdmin(self.settings.bootstrap)
        topics.create(admin, topics.plan(admin, self.settings).missing)
        topics.plan_when_visible(admin, self.settings, fixed=False)
        names = topics_of(self.settings)
        read = [*names.values(), self.topics.rules]
        with closing(KafkaReader(admin.bootstrap, topics=read)) as reader, closing(KafkaWriter(admin.bootstrap)) as writer:
            folder = self.folder / "tables"
            assert load_folder(folder, reader, writer, topics=names, clock=self.clock, options=Options()).applied
            publish(load(self._rules), self.settings, reader, writer, self.clock, trust=self._trust())
        return self

    def _trust(self):
        """Whose rules count: in a signed realm those of the keys that are made here, once its topics are there."""
        if self.settings.dev:
            return Trust()
        keys = Path(self._environment["HARNESS_KEYS"])
        if not keys.exists():
            keyring.create(keys, Bound(self.settings.realm, incarnation(self.settings)))
        return Trust.of(replace(self.settings, keys=str(keys)))

    # --- processes ---

    def harness(self, *words, exit_code=0):
        """Run one command to its end; what it printed. `exit_code` None: any."""
        done = subprocess.run(
            self._command("harness_stream", words),
            env=self.environment(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert exit_code in {None, done.returncode}, done.stdout + done.stderr
        return done.stdout + done.stderr

    @contextmanager
    def running(self, module, *words, ready):
        """A process that has said `ready`; unless killed it is asked to stop in the end, and must do so cleanly."""
        log = self.folder / f"{module}-{secrets.token_hex(2)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                self._command(module, words), env=self.environment(), cwd=self.folder, stdout=out, stderr=out
            )
        try:
            wait_until(lambda: re.search(ready, log.read_text()) or process.poll() is not None, why=log.read_text)
            assert process.poll() is None, log.read_text()
            yield process
            if process.poll() == -signal.SIGKILL:
                return  # the test did that
            process.terminate()
            assert process.wait(PATIENCE_S) == 0, log.read_text()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def worker(self):
        return self.running("harness_stream", "worker", "--metrics-port", "0", ready=r"(?m) ready$")

    def environment(self):
        names = (
            "bootstrap",
            "redis_url",
            "prefix",
            "partitions",
            "group",
            "dev",
            "replication",
            "snapshot_interval_ms",
        )
        settings = {f"HARNESS_{name.upper()}": str(getattr(self.settings, name)) for name in names}
        root = str(Path(__file__).parents[2])  # `topologies` is imported from where it lies
        python = {"PYTHONPATH": root, "PYTHONFAULTHANDLER": "1"}  # a crash in C says where
        return os.environ | settings | python | self._environment

    def _command(self, module, words):
        return [sys.executable, "-m", module, *words]

    def standings(self, exit_code=0):
        """What `harness partitions` says of each."""
        told = self.harness("partitions", "--json", exit_code=exit_code)
        return json.loads(next(line for line in told.splitlines() if line.startswith("{")))["partitions"]

    # --- records in ---

    def intent(self, agent, **over):
        """The body of a valid intent, except for what `over` says."""
        body = {
            "v": 1,
            "type": "intent",
            "realm": self.settings.realm,
            "by": agent,
            "agent_id": agent,
            "intent_id": self._ids.new(),
            "workload_id": "w-1",
            "action": "crm.read",
            "arguments_digest": "0" * 64,
            "enforcer_nonce": "0" * 32,
        }
        return body | over

    def partition_of(self, lane):
        return partition_of(lane, self.settings.partitions)

    def send(self, record, lane, *, partition=None, headers=UNSIGNED, **more):
        """Publish a body, or raw bytes; (partition, offset) once the broker has it."""
        value = record if isinstance(record, bytes) else json.dumps(record).encode()
        place = self.partition_of(lane) if partition is None else partition
        landed = []
        self._producer.produce(
            self.topics.intents,
            value,
            lane.encode(),
            place,
            headers=headers,
            on_delivery=lambda error, message: landed.append((error, message)),
            **more,
        )
        self._producer.flush(PATIENCE_S)
        ((error, message),) = landed
        if error is not None:
            raise NotAppendedError(error)
        return place, message.offset()

    def send_all(self, bodies, lane):
        """Publish many of one lane at once; returns once the broker has them."""
        place, failed = self.partition_of(lane), []
        for body in bodies:
            self._producer.produce(
                self.topics.intents,
                json.dumps(body).encode(),
                lane.encode(),
                place,
                headers=UNSIGNED,
                on_delivery=lambda error, _: error and failed.append(error),
            )
        assert self._producer.flush(PATIENCE_S) == 0
        assert not failed, failed

    def delete_row(self, table, key):
        """Write a tombstone."""
        self._producer.produce(self.topics.table(table), None, key.encode(), 0)
        assert self._producer.flush(PATIENCE_S) == 0

    def append_rules(self, key, value):
        """Write to the rules topic what `harness rules push` would not."""
        self._producer.produce(self.topics.rules, value, key.encode(), 0)
        assert self._producer.flush(PATIENCE_S) == 0

    def append_decision(self, partition, body):
        """What only a worker may write: as a former owner, or somebody else, would."""
        self._producer.produce(self.topics.verdicts, json.dumps(body).encode(), None, partition, headers=UNSIGNED)
        assert self._producer.flush(PATIENCE_S) == 0

    # --- decisions out ---

    def answer(self, place):
        """What answers this input, as soon as there is an effective record that does."""
        partition, offset = place
        return wait_until(
            lambda: next((b for b in self.effective(partition) if covers(b, offset)), None),
            why=lambda: f"no answer to {place}",
        )

    def effective(self, partition):
        """What the effective records say so far, folded from the first one; each verdict of a run of denials alone."""
        place, bodies = Place.genesis(incarnation(self.settings), partition), []
        for record in self.records(self.topics.verdicts, partition):
            if self.verifier is not None and not self.verifier.decision_authentic(record):
                continue
            body, digest = read_body(record.value)
            after = place.after(record.offset, body, digest)
            if after is not None:
                place = after
                bodies += map(dict, answers_in(body))
        return bodies

    def end_of(self, topic, partition):
        with closing(KafkaReader(self.settings.bootstrap)) as reader:
            return ends_of(reader, topic, partition, self.clock).end

    def stored(self):
        """The decision-log offset that Redis stands at, of each partition."""
        with closing(self._store()) as store:
            heads = [store.head(partition) for partition in range(self.settings.partitions)]
        return [None if head is None else head.verdict_offset for head in heads]

    def _store(self):
        """Redis, with the patience of a person."""
        whose = Whose.of(self.settings, incarnation(self.settings))
        return RedisStateStore(self.settings.redis_url, whose, self.clock, timeout_ms=5_000)

    def check(self, *pushed):
        """Every input is covered once, every verdict recomputes, and Redis equals the fold.

        `pushed` are the programs put in force after the first one. Each partition's report.
        """
        bundles = {program.digest: Windows(program) for program in (load(self._rules), *pushed)}
        reports, store = [], self._store()
        for partition in range(self.settings.partitions):
            inputs = self.records(self.topics.intents, partition)
            decisions = self.records(self.topics.verdicts, partition)
            names = {"partitions": self.settings.partitions, "realm": self.settings.realm}
            report = fold_partition(inputs, decisions, partition, incarnation(self.settings), bundles, **names)
            check_coverage(report, len(inputs))
            check_store(report, store, partition)
            reports.append(report)
        store.close()
        return reports

    def bodies(self, topic, partition):
        """What stands in a partition, by offset."""
        return {record.offset: json.loads(record.value) for record in self.records(topic, partition)}

    def records(self, topic, partition):
        with closing(KafkaReader(self.settings.bootstrap, topics=[topic])) as reader:
            return list(read_to_end(reader, topic, partition, self.clock))


class NotAppendedError(Exception):
    """The broker, or the producer, refused a record."""


def covers(body, offset):
    first, last = body.get("covers", (0, -1))
    return first <= offset <= last


def wait_until(look, *, why, limit_s=PATIENCE_S):
    """What `look` returns as soon as that is true."""
    end = time.monotonic() + limit_s
    while not (found := look()):
        assert time.monotonic() < end, why()
        time.sleep(0.1)
    return found
