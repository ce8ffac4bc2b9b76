"""Small handwritten digits that come with scikit-learn: Alpaydin and Kaynak 1998."""

import numpy as np

from ..extras import need
from .files import split


def load_data(test_split=0.2, seed=113):
    """(x_train, y_train), (x_test, y_test): grey images of the digits 0 to 9, and which digit each shows.

    x_train  (1438, 8, 8) uint8, 0 (background) to 16; x_test likewise, `test_split` of the 1797, drawn by `seed`
    y_train  (1438) int32; y_test likewise
    """
    found = need("sklearn.datasets", "examples").load_digits()
    x, y = split(found.images.astype(np.uint8), found.target.astype(np.int32), test_split=test_split, seed=seed)
    return (x[0], y[0]), (x[1], y[1])
