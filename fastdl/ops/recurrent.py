"""Long short-term memory over sequences."""

import numpy as np

from ..errors import shape_error
from ..op import ACTIVATIONS, Op, case, kernels, twin
from .bfloat16 import pack, pairs, panel_pairs, rounded_if, unpaired
from .linear import PANEL, activate, panel_floats, product

__all__ = ["lstm"]

GATE_UNITS = 16                 # units whose four gates share a panel, as in csrc/kernels/recurrent.c
MOST_UNITS = 32768


def block_rows(batch, units):
    """Batch rows that one item carries through time: a matter of shape only.

    Each step reads all weights, so more rows where these come from beyond the second cache; an even number of items.
    """
    most = min(8 if units < 256 else 16, max(1, MOST_UNITS // units))
    items = 2 * -(-batch // (2 * most))
    return max(1, -(-batch // max(items, 1)))


def gate_panel_floats(units, gates):
    """Size of a (units, gates * units) matrix in panels of gates."""
    return -(-units // GATE_UNITS) * GATE_UNITS * gates * units


def packed_gates(op, kernel, units, of, first=0, gates=None):
    """Gates first, first + 1 … of a recurrent kernel (units, of * units) in panels."""
    gates = gates or of
    return op.prepared((gate_panel_floats(units, gates),), lambda panels: kernels.pack_gates(
        panels, kernel, units=units, of=of, first=first, gates=gates), kernel)


def packed_transposed(op, kernel, units, of, first=0, gates=None):
    """Gates first, first + 1 … of a recurrent kernel (units, of * units), transposed, in panels of 32 columns."""
    depth = (gates or of) * units
    return op.prepared((panel_floats(depth, units),), lambda panels: kernels.pack(
        panels, kernel.reshape(-1)[first * units:], depth=depth, columns=units, row=1, column=of * units), kernel)


def unpacked_gates(panels, units, gates):
    """The (units, gates * units) matrix that packed_gates packed."""
    return panels.reshape(-1, units, gates, GATE_UNITS).transpose(1, 2, 0, 3).reshape(units, gates, -1)[:, :, :units].reshape(units, -1)


def unpacked(panels, depth, columns):
    """The (depth, columns) matrix that kernels.pack packed."""
    return panels.reshape(-1)[: panel_floats(depth, columns)].reshape(-1, depth, PANEL).transpose(1, 0, 2).reshape(depth, -1)[:, :columns]


def rounded_gates(op, kernel, units, gates):
    """As packed_gates of all gates, in pairs of bfloat16."""
    size = -(-units // GATE_UNITS) * GATE_UNITS * gates * -(-units // 2)
    return op.prepared((size,), lambda panels: kernels.pack_gates_bf16(panels, kernel, units=units, gates=gates), kernel, dtype="uint32")


# ---- twins ----

@twin
def pack_gates_bf16(panels, kernel, *, units, gates):
    n = -(-units // GATE_UNITS)
    full = np.zeros((units, gates, n * GATE_UNITS), kernel.dtype)
    full[:, :, :units] = kernel.reshape(units, gates, units)
    full = pairs(full.reshape(units, -1)).reshape(-1, gates, n, GATE_UNITS)
    panels.reshape(-1)[...] = full.transpose(2, 0, 1, 3).reshape(-1)


@twin
def pack_gates(panels, kernel, *, units, of, first, gates):
    n = -(-units // GATE_UNITS)
    full = np.zeros((units, gates, n * GATE_UNITS), kernel.dtype)
    full[:, :, :units] = kernel.reshape(units, of, units)[:, first: first + gates]
    panels.reshape(-1)[...] = full.reshape(units, gates, n, GATE_UNITS).transpose(2, 0, 1, 3).reshape(-1)


def steps_of(time, backwards):
    """(step, time) of each step, in their order."""
    return list(enumerate(range(time - 1, -1, -1) if backwards else range(time)))


@twin(flops=lambda *, batch, time, units, **_: batch * time * units * (8 * units + 30))
def lstm(out, last_h, last_c, gates, previous, cells, panels, initial_h, initial_c, mask, recurrent_mask, *, batch, time, units,
         block, sequences, zero_masked, backwards, activation, recurrent_activation, rounded):
    if rounded:
        panels = unpaired(panels.reshape(-1, -(-units // 2), 4 * GATE_UNITS), units).astype(gates.dtype)
    kernel = unpacked_gates(panels, units, 4)
    h = np.zeros((batch, units), gates.dtype) if initial_h is None else initial_h.copy()
    c = np.zeros((batch, units), gates.dtype) if initial_c is None else initial_c.copy()
    seen = np.zeros((batch, 1), bool)
    for step, t in steps_of(time, backwards):
        active = np.ones((batch, 1), bool) if mask is None else mask.reshape(batch, time)[:, t, None] != 0
        seen |= active
        if previous is not None:
            previous[:, t] = h
        used = rounded_if(rounded, h if recurrent_mask is None else h * recurrent_mask)
        z = gates[:, t] + (used @ kernel).reshape(batch, 4, units)
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


def slope(y, activation):
    """What csrc/gates.h's slope does, in NumPy."""
    return {0: lambda: np.ones_like(y), 1: lambda: (y > 0).astype(y.dtype), 2: lambda: y * (1 - y), 3: lambda: 1 - y * y,
            4: lambda: ((y > 0) & (y < 6)).astype(y.dtype)}[activation]()


@twin(flops=lambda *, batch, time, units, **_: batch * time * units * (8 * units + 30))
def lstm_grad(d_gates, d_initial_h, d_initial_c, d_bias, used, d_recurrent_mask, d_out, d_last_h, d_last_c, gates, previous, cells,
              panels, initial_c, mask, recurrent_mask, *, batch, time, units, block, sequences, zero_masked, backwards, activation,
              recurrent_activation, rounded):
    if rounded:
        panels = unpaired(panels.reshape(-1, 2 * units, PANEL), 4 * units).astype(gates.dtype)
    transposed = unpacked(panels, 4 * units, units)
    on = np.ones((batch, time), bool) if mask is None else mask.reshape(batch, time) != 0
    steps = steps_of(time, backwards)
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
        d = d_c + d_h * o * slope(y, activation)
        d_z = np.stack([d * g * slope(i, recurrent_activation), d * before * slope(f, recurrent_activation),
                        d * i * slope(g, activation), d_h * y * slope(o, recurrent_activation)], 1)
        d_gates[:, t] = np.where(active[..., None], d_z, 0)
        d_c = np.where(active, d * f, d_c)
        d_used = rounded_if(rounded, d_gates[:, t].reshape(batch, 4 * units)) @ transposed
        if recurrent_mask is not None:
            used[:, t] = previous[:, t] * recurrent_mask
            if d_recurrent_mask is not None:
                d_recurrent_mask += d_used * previous[:, t]
            d_used = d_used * recurrent_mask
        d_h = np.where(active, 0, d_h) + d_used
    d_initial_h[...], d_initial_c[...] = d_h, d_c
    for k in range(len(d_bias)):
        d_bias[k] = d_gates[k * block : (k + 1) * block].sum((0, 1))


@twin(flops=lambda *, batch, units, **_: batch * units * (8 * units + 30))
def lstm_units(next, c, gates, out, previous, cells, h, panels, *, batch, time, units, step, sequences, backwards, activation,
               recurrent_activation):
    t = time - 1 - step if backwards else step
    if previous is not None:
        previous[:, t] = h
    z = gates[:, t] + (h @ unpacked_gates(panels, units, 4)).reshape(batch, 4, units)
    i, f, o = (activate(z[:, g], recurrent_activation) for g in (0, 1, 3))
    g = activate(z[:, 2], activation)
    c[...] = f * c + i * g
    next[...] = o * activate(c, activation)
    if cells is not None:
        cells[:, t], gates[:, t] = c, np.stack([i, f, g, o], 1)
    if sequences:
        out[:, step] = next
    elif step == time - 1:
        out[...] = next
    if previous is not None and step < time - 1:
        previous[:, t - 1 if backwards else t + 1] = next


@twin(flops=lambda *, batch, units, **_: batch * units * (8 * units + 30))
def lstm_units_grad(d_gates, d_h, d_c, d_bias, d_out, gates, cells, panels, initial_c, *, batch, time, units, step, backwards, activation,
                    recurrent_activation):
    t, back = (time - 1 - step, 1) if backwards else (step, -1)
    arriving = d_h.copy()
    if step < time - 1:
        arriving = d_gates[:, t - back].reshape(batch, 4 * units) @ unpacked(panels, 4 * units, units)
    if step < 0:
        d_h[...] = arriving
        return
    if step == time - 1:
        d_bias[...] = d_h[...] = 0
    if d_out is not None:
        arriving = arriving + d_out[:, step]
    i, f, g, o = gates[:, t].transpose(1, 0, 2)
    y = activate(cells[:, t], activation)
    before = cells[:, t + back] if step else 0 if initial_c is None else initial_c
    d = d_c + arriving * o * slope(y, activation)
    d_gates[:, t] = np.stack([d * g * slope(i, recurrent_activation), d * before * slope(f, recurrent_activation),
                              d * i * slope(g, activation), arriving * y * slope(o, recurrent_activation)], 1)
    d_c[...] = d * f
    d_bias += d_gates[:, t].sum(0).reshape(d_bias.shape)


# ---- the op ----

class Recurrence(Op, abstract=True):
    """What the recurrent ops share: options, shape rule, projection of the inputs, gradients of the weights.

    A subclass names its `gates` (a number) and `states`, the inputs of shape (batch, units) besides recurrent_mask.
    """
    return_sequences: bool = False
    go_backwards: bool = False
    zero_output_for_mask: bool = False
    activation: str = "tanh"
    bfloat16: bool = False
    gates, states = 1, ("initial_h",)

    def check(self, x, kernel, recurrent_kernel, bias, mask, recurrent_mask, bias_shape=None, **states):
        """The shapes of the outputs; a ShapeError where the inputs do not fit."""
        name, gates = self.name, self.gates
        of = f"{gates} * units" if gates > 1 else "units"

        def refuse(what, **arrays):
            raise shape_error(name, what, x=(x.shape, "batch, time, features"), **arrays)

        for option in "activation", "recurrent_activation":
            if getattr(self, option, None) not in ACTIVATIONS:
                raise ValueError(f"{name}: {option} is {getattr(self, option)!r}\n  known are {', '.join(k for k in ACTIVATIONS if k)}")
        if x.ndim != 3:
            refuse("x must have 3 axes")
        batch, time, features = x.shape
        units = recurrent_kernel.shape[0] if recurrent_kernel.ndim else 0
        if not 0 < units <= MOST_UNITS or recurrent_kernel.shape != (units, gates * units):
            refuse(f"recurrent_kernel must have {of} columns, and 1 to {MOST_UNITS} rows",
                   recurrent_kernel=(recurrent_kernel.shape, f"units, {of}"))
        if kernel.shape != (features, gates * units):
            refuse(f"kernel must have shape {features, gates * units}", kernel=(kernel.shape, f"features, {of}"),
                   recurrent_kernel=(recurrent_kernel.shape, f"units, {of}"))
        shape = (*(bias_shape or ()), gates * units)
        if bias is not None and bias.shape != shape:
            refuse(f"bias must have shape {shape}", bias=(bias.shape, f"2, {of}" if bias_shape else of))
        for state, array in {**states, "recurrent_mask": recurrent_mask}.items():
            if array is not None and array.shape != (batch, units):
                refuse(f"{state} must have shape {batch, units}", **{state: (array.shape, "batch, units")})
        if mask is not None and mask.shape != (batch, time):
            refuse(f"mask must have shape {batch, time}", mask=(mask.shape, "batch, time"))
        if mask is not None and mask.dtype not in ("bool", "uint8"):
            raise TypeError(f"{name}: mask has dtype {mask.dtype}; bool is wanted")
        return [(batch, time, units) if self.return_sequences else (batch, units)] + [(batch, units)] * len(states)

    def result_dtype(self, *_):
        return [self.dtype] * (1 + len(self.states))

    def sizes(self, batch, time, units):
        """What the kernels of a layer are told."""
        about = {"batch": batch, "time": time, "units": units, "block": block_rows(batch, units), "sequences": self.return_sequences,
                 "zero_masked": self.zero_output_for_mask, "backwards": self.go_backwards, "activation": ACTIVATIONS[self.activation]}
        if "recurrent_activation" in self.options:
            about["recurrent_activation"] = ACTIVATIONS[self.recurrent_activation]
        return about

    def projected(self, x, kernel, bias):
        """x @ kernel + bias: (batch, time, gates * units)."""
        batch, time, features = x.shape
        columns = kernel.shape[1]
        out = self.empty((batch, time, columns))
        product(self, out, x, kernel, bias, rows=batch * time, columns=columns, depth=features, left_row=features, left_depth=1,
                right_depth=columns, right_column=1)
        return out

    def d_inputs(self, d_x, d_gates, kernel):
        """The gradient of x from that of its projection."""
        if d_x is not None:
            features, columns = kernel.shape
            product(self, d_x, d_gates, kernel, rows=d_x.shape[0] * d_x.shape[1], columns=features, depth=columns, left_row=columns,
                    left_depth=1, right_depth=1, right_column=columns)

    def d_weight(self, d, left, d_gates, gates=None, start=0):
        """The gradient of a kernel: left (batch, time, rows) transposed @ d_gates (batch, time, gates, units), or some of the gates."""
        if d is not None:
            rows, units, of = left.shape[-1], d_gates.shape[-1], d_gates.shape[-2]
            product(self, d, left, d_gates.reshape(-1)[start * units:], rows=rows, columns=(gates or of) * units,
                    depth=left.shape[0] * left.shape[1], left_row=1, left_depth=rows, right_depth=of * units, right_column=1)


ACTIVATION = {"tanh": np.tanh, "sigmoid": lambda v: 1 / (1 + np.exp(-v)), "linear": lambda v: v, "relu": lambda v: np.maximum(v, 0),
              "relu6": lambda v: np.clip(v, 0, 6)}


def walked(op, x, step, states, mask):
    """The definition of every recurrent op: step(x[n, t], n, states of row n) -> states, of which the first is the output, row by row."""
    batch, time, units = len(x), x.shape[1], states[0].shape[1]
    sequence = np.zeros((batch, time, units))
    last = [np.zeros((batch, units)) for _ in states]
    for n in range(batch):
        now, output = [s[n] for s in states], np.zeros(units)
        for k in range(time):
            t = time - 1 - k if op.go_backwards else k
            masked = mask is not None and not mask[n, t]
            if not masked:
                now = step(x[n, t], n, *now)
                output = now[0]
            sequence[n, k] = 0 if masked and op.zero_output_for_mask and op.return_sequences else output
        for s, value in zip(last, now):
            s[n] = value
    return [sequence if op.return_sequences else sequence[:, -1] if time else np.zeros((batch, units)), *last]


class LSTM(Recurrence):
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
    recurrent_activation: str = "sigmoid"
    gates, states = 4, ("initial_h", "initial_c")

    def shape(self, x, kernel, recurrent_kernel, bias=None, initial_h=None, initial_c=None, mask=None, recurrent_mask=None):
        return self.check(x, kernel, recurrent_kernel, bias, mask, recurrent_mask, initial_h=initial_h, initial_c=initial_c)

    def forward(self, outs, x, kernel, recurrent_kernel, bias=None, initial_h=None, initial_c=None, mask=None, recurrent_mask=None):
        batch, time, _ = x.shape
        units = len(recurrent_kernel)
        gates = self.projected(x, kernel, bias).reshape(batch, time, 4, units)
        panels = (rounded_gates if self.bfloat16 else packed_gates)(self, recurrent_kernel, units, 4)
        about, previous, cells = {**self.sizes(batch, time, units), "rounded": self.bfloat16}, None, None
        if self.traced:
            previous, cells = self.empty((batch, time, units)), self.empty((batch, time, units))
            self.saved = x, kernel, recurrent_kernel, gates, previous, cells, initial_c, mask, recurrent_mask, about
        if self._apart(about, mask, recurrent_mask):
            return self._by_units(outs, gates, previous, cells, panels, initial_h, initial_c, about)
        kernels.lstm(*outs, gates, previous, cells, panels, initial_h, initial_c, mask, recurrent_mask, **about)

    @staticmethod
    def _apart(about, mask, recurrent_mask):
        """Whether units, not rows, are shared out, a call a step: of few rows each would read all the weights, which are many."""
        batch, units = about["batch"], about["units"]
        few = 0 < batch < (16 if units >= 256 else 4 if units >= 128 else 0)
        return few and about["time"] > 0 and mask is None and recurrent_mask is None and not about["rounded"]

    def _by_units(self, outs, gates, previous, cells, panels, initial_h, initial_c, about):
        """A call a step: each thread has its own units."""
        (out, last_h, c), time = outs, about["time"]
        about = {k: v for k, v in about.items() if k not in ("block", "zero_masked", "rounded")}
        h, spare = initial_h, [self.empty(last_h.shape), self.empty(last_h.shape)]
        if initial_c is None:
            kernels.fill(c, size=c.size, value=0.0)
        else:
            kernels.copy(c, initial_c, size=c.size)
        if h is None:
            h = self.empty(last_h.shape)
            kernels.fill(h, size=h.size, value=0.0)
        for step in range(time):
            to = last_h if step == time - 1 else spare[step % 2]
            kernels.lstm_units(to, c, gates, out, previous, cells, h, panels, step=step, **about)
            h = to

    def backward(self, d_outs, d_x, d_kernel, d_recurrent_kernel, d_bias=None, d_initial_h=None, d_initial_c=None, d_mask=None,
                 d_recurrent_mask=None):
        x, kernel, recurrent_kernel, gates, previous, cells, initial_c, mask, recurrent_mask, about = self.saved
        batch, units = len(x), about["units"]
        apart = self._apart(about, mask, recurrent_mask)
        blocks = 1 if apart else -(-batch // about["block"])
        if self.bfloat16:
            panels = pack(self, recurrent_kernel, depth=4 * units, columns=units, b_depth=1, b_column=4 * units)
        else:
            panels = packed_transposed(self, recurrent_kernel, units, 4)
        d_gates, shares = self.empty(gates.shape), self.empty((blocks, 4, units))
        d_initial_h, d_initial_c = (self.empty((batch, units)) if d is None else d for d in (d_initial_h, d_initial_c))
        used = None if recurrent_mask is None else self.empty(previous.shape)
        if apart:
            self._by_units_grad(d_outs, d_gates, d_initial_h, d_initial_c, shares, gates, cells, panels, initial_c, about)
        else:
            kernels.lstm_grad(d_gates, d_initial_h, d_initial_c, shares, used, d_recurrent_mask, *d_outs, gates, previous, cells, panels,
                              initial_c, mask, recurrent_mask, **about)
        if d_bias is not None:
            kernels.sum_parts(d_bias, shares, outer=1, count=blocks, size=4 * units)
        self.d_inputs(d_x, d_gates, kernel)
        self.d_weight(d_kernel, x, d_gates)
        self.d_weight(d_recurrent_kernel, previous if used is None else used, d_gates)

    def _by_units_grad(self, d_outs, d_gates, d_h, d_c, d_bias, gates, cells, panels, initial_c, about):
        d_out, d_last_h, d_last_c = d_outs
        kernels.copy(d_c, d_last_c, size=d_c.size)
        kernels.copy(d_h, d_last_h, size=d_h.size)
        if not about["sequences"]:
            kernels.accumulate(d_h, d_out, size=d_h.size)
            d_out = None
        about = {k: v for k, v in about.items() if k not in ("block", "zero_masked", "sequences", "rounded")}
        for step in range(about["time"] - 1, -2, -1):
            kernels.lstm_units_grad(d_gates, d_h, d_c, d_bias[0], d_out, gates, cells, panels, initial_c, step=step, **about)

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
        case(x=(2, 3, 2), kernel=(2, 512), recurrent_kernel=(128, 512), bias=(512,), return_sequences=True),
        case(x=(3, 2, 1), kernel=(1, 516), recurrent_kernel=(129, 516), bias=(516,), initial_h=(3, 129), initial_c=(3, 129), go_backwards=True),
        case(x=(2, 0, 3), kernel=(3, 8), recurrent_kernel=(2, 8), bias=(8,), initial_h=(2, 2)),
        case(x=(0, 3, 2), kernel=(2, 8), recurrent_kernel=(2, 8), bias=(8,), return_sequences=True),
        case(x=(3, 4, 2), kernel=(2, 12), recurrent_kernel=(3, 12), bias=(12,), return_sequences=True, bfloat16=True),
        case(x=(9, 3, 3), kernel=(3, 132), recurrent_kernel=(33, 132), bias=(132,), initial_h=(9, 33), initial_c=(9, 33),
             mask=np.arange(27).reshape(9, 3) % 4 < 2, recurrent_mask=(9, 33), go_backwards=True, bfloat16=True),
        case(x=(17, 2, 3), kernel=(3, 128), recurrent_kernel=(32, 128), bias=None, bfloat16=True),
    ]
    bench = [case(x=(32, 80, 64), kernel=(64, 256), recurrent_kernel=(64, 256), bias=(256,)),
             case(x=(32, 100, 128), kernel=(128, 512), recurrent_kernel=(128, 512), bias=(512,), return_sequences=True),
             case(x=(64, 50, 256), kernel=(256, 1024), recurrent_kernel=(256, 1024), bias=(1024,), return_sequences=True),
             case(x=(1, 80, 64), kernel=(64, 256), recurrent_kernel=(64, 256), bias=(256,)),
             case(x=(1, 25, 128), kernel=(128, 512), recurrent_kernel=(128, 512), bias=(512,), return_sequences=True)]
    wrong = [case(x=(3, 4), kernel=(2, 12), recurrent_kernel=(3, 12)), case(x=(3, 4, 3), kernel=(2, 12), recurrent_kernel=(3, 12)),
             case(x=(3, 4, 2), kernel=(2, 12), recurrent_kernel=(3, 11)), case(x=(3, 4, 2), kernel=(2, 12), recurrent_kernel=(3, 12), bias=(11,)),
             case(x=(3, 4, 2), kernel=(2, 12), recurrent_kernel=(3, 12), initial_h=(3, 2)),
             case(x=(3, 4, 2), kernel=(2, 12), recurrent_kernel=(3, 12), mask=np.ones((3, 3), bool)),
             case(x=(3, 4, 2), kernel=(2, 12), recurrent_kernel=(3, 12), activation="elu")]

    def definition(self, x, kernel, recurrent_kernel, bias=None, initial_h=None, initial_c=None, mask=None, recurrent_mask=None):
        act, recurrent_act, shape = ACTIVATION[self.activation], ACTIVATION[self.recurrent_activation], (len(x), len(recurrent_kernel))

        def step(x, n, h, c):
            u = h if recurrent_mask is None else h * recurrent_mask[n]
            i, f, g, o = np.split(x @ kernel + u @ recurrent_kernel + (0 if bias is None else bias), 4)
            c = recurrent_act(f) * c + recurrent_act(i) * act(g)
            return recurrent_act(o) * act(c), c

        return walked(self, x, step, [np.zeros(shape) if s is None else s for s in (initial_h, initial_c)], mask)


lstm = LSTM.apply
