"""A convolutional network that reads handwritten digits: MNIST where it is found, else the digits of scikit-learn."""

import numpy as np

import fastdl
from fastdl import layers
from fastdl.datasets import digits, mnist

from . import pictures
from .command import options, train


def data():
    """Name, (x_train, y_train), (x_test, y_test); says which data and why."""
    try:
        found, name = mnist.load_data(), "MNIST"
    except FileNotFoundError as error:
        found, name = digits.load_data(), "scikit-learn's digits"
        print(f"{error}\nSo the digits that come with scikit-learn are used.\n")
    (x_train, y_train), (x_test, y_test) = found
    print(f"Data: {name}, {len(x_train)} training and {len(x_test)} test images of {'x'.join(map(str, x_train.shape[1:]))}")
    scale = lambda x: x[..., None].astype("float32") / x_train.max()
    return name, (scale(x_train), y_train), (scale(x_test), y_test)


def network(shape):
    """The primer's convolutional network, compiled."""
    model = fastdl.Sequential([
        layers.Conv2D(32, (3, 3), activation="relu", input_shape=shape),
        layers.MaxPooling2D((2, 2)),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
    ])
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def picture(path, name, history, accuracy, images, labels, probabilities):
    """Learning curves on the left, a grid of test images on the right: the first ones, then some that went wrong."""
    wrong = np.flatnonzero(probabilities.argmax(1) != labels)[:12]
    right = np.setdiff1d(np.arange(48), wrong)[:48 - len(wrong)]
    shown = np.concatenate([right, wrong])
    with pictures.style():
        figure = pictures.figure(12, 6.4)
        figure.suptitle(f"{name}: test accuracy {100 * accuracy:.2f} %", fontsize=14, fontweight="bold")
        curves, grid = figure.subfigures(1, 2, width_ratios=(1, 1.6))
        above, below = curves.subplots(2, 1)
        pictures.learning_curve(above, history, "loss")
        pictures.learning_curve(below, history, "accuracy", percent=True)
        pictures.image_grid(grid, images[shown, ..., 0], labels[shown], probabilities[shown], columns=8)
        figure.savefig(path, dpi=120)


def main():
    """Train, test, draw, save."""
    chosen = options(__doc__, epochs=5)
    name, (x_train, y_train), (x_test, y_test) = data()
    x_train, y_train = x_train[:chosen.samples], y_train[:chosen.samples]
    model = network(x_train.shape[1:])
    model.summary()
    history, speed = train(model, x_train, y_train, chosen, validation_data=(x_test, y_test))
    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
    print(f"\nTest accuracy {100 * accuracy:.2f} %, test loss {loss:.4f}; {speed:,.0f} samples per second in training")
    drawn, saved = chosen.output / "image_classification.png", chosen.output / "image_classification.safetensors"
    picture(drawn, name, history, accuracy, x_test, y_test, np.asarray(model.predict(x_test, verbose=0)))
    model.save(saved)
    print(f"Picture  {drawn}\nModel    {saved}")


if __name__ == "__main__":
    main()
