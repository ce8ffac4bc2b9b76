"""What is installed: the package and one compiled file that exports one name, and nothing that only some processors run."""

import importlib.metadata
import pathlib
import re
import subprocess
import tomllib
import zlib

import fastdl
from fastdl import _core

ROOT = pathlib.Path(__file__).resolve().parents[1]
BINARY = pathlib.Path(_core.__file__)
PACKAGE = pathlib.Path(fastdl.__file__).parent


def installed():
    """Files of the installed distribution; those of the folder where it runs from its sources."""
    try:
        found = importlib.metadata.files("fastdl") or []
        files = [pathlib.Path(f.locate()) for f in found if "__pycache__" not in f.parts and f.parts[0] != ".."]
        if any(f.name == "__init__.py" and f.samefile(PACKAGE / "__init__.py") for f in files if f.is_file()):
            return files
    except importlib.metadata.PackageNotFoundError:
        pass
    return [f for f in PACKAGE.rglob("*") if f.is_file() and "__pycache__" not in f.parts and f.suffix in (".py", ".so")]


def test_holds_the_package_and_nothing_else():
    files = installed()
    assert {f.suffix for f in files if f.is_relative_to(PACKAGE)} == {".py", ".so"}
    others = [f for f in files if not f.is_relative_to(PACKAGE)]
    assert all(".dist-info" in str(f) or ".egg-info" in str(f) for f in others), others
    assert sum(len(zlib.compress(f.read_bytes())) for f in files) < 2.5e6          # as in the wheel; four instruction sets
    assert sum(f.stat().st_size for f in files) < 7.5e6


def test_every_folder_of_the_package_is_installed():
    written = {f.relative_to(ROOT / "fastdl") for f in (ROOT / "fastdl").rglob("*.py")}
    assert written == {f.relative_to(PACKAGE) for f in installed() if f.suffix == ".py" and f.is_relative_to(PACKAGE)}


def test_needs_little():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {re.match(r"[\w-]+", d)[0] for d in project["dependencies"]} == {"numpy", "tqdm", "safetensors"}


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_exports_one_name():
    defined = [line.split()[-1] for line in output("nm", "-D", "--defined-only", str(BINARY)).splitlines()]
    assert [name for name in defined if name not in ("_init", "_fini")] == ["PyInit__core"]


def test_wide_instructions_stand_apart():
    """The objects built for AVX are linked last: before the first instruction in their encoding lies all the rest of the code,
    and after it none of the door's."""
    entry = int(output("nm", "-D", "--defined-only", str(BINARY)).split()[0], 16)
    wide, addresses = re.compile(r"^\s*([0-9a-f]+):\s+v[a-z0-9]+\s+.*%[xyz]mm"), []
    for line in output("objdump", "-d", "--no-show-raw-insn", "-j", ".text", str(BINARY)).splitlines():
        if match := wide.match(line):
            addresses.append(int(match[1], 16))
    text = re.search(r"\.text\s+([0-9a-f]+)\s+([0-9a-f]+)", output("objdump", "-h", str(BINARY)))
    size, start = int(text[1], 16), int(text[2], 16)
    assert addresses and entry < addresses[0], "the door is built with instructions that some processors lack"
    assert addresses[0] - start > 20_000, "what every processor runs comes first"
    assert max(b - a for a, b in zip(addresses, addresses[1:])) < size / 10, "code for every processor lies between the wide kernels"
