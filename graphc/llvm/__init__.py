"""The last level: kernels and the plan as LLVM IR text, and machine code made of it. llvmlite is imported when code is first made, not before."""
