"""A Spark session of our own: checked before it starts, quiet, and gone with its JVM at the end.

    with spark_session(master="spark://10.0.0.5:7077", memory="16g") as session:
        ...

Spark alone waits for a master or a worker that is not there for a minute or for ever, and says why in a page of Java.
"""

import os
import re
import shutil
import socket
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hailtime.errors import ConfigError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ANSWER_S = 10.0  # a master that is there accepts a connection within milliseconds
WORKERS_S = 60.0  # a worker starts an executor within 3 to 10 s (measured on a busy machine)
_MASTER = re.compile(r"local(\[.+\])?|spark://.+|yarn|k8s://.+")
_SETTINGS = {
    "spark.app.name": "hailtime",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.caseSensitive": "true",  # as in the other engines: a raw table may hold `Zone` and `zone`
    # a time of 1e30 is a fault to be counted: Spark may cast a row before the filter that drops it, and then must not
    # raise; sums of whole numbers wrap, as they do in the other engines
    "spark.sql.ansi.enabled": "false",
    "spark.pyspark.python": sys.executable,
}
_LOG4J = """rootLogger.level = error
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = Spark %p %c{1}: %m%n
appender.stderr.layout.alwaysWriteExceptions = false
"""


@contextmanager
def spark_session(
    master: str = "local[*]", memory: str = "4g", conf: Mapping[str, Any] | None = None, workers_s: float = WORKERS_S
) -> Iterator["SparkSession"]:
    """A new session; at the end neither it nor its JVM is left.

    - master: local[*], spark://HOST:PORT, yarn or k8s://...
    - memory: of the one JVM when the master is local, else of each executor
    - conf: any settings of Spark, such as {"spark.sql.shuffle.partitions": 400}; they go before ours
    - workers_s: how long to wait until a worker takes a job

    ConfigError when there is no Java, nobody answers at the master, or no worker takes a job in time.
    """
    _check_master(master)
    session_type = _session_type()
    _check_java()
    with TemporaryDirectory(prefix="hailtime-spark-") as folder, _loopback_for(master), warnings.catch_warnings():
        # it means pandas frames made by Spark, of which there are none
        warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
        settings = _settings_for(master, memory, Path(folder)) | {k: str(v) for k, v in (conf or {}).items()}
        session = _start(session_type, master, settings)
        try:
            if not master.startswith("local"):
                _wait_for_worker(session, master, workers_s)
            yield session
        finally:
            session.stop()
            _end_jvm()


def _session_type() -> Any:
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise ImportError("Preparing with Spark needs pyspark: pip install 'hailtime[spark]'") from error
    return SparkSession


def _check_java() -> None:
    home = os.environ.get("JAVA_HOME")
    if home and not (Path(home) / "bin" / "java").exists():
        raise ConfigError(f"Spark needs Java 17 or newer, and JAVA_HOME={home} has no bin/java: mend or unset it")
    if not home and shutil.which("java") is None:
        raise ConfigError(
            "Spark needs Java 17 or newer, and there is no java on the PATH: apt install openjdk-17-jre-headless"
        )


def _check_master(master: str) -> None:
    """ConfigError when this is no master, or nobody listens there."""
    if not _MASTER.fullmatch(master):
        raise ConfigError(f"spark.master must be local[*], spark://HOST:PORT, yarn or k8s://..., got {master!r}")
    if not master.startswith("spark://"):
        return
    problems = []
    for address in master.removeprefix("spark://").split(","):
        try:
            url = urlsplit(f"spark://{address}")
            socket.create_connection((url.hostname or "", url.port or 7077), timeout=ANSWER_S).close()
            return
        except (OSError, ValueError) as error:
            problems.append(f"{address}: {error}")
    raise ConfigError(
        f"spark.master must be the address of a running master, nobody answers at {'; '.join(problems)}: "
        "start it, or use spark.master=local[*]"
    )


def _settings_for(master: str, memory: str, folder: Path) -> dict[str, str]:
    log4j = folder / "log4j2.properties"
    log4j.write_text(_LOG4J)
    whose = "driver" if master.startswith("local") else "executor"
    ours = {f"spark.{whose}.memory": memory, "spark.driver.defaultJavaOptions": f"-Dlog4j2.configurationFile={log4j}"}
    if _is_here(master):
        ours |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    return _SETTINGS | ours


def _is_here(master: str) -> bool:
    return master.startswith("local") or urlsplit(master).hostname in ("127.0.0.1", "localhost", "::1")


@contextmanager
def _loopback_for(master: str) -> Iterator[None]:
    """Without it Spark looks up this machine's own name, which may be slow, wrong or unknown."""
    if not _is_here(master) or "SPARK_LOCAL_IP" in os.environ:
        yield
        return
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    try:
        yield
    finally:
        del os.environ["SPARK_LOCAL_IP"]


def _start(session_type: Any, master: str, settings: Mapping[str, str]) -> "SparkSession":
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    if session_type.getActiveSession() is not None:
        raise ConfigError("a Spark session with settings of its own runs in this process already: stop it first")
    try:
        session: SparkSession = session_type.builder.master(master).config(map=dict(settings)).getOrCreate()
    except (Py4JError, PySparkException) as error:
        _end_jvm()
        raise ConfigError(
            f"Spark must start with master {master}, Java 17 or newer and the settings of spark.conf, did not: {error}"
        ) from error
    return session


def _wait_for_worker(session: "SparkSession", master: str, workers_s: float) -> None:
    is_late, is_over = threading.Event(), threading.Event()

    def give_up() -> None:
        is_over.wait(workers_s)
        while not is_over.is_set():
            is_late.set()
            session.sparkContext.cancelAllJobs()  # again and again: the job may not have been sent yet
            is_over.wait(0.5)

    thread = threading.Thread(target=give_up, daemon=True)
    thread.start()
    try:
        session.range(1).count()
    except Exception as error:
        if not is_late.is_set():
            raise
        raise ConfigError(
            f"no worker of {master} took a job within {workers_s:g} s: one must be registered that has a core and "
            f"spark.memory={session.conf.get('spark.executor.memory')} to spare"
        ) from error
    finally:
        is_over.set()
        thread.join()


def _end_jvm() -> None:
    """Ends the JVM: it would keep its memory, and the settings of its first session as defaults of the next."""
    from pyspark import SparkContext

    gateway: Any = SparkContext._gateway
    if gateway is None or gateway.proc is None:  # proc is None under spark-submit, whose JVM is not ours
        return
    gateway.shutdown()
    gateway.proc.stdin.close()  # at whose end it leaves
    gateway.proc.wait()
    SparkContext._gateway = SparkContext._jvm = None
