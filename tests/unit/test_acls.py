"""The table of rights: what it says of itself; what a page shows; how entries of a broker are taken."""

import re
from pathlib import Path

import pytest
from pages import chapter, command_lines, understood

from harness_stream.access import KafkaAccess, Secret, Tls
from harness_stream.adapters.kafka.acls import AclPlan, roles_of, wanted
from harness_stream.adapters.kafka.refused import denied
from harness_stream.adapters.redis import keys
from harness_stream.adapters.redis.rights import commands, rules
from harness_stream.cli.topics_acls import AclReport
from harness_stream.errors import ConfigError
from harness_stream.wire import acls
from harness_stream.wire.acls import Acl, Names
from harness_stream.wire.topics import topic_specs

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/transport.md").read_text("utf-8")
NAMES = Names("harness", "harness-workers")
LETTERS = {"READ": "R", "WRITE": "W", "CREATE": "N", "DESCRIBE": "D", "DESCRIBE_CONFIGS": "C", "ALTER_CONFIGS": "A", "ALTER": "A"}


def test_every_topic_of_a_realm_is_in_the_table_and_no_other():
    assert [f"harness.{word}" for word in acls.TOPICS] == [spec.name for spec in topic_specs("harness", 1, 1, 1)]


def test_nobody_but_who_must_writes_what_decides():
    able = lambda word: {role for role in acls.MATRIX if acls.may(role, "topic", word, "WRITE")}  # noqa: E731
    assert able("verdicts") == able("heads") == able("chains") == {"worker", "operator"}
    assert able("rules") == {"rule-pusher"}
    assert able("identity") == {"identity-writer"}
    assert able("intents") == {"agent", "enforcer", "approver"}
    assert not acls.may("agent", "topic", "verdicts", "READ")


def test_only_one_role_has_any_right_on_the_cluster():
    assert {role for role, rights in acls.MATRIX.items() if any(r.kind == "cluster" for r in rights)} == {"acl-admin"}


def test_the_page_shows_the_table():
    lines = [line for line in chapter(PAGE, "Roles").splitlines() if line.startswith("|")]
    heading, *rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines if "---" not in line]
    things = [("topic", word) for word in acls.TOPICS] + [("group", w) for w in (acls.WORKERS, acls.RISK, acls.READERS)]
    things.append(("cluster", acls.CLUSTER))
    named = [word if kind == "topic" else "cluster" if kind == "cluster" else f"group `{word}`" for kind, word in things]
    assert heading == ["role", *named]
    shown = {row[0].strip("`"): dict(zip(things, map(set, row[1:]), strict=True)) for row in rows}
    ours = {role: {thing: set() for thing in things} for role in acls.MATRIX}
    for role, rights in acls.MATRIX.items():
        for right in rights:
            ours[role][right.kind, right.word] |= {LETTERS[operation] for operation in right.operations}
    assert shown == ours


@pytest.mark.parametrize("line", [" ".join(words) for words in command_lines(PAGE)])
def test_a_command_line_that_is_shown_is_understood(line):
    understood(line)


@pytest.mark.parametrize("writes", [True, False])
def test_the_page_shows_what_redis_needs(writes):
    assert " ".join(rules("default/harness", writes=writes)) in PAGE


def test_commands_of_redis_are_those_of_the_scripts_and_the_store():
    folder = ROOT / "harness_stream/adapters/redis"
    called = set(re.findall(r"redis\.call\('(\w+)'", "".join(path.read_text() for path in folder.glob("scripts/*.lua"))))
    assert called
    asked = set(re.findall(r"\b(?:r|client)\.(hmget|sscan_iter|evalsha|eval|[a-z]+)\(", (folder / "state.py").read_text()))
    assert {word.removesuffix("_iter") for word in asked - {"close"}} | {word.lower() for word in called} == set(commands(writes=True))


@pytest.mark.parametrize("realm", ["a", "a/b", "a*", "[a-z]", "a?", "{a}", "a\\"])
def test_a_realms_pattern_covers_its_keys_and_says_nothing_special_but_its_own_stars(realm):
    special = re.sub(r"\{|\}", "", keys.pattern(realm).removeprefix("hs:"))
    assert not set(special.replace("*", "", 2)) & set("*?[]\\")
    head = keys.head(keys.Whose(realm, "i1"), 3).decode()
    before, middle, after = keys.pattern(realm).split("*")
    assert head.startswith(before)
    assert middle in head
    assert after == ""


class TestPrincipals:
    def test_a_name_may_hold_anything_that_a_certificate_does(self):
        assert roles_of(["worker=User:CN=w,O=acme", "agent=User:a:b"]) == [("worker", "User:CN=w,O=acme"), ("agent", "User:a:b")]

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            ([], "who has which role"),
            (["wrker=User:a"], "no role `wrker`"),
            (["worker=alice"], "no principal"),
            (["worker=User:"], "no principal"),
            (["worker=User:*"], "everybody"),
            (["worker=User:a", "none=User:a"], "a role and none"),
        ],
    )
    def test_mistakes(self, given, told):
        with pytest.raises(ConfigError, match=told) as refused:
            roles_of(given)
        assert refused.value.hint

    def test_who_has_two_roles_gets_both(self):
        both = wanted([("agent", "User:a"), ("witness", "User:a")], NAMES)
        assert both == acls.entries("agent", "User:a", NAMES) | acls.entries("witness", "User:a", NAMES)


@pytest.mark.parametrize(
    ("entry", "covered"),
    [
        (Acl("User:a", "topic", "harness.intents", "READ"), True),
        (Acl("User:a", "topic", "harness", "READ", pattern="PREFIXED"), True),
        (Acl("User:a", "topic", "*", "READ"), True),
        (Acl("User:a", "group", "harness-workers", "READ"), True),
        (Acl("User:a", "cluster", "kafka-cluster", "ALTER"), True),
        (Acl("User:a", "topic", "harness2.intents", "READ"), False),
        (Acl("User:a", "topic", "harness.other", "READ"), False),
        (Acl("User:a", "topic", "harness.intents.old", "READ", pattern="PREFIXED"), False),
        (Acl("User:a", "group", "harness.intents", "READ"), False),
    ],
)
def test_an_entry_is_about_this_realm_or_not(entry, covered):
    assert NAMES.covers(entry) is covered


def test_a_report_names_what_was_done_and_what_is_left():
    entry, foreign = Acl("User:a", "topic", "t", "READ"), Acl("User:b", "topic", "t", "WRITE", host="10.0.0.1")
    done = AclReport(AclPlan((entry,), (foreign,), ()), AclPlan((), (foreign,), ()), check=False)
    assert list(done.lines()) == ["allowed User:a READ topic `t`", "besides User:b WRITE topic `t` from 10.0.0.1"]
    assert (done.remaining, done.document()["created"]) == (1, [entry._asdict()])
    shown = AclReport(AclPlan((entry,), (foreign,), ()), AclPlan((entry,), (foreign,), ()), check=True)
    assert [line.split(" User")[0] for line in shown.lines()] == ["would create", "would remove with --prune"]


class TestDenied:
    def test_a_denial_names_right_topic_and_the_command_that_gives_it(self):
        error = denied(KafkaAccess("k:1", "SASL_SSL", user="alice", password=Secret("x")), "topic", "harness.rules", "WRITE")
        assert error.message == "`User:alice` may not WRITE topic `harness.rules`: the right is missing"
        assert "`harness topics apply --acls --principal rule-pusher=User:alice`" in error.hint

    def test_of_a_certificate_it_says_whose_name_is_meant(self):
        error = denied(KafkaAccess("k:1", "SSL", tls=Tls(cert="c.crt", key="c.key")), "topic", "harness.heads", "READ")
        assert "certificate `c.crt` may not READ" in error.message
        assert "NAME is the certificate's whole subject" in error.hint

    def test_where_several_rights_are_missing_a_role_is_named_that_has_them_all(self):
        error = denied(KafkaAccess("k:1"), "topic", "harness.verdicts", "READ", "WRITE")
        assert "`User:ANONYMOUS` may not READ and WRITE" in error.message
        assert "--principal worker=User:ANONYMOUS`" in error.hint or "--principal operator=" in error.hint
