"""`python -m topologies.risk` where it cannot run: one line that says why, one that says what to do, no traceback."""

import importlib
import os
import subprocess
import sys

from certificates import made

from harness_stream.access import KafkaAccess, Secret, Tls
from harness_stream.errors import BrokerUnavailable, CallerError, ConfigError
from harness_stream.local.process import free_port

RUN = "import runpy; runpy.run_module('topologies.risk', run_name='__main__')"


def topology(folder, program=RUN, *words, **settings):
    """Exit code and what it said."""
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, cwd=folder, env=os.environ | settings, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr + done.stdout


def test_without_a_broker_it_names_the_address(tmp_path):
    nobody = f"127.0.0.1:{free_port()}"
    code, said = topology(tmp_path, HARNESS_DEV="1", HARNESS_BOOTSTRAP=nobody)
    assert code == BrokerUnavailable.exit_code
    assert said.startswith(f"error: Kafka does not answer at {nobody}")
    assert "→ `harness up` starts one on this machine, and with `--dir` of a stack that is there what is down" in said


def test_without_faust_it_says_how_to_get_it(tmp_path):
    code, said = topology(tmp_path, f"import sys; sys.modules['faust'] = None; {RUN}", HARNESS_DEV="1")
    assert code == CallerError.exit_code
    assert said == (
        "error: the risk topology needs the package `faust`, which is not installed\n"
        "→ `pip install 'harness-stream[topologies]'` brings it\n"
    )


def test_a_signed_realm_without_keys_is_refused_before_any_broker_is_asked(tmp_path):
    code, said = topology(tmp_path, HARNESS_DEV="0", HARNESS_BOOTSTRAP=f"127.0.0.1:{free_port()}")
    assert code == ConfigError.exit_code
    assert "HARNESS_DEV=1" in said


def test_help_teaches_with_an_example_and_starts_nothing(tmp_path):
    code, said = topology(tmp_path, RUN, "--help", COLUMNS="120")
    assert code == 0
    assert "Example: python -m topologies.risk --dev" in said
    for flag in ("--bootstrap", "--prefix", "--dev", "--risk-half-life-ms", "--risk-denials-full", "--risk-ignored-rules"):
        assert flag in said


def test_a_mistyped_option_gets_a_suggestion(tmp_path):
    code, said = topology(tmp_path, RUN, "--prefx", "x", COLUMNS="120")
    assert code == 2
    assert "--prefix" in said


def test_settings_may_be_flags(tmp_path):
    nobody = f"127.0.0.1:{free_port()}"
    code, said = topology(tmp_path, RUN, "--dev", "--bootstrap", nobody, HARNESS_DEV="0")
    assert code == BrokerUnavailable.exit_code
    assert nobody in said


def test_fausts_own_client_is_told_the_same_way_in(tmp_path):
    app = importlib.import_module("topologies.risk.app")
    ca = made(tmp_path, "ca")
    assert app._credentials(KafkaAccess("k:1")) is None
    told = app._credentials(KafkaAccess("k:1", "SASL_SSL", user="a", password=Secret("word"), tls=Tls(str(ca.crt))))
    assert (told.username, told.password, told.mechanism.value) == ("a", "word", "SCRAM-SHA-512")
    assert told.protocol.value == "SASL_SSL"
    assert len(told.ssl_context.get_ca_certs()) == 1
    assert "word" not in repr(told)
    told = app._credentials(KafkaAccess("k:1", "SASL_PLAINTEXT", user="a", password=Secret("word")))
    assert (told.protocol.value, told.ssl_context) == ("SASL_PLAINTEXT", None)
    told = app._credentials(KafkaAccess("k:1", "SSL", tls=Tls(str(ca.crt))))
    assert (told.protocol.value, told.context.check_hostname) == ("SSL", True)
