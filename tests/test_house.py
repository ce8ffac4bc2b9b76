"""The rules of the house, read from the sources: which floor may use which, who allocates, who threads, what has a twin."""

import ast
import importlib
import inspect
import os
import pathlib
import re
import subprocess
import sys

import pytest

import fastdl
from fastdl import _core
from fastdl import models  # noqa: F401  the ops of its fusions have twins, too
from fastdl import op as op_module

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE, CSRC = ROOT / "fastdl", ROOT / "csrc"
MODULES = sorted(PACKAGE.rglob("*.py"))
KERNELS = sorted((CSRC / "kernels").glob("*.c"))
SOURCES = [p for folder in ("fastdl", "csrc", "tests", "benchmarks") for p in sorted((ROOT / folder).rglob("*"))
           if p.suffix in (".py", ".pyx", ".pxi", ".pxd", ".c", ".h") and p.name not in ("_core.c", "_core.h")] + [ROOT / "setup.py"]   # Cython's
named = lambda paths: [pytest.param(p, id=str(p.relative_to(ROOT))) for p in paths]

# A module may use its own floor and those below it. The name is the first one inside the package.
FLOORS = [
    {"_core", "extras", "registry", "structure"},
    {"errors", "config", "check", "dtype_policies", "mixed_precision"},
    {"tensor"},
    {"op"},
    {"ops"},
    {"record", "random", "autograd", "initializers", "regularizers", "constraints", "losses", "metrics", "optimizers", "data"},
    {"layers", "activations"},
    {"models", "callbacks", "saving", "explain"},
    {"datasets"},
    {"examples", "cli", "__main__"},
]
FLOOR = {name: i for i, names in enumerate(FLOORS) for name in names}


def imported(path):
    """First names inside fastdl that a module imports."""
    here = path.relative_to(PACKAGE).with_suffix("").parts
    package = here[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == "fastdl"):
            base = package[:len(package) - node.level + 1] if node.level else ()
            rest = (node.module or "").split(".")[0 if node.level else 1:] if node.module else []
            full = [*base, *[r for r in rest if r]]
            yield from [full[0]] if full else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from [alias.name.split(".")[1] for alias in node.names if alias.name.startswith("fastdl.")]


@pytest.mark.parametrize("path", named(p for p in MODULES if p != PACKAGE / "__init__.py"))
def test_imports_go_downward(path):
    name = path.relative_to(PACKAGE).with_suffix("").parts[0]
    assert name in FLOOR, f"give {name} a floor in FLOORS"
    if name in ("examples", "cli", "__main__"):
        return                                              # they use the whole house through its door, `import fastdl`
    for used in imported(path):
        assert FLOOR.get(used, 0) <= FLOOR[name], f"{name} is below {used}"


HEADERS = {h.name for h in CSRC.glob("*.h")} - {"fastdl.h", "simd.h", "simd_lanes.h", "simd_math.h"}     # what kernels may include
INCLUDES = {"fastdl.h": set(), "simd.h": set(), "simd_lanes.h": set(), "simd_math.h": set(), "kernel.h": {"fastdl.h", "simd.h"},
            "tile.h": {"kernel.h"}, "gates.h": {"tile_bf16.h"}, "strided_winograd.h": {"winograd.h"},
            "launch.c": {"fastdl.h"}, "chain.c": {"fastdl.h"}, "memory.c": {"fastdl.h"}, "cpu.c": {"fastdl.h"}}


@pytest.mark.parametrize("path", named([*CSRC.glob("*.[ch]"), *KERNELS]))
def test_includes_go_downward(path):
    found = set(re.findall(r'#include "([^"]+)"', path.read_text()))
    if path.name == "kernels.c":
        assert found == {"kernel.h"}
    elif path.parent.name == "kernels":
        assert found <= HEADERS
    elif path.name != "simd.h":                             # simd.h is one header in three files
        assert found <= INCLUDES.get(path.name, {"kernel.h", "tile.h", "tile_bf16.h"})


@pytest.mark.parametrize("path", named(p for p in SOURCES if p.suffix in (".c", ".h", ".pyx")))
def test_openmp_only_in_launch(path):
    if path.name != "launch.c":
        assert not re.search(r"#\s*pragma omp|omp\.h|\bprange\b", path.read_text())


@pytest.mark.parametrize("path", named([*KERNELS, *sorted(CSRC.glob("*.h"))]))
def test_kernels_do_not_allocate(path):
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
    assert not re.search(r"\b(malloc|calloc|realloc|free|posix_memalign|aligned_alloc|alloca|mmap)\s*\(", text)


@pytest.mark.parametrize("path", named(SOURCES))
def test_file_is_short(path):
    assert len(path.read_text().splitlines()) <= 500


@pytest.mark.parametrize("path", named(SOURCES))
def test_words(path):
    assert path.stem not in ("utils", "helpers", "common", "misc", "base", "v2")
    if path != pathlib.Path(__file__).resolve():
        assert not re.search(r"march=native|ffast-math|Ofast\b|\bTODO\b|\bFIXME\b|\bXXX\b", path.read_text())


# ---- kernels ----

KERNEL = vars(op_module.kernels)                            # name -> Kernel


def test_every_kernel_has_one_line_in_the_table():
    compiler = os.environ.get("CC", "cc").split()
    text = subprocess.run([*compiler, "-E", "-P", "-DFD_ISA=isa", f"-I{CSRC}", CSRC / "kernels.c", *KERNELS], capture_output=True, text=True, check=True).stdout
    written = re.findall(r"} const fd_kernel fd_(\w+)_isa\s*=", text)
    listed = re.findall(r"&fd_(\w+)_isa\b", text)
    assert sorted(written) == sorted(listed) == sorted(KERNEL)


def test_every_kernel_has_a_twin():
    assert set(KERNEL) == set(_core.twins)


@pytest.mark.parametrize("name", sorted(KERNEL))
def test_twin_has_the_arguments_of_its_kernel(name):
    inspect.signature(_core.twins[name]).bind(*KERNEL[name].tensors, **dict.fromkeys(KERNEL[name].sizes))


def test_every_kernel_has_a_caller():
    called, trees = [], [ast.parse(path.read_text()) for path in MODULES]
    ops = [op_module._snake(n.name) for tree in trees for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]    # may inherit the call
    for tree in trees:
        called += [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "kernels"]
        computed = [node.args[1] for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "getattr"
                    and getattr(node.args[0], "id", "") == "kernels"]
        if computed:
            names = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str) and n.value.isidentifier()]
            called += [pattern(node, "|".join(names + ops)) for node in computed]
    dead = {name for name in KERNEL if not any(re.fullmatch(text, name) for text in called)}
    assert not dead


def pattern(node, names):
    """A regular expression for the names that an expression gives: texts as they are, else any name that the module knows."""
    if isinstance(node, ast.Constant):
        return re.escape(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(pattern(part, names) for part in node.values)
    if isinstance(node, ast.BinOp):
        return pattern(node.left, names) + pattern(node.right, names)
    return f"(?:{names}|\\w*32|\\w*64|uint8)?"


# ---- names ----

FAMILY = {"few_channels": "convolution", "winograd": "convolution", "bfloat16_winograd": "bfloat16_convolution",
          "bfloat16_winograd4x4": "bfloat16_convolution", "strided_winograd_gradients": "strided_winograd",
          "layer_normalization": "normalization"}    # a kernel file that belongs to another's family


def test_one_family_one_name():
    stems = lambda folder, pattern="*.py": {p.stem for p in (ROOT / folder).glob(pattern)}
    ops = stems("fastdl/ops")
    assert {FAMILY.get(k.stem, k.stem) for k in KERNELS} <= ops
    assert {s.removeprefix("test_") for s in stems("tests/ops", "test_*.py")} <= ops
    assert {s.removeprefix("test_") for s in stems("tests/layers", "test_*.py")} <= stems("fastdl/layers")


@pytest.mark.parametrize("path", named(MODULES))
def test_public_names_have_docstrings(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree) or not tree.body, "the module has none"
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            names = [getattr(getattr(d, "func", d), "id", "") for d in node.decorator_list]
            assert ast.get_docstring(node) or "twin" in names or getattr(module(path), node.name).__doc__, node.name


def module(path):
    """The module of a source file, as installed."""
    return importlib.import_module(".".join(("fastdl", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"))


PUBLIC = ["", "callbacks", "constraints", "data", "initializers", "layers", "losses", "metrics", "models", "optimizers", "random", "regularizers"]


@pytest.mark.parametrize("name", PUBLIC)
def test_public_methods_have_docstrings(name):
    found = importlib.import_module(f"fastdl.{name}".rstrip("."))
    for cls in {c for k, c in vars(found).items() if k[0] != "_" and inspect.isclass(c) and c.__module__.startswith("fastdl")}:
        for key, method in vars(cls).items():
            if key[0] != "_" and (inspect.isfunction(method) or isinstance(method, (classmethod, staticmethod))):
                assert any(getattr(vars(c).get(key), "__doc__", None) for c in cls.__mro__), f"{cls.__name__}.{key}"


# ---- what an import does ----

def python(code, **environment):
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                         env={**os.environ, **environment})
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


def test_import_is_light():
    heavy = ("matplotlib", "sklearn", "scipy", "pandas", "PIL", "tqdm", "safetensors", "h5py", "torch", "tensorflow", "keras", "jax",
             "urllib.request", "tempfile", "subprocess", "multiprocessing", "asyncio", "http.client", "unittest", "pytest")
    extra = python("import sys, numpy; before = set(sys.modules); import fastdl; print(*set(sys.modules) - before)")
    assert not set(heavy) & set(extra)


def test_import_leaves_the_arithmetic_alone():
    """Flush-to-zero or another rounding would change the results of everything else in the process."""
    code = ("import numpy as np\n"
            "def state():\n"
            "    tiny, one = np.full(64, 1e-40, 'float32'), np.ones(64, 'float32')\n"
            "    return (tiny * one).tobytes() + (one / np.float32(3)).tobytes() + (one + np.float32(2 ** -24)).tobytes()\n"
            "before = state()\nimport fastdl\n"
            "fastdl.ops.relu(fastdl.tensor(np.ones((300, 300), 'float32')))\n"
            "print(before == state(), np.float32(1e-40) * np.float32(1) > 0)")
    assert python(code) == ["True", "True"]


def test_no_random_state_of_others_is_touched():
    code = ("import random, numpy as np\nnp.random.seed(1); random.seed(1)\na = np.random.get_state()[1].tobytes(), random.getstate()\n"
            "import fastdl\nprint(a == (np.random.get_state()[1].tobytes(), random.getstate()))")
    assert python(code) == ["True"]
