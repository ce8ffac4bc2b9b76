"""What every example's command line has in common: its options, its folder, its timing."""

import argparse
import pathlib
import time

import fastdl


def options(about, *, epochs, batch_size=32):
    """Parse --epochs, --batch-size, --seed, --output and --verbose; seed everything; make the folder."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--epochs", type=int, default=epochs, help="passes over the training data")
    parser.add_argument("--batch-size", type=int, default=batch_size, help="samples in a step")
    parser.add_argument("--seed", type=int, default=0, help="of weights and shuffling; the same seed gives the same bits")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("output"), help="folder for the picture and the model")
    parser.add_argument("--samples", type=int, default=None, help="use only so many training samples")
    parser.add_argument("--verbose", type=int, choices=(0, 1, 2), default=1, help="0: silent, 1: progress bar, 2: a line per epoch")
    chosen = parser.parse_args()
    fastdl.random.set_random_seed(chosen.seed)
    chosen.output.mkdir(parents=True, exist_ok=True)
    return chosen


def train(model, x, y, chosen, **more):
    """fit with the chosen options; returns the History and the samples trained on per second."""
    begin = time.perf_counter()
    history = model.fit(x, y, batch_size=chosen.batch_size, epochs=chosen.epochs, verbose=chosen.verbose, **more)
    return history, len(x) * chosen.epochs / (time.perf_counter() - begin)
