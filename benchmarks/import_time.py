"""What `import graphc` costs beyond NumPy's own import, in a fresh process with bytecode at hand: the budget is 60 ms.

    python benchmarks/import_time.py
"""
from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile

CODE = """
import time
start = time.process_time()
import numpy
middle = time.process_time()
import graphc
print(middle - start, time.process_time() - middle)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-X", f"pycache_prefix={cache}", "-c", CODE]
        runs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() for _ in range(12)][1:]     # the first writes the bytecode
    numpy, graphc = (statistics.median(float(r[k]) * 1e3 for r in runs) for k in (0, 1))
    print(f"numpy {numpy:.1f} ms, graphc {graphc:.1f} ms more (processor time, median of {len(runs)})")


if __name__ == "__main__":
    main()
