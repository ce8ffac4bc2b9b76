"""What fastdl costs before it computes: import, installed size, start to first prediction, and a small op in eager mode.

    python benchmarks/footprint.py          # with the Python that fastdl is installed in
"""

import importlib.metadata
import os
import re
import statistics
import subprocess
import sys
import time

FIRST = """
import numpy as np, fastdl
from fastdl import layers
model = fastdl.Sequential([fastdl.Input((10,)), layers.Dense(64, activation="relu"), layers.Dense(64, activation="relu"), layers.Dense(1)])
model.predict(np.ones((1, 10), "float32"), verbose=0)
"""
IMPORT = "import numpy, time; t = time.perf_counter(); import fastdl; print(time.perf_counter() - t)"
SMALL = """
import time, fastdl, numpy as np
a, b = (fastdl.tensor(np.ones((32, 64), "float32"), requires_grad=True) for _ in "ab")
best = 1
for _ in range(50):
    t = time.perf_counter()
    for _ in range(1000): a + b
    best = min(best, (time.perf_counter() - t) / 1000)
print(best)
"""


def run(code):
    """(seconds of the process, what it printed)."""
    begin = time.perf_counter()
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                         env=dict(os.environ, PYTHONSAFEPATH="1"))                 # the installed package, not the folder
    return time.perf_counter() - begin, out.stdout.strip()


def installed(name, seen):
    """Bytes of a distribution and of all that it requires, without compiled Python."""
    name = re.sub(r"[-_.]+", "-", name).lower()
    if name in seen:
        return 0
    seen.add(name)
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return 0
    paths = [f.locate() for f in found.files or [] if not str(f).endswith(".pyc")]
    size = sum(os.stat(p).st_size for p in paths if os.path.exists(p))
    needs = [re.match(r"[\w.-]+", r)[0] for r in found.requires or [] if "extra ==" not in r]
    return size + sum(installed(n, seen) for n in needs)


def main():
    """Print a line a figure; each is a median of fresh processes."""
    median = lambda code, pick, n=7: statistics.median(pick(run(code)) for _ in range(n + 1))
    print(f"import fastdl beyond numpy       {1e3 * median(IMPORT, lambda r: float(r[1])):8.1f} ms")
    print(f"start to first prediction        {1e3 * median(FIRST, lambda r: r[0]):8.1f} ms   (import numpy alone: {1e3 * median('import numpy', lambda r: r[0]):.0f} ms)")
    print(f"add of 32x64 with its node       {1e6 * median(SMALL, lambda r: float(r[1]), 2):8.2f} us")
    seen = set()
    size = installed("fastdl", seen)
    print(f"installed, with what it requires {size / 1e6:8.1f} MB   ({', '.join(sorted(seen))})" if size else "fastdl is not installed in this Python: no size")


if __name__ == "__main__":
    main()
