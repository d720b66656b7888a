"""Layers and losses as functions of tensors, with PyTorch's names and arguments. Compositions of array functions: no op of their own."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from .. import array as xp
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..trace.tensor import Tensor

Reduction = Literal["none", "mean", "sum"]

# ---- layers ----------------------------------------------------------------------------------------------------------------------


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`input @ weight.T + bias`: input (..., in), weight (out, in), bias (out,) or None; the result is (..., out).

    Raises GraphError where the last axis of the input is not `in`.
    """
    x = xp.asarray(input)
    if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        name = weight.name or "weight"
        layer = name.rpartition(".")[0] or "the layer"
        size = x.shape[-1] if x.ndim else None
        flat = " or flatten(x, 1)" if x.ndim > 2 and math.prod(n for n in x.shape[1:] if isinstance(n, int)) == weight.shape[1] else ""
        raise GraphError(
            f"linear needs equal inner sizes, got {_show(x)} and {name} {_show(weight)}", op=f"linear({x.name or 'x'}, {name})", at=user_loc(),
            why=f"{size} is the last axis of {x.name or 'the input'}, {weight.shape[1]} the in_features of {layer}" if x.ndim
                else "the input is a number, it has no last axis",
            fix=f"nn.Linear({size}, {weight.shape[0]}){flat} before {layer}" if x.ndim else f"an input of shape (..., {weight.shape[1]})")
    y = x @ weight.T
    return y if bias is None else y + bias


def layer_norm(input: Tensor, normalized_shape: int | Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """`(x - mean) / sqrt(var + eps) * weight + bias`, mean and (biased) variance over the last axes, whose sizes are `normalized_shape`.

    weight and bias have that shape, or are None. Raises GraphError where the input does not end in it. Source: Ba, Kiros, Hinton (2016).
    """
    x = xp.asarray(input)
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or x.shape[-len(shape):] != shape:
        raise GraphError(f"layer_norm over {shape} needs an input that ends in these sizes, got {_show(x)}", op=f"layer_norm({x.name or 'x'})", at=user_loc(),
                         fix=f"nn.LayerNorm({x.shape[-1] if x.ndim else 1})")
    for name, p in (("weight", weight), ("bias", bias)):
        if p is not None and p.shape != shape:
            raise GraphError(f"layer_norm: {name} should have shape {shape}, got {p.shape}", at=user_loc())
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    d = x - xp.mean(x, axis=axes, keepdims=True)
    y = d * xp.rsqrt(xp.mean(d * d, axis=axes, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The axes start_dim..end_dim made one."""
    return xp.flatten(xp.asarray(input), start_dim, end_dim)


def dropout(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """While training: each element is 0 with probability p, else divided by 1 - p. Otherwise the input itself.

    Draws from the default generator (`gx.manual_seed`). p = 1 gives zeros.
    """
    if not 0.0 <= p <= 1.0:
        raise GraphError(f"dropout: p is a probability in 0..1, got {p!r}", at=user_loc())
    x = xp.asarray(input)
    if not training or p == 0.0:
        return x
    if p == 1.0:
        return x * 0.0
    keep = xp.rand(*x.shape) >= p
    return xp.where(keep, x * (1.0 / (1.0 - p)), 0.0)


# ---- activations -----------------------------------------------------------------------------------------------------------------


def relu(input: Tensor) -> Tensor:
    """max(x, 0); the derivative at 0 is 0; NaN stays NaN."""
    return xp.relu(xp.asarray(input))


def leaky_relu(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else negative_slope * x."""
    x = xp.asarray(input)
    return xp.where(x > 0, x, x * negative_slope)


def elu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else alpha * (exp(x) - 1)."""
    x = xp.asarray(input)
    # the unused branch sees 0, never a large x: where(c, a, inf) has a NaN in its gradient
    return xp.where(x > 0, x, alpha * xp.expm1(xp.where(x > 0, 0.0, x)))


def tanh(input: Tensor) -> Tensor:
    return xp.tanh(xp.asarray(input))


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x)), without overflow or cancellation."""
    return xp.sigmoid(xp.asarray(input))


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x)) without overflow or cancellation."""
    return -xp.softplus(-xp.asarray(input))


def silu(input: Tensor) -> Tensor:
    """x * sigmoid(x)."""
    x = xp.asarray(input)
    return x * xp.sigmoid(x)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta * x)) / beta, and x itself where beta * x > threshold, as in PyTorch."""
    x = xp.asarray(input)
    z = x * beta
    return xp.where(z > threshold, x, xp.log1p(xp.exp(xp.where(z > threshold, 0.0, z))) / beta)


def gelu(input: Tensor, approximate: Literal["none", "tanh"] = "none") -> Tensor:
    """x * Φ(x), with Φ the normal distribution function; "tanh": x/2 * (1 + tanh(√(2/π) * (x + 0.044715 x³))),
    as x * sigmoid of twice that, which does not cancel."""
    x = xp.asarray(input)
    if approximate == "tanh":
        return x * xp.sigmoid(math.sqrt(8.0 / math.pi) * (x + 0.044715 * x * x * x))
    if approximate != "none":
        raise GraphError(f'gelu: approximate is "none" or "tanh", got {approximate!r}', at=user_loc())
    return xp.gelu(x)


def softmax(input: Tensor, dim: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along one axis, from which the maximum is subtracted first."""
    return xp.softmax(xp.asarray(input), axis=dim)


def log_softmax(input: Tensor, dim: int = -1) -> Tensor:
    """log(softmax(x)), without taking the logarithm of anything near 0."""
    return xp.log_softmax(xp.asarray(input), axis=dim)


def one_hot(tensor: Tensor, num_classes: int) -> Tensor:
    """1 where the last (new) axis counts to the entry, else 0: i64 of shape (..., num_classes). An entry outside 0..num_classes-1 raises."""
    return xp.one_hot(xp.check_index(tensor, num_classes), num_classes)


# ---- losses ----------------------------------------------------------------------------------------------------------------------


def mse_loss(input: Tensor, target: Tensor, reduction: Reduction = "mean") -> Tensor:
    """(input - target)², its mean or its sum. Raises GraphError unless the shapes are equal: broadcasting a loss is a mistake."""
    x, t = _same_shape("mse_loss", input, target)
    d = x - t
    return _reduce("mse_loss", d * d, reduction)


def l1_loss(input: Tensor, target: Tensor, reduction: Reduction = "mean") -> Tensor:
    """|input - target|, its mean or its sum; the derivative at 0 is 0."""
    x, t = _same_shape("l1_loss", input, target)
    return _reduce("l1_loss", xp.abs(x - t), reduction)


def nll_loss(input: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100, reduction: Reduction = "mean") -> Tensor:
    """-weight[target] * input[target] of log-probabilities, per sample; the mean divides by the sum of the weights.

    input is (N, C), (N, C, d1, ...) or (C,); target holds class indices, (N,), (N, d1, ...) or (). Samples whose target is ignore_index count as
    nothing. An index outside 0..C-1 raises GraphIndexError when the step runs, and no state has changed then.
    """
    x, t = xp.asarray(input), xp.asarray(target)
    axis = _class_axis("nll_loss", x)
    _check_indices("nll_loss", x, t, axis)
    return _nll("nll_loss", x, t, _weights("nll_loss", weight, x, axis), ignore_index, reduction, 0.0, axis)


def cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100, reduction: Reduction = "mean",
                  label_smoothing: float = 0.0) -> Tensor:
    """The cross-entropy of logits with class indices or class probabilities.

    input is (N, C), (N, C, d1, ...) or (C,); target is either whole numbers, of the shape of input without its class axis, or floats of the shape
    of input. `weight` (C,) scales each class. With indices the mean divides by the sum of the targets' weights, and samples whose target
    is ignore_index count as nothing; with probabilities it divides by the number of samples. `label_smoothing` mixes the target with 1/C.

    Raises GraphError where shapes or types do not fit. An index outside 0..C-1 raises GraphIndexError when the step runs, and no state has
    changed then. Numerics: log_softmax, so logits of any size are right.
    """
    x, t = xp.asarray(input), xp.asarray(target)
    if not 0.0 <= label_smoothing <= 1.0:
        raise GraphError(f"cross_entropy: label_smoothing is in 0..1, got {label_smoothing!r}", at=user_loc())
    axis = _class_axis("cross_entropy", x)
    if t.dtype.is_float and t.shape == x.shape:
        classes = x.shape[axis]
        q = t if label_smoothing == 0.0 else t * (1.0 - label_smoothing) + label_smoothing / classes
        w = _weights("cross_entropy", weight, x, axis)
        loss = -(xp.log_softmax(x, axis=axis) * (q if w is None else q * w)).sum(axis)
        return _reduce("cross_entropy", loss, reduction)
    _check_indices("cross_entropy", x, t, axis)
    return _nll("cross_entropy", xp.log_softmax(x, axis=axis), t, _weights("cross_entropy", weight, x, axis), ignore_index, reduction,
                label_smoothing, axis)


def _nll(name: str, logp: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: Reduction, smoothing: float,
         axis: int) -> Tensor:
    """The part that cross_entropy and nll_loss share. `weight` has the rank of logp.

    The entry of the target is picked by comparison with 0..C-1, not by a gather: the row is in cache anyhow, and the adjoint of a comparison
    needs no scatter.
    """
    classes = logp.shape[axis]
    if target.dtype.kind == "uint":                             # which ignore_index < 0 is not in
        target = target.astype("i64")
    counts = target != ignore_index
    label = xp.check_index(xp.where(counts, target, 0), classes)
    column = (classes,) + (1,) * (logp.ndim - axis - 1)
    hit = xp.expand_dims(label, axis) == xp.reshape(xp.arange(classes), column)
    hit = hit & xp.expand_dims(counts, axis)                    # an ignored sample has no entry at all
    loss = -(xp.where(hit, logp if weight is None else logp * weight, 0.0)).sum(axis)
    if smoothing:
        # (1 - ε) * nll + ε/C * (the loss against every class alike)
        every = xp.where(xp.expand_dims(counts, axis), logp if weight is None else logp * weight, 0.0)
        loss = (1.0 - smoothing) * loss - (smoothing / classes) * every.sum(axis)
    if reduction != "mean":
        return _reduce(name, loss, reduction)
    per_sample = counts.astype(logp.dtype) if weight is None else xp.where(hit, weight, 0.0).sum(axis)
    return loss.sum() / per_sample.sum()


# ---- what the losses check -------------------------------------------------------------------------------------------------------


def _reduce(name: str, loss: Tensor, reduction: Reduction) -> Tensor:
    match reduction:
        case "none": return loss
        case "mean": return loss.mean()
        case "sum": return loss.sum()
    raise GraphError(f'{name}: reduction is "none", "mean" or "sum", got {reduction!r}', at=user_loc())


def _same_shape(name: str, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    x, t = xp.asarray(input), xp.asarray(target)
    if x.shape != t.shape:
        raise GraphError(f"{name} needs equal shapes, got {_show(x)} and {_show(t)}", op=f"{name}(input, target)", at=user_loc(),
                         why="broadcasting would compare every row with every other", fix="reshape the target to the shape of the input")
    return x, t


def _class_axis(name: str, x: Tensor) -> int:
    if x.ndim == 0 or not x.dtype.is_float:
        raise GraphError(f"{name} wants floating logits of shape (N, C), (N, C, d1, ...) or (C,), got {_show(x)}", at=user_loc())
    return 0 if x.ndim == 1 else 1


def _weights(name: str, weight: Tensor | None, x: Tensor, axis: int) -> Tensor | None:
    """The class weights, shaped so that they broadcast along the class axis."""
    if weight is None:
        return None
    w, classes = xp.asarray(weight), x.shape[axis]
    if w.shape != (classes,) or not w.dtype.is_float:
        raise GraphError(f"{name}: weight needs one float for each of the {classes} classes, got {_show(w)}", at=user_loc())
    return xp.reshape(w.astype(x.dtype), (classes,) + (1,) * (x.ndim - axis - 1))


def _check_indices(name: str, x: Tensor, t: Tensor, axis: int) -> None:
    """Class indices: whole numbers, of the shape of x without its class axis."""
    want = x.shape[:axis] + x.shape[axis + 1:]
    title = {"cross_entropy": "CrossEntropyLoss", "nll_loss": "NLLLoss"}[name]
    either = f"class indices {_shape(want)}" + (f" or probabilities {_shape(x.shape)}" if name == "cross_entropy" else "")
    dtype = t.dtype.numpy.name
    if t.shape != want:
        hint = "an argmax over axis 1 of images (N, H, W) reduces over image rows, not over classes" if t.ndim > len(want) else None
        raise GraphError(
            f"target {_shape(t.shape)} {dtype} has {t.ndim} dims; {title} wants {either}" if t.ndim != len(want) else
            f"target {_shape(t.shape)} {dtype} does not fit the input {_shape(x.shape)}; {title} wants {either}",
            op=f"{name}({_show(x)}, {_show(t)})", at=user_loc(), why=hint,
            fix="one class index per sample, or one probability per class and sample")
    if not t.dtype.is_integer:
        raise GraphError(f"{title} got {dtype} labels; class indices are whole numbers", op=f"{name}({_show(x)}, {_show(t)})", at=user_loc(),
                         why=f"a float target means class probabilities, of shape {_shape(x.shape)}" if t.dtype.is_float else None,
                         fix="target.astype(gx.int64)")


def _show(t: Tensor) -> str:
    return f"{t.dtype}[{','.join(map(str, t.shape))}]"


def _shape(shape: tuple[object, ...]) -> str:
    return f"({','.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
