"""The examples' pictures, drawn by matplotlib without a screen."""

import numpy as np

from fastdl.extras import need

INK, PAPER, GRID = "#1f2933", "#ffffff", "#d9dee3"
TRAINING, TEST, WRONG = "#2563eb", "#f59e0b", "#dc2626"
STYLE = {"figure.facecolor": PAPER, "axes.facecolor": PAPER, "axes.edgecolor": GRID, "axes.labelcolor": INK, "text.color": INK,
         "xtick.color": INK, "ytick.color": INK, "axes.grid": True, "axes.axisbelow": True, "grid.color": GRID, "grid.linewidth": 0.6, "font.size": 10,
         "axes.spines.top": False, "axes.spines.right": False, "axes.titleweight": "bold", "axes.titlesize": 11, "legend.frameon": False}


def figure(width, height):
    """A matplotlib figure that belongs to no window."""
    need("matplotlib", "examples")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    drawn = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawn)
    return drawn


def style():
    """Context manager: figures and axes made inside have the examples' colours."""
    return need("matplotlib", "examples").rc_context(STYLE)


def learning_curve(axes, history, name, percent=False):
    """One quantity of a History by epoch: in training, and on the test data that fit was given to watch."""
    scale, epochs = 100 if percent else 1, np.arange(1, len(history.epoch) + 1)
    for key, label, colour in ((name, "training", TRAINING), (f"val_{name}", "test", TEST)):
        if key in history.history:
            axes.plot(epochs, scale * np.array(history.history[key]), marker="o", markersize=4, color=colour, label=label)
    axes.set_title(f"{name.capitalize()}{', %' if percent else ''}")
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()


def image_grid(figure, images, labels, probabilities, columns):
    """Images with what was predicted and how surely; the wrong ones in red, with the right answer."""
    grid = figure.subplots(-(-len(images) // columns), columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, image, label, p in zip(grid, images, labels, probabilities):
        axes.imshow(image, cmap="gray_r", interpolation="nearest")
        found = int(p.argmax())
        text = f"{found}  {100 * p[found]:.0f} %" if found == label else f"{found}, is {label}"
        axes.set_title(text, fontsize=8, fontweight="normal", color=INK if found == label else WRONG, pad=3)


def confusion(axes, labels, predictions, names):
    """How many of each class were taken for which."""
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (labels, predictions), 1)
    axes.imshow(counts, cmap="Blues")
    axes.grid(False)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", ylabel="is", title="Test items")
    for (row, column), n in np.ndenumerate(counts):
        axes.text(column, row, n, ha="center", va="center", color=PAPER if n > counts.max() / 2 else INK)
