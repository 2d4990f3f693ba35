"""Nothing comes with an installation under a licence that nobody looked at."""

import re
from pathlib import Path

import licences
import pytest

ROOT = Path(__file__).parents[1]
ROWS = list(licences.table())
CONSTRAINTS = {
    re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower()
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
}


@pytest.mark.parametrize(("name", "licence"), [(row[0], row[3]) for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_package_says_its_licence_and_a_copyleft_one_has_its_reason(name, licence):
    assert licence not in ("not said", "UNKNOWN", "")
    assert bool(licences.COPYLEFT.search(licence)) == (name in licences.EXPLAINED), licence


def test_the_client_brings_no_copyleft_at_all():
    client = [licence for _, _, part, licence in ROWS if part in ("client", "fallback", "metrics")]
    assert len(client) >= 5
    assert not [licence for licence in client if licences.COPYLEFT.search(licence)]


def test_the_page_lists_every_package_with_the_licence_it_has():
    page = licences.PAGE.read_text()
    assert [
        name
        for name, _, _, licence in ROWS
        if not re.search(rf"^\| {name} \| .* \| {re.escape(licence)} \|$", page, re.M)
    ] == []


def test_every_package_is_in_the_constraints():
    standard = {"pip", "setuptools", "wheel"}
    assert {row[0] for row in ROWS} - CONSTRAINTS <= standard
