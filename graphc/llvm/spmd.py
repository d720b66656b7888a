"""Waiting and waking as LLVM text, so that no Python runs inside a step that threads share.

`pool_text` stands in the module of every such step: it rings for the workers, meets them at barriers, and joins them. `worker_text` is a module of
its own, whose code a worker never leaves. What a sleeper waits for is counted, never a flag (Drepper, "Futexes Are Tricky"); thread 0 leads the
barrier and says with it whether to go on.

The pool's memory (offsets in bytes; what different threads write lies on different lines):
    0 body, 8 table: what to run      16 status      20 stop      64 arrived at the barrier      128 phase of the barrier, times 2, + 1 to stop
    256 * (1 + w), worker w:  0 rung    64 asleep, 68 seen, 72 alive    128 mutex, 192 condition
"""
from __future__ import annotations

import platform
import sys
from typing import Literal

from ..core.target import Target

SPINS = 2000                    # pauses before a worker sleeps, or a waiting thread yields its core: some 50 microseconds
STATUS, STOP, ARRIVED, PHASE = 16, 20, 64, 128
LINE, ASLEEP, SEEN, ALIVE, MUTEX, CONDITION = 256, 64, 68, 72, 128, 192

Doorbell = Literal["futex", "pthread"]


def machine(target: Target) -> str:
    return (target.triple.partition("-")[0] or platform.machine()).lower()


def doorbell(target: Target) -> Doorbell | None:
    """How threads sleep on a machine; None: they cannot, so a step there has one."""
    name = target.triple or sys.platform
    if "linux" in name and machine(target) in ("x86_64", "amd64", "aarch64", "arm64"):
        return "futex"
    return None if "win" in name.replace("darwin", "") or "wasm" in name else "pthread"


def pause(target: Target) -> str:
    """Tells the core that it spins."""
    name = machine(target)
    if name in ("x86_64", "amd64", "i386", "i686"):
        return "call void @llvm.x86.sse2.pause()"
    return "call void @llvm.aarch64.hint(i32 1)" if name in ("aarch64", "arm64") else ""


def declarations(target: Target) -> set[str]:
    """Of what the texts below call."""
    found = {"declare i32 @sched_yield()"}
    if "x86" in pause(target):
        found.add("declare void @llvm.x86.sse2.pause()")
    elif pause(target):
        found.add("declare void @llvm.aarch64.hint(i32)")
    if doorbell(target) == "futex":
        return found | {"declare i64 @syscall(i64, ...)"}
    names = ("pthread_mutex_init(ptr, ptr)", "pthread_mutex_lock(ptr)", "pthread_mutex_unlock(ptr)",
             "pthread_cond_init(ptr, ptr)", "pthread_cond_wait(ptr, ptr)", "pthread_cond_signal(ptr)")
    return found | {f"declare i32 @{n}" for n in names}


def spin(target: Target, name: str, value: str, test: str) -> str:
    """Lines that wait until `test`, on %x = `value`; after SPINS pauses the core is offered to others each time."""
    return f"""  br label %{name}
{name}:
  %{name}.n = phi i32 [ 0, %{name}.from ], [ %{name}.more, %{name}.again ]
  %{name}.x = {value}
  %{name}.ok = {test.replace("%x", f"%{name}.x")}
  br i1 %{name}.ok, label %{name}.end, label %{name}.wait
{name}.wait:
  {pause(target)}
  %{name}.more = add i32 %{name}.n, 1
  %{name}.long = icmp ugt i32 %{name}.n, {SPINS}
  br i1 %{name}.long, label %{name}.yield, label %{name}.again
{name}.yield:
  %{name}.r = call i32 @sched_yield()
  br label %{name}.again
{name}.again:
  br label %{name}
{name}.end:"""


def at(result: str, of: str, offset: int) -> str:
    return f"{result} = getelementptr i8, ptr {of}, i64 {offset}"


def wake(target: Target) -> str:
    """Wake the worker of %line, which has told that it sleeps."""
    if doorbell(target) == "futex":
        number = 202 if machine(target) in ("x86_64", "amd64") else 98
        return f"  %woken = call i64 (i64, ...) @syscall(i64 {number}, ptr %line, i32 129, i32 1, ptr null, ptr null, i32 0)"
    return f"""  {at("%mutex", "%line", MUTEX)}
  {at("%condition", "%line", CONDITION)}
  %l = call i32 @pthread_mutex_lock(ptr %mutex)
  %s = call i32 @pthread_cond_signal(ptr %condition)
  %u = call i32 @pthread_mutex_unlock(ptr %mutex)"""


def sleep(target: Target) -> str:
    """Sleep until %line is rung beyond %seen; waking early is allowed."""
    if doorbell(target) == "futex":
        number = 202 if machine(target) in ("x86_64", "amd64") else 98
        return f"""  store atomic i32 1, ptr %asleep seq_cst, align 4
  %slept = call i64 (i64, ...) @syscall(i64 {number}, ptr %line, i32 128, i32 %seen, ptr null, ptr null, i32 0)
  store atomic i32 0, ptr %asleep seq_cst, align 4"""
    return """  %l = call i32 @pthread_mutex_lock(ptr %mutex)
  store atomic i32 1, ptr %asleep seq_cst, align 4
  %still = load atomic i32, ptr %line seq_cst, align 4
  %idle = icmp eq i32 %still, %seen
  br i1 %idle, label %lie, label %rise
lie:
  %w = call i32 @pthread_cond_wait(ptr %condition, ptr %mutex)
  br label %rise
rise:
  store atomic i32 0, ptr %asleep seq_cst, align 4
  %u = call i32 @pthread_mutex_unlock(ptr %mutex)"""


def pool_text(target: Target) -> str:
    """@ring(pool, body, table, threads), @barrier(pool, thread, threads) -> whether to stop, @join(pool, threads) -> status."""
    return ring_text(target) + meet_text(target)


def ring_text(target: Target) -> str:
    """@ring: tell the workers what to run."""
    return f"""define internal void @ring(ptr %pool, ptr %body, ptr %table, i64 %threads) #1 {{
entry:
  store ptr %body, ptr %pool, align 8
  {at("%at.table", "%pool", 8)}
  store ptr %table, ptr %at.table, align 8
  {at("%status", "%pool", STATUS)}
  store i32 0, ptr %status, align 4
  {at("%arrived", "%pool", ARRIVED)}
  store i32 0, ptr %arrived, align 4
  {at("%phase", "%pool", PHASE)}
  store i32 0, ptr %phase, align 4
  br label %next
next:
  %w = phi i64 [ 1, %entry ], [ %w.next, %rung ]
  %more = icmp slt i64 %w, %threads
  br i1 %more, label %one, label %done
one:
  %w.next = add i64 %w, 1
  %offset = mul i64 %w.next, {LINE}
  %line = getelementptr i8, ptr %pool, i64 %offset
  %old = atomicrmw add ptr %line, i32 1 seq_cst
  {at("%asleep", "%line", ASLEEP)}
  %sleeps = load atomic i32, ptr %asleep seq_cst, align 4
  %sleeping = icmp ne i32 %sleeps, 0
  br i1 %sleeping, label %wake, label %rung
wake:
{wake(target)}
  br label %rung
rung:
  br label %next
done:
  ret void
}}
"""


def meet_text(target: Target) -> str:
    """@barrier, which thread 0 leads, and @join, where it waits for all."""
    return f"""
define internal i1 @barrier(ptr %pool, i64 %thread, i64 %threads) #1 {{
entry:
  {at("%arrived", "%pool", ARRIVED)}
  {at("%phase", "%pool", PHASE)}
  %now = load atomic i32, ptr %phase monotonic, align 4
  %first = icmp eq i64 %thread, 0
  br i1 %first, label %all.from, label %arrive
all.from:
  %others = sub i64 %threads, 1
  %others.32 = trunc i64 %others to i32
{spin(target, "all", "load atomic i32, ptr %arrived acquire, align 4", "icmp eq i32 %x, %others.32")}
  store atomic i32 0, ptr %arrived monotonic, align 4
  {at("%at.status", "%pool", STATUS)}
  %status = load i32, ptr %at.status, align 4
  %failed = icmp ne i32 %status, 0
  %bit = zext i1 %failed to i32
  %even = add i32 %now, 2
  %new = or i32 %even, %bit
  store atomic i32 %new, ptr %phase release, align 4
  ret i1 %failed
arrive:
  %before = atomicrmw add ptr %arrived, i32 1 release
  br label %go.from
go.from:
{spin(target, "go", "load atomic i32, ptr %phase acquire, align 4", "icmp ne i32 %x, %now")}
  %odd = trunc i32 %go.x to i1
  ret i1 %odd
}}

define internal i32 @join(ptr %pool, i64 %threads) #1 {{
entry:
  br label %next
next:
  %w = phi i64 [ 1, %entry ], [ %w.next, %seen.end ]
  %more = icmp slt i64 %w, %threads
  br i1 %more, label %one, label %done
one:
  %w.next = add i64 %w, 1
  %offset = mul i64 %w.next, {LINE}
  %line = getelementptr i8, ptr %pool, i64 %offset
  {at("%at.seen", "%line", SEEN)}
  %rung = load atomic i32, ptr %line monotonic, align 4
  br label %seen.from
seen.from:
{spin(target, "seen", "load atomic i32, ptr %at.seen acquire, align 4", "icmp eq i32 %x, %rung")}
  br label %next
done:
  {at("%at.status", "%pool", STATUS)}
  %status = load i32, ptr %at.status, align 4
  ret i32 %status
}}
"""


def signal_declarations() -> set[str]:
    """Of what `signals_text` calls."""
    return {"declare i32 @PyErr_CheckSignals()", "declare i32 @PyGILState_Ensure()", "declare void @PyGILState_Release(i32)",
            "declare i32 @clock_gettime(i32, ptr)"}


def signals_text(target: Target, threads: bool) -> str:
    """@signals(polling): let Python handle signals, and say whether a handler raised; it holds the GIL, and meanwhile 1 is in the word `polling`.

    With threads, also @poll(polling, last): every 20 ms take the GIL for that; `last` holds when it was, 0 at first.
    """
    ask = """
define internal i32 @signals(ptr %polling) #1 {
  store volatile i64 1, ptr %polling, align 8
  %raised = call i32 @PyErr_CheckSignals()
  store volatile i64 0, ptr %polling, align 8
  ret i32 %raised
}
"""
    if not threads:
        return ask
    clock = 6 if "darwin" in (target.triple or sys.platform) else 1         # CLOCK_MONOTONIC
    return ask + f"""
define internal i32 @poll(ptr %polling, ptr %last) #1 {{
  %time = alloca [2 x i64], align 8
  %c = call i32 @clock_gettime(i32 {clock}, ptr %time)
  %s = load i64, ptr %time, align 8
  %at.ns = getelementptr i64, ptr %time, i64 1
  %ns = load i64, ptr %at.ns, align 8
  %s.ms = mul i64 %s, 1000
  %ns.ms = udiv i64 %ns, 1000000
  %now = add i64 %s.ms, %ns.ms
  %before = load i64, ptr %last, align 8
  %new = icmp eq i64 %before, 0
  br i1 %new, label %start, label %again
start:
  store i64 %now, ptr %last, align 8
  ret i32 0
again:
  %passed = sub i64 %now, %before
  %due = icmp uge i64 %passed, 20
  br i1 %due, label %ask, label %no
no:
  ret i32 0
ask:
  store i64 %now, ptr %last, align 8
  %gil = call i32 @PyGILState_Ensure()
  %raised = call i32 @signals(ptr %polling)
  call void @PyGILState_Release(i32 %gil)
  ret i32 %raised
}}
"""


def worker_text(target: Target) -> str:
    """@worker(pool, index): claims the index (a second thread that does returns at once), runs what is rung for, returns when told to stop.

    @alarm(pool, threads) rings for all, with nothing to run: those who sleep look at `stop`.
    """
    end, prepare = "doze", ""
    if doorbell(target) == "pthread":
        end = "rise"
        prepare = f"""  {at("%mutex", "%line", MUTEX)}
  {at("%condition", "%line", CONDITION)}
  %m = call i32 @pthread_mutex_init(ptr %mutex, ptr null)
  %c = call i32 @pthread_cond_init(ptr %condition, ptr null)
"""
    lines = "\n".join(sorted(declarations(target)))
    return f"""define void @worker(ptr %pool, i64 %index) #1 {{
entry:
  %number = add i64 %index, 1
  %offset = mul i64 %number, {LINE}
  %line = getelementptr i8, ptr %pool, i64 %offset
  {at("%asleep", "%line", ASLEEP)}
  {at("%at.seen", "%line", SEEN)}
  {at("%alive", "%line", ALIVE)}
  {at("%at.stop", "%pool", STOP)}
  {at("%at.table", "%pool", 8)}
  %claim = cmpxchg ptr %alive, i32 0, i32 1 seq_cst seq_cst
  %mine = extractvalue {{ i32, i1 }} %claim, 1
  br i1 %mine, label %start, label %out
start:
{prepare}  %seen.0 = load i32, ptr %at.seen, align 4
  br label %idle.again
idle.again:
  %seen = phi i32 [ %seen.0, %start ], [ %rung, %run ]
  br label %spin
spin:
  %n = phi i32 [ 0, %idle.again ], [ %n.more, %wait ], [ 0, %{end} ]
  %rung = load atomic i32, ptr %line acquire, align 4
  %work = icmp ne i32 %rung, %seen
  br i1 %work, label %called, label %tired
tired:
  %n.more = add i32 %n, 1
  %long = icmp ugt i32 %n, {SPINS}
  br i1 %long, label %doze, label %wait
wait:
  {pause(target)}
  br label %spin
doze:
{sleep(target)}
  br label %spin
called:
  %stop = load atomic i32, ptr %at.stop acquire, align 4
  %stops = icmp ne i32 %stop, 0
  br i1 %stops, label %leave, label %run
run:
  %body = load ptr, ptr %pool, align 8
  %table = load ptr, ptr %at.table, align 8
  call void %body(ptr %table, i64 %index)
  store atomic i32 %rung, ptr %at.seen release, align 4
  br label %idle.again
leave:
  store atomic i32 %rung, ptr %at.seen release, align 4
  store atomic i32 0, ptr %alive seq_cst, align 4
  br label %out
out:
  ret void
}}

{ring_text(target)}
define void @alarm(ptr %pool, i64 %threads) #1 {{
  {at("%at.stop", "%pool", STOP)}
  store atomic i32 1, ptr %at.stop seq_cst, align 4
  call void @ring(ptr %pool, ptr null, ptr null, i64 %threads)
  ret void
}}

{lines}
attributes #1 = {{ nounwind }}
"""
