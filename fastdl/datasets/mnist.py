"""Handwritten digits: LeCun, Cortes and Burges, CC BY-SA 3.0."""

import zipfile

import numpy as np

from .files import find

FILE = dict(
    name="mnist.npz", url="https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz", size=11_490_434,
    sha256="731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1")
ARRAYS = {"x_train": (60000, 28, 28), "y_train": (60000,), "x_test": (10000, 28, 28), "y_test": (10000,)}


def load_data(path=None):
    """(x_train, y_train), (x_test, y_test): grey images of the digits 0 to 9, and which digit each shows.

    path      of an mnist.npz; without it, the file is found in FASTDL_DATA or in the cache, or downloaded (11 MB)
    x_train   (60000, 28, 28) uint8, 0 is background; x_test (10000, 28, 28)
    y_train   (60000) uint8; y_test (10000)
    """
    path = path or find(**FILE)
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file}
    except (ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"mnist: {path} cannot be read\n  it should be an .npz file of arrays: {error}") from None
    for name, shape in ARRAYS.items():
        if name not in found or found[name].shape != shape:
            raise ValueError(f"mnist: {path} is not MNIST\n  {name} should have the shape {shape}"
                             f"\n  the file has {', '.join(f'{n} {a.shape}' for n, a in found.items())}")
    return (found["x_train"], found["y_train"]), (found["x_test"], found["y_test"])
