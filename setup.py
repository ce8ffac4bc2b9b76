"""Builds fastdl._core: the C sources once, csrc/kernels.c once for each instruction set."""
import concurrent.futures
import os
import platform

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

FLAGS = ["-O3", "-std=gnu11", "-Wall", "-Wextra", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off",
         "-fvisibility=hidden"]
X86 = platform.machine() in ("x86_64", "AMD64")
ISAS = {
    "baseline": ["-march=x86-64-v2"],
    "avx2": ["-march=x86-64-v3"],
    "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    "avx512_bf16": ["-march=x86-64-v4", "-mprefer-vector-width=512", "-mavx512bf16"],
} if X86 else {"baseline": []}
if "FASTDL_BUILD_ISAS" in os.environ:         # fewer, for a quick rebuild while a kernel is written
    ISAS = {isa: ISAS[isa] for isa in os.environ["FASTDL_BUILD_ISAS"].split()}


class BuildKernels(build_ext):
    """build_ext, with one object of csrc/kernels.c per instruction set."""

    def build_extension(self, extension):
        def compiled(isa):
            return self.compiler.compile(
                ["csrc/kernels.c"], output_dir=os.path.join(self.build_temp, isa), include_dirs=["csrc"],
                macros=[("FD_TABLE", f"fd_kernels_{isa}")], extra_postargs=FLAGS + ISAS[isa], depends=extension.depends)

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            extension.extra_objects = sum(pool.map(compiled, ISAS), [])
        super().build_extension(extension)


def headers_and_kernels():
    return [os.path.join(folder, f) for folder, _, files in os.walk("csrc") for f in files]


setup(
    ext_modules=cythonize([Extension(
        "fastdl._core",
        ["fastdl/_core.pyx", "csrc/launch.c", "csrc/memory.c", "csrc/cpu.c"],
        include_dirs=["csrc", numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION"), *((f"FD_{isa.upper()}", "1") for isa in ISAS)],
        extra_compile_args=[f for f in FLAGS if f != "-Wextra"] + ["-Wno-unused-function", "-fopenmp"],
        extra_link_args=["-fopenmp", "-Wl,-s"],
        depends=[*headers_and_kernels(), "fastdl/_program.pxi"],
    )]),
    cmdclass={"build_ext": BuildKernels},
)
