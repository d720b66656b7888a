"""torch.autograd's words: `backward`, `grad` (of tensors, not of functions), `no_grad`, `enable_grad`."""
from .trace.autograd import backward
from .trace.autograd import grad_of as grad
from .trace.tape import enable_grad, is_grad_enabled, no_grad

__all__ = ["backward", "enable_grad", "grad", "is_grad_enabled", "no_grad"]
