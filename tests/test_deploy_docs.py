"""The pages about serving name scripts and options that exist."""

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = "\n".join((ROOT / "docs" / name).read_text() for name in ("runbook.md", "security.md", "protocol.md"))
COMMANDS = sorted({line.split("  #")[0].strip() for line in re.findall(r"^python scripts/.*$", TEXT, re.MULTILINE)})


@cache
def options_of(script):
    done = subprocess.run([sys.executable, ROOT / script, "--help"], capture_output=True, text=True, check=True)
    return set(re.findall(r"--[a-z0-9-]+", done.stdout))


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_names_a_script_and_options_that_exist(command):
    script, *words = shlex.split(command)[1:]
    options = {word for word in words if word.startswith("--")}
    assert (ROOT / script).exists()
    assert not options or options <= options_of(script)


def test_every_link_of_the_runbook_leads_to_a_heading():
    text = (ROOT / "docs/runbook.md").read_text()
    headings = {line.lower().replace(" ", "-") for line in re.findall(r"^## (.*)$", text, re.MULTILINE)}
    assert set(re.findall(r"\(#([a-z-]+)\)", text)) == headings


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:src|scripts|tests|docs)/[\w./]+)`", TEXT))))
def test_every_path_exists(path):
    assert (ROOT / path).exists()
