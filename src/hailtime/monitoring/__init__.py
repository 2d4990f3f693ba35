"""What the served model said against what really happened: accuracy over time, drift, alerts, a page.

loops.Reading             a pass every few seconds, by the model that is live (models.py)
  duty.Duty
    watch.Watch           the log (log_source.py) → sums and counts of its hours (hours, arrivals, drift) → store.py
    lookout.Lookout       the windows that rules look at → situation.py
    alerts.AlertBook      what begins, what is over and why (causes.py) → telling.py
page/, exposition.py      read the store; accuracy.py makes measures of its sums
loops.Sending             a backend's log file into PostgreSQL (forward.py)
"""
