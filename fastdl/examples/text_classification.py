"""A recurrent network that sorts news items into World, Sports, Business and Sci/Tech."""

import numpy as np

import fastdl
from fastdl import layers
from fastdl.data.text import Vocabulary
from fastdl.datasets import ag_news

from . import pictures
from .command import options, train

WORDS, LENGTH = 10000, 50


def network():
    """Embedding, LSTM, Dense, compiled. Padding (token 0) is masked: the LSTM's state passes over it unchanged."""
    model = fastdl.Sequential([
        layers.Embedding(input_dim=WORDS, output_dim=64, mask_zero=True),
        layers.LSTM(64),
        layers.Dense(len(ag_news.class_names), activation="softmax"),
    ])
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def picture(path, history, labels, predictions):
    """Learning curves, and which class was taken for which."""
    with pictures.style():
        figure = pictures.figure(13, 4.4)
        loss, accuracy, confusion = figure.subplots(1, 3)
        pictures.learning_curve(loss, history, "loss")
        pictures.learning_curve(accuracy, history, "accuracy", percent=True)
        pictures.confusion(confusion, labels, predictions, ag_news.class_names)
        figure.savefig(path, dpi=120)


def main():
    """Train, test, show some items, draw, save."""
    chosen = options(__doc__, epochs=3)
    (texts, y_train), (test_texts, y_test) = ag_news.load_data()
    texts, y_train = texts[:chosen.samples], y_train[:chosen.samples]
    vocabulary = Vocabulary.build(texts, max_tokens=WORDS)
    x_train, x_test = vocabulary.encode(texts, LENGTH), vocabulary.encode(test_texts, LENGTH)
    print(f"Data: AG News, {len(x_train)} training and {len(x_test)} test items, {len(vocabulary)} tokens, the first {LENGTH} words of each")
    model = network()
    model.build((None, LENGTH))
    model.summary()
    history, speed = train(model, x_train, y_train, chosen, validation_data=(x_test, y_test))
    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
    probabilities = np.asarray(model.predict(x_test, verbose=0))
    print(f"\nTest accuracy {100 * accuracy:.2f} %, test loss {loss:.4f}; {speed:,.0f} samples per second in training\n")
    for text, p in zip(test_texts[:5], probabilities):
        print(f"  {ag_news.class_names[p.argmax()]:9} {100 * p.max():3.0f} %  {text[:90]}")
    drawn, saved, words = (chosen.output / f"text_classification{end}" for end in (".png", ".safetensors", ".words.json"))
    picture(drawn, history, y_test, probabilities.argmax(1))
    model.save(saved)
    vocabulary.save(words)
    print(f"\nPicture  {drawn}\nModel    {saved}\nWords    {words}")


if __name__ == "__main__":
    main()
