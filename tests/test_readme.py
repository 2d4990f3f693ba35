"""The README says what is: paths exist, commands compose, the example asks what the schema wants."""

import re
import shlex
from pathlib import Path

import pytest

from hailtime.config import check_command_line
from hailtime.schema import Schema
from tests.test_config import source_settings_of

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]


def test_it_can_be_read_in_one_sitting():
    assert len(README.splitlines()) <= 200


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:src|scripts|tests|docs|configs)/[\w./]*)`", README))))
def test_every_path_exists(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", README))))
def test_every_link_exists(target):
    assert (ROOT / target).exists()


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("python ")])
def test_every_python_command_names_a_script_and_settings_that_exist(command):
    script, *arguments = shlex.split(command)[1:]
    assert (ROOT / script).exists()
    if script in ("train.py", "scripts/prepare.py"):
        check_command_line(Path(script).stem, arguments)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_every_make_target_exists(command):
    assert re.search(rf"^{command.split()[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_example_asks_with_every_column():
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    schema = Schema.from_dict(source_settings_of("simulated_city")["schema"])
    request = eval(re.search(r"request = (\{.*?\n\})", example, re.DOTALL)[1])
    assert set(request) == set(schema.input_names)
