"""Long short-term memory over sequences."""

import numpy as np

from ..errors import shape_error
from ..op import ACTIVATIONS, Op, case, kernels, twin
from .linear import activate, panel_floats, product

__all__ = ["lstm"]

GATE_UNITS = 16                 # units whose four gates share a panel, as in csrc/kernels/recurrent.c
MOST_UNITS = 65536


def block_rows(batch, units):
    """Batch rows that one item carries through time: a matter of shape only."""
    return max(1, min(8, batch, MOST_UNITS // units))


def gate_panel_floats(units):
    """Size of a (units, 4 * units) matrix in panels of gates."""
    return -(-units // GATE_UNITS) * GATE_UNITS * 4 * units


# ---- twins ----

@twin
def pack_gates(panels, kernel, *, units):
    n = -(-units // GATE_UNITS)
    full = np.zeros((units, 4, n * GATE_UNITS), kernel.dtype)
    full[:, :, :units] = kernel.reshape(units, 4, units)
    panels.reshape(-1)[...] = full.reshape(units, 4, n, GATE_UNITS).transpose(2, 0, 1, 3).reshape(-1)


def _steps(time, backwards):
    return list(enumerate(range(time - 1, -1, -1) if backwards else range(time)))


@twin(flops=lambda *, batch, time, units, **_: batch * time * units * (8 * units + 30))
def lstm(out, last_h, last_c, gates, previous, cells, panels, initial_h, initial_c, mask, recurrent_mask, *, batch, time, units,
         block, sequences, zero_masked, backwards, activation, recurrent_activation):
    kernel = panels.reshape(-1, units, 4, GATE_UNITS).transpose(1, 2, 0, 3).reshape(units, 4, -1)[:, :, :units].reshape(units, 4 * units)
    h = np.zeros((batch, units), gates.dtype) if initial_h is None else initial_h.copy()
    c = np.zeros((batch, units), gates.dtype) if initial_c is None else initial_c.copy()
    seen = np.zeros((batch, 1), bool)
    for step, t in _steps(time, backwards):
        active = np.ones((batch, 1), bool) if mask is None else mask.reshape(batch, time)[:, t, None] != 0
        seen |= active
        if previous is not None:
            previous[:, t] = h
        z = gates[:, t] + ((h if recurrent_mask is None else h * recurrent_mask) @ kernel).reshape(batch, 4, units)
        i, f, o = (activate(z[:, g], recurrent_activation) for g in (0, 1, 3))
        g = activate(z[:, 2], activation)
        c = np.where(active, f * c + i * g, c)
        h = np.where(active, o * activate(c, activation), h)
        if cells is not None:
            cells[:, t] = c
            gates[:, t] = np.where(active[..., None], np.stack([i, f, g, o], 1), gates[:, t])
        if sequences:
            out[:, step] = np.where(active if zero_masked else seen, h, 0)
    last_h[...], last_c[...] = h, c
    if not sequences:
        out[...] = np.where(seen, h, 0)


def _slope(y, activation):
    return {0: lambda: np.ones_like(y), 1: lambda: (y > 0).astype(y.dtype), 2: lambda: y * (1 - y), 3: lambda: 1 - y * y,
            4: lambda: ((y > 0) & (y < 6)).astype(y.dtype)}[activation]()


@twin(flops=lambda *, batch, time, units, **_: batch * time * units * (8 * units + 30))
def lstm_grad(d_gates, d_initial_h, d_initial_c, d_bias, used, d_recurrent_mask, d_out, d_last_h, d_last_c, gates, previous, cells,
              panels, initial_c, mask, recurrent_mask, *, batch, time, units, block, sequences, zero_masked, backwards, activation,
              recurrent_activation):
    n = -(-units // 32)
    transposed = panels.reshape(-1)[: n * 32 * 4 * units].reshape(n, 4 * units, 32).transpose(1, 0, 2).reshape(4 * units, -1)[:, :units]
    on = np.ones((batch, time), bool) if mask is None else mask.reshape(batch, time) != 0
    steps = _steps(time, backwards)
    seen = np.logical_or.accumulate(on[:, [t for _, t in steps]], 1)
    d_h, d_c = d_last_h.copy(), d_last_c.copy()
    if d_recurrent_mask is not None:
        d_recurrent_mask[...] = 0
    if not sequences and time:
        d_h += np.where(seen[:, -1:], d_out, 0)
    for step, t in reversed(steps):
        active = on[:, t, None]
        if sequences:
            d_h += np.where(active if zero_masked else seen[:, step, None], d_out[:, step], 0)
        i, f, g, o = gates[:, t].transpose(1, 0, 2)
        y = activate(cells[:, t], activation)
        before = cells[:, t + 1 if backwards else t - 1] if step else 0 if initial_c is None else initial_c
        d = d_c + d_h * o * _slope(y, activation)
        d_z = np.stack([d * g * _slope(i, recurrent_activation), d * before * _slope(f, recurrent_activation),
                        d * i * _slope(g, activation), d_h * y * _slope(o, recurrent_activation)], 1)
        d_gates[:, t] = np.where(active[..., None], d_z, 0)
        d_c = np.where(active, d * f, d_c)
        d_used = d_gates[:, t].reshape(batch, 4 * units) @ transposed
        if recurrent_mask is not None:
            used[:, t] = previous[:, t] * recurrent_mask
            if d_recurrent_mask is not None:
                d_recurrent_mask += d_used * previous[:, t]
            d_used = d_used * recurrent_mask
        d_h = np.where(active, 0, d_h) + d_used
    d_initial_h[...], d_initial_c[...] = d_h, d_c
    for k in range(len(d_bias)):
        d_bias[k] = d_gates[k * block : (k + 1) * block].sum((0, 1))


@twin
def lstm_d_bias(d_bias, shares, *, blocks, size):
    d_bias.reshape(-1)[...] = shares.reshape(blocks, size).sum(0)


# ---- the op ----

class LSTM(Op):
    """Long short-term memory: the outputs, the last h and the last c.

    x                 (batch, time, features)
    kernel            (features, 4 * units)   gates in the order input, forget, cell, output
    recurrent_kernel  (units, 4 * units)
    bias              (4 * units), or None
    initial_h         (batch, units), or None: zeros
    initial_c         (batch, units), or None: zeros
    mask              (batch, time) bool, or None; False: the state stays, and the output is the one before
    recurrent_mask    (batch, units), or None; h is multiplied by it before each product with recurrent_kernel (recurrent dropout)
    returns           (batch, time, units) with return_sequences, else (batch, units), the last output;
                      (batch, units) h;  (batch, units) c after the last step

    go_backwards goes through time from its end; the outputs are in the order in which they were computed. An output before the
    first step that is not masked is 0, and with zero_output_for_mask each masked one of a sequence.

        i, f, o = recurrent_activation(x @ W + h @ U + b)      g = activation(x @ W + h @ U + b)
        c = f c + i g                                          h = o activation(c)
    """
    return_sequences: bool = False
    go_backwards: bool = False
    zero_output_for_mask: bool = False
    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"

    def shape(self, x, kernel, recurrent_kernel, bias=None, initial_h=None, initial_c=None, mask=None, recurrent_mask=None):
        def refuse(what, **arrays):
            raise shape_error("lstm", what, x=(x.shape, "batch, time, features"), **arrays)

        for name in "activation", "recurrent_activation":
            if getattr(self, name) not in ACTIVATIONS:
                raise ValueError(f"lstm: {name} is {getattr(self, name)!r}\n  known are {', '.join(k for k in ACTIVATIONS if k)}")
        if x.ndim != 3:
            refuse("x must have 3 axes")
        batch, time, features = x.shape
        units = recurrent_kernel.shape[0] if recurrent_kernel.ndim else 0
        if not 0 < units <= MOST_UNITS or recurrent_kernel.shape != (units, 4 * units):
            refuse(f"recurrent_kernel must have four columns a row, and 1 to {MOST_UNITS} rows",
                   recurrent_kernel=(recurrent_kernel.shape, "units, 4 * units"))
        if kernel.shape != (features, 4 * units):
            refuse(f"kernel must have shape {features, 4 * units}", kernel=(kernel.shape, "features, 4 * units"),
                   recurrent_kernel=(recurrent_kernel.shape, "units, 4 * units"))
        if bias is not None and bias.shape != (4 * units,):
            refuse(f"bias must have shape {(4 * units,)}", bias=(bias.shape, "4 * units"))
        for name, state in {"initial_h": initial_h, "initial_c": initial_c, "recurrent_mask": recurrent_mask}.items():
            if state is not None and state.shape != (batch, units):
                refuse(f"{name} must have shape {batch, units}", **{name: (state.shape, "batch, units")})
        if mask is not None and mask.shape != (batch, time):
            refuse(f"mask must have shape {batch, time}", mask=(mask.shape, "batch, time"))
        if mask is not None and mask.dtype not in ("bool", "uint8"):
            raise TypeError(f"lstm: mask has dtype {mask.dtype}; bool is wanted")
        return [(batch, time, units) if self.return_sequences else (batch, units), (batch, units), (batch, units)]

    def result_dtype(self, *_):
        return [self.dtype] * 3

    def forward(self, outs, x, kernel, recurrent_kernel, bias=None, initial_h=None, initial_c=None, mask=None, recurrent_mask=None):
        batch, time, features = x.shape
        units = len(recurrent_kernel)
        gates = self.empty((batch, time, 4, units))
        product(self, gates, x, kernel, bias, rows=batch * time, columns=4 * units, depth=features, left_row=features, left_depth=1,
                right_depth=4 * units, right_column=1)
        recurrent_panels = self.prepared((gate_panel_floats(units),), lambda panels: kernels.pack_gates(panels, recurrent_kernel, units=units),
                                         recurrent_kernel)
        about = {"batch": batch, "time": time, "units": units, "block": block_rows(batch, units), "sequences": self.return_sequences,
                 "zero_masked": self.zero_output_for_mask, "backwards": self.go_backwards,
                 "activation": ACTIVATIONS[self.activation], "recurrent_activation": ACTIVATIONS[self.recurrent_activation]}
        previous = cells = None
        if self.traced:
            previous, cells = self.empty((batch, time, units)), self.empty((batch, time, units))
            self.saved = x, kernel, recurrent_kernel, gates, previous, cells, initial_c, mask, recurrent_mask, about
        kernels.lstm(*outs, gates, previous, cells, recurrent_panels, initial_h, initial_c, mask, recurrent_mask, **about)

    def backward(self, d_outs, d_x, d_kernel, d_recurrent_kernel, d_bias=None, d_initial_h=None, d_initial_c=None, d_mask=None,
                 d_recurrent_mask=None):
        x, kernel, recurrent_kernel, gates, previous, cells, initial_c, mask, recurrent_mask, about = self.saved
        (batch, time, features), units = x.shape, about["units"]
        blocks = -(-batch // about["block"])
        panels = self.empty((panel_floats(4 * units, units),))
        kernels.pack(panels, recurrent_kernel, depth=4 * units, columns=units, row=1, column=4 * units)
        d_gates, shares = self.empty(gates.shape), self.empty((blocks, 4, units))
        d_initial_h, d_initial_c = (self.empty((batch, units)) if d is None else d for d in (d_initial_h, d_initial_c))
        used = None if recurrent_mask is None else self.empty(previous.shape)
        kernels.lstm_grad(d_gates, d_initial_h, d_initial_c, shares, used, d_recurrent_mask, *d_outs, gates, previous, cells, panels,
                          initial_c, mask, recurrent_mask, **about)
        if d_bias is not None:
            kernels.lstm_d_bias(d_bias, shares, blocks=blocks, size=4 * units)
        if d_x is not None:
            product(self, d_x, d_gates, kernel, rows=batch * time, columns=features, depth=4 * units, left_row=4 * units, left_depth=1,
                    right_depth=1, right_column=4 * units)
        for d, left in (d_kernel, x), (d_recurrent_kernel, previous if used is None else used):
            if d is not None:
                product(self, d, left, d_gates, rows=len(d), columns=4 * units, depth=batch * time, left_row=1, left_depth=len(d),
                        right_depth=4 * units, right_column=1)

    cases = [
        case(x=(1, 1, 1), kernel=(1, 4), recurrent_kernel=(1, 4), bias=(4,)),
        case(x=(3, 4, 2), kernel=(2, 12), recurrent_kernel=(3, 12), bias=(12,), return_sequences=True),
        case(x=(2, 3, 5), kernel=(5, 68), recurrent_kernel=(17, 68), bias=None, initial_h=(2, 17), initial_c=(2, 17), go_backwards=True),
        case(x=(9, 3, 3), kernel=(3, 16), recurrent_kernel=(4, 16), bias=(16,), initial_h=(9, 4), initial_c=(9, 4),
             mask=np.arange(27).reshape(9, 3) % 4 < 2, return_sequences=True),
        case(x=(4, 3, 2), kernel=(2, 20), recurrent_kernel=(5, 20), bias=(20,), mask=np.arange(12).reshape(4, 3) % 5 > 2, go_backwards=True,
             return_sequences=True, zero_output_for_mask=True, recurrent_mask=(4, 5)),
        case(x=(2, 4, 3), kernel=(3, 12), recurrent_kernel=(3, 12), bias=(12,), initial_c=(2, 3), initial_h=(2, 3),
             mask=np.array([[False] * 4, [False, True, True, False]]), activation="linear", recurrent_activation="tanh"),
        case(x=(13, 2, 2), kernel=(2, 132), recurrent_kernel=(33, 132), bias=(132,), recurrent_mask=(13, 33)),
        case(x=(2, 0, 3), kernel=(3, 8), recurrent_kernel=(2, 8), bias=(8,), initial_h=(2, 2)),
        case(x=(0, 3, 2), kernel=(2, 8), recurrent_kernel=(2, 8), bias=(8,), return_sequences=True),
    ]
    bench = [case(x=(32, 80, 64), kernel=(64, 256), recurrent_kernel=(64, 256), bias=(256,)),
             case(x=(32, 100, 128), kernel=(128, 512), recurrent_kernel=(128, 512), bias=(512,), return_sequences=True),
             case(x=(1, 80, 64), kernel=(64, 256), recurrent_kernel=(64, 256), bias=(256,))]
    wrong = [case(x=(3, 4), kernel=(2, 12), recurrent_kernel=(3, 12)), case(x=(3, 4, 3), kernel=(2, 12), recurrent_kernel=(3, 12)),
             case(x=(3, 4, 2), kernel=(2, 12), recurrent_kernel=(3, 11)), case(x=(3, 4, 2), kernel=(2, 12), recurrent_kernel=(3, 12), bias=(11,)),
             case(x=(3, 4, 2), kernel=(2, 12), recurrent_kernel=(3, 12), initial_h=(3, 2)),
             case(x=(3, 4, 2), kernel=(2, 12), recurrent_kernel=(3, 12), mask=np.ones((3, 3), bool)),
             case(x=(3, 4, 2), kernel=(2, 12), recurrent_kernel=(3, 12), activation="elu")]

    def definition(self, x, kernel, recurrent_kernel, bias=None, initial_h=None, initial_c=None, mask=None, recurrent_mask=None):
        act = {"tanh": np.tanh, "sigmoid": lambda v: 1 / (1 + np.exp(-v)), "linear": lambda v: v, "relu": lambda v: np.maximum(v, 0)}
        batch, units = len(x), len(recurrent_kernel)
        last_h, last_c, sequence = np.zeros((batch, units)), np.zeros((batch, units)), np.zeros((batch, x.shape[1], units))
        for n in range(batch):
            h = np.zeros(units) if initial_h is None else initial_h[n]
            c = np.zeros(units) if initial_c is None else initial_c[n]
            output = np.zeros(units)
            for step in range(x.shape[1]):
                t = x.shape[1] - 1 - step if self.go_backwards else step
                masked = mask is not None and not mask[n, t]
                if not masked:
                    u = h if recurrent_mask is None else h * recurrent_mask[n]
                    i, f, g, o = np.split(x[n, t] @ kernel + u @ recurrent_kernel + (0 if bias is None else bias), 4)
                    c = act[self.recurrent_activation](f) * c + act[self.recurrent_activation](i) * act[self.activation](g)
                    h = output = act[self.recurrent_activation](o) * act[self.activation](c)
                sequence[n, step] = 0 if masked and self.zero_output_for_mask and self.return_sequences else output
            last_h[n], last_c[n] = h, c
        return sequence if self.return_sequences else sequence[:, -1] if x.shape[1] else np.zeros((batch, units)), last_h, last_c


lstm = LSTM.apply
