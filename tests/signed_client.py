"""A client of a signed realm and a certified worker that writes what a test tells it to."""

from __future__ import annotations

import json
from dataclasses import replace

from scripted_worker import INCARNATION, LANE, Script, World, sha

from harness_stream.client.credentials import Credentials
from harness_stream.client.enforcer import Enforcer
from harness_stream.client.session import Session
from tests.signed import SignedRealm

REALM = SignedRealm("default", INCARNATION)
AGENT = "support-1"


class SignedScript(Script):
    """A certified worker."""

    def write(self, body, *, headers=None):
        digest = sha(json.dumps(body).encode())
        return super().write(body, headers=headers or REALM.worker().seal_batch(self.partition, [digest])[0])


class SignedWorld(World):
    def __init__(self, *speakers):
        super().__init__()
        self.wiring = replace(
            self.wiring, signer=REALM.inputs(AGENT, *speakers), verifier=REALM.verifier(judges=False)
        )
        self.enforcer, self.script = Enforcer(self.wiring, self._abandon), SignedScript(self.broker)

    def session(self, **more):
        return Session(Credentials(agent_id=AGENT, lane=LANE, **more), self.wiring)


def published(session, world):
    for _ in range(8):
        session.enforcer.step()
    return world.last_input()
