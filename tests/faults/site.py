"""What faults are made on: one broker, one Redis, a realm on them, workers with lines of their own, clients under load.

Each worker sits on a seat: a listener of the broker whose advertised port is that of the seat's line, since Kafka clients
follow what is advertised, and a line to Redis. So one worker can be cut off while everybody else, and the client
processes, reach both.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from harness_stream.core.lanes import partition_of
from harness_stream.local.kafka import BrokerSettings, LocalKafka
from harness_stream.local.process import free_ports
from harness_stream.local.redis import LocalRedis, RedisSettings
from tests.faults.load import AGENTS_PER_LANE, CLOSE_S
from tests.faults.proxy import Lines
from tests.real.own_realm import OwnRealm
from tests.rule_texts import ALLOWED, EGRESS, READS, budget, no_egress_after_read, rule_set

ROOT = Path(__file__).parents[2]
LANES_PER_PARTITION = 2
READY_S_MAX = 60.0  # 2 s on a quiet machine; two shared cores make it ten
GONE_S_MAX = 20.0  # a drain takes a second, what the Kafka client closes, a few more

UNANSWERED = "Kafka does not answer"

# Every window turns over within a minute, so that what was forgotten or counted twice changes verdicts soon after.
RULES = rule_set(
    ALLOWED,
    no_egress_after_read("2s"),
    budget(60, "1m"),
    """\
  - id: rows
    effect: deny
    when: reads
    correlation:
      {type: value_sum, rules: [any], group-by: [tenant], timespan: 1m, condition: {field: measures.rows, gt: 900}}
""",
    reads=READS,
    egress=EGRESS,
    any="true",
)


class Worker:
    """One `harness worker`."""

    def __init__(self, seat, environment, log):
        self.seat, self.log, self._environment = seat, log, environment
        self._start()

    def _start(self):
        command = [sys.executable, "-m", "harness_stream", "worker", "--metrics-port", "0"]
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(command, env=self._environment, cwd=self.log.parent, stdout=out, stderr=out)

    @property
    def running(self):
        return self.process.poll() is None

    def said(self):
        return self.log.read_text(errors="replace")

    def wait_until_ready(self):
        """It ends at once if no broker answers when it starts; then it is started again, as a supervisor does."""
        end = time.monotonic() + READY_S_MAX
        while not re.search(r"(?m) ready$", self.said()):
            if not self.running and UNANSWERED in self.said():
                self._start()
            assert self.running, f"worker {self.seat} ended with {self.process.returncode}: {self.said()[-2000:]}"
            assert time.monotonic() < end, f"worker {self.seat} is not ready: {self.said()[-2000:]}"
            time.sleep(0.05)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def ask_to_stop(self):
        self.process.terminate()

    def stop(self):
        """Asked for, it must end by itself and with 0."""
        self.ask_to_stop()
        code = self.process.wait(GONE_S_MAX)
        assert code == 0, f"worker {self.seat} ended with {code}: {self.said()[-2000:]}"


class Site:
    """Everything that runs. `close` ends all of it."""

    def __init__(self, folder, *, workers, partitions, rate):
        self.folder, self.size, self._rate = folder, workers, rate
        self._lines = Lines()
        seats = range(workers + 1)  # the last one is for who joins
        redis_port, own, controller, *others = free_ports(3 + len(seats))
        ports = dict(zip(seats, others, strict=True))
        self.kafka_lines = [self._lines.line(ports[seat]) for seat in seats]
        self.redis_lines = [self._lines.line(redis_port) for _ in seats]
        self.broker = LocalKafka(self._broker_settings(own, controller, ports))
        self.redis = LocalRedis(RedisSettings(folder / "redis", redis_port))
        self.workers, self.clients, self._started = {}, [], 0
        self._partitions = partitions
        self.realm, self.lanes = None, lanes(partitions)

    def _broker_settings(self, port, controller, seat_ports):
        inside = {"PLAINTEXT": port, **{f"SEAT{seat}": seat_port for seat, seat_port in seat_ports.items()}}
        outside = inside | {f"SEAT{seat}": self.kafka_lines[seat].port for seat in seat_ports}
        extra = {
            "listeners": listeners(inside | {"CONTROLLER": controller}),
            "advertised.listeners": listeners(outside),
            "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in [*inside, "CONTROLLER"]),
        }
        return BrokerSettings(self.folder / "kafka", port, controller_port=controller, extra=extra)

    # --- life ---

    def open(self):
        self.redis.start()
        self.broker.start()
        folder = self.folder / "realm"
        folder.mkdir()
        self.realm = OwnRealm(
            self.broker.address,
            self.redis.url,
            folder,
            rules=RULES,
            tables=tables(self.lanes),
            partitions=self._partitions,
            HARNESS_SNAPSHOT_INTERVAL_MS="5000",
        ).prepare()
        for seat in range(self.size):
            self.start_worker(seat)
        self.wait_until_ready()

    def close(self):
        for process in [w.process for w in self.workers.values()] + [c for c, _ in self.clients]:
            process.kill()
            process.wait()
        self.broker.stop()
        self.redis.stop()
        self._lines.close()

    # --- workers ---

    def start_worker(self, seat):
        own = {
            "HARNESS_BOOTSTRAP": f"127.0.0.1:{self.kafka_lines[seat].port}",
            "HARNESS_REDIS_URL": f"redis://127.0.0.1:{self.redis_lines[seat].port}/0",
        }
        self._started += 1
        log = self.folder / f"worker-{self._started}-seat-{seat}.log"
        self.workers[seat] = Worker(seat, self.realm.environment() | own, log)
        return self.workers[seat]

    def wait_until_ready(self):
        for worker in self.workers.values():
            worker.wait_until_ready()

    @property
    def spare_seat(self):
        return self.size

    # --- load ---

    def start_clients(self, seeds):
        for seed in seeds:
            out = self.folder / f"client-{seed}.jsonl"
            words = (self.broker.address, self.realm.settings.prefix, ",".join(self.lanes), self._partitions)
            command = [sys.executable, "-m", "tests.faults.load", *map(str, words), str(self._rate), str(seed)]
            with out.open("wb") as lines, out.with_suffix(".err").open("wb") as err:
                process = subprocess.Popen(command, env=self._client_environment(), cwd=ROOT, stdout=lines, stderr=err)
            self.clients.append((process, out))
        self._wait_until_begun()
        return [out for _, out in self.clients]

    def _wait_until_begun(self):
        end = time.monotonic() + READY_S_MAX
        while not all(out.stat().st_size for _, out in self.clients):
            assert time.monotonic() < end, "clients do not begin"
            time.sleep(0.05)

    def stop_clients(self):
        """They ask no more, and wait until all they asked has ended."""
        for process, _ in self.clients:
            process.terminate()
        for process, out in self.clients:
            assert process.wait(2 * CLOSE_S) == 0, out.with_suffix(".err").read_text()[-2000:]
        self.clients.clear()

    def _client_environment(self):
        return os.environ | {"PYTHONPATH": str(ROOT)}

    # --- disks ---

    def empty_broker(self):
        """The broker's process is gone and all that it kept."""
        self.broker.kill()
        shutil.rmtree(self.folder / "kafka" / "data")

    @property
    def redis_data(self):
        return self.folder / "redis" / "data"


def listeners(ports):
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())


def lanes(partitions):
    """Names of lanes, as many in each partition."""
    found = {partition: [] for partition in range(partitions)}
    number = 0
    while any(len(names) < LANES_PER_PARTITION for names in found.values()):
        name = f"tenant-{number}"
        names = found[partition_of(name, partitions)]
        if len(names) < LANES_PER_PARTITION:
            names.append(name)
        number += 1
    return [name for names in zip(*found.values(), strict=True) for name in names]


def tables(names):
    actions = ["crm.read", "email.send", "search.query", "files.read"]
    rows = [
        {"agent_id": f"{lane}-{number}", "tenant": lane, "actions": actions, "workloads": ["w-1"]}
        for lane in names
        for number in range(AGENTS_PER_LANE)
    ]
    return {"identity": rows, "infrastructure": [], "risk": [], "classification": []}
