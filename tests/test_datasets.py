"""Loaders of data sets: where they look, what they refuse, and the shapes they promise."""

import hashlib
import io
import urllib.error
import urllib.request

import numpy as np
import pytest

from fastdl.data.text import Vocabulary
from fastdl.datasets import ag_news, diabetes, digits, files, mnist

CONTENT = b"the data set"
FILE = dict(name="some/file.txt", url="https://data.example/file.txt", size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())


class Response(io.BytesIO):
    url = FILE["url"]

    def geturl(self):
        return self.url


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTDL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FASTDL_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def network(monkeypatch):
    """What a download is answered with; `asked` counts."""
    class Network:
        asked, answer = 0, CONTENT

    def urlopen(request, timeout):
        Network.asked += 1
        if isinstance(Network.answer, Exception):
            raise Network.answer
        return Network.answer if isinstance(Network.answer, Response) else Response(Network.answer)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return Network


def test_own_folder_comes_first_then_the_cache(folders, network):
    for where, text in (("home/datasets/some", b"cached"), ("data/some", b"own")):
        (folders / where).mkdir(parents=True)
        (folders / where / "file.txt").write_bytes(text)
        assert files.find(**FILE).read_bytes() == text
    assert network.asked == 0


def test_downloads_once(folders, network):
    assert files.find(**FILE).read_bytes() == CONTENT
    assert files.find(**FILE) == folders / "home/datasets/some/file.txt"
    assert network.asked == 1


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("FASTDL_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert files.cache() == tmp_path / "fastdl" / "datasets"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.cache() == tmp_path / ".cache" / "fastdl" / "datasets"


def redirected():
    response = Response(CONTENT)
    response.url = "http://data.example/file.txt"
    return response


@pytest.mark.parametrize("answer, reason", [
    (CONTENT[::-1], "SHA-256"), (CONTENT + b"!", "longer than the 12 bytes"), (CONTENT[:-1], "SHA-256"),
    (urllib.error.URLError("no network"), "no network"), (redirected(), "not https"),
])
def test_a_download_that_is_refused_leaves_nothing(folders, network, answer, reason):
    network.answer = answer
    with pytest.raises(FileNotFoundError, match=reason) as caught:
        files.find(**FILE)
    assert "FASTDL_DATA" in str(caught.value) and FILE["url"] in str(caught.value)
    assert not [path for path in folders.rglob("*") if path.is_file()]


def test_only_https(folders, network):
    with pytest.raises(FileNotFoundError, match="only https"):
        files.find(**{**FILE, "url": "http://data.example/file.txt"})
    assert network.asked == 0


def test_mnist_checks_the_layout(tmp_path):
    path = tmp_path / "mnist.npz"
    arrays = {name: np.zeros(shape, np.uint8) for name, shape in mnist.ARRAYS.items()}
    np.savez_compressed(path, **arrays)
    (x_train, y_train), (x_test, y_test) = mnist.load_data(path)
    assert x_train.shape == (60000, 28, 28) and y_test.shape == (10000,)
    np.savez_compressed(path, x_train=arrays["x_train"])
    with pytest.raises(ValueError, match="y_train should have the shape"):
        mnist.load_data(path)
    path.write_bytes(b"not an archive")
    with pytest.raises(ValueError, match="cannot be read"):
        mnist.load_data(path)


def test_ag_news_reads_the_file(tmp_path):
    path = tmp_path / "news.csv"
    path.write_text('"3","Oil, up","Prices\\rise ""again"""\n"1","Vote","Polls open"\n')
    (texts, labels), (none, _) = ag_news.load_data(path, test_split=0)
    assert sorted(zip(labels.tolist(), texts)) == [(0, "Vote Polls open"), (2, 'Oil, up Prices rise "again"')]
    assert len(none) == 0 and ag_news.class_names[2] == "Business"
    path.write_text('"3","no description"\n')
    with pytest.raises(ValueError, match="item 1"):
        ag_news.load_data(path)


@pytest.mark.parametrize("data, shape, dtype", [(digits, (8, 8), "uint8"), (diabetes, (10,), "float32")])
def test_bundled(data, shape, dtype):
    (x_train, y_train), (x_test, y_test) = data.load_data()
    assert x_train.shape[1:] == shape and x_train.dtype == dtype
    assert len(x_train) == len(y_train) and len(x_test) == len(y_test)
    assert len(x_test) == round(0.2 * (len(x_train) + len(x_test)))
    assert np.array_equal(data.load_data()[1][0], x_test)
    assert not np.array_equal(data.load_data(seed=1)[1][0], x_test)


def test_vocabulary(tmp_path):
    texts = ["The cat, the dog.", "A cat isn't a dog", "the end"]
    vocabulary = Vocabulary.build(texts, max_tokens=6)
    assert vocabulary.tokens == ["", "[UNK]", "the", "a", "cat", "dog"]
    encoded = vocabulary.encode(texts, 4)
    assert encoded.dtype == np.int32
    assert encoded.tolist() == [[2, 4, 2, 5], [3, 4, 1, 3], [2, 1, 0, 0]]
    assert vocabulary.decode(encoded[2]) == "the [UNK]"
    vocabulary.save(tmp_path / "words.json")
    assert Vocabulary.load(tmp_path / "words.json").tokens == vocabulary.tokens
    with pytest.raises(ValueError, match="first two"):
        Vocabulary(["a", "b"])
