"""Small ops in Python, one by one, not recorded: microseconds a call, beside PyTorch's where it is installed.

    python benchmarks/eager.py [--seconds 20] [--threads 1]

Each op is timed without gradients, with them, and with its backward. Rounds are interleaved; the least of each is printed. A transpose
is a copy in fastdl, a view in PyTorch.
"""

import argparse
import time

import fastdl
import numpy as np
from fastdl import ops

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    torch = None

SHAPES = {"a": (32, 64), "b": (32, 64), "kernel": (64, 64), "bias": (64,), "row": (64,), "tiny": (4, 4),
          "images": (1, 8, 8, 4), "window": (3, 3, 4, 8), "channels": (8,)}

FASTDL = {
    "add": lambda t: t.a + t.b, "add, 4x4": lambda t: t.tiny + t.tiny, "add a row": lambda t: t.a + t.row, "add 1": lambda t: t.a + 1.0,
    "multiply": lambda t: t.a * t.b, "relu": lambda t: ops.relu(t.a), "exp": lambda t: ops.exp(t.a), "tanh": lambda t: ops.tanh(t.a),
    "softmax": lambda t: ops.softmax(t.a), "sum": lambda t: ops.sum(t.a), "sum of rows": lambda t: ops.sum(t.a, axis=1),
    "mean": lambda t: ops.mean(t.a), "reshape": lambda t: ops.reshape(t.a, (64, 32)), "transpose": lambda t: ops.transpose(t.a),
    "a row of it": lambda t: t.a[1], "concatenate": lambda t: ops.concatenate([t.a, t.b], axis=1),
    "matmul": lambda t: ops.matmul(t.a, t.kernel), "matmul, 4x4": lambda t: ops.matmul(t.tiny, t.tiny),
    "linear": lambda t: ops.linear(t.a, t.kernel, t.bias),
    "layer norm": lambda t: ops.layer_normalization(t.a, t.row, t.bias),
    "conv2d": lambda t: ops.conv2d(t.images, t.window, t.channels, padding="same"),
    "four ops": lambda t: ops.sum(ops.relu(ops.linear(t.a, t.kernel, t.bias)) * t.b)}

TORCH = {
    "relu": lambda t: torch.relu(t.a), "exp": lambda t: torch.exp(t.a), "tanh": lambda t: torch.tanh(t.a),
    "softmax": lambda t: torch.softmax(t.a, -1), "sum": lambda t: torch.sum(t.a), "sum of rows": lambda t: torch.sum(t.a, 1),
    "mean": lambda t: torch.mean(t.a), "reshape": lambda t: t.a.reshape(64, 32), "transpose": lambda t: t.a.t(),
    "concatenate": lambda t: torch.cat([t.a, t.b], 1), "matmul": lambda t: torch.matmul(t.a, t.kernel),
    "matmul, 4x4": lambda t: torch.matmul(t.tiny, t.tiny), "linear": lambda t: F.linear(t.a, t.kernel, t.bias),
    "layer norm": lambda t: F.layer_norm(t.a, (64,), t.row, t.bias),
    "conv2d": lambda t: F.conv2d(t.images, t.window, t.channels, padding="same"),
    "four ops": lambda t: torch.sum(torch.relu(F.linear(t.a, t.kernel, t.bias)) * t.b)} if torch else {}


class Tensors:
    """The arrays of SHAPES as tensors of one library."""

    def __init__(self, make):
        draw = np.random.default_rng(0)
        for name, shape in SHAPES.items():
            setattr(self, name, make(name, draw.standard_normal(shape).astype("float32")))


def for_torch(name, array):
    """PyTorch's layout of the images and the window of a convolution."""
    if name == "images":
        return torch.tensor(array.transpose(0, 3, 1, 2)).to(memory_format=torch.channels_last).requires_grad_()
    return torch.tensor(array.transpose(3, 2, 0, 1).copy() if name == "window" else array, requires_grad=True)


def calls(function, tensors, no_grad, backward):
    """Functions of a number of calls: without gradients, with them, with backward."""
    def without(n):
        with no_grad():
            for _ in range(n):
                function(tensors)

    def tracing(n):
        for _ in range(n):
            function(tensors)

    def there_and_back(n):
        for _ in range(n):
            backward(function(tensors))
    return without, tracing, there_and_back


def main():
    """Print a line an op."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seconds", type=float, default=20)
    options.add_argument("--threads", type=int, default=1)
    options = options.parse_args()
    fastdl.config.set_num_threads(options.threads)
    own = Tensors(lambda _, a: fastdl.tensor(a, requires_grad=True))
    seeds, jobs = {}, {}

    def seed(y, make):
        key = type(y), tuple(y.shape)
        if key not in seeds:
            seeds[key] = make(tuple(y.shape))
        return seeds[key]

    for name, function in FASTDL.items():
        jobs[name, "fastdl"] = calls(function, own, fastdl.no_grad, lambda y: y.backward(seed(y, lambda s: np.ones(s, "float32"))))
    if torch:
        torch.set_num_threads(options.threads)
        other = Tensors(for_torch)
        for name, function in FASTDL.items():
            jobs[name, "torch"] = calls(TORCH.get(name, function), other, torch.no_grad, lambda y: y.backward(seed(y, torch.ones)))
    best, end = {}, time.perf_counter() + options.seconds
    while not best or time.perf_counter() < end:
        for key, kinds in jobs.items():
            for kind, run in enumerate(kinds):
                run(3)
                begin = time.perf_counter()
                run(100)
                best[key, kind] = min(best.get((key, kind), 1.0), (time.perf_counter() - begin) / 100)
    print(f"{'microseconds':14}" + "".join(f"{kind:>24}" for kind in ("no gradient", "with gradient", "forward and backward")))
    for name in FASTDL:
        line = f"{name:14}"
        for kind in range(3):
            mine, others = (best.get(((name, library), kind)) for library in ("fastdl", "torch"))
            line += f"{1e6 * mine:16.2f}" + (f"{1e6 * others:8.2f}" if others else " " * 8)
        print(line)


if __name__ == "__main__":
    main()
