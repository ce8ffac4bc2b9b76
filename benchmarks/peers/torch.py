"""PyTorch, eager; the variant 'compile' uses inductor."""

import os

import networks
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class Last(nn.Module):
    """Embedding, LSTM, and a dense layer on the last time step."""

    def __init__(self):
        super().__init__()
        self.embedding, self.lstm, self.dense = nn.Embedding(networks.VOCABULARY, 64), nn.LSTM(64, 64, batch_first=True), nn.Linear(64, 10)

    def forward(self, x):
        return self.dense(self.lstm(self.embedding(x))[0][:, -1])


def build(w):
    """The network of a workload; images are (batch, channels, height, width)."""
    if w["model"] == "mlp10":
        return nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    if w["model"] == "cnn28":
        return nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(5408, 10))
    return Last()


def init(threads, variant):
    """Set the threads."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    init.compiled = variant == "compile"
    return {"torch": torch.__version__}


def make(w):
    """(step, sync, information) of a workload."""
    if w["kind"] == "fit":
        return fit(w)
    model = build(w)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    loss = F.mse_loss if w["loss"] == "mse" else F.cross_entropy
    forward = lambda x, y: loss(model(x), y)
    forward = torch.compile(forward) if init.compiled else forward
    data = [(x.transpose(0, 3, 1, 2).copy() if x.ndim == 4 else x, y if w["loss"] == "mse" else y.astype("int64"))
            for x, y in networks.batches(w)]
    turn = 0

    def step():
        nonlocal turn
        x, y = data[turn & 3]
        turn += 1
        forward(torch.from_numpy(x), torch.from_numpy(y)).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step, None, {"params": sum(p.numel() for p in model.parameters())}


def fit(w):
    """One epoch of MNIST as a user writes it: DataLoader, eager."""
    if init.compiled:
        raise NotImplementedError
    d = np.load(os.environ["MNIST_NPZ"])
    images = lambda x: torch.from_numpy(x.astype("float32") / 255)[:, None]
    data = torch.utils.data.TensorDataset(images(d["x_train"]), torch.from_numpy(d["y_train"].astype("int64")))
    x_test, y_test, state = images(d["x_test"]), torch.from_numpy(d["y_test"].astype("int64")), {}

    def step():
        model = state["model"] = build(w)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        for x, y in torch.utils.data.DataLoader(data, batch_size=w["batch"], shuffle=True):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        return state

    def sync():
        if "model" in state:
            with torch.no_grad():
                state["acc"] = (state.pop("model")(x_test).argmax(1) == y_test).float().mean().item()

    return step, sync, {}
