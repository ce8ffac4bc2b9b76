"""Gated recurrent units over sequences."""

import numpy as np

from ..op import case, kernels, twin
from .layout import move
from .linear import activate
from .recurrent import (ACTIVATION, Recurrence, packed, packed_gates, packed_transposed, project, project_grad, slope, small_weights, steps_of,
                        unpacked, unpacked_gates, walked)

__all__ = ["gru"]


# ---- twins ----

@twin(flops=lambda *, batch, time, units, **_: batch * time * units * (6 * units + 25))
def gru(out, last_h, gates, previous, inner, x, kernel, input_bias, panels, candidate_panels, bias, initial_h, mask, recurrent_mask, *,
        batch, time, features, units, block, sequences, zero_masked, backwards, activation, recurrent_activation):
    gates = project(gates, x, kernel, input_bias, 3, units)
    kernel = unpacked_gates(panels, units, 3 if candidate_panels is None else 2)
    h = np.zeros((batch, units), gates.dtype) if initial_h is None else initial_h.copy()
    b = np.zeros((3, units), gates.dtype) if bias is None else bias.reshape(3, units)
    seen = np.zeros((batch, 1), bool)
    for step, t in steps_of(time, backwards):
        active = np.ones((batch, 1), bool) if mask is None else mask.reshape(batch, time)[:, t, None] != 0
        seen |= active
        if previous is not None:
            previous[:, t] = h
        used = h if recurrent_mask is None else h * recurrent_mask
        products = (used @ kernel).reshape(batch, kernel.shape[1] // units, units)
        z, r = (activate(gates[:, t, g] + products[:, g] + b[g], recurrent_activation) for g in (0, 1))
        if candidate_panels is None:
            kept = products[:, 2] + b[2]
            candidate = activate(gates[:, t, 2] + r * kept, activation)
        else:
            kept = r * used
            candidate = activate(gates[:, t, 2] + kept @ unpacked(candidate_panels, units, units), activation)
        h = np.where(active, z * h + (1 - z) * candidate, h)
        if inner is not None:
            inner[:, t] = np.where(active, kept, 0)
            gates[:, t] = np.where(active[..., None], np.stack([z, r, candidate], 1), gates[:, t])
        if sequences:
            out[:, step] = np.where(active if zero_masked else seen, h, 0)
    last_h[...] = h
    if not sequences:
        out[...] = np.where(seen, h, 0)


@twin(flops=lambda *, batch, units, **_: batch * units * (6 * units + 25))
def gru_units(next, gates, out, previous, inner, h, panels, bias, *, batch, time, units, step, sequences, backwards, activation,
              recurrent_activation):
    t = time - 1 - step if backwards else step
    if previous is not None:
        previous[:, t] = h
    products = (h @ unpacked_gates(panels, units, 3)).reshape(batch, 3, units)
    if bias is not None:
        products = products + bias.reshape(3, units)
    z, r = (activate(gates[:, t, g] + products[:, g], recurrent_activation) for g in (0, 1))
    candidate = activate(gates[:, t, 2] + r * products[:, 2], activation)
    next[...] = z * h + (1 - z) * candidate
    if inner is not None:
        inner[:, t], gates[:, t] = products[:, 2], np.stack([z, r, candidate], 1)
    if sequences:
        out[:, step] = next
    elif step == time - 1:
        out[...] = next
    if previous is not None and step < time - 1:
        previous[:, t - 1 if backwards else t + 1] = next


@twin(flops=lambda *, batch, units, **_: batch * units * (6 * units + 25))
def gru_units_grad(d_gates, d_recurrent, d_h, d_bias, d_out, gates, previous, inner, panels, *, batch, time, units, step, backwards,
                   activation, recurrent_activation):
    t, back = (time - 1 - step, 1) if backwards else (step, -1)
    arriving = d_h.copy()
    if step < time - 1:
        arriving = arriving + d_recurrent[:, t - back].reshape(batch, 3 * units) @ unpacked(panels, 3 * units, units)
    if step < 0:
        d_h[...] = arriving
        d_bias[1, :2] = d_bias[0, :2]
        return
    if step == time - 1:
        d_bias[...] = 0
    if d_out is not None:
        arriving = arriving + d_out[:, step]
    z, r, g = gates[:, t].transpose(1, 0, 2)
    d_z, d_g = arriving * (previous[:, t] - g) * slope(z, recurrent_activation), arriving * (1 - z) * slope(g, activation)
    d_r = d_g * inner[:, t] * slope(r, recurrent_activation)
    d_gates[:, t], d_recurrent[:, t] = np.stack([d_z, d_r, d_g], 1), np.stack([d_z, d_r, d_g * r], 1)
    d_h[...] = arriving * z
    d_bias[0] += d_gates[:, t].sum(0)
    d_bias[1, 2] += d_recurrent[:, t, 2].sum(0)


@twin(flops=lambda *, batch, time, units, **_: batch * time * units * (6 * units + 25))
def gru_grad(d_gates, d_recurrent, d_x, d_kernel, d_recurrent_kernel, d_initial_h, d_bias, d_recurrent_mask, d_out, d_last_h, gates,
             previous, inner, x, kernel, panels, candidate_panels, mask, recurrent_mask, *, batch, time, features, units, block, sequences,
             zero_masked, backwards, activation, recurrent_activation):
    after = candidate_panels is None
    d_gates = np.empty_like(gates) if d_gates is None else d_gates
    d_recurrent = np.empty_like(gates) if d_recurrent is None else d_recurrent
    transposed = unpacked(panels, (3 if after else 2) * units, units)
    on = np.ones((batch, time), bool) if mask is None else mask.reshape(batch, time) != 0
    steps = steps_of(time, backwards)
    seen = np.logical_or.accumulate(on[:, [t for _, t in steps]], 1)
    scale = 1 if recurrent_mask is None else recurrent_mask
    d_h, d_scale = d_last_h.copy(), np.zeros((batch, units), gates.dtype)
    if not sequences and time:
        d_h += np.where(seen[:, -1:], d_out, 0)
    for step, t in reversed(steps):
        active = on[:, t, None]
        if sequences:
            d_h += np.where(active if zero_masked else seen[:, step, None], d_out[:, step], 0)
        (z, r, g), h = gates[:, t].transpose(1, 0, 2), previous[:, t]
        d_z = np.where(active, d_h * (h - g) * slope(z, recurrent_activation), 0)
        d_g = np.where(active, d_h * (1 - z) * slope(g, activation), 0)
        if after:
            d_r = np.where(active, d_g * inner[:, t] * slope(r, recurrent_activation), 0)
            d_recurrent[:, t] = np.stack([d_z, d_r, np.where(active, d_g * r, 0)], 1)
            d_used = d_recurrent[:, t].reshape(batch, 3 * units) @ transposed
        else:
            d_product = d_g @ unpacked(candidate_panels, units, units)
            d_r = np.where(active, d_product * h * scale * slope(r, recurrent_activation), 0)
            d_used = np.where(active, d_product * r, 0) + np.concatenate([d_z, d_r], 1) @ transposed
        d_gates[:, t] = np.stack([d_z, d_r, d_g], 1)
        d_h = np.where(active, d_h * z, d_h) + d_used * scale
        d_scale += d_used * h
    d_initial_h[...] = d_h
    if d_recurrent_mask is not None:
        d_recurrent_mask[...] = d_scale
    for k in range(len(d_bias)):
        d_bias[k, 0] = d_gates[k * block: (k + 1) * block].sum((0, 1))
        d_bias[k, 1] = d_bias[k, 0]
        d_bias[k, 1, 2] = d_recurrent[k * block: (k + 1) * block, :, 2].sum((0, 1)) if after else 0
    left = previous if recurrent_mask is None else previous * recurrent_mask[:, None]
    project_grad(block, d_gates, d_x, d_kernel, x, kernel)
    project_grad(block, d_recurrent, None, d_recurrent_kernel, left, None)


# ---- the op ----

class GRU(Recurrence):
    """Gated recurrent units: the outputs and the last h.

    x                 (batch, time, features)
    kernel            (features, 3 * units)   gates in the order update, reset, candidate
    recurrent_kernel  (units, 3 * units)
    bias              (2, 3 * units) with reset_after: of the inputs' products, of h's; else (3 * units); or None
    initial_h         (batch, units), or None: zeros
    mask              (batch, time) bool, or None; False: the state stays, and the output is the one before
    recurrent_mask    (batch, units), or None; h is multiplied by it before each product with recurrent_kernel (recurrent dropout)
    returns           (batch, time, units) with return_sequences, else (batch, units), the last output;
                      (batch, units) h after the last step

    Options as of lstm; reset_after: the reset gate multiplies the candidate's product, not h before it.

        z, r = recurrent_activation(x @ W + h @ U + b)          h = z h + (1 - z) g
        g = activation(x @ W + b + r (h @ U + c))               with reset_after
        g = activation(x @ W + b + (r h) @ U)                   without
    """
    recurrent_activation: str = "sigmoid"
    reset_after: bool = True
    gates = 3

    def shape(self, x, kernel, recurrent_kernel, bias=None, initial_h=None, mask=None, recurrent_mask=None):
        return self.check(x, kernel, recurrent_kernel, bias, mask, recurrent_mask, (2,) if self.reset_after else None, initial_h=initial_h)

    def forth(self, outs, x, kernel, recurrent_kernel, bias=None, initial_h=None, mask=None, recurrent_mask=None):
        batch, time, _ = x.shape
        units = len(recurrent_kernel)
        of_x, of_h = (bias, None) if bias is None or not self.reset_after else bias
        about, previous, inner = self.sizes(x, units), None, None
        gates, inputs = self.projected(x, kernel, of_x, about)
        panels, candidate = packed_gates(self, recurrent_kernel, units, 3, gates=3 if self.reset_after else 2), None
        if not self.reset_after:
            candidate = packed(self, recurrent_kernel, units, units, first=2 * units)
        if self.traced:
            previous, inner = self.empty((batch, time, units)), self.empty((batch, time, units))
            self.saved = x, kernel, recurrent_kernel, gates, previous, inner, mask, recurrent_mask, about
        if self.by_units(about, mask, recurrent_mask):
            out, last_h = outs
            return self.each_step(kernels.gru_units, about, last_h, initial_h, (gates, out, previous, inner), (panels, of_h))
        yield
        kernels.gru(*outs, gates, previous, inner, *inputs, panels, candidate, of_h, initial_h, mask, recurrent_mask, **about)

    def by_units(self, about, mask, recurrent_mask):
        """As of every recurrent op; reset before, a step has two products, one after the other."""
        return self.reset_after and super().by_units(about, mask, recurrent_mask)

    def in_runs(self, about):
        """As of every recurrent op; reset before, the candidate's columns have another left operand."""
        return self.reset_after and super().in_runs(about)

    def back(self, d_outs, d_x, d_kernel, d_recurrent_kernel, d_bias=None, d_initial_h=None, d_mask=None, d_recurrent_mask=None):
        x, kernel, recurrent_kernel, gates, previous, inner, mask, recurrent_mask, about = self.saved
        units, after, in_runs = about["units"], self.reset_after, self.in_runs(about)
        panels = packed_transposed(self, recurrent_kernel, (3 if after else 2) * units, units)
        candidate = None if after else packed_transposed(self, recurrent_kernel, units, units, first=2 * units)
        d_initial_h = self.empty((len(x), units)) if d_initial_h is None else d_initial_h
        d_gates = None if in_runs else self.empty(gates.shape)
        d_recurrent = self.empty(gates.shape) if after and not in_runs else None
        by_units = self.by_units(about, mask, recurrent_mask)
        of_bias = self.empty((1 if by_units else -(-len(x) // about["block"]), 2, 3, units))
        made, needed = self.products(about, x, kernel, d_x, d_kernel, d_recurrent_kernel)
        if by_units:
            self.each_step_grad(kernels.gru_units_grad, about, d_initial_h, d_outs, (d_gates, d_recurrent, d_initial_h, of_bias[0]),
                      (gates, previous, inner, panels))
        else:
            yield
            kernels.gru_grad(d_gates, d_recurrent, *made, d_initial_h, of_bias, d_recurrent_mask, *d_outs, gates, previous, inner, *needed,
                             panels, candidate, mask, recurrent_mask, **about)
            yield
        both = d_bias if after or d_bias is None else self.empty((2, 3 * units))
        self.add_shares((both, d_kernel, d_recurrent_kernel), (of_bias, *made[1:]))
        if both is not d_bias:
            kernels.copy(d_bias, both[0], size=3 * units)
        if in_runs:
            return
        self.d_inputs(d_x, d_gates, kernel)
        self.d_weight(d_kernel, x, d_gates)
        used = self.used(previous, recurrent_mask)
        if after:
            self.d_weight(d_recurrent_kernel, used, d_recurrent)
        elif d_recurrent_kernel is not None:                       # the candidate's columns have another left operand
            for left, first, gates in (used, 0, 2), (inner, 2, 1):
                part = self.empty((units, gates * units))
                self.d_weight(part, left, d_gates, gates, first)
                move(d_recurrent_kernel, part, part.shape, (3 * units, 1), (gates * units, 1), y_start=first * units)

    MASK = np.arange(27).reshape(9, 3) % 4 < 2
    cases = [
        case(x=(1, 1, 1), kernel=(1, 3), recurrent_kernel=(1, 3), bias=(2, 3)),
        case(x=(3, 4, 2), kernel=(2, 9), recurrent_kernel=(3, 9), bias=(2, 9), return_sequences=True),
        case(x=(2, 3, 5), kernel=(5, 51), recurrent_kernel=(17, 51), bias=None, initial_h=(2, 17), go_backwards=True),
        case(x=(9, 3, 3), kernel=(3, 12), recurrent_kernel=(4, 12), bias=(2, 12), initial_h=(9, 4), mask=MASK, return_sequences=True),
        case(x=(9, 3, 2), kernel=(2, 15), recurrent_kernel=(5, 15), bias=(2, 15), mask=MASK, go_backwards=True, return_sequences=True,
             zero_output_for_mask=True, recurrent_mask=(9, 5)),
        case(x=(29, 3, 5), kernel=(5, 9), recurrent_kernel=(3, 9), bias=(2, 9), return_sequences=True, recurrent_mask=(29, 3)),
        case(x=(32, 70, 3), kernel=small_weights(3, 48), recurrent_kernel=small_weights(16, 48), bias=(2, 48), return_sequences=True),
        case(x=(31, 67, 2), kernel=(2, 12), recurrent_kernel=(4, 12), bias=None, initial_h=(31, 4), go_backwards=True,
             mask=np.arange(31 * 67).reshape(31, 67) % 11 > 9),
        case(x=(2, 3, 2), kernel=(2, 384), recurrent_kernel=small_weights(128, 384), bias=(2, 384), return_sequences=True),
        case(x=(3, 2, 1), kernel=(1, 387), recurrent_kernel=small_weights(129, 387), bias=None, initial_h=(3, 129), go_backwards=True),
        case(x=(10, 2, 2), kernel=(2, 48), recurrent_kernel=(16, 48), bias=(2, 48)),
        case(x=(13, 2, 2), kernel=(2, 99), recurrent_kernel=(33, 99), bias=(99,), recurrent_mask=(13, 33), reset_after=False),
        case(x=(9, 3, 3), kernel=(3, 12), recurrent_kernel=(4, 12), bias=(12,), initial_h=(9, 4), mask=MASK, return_sequences=True,
             reset_after=False, recurrent_mask=(9, 4)),
        case(x=(2, 4, 3), kernel=(3, 9), recurrent_kernel=(3, 9), bias=None, initial_h=(2, 3), activation="linear", reset_after=False,
             mask=np.array([[False] * 4, [False, True, True, False]]), recurrent_activation="tanh", go_backwards=True),
        case(x=(2, 0, 3), kernel=(3, 6), recurrent_kernel=(2, 6), bias=(2, 6), initial_h=(2, 2)),
        case(x=(0, 3, 2), kernel=(2, 6), recurrent_kernel=(2, 6), bias=(2, 6), return_sequences=True),
    ]
    bench = [case(x=(32, 80, 64), kernel=(64, 192), recurrent_kernel=(64, 192), bias=(2, 192)),
             case(x=(32, 50, 256), kernel=(256, 768), recurrent_kernel=(256, 768), bias=(2, 768), return_sequences=True)]
    wrong = [case(x=(3, 4), kernel=(2, 9), recurrent_kernel=(3, 9)), case(x=(3, 4, 2), kernel=(2, 12), recurrent_kernel=(3, 12)),
             case(x=(3, 4, 2), kernel=(2, 9), recurrent_kernel=(3, 9), bias=(9,)),
             case(x=(3, 4, 2), kernel=(2, 9), recurrent_kernel=(3, 9), bias=(2, 9), reset_after=False),
             case(x=(3, 4, 2), kernel=(2, 9), recurrent_kernel=(3, 9), recurrent_activation="elu")]

    def definition(self, x, kernel, recurrent_kernel, bias=None, initial_h=None, mask=None, recurrent_mask=None):
        act, recurrent_act, units = ACTIVATION[self.activation], ACTIVATION[self.recurrent_activation], len(recurrent_kernel)
        of_x, of_h = (0, np.zeros(3 * units)) if bias is None else bias if self.reset_after else (bias, np.zeros(3 * units))

        def step(x, n, h):
            u = h if recurrent_mask is None else h * recurrent_mask[n]
            (a, b, c), (d, e, f) = np.split(x @ kernel + of_x, 3), np.split(u @ recurrent_kernel + of_h, 3)
            z, r = recurrent_act(a + d), recurrent_act(b + e)
            g = act(c + (r * f if self.reset_after else (r * u) @ recurrent_kernel[:, 2 * units:]))
            return (z * h + (1 - z) * g,)

        return walked(self, x, step, [np.zeros((len(x), units)) if initial_h is None else initial_h], mask)


gru = GRU.apply
