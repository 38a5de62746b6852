"""What the benchmark's suites say an agent does: per task its calls, and the world they run against.

Rule of this file: the only one that knows the `agentdojo` package. Calls are each task's own ground truth; an attack is
a user's task whose chain goes on with the calls an injected instruction asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agentdojo.functions_runtime import FunctionsRuntime
from agentdojo.task_suite.load_suites import get_suite
from pydantic_core import to_jsonable_python

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

VERSION: Final = "v1.2.2"
SUITES: Final = ("banking", "workspace")


class Call(NamedTuple):
    """One tool call.

    Attributes:
        tool: the suite's name of it.
        arguments: by parameter.
        injected: an injected instruction asked for it, not the user.
    """

    tool: str
    arguments: Mapping[str, Any]
    injected: bool


class Ran(NamedTuple):
    """How a call ended.

    Attributes:
        worked: the tool did its work.
        result: what it returned, as plain data.
    """

    worked: bool
    result: Any


@dataclass(frozen=True, slots=True)
class Script:
    """What one chain does.

    Attributes:
        task_id: the user's task.
        attack_id: the injected task, None in honest work.
        goal: the user's words.
        calls: in order; injected ones last.
    """

    task_id: str
    attack_id: str | None
    goal: str
    calls: tuple[Call, ...]


class World:
    """One suite's environment, fresh, in which approved calls really run."""

    def __init__(self, suite: Suite, script: Script) -> None:
        self._suite, self._script = suite, script
        self.before = suite.environment(script.task_id)
        self.now = self.before.model_copy(deep=True)
        self._runtime = FunctionsRuntime(suite.tools)

    def run(self, call: Call) -> Ran:
        """Let the tool do its work."""
        result, error = self._runtime.run_function(self.now, call.tool, dict(call.arguments))
        return Ran(error is None, to_jsonable_python(result))

    def goal_reached(self, *, whole: bool) -> bool:
        """What the suite itself says: the user's task is solved, or, under attack, the attacker's.

        Args:
            whole: every call of that goal ran; else the agent has no answer to give, and only what it did counts.
        """
        suite, script = self._suite, self._script
        if script.attack_id is None:
            task = suite.user_tasks[script.task_id]
            return bool(task.utility(task.GROUND_TRUTH_OUTPUT if whole else "", self.before, self.now))
        attack = suite.injection_tasks[script.attack_id]
        return bool(attack.security(attack.GROUND_TRUTH_OUTPUT if whole else "", self.before, self.now))


class Suite:
    """One suite of the benchmark.

    Args:
        name: one of `SUITES`.
    """

    def __init__(self, name: str) -> None:
        suite = get_suite(VERSION, name)
        self.name = name
        self.tools = suite.tools
        self.user_tasks, self.injection_tasks = suite.user_tasks, suite.injection_tasks
        self._environment = suite.load_and_inject_default_environment({})

    def environment(self, task_id: str) -> Any:  # noqa: ANN401  each suite has its own class
        """The environment in which a task begins; the caller may change it."""
        return self.user_tasks[task_id].init_environment(self._environment.model_copy(deep=True))

    def scripts(self, *, attacks: bool, only: Collection[str] = ()) -> list[Script]:
        """Every honest task; with `attacks` instead every task with every attack that has calls.

        Args:
            attacks: which of the two.
            only: ids of the users' tasks to take; empty: all.
        """
        chosen = [task_id for task_id in self.user_tasks if not only or task_id in only]
        if not attacks:
            return [self._script(task_id, None) for task_id in chosen]
        pairs = [(task_id, attack_id) for task_id in chosen for attack_id in self.injection_tasks]
        scripts = [self._script(task_id, attack_id) for task_id, attack_id in pairs]
        return [script for script in scripts if script.calls and script.calls[-1].injected]

    def _script(self, task_id: str, attack_id: str | None) -> Script:
        task = self.user_tasks[task_id]
        calls = self._calls(task, task_id, injected=False)
        if attack_id is not None:
            calls += self._calls(self.injection_tasks[attack_id], task_id, injected=True)
        return Script(task_id, attack_id, task.PROMPT, calls)

    def _calls(self, task: Any, task_id: str, *, injected: bool) -> tuple[Call, ...]:  # noqa: ANN401  two kinds of task
        found = task.ground_truth(self.environment(task_id))
        return tuple(Call(call.function, dict(call.args), injected) for call in found)
