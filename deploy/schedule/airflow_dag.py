"""Airflow's DAG: asks once an hour whether a retraining is due. Copy it into the dags folder of Airflow 3.

The task runs where Hailtime is installed; on another machine than Airflow's workers give it an SSHOperator with the
same command.
"""

from datetime import timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

COMMAND = "cd /opt/hailtime && .venv/bin/python scripts/retrain.py"

with DAG(
    dag_id="hailtime_retrain",
    description="Retrain the pickup-time model when it is due",
    schedule="7 * * * *",
    catchup=False,
    max_active_runs=1,
    tags=["hailtime"],
):
    BashOperator(
        task_id="retrain",
        bash_command=COMMAND,
        # 10: a challenger was refused, 75: another retraining is running; both are everyday and shown as skipped
        skip_on_exit_code=[10, 75],
        retries=3,  # the same command goes on where it stopped
        retry_delay=timedelta(minutes=10),
        execution_timeout=timedelta(hours=16),
    )
