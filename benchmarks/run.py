"""Every workload on graphc and on every peer that is installed, side by side: one command.

    python benchmarks/run.py                                        # all of them, 1 and 2 threads; about an hour with all peers
    python benchmarks/run.py --workloads W1 W7 --threads 1 --peers "jax jit" numpy
    python benchmarks/run.py --pythons .venv/bin/python .peers/bin/python --json out.json --chart out.svg

A contender runs in the first of --pythons that has what it needs, in a process of its own (PyTensor, for one, wants another llvmlite than graphc); a peer
that no interpreter has is listed as such, and one that fails says so in its row. How it is timed: `rig/compare.py`. New workloads go into `workloads/`,
new peers into `peers/`.
"""
from __future__ import annotations

import argparse
import datetime
import json
import signal
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import compile_time  # noqa: E402
from peers import CONTENDERS, Contender  # noqa: E402
from rig import chart, machine, report  # noqa: E402
from rig.compare import Method, compare, held  # noqa: E402
from rig.process import Versions, probe  # noqa: E402
from workloads import WORKLOADS  # noqa: E402


def chosen(all_names: Any, wanted: list[str] | None) -> list[str]:
    """Names, by prefix of a whole word: "C" is every contraction."""
    return [n for n in all_names if wanted is None or any(n == w or n.startswith(w + " ") for w in wanted)]


def find(contender: Contender, versions: Versions) -> str | None:
    return next((python for python, has in versions.items() if all(n in has for n in contender.needs)), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", metavar="W", help=f"of {', '.join(n for n in WORKLOADS if not n.startswith('C '))}, C (contractions), depth")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--peers", nargs="*", metavar="P", help=f"of {', '.join(n for n in CONTENDERS if n != 'graphc')}; graphc always runs")
    parser.add_argument("--pythons", nargs="+", default=[sys.executable], help="interpreters, in the order in which they are asked")
    parser.add_argument("--rounds", type=int, default=Method.rounds)
    parser.add_argument("--slice", type=float, default=Method.slice, help="seconds a contender runs at a time")
    parser.add_argument("--starts", type=int, default=Method.starts, help="cold and warm starts of each; 0: none is timed")
    parser.add_argument("--cache", type=Path, help="with --starts 0, a folder that keeps what contenders compile from run to run")
    parser.add_argument("--patience", type=int, default=Method.patience, help="how many times the rounds at most, where slices are disturbed")
    parser.add_argument("--lock", type=Path, help="a file whose lock is held while anything is timed")
    parser.add_argument("--json", type=Path, help="write the record here; the rows of an earlier record there that do not run now are kept")
    parser.add_argument("--chart", type=Path, help="write the chart here, as SVG")
    parser.add_argument("--note", default="", help="what a reader of the record should know of this run")
    args = parser.parse_args()
    method = Method(args.rounds, args.slice, args.starts, args.cache and args.cache.absolute(), args.patience, args.lock)
    if unknown := [w for w in args.workloads or () if not chosen([*WORKLOADS, "depth"], [w])] + [p for p in args.peers or () if p not in CONTENDERS]:
        parser.error(f"unknown: {', '.join(unknown)}")

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))       # ended from outside, the workers end too
    versions = probe(args.pythons, sorted({n for c in CONTENDERS.values() for n in c.needs}))
    contenders = [c for n, c in CONTENDERS.items() if n == "graphc" or args.peers is None or n in args.peers]
    record: report.Record = json.loads(args.json.read_text()) if args.json and args.json.exists() else {"rows": {}}
    with held(method.lock):
        roofs = {n: machine.roofline(n) for n in args.threads}
    record |= {"note": args.note, "date": f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}", "machine": machine.describe(),
               "method": {"rounds": method.rounds, "slice": method.slice, "starts": method.starts},
               "versions": record.get("versions", {}) | {n: versions[p][n] for c in contenders if (p := find(c, versions)) for n in c.needs},
               "roofline": record.get("roofline", {}) | {str(n): roof for n, roof in roofs.items()}}

    def keep() -> None:
        if args.json:
            args.json.write_text(json.dumps(record, indent=1) + "\n")

    for name in chosen(WORKLOADS, args.workloads):
        able = {c.name: (c, find(c, versions)) for c in contenders if WORKLOADS[name].kind in c.kinds}
        for threads in args.threads:
            row = {"floor_us": machine.floor(WORKLOADS[name], roofs[threads]), "contenders": compare(name, threads, able, method, print)}
            record["rows"].setdefault(name, {})[str(threads)] = row
            print(report.one_row(name, threads, row) + "\n", flush=True)
            keep()
    if chosen(["depth"], args.workloads):
        record["depth"] = compile_time.measure(lock=method.lock)
        for depth, row in record["depth"].items():
            print(compile_time.line(depth, row))
        keep()
    print(report.summary(record))
    if args.chart:
        args.chart.write_text(chart.svg(record))


if __name__ == "__main__":
    main()
