"""Settings that say how a process gets into Kafka and Redis: what they mean, what contradicts itself, what is never shown."""

import copy
import json
import pickle
from dataclasses import asdict, replace

import pytest
from certificates import made

from harness_stream.access import (
    KAFKA_SETTINGS,
    REDIS_SETTINGS,
    SECRETS,
    KafkaAccess,
    RedisAccess,
    Secret,
    Tls,
    kafka_access,
    redis_access,
    require_no_password,
)
from harness_stream.client.credentials import Credentials
from harness_stream.config import Settings
from harness_stream.errors import ConfigError

PLACE = "127.0.0.1:9093"
WORD = "open-sesame-42"
USER = {"sasl_user": "alice", "sasl_password": Secret(WORD)}


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return made(tmp_path_factory.mktemp("ca"), "ca")


@pytest.fixture(scope="module")
def pair(tmp_path_factory, ca):
    return made(tmp_path_factory.mktemp("pair"), "client", ca)


@pytest.mark.parametrize(
    ("said", "protocol"),
    [
        ({}, "PLAINTEXT"),
        (USER, "SASL_SSL"),
        (USER | {"security_protocol": "sasl-plaintext"}, "SASL_PLAINTEXT"),
        ({"security_protocol": "ssl"}, "SSL"),
        ({"ssl_ca": "CA"}, "SSL"),
        (USER | {"ssl_ca": "CA"}, "SASL_SSL"),
    ],
)
def test_the_protocol_follows_from_what_else_is_said(ca, said, protocol):
    found = {name: str(ca.crt) if value == "CA" else value for name, value in said.items()}
    assert kafka_access(PLACE, found).protocol == protocol


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"security_protocol": "TLS"}, "`security_protocol` cannot be `TLS`"),
        ({"security_protocol": "SASL_SSL"}, "needs a `sasl_user`"),
        (USER | {"security_protocol": "SSL"}, "names nobody to the broker"),
        (USER | {"sasl_mechanism": "GSSAPI"}, "`sasl_mechanism` cannot be `GSSAPI`"),
        ({"sasl_user": "alice"}, "user `alice` has no password"),
        (USER | {"sasl_password_file": "p"}, "there is a `sasl_password`, and a `sasl_password_file` as well"),
        ({"security_protocol": "PLAINTEXT", "ssl_ca": "x"}, "does not encrypt, and there is a `ssl_ca`"),
        ({"ssl_ca": "/nowhere"}, "`ssl_ca`: `/nowhere` cannot be read"),
        ({"ssl_cert": "x"}, "there is a `ssl_cert` and no `ssl_key`"),
        ({"ssl_key": "x"}, "there is a `ssl_key` and no `ssl_cert`"),
    ],
)
def test_what_contradicts_itself_is_refused_before_anything_is_connected(said, told):
    with pytest.raises(ConfigError) as refused:
        kafka_access(PLACE, said)
    assert told in refused.value.message
    assert refused.value.hint


def test_plain_is_refused_where_nothing_encrypts():
    plain = USER | {"sasl_mechanism": "PLAIN"}
    assert kafka_access(PLACE, plain).mechanism == "PLAIN"
    with pytest.raises(ConfigError, match="would send the password to whoever listens"):
        kafka_access(PLACE, plain | {"security_protocol": "SASL_PLAINTEXT"})


class TestFiles:
    def test_a_password_may_stand_in_a_file_of_its_owners(self, tmp_path):
        path = tmp_path / "password"
        path.write_text(f"{WORD}\n")
        said = {"sasl_user": "alice", "sasl_password_file": str(path)}
        path.chmod(0o644)
        with pytest.raises(ConfigError, match="everybody may read it"):
            kafka_access(PLACE, said)
        path.chmod(0o600)
        assert kafka_access(PLACE, said).password == Secret(WORD)

    @pytest.mark.parametrize(("content", "told"), [(b"", "is empty"), (b"x" * 5_000, "no password"), (b"\xff", "no text")])
    def test_a_file_that_holds_none_is_told(self, tmp_path, content, told):
        path = tmp_path / "password"
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(ConfigError, match=told):
            kafka_access(PLACE, {"sasl_user": "alice", "sasl_password_file": str(path)})

    def test_a_missing_one_too(self):
        with pytest.raises(ConfigError, match="`/nowhere` cannot be read"):
            kafka_access(PLACE, {"sasl_user": "alice", "sasl_password_file": "/nowhere"})

    def test_a_key_that_everybody_may_read_is_refused(self, tmp_path, ca):
        open_ = made(tmp_path, "open", ca)
        open_.key.chmod(0o644)
        with pytest.raises(ConfigError, match="everybody may read it"):
            kafka_access(PLACE, {"ssl_cert": str(open_.crt), "ssl_key": str(open_.key)})

    def test_a_key_of_another_certificate_and_what_is_no_certificate_are_told(self, tmp_path, ca, pair):
        other = made(tmp_path, "other", ca)
        with pytest.raises(ConfigError, match=r"`ssl_cert`: .*mismatch"):
            kafka_access(PLACE, {"ssl_cert": str(pair.crt), "ssl_key": str(other.key)})
        with pytest.raises(ConfigError, match="`ssl_ca`: "):
            kafka_access(PLACE, {"ssl_ca": str(pair.key)})

    def test_a_sealed_key_is_opened_by_its_password_and_never_asks_at_a_terminal(self, tmp_path, ca):
        sealed = made(tmp_path, "sealed", ca, password=WORD.encode())
        said = {"ssl_cert": str(sealed.crt), "ssl_key": str(sealed.key)}
        assert kafka_access(PLACE, said | {"ssl_key_password": Secret(WORD)}).tls.key_password == Secret(WORD)
        for wrong in (Secret(""), Secret("no")):
            with pytest.raises(ConfigError, match="`ssl_cert`: ") as refused:
                kafka_access(PLACE, said | {"ssl_key_password": wrong})
            assert "ssl_key_password_file" in refused.value.hint


def test_with_a_ca_of_ours_the_systems_are_believed_no_more(ca):
    """Python's own default would add ours to them, and so does the library that speaks to Redis."""
    (only,) = Tls(str(ca.crt)).context().get_ca_certs()
    assert dict(part[0] for part in only["subject"])["commonName"] == "ca"


class TestRedis:
    def test_a_user_and_a_ca_over_tls(self, ca):
        said = {"redis_user": "worker", "redis_password": Secret(WORD), "redis_ca": str(ca.crt)}
        found = redis_access("rediss://cache:6380/2", said)
        assert (found.user, found.password, found.encrypted, found.place) == ("worker", Secret(WORD), True, "rediss://cache:6380/2")

    @pytest.mark.parametrize(
        ("url", "said", "told"),
        [
            ("redis://cache", {"redis_ca": "x"}, "`redis_url` does not encrypt"),
            (f"rediss://a:{WORD}@cache", {"redis_user": "b", "redis_password": Secret("x")}, "and beside it"),
            ("rediss://cache", {"redis_user": "b"}, "user `b` has no password"),
            ("rediss://[cache", {}, "malformed"),
        ],
    )
    def test_contradictions(self, url, said, told):
        with pytest.raises(ConfigError) as refused:
            redis_access(url, said)
        assert told in refused.value.message
        assert WORD not in str(refused.value)


@pytest.mark.parametrize("option", ["ssl_cert_reqs=none", "ssl_check_hostname=false", "ssl_ca_certs=x"])
def test_a_url_cannot_switch_verification_off(option):
    with pytest.raises(ConfigError, match="how the server is verified is not said there"):
        redis_access(f"rediss://cache:6379/0?{option}", {})


@pytest.mark.parametrize("url", [f"redis://:{WORD}@c", f"rediss://u:{WORD}@c:1/0", f"redis://u:{WORD}@@c"])
def test_a_url_with_a_password_is_refused_where_others_see_it(url):
    with pytest.raises(ConfigError) as refused:
        require_no_password(url, "flags")
    assert WORD not in str(refused.value)
    require_no_password("redis://user@cache:6379/0", "flags")


def test_a_secret_shows_itself_nowhere():
    secret = Secret(WORD)
    access = KafkaAccess(PLACE, "SASL_SSL", user="alice", password=secret)
    settings = replace(Settings(), sasl_password=secret, redis_password=secret, redis_url=f"redis://:{WORD}@cache/0")
    shown = [
        *(repr(secret), str(secret), f"{secret}", f"{secret!r:>30}", "%s" % secret),  # noqa: UP031  as logging does
        *(repr(access), str(asdict(access)), repr(settings), repr(settings.kafka), json.dumps(asdict(access), default=str)),
        repr(RedisAccess(f"redis://:{WORD}@cache/0")),
        RedisAccess(f"redis://u:{WORD}@cache/0?x={WORD}").place,
        repr(Credentials(agent_id="a", sasl_password=WORD)),
        Credentials(agent_id="a", sasl_password=WORD).model_dump_json(),
    ]
    assert [text for text in shown if WORD in text] == []
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    assert copy.copy(access).password.reveal() == WORD
    assert (secret == Secret(WORD), secret == Secret("other"), bool(Secret(""))) == (True, False, False)


def test_settings_and_credentials_know_every_word_of_the_way_in():
    fields = set(Settings.__dataclass_fields__)
    assert {*KAFKA_SETTINGS, *REDIS_SETTINGS} <= fields
    assert {name for name in fields if isinstance(Settings.__dataclass_fields__[name].default, Secret)} == SECRETS
    assert set(KAFKA_SETTINGS) <= set(Credentials.model_fields)


class TestCredentials:
    @pytest.fixture(autouse=True)
    def no_settings(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name in KAFKA_SETTINGS:
            monkeypatch.delenv(f"HARNESS_{name.upper()}", raising=False)

    def file(self, folder, **said):
        path = folder / "agent.json"
        path.write_text(json.dumps({"agent_id": "a-1", "dev": True} | said))
        path.chmod(0o600)
        return path

    def test_a_file_that_names_a_way_in_names_all_of_it(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HARNESS_SASL_USER", "operator")
        monkeypatch.setenv("HARNESS_SASL_PASSWORD", "the operator's")
        found = Credentials.of(self.file(tmp_path, sasl_user="a-1", sasl_password=WORD))
        assert (found.sasl_user, found.transport()["sasl_password"]) == ("a-1", Secret(WORD))
        assert Credentials.of(self.file(tmp_path)).transport()["sasl_password"] == Secret("the operator's")
        found = Credentials.of(self.file(tmp_path, security_protocol="SSL"))
        assert (found.sasl_user, found.transport()["sasl_password"]) == ("", Secret(""))

    def test_its_paths_are_relative_to_it(self, tmp_path):
        folder = tmp_path / "elsewhere"
        folder.mkdir()
        found = Credentials.of(self.file(folder, ssl_ca="ca.crt", ssl_cert="/abs/own.crt")).transport()
        assert (found["ssl_ca"], found["ssl_cert"]) == (str(folder / "ca.crt"), "/abs/own.crt")

    def test_one_that_holds_a_password_must_be_private(self, tmp_path):
        path = self.file(tmp_path, sasl_user="a-1", sasl_password=WORD)
        path.chmod(0o644)
        with pytest.raises(ConfigError, match="everybody may read it"):
            Credentials.of(path)
