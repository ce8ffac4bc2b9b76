"""The examples run, each as a user runs it, on little data."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import fastdl
from fastdl import extras

NEWS = {1: "minister election border treaty", 2: "team goal season coach", 3: "oil shares profit market", 4: "software chip planet server"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of data with a small news file, and no network."""
    (tmp_path / "data" / "ag_news").mkdir(parents=True)
    draw = np.random.default_rng(0)
    with open(tmp_path / "data" / "ag_news" / "ag_news_7600.csv", "w") as file:
        for label in draw.integers(1, 5, 400):
            words = draw.choice(NEWS[int(label)].split(), 6)
            file.write(f'"{label}","{words[0]}","{" ".join(words[1:])} and the rest of it"\n')
    monkeypatch.setenv("FASTDL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FASTDL_HOME", str(tmp_path / "home"))
    for scheme in "http", "https":
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
    return tmp_path


def run(name, folder, *options):
    """What the example printed."""
    found = subprocess.run([sys.executable, "-m", f"fastdl.examples.{name}",
                            "--output", str(folder / "out"), *options], capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr[-2000:]
    return found.stdout


def written(folder, text, name):
    """The picture and the model, which the example names."""
    picture, model = folder / "out" / f"{name}.png", folder / "out" / f"{name}.safetensors"
    assert str(picture) in text and str(model) in text
    assert picture.read_bytes()[:4] == b"\x89PNG" and picture.stat().st_size > 10_000
    return fastdl.saving.load_model(model)


def number(text, before):
    """The number that follows some words."""
    return float(text.split(before)[1].split()[0].strip(";,%").replace(",", ""))


def test_image_classification_without_mnist(folder):
    text = run("image_classification", folder, "--epochs", "8")
    assert "mnist.npz was not found" in text and "scikit-learn's digits, 1438 training" in text
    assert "conv2d" in text and "Epoch 8/8" in text and "accuracy" in text
    assert number(text, "Test accuracy") > 85 and number(text, "test loss") < 1 and "samples per second" in text
    model = written(folder, text, "image_classification")
    assert model.predict(np.zeros((2, 8, 8, 1), "float32"), verbose=0).shape == (2, 10)


def test_image_classification_with_mnist(folder):
    draw = np.random.default_rng(0)
    patterns = draw.integers(0, 255, (10, 28, 28))
    y = draw.integers(0, 10, 70000).astype("uint8")
    x = np.zeros((70000, 28, 28), "uint8")
    for part in slice(0, 1000), slice(60000, 70000):
        x[part] = patterns[y[part]] * draw.random((len(y[part]), 1, 1))
    np.savez(folder / "data" / "mnist.npz", x_train=x[:60000], y_train=y[:60000], x_test=x[60000:], y_test=y[60000:])
    text = run("image_classification", folder, "--epochs", "2", "--samples", "1000", "--verbose", "2")
    assert "MNIST, 60000 training and 10000 test images of 28x28" in text
    assert number(text, "Test accuracy") > 90
    written(folder, text, "image_classification")


def test_regression(folder):
    text = run("regression", folder, "--epochs", "30", "--verbose", "0")
    assert number(text, "square)") < 0.9 * number(text, "mean:")
    model = written(folder, text, "regression")
    assert model.predict(np.zeros((3, 10), "float32"), verbose=0).shape == (3, 1)


def test_text_classification(folder):
    text = run("text_classification", folder, "--epochs", "8", "--verbose", "2")
    assert "AG News, 320 training and 80 test items" in text and number(text, "Test accuracy") > 80
    model = written(folder, text, "text_classification")
    assert model.predict(np.ones((2, 50), "int32"), verbose=0).shape == (2, 4)
    assert (folder / "out" / "text_classification.words.json").exists()


def test_the_same_seed_gives_the_same_file(folder):
    files = []
    for name in "a", "b":
        run("regression", folder / name, "--epochs", "2", "--verbose", "0")
        files.append(fastdl.saving.load_model(folder / name / "out" / "regression.safetensors").get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(*files))


def test_a_missing_extra_is_named():
    with pytest.raises(ModuleNotFoundError, match=r'nonexistent is needed here and is not installed\n  pip install "fastdl\[examples\]"'):
        extras.need("nonexistent.part", "examples")
    assert extras.need("os.path", "examples") is os.path


def test_readme_names_every_example():
    root = pathlib.Path(__file__).resolve().parents[1]
    names = {p.stem for p in (root / "fastdl" / "examples").glob("*.py")} - {"__init__", "command", "pictures"}
    text = (root / "README.md").read_text()
    assert all(f"python -m fastdl.examples.{name}" in text for name in names)
