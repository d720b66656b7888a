"""A Plan as one LLVM module: its kernels, each once, and `i32 step(ptr table)`, which launches them in order.

The table is an array of pointers: the arena, then the regions of each kind by slot (`Layout`). The step allocates nothing and calls nothing but
kernels; it returns 0, or the code of the first `Check` that failed, and then no later kernel has run.
"""
from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import partial

from ..core.compat import assert_never
from ..core.target import Target
from ..loop.ir import Barrier, Buffer, Kernel, Launch, Loop, Plan, Ref, Region, Steps
from ..loop.text import declared
from .emit import Emitter, KernelText, emit
from .types import in_memory

FLUSH = 0x8040                                                  # MXCSR: denormal results are zero, denormal operands are zero


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the pointer of each region stands in the table: how many regions there are of each kind, in this order, after the arena."""

    arguments: int = 0
    scalars: int = 0
    states: int = 0
    constants: int = 0
    results: int = 0

    @property
    def size(self) -> int:
        return 1 + self.arguments + self.scalars + self.states + self.constants + self.results

    def index(self, where: str, slot: int = 0) -> int:
        """The table's entry for a region; the arena's is 0."""
        if where == "arena":
            return 0
        at = 1
        for kind, n in (("argument", self.arguments), ("scalar", self.scalars), ("state", self.states),
                        ("constant", self.constants), ("result", self.results)):
            if kind == where:
                assert 0 <= slot < n, f"{where} {slot} of {n}"
                return at + slot
            at += n
        raise AssertionError(f"no regions of kind {where}")


@dataclass(frozen=True, slots=True)
class StepText:
    """The module, and the bytes of arena that it needs: what was placed there, then the scratch that kernels share one after another."""

    text: str
    arena_bytes: int


def step_text(plan: Plan, target: Target, layout: Layout, arena_bytes: int, flush_denormals: bool = True) -> StepText:
    """The module of a plan. Regions of the arena have offsets; `arena_bytes` is where the placed ones end."""
    arena_bytes = -(-arena_bytes // 64) * 64
    step = StepEmitter(target, layout, arena_bytes)
    step.plan(plan)
    kernels = step.kernels.values()
    flush = flush_denormals and is_x86(target)
    control = "declare void @llvm.x86.sse.stmxcsr(ptr)", "declare void @llvm.x86.sse.ldmxcsr(ptr)"
    declarations = sorted({d for k in kernels for d in k.declarations} | set(step.declared.values()) | (set(control) if flush else set()))
    enter = ["  %status = alloca i32, align 4", "  store i32 0, ptr %status, align 4"]
    leave = ["  %result = load i32, ptr %status, align 4"]
    if flush:
        enter += ["  %mode = alloca i32, align 4", "  %flush = alloca i32, align 4", "  call void @llvm.x86.sse.stmxcsr(ptr %mode)",
                  "  %mode.old = load i32, ptr %mode, align 4", f"  %mode.new = or i32 %mode.old, {FLUSH}",
                  "  store i32 %mode.new, ptr %flush, align 4", "  call void @llvm.x86.sse.ldmxcsr(ptr %flush)"]
        leave += ["  call void @llvm.x86.sse.ldmxcsr(ptr %mode)"]
    body = "\n".join(["define i32 @step(ptr %table) #1 {", "entry:", *enter, *step.lines, "  br label %done", "done:", *leave, "  ret i32 %result", "}"])
    wide = f'"prefer-vector-width"="{target.vector_bytes * 8}"'
    attributes = [f"attributes #0 = {{ nounwind noinline {wide} }}", "attributes #1 = { nounwind }"]
    text = "\n".join([*(f"; {step.comments[k.name]}\n{k.text}" for k in kernels), body, "", *declarations, *attributes, ""])
    return StepText(text, arena_bytes + step.scratch_max)


def is_x86(target: Target) -> bool:
    name = target.triple.partition("-")[0] or platform.machine()
    return name.lower() in ("x86_64", "amd64", "i386", "i686")


class StepEmitter(Emitter):
    def __init__(self, target: Target, layout: Layout, arena_bytes: int) -> None:
        super().__init__(target, 1)
        self.layout, self.arena_bytes = layout, arena_bytes
        self.kernels: dict[str, KernelText] = {}                # by their text without the name
        self.comments: dict[str, str] = {}
        self.made: dict[tuple[int, tuple[Buffer, ...]], KernelText] = {}    # by the id of the body, which the plan keeps alive
        self.names: set[str] = {"step"}

    def plan(self, p: Plan) -> None:
        match p:
            case Steps(body):
                for x in body:
                    self.plan(x)
            case Launch(): self.launch(p)
            case Loop(var, count, body):
                if count == 1:
                    self.env[var] = 0
                    self.plan(body)
                elif count > 1:
                    self.repeat_plan(var, count, body)
            case Barrier(): self.do("; barrier")
            case _: assert_never(p)

    def repeat_plan(self, var: str, count: int, body: Plan) -> None:
        n = self.name("")
        head, end, before, i = f"loop{n}", f"end{n}", self.block, f"%i{n}"
        self.env[var] = i
        text, latch = self.aside(head, partial(self.plan, body)), self.block
        self.lines += [f"  br label %{head}", f"{head}:", f"  {i} = phi i64 [ 0, %{before} ], [ {i}.next, %{latch} ]", *text,
                       f"  {i}.next = add nuw nsw i64 {i}, 1", f"  {i}.more = icmp slt i64 {i}.next, {count}",
                       f"  br i1 {i}.more, label %{head}, label %{end}", f"{end}:"]
        self.block = end

    def launch(self, p: Launch) -> None:
        k = self.kernel(p.kernel)
        self.memo = {}
        pointers = [self.pointer(r, in_memory(b.dtype)) for r, b in zip(p.args, p.kernel.buffers, strict=True)]
        sizes = [f"i64 {self.integer(self.at(self.affine(e)))}" for e in p.sizes]
        scratch = self.bytes_of("arena", 0, self.arena_bytes)
        self.do(f"call void @{k.name}({', '.join([*(f'ptr {x}' for x in pointers), f'ptr {scratch}', 'ptr %status', *sizes, 'i64 0', 'i64 1'])})")
        if k.checks:
            status, n = self.fresh("load i32, ptr %status, align 4"), self.name("go")
            self.do(f"br i1 {self.fresh(f'icmp eq i32 {status}, 0')}, label %{n}, label %done")
            self.lines.append(f"{n}:")
            self.block = n

    def kernel(self, kernel: Kernel) -> KernelText:
        """The text of a kernel; one that is equal but for its name stands for it."""
        key = (id(kernel.body), kernel.buffers)
        if key not in self.made:
            k = emit(kernel, self.target)
            body = k.text.partition("(")[2]
            if body not in self.kernels:
                name, n = clean(kernel.name), 1
                while name in self.names:
                    n += 1
                    name = f"{clean(kernel.name)}.{n}"
                self.names.add(name)
                self.kernels[body] = KernelText(name, f"define internal void @{name}({body}", k.scratch_bytes, k.declarations, k.checks)
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


def offset_of(r: Region) -> int:
    if r.where != "arena":
        return 0
    assert r.offset is not None, f"{r.name} has no place in the arena"
    return r.offset


def clean(name: str) -> str:
    """A name that LLVM takes without quotes."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._") else "_" for c in name) or "kernel"
