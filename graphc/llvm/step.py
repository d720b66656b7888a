"""A Plan as one LLVM module: its kernels, each once, and `i32 step(ptr table)`, which launches them in order.

The table is an array of pointers: the arena, then the regions of each kind by slot (`table.Layout`). The step allocates nothing and calls nothing but
kernels; it returns 0, or the code of the first `Check` that failed, and then no later kernel has run. It is a list of calls, which LLVM need not improve
(`optnone`: a third of the whole compile time of a deep network).

With threads, `step` wakes the pool's workers, all run `share(table, thread)`, and it returns when all have. What is not shared runs on thread 0; a
failed `Check`, which is never shared, ends every thread at the next barrier, and `loop.share` put one before any launch that others take part in.

A loop of the plan asks before each turn whether a signal has come (`polls`), if no state has been written by then: so Ctrl-C ends a long scan at once,
with every state as it was.

Functions of the host's are objects of Python's in the table; thread 0 calls them (`HOST_TEXT`) with the address of a block of pointers, in the floating-point
mode of whoever entered the step. What such a function raises is left as Python's exception, as a signal's is, and the step ends.
"""
from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby

from ..core.compat import assert_never
from ..core.record import dataclass
from ..core.target import Target
from ..loop.ir import Barrier, Branch, Buffer, Expr, Extern, Launch, Loop, Plan, Ref, Region, Steps, Var
from ..loop.place import launches
from ..loop.text import declared
from . import spmd
from .emit import Emitter, KernelText, emit
from .table import Layout
from .types import in_memory

INTERRUPTED = -3                                                # a signal's handler or a function of the host's has raised, and the exception is set
FLUSH = 0x8040                                                  # MXCSR: denormal results are zero, denormal operands are zero

HOST_TEXT = """
@one_number = private constant [2 x i8] c"n\\00"

define internal i32 @host(ptr %function, ptr %block) #1 {
entry:
  %gil = call i32 @PyGILState_Ensure()
  %at = ptrtoint ptr %block to i64
  %result = call ptr (ptr, ptr, ...) @PyObject_CallFunction(ptr %function, ptr @one_number, i64 %at)
  %raised = icmp eq ptr %result, null
  br i1 %raised, label %done, label %drop
drop:
  call void @Py_DecRef(ptr %result)
  br label %done
done:
  call void @PyGILState_Release(i32 %gil)
  %status = zext i1 %raised to i32
  ret i32 %status
}
"""
HOST_DECLARATIONS = {"declare i32 @PyGILState_Ensure()", "declare void @PyGILState_Release(i32)", "declare ptr @PyObject_CallFunction(ptr, ptr, ...)",
                     "declare void @Py_DecRef(ptr)"}


@dataclass(frozen=True, slots=True)
class StepText:
    """The module, and the bytes of arena that it needs: what was placed there, then the scratch that kernels share one after another."""

    text: str
    arena_bytes: int


def step_text(plan: Plan, target: Target, layout: Layout, arena_bytes: int, flush_denormals: bool = True, threads: int = 1,
              sizes: Sequence[str] = ()) -> StepText:
    """The module of a plan. Regions of the arena have offsets; `arena_bytes` is where the placed ones end. At most `threads` enter it: how many is
    for the table to say, and nothing in the text but the bytes of their scratch depends on it. `sizes`: the symbolic ones, as the table has them."""
    arena_bytes = -(-arena_bytes // 64) * 64
    flush = flush_denormals and is_x86(target)
    step = StepEmitter(target, layout, arena_bytes, sizes, flush)
    step.plan(plan)
    kernels = step.kernels.values()
    control = {"declare void @llvm.x86.sse.stmxcsr(ptr)", "declare void @llvm.x86.sse.ldmxcsr(ptr)"} if flush else set[str]()
    calls = spmd.declarations(target) if layout.threads else set[str]()
    calls |= spmd.signal_declarations() if step.polls else set()
    calls |= HOST_DECLARATIONS if step.most_places is not None else set()
    declarations = sorted({d for k in kernels for d in k.declarations} | set(step.declared.values()) | control | calls)
    enter, leave = [], []
    if step.most_places is not None:
        enter.append(f"  %block = alloca [{max(1, step.most_places)} x ptr], align 8")
    if flush:
        enter += ["  %mode = alloca i32, align 4", "  %flush = alloca i32, align 4", "  call void @llvm.x86.sse.stmxcsr(ptr %mode)",
                 "  %mode.old = load i32, ptr %mode, align 4", f"  %mode.new = or i32 %mode.old, {FLUSH}",
                 "  store i32 %mode.new, ptr %flush, align 4", "  call void @llvm.x86.sse.ldmxcsr(ptr %flush)"]
        leave = ["  call void @llvm.x86.sse.ldmxcsr(ptr %mode)"]
    functions = [spmd.signals_text(target, bool(layout.threads))] if step.polls else []
    functions += [HOST_TEXT] if step.most_places is not None else []
    functions += shared(step, enter, leave, target) if layout.threads else [alone(step, enter, leave)]
    wide = f'"prefer-vector-width"="{target.vector_bytes * 8}"'
    attributes = [f"attributes #0 = {{ nounwind noinline {wide} }}", "attributes #1 = { nounwind }", "attributes #2 = { nounwind noinline optnone }"]
    text = "\n".join([*(f"; {step.comments[k.name]}\n{k.text}" for k in kernels), *functions, "", *declarations, *attributes, ""])
    return StepText(text, arena_bytes + step.scratch_max * (threads if layout.threads else 1))


def alone(step: StepEmitter, enter: Sequence[str], leave: Sequence[str]) -> str:
    """@step on the thread that calls it."""
    status = ["  %status = alloca i32, align 4", "  store i32 0, ptr %status, align 4"]
    result = "  %result = load i32, ptr %status, align 4"
    return "\n".join(["define i32 @step(ptr %table) #2 {", "entry:", *status, *enter, *step.lines, "  br label %done", "done:", result, *leave,
                      "  ret i32 %result", "}"])


def shared(step: StepEmitter, enter: Sequence[str], leave: Sequence[str], target: Target) -> list[str]:
    """@step that wakes the pool, and @share that every thread runs, each with scratch of its own."""
    def entry(name: str, ty: str, where: str) -> list[str]:
        return [f"  %at.{name} = getelementptr ptr, ptr %table, i64 {step.layout.index(where)}", f"  %{name} = load {ty}, ptr %at.{name}, align 8"]

    team = [*entry("pool", "ptr", "pool"), *entry("threads", "i64", "threads")]
    own = [*entry("arena", "ptr", "arena"), f"  %own = mul i64 %thread, {step.scratch_max}", f"  %behind = add i64 %own, {step.arena_bytes}",
           "  %scratch = getelementptr i8, ptr %arena, i64 %behind", f"  %status = getelementptr i8, ptr %pool, i64 {spmd.STATUS}",
           "  %first = icmp eq i64 %thread, 0"]
    polled = ["  %polled = alloca i64, align 8", "  store i64 0, ptr %polled, align 8"] if step.polls else []
    share = ["define internal void @share(ptr %table, i64 %thread) #2 {", "entry:", *polled, *enter, *team, *own, *step.lines,
             "  br label %done", "done:", *leave, "  ret void", "}"]
    main = ["define i32 @step(ptr %table) #1 {", *team, "  call void @ring(ptr %pool, ptr @share, ptr %table, i64 %threads)",
            "  call void @share(ptr %table, i64 0)", "  %result = call i32 @join(ptr %pool, i64 %threads)", "  ret i32 %result", "}"]
    return ["\n".join(share), "\n".join(main), spmd.pool_text(target)]


def is_x86(target: Target) -> bool:
    name = target.triple.partition("-")[0] or platform.machine()
    return name.lower() in ("x86_64", "amd64", "i386", "i686")


class StepEmitter(Emitter):
    def __init__(self, target: Target, layout: Layout, arena_bytes: int, sizes: Sequence[str] = (), flush: bool = False) -> None:
        super().__init__(target, 1)
        self.layout, self.arena_bytes, self.sizes = layout, arena_bytes, {n: k for k, n in enumerate(sizes)}
        self.kernels: dict[str, KernelText] = {}                # by their text without the name
        self.comments: dict[str, str] = {}
        self.made: dict[tuple[int, tuple[Buffer, ...], bool], KernelText] = {}    # by the id of the body, which the plan keeps alive
        self.names: set[str] = {"step", "entry", "share", "ring", "barrier", "join", "poll", "signals", "again", "guard", "host"}
        self.team, self.inside = layout.threads, False          # inside: what only thread 0 runs
        self.failed = "done"                                    # where to go when a check has failed
        self.checked = False                                    # whether one may have, since the last barrier
        self.wrote = self.polls = False                         # whether a state has been written; whether a loop asks for signals
        self.flush = flush                                      # whether the step has a floating-point mode of its own
        self.most_places: int | None = None                     # that a function of the host's is given; None: there is no such function

    def plan(self, p: Plan) -> None:
        for of_one, group in groupby(steps(p), key=one_thread):
            if self.team and not self.inside and of_one:
                self.by_one(list(group))
            else:
                for x in group:
                    self.run(x)

    def run(self, p: Plan) -> None:
        match p:
            case Steps(): self.plan(p)
            case Launch(): self.launch(p)
            case Loop():
                if p.count == 1 and p.limit is p.go is None:
                    self.env[p.var] = 0
                    self.plan(p.body)
                elif p.count:
                    self.repeat_plan(p)
            case Branch(index, bodies): self.choose(index, bodies)
            case Barrier() if self.team: self.barrier()
            case Barrier(): self.do("; barrier")
            case Extern(): self.call_host(p)
            case _: assert_never(p)

    def by_one(self, body: Sequence[Plan]) -> None:
        """Thread 0 runs these in order, up to a check that fails; the others pass by."""
        n = self.name("")
        then, end = f"one{n}", f"past{n}"
        self.inside, self.failed = True, end
        text = self.aside(then, partial(self.plan, Steps(tuple(body))))
        self.inside, self.failed = False, "done"
        self.lines += [f"  br i1 %first, label %{then}, label %{end}", f"{then}:", *text, f"  br label %{end}", f"{end}:"]
        self.block = end

    def barrier(self) -> None:
        stop, n = self.fresh("call i1 @barrier(ptr %pool, i64 %thread, i64 %threads)"), self.name("go")
        if self.checked:
            self.do(f"br i1 {stop}, label %done, label %{n}")
            self.lines.append(f"{n}:")
            self.block, self.checked = n, False

    def repeat_plan(self, p: Loop) -> None:
        n = self.name("")
        head, end, before, i = f"loop{n}", f"end{n}", self.block, f"%i{n}"
        count, enter = str(p.count), f"br label %{head}"
        if p.limit is not None:
            most = self.fresh(f"load i64, ptr {self.pointer(p.limit, 'i64')}, align 8")
            count = self.fresh(self.call("i64", "smin.i64", ("i64", most), ("i64", count)))
            enter = f"br i1 {self.fresh(f'icmp sgt i64 {count}, 0')}, label %{head}, label %{end}"
        asks = self.layout.loops and not self.wrote and not any(map(self.writes_state, launches(p.body)))
        text, latch = self.aside(head, partial(self.turn, p, i, count, end, asks)), self.block
        self.lines += [f"  {enter}", f"{head}:", f"  {i} = phi i64 [ 0, %{before} ], [ {i}.next, %{latch} ]", *text,
                       f"  {i}.next = add nuw nsw i64 {i}, 1", f"  {i}.more = icmp slt i64 {i}.next, {count}",
                       f"  br i1 {i}.more, label %{head}, label %{end}", f"{end}:"]
        self.block = end

    def turn(self, p: Loop, i: str, count: str, end_of_loop: str, asks: bool) -> None:
        """One turn of a loop."""
        if p.go is not None:
            go, n = self.fresh(f"load i8, ptr {self.pointer(p.go, 'i8')}, align 1"), self.name("turn")
            self.do(f"br i1 {self.fresh(f'icmp ne i8 {go}, 0')}, label %{n}, label %{end_of_loop}")
            self.lines.append(f"{n}:")
            self.block = n
        self.env[p.var] = self.fresh(f"sub i64 {self.fresh(f'sub i64 {count}, 1')}, {i}") if p.down else i
        if asks:
            n = self.name("")
            self.polls, together = True, self.team and not self.inside
            word = self.op("load ptr, ptr " + self.op(f"getelementptr ptr, ptr %table, i64 {self.layout.index('polling')}") + ", align 8")
            if together:                                        # thread 0 asks, and the next barrier ends all
                self.do(f"br i1 %first, label %ask{n}, label %go{n}")
                self.lines.append(f"ask{n}:")
            raised = self.fresh(f"call i32 @poll(ptr {word}, ptr %polled)" if self.team else f"call i32 @signals(ptr {word})")
            self.do(f"br i1 {self.fresh(f'icmp eq i32 {raised}, 0')}, label %go{n}, label %stop{n}")
            end = f"go{n}" if together else self.failed
            self.lines += [f"stop{n}:", f"  store i32 {INTERRUPTED}, ptr %status, align 4", f"  br label %{end}", f"go{n}:"]
            self.block, self.checked = f"go{n}", self.checked or self.team
        self.plan(p.body)

    def choose(self, index: Ref, bodies: Sequence[Plan]) -> None:
        """Run one of the bodies."""
        n = self.name("")
        at = self.fresh(f"load i64, ptr {self.pointer(index, 'i64')}, align 8")
        at = self.fresh(self.call("i64", "smax.i64", ("i64", at), ("i64", "0")))
        labels, end = [f"branch{n}.{k}" for k in range(len(bodies))], f"end{n}"
        texts = [self.aside(label, partial(self.plan, body)) for label, body in zip(labels, bodies)]
        self.do(f"switch i64 {at}, label %{labels[-1]} [ {' '.join(f'i64 {k}, label %{label}' for k, label in enumerate(labels[:-1]))} ]")
        for label, text in zip(labels, texts):
            self.lines += [f"{label}:", *text, f"  br label %{end}"]
        self.lines.append(f"{end}:")
        self.block = end

    def writes_state(self, p: Launch) -> bool:
        return any(p.args[i].region.where == "state" for i in self.kernel(p).written)

    def launch(self, p: Launch) -> None:
        k = self.kernel(p)
        self.wrote = self.wrote or self.writes_state(p)
        self.memo = {}
        pointers = [self.pointer(r, in_memory(b.dtype)) for r, b in zip(p.args, p.kernel.buffers, strict=True)]
        sizes = [f"i64 {self.size(e)}" for e in p.sizes]
        scratch = "%scratch" if self.team else self.bytes_of("arena", 0, self.arena_bytes)
        who = ["i64 %thread", "i64 %threads"] if self.team and p.shared else []
        self.do(f"call void @{k.name}({', '.join([*(f'ptr {x}' for x in pointers), f'ptr {scratch}', 'ptr %status', *sizes, *who])})")
        n = self.name("go")
        if k.checks:
            self.checked = True
            status = self.fresh("load i32, ptr %status, align 4")
            self.do(f"br i1 {self.fresh(f'icmp eq i32 {status}, 0')}, label %{n}, label %{self.failed}")
        else:
            self.do(f"br label %{n}")                           # a block each, selected fast and alone: hundreds of calls in one take LLVM longer than kernels
        self.lines.append(f"{n}:")
        self.block = n

    def call_host(self, p: Extern) -> None:
        """Let Python run one of its functions."""
        self.most_places = max(self.most_places or 0, len(p.args))
        self.memo = {}
        for k, (ref, dtype) in enumerate(zip(p.args, p.dtypes, strict=True)):
            self.do(f"store ptr {self.pointer(ref, in_memory(dtype))}, ptr {self.op(f'getelementptr ptr, ptr %block, i64 {k}')}, align 8")
        entry = self.op(f"getelementptr ptr, ptr %table, i64 {self.layout.index('call', p.call)}")
        function = self.op(f"load ptr, ptr {entry}, align 8")
        if self.flush:
            self.do("call void @llvm.x86.sse.ldmxcsr(ptr %mode)")
        raised = self.fresh(f"call i32 @host(ptr {function}, ptr %block)")
        if self.flush:
            self.do("call void @llvm.x86.sse.ldmxcsr(ptr %flush)")
        n = self.name("")
        self.do(f"br i1 {self.fresh(f'icmp eq i32 {raised}, 0')}, label %back{n}, label %raised{n}")
        self.lines += [f"raised{n}:", f"  store i32 {INTERRUPTED}, ptr %status, align 4", f"  br label %{self.failed}", f"back{n}:"]
        self.block, self.checked = f"back{n}", True

    def size(self, e: Expr) -> int | str:
        """A number that a kernel takes: a symbolic size from the table, or an index over the plan's loops."""
        if isinstance(e, Var) and e.name in self.sizes:
            entry = self.op(f"getelementptr ptr, ptr %table, i64 {self.layout.index('size', self.sizes[e.name])}")
            return self.op(f"load i64, ptr {entry}, align 8")
        return self.integer(self.at(self.affine(e)))

    def kernel(self, p: Launch) -> KernelText:
        """The text of a launch's kernel; one that is equal but for its name stands for it."""
        kernel, shared = p.kernel, self.team and p.shared
        key = (id(kernel.body), kernel.buffers, shared)
        if key not in self.made:
            k = emit(kernel, self.target, shared)
            body = k.text.partition("(")[2]
            if body not in self.kernels:
                name, n = clean(kernel.name), 1
                while name in self.names:
                    n += 1
                    name = f"{clean(kernel.name)}.{n}"
                self.names.add(name)
                self.kernels[body] = KernelText(name, f"define internal void @{name}({body}", k.scratch_bytes, k.declarations, k.checks, k.written)
                self.comments[name] = ", ".join(f"%a{i} {declared(b)}" for i, b in enumerate(kernel.buffers)).replace("\n", " ")
                self.scratch_max = max(self.scratch_max, k.scratch_bytes)
            self.made[key] = self.kernels[body]
        return self.made[key]

    def pointer(self, ref: Ref, ty: str) -> str:
        r = ref.region
        p = self.bytes_of(r.where, r.slot, offset_of(r))
        start = self.integer(self.at(self.affine(ref.start)))
        return self.op(f"getelementptr {ty}, ptr {p}, i64 {start}") if start != 0 else p

    def bytes_of(self, where: str, slot: int, offset: int) -> str:
        at = self.layout.index(where, slot)
        entry = self.op(f"getelementptr ptr, ptr %table, i64 {at}") if at else "%table"
        p = self.op(f"load ptr, ptr {entry}, align 8")
        return self.op(f"getelementptr i8, ptr {p}, i64 {offset}") if offset else p


def steps(p: Plan) -> Iterator[Plan]:
    """The launches, loops, branches and barriers of nested Steps."""
    if isinstance(p, Steps):
        for x in p.body:
            yield from steps(x)
    else:
        yield p


def one_thread(p: Plan) -> bool:
    """Whether thread 0 runs it alone."""
    return not isinstance(p, Barrier) and not any(x.shared for x in launches(p))


def offset_of(r: Region) -> int:
    if r.where != "arena":
        return 0
    assert r.offset is not None, f"{r.name} has no place in the arena"
    return r.offset


def clean(name: str) -> str:
    """A name that LLVM takes without quotes."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._") else "_" for c in name) or "kernel"
