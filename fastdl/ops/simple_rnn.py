"""Simple recurrent units over sequences."""

import numpy as np

from ..op import case, kernels, twin
from .linear import activate
from .recurrent import ACTIVATION, Recurrence, packed, packed_transposed, project, project_grad, slope, small_weights, steps_of, unpacked, walked

__all__ = ["simple_rnn"]


# ---- twins ----

@twin(flops=lambda *, batch, time, units, **_: batch * time * units * (2 * units + 10))
def simple_rnn(out, last_h, y, previous, x, kernel, bias, panels, initial_h, mask, recurrent_mask, *, batch, time, features, units,
               block, sequences, zero_masked, backwards, activation):
    y = project(y, x, kernel, bias, 1, units).reshape(batch, time, units)
    kernel = unpacked(panels, units, units)
    h = np.zeros((batch, units), out.dtype) if initial_h is None else initial_h.copy()
    seen = np.zeros((batch, 1), bool)
    for step, t in steps_of(time, backwards):
        active = np.ones((batch, 1), bool) if mask is None else mask.reshape(batch, time)[:, t, None] != 0
        seen |= active
        new = activate(y[:, t] + (h if recurrent_mask is None else h * recurrent_mask) @ kernel, activation)
        if previous is not None:
            previous[:, t] = h
            y[:, t] = np.where(active, new, y[:, t])
        h = np.where(active, new, h)
        if sequences:
            out[:, step] = np.where(active if zero_masked else seen, h, 0)
    last_h[...] = h
    if not sequences:
        out[...] = np.where(seen, h, 0)


@twin(flops=lambda *, batch, units, **_: batch * units * (2 * units + 10))
def simple_rnn_units(next, y, out, previous, h, panels, *, batch, time, units, step, sequences, backwards, activation):
    t = time - 1 - step if backwards else step
    if previous is not None:
        previous[:, t] = h
    next[...] = activate(y[:, t] + h @ unpacked(panels, units, units), activation)
    if previous is not None:
        y[:, t] = next
    if sequences:
        out[:, step] = next
    elif step == time - 1:
        out[...] = next
    if previous is not None and step < time - 1:
        previous[:, t - 1 if backwards else t + 1] = next


@twin(flops=lambda *, batch, units, **_: batch * units * (2 * units + 10))
def simple_rnn_units_grad(d_inputs, d_h, d_bias, d_out, y, panels, *, batch, time, units, step, backwards, activation):
    t, back = (time - 1 - step, 1) if backwards else (step, -1)
    arriving = d_h.copy()
    if step < time - 1:
        arriving = arriving + d_inputs[:, t - back] @ unpacked(panels, units, units)
    if step < 0:
        d_h[...] = arriving
        return
    if step == time - 1:
        d_bias[...] = 0
    if d_out is not None:
        arriving = arriving + d_out[:, step]
    d_inputs[:, t] = arriving * slope(y[:, t], activation)
    d_h[...] = 0
    d_bias += d_inputs[:, t].sum(0)


@twin(flops=lambda *, batch, time, units, **_: batch * time * units * (2 * units + 10))
def simple_rnn_grad(d_inputs, d_x, d_kernel, d_recurrent_kernel, d_initial_h, d_bias, d_recurrent_mask, d_out, d_last_h, y, previous, x,
                    kernel, panels, mask, recurrent_mask, *, batch, time, features, units, block, sequences, zero_masked, backwards, activation):
    d_inputs = np.empty_like(y) if d_inputs is None else d_inputs
    transposed = unpacked(panels, units, units)
    on = np.ones((batch, time), bool) if mask is None else mask.reshape(batch, time) != 0
    steps = steps_of(time, backwards)
    seen = np.logical_or.accumulate(on[:, [t for _, t in steps]], 1)
    scale = 1 if recurrent_mask is None else recurrent_mask
    d_h, d_scale = d_last_h.copy(), np.zeros((batch, units), y.dtype)
    if not sequences and time:
        d_h += np.where(seen[:, -1:], d_out, 0)
    for step, t in reversed(steps):
        active = on[:, t, None]
        if sequences:
            d_h += np.where(active if zero_masked else seen[:, step, None], d_out[:, step], 0)
        d_inputs[:, t] = np.where(active, d_h * slope(y[:, t], activation), 0)
        d_used = d_inputs[:, t] @ transposed
        d_h = np.where(active, 0, d_h) + d_used * scale
        d_scale += d_used * previous[:, t]
    d_initial_h[...] = d_h
    if d_recurrent_mask is not None:
        d_recurrent_mask[...] = d_scale
    for k in range(len(d_bias)):
        d_bias[k] = d_inputs[k * block: (k + 1) * block].sum((0, 1))
    project_grad(block, d_inputs, d_x, d_kernel, x, kernel,
                 (d_recurrent_kernel, previous if recurrent_mask is None else previous * recurrent_mask[:, None]))


# ---- the op ----

class SimpleRNN(Recurrence):
    """Simple recurrent units: the outputs and the last h.

    x                 (batch, time, features)
    kernel            (features, units)
    recurrent_kernel  (units, units)
    bias              (units), or None
    initial_h         (batch, units), or None: zeros
    mask              (batch, time) bool, or None; False: the state stays, and the output is the one before
    recurrent_mask    (batch, units), or None; h is multiplied by it before each product with recurrent_kernel (recurrent dropout)
    returns           (batch, time, units) with return_sequences, else (batch, units), the last output;
                      (batch, units) h after the last step

    h = activation(x @ W + h @ U + b); options as of lstm.
    """

    few_rows = ((512, 8),)

    def shape(self, x, kernel, recurrent_kernel, bias=None, initial_h=None, mask=None, recurrent_mask=None):
        return self.check(x, kernel, recurrent_kernel, bias, mask, recurrent_mask, initial_h=initial_h)

    def forth(self, outs, x, kernel, recurrent_kernel, bias=None, initial_h=None, mask=None, recurrent_mask=None):
        batch, time, _ = x.shape
        units = len(recurrent_kernel)
        about, previous = self.sizes(x, units), None
        y, of_x = self.projected(x, kernel, bias, about)
        y = None if y is None else y.reshape(batch, time, units)
        panels = packed(self, recurrent_kernel, units, units)
        if self.traced:
            previous = self.empty((batch, time, units))
            self.saved = x, kernel, recurrent_kernel, y, previous, mask, recurrent_mask, about
        if self.by_units(about, mask, recurrent_mask):
            out, last_h = outs
            return self.each_step(kernels.simple_rnn_units, about, last_h, initial_h, (y, out, previous), (panels,))
        yield
        kernels.simple_rnn(*outs, y, previous, *of_x, panels, initial_h, mask, recurrent_mask, **about)

    def back(self, d_outs, d_x, d_kernel, d_recurrent_kernel, d_bias=None, d_initial_h=None, d_mask=None, d_recurrent_mask=None):
        x, kernel, recurrent_kernel, y, previous, mask, recurrent_mask, about = self.saved
        batch, units, in_runs = len(x), about["units"], self.in_runs(about)
        by_units = self.by_units(about, mask, recurrent_mask)
        of_bias, d_inputs = self.empty((1 if by_units else -(-batch // about["block"]), units)), None if in_runs else self.empty(y.shape)
        d_initial_h = self.empty((batch, units)) if d_initial_h is None else d_initial_h
        made, needed = self.products(about, x, kernel, d_x, d_kernel, d_recurrent_kernel)
        panels = packed_transposed(self, recurrent_kernel, units, units)
        if by_units:
            self.each_step_grad(kernels.simple_rnn_units_grad, about, d_initial_h, d_outs, (d_inputs, d_initial_h, of_bias[0]), (y, panels))
        else:
            yield
            kernels.simple_rnn_grad(d_inputs, *made, d_initial_h, of_bias, d_recurrent_mask, *d_outs, y, previous, *needed, panels, mask,
                                    recurrent_mask, **about)
            yield
        self.add_shares((d_bias, d_kernel, d_recurrent_kernel), (of_bias, *made[1:]))
        if not in_runs:
            d_inputs = d_inputs.reshape(*y.shape[:2], 1, units)
            self.d_inputs(d_x, d_inputs, kernel)
            self.d_weight(d_kernel, x, d_inputs)
            self.d_weight(d_recurrent_kernel, self.used(previous, recurrent_mask), d_inputs)

    MASK = np.arange(27).reshape(9, 3) % 4 < 2
    cases = [
        case(x=(1, 1, 1), kernel=(1, 1), recurrent_kernel=(1, 1), bias=(1,)),
        case(x=(3, 4, 2), kernel=(2, 3), recurrent_kernel=(3, 3), bias=(3,), return_sequences=True),
        case(x=(2, 3, 5), kernel=(5, 17), recurrent_kernel=(17, 17), bias=None, initial_h=(2, 17), go_backwards=True, activation="sigmoid"),
        case(x=(9, 3, 3), kernel=(3, 4), recurrent_kernel=(4, 4), bias=(4,), initial_h=(9, 4), mask=MASK, return_sequences=True),
        case(x=(9, 3, 2), kernel=(2, 5), recurrent_kernel=(5, 5), bias=(5,), mask=MASK, go_backwards=True, return_sequences=True,
             zero_output_for_mask=True, recurrent_mask=(9, 5)),
        case(x=(29, 3, 5), kernel=(5, 3), recurrent_kernel=(3, 3), bias=(3,), return_sequences=True, recurrent_mask=(29, 3)),
        case(x=(32, 70, 3), kernel=small_weights(3, 16), recurrent_kernel=small_weights(16, 16), bias=(16,), return_sequences=True),
        case(x=(31, 67, 2), kernel=(2, 4), recurrent_kernel=(4, 4), bias=None, initial_h=(31, 4), go_backwards=True,
             mask=np.arange(31 * 67).reshape(31, 67) % 11 > 9),
        case(x=(2, 3, 1), kernel=(1, 512), recurrent_kernel=small_weights(512, 512), bias=(512,), return_sequences=True),
        case(x=(1, 2, 1), kernel=(1, 513), recurrent_kernel=small_weights(513, 513), bias=None, initial_h=(1, 513), go_backwards=True),
        case(x=(13, 2, 2), kernel=(2, 49), recurrent_kernel=(49, 49), bias=(49,), recurrent_mask=(13, 49), activation="relu"),
        case(x=(2, 4, 3), kernel=(3, 3), recurrent_kernel=(3, 3), bias=(3,), initial_h=(2, 3), activation="linear",
             mask=np.array([[False] * 4, [False, True, True, False]])),
        case(x=(2, 0, 3), kernel=(3, 2), recurrent_kernel=(2, 2), bias=(2,), initial_h=(2, 2)),
        case(x=(0, 3, 2), kernel=(2, 2), recurrent_kernel=(2, 2), bias=(2,), return_sequences=True),
    ]
    bench = [case(x=(32, 80, 64), kernel=(64, 64), recurrent_kernel=(64, 64), bias=(64,)),
             case(x=(32, 50, 256), kernel=(256, 256), recurrent_kernel=(256, 256), bias=(256,), return_sequences=True)]
    wrong = [case(x=(3, 4), kernel=(2, 3), recurrent_kernel=(3, 3)), case(x=(3, 4, 2), kernel=(2, 3), recurrent_kernel=(3, 4)),
             case(x=(3, 4, 2), kernel=(2, 3), recurrent_kernel=(3, 3), bias=(2,)),
             case(x=(3, 4, 2), kernel=(2, 3), recurrent_kernel=(3, 3), activation="elu")]

    def definition(self, x, kernel, recurrent_kernel, bias=None, initial_h=None, mask=None, recurrent_mask=None):
        def step(x, n, h):
            u = h if recurrent_mask is None else h * recurrent_mask[n]
            return (ACTIVATION[self.activation](x @ kernel + u @ recurrent_kernel + (0 if bias is None else bias)),)

        return walked(self, x, step, [np.zeros((len(x), len(recurrent_kernel))) if initial_h is None else initial_h], mask)


simple_rnn = SimpleRNN.apply
