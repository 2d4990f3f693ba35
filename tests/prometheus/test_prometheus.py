"""The shipped rules on a real Prometheus with a real Alertmanager: an alert fires, is passed on, and ends."""

import json
import os
import re
import shutil
import subprocess
import threading
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from hailtime.client.metrics import ClientMetrics
from hailtime.client.observing import Call
from hailtime.monitoring.alerts import Message
from hailtime.monitoring.causes import Cause
from hailtime.monitoring.exposition import _OF_HOUR, exposition
from hailtime.monitoring.store import MonitorStore
from hailtime.monitoring.telling import Alertmanager
from tests.ports import free_port

pytestmark = pytest.mark.prometheus
DEPLOY = Path(__file__).parents[2] / "deploy"
WAIT_S = 40.0


@pytest.fixture(scope="module", autouse=True)
def programs():
    lacking = [name for name in ("prometheus", "promtool", "prometheus-alertmanager") if shutil.which(name) is None]
    if lacking:
        assert os.environ.get("HAILTIME_REQUIRE_PROMETHEUS") != "1", f"there is no {lacking}"
        pytest.skip(f"needs {', '.join(lacking)} (Debian: apt install prometheus prometheus-alertmanager)")


@pytest.fixture
def store(tmp_path):
    found = MonitorStore(tmp_path / "monitor.sqlite")
    found.set_state(read_at_s=time.time(), trouble=None, alerts={"late": {"is_firing": False, "changed_at_s": None}})
    return found


@pytest.fixture
def running(store, tmp_path):
    """Prometheus with the shipped files, its targets and times changed, an Alertmanager, and the monitor's metrics."""
    ports = {name: free_port() for name in ("prometheus", "alertmanager")}
    with ExitStack() as stack:
        metrics_port = stack.enter_context(serving(store))
        settings = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
        settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        settings["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [
            f"127.0.0.1:{ports['alertmanager']}"
        ]
        for job in settings["scrape_configs"]:
            job["static_configs"][0]["targets"] = [f"127.0.0.1:{metrics_port}"] if job["job_name"] == "monitor" else []
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(settings))
        shutil.copy(DEPLOY / "alert_rules.yml", tmp_path)
        (tmp_path / "alertmanager.yml").write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
        for program, file, data, more in (
            ("prometheus-alertmanager", "alertmanager.yml", "--storage.path", ["--cluster.listen-address="]),
            ("prometheus", "prometheus.yml", "--storage.tsdb.path", []),
        ):
            port = ports[program.removeprefix("prometheus-")]
            listen, config = f"--web.listen-address=127.0.0.1:{port}", f"--config.file={tmp_path / file}"
            stack.enter_context(started([program, config, f"{data}={tmp_path / program}", listen, *more]))
        yield f"http://127.0.0.1:{ports['prometheus']}", f"http://127.0.0.1:{ports['alertmanager']}"


@contextmanager
def started(command):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def serving(store):
    """The monitor's /metrics page."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(exposition(store, time.time()))

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def ask(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.loads(answer.read())


def wait_for(what, is_there):
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            if is_there():
                return
        except OSError:
            pass
        time.sleep(0.3)
    pytest.fail(f"not within {WAIT_S:.0f} s: {what}")


def firing(prometheus):
    alerts = ask(f"{prometheus}/api/v1/alerts")["data"]["alerts"]
    return {
        (alert["labels"]["alertname"], alert["labels"].get("alert")) for alert in alerts if alert["state"] == "firing"
    }


def passed_on(alertmanager):
    return {alert["labels"]["alertname"] for alert in ask(f"{alertmanager}/api/v2/alerts?active=true")}


def test_the_shipped_files_are_good():
    for kind, name in (("config", "prometheus.yml"), ("rules", "alert_rules.yml")):
        done = subprocess.run(["promtool", "check", kind, DEPLOY / name], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_asks_for_metrics_that_there_are(store):
    """Every `hailtime_...` that a panel or a rule asks for is one that the client or the monitor gives."""
    registry = CollectorRegistry()
    ClientMetrics(registry)(Call("triton", "1", 1, 0.001, 0, None))
    store.set_state(measures={"late_share": [0.1, 500]})
    given = (generate_latest(registry) + exposition(store, time.time())).decode()
    known = set(re.findall(r"^(hailtime_\w+)", given, re.M)) | {name for name, _ in _OF_HOUR.values()}
    files = (DEPLOY / "grafana_dashboard.json", DEPLOY / "alert_rules.yml")
    asked = {name for file in files for name in re.findall(r"hailtime_\w+", file.read_text())}
    assert asked - known == set()


def test_an_alert_fires_is_passed_on_and_ends(running, store):
    prometheus, alertmanager = running
    wait_for(
        "the monitor is scraped",
        lambda: ask(f"{prometheus}/api/v1/query?query=hailtime_monitor_log_up")["data"]["result"],
    )
    assert firing(prometheus) == set()
    store.set_state(alerts={"late": {"is_firing": True, "changed_at_s": None}})
    wait_for("it fires", lambda: firing(prometheus) == {("HailtimeAlert", "late")})
    wait_for("Alertmanager has it", lambda: passed_on(alertmanager) == {"HailtimeAlert"})
    store.set_state(alerts={"late": {"is_firing": False, "changed_at_s": None}})
    wait_for("it ends", lambda: firing(prometheus) == set())
    wait_for("Alertmanager knows", lambda: passed_on(alertmanager) == set())


def test_the_monitors_own_message_begins_and_ends_in_alertmanager(running):
    _, alertmanager = running
    cause = Cause("changed world", "the world changed", "python train.py")
    teller, labels = Alertmanager(alertmanager), {"source": "city"}
    begin = Message("firing", time.time(), ("late",), {"late": 0.3}, cause)
    wait_for("it is there", lambda: ask(f"{alertmanager}/api/v2/status"))
    teller.tell(begin, labels)
    wait_for("it has it", lambda: passed_on(alertmanager) == {"hailtime_late"})
    (alert,) = ask(f"{alertmanager}/api/v2/alerts")
    assert alert["annotations"] == {"summary": "the world changed", "next_command": "python train.py"}
    teller.tell(Message("resolved", time.time(), ("late",), {}, cause), labels)
    wait_for("it is over", lambda: passed_on(alertmanager) == set())
