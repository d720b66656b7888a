"""What is read off the record of a run: ratios, the table in a terminal, the page for the documentation. The record is what `run.py --json` writes.

A ratio is graphc's time over the peer's, so below 1 is faster. The bar is over the best of the row's peers; those beside it (a scan that enters the
machine once for many steps, a library linked by hand) are shown and not counted.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from peers import CONTENDERS
from workloads import WORKLOADS

Record = dict[str, Any]
WORDS = {True: "met", False: "missed", None: ""}


@dataclass(frozen=True)
class Verdict:
    """graphc against one bar of one row."""

    workload: str
    threads: int
    peer: str                                           # who it is measured against
    ratio: float
    bar: float | None                                   # None: a row that promises nothing

    @property
    def met(self) -> bool | None:
        return None if self.bar is None else self.ratio <= self.bar


def rows(record: Record) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Workload, threads and what was measured, in the order of the workloads."""
    for name in WORKLOADS:
        for threads, row in sorted(record["rows"].get(name, {}).items()):
            yield name, int(threads), row


def verdicts(record: Record) -> list[Verdict]:
    out = []
    for name, threads, row in rows(record):
        w, us = WORKLOADS[name], {n: c["us"] for n, c in row["contenders"].items() if c["status"] == "ok"}
        ours = us.pop("graphc", None)
        if ours is None:
            continue
        peers = {n: t for n, t in us.items() if not CONTENDERS[n].beside}
        if peers and not (w.against and not w.bars):
            best = min(peers, key=peers.__getitem__)
            out.append(Verdict(name, threads, best, ours / peers[best], w.bars.get(threads)))
        out += [Verdict(name, threads, n, ours / us[n], bar) for n, bar in w.against.items() if n in us]
    return out


@dataclass(frozen=True)
class Promise:
    """A bar that is not a time beside a peer's."""

    what: str
    figure: float
    unit: str
    bar: float

    @property
    def met(self) -> bool:
        return self.figure <= self.bar


def promises(record: Record) -> list[Promise]:
    """Those of cold and warm starts and memory (W1, one thread), and of compiling; as far as they were measured."""
    w1 = record["rows"].get("W1", {}).get("1", {}).get("contenders", {})
    ours, jax = (w1.get(n, {}).get("status") == "ok" and w1[n] for n in ("graphc", "jax jit"))
    out = []
    if ours and ours["cold_s"] is not None:
        out += [Promise("W1, cold start", ours["cold_s"], "s", .25), Promise("W1, warm start", ours["warm_s"], "s", .06)]
        if jax and jax["cold_s"] is not None:
            out.append(Promise("W1, cold start over that of jax jit", ours["cold_s"] / jax["cold_s"], "", .6))
    if ours and ours["peak_mb"] is not None:
        out.append(Promise("W1, peak of resident memory", ours["peak_mb"], "MB", 150))
    if "depth" in record:
        few, many = record["depth"]["4"], record["depth"]["48"]
        out += [Promise("LLVM's time, 48 layers over 4", many["llvm_s"] / few["llvm_s"], "", 1.5),
                Promise("Python's time for each further node", (many["python_s"] - few["python_s"]) / (many["nodes"] - few["nodes"]) * 1e6, "µs", 50)]
    return out


def short(us: float) -> str:
    return f"{us:.3g} µs" if us < 1000 else f"{us / 1e3:.3g} ms" if us < 1e6 else f"{us / 1e6:.3g} s"


def spread(c: dict[str, Any]) -> str:
    """The quartiles, as a part of the median."""
    return f"{c['low'] / c['us'] - 1:+.0%} {c['high'] / c['us'] - 1:+.0%}"


def starts(c: dict[str, Any]) -> tuple[str, str, str]:
    """Cold, warm, peak of memory; empty where they were not measured."""
    cold, warm = ("" if c[k] is None else f"{c[k]:.3f} s" for k in ("cold_s", "warm_s"))
    return cold, warm, "" if c["peak_mb"] is None else f"{c['peak_mb']:.0f} MB"


def cell(c: dict[str, Any]) -> str:
    return short(c["us"]) if c["status"] == "ok" else c["status"]


def columns(table: Sequence[Sequence[str]]) -> str:
    """The first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join("  ".join(c.ljust(w) if k == 0 else c.rjust(w) for k, (c, w) in enumerate(zip(r, widths, strict=True))) for r in table)


def one_row(name: str, threads: int, row: dict[str, Any]) -> str:
    """Everybody at one workload, the fastest first."""
    w, contenders = WORKLOADS[name], row["contenders"]
    ours = contenders.get("graphc", {}).get("us")
    head = f"{name}: {w.title}; {threads} thread{'s' * (threads > 1)}; floor {short(row['floor_us'])}"
    table = [["", "a step", "quartiles", "graphc / this", "GFLOP/s", "GB/s", "cold", "warm", "peak"]]
    for n, c in sorted(contenders.items(), key=lambda item: item[1].get("us", 1e300)):
        if c["status"] != "ok":
            table.append([n, c["status"], *[""] * 7])
            continue
        seconds = c["us"] * 1e3
        table.append([n + " (beside)" * CONTENDERS[n].beside, short(c["us"]), spread(c), f"{ours / c['us']:.2f}" if ours else "", f"{w.flops / seconds:.1f}",
                      f"{w.bytes / seconds:.1f}", *starts(c)])
    return f"{head}\n{columns(table)}"


def summary(record: Record) -> str:
    """Every bar, met or not."""
    table = [["workload", "threads", "against", "ratio", "bar", ""]]
    for v in verdicts(record):
        table.append([v.workload, str(v.threads), v.peer, f"{v.ratio:.2f}", "" if v.bar is None else f"{v.bar:.2f}",
                      WORDS[v.met]])
    for p in promises(record):
        table.append([p.what, "", "", f"{p.figure:.3g} {p.unit}", f"{p.bar:g}", WORDS[p.met]])
    return columns(table)


def markdown(table: Iterable[Sequence[str]]) -> str:
    head, *body = table
    return "\n".join(f"| {' | '.join(r)} |" for r in (head, ["---"] * len(head), *body))
