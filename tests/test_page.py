"""The profile counts what numpy counts whatever the blocks, and the page says it: self-contained, escaped and true."""

import json
import re
from copy import deepcopy
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest

from hailtime.errors import DataError
from hailtime.preparation.dataset import PAGE, prepare
from hailtime.preparation.page import page
from hailtime.preparation.page_pictures import number
from hailtime.preparation.page_verdict import headline, remarks
from hailtime.preparation.parts import coded
from hailtime.preparation.profile import Profile
from hailtime.preparation.profile_numbers import population_stability
from hailtime.preparation.split import PARTS
from hailtime.schema import Schema
from hailtime.sources.simulated_city import load
from tests.test_config import source_settings_of

NOON_US = 1_768_219_200_000_000  # date -u -d 2026-01-12T12:00:00Z +%s, in microseconds
HOUR_US = 3_600_000_000
COLUMNS = {
    "request_id": {"role": "id"},
    "requested_at": {"role": "requested_at"},
    "rain": {"role": "numeric", "unit": "mm/h", "range": [0, 100]},
    "height": {"role": "numeric", "unit": "m"},
    "queue": {"role": "numeric", "unit": "1", "range": [0, 500]},
    "zone": {"role": "categorical"},
    "pickup_time_s": {"role": "target", "unit": "s", "range": [20, 7200]},
}
SCHEMA = Schema.from_dict({"source": "town", "timezone": "America/New_York", "columns": COLUMNS})


def rows(n=5000, seed=1):
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "requested_at": NOON_US + np.sort(rng.integers(0, 14 * 24, n)) * HOUR_US,
            "rain": np.where(rng.random(n) < 0.7, 0, rng.exponential(2, n)),
            "height": rng.normal(100, 10, n),
            "queue": rng.poisson(3, n).astype(float),
            "zone": rng.choice(["north", "south", "west"], n, p=[0.5, 0.3, 0.2]),
            "pickup_time_s": rng.lognormal(5.6, 0.5, n).round().clip(20, 7200),
        }
    ).with_columns(
        pl.when(pl.int_range(pl.len()) % 10 != 0).then(pl.col("height")), pl.col("requested_at").cast(pl.Int64)
    )


@pytest.fixture(scope="module")
def table():
    return coded(rows(), SCHEMA)


@pytest.fixture(scope="module")
def profile(table):
    made = Profile(SCHEMA)
    for part, start in zip(PARTS, (0, 3000, 3500, 4000), strict=True):
        made.add(part, table[start : {0: 3000, 3000: 3500, 3500: 4000, 4000: 5000}[start]])
    return made.to_dict()


@pytest.mark.parametrize("name", ["rain", "height", "queue", "pickup_time_s"])
def test_figures_are_numpys(table, profile, name):
    values, found = table[:3000][name].drop_nulls().to_numpy(), profile["numbers"][name]["figures"]["train"]
    step = {"rain": 100, "height": 300, "queue": 0, "pickup_time_s": 0}[name] / 16_384  # whole numbers are exact
    for share in (10, 50, 90, 99):
        expected = np.quantile(values, share / 100, method="inverted_cdf")
        assert found[f"p{share}"] == pytest.approx(expected, abs=step + 1e-9)
    assert (found["min"], found["max"]) == (values.min(), values.max())
    assert found["mean"] == pytest.approx(values.mean())


def test_picture_counts_every_row_once(table, profile):
    for column in profile["numbers"].values():
        for part, n_missing in (("train", 300), ("test", 100)):
            n = sum(column["counts"][part]) + column["below"][part] + column["above"][part]
            assert n in (profile["rows"][part], profile["rows"][part] - n_missing)
    column = profile["numbers"]["queue"]
    queue = table[:3000]["queue"].to_numpy()
    edges = column["start"] + column["width"] * np.arange(len(column["counts"]["train"]) + 1)
    assert column["counts"]["train"] == np.histogram(queue, edges)[0].tolist()


def test_blocks_change_nothing_where_ranges_are_declared(table, profile):
    whole = Profile(SCHEMA)
    for block in table[:3000].iter_slices(700):
        whole.add("train", block)
    train, expected = whole.to_dict(), profile
    assert train["texts"]["zone"]["counts"]["train"] == expected["texts"]["zone"]["counts"]["train"]
    for name in ("rain", "queue", "pickup_time_s"):
        one, other = (found["numbers"][name]["figures"]["train"] for found in (train, expected))
        assert one == pytest.approx(other)


def test_bins_of_many_rows_are_of_a_sample_that_blocks_do_not_move(table, monkeypatch):
    monkeypatch.setattr("hailtime.preparation.profile.SAMPLE_ROWS", 1000)
    found = []
    for n_rows in (5000, 700):
        made = Profile(SCHEMA)
        made.expect(len(table))
        for block in table.iter_slices(n_rows):
            made.add("train", block)
        found.append(made.to_dict())
    for name in ("rain", "queue", "pickup_time_s"):
        one, other = (profile["numbers"][name] for profile in found)
        assert one["counts"] == other["counts"]
        assert sum(one["counts"]["train"]) + one["below"]["train"] + one["above"]["train"] == 1000
        every = table[name]
        assert one["figures"]["train"]["mean"] == pytest.approx(every.mean())
        assert (one["figures"]["train"]["min"], one["figures"]["train"]["max"]) == (every.min(), every.max())
    assert found[0]["texts"]["zone"]["counts"] == found[1]["texts"]["zone"]["counts"]


def test_value_outside_a_range_seen_first_is_counted_beyond(table):
    made = Profile(SCHEMA)
    made.add("train", table[:1000])
    made.add("test", table[:10].with_columns(height=pl.lit(1e6)))
    column = made.to_dict()["numbers"]["height"]
    assert (column["above"]["test"], column["figures"]["test"]["max"]) == (10, 1e6)


def test_days_are_local(table):
    late = table[:2].with_columns(requested_at=pl.Series([NOON_US - 8 * HOUR_US, NOON_US - 7 * HOUR_US + 1]))
    made = Profile(SCHEMA)
    made.add("train", late)  # 23:00 on the 11th and 00:00 on the 12th in New York
    assert made.to_dict()["days"] == {
        "first": "2026-01-11",
        "counts": {"train": [1, 1], "validation": [0, 0], "calibration": [0, 0], "test": [0, 0]},
    }


def test_missing_shares_are_of_the_raw_table_where_it_has_the_column():
    made = Profile(SCHEMA)
    raw = pl.DataFrame({"rain": [1.0, float("nan"), None, 2.0], "zone": ["", "n", None, "n"]})
    made.add_raw(raw)
    made.add_raw(raw)
    made.add("train", coded(rows(100), SCHEMA))
    missing = made.to_dict()["missing"]
    assert (missing["rain"]["raw"], missing["zone"]["raw"], missing["height"]["raw"]) == (0.5, 0.5, None)
    assert missing["height"]["train"] == 0.1


def test_stability_of_two_counts():
    """Worked out by hand: 0.1 ln(0.6 / 0.5) + -0.1 ln(0.4 / 0.5) = 0.0405."""
    assert population_stability(np.array([50, 50]), np.array([60, 40])) == pytest.approx(0.0405, abs=1e-4)
    assert population_stability(np.array([50, 50]), np.array([500, 500])) == 0


CITY = source_settings_of("simulated_city")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    settings = deepcopy(CITY)
    settings["rules"]["no_driver"] = {"rule": "missing", "column": "driver_lat", "severity": "flag"}
    return prepare(load(n_requests=4000, days=10), settings, tmp_path_factory.mktemp("page") / "city")


class Reader(HTMLParser):
    """Tags in balance, what they point to, and all words."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.tags, self.words = [], [], [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "data", "action")]
        if tag not in ("meta", "br", "path", "line"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("path", "line"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


def read(html):
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    return reader


def test_page_is_one_small_file_that_asks_for_nothing_else(prepared):
    path = prepared.folder / PAGE
    html = path.read_text()
    reader = read(html)
    assert reader.links == []
    assert not {"script", "link", "img", "iframe"} & set(reader.tags)
    assert not re.search(r"https?:|url\(|@import", html)
    assert path.stat().st_size < 200_000
    assert "prefers-color-scheme: dark" in html


def test_page_says_what_the_report_says(prepared):
    words = read(page(prepared.report)).words
    report = prepared.report
    for finding in report["clean"]["findings"]:
        assert finding["name"] in words
        if finding["rows"]:
            assert f"{finding['rows']:,}" in words
    for name in (*prepared.schema.numeric_names, *prepared.schema.categorical_names, "no leakage suspected"):
        assert name in words
    assert f"{report['parts']['test']['rows']:,}" in words
    assert report["data_fingerprint"] in words


def test_page_is_made_from_report_json_alone(prepared):
    report = json.loads((prepared.folder / "report.json").read_text())
    assert page(report) == (prepared.folder / PAGE).read_text()


def test_names_and_values_cannot_break_the_page(prepared):
    report = deepcopy(prepared.report)
    report["source"] = "<script>alert(1)</script>"
    finding = next(f for f in report["clean"]["findings"] if f["rows"])
    finding["example"] = {"request_id": '"><img src=x onerror=alert(1)>'}
    report["profile"]["texts"]["app"]["values"][0] = "</span><script>"
    assert not {"script", "img"} & set(read(page(report)).tags)


def test_headline_tells_the_share_of_the_trips_asked_about():
    report = {
        "clean": {
            "rows_in": 1000,
            "rows_out": 776,
            "findings": [
                {"name": "not_held", "severity": "select", "rows": 200, "share": 0.2},
                {"name": "twice", "severity": "drop", "rows": 24, "share": 0.024},
                {"name": "speed", "severity": "mend", "rows": 90, "share": 0.09},
            ],
        },
        "leakage": {"columns": {"rain": {}}, "suspicions": []},
    }
    told = "1,000 raw trips, 800 asked about, 97.0% kept; largest loss: twice, 2.40%; no leakage suspected."
    assert headline(report) == told


def changed(prepared, change):
    report = deepcopy(prepared.report)
    change(report)
    return {remark.text: remark.level for remark in remarks(report)}


def set_drift(report):
    report["profile"]["numbers"]["rain_mm_h"]["drift"] = 0.4


def set_hits(report):
    report["conditions"]["weather"] = 0.5


def set_budget(report):
    report["settings"]["budget"] = {"arrived_before_asked": 0.01}


def set_suspicion(report):
    one = {"column": "app", "is_certain": False, "is_allowed": False, "meaning": "app knows later pickups"}
    report["leakage"]["suspicions"] = [one]


def empty_day(report):
    for counts in report["profile"]["days"]["counts"].values():
        counts[2] = 0


@pytest.mark.parametrize(
    ("change", "words", "level"),
    [
        (set_drift, r"Test is not like training in .*rain_mm_h \(PSI 0.40\)", "note"),
        (set_hits, r"weather was known for only 50.0%", "note"),
        (set_budget, r"arrived_before_asked has used 1\.\d\d% of its budget of 1.00%", "bad"),
        (set_suspicion, r"app knows later pickups\.", "bad"),
        (empty_day, r"1 day has no request", "note"),
    ],
    ids=["drift", "condition", "budget", "leakage", "day"],
)
def test_what_is_wrong_is_remarked_on(prepared, change, words, level):
    before, after = changed(prepared, lambda report: None), changed(prepared, change)
    new = {text: after[text] for text in after.keys() - before.keys()}
    assert [found for text, found in new.items() if re.match(words, text)] == [level]


def test_stopped_preparation_leaves_the_old_page(prepared):
    before = (prepared.folder / PAGE).read_text()
    settings = {**CITY, "budget": {"arrived_before_asked": 0.001}}
    with pytest.raises(DataError, match=r"source\.budget\.arrived_before_asked=0\.0"):
        prepare(load(n_requests=4000, days=10), settings, prepared.folder)
    assert (prepared.folder / PAGE).read_text() == before


def test_column_made_of_the_arrival_stops_the_preparation(tmp_path):
    raw = load(n_requests=4000, days=10)
    wait_min = (pl.col("arrived_at") - pl.col("requested_at")) / 60e6
    trips = raw.table().with_columns(open_requests=wait_min.clip(0, 500))
    with pytest.raises(DataError, match="open_requests tells pickup_time_s"):
        prepare(type(raw)(trips, raw.conditions), CITY, tmp_path / "city")
    allowed = {**CITY, "leakage": {"allow": ["open_requests"]}}
    report = prepare(type(raw)(trips, raw.conditions), allowed, tmp_path / "city").report
    assert {one["column"] for one in report["leakage"]["suspicions"]} == {"open_requests"}


@pytest.mark.parametrize(
    ("value", "text"), [(43.6213, "43.62"), (1234.5, "1,234"), (0, "0"), (0.0002, "2.0e-04"), (-70.9, "-70.9")]
)
def test_numbers_have_as_few_digits_as_tell_them(value, text):
    assert number(value) == text
