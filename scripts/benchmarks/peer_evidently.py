"""Drift by Evidently, in an environment of its own, which has nothing of Hailtime: `drift_peer.py` runs it.

    python peer_evidently.py BEFORE.parquet NOW.parquet NUMERIC CATEGORICAL    # comma-separated names of columns

The rows are read before any clock starts. Prints JSON: seconds of importing, of the methods that Hailtime has as well,
of a report of the same methods; and the methods' values.
"""

import json
import sys
import time

import pandas as pd

METHODS = {"Numerical": ("psi", "ks", "wasserstein"), "Categorical": ("psi",)}


def main(before_path: str, now_path: str, numeric: str, categorical: str) -> None:
    before, now = pd.read_parquet(before_path), pd.read_parquet(now_path)
    start = time.perf_counter()
    from evidently import DataDefinition, Dataset, Report
    from evidently.legacy.calculations.stattests import get_stattest
    from evidently.legacy.core import ColumnType
    from evidently.metrics import ValueDrift

    import_s = time.perf_counter() - start
    kinds = dict.fromkeys(numeric.split(","), "Numerical") | dict.fromkeys(categorical.split(","), "Categorical")
    asked = [(name, kind, method) for name, kind in kinds.items() for method in METHODS[kind]]

    start, values = time.perf_counter(), {}
    for name, kind, method in asked:
        test = get_stattest(before[name], now[name], ColumnType[kind], method)
        values[f"{name} {method}"] = float(test(before[name], now[name], ColumnType[kind], None).drift_score)
    methods_s = time.perf_counter() - start

    start = time.perf_counter()
    definition = DataDefinition(numerical_columns=numeric.split(","), categorical_columns=categorical.split(","))
    report = Report([ValueDrift(column=name, method=method) for name, _, method in asked], include_tests=False)
    report.run(*(Dataset.from_pandas(rows, data_definition=definition) for rows in (now, before)))
    report_s = time.perf_counter() - start
    print(json.dumps({"import_s": import_s, "methods_s": methods_s, "report_s": report_s, "values": values}))


if __name__ == "__main__":
    main(*sys.argv[1:])
