"""Time of every op's benchmark cases, forward and backward, and of optimisers' updates, replayed in C: microseconds, GFLOP/s, GB/s,
fraction of the roof.

    python benchmarks/ops.py [linear conv] [--isa avx2] [--threads 1] [--seconds 0.2] [--kernels]

Operations are those of the kernels launched; bytes are those of the op's inputs and outputs (backward: inputs, d_outputs and
d_inputs). The roof is the least time that both allow: operations at the peak of multiply-adds, bytes at the bandwidth of memory.
The peak is that of products of one register tile in the first cache, on one thread, times the threads; the bandwidth that of a
copy of 128 MB on all threads. An op whose data stay in the caches can pass 100 %.
"""

import argparse
import inspect
import math
import statistics
import time

import fastdl
import numpy as np
from fastdl import _core
from fastdl.op import flops_of, ops_by_name
from fastdl.record import Program
from fastdl.tensor import Parameter, Tensor, backward, kernels


def seconds_of(program, budget):
    """(least, median) seconds of a replay, from chunks of at least half a millisecond that take `budget` together."""
    program.run()
    begin = time.perf_counter()
    program.run()
    once = max(time.perf_counter() - begin, 1e-7)
    n = max(1, int(5e-4 / once))
    chunks = []
    for _ in range(max(5, min(200, int(budget / (n * once))))):
        begin = time.perf_counter()
        program.run(n)
        chunks.append((time.perf_counter() - begin) / n)
    return min(chunks), statistics.median(chunks)


def recorded(step):
    """(program, result) of the kernels that `step` launches."""
    program = Program()
    with program.recorded():
        result = step()
    return program, result


def peak(budget):
    """Operations per second of products that fit one register tile, 64 of them on the same numbers; of one thread, times threads."""
    best, threads = 0, fastdl.config.get_num_threads()
    fastdl.config.set_num_threads(1)
    for rows in (6, 12, 14):
        depth, columns, batch = 256, 32, 64
        out, left, right = _core.empty((batch, rows, columns)), _core.empty((rows, depth)), _core.empty((depth, columns))
        left[...] = right[...] = 0.5
        program, _ = recorded(lambda: kernels.matrix_product(
            out, left, right, None, None, None, outer=batch, inner=1, rows=rows, columns=columns, depth=depth, split=0, left_outer=0, left_inner=0,
            left_row=1, left_depth=rows, right_outer=0, right_inner=0, right_depth=columns, right_column=1,
            right_panel=0, activation=0, accumulate=0))
        best = max(best, 2 * batch * rows * depth * columns / seconds_of(program, budget)[0])
    fastdl.config.set_num_threads(threads)
    return best * threads


def bandwidth(budget):
    """Bytes per second read and written by copies of arrays that no cache holds."""
    x, y = (_core.empty((1 << 25,)) for _ in range(2))
    x[...] = 1
    program, _ = recorded(lambda: kernels.copy(y, x, size=x.size))
    return 2 * x.nbytes / seconds_of(program, budget)[0]


def arguments(op, case):
    """The case's inputs as tensors in the order of the op's shape rule, and its options."""
    rng, rest = np.random.default_rng(0), dict(case.arguments)
    parameters = inspect.signature(op.forward if op.views else op.shape).parameters.values()
    names = [p.name for p in parameters if p.name != "self"]
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        names = [n for n in rest if n not in op.options]
    tensors = []
    for name in names:
        value = rest.pop(name, None)
        if isinstance(value, tuple):
            value = rng.standard_normal(value, "float32")
        if value is not None:
            own = _core.empty(value.shape, value.dtype)
            own[...] = value
            value = Tensor(own, own.dtype.kind == "f")
        tensors.append(value)
    return tensors, rest


def flops(program):
    """Floating-point operations of a program's kernels."""
    return sum(flops_of[kernel](**sizes) for kernel, _, _, sizes in program.about if kernel in flops_of)


def passes(op, case):
    """(pass, program, bytes of what it takes and gives) for the forward and, where there is one, the backward pass."""
    tensors, options = arguments(op, case)
    program, made = recorded(lambda: op.apply(*tensors, **options))
    outs = made if isinstance(made, list) else [made]
    nbytes = sum(t.array.nbytes for t in (*tensors, *outs) if t is not None)
    yield "forward", program, nbytes
    seeds, targets = [t for t in outs if t.requires_grad], [t for t in tensors if t is not None and t.requires_grad]
    if seeds and targets:
        ones = [np.ones(t.shape, t.dtype) for t in seeds]
        program, d = recorded(lambda: backward(seeds, ones, targets=targets))
        yield "backward", program, nbytes + sum(a.nbytes for a in d if a is not None)


def updates():
    """(optimiser, program, bytes read and written) for an update of 10 million numbers."""
    for optimizer in (fastdl.optimizers.SGD(), fastdl.optimizers.SGD(momentum=0.9), fastdl.optimizers.RMSprop(), fastdl.optimizers.Adam(),
                      fastdl.optimizers.AdamW(clipnorm=1.0)):
        parameter, gradient = Parameter(_core.empty((10_000_000,))), _core.empty((10_000_000,))
        parameter.array[...] = gradient[...] = 0.01
        optimizer.apply([gradient], [parameter])
        program, _ = recorded(lambda: optimizer.apply([gradient], [parameter]))
        slots = optimizer.slots()
        yield f"{optimizer.name} of {' and '.join(slots) or 'no slots'}", program, gradient.nbytes * (3 + 2 * len(slots))


def show(name, way, program, nbytes, roof, budget, each):
    """Print the line of one pass, and with `each` those of its kernels."""
    least, median = seconds_of(program, budget)
    work = flops(program)
    bound = max(work / roof[0], nbytes / roof[1])
    print(f"{name:51.51} {way:8} {len(program):5d} {1e6 * least:10.1f} {1e6 * median:10.1f} "
          f"{f'{work / least / 1e9:8.1f}' if work else '        '} {nbytes / least / 1e9:7.1f} {bound / least:6.0%}", flush=True)
    if each:
        for _, kernel, n, s, gflops, gbytes in program.profile(max(1, math.ceil(0.01 / median))).rows:
            print(f"    {kernel:56} {n:8d} {'':10} {1e6 * s:10.1f} {f'{gflops:8.1f}' if gflops else '        '} {gbytes:7.1f}")


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only ops whose names contain one of these")
    parser.add_argument("--isa", help="instruction set; the best that the processor has")
    parser.add_argument("--threads", type=int, default=0, help="number of threads; all that the process may use")
    parser.add_argument("--seconds", type=float, default=0.2, help="per figure")
    parser.add_argument("--kernels", action="store_true", help="a line for each kernel, too")
    options = parser.parse_args()
    fastdl.config.set_num_threads(options.threads)
    with fastdl.isa(options.isa):
        roof = peak(options.seconds), bandwidth(options.seconds)
        print(f"{fastdl.isa()}, {fastdl.config.get_num_threads()} threads; peak {roof[0] / 1e9:.0f} GFLOP/s (products of one tile), "
              f"memory {roof[1] / 1e9:.1f} GB/s (copy)\n")
        print(f"{'op':51} {'pass':8} {'calls':>5} {'least us':>10} {'median us':>10} {'GFLOP/s':>8} {'GB/s':>7} {'roof':>6}")
        for op in ops_by_name.values():
            if options.names and not any(n.lower() in (op.name, op.__name__.lower()) or n.lower() in op.name for n in options.names):
                continue
            for case in op.bench:
                about = ", ".join(f"{k}={'x'.join(map(str, v)) if isinstance(v, tuple) else getattr(v, 'shape', v)}"
                                  for k, v in case.arguments.items())
                for way, program, nbytes in passes(op, case):
                    if len(program):
                        show(f"{op.name} {about}", way, program, nbytes, roof, options.seconds, options.kernels)
        for name, program, nbytes in updates():
            if not options.names or any(n.lower() in name.lower() for n in options.names):
                show(name, "update", program, nbytes, roof, options.seconds, options.kernels)


if __name__ == "__main__":
    main()
