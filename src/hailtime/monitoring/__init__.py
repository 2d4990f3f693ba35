"""What the served model said against what really happened: accuracy over time, drift, alerts.

    predictions + actuals (the log) → hours (sums that add up) → accuracy, drift → alerts, page

`hours.py` turns the log into sums by hour, `accuracy.py` reads measures from them, `drift.py` compares inputs with
those of training.
"""
