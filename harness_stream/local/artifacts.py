"""What must be on the machine before a broker can start: Java, and Apache Kafka's jars.

Rule of this file: everything is looked for first, fetched only if missing, and a folder that exists is complete
(it is filled under another name and renamed).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from harness_stream.errors import CallerError, Unavailable

if TYPE_CHECKING:
    from harness_stream.local.process import Progress

KAFKA_VERSION = "4.1.1"

JAVA_MAJOR_MIN = 17
"""Kafka 4's brokers are compiled for Java 17 (KIP-1013)."""

JAVA_ANSWER_LIMIT_S = 20.0
"""`java -version` takes 0.1 s; a cold disk on a busy machine takes seconds."""

DOWNLOAD_LIMIT_S = 600.0
"""43 MB in 46 files: 6 s on a fast line, 6 minutes at 1 Mbit/s."""

_JAVA_HINT = (
    f"install Java {JAVA_MAJOR_MIN} or newer "
    "(Debian: `apt install openjdk-17-jre-headless`, macOS: `brew install openjdk`)"
)
_OFFLINE_HINT = (
    f"without Maven or network: unpack Apache Kafka {KAFKA_VERSION} from kafka.apache.org yourself and give "
    "its folder, `--kafka-libs kafka_2.13-4.1.1/libs`"
)

# slf4j-simple: the broker's log goes to its standard error, hence into its log file, without a logging configuration.
_POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>kafka</artifactId><version>{KAFKA_VERSION}</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""


def java() -> str:
    """Path of a Java runtime new enough for Kafka: that of `JAVA_HOME`, else the one on `PATH`.

    Raises:
        CallerError: there is none, or it is too old.
    """
    home = os.environ.get("JAVA_HOME")
    path = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if path is None:
        where = f"in JAVA_HOME ({home})" if home else "on PATH"
        raise CallerError(f"Kafka needs Java, and there is none {where}", hint=_JAVA_HINT)
    major = _java_major(path)
    if major < JAVA_MAJOR_MIN:
        raise CallerError(
            f"Kafka {KAFKA_VERSION} needs Java {JAVA_MAJOR_MIN} or newer; {path} is {major}", hint=_JAVA_HINT
        )
    return path


def _java_major(path: str) -> int:
    try:
        answer = subprocess.run(  # noqa: S603  a Java runtime found on the user's own path
            [path, "-version"], capture_output=True, text=True, check=False, timeout=JAVA_ANSWER_LIMIT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CallerError(f"{path} does not run: {error}", hint=_JAVA_HINT) from error
    # 'openjdk version "17.0.15"'; up to Java 8 the major number is the second: "1.8.0".
    version = re.search(r'version "(?:1\.)?(\d+)', answer.stderr)
    if version is None:
        said = answer.stderr.strip() or answer.stdout.strip() or "nothing"
        raise CallerError(f"{path} does not say which Java it is: {said}", hint=_JAVA_HINT)
    return int(version[1])


def cache_directory() -> Path:
    """Where downloads are kept for all projects of this user (XDG Base Directory specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harness-stream"


def kafka_libs(progress: Progress, *, cache: Path | None = None) -> Path:
    """Folder of Apache Kafka's jars, fetched by Maven into `cache` on first use.

    Two processes may do this at once: each fills a folder of its own, and the first to finish wins.

    Args:
        progress: told before the download.
        cache: default `cache_directory()`.

    Raises:
        CallerError: Maven is missing.
        Unavailable: the download failed.
    """
    folder = (cache or cache_directory()) / f"kafka-{KAFKA_VERSION}"
    libs = folder / "libs"
    if libs.is_dir():
        return libs
    maven = shutil.which("mvn")
    if maven is None:
        raise CallerError(
            "fetching Apache Kafka needs Maven, and there is no `mvn` on PATH",
            hint=f"install it (Debian: `apt install maven`, macOS: `brew install maven`); {_OFFLINE_HINT}",
        )
    progress(f"downloading Apache Kafka {KAFKA_VERSION} (43 MB, once) into {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="download-") as draft:
        _download(maven, Path(draft))
        try:
            (Path(draft) / "libs").rename(libs)
        except OSError:
            if not libs.is_dir():
                raise
    return libs


def _download(maven: str, draft: Path) -> None:
    (draft / "pom.xml").write_text(_POM, encoding="utf-8")
    command = [maven, "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={draft / 'libs'}"]
    try:
        answer = subprocess.run(  # noqa: S603  the Maven found on the user's own path, with our own pom
            command, cwd=draft, capture_output=True, text=True, check=False, timeout=DOWNLOAD_LIMIT_S
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"Kafka's download took longer than {DOWNLOAD_LIMIT_S:g} s", hint=_OFFLINE_HINT) from error
    if answer.returncode != 0:
        mistakes = [line for line in answer.stdout.splitlines() if line.startswith("[ERROR]")]
        cause = mistakes[0].removeprefix("[ERROR]").strip() if mistakes else answer.stderr.strip()
        raise Unavailable(
            f"Maven could not fetch Apache Kafka: {cause}", hint=f"check the network, then repeat; {_OFFLINE_HINT}"
        )
    require_kafka_libs(draft / "libs")


def require_kafka_libs(libs: Path) -> Path:
    """Check that `libs` holds a Kafka broker's jars, and give its absolute path.

    Raises:
        CallerError: it does not.
    """
    if not any(libs.glob("kafka_2.13-4.*.jar")):
        raise CallerError(
            f"{libs} holds no Kafka 4 broker (kafka_2.13-4.*.jar)", hint="give the `libs` folder of an unpacked Kafka 4"
        )
    return libs.resolve()
