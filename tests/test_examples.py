"""Each example runs from its first line to its last with warnings as errors, in an empty folder, quickly; what it claims it asserts itself."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("[0-9][0-9]_*.py"))
SAYS = {                                                # a line that a reader can check by hand
    "01_digits": "unseen digits are read rightly",
    "02_regression_with_a_plot": "(by hand: 1.9 x + 0.9)",
    "03_xor_by_hand_and_by_graphc": "before training: the gradients differ by at most",
    "04_custom_training_loop": "traces: 1, compilations: 1",
    "05_looking_inside": "%d_loss_d_weight: f32[2,3] = contract(",
    "06_gradient_of_a_gradient": "tanh'''( 0.0) = -2.000000   formula -2.000000",
    "07_formulas": "the force is zero at r = 1.12246   formula 2^(1/6) = 1.12246",
    "08_loops_that_end": "whose slope by the 1 is 0.534111   formula 0.534111",
    "09_gaussian_process": "7 turns of Newton's method",
    "10_markov_chains": "should be 1 and 2.25",
    "11_fit_an_equation": "turns of Levenberg and Marquardt",
    "12_sparse_newton": "Bratu's problem on 1000 points: 3 turns",
    "13_private_training": "ε  2.95",
}


def run(path: Path, folder: Path, *flags: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "MPLBACKEND": "Agg"}
    done = subprocess.run([sys.executable, *flags, str(path)], cwd=folder, env=env, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_example(path: Path, tmp_path: Path) -> None:
    said = run(path, tmp_path, "-W", "error")
    assert SAYS.get(path.stem, "") in said
    assert {p.name for p in tmp_path.iterdir()} <= {"out"}, "an example writes under out/"


def test_every_example_is_known_and_short() -> None:
    assert set(SAYS) <= {p.stem for p in EXAMPLES}
    assert [p.name[:2] for p in EXAMPLES] == [f"{k:02}" for k in range(1, len(EXAMPLES) + 1)], "numbered without a gap"
    for path in EXAMPLES:
        assert len(path.read_text(encoding="utf-8").splitlines()) < 80, path.name


def test_the_plot_without_matplotlib(tmp_path: Path) -> None:
    """The text plot, also where matplotlib is installed."""
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not here')\n")
    example = tmp_path / "example.py"                   # Python looks beside the script first
    example.write_bytes((ROOT / "examples" / "02_regression_with_a_plot.py").read_bytes())
    plot = [line for line in run(example, tmp_path).splitlines() if set(line) <= set(" .#")]
    assert sum(line.count("#") for line in plot) > 40
    assert not (tmp_path / "out").exists()
