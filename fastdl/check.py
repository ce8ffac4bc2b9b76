"""FASTDL_CHECK=1: after every kernel its NumPy twin runs in float64, and a result that differs names the kernel."""

import numpy as np

from . import _core


class CheckError(AssertionError):
    """A kernel and its twin disagree."""


def start():
    """Check every launch from now on; recorded steps run eagerly."""
    _core.set_checker(launch)


def stop():
    """Check no more."""
    _core.set_checker(None)


def _wide(a, made):
    """A copy for the twin, floats as float64; arrays that share their start share the copy."""
    if a is None:
        return None
    key = a.__array_interface__["data"][0], a.size
    if key not in made or a.size == 0:
        copy = a.astype("float64" if a.dtype.kind == "f" else a.dtype)
        made[key] = np.ascontiguousarray(copy.reshape(a.shape))
    return made[key].reshape(a.shape)


def launch(kernel, arrays, sizes):
    """Launch the kernel, then its twin on copies, and compare all outputs."""
    made = {}
    copies = [_wide(a, made) for a in arrays]
    failed = None
    try:
        kernel.launch(arrays, sizes)
    except Exception as error:
        failed = error
    with np.errstate(all="ignore"):
        item = _core.twins[kernel.name](*copies, **sizes)
    if failed is not None:
        if item is None:
            raise CheckError(f"kernel {kernel.name} found bad data where its twin found none: {failed}")
        raise failed
    if item is not None:
        raise CheckError(f"kernel {kernel.name} found no bad data, its twin found item {item}")
    for i, (a, wanted) in enumerate(zip(arrays, copies)):
        if a is not None and kernel.is_output(i):
            twin = _core.twins[kernel.name]
            if getattr(twin, "pairs", False) and a.dtype == "uint32":
                a, wanted = ((x.reshape(-1).view("uint16").astype("uint32") << 16).view("float32") for x in (a, wanted))
            compare(f"kernel {kernel.name}, output {kernel.tensors[i]}, sizes {sizes}", a, wanted, getattr(twin, "error", 2e-6))


def compare(what, got, wanted, error=2e-6):
    """CheckError unless equal: exactly where the wanted values are whole numbers, else to float32 accuracy: to `error` of the largest.

    Whole numbers come of inputs that are small whole numbers: then every partial sum is exact in float32, whatever the
    order, and one wrong index or missing tail shows.
    """
    if got.dtype.kind != "f":
        wrong = got != wanted
    else:
        poisoned = np.isnan(got) & np.isnan(wanted)
        finite = np.isfinite(wanted)
        scale = np.abs(wanted[finite]).max(initial=0)
        if scale < 1 << 24 and (wanted[finite] == np.rint(wanted[finite])).all():
            wrong = (got != wanted) & ~poisoned
        else:
            with np.errstate(all="ignore"):
                wrong = ~(np.abs(got - wanted) <= 1e-5 * np.abs(wanted) + error * scale + 1e-37) & ~poisoned & (got != wanted)
            wrong &= ~(~finite & (got.astype("float32") == wanted.astype("float32")))
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise CheckError(f"{what}: {int(wrong.sum())} of {wrong.size} values differ; the first at {at} is {got[at]!r}, wanted {wanted[at]!r}")
