"""Measure the package beside its peers: `make bench`."""

import argparse
from collections.abc import Callable
from importlib import import_module

from benchmarks import report
from benchmarks.deployment import DATABASES, deployed

#: The measurements, each with its options.
MEASUREMENTS = {
    "intake": ("rounds", "seconds"),
    "dispatch": ("rounds", "backlog"),
    "latency": ("deliveries",),
    "flood": ("requests", "seconds"),
    "launches": ("rounds", "seconds"),
    "memory": ("number",),
    "growth": ("rows", "rounds", "backlog"),
    "snapshot": ("minutes",),
}
#: Long measurements, which only run if they are named.
LONG = ("snapshot",)


def main() -> None:
    """Run the requested measurements and print a table for each."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASUREMENTS)}; default: all but {', '.join(LONG)}"
    )
    parser.add_argument("--rounds", type=int, default=15, help="how often each receiver's turn comes (%(default)s)")
    parser.add_argument("--seconds", type=float, default=1, help="how long one turn takes (%(default)s)")
    parser.add_argument("--backlog", type=int, default=5_000, help="events to dispatch (%(default)s)")
    parser.add_argument("--deliveries", type=int, default=100, help="deliveries to wait for (%(default)s)")
    parser.add_argument("--requests", type=int, default=50_000, help="requests of the flood (%(default)s)")
    parser.add_argument("--number", type=int, default=200_000, help="events through one process (%(default)s)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="events stored for growth (%(default)s)")
    parser.add_argument("--minutes", type=float, default=10, help="how long a snapshot is held open (%(default)s)")
    parser.add_argument("--database", choices=DATABASES, default="postgres", help="for snapshot (%(default)s)")
    options = parser.parse_args()
    if options.database != "postgres" and options.names != ["snapshot"]:
        parser.error("only snapshot can be measured on another database than PostgreSQL")
    if unknown := set(options.names) - MEASUREMENTS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    with deployed(options.database) as deployment:
        print(report.machine(deployment.database.version, deployment.broker.version))
        for name in options.names or [name for name in MEASUREMENTS if name not in LONG]:
            # Its imports need Django to be set up for the deployment's database.
            measure: Callable[..., report.Table] = import_module(f"benchmarks.{name}").measure
            given = {option: getattr(options, option) for option in MEASUREMENTS[name]}
            print(f"\n{measure(deployment, **given)}", flush=True)


if __name__ == "__main__":
    main()
