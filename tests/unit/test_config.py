"""Settings: which source wins, and that no typing mistake goes unnoticed."""

import logging
import os
import subprocess
import sys

import pytest

from harness_stream import config
from harness_stream.access import SECRETS
from harness_stream.cli.compose import realm_of
from harness_stream.config import NAME_CHARS_MAX, Settings, load_settings
from harness_stream.core.limits import HOT_STORED_BYTES_MAX, IDENTIFIER_CHARS_MAX
from harness_stream.errors import ConfigError


@pytest.fixture(autouse=True)
def nothing_told_yet():
    config._say_once.cache_clear()


def settings_file(folder, text):
    path = folder / "harness.toml"
    path.write_text(text)
    return path


def test_flags_win_over_the_environment_over_the_file_over_defaults(tmp_path):
    path = settings_file(tmp_path, 'bootstrap = "file:1"\nrealm = "file"\ngroup = "file"\n')
    found = load_settings(path, {"HARNESS_REALM": "env", "HARNESS_GROUP": "env"}, group="flag", prefix=None)
    assert (found.bootstrap, found.realm, found.group, found.prefix) == ("file:1", "env", "flag", "harness")


def test_an_unknown_key_of_the_file_is_an_error_that_names_the_nearest_one(tmp_path):
    with pytest.raises(ConfigError, match="unknown setting `bootstap`") as refused:
        load_settings(settings_file(tmp_path, 'bootstap = "a:1"\n'), {})
    assert refused.value.hint == "did you mean `bootstrap`?"


class TestAVariableThatIsNearlyASetting:
    @pytest.mark.parametrize(
        ("typed", "meant"),
        [
            ("HARNESS_BOOTSTAP", "HARNESS_BOOTSTRAP"),
            ("HARNESS_PARTITION", "HARNESS_PARTITIONS"),
            ("HARNESS_RULESET", "HARNESS_RULE_SET"),
            ("HARNESS_REDIS", "HARNESS_REDIS_URL"),
            ("HARNESS_BOOTSTRAP_SERVERS", "HARNESS_BOOTSTRAP"),
            ("HARNESS_GROUP_ID", "HARNESS_GROUP"),
            ("HARNESS_DV", "HARNESS_DEV"),
        ],
    )
    def test_is_ignored_and_told_with_the_one_that_was_meant(self, caplog, typed, meant):
        assert load_settings(env={typed: "1"}) == load_settings(env={})
        assert caplog.messages == [f"{typed} is no setting and is ignored; did you mean {meant}? [setting_ignored]"]

    def test_is_told_once_in_a_process(self, caplog):
        for _ in range(3):
            load_settings(env={"HARNESS_PREFIXX": "a"})
        assert len(caplog.messages) == 1

    def test_is_a_plain_line_on_standard_error_and_the_command_runs(self, tmp_path):
        done = subprocess.run(
            [sys.executable, "-c", "from harness_stream.config import load_settings; print(load_settings().realm)"],
            env=os.environ | {"HARNESS_REALN": "mine"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "default\n"
        assert done.stderr == "HARNESS_REALN is no setting and is ignored; did you mean HARNESS_REALM? [setting_ignored]\n"


# What our own tests read, and what one delivery service sets in every step it runs.
OTHERS = "TEST_BOOTSTRAP TEST_REDIS SIMULATION_SEEDS SIMULATION_FIRST_SEED WRITE_GOLDEN LONG BUILD_ID STAGE_ID PROJECT_ID"


def test_variables_of_others_are_left_alone_in_silence(caplog):
    with caplog.at_level(logging.DEBUG):
        load_settings(env={f"HARNESS_{name}": "1" for name in OTHERS.split()})
    assert caplog.messages == []


@pytest.mark.parametrize("prefix", ["bad prefix!", "", "a/b", "x" * 201])
def test_a_prefix_that_no_topic_may_have_is_refused(prefix):
    with pytest.raises(ConfigError, match="first part of topic names"):
        load_settings(env={}, prefix=prefix)


@pytest.mark.parametrize("name", ["bootstrap", "redis_url", "realm", "group", "rule_set", "metrics_host"])
@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_text_is_refused_since_a_script_meant_something_by_it(name, empty):
    with pytest.raises(ConfigError, match=f"`{name}` is empty"):
        load_settings(env={f"HARNESS_{name.upper()}": empty})


@pytest.mark.parametrize("name", ["realm", "group", "rule_set"])
@pytest.mark.parametrize("text", ["two words", "x" * (IDENTIFIER_CHARS_MAX + 1)])
def test_a_name_that_no_event_could_carry_is_refused(name, text):
    assert NAME_CHARS_MAX == IDENTIFIER_CHARS_MAX
    with pytest.raises(ConfigError, match=f"`{name}` cannot be"):
        load_settings(env={}, **{name: text})


def test_rules_that_are_ignored_may_be_none():
    assert load_settings(env={}, risk_ignored_rules="").risk_ignored_rules == ""


def test_memory_is_shared_among_partitions_in_units_and_in_bytes():
    realm = realm_of(Settings(partitions=4, hot_units_max=1_000), "i1")
    assert (realm.hot_units_max, realm.hot_bytes_max) == (250, HOT_STORED_BYTES_MAX // 4)


class TestSecrets:
    def test_they_come_from_the_environment(self, tmp_path):
        found = load_settings(settings_file(tmp_path, 'sasl_user = "a"\n'), {"HARNESS_SASL_PASSWORD": "word"})
        assert (found.kafka.user, found.kafka.password.reveal()) == ("a", "word")

    @pytest.mark.parametrize("name", sorted(SECRETS))
    def test_neither_the_file_nor_a_flag_may_hold_one(self, tmp_path, name):
        with pytest.raises(ConfigError, match=f"`{name}` is a secret") as refused:
            load_settings(settings_file(tmp_path, f'{name} = "word"\n'), {})
        assert f"{name}_file" in refused.value.hint
        with pytest.raises(ConfigError, match=f"`{name}` is a secret"):
            load_settings(env={}, **{name: "word"})

    def test_nor_a_url_with_a_password_in_it(self, tmp_path):
        with pytest.raises(ConfigError, match="seen by everybody"):
            load_settings(settings_file(tmp_path, 'redis_url = "redis://:word@cache"\n'), {})
        with pytest.raises(ConfigError, match="seen by everybody"):
            load_settings(env={}, redis_url="redis://:word@cache")
        assert load_settings(env={"HARNESS_REDIS_URL": "redis://:word@cache"}).redis.who == "default"

    def test_a_command_that_connects_nowhere_reads_no_file(self):
        assert load_settings(env={"HARNESS_SASL_USER": "a", "HARNESS_SASL_PASSWORD_FILE": "/nowhere"}).sasl_user == "a"
