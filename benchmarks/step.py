"""Time of a training step of the three networks: in Python (eager), replayed in C, and on the NumPy twins.

    python benchmarks/step.py [--profile] [--seconds 1] [--isa avx2]

`in fit` is a step as fit runs it: the batch is gathered in C, and many steps are replayed without coming back to Python.
"""

import argparse
import pathlib
import statistics
import sys
import time

import fastdl
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import networks  # noqa: E402

BATCHES = 64                                                # of an epoch of the fit that is timed


def median(step, seconds):
    """Microseconds per call: the median of ten chunks that take `seconds` together."""
    for _ in range(3):
        step()
    begin = time.perf_counter()
    step()
    n = max(1, int(seconds / 10 / (time.perf_counter() - begin)))
    chunks = []
    for _ in range(10 if n > 1 else 3):
        begin = time.perf_counter()
        for _ in range(n):
            step()
        chunks.append((time.perf_counter() - begin) / n)
    return 1e6 * statistics.median(chunks)


def on_batch(w, seconds, **how):
    """(microseconds of train_on_batch, the model)."""
    model = networks.build(w, fastdl)
    networks.compile_(model, w, fastdl, **how)
    data, turn = networks.batches(w), iter(range(10 ** 9))
    return median(lambda: model.train_on_batch(*data[next(turn) & 3]), seconds), model


def in_fit(w, seconds):
    """(microseconds of a step inside fit, the model): many epochs against few, so that what happens once falls out."""
    model = networks.build(w, fastdl)
    networks.compile_(model, w, fastdl)
    x, y = (np.concatenate(parts) for parts in zip(*networks.batches(w, BATCHES)))

    def epochs(n):
        begin = time.perf_counter()
        model.fit(x, y, batch_size=w["batch"], epochs=n, verbose=0)
        return time.perf_counter() - begin

    epochs(2)
    few = min(epochs(2) for _ in range(3))
    n = max(2, min(2000, int(2 * seconds / few)))
    return 1e6 * (min(epochs(2 + n) for _ in range(3)) - few) / (n * BATCHES)


def main():
    """Print a table, and with --profile where the time of a replayed step goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1, help="per figure")
    parser.add_argument("--profile", action="store_true", help="time by layer and kernel, too")
    parser.add_argument("--isa", help="instruction set; the best that the processor has")
    options = parser.parse_args()
    with fastdl.isa(options.isa):
        print(f"fastdl {fastdl.__version__}, {fastdl.isa()}, {fastdl.config.get_num_threads()} threads; microseconds a step, batch 32\n")
        print("| network | calls | in fit | train_on_batch, replayed | train_on_batch, eager | NumPy twins |\n|---|---|---|---|---|---|")
        profiles = []
        for name, w in networks.WORKLOADS.items():
            if w["kind"] != "train":
                continue
            replayed, model = on_batch(w, options.seconds)
            program = model.programs()[0]
            eager, _ = on_batch(w, options.seconds, run_eagerly=True)
            fit = in_fit(w, options.seconds)
            with fastdl.isa("numpy"):
                twins, _ = on_batch(w, options.seconds, run_eagerly=True)
            print(f"| {name} | {len(program)} | {fit:.1f} | {replayed:.1f} | {eager:.1f} | {twins:.0f} |", flush=True)
            profiles.append((name, program))
        if options.profile:
            for name, program in profiles:
                print(f"\n{name}\n{program.profile(200)}")


if __name__ == "__main__":
    main()
