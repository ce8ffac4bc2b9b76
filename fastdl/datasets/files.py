"""Finds the files of data sets: in the folder FASTDL_DATA, then in the cache, else by a download that is checked."""

import hashlib
import os
import pathlib
import time

TIMEOUT = 15            # seconds without an answer
SLOWEST = 20_000        # bytes per second below which a download is given up


def cache():
    """The folder for downloads: FASTDL_HOME, else $XDG_CACHE_HOME/fastdl, else ~/.cache/fastdl; in it, `datasets`."""
    home = os.environ.get("FASTDL_HOME")
    if not home:
        home = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache"), "fastdl")
    return pathlib.Path(home) / "datasets"


def find(name, *, url, sha256, size):
    """Path of a data set's file.

    name     relative to FASTDL_DATA or to the cache, such as "ag_news/ag_news_7600.csv"
    url      where to download it from, https only
    sha256   of the download; another one is refused
    size     of the download in bytes; reading stops beyond it

    FileNotFoundError where the file is in neither folder and the download fails; nothing half-read is left behind.
    """
    given = os.environ.get("FASTDL_DATA")
    places = ([pathlib.Path(given)] if given else []) + [cache()]
    for folder in places:
        if (folder / name).is_file():
            return folder / name
    target = cache() / name
    try:
        download(url, target, sha256=sha256, size=size)
    except (OSError, ValueError) as error:
        looked = " and ".join(str(folder / name) for folder in places)
        raise FileNotFoundError(f"the data set's file {name} was not found\n  looked for  {looked}\n  download    {url}: {error}"
                                "\n  put the file there, or set FASTDL_DATA to a folder that holds it") from None
    return target


def download(url, target, *, sha256, size):
    """Fetch a file over https into `target`, which appears only once it is complete and has the right SHA-256."""
    import tempfile
    import urllib.request

    if not url.startswith("https://"):
        raise ValueError("only https is allowed")
    target.parent.mkdir(parents=True, exist_ok=True)
    request = urllib.request.Request(url, headers={"User-Agent": "fastdl"})
    handle, part = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as out, urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            if not response.geturl().startswith("https://"):
                raise ValueError(f"was redirected to {response.geturl()}, which is not https")
            digest, got, begin = hashlib.sha256(), 0, time.monotonic()
            while block := response.read(1 << 16):
                got += len(block)
                if got > size:
                    raise ValueError(f"is longer than the {size} bytes expected")
                if time.monotonic() - begin > TIMEOUT + size / SLOWEST:
                    raise TimeoutError(f"too slow: {got} of {size} bytes after {time.monotonic() - begin:.0f} s")
                digest.update(block)
                out.write(block)
        if digest.hexdigest() != sha256:
            raise ValueError(f"has SHA-256 {digest.hexdigest()}, expected {sha256}")
        os.replace(part, target)
    finally:
        if os.path.exists(part):
            os.unlink(part)


def split(*arrays, test_split, seed):
    """Each array cut in two by the same shuffled order: [(train, test), …]; the same seed gives the same cut."""
    import numpy as np

    if not 0 <= test_split < 1:
        raise ValueError(f"test_split must be at least 0 and below 1, not {test_split}")
    order = np.random.default_rng(seed).permutation(len(arrays[0]))
    n = len(order) - int(round(test_split * len(order)))
    return [(a[order[:n]], a[order[n:]]) for a in arrays]
