"""Builds fastdl._core: the C sources once, the kernels once for each instruction set."""
import concurrent.futures
import glob
import os
import platform
import re

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

FLAGS = ["-O3", "-std=gnu11", "-Wall", "-Wextra", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off",
         "-fwrapv", "-fvisibility=hidden",                    # whole numbers wrap around, as in NumPy
         "-fno-asynchronous-unwind-tables"]                   # nothing is thrown through C
# Python's door as -O2 makes it is a few percent faster than as -O3 does, and smaller.
DOOR_FLAGS = ["-O2", *(f for f in FLAGS if f not in ("-O3", "-Wextra")), "-Wno-unused-function", "-fopenmp"]
# Of kernels: no loop twice for steps of 1, no function twice for a constant, a twentieth of the machine code and no faster.
KERNEL_FLAGS = ["-fno-version-loops-for-strides", "-fno-ipa-cp-clone"]
X86 = platform.machine() in ("x86_64", "AMD64")
ISAS = {
    "baseline": ["-march=x86-64-v2"],
    "avx2": ["-march=x86-64-v3"],
    "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    "avx512_bf16": ["-march=x86-64-v4", "-mprefer-vector-width=512", "-mavx512bf16"],
} if X86 else {"baseline": []}
REST = {"avx512_bf16": "avx512"}              # a set that has only the kernels with bfloat16 products of its own: whose are the others
if "FASTDL_BUILD_ISAS" in os.environ:         # fewer, for a quick rebuild while a kernel is written
    chosen = os.environ["FASTDL_BUILD_ISAS"].split()
    ISAS = {isa: flags for isa, flags in ISAS.items() if isa in chosen or isa in map(REST.get, chosen)}

KERNELS = ["csrc/kernels.c", "csrc/tile.c", "csrc/tile_bf16.c", *sorted(glob.glob("csrc/kernels/*.c"))]
HEADERS = sorted(glob.glob("csrc/*.h"))


def included(source):
    """The file and all headers that it includes, however far."""
    with open(source) as file:
        headers = re.findall(r'#include "([^"]+)"', file.read())
    return {source}.union(*(included(f"csrc/{header}") for header in headers))


def own(isa, source):
    """Whether an instruction set has an object of the file to itself."""
    with open(source) as file:
        return isa not in REST or source == "csrc/kernels.c" or '#include "tile_bf16.h"' in file.read()


class BuildKernels(build_ext):
    """build_ext, with an object of each of KERNELS per instruction set that has its own; those newer than what they include are kept."""

    def build_extension(self, extension):
        def built(isa, source):
            folder = os.path.join(self.build_temp, isa)
            done = os.path.join(folder, os.path.splitext(source)[0] + ".o")
            needed = max(map(os.path.getmtime, ["setup.py", *included(source)]))
            if self.force or not os.path.exists(done) or os.path.getmtime(done) < needed:
                self.compiler.compile([source], output_dir=folder, include_dirs=["csrc"],
                                      macros=[("FD_ISA", isa), *([("FD_REST", REST[isa])] if isa in REST else [])],
                                      extra_postargs=FLAGS + KERNEL_FLAGS + ISAS[isa])
            return done

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            wanted = [(isa, source) for source in KERNELS for isa in ISAS if own(isa, source)]
            extension.extra_objects = list(pool.map(built, *zip(*wanted)))
        chosen = os.path.join(self.build_temp, "isas")
        if not os.path.exists(chosen) or open(chosen).read() != " ".join(ISAS):
            with open(chosen, "w") as file:
                file.write(" ".join(ISAS))
        extension.depends = [*extension.depends, *extension.extra_objects, chosen]
        super().build_extension(extension)


setup(
    ext_modules=cythonize([Extension(
        "fastdl._core",
        ["fastdl/_core.pyx", "csrc/launch.c", "csrc/chain.c", "csrc/memory.c", "csrc/cpu.c"],
        include_dirs=["csrc", numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION"), *((f"FD_{isa.upper()}", "1") for isa in ISAS)],
        extra_compile_args=DOOR_FLAGS,
        extra_link_args=["-fopenmp", "-Wl,-s"],
        depends=[*KERNELS, *HEADERS, *glob.glob("fastdl/*.pxi")],
    )]),
    cmdclass={"build_ext": BuildKernels},
)
