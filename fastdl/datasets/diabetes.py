"""Progress of diabetes after one year: Efron, Hastie, Johnstone and Tibshirani 2004; comes with scikit-learn."""

import numpy as np

from ..extras import need
from .files import split

feature_names = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")


def load_data(test_split=0.2, seed=113):
    """(x_train, y_train), (x_test, y_test): ten measurements of each patient, and how far the disease went a year later.

    x_train  (354, 10) float32, in the units of feature_names; x_test likewise, `test_split` of the 442, drawn by `seed`
    y_train  (354) float32, 25 to 346; y_test likewise
    """
    found = need("sklearn.datasets", "examples").load_diabetes(scaled=False)
    x, y = split(found.data.astype(np.float32), found.target.astype(np.float32), test_split=test_split, seed=seed)
    return (x[0], y[0]), (x[1], y[1])
