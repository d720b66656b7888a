"""Write docs/benchmarks.md and its chart from the record of a run, docs/benchmarks.json:

    python benchmarks/run.py --pythons ... --json docs/benchmarks.json && python docs/make_benchmarks.py
"""
from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from peers import CONTENDERS  # noqa: E402
from rig import chart, report  # noqa: E402
from rig.report import Record, markdown, short  # noqa: E402
from workloads import WORKLOADS  # noqa: E402
from workloads.base import BATCHES  # noqa: E402

PAGE = """# Benchmarks

graphc beside its peers, on one machine, in one run. A ratio is graphc's time over the peer's: **below 1 graphc is faster**, above 1 it is slower. The rows
where it misses its bar stand here like the others. This page is made from the record of a run, `docs/benchmarks.json`:

```sh
python benchmarks/run.py --pythons .venv/bin/python .peers/bin/python --json docs/benchmarks.json && python docs/make_benchmarks.py
```

The run of {date}: {machine}. {versions}.
{note}
![Time of graphc over that of the best peer](benchmarks.svg)

## Ratios

The best peer of a row is the fastest of those that pip installs, each as it comes: {peers}. Beside the row stand {beside}.

{ratios}

{why}## Other bars

{promises}

## Times

Median of a step's time over {rounds} slices of {slice:g} s. A floor is what the machine cannot beat: the workload's FLOPs over its FMA peak, or the bytes
that must move over the bandwidth for a set of that size, whichever is longer. "of floor", GFLOP/s and GB/s are graphc's; "-": not this peer's kind of work.

{times}
{failures}

## Starts, memory, spread

From the first call of the step, in a process that has imported everything and has its data, to its result; *cold* with an empty cache on disk, *warm* with
what the cold process left there. The peak of resident memory is that up to the first result, the data included. The spread is the quartiles of the slices,
as a part of the median.

{starts}

## Contractions alone

GFLOP/s of C = A·B in f32, where N and T say how A and B are stored. Each through its shortest call (graphc's compiled function; MKL by pointer;
`np.matmul`), less the time of the same call on 1×1 matrices. The bars: at most 1.05 of MKL's time on one thread, and 1.7× as fast on two.

{contractions}

## Compiling deeper models

An MLP of equal layers of 64, a training step with Adam, no cache, each in a fresh process. Equal kernels are emitted once, so LLVM's part hardly grows;
Python's has the imports of the compiler in it.

{depth}

## The machine's limits

Measured before the run with loops of our own: the best rate, all threads together.

{roofline}

## How it was measured

* Every contender runs in a process of its own, all alive at once, and all but one stopped. They take turns, a slice each, in alternating order, so a clock
  that drifts or a neighbour that comes and goes is unfair to nobody. A slice in which the process did not have its core is taken again;
  where the machine is never quiet, one thread's slices count by processor time.
* One thread: pinned to one core. Two: the library's own setting of its threads.
* Before it is timed, everybody's result is compared with NumPy in f64: ten losses of a training step, or the result and all gradients. Largest distance of
  any contender here: {error:.0e} of the norm.
* Denormals are zero for all: graphc and JAX do so by themselves, for the others it is set before their threads start.
* Data is converted ahead of time to what each peer likes best; a training loop goes round {batches} batches; nobody reads the loss while timed.
* "jax scan" makes {batches} steps in one call, graphc's figure beside it is one step a call.
"""
WHY = {
    "W1 W2 W2b": """The two products with 784 rows or columns are 98 % of the multiplications. They run as fast as MKL's (below), at 70 to 80 % of this core's
FMA peak: 16 vector registers hold a tile of 6×16, which loads an operand for every third multiplication, and both operands come from L2.
Adam adds a square root and a division for every weight, 12 to 17 cycles for eight of them on this core's one divider, and three arrays of
the weights' size that do not stay in L2 beside the data; both overlap with the products only within a tile. Tried: panels of the sum in L1,
rows innermost, prefetching what the update reads (kept, a tenth).""",
    "W7": """With one thread it is arithmetic: 60 instructions for eight elements, one divider. With two it is the memory that they share: five arrays of
40 MB, and two of them are read before they are written, as every store to a line that is not in the cache does. Tried: stores past the
caches, which gain nothing here and cost a multiple where an argument begins elsewhere in its page than the result (docs/lessons.md).""",
    "W10a W10b": """Each row goes through the cache once, so what is left is the traffic of the arguments and results (the floor counts no reading of lines that
are written, which adds half), and for softmax an exponential and a division for every element. With two threads the memory is shared.
Tried: stores past the caches, a fifth faster for layer norm, with the risk above.""",
}
WORDS = {True: "met", False: "**missed**", None: ""}


def contenders(record: Record, kinds: set[str]) -> list[str]:
    """Those that have a figure in one of these rows, graphc first."""
    there = {n for name, _, row in report.rows(record) if WORKLOADS[name].kind in kinds for n, c in row["contenders"].items() if c["status"] == "ok"}
    return [n for n in CONTENDERS if n in there]


def ratios(record: Record) -> str:
    table = [["workload", "", "threads", "graphc", "against", "", "ratio", "bar", ""]]
    for v in report.verdicts(record):
        if (w := WORKLOADS[v.workload]).kind != "contract":
            us = {n: record["rows"][v.workload][str(v.threads)]["contenders"][n]["us"] for n in ("graphc", v.peer)}
            table.append([w.name, w.title, str(v.threads), short(us["graphc"]), v.peer, short(us[v.peer]), f"**{v.ratio:.2f}**",
                          "" if v.bar is None else f"{v.bar:.2f}", WORDS[v.met]])
    return markdown(table)


def why(record: Record) -> str:
    """Of the rows that miss their bars."""
    missed = {v.workload for v in report.verdicts(record) if v.met is False}
    said = [f"* **{', '.join(n for n in names.split() if n in missed)}.** {text}\n" for names, text in WHY.items() if missed & set(names.split())]
    return "Where a bar is missed, and why:\n\n" + "".join(said) + "\n" if said else ""


def promises(record: Record) -> str:
    table = [["", "graphc", "at most", ""]]
    table += [[p.what, f"{p.figure:.3g} {p.unit}", f"{p.bar:g} {p.unit}", WORDS[p.met]] for p in report.promises(record)]
    return markdown(table) if len(table) > 1 else "Not measured in this run."


def times(record: Record) -> str:
    names = contenders(record, {"train", "pullback", "infer"})
    table = [["workload", "threads", "floor", "of floor", "GFLOP/s", "GB/s", *names]]
    for name, threads, row in report.rows(record):
        w, cs = WORKLOADS[name], row["contenders"]
        if w.kind == "contract" or cs.get("graphc", {}).get("status") != "ok":
            continue
        ours = cs["graphc"]["us"]
        table.append([name, str(threads), short(row["floor_us"]), f"{row['floor_us'] / ours:.0%}", f"{w.flops / ours / 1e3:.3g}",
                      f"{w.bytes / ours / 1e3:.3g}", *(report.cell(cs[n]) if n in cs else "-" for n in names)])
    return markdown(table)


def starts(record: Record) -> str:
    table = [["workload", "contender", "cold", "warm", "peak", "spread, 1 thread", "spread, 2 threads"]]
    for name, rows in record["rows"].items():
        one, two = (rows.get(t, {}).get("contenders", {}) for t in ("1", "2"))
        if WORKLOADS[name].kind != "contract":
            table += [[name, n, *report.starts(c), report.spread(c), report.spread(two[n]) if two.get(n, {}).get("status") == "ok" else ""]
                      for n, c in one.items() if c["status"] == "ok"]
    return markdown(table)


def contractions(record: Record) -> str:
    names = contenders(record, {"contract"})
    threads = sorted({t for name, t, _ in report.rows(record) if WORKLOADS[name].kind == "contract"})
    if not threads:
        return "Not measured in this run."
    table = [["shape", *(f"{n}, {t} thread{'s' * (t > 1)}" for t in threads for n in names), *(f"time / mkl's, {t}" for t in threads), "graphc, 2 over 1"]]
    for name, rows in record["rows"].items():
        if (w := WORKLOADS[name]).kind == "contract":
            us = {(t, n): c["us"] for t in threads for n, c in rows.get(str(t), {}).get("contenders", {}).items() if c["status"] == "ok"}
            rates = [f"{w.flops / us[t, n] / 1e3:.0f}" if (t, n) in us else "" for t in threads for n in names]
            table.append([w.title.removeprefix("contraction "), *rates,
                          *(f"{us[t, 'graphc'] / us[t, 'mkl']:.2f}" if {(t, "graphc"), (t, "mkl")} <= us.keys() else "" for t in threads),
                          f"{us[1, 'graphc'] / us[2, 'graphc']:.2f}×" if {(1, "graphc"), (2, "graphc")} <= us.keys() else ""])
    return markdown(table)


def depth(record: Record) -> str:
    if "depth" not in record:
        return "Not measured in this run."
    table = [["layers", "LLVM", "Python", "nodes", "Python, a node", "kernels"]]
    for layers, r in record["depth"].items():
        table.append([layers, f"{r['llvm_s'] * 1e3:.0f} ms", f"{r['python_s'] * 1e3:.0f} ms", f"{r['nodes']:.0f}",
                      f"{r['python_s'] / r['nodes'] * 1e6:.0f} µs", f"{r['kernels']:.0f}"])
    return markdown(table)


def roofline(record: Record) -> str:
    roofs = record["roofline"]
    sizes = list(next(iter(roofs.values()))["read"])
    table = [["threads", "FMA f32", *(f"{kind}, {s}" for kind in ("read", "triad") for s in sizes)]]
    for n, r in roofs.items():
        table.append([n, f"{r['gflops']:.0f} GFLOP/s", *(f"{r[kind][s]:.0f} GB/s" for kind in ("read", "triad") for s in sizes)])
    return markdown(table)


def failures(record: Record) -> str:
    said = sorted(f"* {n} at {name}, {threads} thread{'s' * (threads > 1)}, {c['status']}: `{c['words']}`" for name, threads, row in report.rows(record)
                  for n, c in row["contenders"].items() if c["status"] in ("failed", "wrong"))
    return "\nWho could not:\n\n" + "\n".join(said) + "\n" if said else ""


def page(record: Record) -> str:
    m, method = record["machine"], record["method"]
    machine = (f"{m['cpu']} ({m['llvm_cpu']} to LLVM), {m['cores']} cores, vectors of {m['vector_bytes']} bytes, L2 {m['l2'] >> 10} KiB, "
               f"L3 {m['l3'] >> 20} MiB, {m['system']}")
    versions = ", ".join([f"Python {m['python']}", *(f"{n} {v}" for n, v in sorted(record["versions"].items()))])
    note = f"\n**{record['note']}**\n" if record.get("note") else ""
    return PAGE.format(
        date=record["date"], note=note, machine=machine, versions=versions, rounds=method["rounds"], slice=method["slice"], batches=BATCHES,
        peers=", ".join(n for n, c in CONTENDERS.items() if not c.beside and n not in ("graphc", "mkl")),
        beside=" and ".join(f"*{n}*" for n, c in CONTENDERS.items() if c.beside),
        error=max(c["error"] for _, _, row in report.rows(record) for c in row["contenders"].values() if c["status"] == "ok"),
        ratios=ratios(record), why=why(record), promises=promises(record), times=times(record), failures=failures(record), starts=starts(record),
        contractions=contractions(record), depth=depth(record), roofline=roofline(record))


def main() -> None:
    record = json.loads((ROOT / "docs" / "benchmarks.json").read_text(encoding="utf-8"))
    (ROOT / "docs" / "benchmarks.md").write_text(page(record), encoding="utf-8")
    (ROOT / "docs" / "benchmarks.svg").write_text(chart.svg(record), encoding="utf-8")


if __name__ == "__main__":
    main()
