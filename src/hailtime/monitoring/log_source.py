"""The log as frames: a backend's SQLite file, or the PostgreSQL that all backends' logs are forwarded to.

Both have the same tables (`client/log_tables.py`). Read with ADBC, which hands over columns: 2 million rows in two
seconds, where rows as Python tuples take ten (measured).
"""

import polars as pl

from hailtime.monitoring.hours import HOUR_S
from hailtime.sources.prediction_log import LogReader

_COLUMNS = (
    "p.request_id, p.answered_at_us, p.requested_at_s, p.version, p.path, p.p10_s, p.p50_s, p.p90_s, p.latency_s, "
    "p.features, a.pickup_time_s, a.cancelled_after_s, a.n_changed, a.reported_at_us"
)
_TYPES: dict[str, type[pl.DataType]] = {
    "request_id": pl.String,
    "answered_at_us": pl.Int64,
    "requested_at_s": pl.Int64,
    "version": pl.String,
    "path": pl.String,
    "p10_s": pl.Float64,
    "p50_s": pl.Float64,
    "p90_s": pl.Float64,
    "latency_s": pl.Float64,
    "features": pl.String,
    "pickup_time_s": pl.Float64,
    "cancelled_after_s": pl.Float64,
    "n_changed": pl.Int64,
    "reported_at_us": pl.Int64,
}


class LogSource(LogReader):
    """A prediction log to read, by path or by URL (`postgresql://...`). Every question opens it anew and only reads."""

    def last_ids(self) -> tuple[int, int]:
        """The newest prediction's id and the newest actual's; 0 without any."""
        row = self.frame(
            "SELECT (SELECT coalesce(max(id), 0) FROM predictions) AS predictions, "
            "(SELECT coalesce(max(id), 0) FROM actuals) AS actuals"
        ).row(0)
        return int(row[0]), int(row[1])

    def hours_between(self, after: tuple[int, int], until: tuple[int, int]) -> list[int]:
        """The hours (UTC seconds of their begin) of requests that were answered or came to their end in between."""
        if after == (0, 0):
            return self._all_hours()
        hour = f"(p.requested_at_s / {HOUR_S}) * {HOUR_S} AS hour_s"
        found = self.frame(
            f"SELECT {hour} FROM predictions p WHERE p.id > {after[0]} AND p.id <= {until[0]} GROUP BY 1 "
            f"UNION SELECT {hour} FROM actuals a JOIN predictions p ON p.request_id = a.request_id "
            f"WHERE a.id > {after[1]} AND a.id <= {until[1]} GROUP BY 1"
        )
        return sorted(found["hour_s"].to_list())

    def _all_hours(self) -> list[int]:
        """From one to the next by the index, where looking at every row would take a second for a million."""
        hours: list[int] = []
        while True:
            since_s = hours[-1] + HOUR_S if hours else -(2**62)
            found = self.frame(f"SELECT min(requested_at_s) AS s FROM predictions WHERE requested_at_s >= {since_s}")
            if found["s"][0] is None:
                return hours
            hours.append(int(found["s"][0]) // HOUR_S * HOUR_S)

    def unmatched_actuals(self, after: int, until: int) -> int:
        """How many actuals are of requests that the log never answered."""
        found = self.frame(
            f"SELECT count(*) AS n FROM actuals a WHERE a.id > {after} AND a.id <= {until} "
            "AND NOT EXISTS (SELECT 1 FROM predictions p WHERE p.request_id = a.request_id)"
        )
        return int(found["n"][0])

    def hour(self, hour_s: int) -> pl.DataFrame:
        """All predictions of requests in an hour."""
        return self.asked(hour_s, hour_s + HOUR_S)

    def asked(self, from_s: float, to_s: float) -> pl.DataFrame:
        """Predictions of requests made in a span of UTC seconds, each with what is known of its end."""
        return self._rows(f"p.requested_at_s >= {from_s:.0f} AND p.requested_at_s < {to_s:.0f}")

    def shadowed(self, from_s: float, to_s: float) -> pl.DataFrame:
        """What a shadow version said to requests made in a span, each with what is known of its end."""
        span = f"p.requested_at_s >= {from_s:.0f} AND p.requested_at_s < {to_s:.0f}"
        return self._rows(span, "shadow_predictions")

    def arrived(self, from_s: float, to_s: float) -> pl.DataFrame:
        """Predictions of requests whose end was reported in a span of UTC seconds."""
        span = f"a.reported_at_us >= {from_s * 1e6:.0f} AND a.reported_at_us < {to_s * 1e6:.0f}"
        return self._rows(span)

    def request(self, request_id: str) -> pl.DataFrame:
        """What was said to a request, oldest first."""
        quoted = request_id.replace("'", "''").replace("\x00", "")
        return self._rows(f"p.request_id = '{quoted}'").sort("answered_at_us")

    def farthest_off(self, n: int, of_newest: int = 2000) -> pl.DataFrame:
        """Of the newest actuals that came, the `n` whose request was told something farthest off; the worst first."""
        rows = self._rows(
            f"a.id > (SELECT coalesce(max(id), 0) - {of_newest} FROM actuals) AND a.pickup_time_s IS NOT NULL"
        )
        return rows.sort((pl.col("p50_s") - pl.col("pickup_time_s")).abs(), descending=True).head(n)

    def _rows(self, which: str, table: str = "predictions") -> pl.DataFrame:
        return self.frame(
            f"SELECT {_COLUMNS} FROM {table} p LEFT JOIN actuals a ON a.request_id = p.request_id WHERE {which}"
        ).cast(_TYPES)  # type: ignore[arg-type]
