"""Long short-term memory over sequences."""

import numpy as np

from ..op import case, kernels, twin
from .bfloat16 import pack, rounded_if, unpaired
from .linear import PANEL, activate
from .recurrent import (ACTIVATION, GATE_UNITS, Recurrence, packed_gates, packed_transposed, project, project_grad, rounded_gates, slope,
                        small_weights, steps_of, unpacked, unpacked_gates, walked)

__all__ = ["lstm"]


# ---- twins ----

@twin(flops=lambda *, batch, time, units, **_: batch * time * units * (8 * units + 30))
def lstm(out, last_h, last_c, gates, previous, cells, x, kernel, bias, table, tokens, panels, initial_h, initial_c, mask, recurrent_mask, *, batch, time,
         features, units, block, sequences, zero_masked, backwards, activation, recurrent_activation, rounded):
    if tokens is None:
        gates = project(gates, x, kernel, bias, 4, units)
    else:
        given = table.reshape(-1, 4, units)[tokens.reshape(batch, time)]
        gates = given if gates is None else gates.reshape(given.shape)
        gates[...] = given
    if rounded:
        panels = unpaired(panels.reshape(-1, -(-units // 2), 4 * GATE_UNITS), units).astype(gates.dtype)
    kernel = unpacked_gates(panels, units, 4)
    h = np.zeros((batch, units), out.dtype) if initial_h is None else initial_h.copy()
    c = np.zeros((batch, units), out.dtype) if initial_c is None else initial_c.copy()
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


@twin(flops=lambda *, batch, time, units, **_: batch * time * units * (8 * units + 30))
def lstm_grad(d_gates, d_x, d_kernel, d_recurrent_kernel, d_initial_h, d_initial_c, d_bias, d_recurrent_mask, d_out, d_last_h, d_last_c,
              gates, previous, cells, x, kernel, panels, initial_c, mask, recurrent_mask, *, batch, time, features, units, block, sequences,
              zero_masked, backwards, activation, recurrent_activation, rounded):
    d_gates = np.empty_like(gates) if d_gates is None else d_gates
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
            if d_recurrent_mask is not None:
                d_recurrent_mask += d_used * previous[:, t]
            d_used = d_used * recurrent_mask
        d_h = np.where(active, 0, d_h) + d_used
    if d_initial_h is not None:
        d_initial_h[...] = d_h
    d_initial_c[...] = d_c
    for k in range(len(d_bias)):
        d_bias[k] = d_gates[k * block : (k + 1) * block].sum((0, 1))
    project_grad(block, d_gates, d_x, d_kernel, x, kernel,
                 (d_recurrent_kernel, previous if recurrent_mask is None else previous * recurrent_mask[:, None]), rounded=rounded)


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

    def forth_panels(self, kernel, units):
        return (rounded_gates if self.bfloat16 else packed_gates)(self, kernel, units, 4)

    def back_panels(self, kernel, units):
        if self.bfloat16:
            return pack(self, kernel, depth=4 * units, columns=units, b_depth=1, b_column=4 * units)
        return packed_transposed(self, kernel, 4 * units, units)

    def forth(self, outs, x, kernel, recurrent_kernel, bias=None, initial_h=None, initial_c=None, mask=None, recurrent_mask=None):
        batch, time, _ = x.shape
        units = len(recurrent_kernel)
        about, previous, cells = {**self.sizes(x, units), "rounded": self.bfloat16}, None, None
        gates, inputs = self.projected(x, kernel, bias, about)
        panels = self.forth_panels(recurrent_kernel, units)
        if self.traced:
            previous, cells = self.empty((batch, time, units)), self.empty((batch, time, units))
            self.saved = x, kernel, recurrent_kernel, gates, previous, cells, initial_c, mask, recurrent_mask, about
        if self.by_units(about, mask, recurrent_mask):
            out, last_h, c = outs
            if initial_c is None:
                kernels.fill(c, size=c.size, value=0.0)
            else:
                kernels.copy(c, initial_c, size=c.size)
            return self.each_step(kernels.lstm_units, about, last_h, initial_h, (c, gates, out, previous, cells), (panels,))
        yield
        kernels.lstm(*outs, gates, previous, cells, *inputs, None, None, panels, initial_h, initial_c, mask, recurrent_mask, **about)

    def back(self, d_outs, d_x, d_kernel, d_recurrent_kernel, d_bias=None, d_initial_h=None, d_initial_c=None, d_mask=None,
                 d_recurrent_mask=None):
        x, kernel, recurrent_kernel, gates, previous, cells, initial_c, mask, recurrent_mask, about = self.saved
        batch, units, in_runs = len(x), about["units"], self.in_runs(about)
        by_units = self.by_units(about, mask, recurrent_mask)
        blocks = 1 if by_units else -(-batch // about["block"])
        panels = self.back_panels(recurrent_kernel, units)
        d_initial_c = self.empty((batch, units)) if d_initial_c is None else d_initial_c
        of_bias, d_gates = self.empty((blocks, 4, units)), None if in_runs else self.empty(gates.shape)
        made, needed = self.products(about, x, kernel, d_x, d_kernel, d_recurrent_kernel)
        if by_units:
            d_initial_h = self.empty((batch, units)) if d_initial_h is None else d_initial_h
            kernels.copy(d_initial_c, d_outs[2], size=d_initial_c.size)
            self.each_step_grad(kernels.lstm_units_grad, about, d_initial_h, d_outs, (d_gates, d_initial_h, d_initial_c, of_bias[0]),
                      (gates, cells, panels, initial_c))
        else:
            yield
            kernels.lstm_grad(d_gates, *made, d_initial_h, d_initial_c, of_bias, d_recurrent_mask, *d_outs, gates, previous, cells, *needed,
                              panels, initial_c, mask, recurrent_mask, **about)
            yield
        self.add_shares((d_bias, d_kernel, d_recurrent_kernel), (of_bias, *made[1:]))
        if not in_runs:
            self.d_inputs(d_x, d_gates, kernel)
            self.d_weights(d_gates, (d_kernel, x), (d_recurrent_kernel, self.used(previous, recurrent_mask)))

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
        case(x=(29, 3, 5), kernel=(5, 12), recurrent_kernel=(3, 12), bias=(12,), return_sequences=True, recurrent_mask=(29, 3)),
        case(x=(32, 70, 3), kernel=small_weights(3, 64), recurrent_kernel=small_weights(16, 64), bias=(64,), return_sequences=True),
        case(x=(31, 67, 2), kernel=(2, 16), recurrent_kernel=(4, 16), bias=None, initial_h=(31, 4), go_backwards=True,
             mask=np.arange(31 * 67).reshape(31, 67) % 11 > 9),
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
