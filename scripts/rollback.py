"""Back to the stable version before, at once: python scripts/rollback.py [--to VERSION] [--offline]

Works while the newest version is broken. --offline is for a server that does not start because of it: the plan is
changed on the disk, and the server follows when it starts.
"""

import argparse
import logging

from hailtime.report import run_script
from hailtime.serving.arguments import add_server_arguments, tls_of
from hailtime.serving.rollback import rollback
from hailtime.tracking import follow


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the stable version before this one stable again.")
    parser.add_argument("--to", type=int, metavar="VERSION", help="another version that was stable once")
    parser.add_argument("--why", default="", help="kept in the history of releases")
    parser.add_argument("--offline", action="store_true", help="change the plan on the disk; the server is down")
    add_server_arguments(parser)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    plan = rollback(
        arguments.repository,
        arguments.url,
        arguments.to,
        why=arguments.why,
        tls=tls_of(arguments),
        offline=arguments.offline,
    )
    where = "will answer when the server starts" if arguments.offline else f"answers at {arguments.url}"
    print(f"version {plan.stable} {where}")
    follow(repository=arguments.repository)


if __name__ == "__main__":
    run_script(main)
