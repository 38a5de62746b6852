"""`harness demo --kafka`: the same agents on a real broker and Redis, judged by two workers; nothing is left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
import redis
from confluent_kafka.admin import AdminClient

from harness_stream.demo.agents import CAST

pytestmark = pytest.mark.real

EXPECTED = {agent.name: [step.expect for step in agent.steps] for agent in CAST}
# A deleted topic leaves the metadata within milliseconds; a loaded machine takes seconds.
GONE_S_MAX = 10


@pytest.fixture
def demo(real_stack, tmp_path):
    def run(*words: str) -> list[dict]:
        command = [sys.executable, "-m", "harness_stream", "demo", "--kafka", "--fast", "--json", *words]
        realm = {"HARNESS_BOOTSTRAP": real_stack.bootstrap, "HARNESS_REDIS_URL": real_stack.redis_url}
        done = subprocess.run(
            command, cwd=tmp_path, env=os.environ | realm, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def topics(real_stack) -> set[str]:
    found = AdminClient({"bootstrap.servers": real_stack.bootstrap}).list_topics(timeout=10).topics
    return {name for name in found if name.startswith("demo-")}


def keys(real_stack) -> set[bytes]:
    return {key for key in redis.Redis.from_url(real_stack.redis_url).scan_iter(count=1_000) if b"demo-" in key}


def test_agents_get_the_same_answers_and_the_realm_is_removed(real_stack, demo) -> None:
    topics_before, keys_before = topics(real_stack), keys(real_stack)
    *verdicts, summary = demo()
    answers = {name: [v["decision"] for v in verdicts if v["agent_id"] == name] for name in EXPECTED}
    assert answers == EXPECTED
    assert summary["ok"]
    assert all(check["ok"] for check in summary["checks"])
    assert keys(real_stack) <= keys_before
    end = time.monotonic() + GONE_S_MAX
    while (left := topics(real_stack) - topics_before) and time.monotonic() < end:
        time.sleep(0.1)
    assert not left
