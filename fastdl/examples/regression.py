"""A dense network that predicts how far diabetes goes within a year, from ten measurements."""

import numpy as np

import fastdl
from fastdl import layers
from fastdl.datasets import diabetes

from . import pictures
from .command import options, train


def network():
    """The primer's dense network, compiled."""
    model = fastdl.Sequential([
        layers.Dense(64, activation="relu", input_shape=(10,)),
        layers.Dense(64, activation="relu"),
        layers.Dense(1),
    ])
    model.compile(optimizer="adam", loss="mse")
    return model


def picture(path, history, y_test, predicted, error):
    """Learning curves on the left, predicted against actual values on the right."""
    with pictures.style():
        figure = pictures.figure(11, 4.6)
        curve, scatter = figure.subplots(1, 2)
        pictures.learning_curve(curve, history, "loss")
        ends = [min(y_test.min(), predicted.min()), max(y_test.max(), predicted.max())]
        scatter.plot(ends, ends, color=pictures.GRID)
        scatter.scatter(y_test, predicted, s=18, alpha=0.7, color=pictures.TRAINING)
        scatter.set(xlabel="progression a year later", ylabel="predicted", title=f"Test patients, typical error {error:.0f}")
        figure.savefig(path, dpi=120)


def main():
    """Train, test against the baseline, draw, save."""
    chosen = options(__doc__, epochs=20)
    (x_train, y_train), (x_test, y_test) = diabetes.load_data()
    x_train, y_train = x_train[:chosen.samples], y_train[:chosen.samples]
    mean, deviation, centre, spread = x_train.mean(0), x_train.std(0), y_train.mean(), y_train.std()
    standardise = lambda x: (x - mean) / deviation
    print(f"Data: diabetes, {len(x_train)} training and {len(x_test)} test patients, 10 measurements each; standardised")
    model = network()
    model.summary()
    history, speed = train(model, standardise(x_train), (y_train - centre) / spread, chosen,
                           validation_data=(standardise(x_test), (y_test - centre) / spread))
    predicted = np.asarray(model.predict(standardise(x_test), verbose=0))[:, 0] * spread + centre
    error, baseline = (float(np.sqrt(np.mean((y_test - p) ** 2))) for p in (predicted, centre))
    print(f"\nTest error (root of the mean square) {error:.1f}; always answering with the mean: {baseline:.1f}; "
          f"{speed:,.0f} samples per second in training")
    drawn, saved = chosen.output / "regression.png", chosen.output / "regression.safetensors"
    picture(drawn, history, y_test, predicted, error)
    model.save(saved)
    print(f"Picture  {drawn}\nModel    {saved}")


if __name__ == "__main__":
    main()
