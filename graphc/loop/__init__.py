"""Loop nests: the closed intermediate form between tensors and machine code. Knows buffers and loops, has never heard of gradients."""
