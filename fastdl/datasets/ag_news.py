"""News items in four classes: AG's corpus, as arranged by Zhang, Zhao and LeCun 2015; for non-commercial research."""

import csv

import numpy as np

from .files import find, split

FILE = dict(
    name="ag_news/ag_news_7600.csv", size=1_857_427,
    url="https://raw.githubusercontent.com/mhjabreel/CharCnn_Keras/master/data/ag_news_csv/test.csv",
    sha256="521465c2428ed7f02f8d6db6ffdd4b5447c1c701962353eb2c40d548c3c85699")
class_names = ("World", "Sports", "Business", "Sci/Tech")


def load_data(path=None, test_split=0.2, seed=113):
    """(x_train, y_train), (x_test, y_test): 7600 news items as texts, and their classes.

    path     of a CSV file of class (1 to 4), title, description; without it, the file is found in FASTDL_DATA or in the
             cache, or downloaded (2 MB)
    x_train  array of texts, title and description in one; x_test likewise, `test_split` of all, drawn by `seed`
    y_train  int32, 0 to 3: an index into class_names; y_test likewise
    """
    path = path or find(**FILE)
    texts, labels = [], []
    with open(path, encoding="utf-8", newline="") as file:
        for line, row in enumerate(csv.reader(file), 1):
            if len(row) != 3 or row[0] not in ("1", "2", "3", "4"):
                raise ValueError(f"ag_news: {path}, item {line}\n  should be a class from 1 to 4, title, description\n  is {row!r:.100}")
            texts.append(f"{row[1]} {row[2]}".replace("\\", " "))
            labels.append(int(row[0]) - 1)
    x, y = split(np.array(texts, object), np.array(labels, "int32"), test_split=test_split, seed=seed)
    return (x[0], y[0]), (x[1], y[1])
