"""Whether the monitor beside it does its work: python -m hailtime.monitoring.health, for a container's health check.

Healthy is: the page answers, and either somebody looked at the predictions in the last two minutes, or the page says
why not (no log or no model yet, or one that cannot be read), which a restart would not mend. Needs the standard
library only. Exit status 0 healthy, 1 not, with the reason on stderr.
"""

import os
import re
import sys
import time
import urllib.request

URL = "http://127.0.0.1:8050"
TOKEN = "HAILTIME_PAGE_TOKEN"
SILENT_S = 120.0  # a pass is every 10 s, and takes up to some seconds after a day without one


def main() -> None:
    url = sys.argv[1] if len(sys.argv) > 1 else URL
    try:
        trouble = judge(read_metrics(url, os.environ.get(TOKEN)), time.time())
    except OSError as error:  # urllib's errors are OSErrors
        trouble = f"the page at {url} does not answer: {error}"
    if trouble:
        sys.stderr.write(f"{trouble}\n")
        sys.exit(1)


def read_metrics(url: str, token: str | None) -> str:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/metrics", headers=headers), timeout=4.0) as answer:
        return str(answer.read().decode())


def judge(metrics: str, now_s: float) -> str:
    """What is wrong; empty when nothing is."""
    values = {name: float(value) for name, value in re.findall(r"^(\w+) (\S+)$", metrics, re.MULTILINE)}
    looked_at_s, is_log_up = values.get("hailtime_monitor_looked_at_seconds"), values.get("hailtime_monitor_log_up")
    if looked_at_s is None or not is_log_up:
        return ""
    silent_s = now_s - looked_at_s
    return f"nobody has looked at the predictions for {silent_s:.0f} s" if silent_s > SILENT_S else ""


if __name__ == "__main__":
    main()
