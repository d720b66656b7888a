"""`graphc train`: a multilayer perceptron learns to tell images apart; the model and a picture of its step are what remains."""
from __future__ import annotations

import importlib.util
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from .. import data, driver, nn, optim
from ..core.dtype import f32
from ..core.errors import GraphError
from ..core.record import dataclass
from ..io import save
from ..trace.generator import default_generator, manual_seed
from ..train import Progress, progress


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of the command."""

    data: str | None
    epochs: int
    batch: int
    lr: float
    hidden: tuple[int, ...]
    seed: int
    out: str
    backend: str
    quiet: bool


def train(settings: Settings) -> int:
    """Train, tell the accuracy, and write the model and the picture."""
    out = Path(settings.out)
    out.mkdir(parents=True, exist_ok=True)              # before the work: a folder that cannot be written is better found now
    if not os.access(out, os.W_OK):
        raise PermissionError(13, "the folder cannot be written", str(out))
    images = data.digits() if settings.data is None else data.mnist(settings.data)
    if settings.batch > len(images.x_train):
        raise GraphError(f"a batch of {settings.batch} images is more than the {len(images.x_train)} there are", fix="a smaller --batch")
    manual_seed(settings.seed)
    classes = int(max(images.y_train.max(), images.y_test.max())) + 1
    net = mlp(math.prod(images.x_train.shape[1:]), settings.hidden, classes)
    optimizer, criterion = optim.Adam(net.parameters(), lr=settings.lr), nn.CrossEntropyLoss()

    def train_step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    def evaluate(x: Any, y: Any) -> Any:
        return (net(x).argmax(1) == y).astype(f32).mean()

    step, evaluated = (driver.compile(f, backend=settings.backend) for f in (train_step, evaluate))
    loader = data.DataLoader((images.x_train, images.y_train), batch_size=settings.batch, shuffle=True, seed=settings.seed, drop_last=True)
    bar: Progress[None] = progress(total=settings.epochs * len(loader), desc="train", disable=True if settings.quiet else None)
    steps, seconds, accuracy, loss = 0, 0.0, 0.0, float("nan")
    for epoch in range(settings.epochs):
        losses, start = [], time.perf_counter()
        for x, y in loader:
            losses.append(step(x, y))
            if steps == 0:
                start = time.perf_counter()             # the first call compiles
            steps += 1
            bar.update()
        seconds += time.perf_counter() - start
        loss, accuracy = float(np.mean(losses)), float(evaluated(images.x_test, images.y_test))
        bar.set_postfix(loss=loss, accuracy=accuracy)
        if not settings.quiet and not sys.stderr.isatty():
            print(f"epoch {epoch + 1:>{len(str(settings.epochs))}}   loss {loss:.4f}   test accuracy {accuracy:.2%}")
    bar.close()
    speed = f", {(steps - 1) / seconds:,.0f} steps/s" if steps > 1 else ""
    print(f"{accuracy:.2%} of {len(images.y_test):,} test images are read rightly   loss {loss:.4f}   {steps:,} steps{speed}")

    kind = "npz" if importlib.util.find_spec("safetensors") is None else "safetensors"
    print(f"wrote {save(out / f'model.{kind}', module=net, optimizer=optimizer, generator=default_generator(), step=steps, loader=loader)}")
    print(f"wrote {step.lowered.draw(str(out / 'step.svg'))}")
    return 0


def mlp(inputs: int, hidden: tuple[int, ...], classes: int) -> nn.Sequential:
    """Flatten, linear layers with ReLU between them, and one score for each class."""
    layers: list[nn.Module] = [nn.Flatten()]
    for a, b in zip((inputs, *hidden), hidden):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear((inputs, *hidden)[-1], classes))
