"""Training steps and fit of fastdl and of other libraries, interleaved in one run.

    python benchmarks/rivals.py                                    # whatever is installed in this Python
    python benchmarks/rivals.py --python torch=/envs/torch/bin/python keras=/envs/tf/bin/python jax=/envs/jax/bin/python
    python benchmarks/rivals.py --harness FOLDER --venvs FOLDER    # drive an outside harness instead (see README.md)

Each library is a process of its own. All are timed in turns (A B C A B C …), and while one is timed the others are stopped, so that no
spinning thread of theirs takes a core. A round's figure is the median of up to ten chunks; the table shows the median of the rounds, and the
ratio of the fastest other library to fastdl, paired by round.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import networks  # noqa: E402
from goals import GOALS, STEPS  # noqa: E402

PEERS = ["fastdl", "torch", "keras", "keras:graph", "keras:xla", "jax"]
HARNESS_PEERS = ["fastdl", "torch", "torch:cl", "torch:shim", "torch:compile", "tf", "tf:xla", "tf:keras", "jax", "ort", "openvino", "numpy"]
MALLOC = {"MALLOC_TRIM_THRESHOLD_": "4000000000", "MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TOP_PAD_": "67108864"}


# ---- in the process of a library ----

def serve(name, variant, threads):
    """Answer commands, one JSON line each: set up a workload, time it."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)                                           # what the library prints
    if threads < len(os.sched_getaffinity(0)):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    spec = importlib.util.spec_from_file_location(f"peer_{name}", HERE / "peers" / f"{name}.py")
    peer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer)
    say = lambda **fields: answers.write(json.dumps(fields) + "\n")
    say(versions=peer.init(threads, variant))
    step = sync = once = None
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if "setup" in command:
                step = sync = None
                w = networks.WORKLOADS[command["setup"]]
                step, sync, _ = peer.make(w)
                sync, once = sync or (lambda: None), w["kind"] == "fit"
                say(seconds=None if once else warm_up(step, sync))
            else:
                say(**timed(step, sync, command["n"], once))
        except NotImplementedError:
            say(lacks=True)
        except Exception as error:
            say(error=f"{type(error).__name__}: {error}"[:300])


def warm_up(step, sync, seconds=0.5):
    """Run for a while, at least five times; seconds per step."""
    begin = last = time.perf_counter()
    n = 0
    while n < 5 or time.perf_counter() - begin < seconds:
        last = time.perf_counter()
        step()
        sync()
        n += 1
    return time.perf_counter() - last


def timed(step, sync, n, once):
    """Milliseconds per step: the median of up to ten chunks. A fit is one step, and its sync (the test) is not timed."""
    found, size = [], max(1, n // 10)
    if not once:
        warm_up(step, sync, 0.05)                           # the threads spread over the cores again
    for _ in range(1 if once else 10):
        begin = time.perf_counter()
        for _ in range(size):
            result = step()
        if not once:
            sync()
        found.append((time.perf_counter() - begin) / size * 1e3)
    sync()
    return {"ms": statistics.median(found), "accuracy": (result or {}).get("acc") if once else None}


# ---- the driver ----

class Peer:
    """A library in its process, stopped except while it is asked."""

    def __init__(self, label, python, options):
        self.label = label
        name, _, variant = label.partition(":")
        environment = {**os.environ, **MALLOC, "OMP_NUM_THREADS": str(options.threads), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        if name != "fastdl":
            environment.pop("PYTHONPATH", None)
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [python, str(pathlib.Path(__file__).resolve()), "--serve", name, variant, str(options.threads)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.log, env=environment, text=True, bufsize=1, start_new_session=True)
        self.versions = self.answer().get("versions")
        if self.versions:
            self.signal(signal.SIGSTOP)

    def signal(self, number):
        os.killpg(self.process.pid, number)

    def answer(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": "the process died"}

    def ask(self, **command):
        self.signal(signal.SIGCONT)
        self.process.stdin.write(json.dumps(command) + "\n")
        found = self.answer()
        if self.process.poll() is None:
            self.signal(signal.SIGSTOP)
        return found

    def quit(self):
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.process.stdin.close()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.signal(signal.SIGKILL)


def started(options):
    """The libraries that can be imported, each in its Python."""
    pythons = dict(p.split("=", 1) for p in options.python)
    module = {"keras": "tensorflow, keras"}
    peers = []
    for label in options.peers or PEERS:
        name = label.partition(":")[0]
        python = pythons.get(name, sys.executable)
        found = subprocess.run([python, "-c", f"import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, {module.get(name, name)!r}.split(', '))))"],
                               cwd=HERE.parent if name == "fastdl" else HERE)
        if found.returncode and name != "fastdl":
            print(f"# {label}: not installed in {python}")
            continue
        peer = Peer(label, python, options)
        if peer.versions:
            peers.append(peer)
        else:
            print(f"# {label}: did not start")
    return peers


def compare(options):
    """Time the workloads on every library; {"versions", "workloads": {name: {"peers": {label: {"rounds", "ms"}}}}}."""
    peers = started(options)
    out = {"versions": {k: v for p in peers for k, v in p.versions.items()}, "workloads": {}}
    try:
        for name in options.workloads:
            found = out["workloads"][name] = {"peers": {}}
            once, ready = networks.WORKLOADS[name]["kind"] == "fit", []
            for peer in peers:
                answer = peer.ask(setup=name)
                if "seconds" in answer:
                    ready.append((peer, 1 if once else max(10, int(options.seconds / answer["seconds"]))))
                    found["peers"][peer.label] = {"rounds": [], "accuracy": []}
                elif "error" in answer:
                    print(f"# {name}: {peer.label}: {answer['error']}")
            for _ in range(min(options.rounds, 3) if once else options.rounds):
                for peer, n in ready:
                    answer = peer.ask(n=n)
                    if "ms" in answer:
                        found["peers"][peer.label]["rounds"].append(answer["ms"])
                        found["peers"][peer.label]["accuracy"].append(answer["accuracy"])
                    else:
                        print(f"# {name}: {peer.label}: {answer.get('error')}")
            for label in [k for k, v in found["peers"].items() if not v["rounds"]]:
                del found["peers"][label]
            for values in found["peers"].values():
                values["ms"] = statistics.median(values["rounds"])
            print(f"# {name}: " + "  ".join(f"{k} {v['ms']:.4g} ms" for k, v in found["peers"].items()), flush=True)
    finally:
        for peer in peers:
            peer.quit()
    return out


def harness(options, folder, venvs):
    """The same through an outside harness, in a copy that has our own adapter."""
    with tempfile.TemporaryDirectory() as work:
        copy = pathlib.Path(work) / "harness"
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("__pycache__", "results"))
        for path in [copy, *copy.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        shutil.copy(HERE / "peers" / "fastdl.py", copy / "peers" / "fastdl.py")
        result = pathlib.Path(options.json or copy / "out.json").resolve()
        environment = {**os.environ, "BENCH_PY_FASTDL": sys.executable}
        package = importlib.util.find_spec("fastdl").submodule_search_locations[0]
        subprocess.run([sys.executable, str(copy / "compare.py"), "--workloads", *options.workloads, "--peers", *(options.peers or HARNESS_PEERS),
                        "--rounds", str(options.rounds), "--seconds", str(options.seconds), "--threads", str(options.threads), "--venvs", str(venvs),
                        "--cache", str(pathlib.Path(work) / "cache"), "--fastdl-path", str(pathlib.Path(package).parent), "--json", str(result)],
                       check=True, env=environment)
        return json.loads(result.read_text())


def limits():
    """What this machine can do, in GFLOP/s and GB/s."""
    import ops
    return {"peak": ops.peak(0.2) / 1e9, "bandwidth": ops.bandwidth(0.2) / 1e9}


def table(out):
    """The result as Markdown tables; the ratio is how many times faster fastdl is than the fastest other, paired by round.

    Other libraries in reduced precision (":bf16") are listed but are not the fastest. The floor is the operations at the machine's
    peak, or the bytes at its bandwidth; Winograd convolutions do fewer operations than are counted and can pass it.
    """
    print(f"\n{', '.join(f'{k} {v}' for k, v in out['versions'].items())}")
    if "peak" in out:
        print(f"floor: {out['peak']:.0f} GFLOP/s, {out['bandwidth']:.1f} GB/s, measured in this run")
    ratios = {}
    for title, kind in ("training step", "train"), ("inference", "infer"), ("kernel", "kernel"), ("epoch", "fit"):
        rows = {k: v for k, v in out["workloads"].items() if v.get("kind", networks.WORKLOADS.get(k, {}).get("kind")) == kind}
        if not rows:
            continue
        print(f"\n| {title} | fastdl, ms | of the floor | fastest other, ms | which | ratio | goal | the rest, ms |\n|---|---|---|---|---|---|---|---|")
        for name, found in rows.items():
            peers = {k: v for k, v in found["peers"].items() if v.get("rounds")}
            others = sorted((k for k in peers if not k.startswith("fastdl") and not k.endswith(":bf16")), key=lambda k: peers[k]["ms"])
            ours, best = peers.get("fastdl"), others[0] if others else None
            ratio = statistics.median(b / a for a, b in zip(ours["rounds"], peers[best]["rounds"])) if ours and best else None
            ratios[name] = ratio
            rest = ", ".join(f"{k} {number(peers[k]['ms'])}" for k in sorted(peers, key=lambda k: peers[k]["ms"]) if k not in ("fastdl", best))
            floor = 1e3 * max(found.get("flops", 0) / 1e9 / out["peak"], found.get("bytes", 0) / 1e9 / out["bandwidth"]) if "peak" in out else 0
            share = f"{floor / ours['ms']:.0%}" if ours and floor else ""
            print(f"| {name} | {number(ours and ours['ms'])} | {share} | "
                  f"{number(best and peers[best]['ms'])} | {best or ''} | {f'{ratio:.2f}' if ratio else ''} | {GOALS.get(name, '')} | {rest} |")
            accuracies = {k: v["accuracy"][-1] for k, v in peers.items() if v.get("accuracy") and v["accuracy"][-1]}
            if accuracies:
                print(f"| its test accuracy | | | | | | | {', '.join(f'{k} {a:.4f}' for k, a in accuracies.items())} |")
    steps = [ratios[n] for n in STEPS if ratios.get(n)]
    if steps:
        print(f"\ngeometric mean of the {len(steps)} training steps {statistics.geometric_mean(steps):.2f}, the least {min(steps):.2f}; "
              f"goals reached: {sum(r >= GOALS[n] for n, r in ratios.items() if r and n in GOALS)} of {sum(bool(r) and n in GOALS for n, r in ratios.items())}")


def number(ms):
    """Milliseconds to four digits; nothing for None."""
    return f"{ms:.4g}" if ms else ""


def main():
    """Parse, run, print, write JSON."""
    if sys.argv[1:2] == ["--serve"]:
        return serve(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", default=list(networks.WORKLOADS))
    parser.add_argument("--peers", nargs="+", help=f"name or name:variant; {' '.join(PEERS)}, and fastdl:avx2 or fastdl:eager")
    parser.add_argument("--python", nargs="+", default=[], help="name=path of the Python that has it")
    parser.add_argument("--harness", default=os.environ.get("FASTDL_RIVALS"), help="folder of an outside harness (compare.py)")
    parser.add_argument("--venvs", default=os.environ.get("BENCH_VENVS"), help="its virtual environments")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="per library and round")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", help="file for the result")
    options = parser.parse_args()
    unknown = [w for w in options.workloads if w not in networks.WORKLOADS]
    if unknown and not options.harness and not options.venvs:
        parser.error(f"no workload {', '.join(unknown)}; known are {', '.join(networks.WORKLOADS)}, and with --harness its own")
    if "MNIST_NPZ" not in os.environ:
        from fastdl.datasets import files, mnist
        try:
            os.environ["MNIST_NPZ"] = str(files.find(**mnist.FILE))
        except FileNotFoundError as error:
            print(f"# without fit: {error}")
            options.workloads = [w for w in options.workloads if not w.startswith("fit")]
    beside = HERE.parents[1] / "shared" / "rivals"
    folder = options.harness or (beside if options.venvs and beside.is_dir() else None)
    if folder and not options.venvs:
        parser.error("--harness needs --venvs (or BENCH_VENVS)")
    out = harness(options, pathlib.Path(folder), options.venvs) if folder else compare(options)
    out.update(limits())
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(out, indent=1) + "\n")
    table(out)


if __name__ == "__main__":
    main()
