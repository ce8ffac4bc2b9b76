"""Children of a fork, several Python threads, and who may say how many threads there are."""

import os
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
import threadpoolctl

import fastdl
from fastdl import _core, layers


def python(code, **environment):
    """Run code in a Python of its own; what it printed."""
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)],
                         capture_output=True, text=True, timeout=120, env={**os.environ, **environment})
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


TRAIN = """
    import os, signal, hashlib, numpy as np, fastdl
    from fastdl import layers
    fastdl._core.set_grain(0)
    fastdl.config.set_num_threads(2)

    def train():
        fastdl.random.set_random_seed(1)
        model = fastdl.Sequential([layers.Dense(40, activation="relu", input_shape=(10,)), layers.Dense(1)])
        model.compile(optimizer="adam", loss="mse")
        x = np.random.default_rng(0).standard_normal((96, 10)).astype("float32")
        model.fit(x, x[:, :1], epochs=3, verbose=0)
        return hashlib.sha256(b"".join(np.asarray(w).tobytes() for w in model.get_weights())).hexdigest()

    signal.alarm(60)                                        # instead of hanging
"""


def test_a_child_of_fork_trains_and_so_does_its_parent():
    assert python(TRAIN + """
    before = train()
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        os.write(writable, train().encode())
        os._exit(0)
    os.close(writable)
    inside = os.read(readable, 1000).decode()
    print(os.waitpid(child, 0)[1], before == inside, before == train())
    """) == ["0", "True", "True"]


def test_workers_of_multiprocessing():
    assert python(TRAIN + """
    import multiprocessing
    before = train()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print({before} == set(pool.starmap(train, [()] * 4)))
    """) == ["True"]


def in_threads(n, work):
    """Results of work(i) in n threads that start at once; the first error is raised."""
    results, errors, gate = [None] * n, [], threading.Barrier(n)

    def run(i):
        try:
            gate.wait()
            results[i] = work(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(120)
        assert not t.is_alive()
    if errors:
        raise errors[0]
    return results


def test_kernels_in_two_threads_at_once(rng):
    fastdl.config.set_num_threads(2)
    _core.set_grain(0)
    a = [rng.standard_normal((150, 130)).astype("float32") for _ in range(4)]
    product = lambda i: [fastdl.ops.matmul(a[i], a[i].T).numpy().copy() for _ in range(20)]
    alone = [product(i)[0] for i in range(4)]
    for expected, found in zip(alone, in_threads(4, product)):
        assert all(np.array_equal(expected, f) for f in found)


def test_models_trained_in_two_threads_at_once(rng):
    x = rng.standard_normal((96, 10)).astype("float32")
    start = [rng.standard_normal(shape).astype("float32") for shape in ((10, 20), (20,), (20, 1), (1,))]

    def train(_):
        model = fastdl.Sequential([layers.Dense(20, activation="tanh", input_shape=(10,)), layers.Dense(1)])
        model.set_weights(start)
        model.compile(optimizer="adam", loss="mse")
        model.fit(x, x[:, :1], epochs=4, shuffle=False, verbose=0)
        return [np.array(w) for w in model.get_weights()]

    alone = train(0)
    for found in in_threads(3, train):
        assert all(np.array_equal(a, f) for a, f in zip(alone, found))


def test_one_model_asked_in_two_threads_at_once(rng):
    model = fastdl.Sequential([layers.Dense(20, activation="tanh", input_shape=(10,)), layers.Dense(3)])
    x = rng.standard_normal((4, 64, 10)).astype("float32")
    alone = [model.predict(part, verbose=0) for part in x]
    for i, found in enumerate(in_threads(4, lambda i: [model.predict(x[i], verbose=0) for _ in range(10)])):
        assert all(np.array_equal(alone[i], f) for f in found)


def test_numbers_of_threads_that_change_and_workers_that_sleep(rng):
    _core.set_grain(0)
    a = rng.standard_normal((150, 130)).astype("float32")
    product = lambda: fastdl.ops.matmul(a, a.T).numpy().copy()
    fastdl.config.set_num_threads(1)
    alone = product()
    for n in (2, 5, 1, 3, 8, 2):
        fastdl.config.set_num_threads(n)
        for pause in (0, 0.02):                             # seconds, after which workers are asleep
            time.sleep(pause)
            assert all(np.array_equal(alone, product()) for _ in range(50))


COUNT = "import fastdl; print(fastdl.config.get_num_threads())"


@pytest.mark.parametrize("n", ["1", "3"])
def test_omp_num_threads(n):
    assert python(COUNT, OMP_NUM_THREADS=n) == [n]


def test_affinity():
    assert python("import os; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])\n" + COUNT) == ["1"]


def test_threadpoolctl():
    with threadpoolctl.threadpool_limits(1, user_api="openmp"):
        assert fastdl.config.get_num_threads() == 1
    with threadpoolctl.threadpool_limits(3, user_api="openmp"):
        assert fastdl.config.get_num_threads() == 3


def test_own_number_comes_first():
    fastdl.config.set_num_threads(5)
    with threadpoolctl.threadpool_limits(1, user_api="openmp"):
        assert fastdl.config.get_num_threads() == 5
    fastdl.config.set_num_threads(None)
    assert fastdl.config.get_num_threads() <= len(os.sched_getaffinity(0))
