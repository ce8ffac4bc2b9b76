"""What the recurrent ops share: weights in panels, options and shapes, products with the inputs, the definition."""

import numpy as np

from .._core import join
from ..errors import shape_error
from ..op import ACTIVATIONS, Op, kernels, twin
from .bfloat16 import pack, pairs, rounded_if
from .layout import broadcast
from .linear import PANEL, panel_floats, product

__all__ = []

GATE_UNITS = 16                 # units whose four gates share a panel, as in csrc/gates.h
MOST_UNITS = 32768

# Where gates are made from inputs, and gradients of weights from theirs, within the recurrence, run by run of steps in the second cache.
RUN_BLOCKS, RUN_WIDTH, RUN_WEIGHTS = 8, 512, 1 << 17       # fewest blocks of rows; most features, or units; most weights


def block_rows(batch, units):
    """Batch rows that one item carries through time: a matter of shape only.

    Each step reads all weights, so more rows where these come from beyond the second cache; an even number of items. Four rows use
    small weights as well as eight do, so that a batch of 32 has work for eight threads.
    """
    most = min(8 if units < 256 else 16, max(1, MOST_UNITS // units))
    if units < 256:
        most = min(most, max(4, -(-batch // RUN_BLOCKS)))
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


def packed(op, kernel, depth, columns, first=0):
    """Columns first … of a kernel, a (depth, columns) matrix, in panels of 32 columns."""
    return op.prepared((panel_floats(depth, columns),), lambda panels: kernels.pack(
        panels, kernel.reshape(-1)[first:], depth=depth, columns=columns, row=kernel.shape[1], column=1), kernel)


def packed_transposed(op, kernel, depth, columns, first=0):
    """The transpose, (depth, columns), of columns first … of a kernel, in panels of 32 columns."""
    return op.prepared((panel_floats(depth, columns),), lambda panels: kernels.pack(
        panels, kernel.reshape(-1)[first:], depth=depth, columns=columns, row=1, column=kernel.shape[1]), kernel)


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


def project(z, x, kernel, bias, gates, units):
    """x @ kernel + bias (batch, time, gates, units), or z where x is None; put into z, where there is one."""
    if x is None:
        return z
    z = np.empty((*x.shape[:2], gates, units), x.dtype) if z is None else z.reshape(*x.shape[:2], gates, units)
    z[...] = (x @ unpacked(kernel, x.shape[-1], gates * units)).reshape(z.shape)
    if bias is not None:
        z += bias.reshape(gates, units)
    return z


def project_grad(block, d_gates, d_x, d_kernel, x, kernel, *others, rounded=False):
    """What is made of d (batch, time, gates, units), for x, and for others, (d_kernel, left) each; those that are not None.

    rounded: of the others, operands to bfloat16."""
    d = d_gates.reshape(*d_gates.shape[:2], int(np.prod(d_gates.shape[2:])))
    if d_x is not None:
        d_x[...] = d @ unpacked(kernel, d.shape[-1], d_x.shape[-1])
    for share, left in ((d_kernel, x), *others):
        for k in range(0 if share is None else len(share)):
            rows = slice(k * block, (k + 1) * block)
            both = (rounded_if(rounded, part) for part in (left[rows], d[rows]))
            share[k] = np.tensordot(*both, ((0, 1), (0, 1))).reshape(share[k].shape)


def slope(y, activation):
    """What csrc/gates.h's slope does, in NumPy."""
    return {0: lambda: np.ones_like(y), 1: lambda: (y > 0).astype(y.dtype), 2: lambda: y * (1 - y), 3: lambda: 1 - y * y,
            4: lambda: ((y > 0) & (y < 6)).astype(y.dtype)}[activation]()


def small_weights(units, columns):
    """For cases of many units: weights such that rounding does not grow from step to step."""
    i, j = np.arange(units) * columns, np.arange(columns)                   # sin(i + j): two outer products, as import waits for it
    return ((np.outer(np.sin(i), np.cos(j)) + np.outer(np.cos(i), np.sin(j))) / units ** 0.5).astype("float32")


# ---- the ops ----

def together(*runs):
    """Run generators that yield right before and right after the launch of one kernel, or never: these launches side by side."""
    waiting = [next(run, True) is None for run in runs]
    for k, run in enumerate(runs):
        join(k > 0 and all(waiting))
        try:
            next(run, None)
        finally:
            join(False)
    for run in runs:
        next(run, None)


class Recurrence(Op, abstract=True):
    """What the recurrent ops share: options, shape rule, projection of the inputs, gradients of the weights.

    A subclass names its `gates` (a number) and `states`, the inputs of shape (batch, units) besides recurrent_mask; its forth(outs,
    *inputs) and back(d_outs, *d_inputs) are generators that `together` runs.
    """
    return_sequences: bool = False
    go_backwards: bool = False
    zero_output_for_mask: bool = False
    activation: str = "tanh"
    bfloat16: bool = False
    gates, states = 1, ("initial_h",)
    few_rows = (256, 16), (128, 4)           # where units, not rows, are shared out: so many units, and fewer rows

    def forward(self, outs, *inputs):
        together(self.forth(outs, *inputs))

    def backward(self, d_outs, *d_inputs):
        together(self.back(d_outs, *d_inputs))

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

    def sizes(self, x, units):
        """What the kernels of a layer are told."""
        batch, time, features = x.shape
        about = {"batch": batch, "time": time, "features": features, "units": units, "block": block_rows(batch, units), "sequences": self.return_sequences,
                 "zero_masked": self.zero_output_for_mask, "backwards": self.go_backwards, "activation": ACTIVATIONS[self.activation]}
        if "recurrent_activation" in self.options:
            about["recurrent_activation"] = ACTIVATIONS[self.recurrent_activation]
        return about

    def in_runs(self, about):
        """Whether the recurrence makes gates from inputs itself, and the gradients of weights: a matter of shape only."""
        return not self.bfloat16 and self.small(about)

    def small(self, about):
        """Whether runs pay: where arrays of all steps are larger than the caches and weights smaller; blocks of rows must suffice for all
        threads."""
        features, units = about["features"], about["units"]
        return (about["time"] > 0 and about["batch"] > (RUN_BLOCKS - 1) * about["block"] and
                0 < features <= RUN_WIDTH and units <= RUN_WIDTH and (features + units) * self.gates * units <= RUN_WEIGHTS)

    def projected(self, x, kernel, bias, about):
        """x @ kernel + bias, (batch, time, gates, units), and three Nones; or, in runs, room for the gates, and x, panels, bias."""
        (batch, time, features), columns = x.shape, kernel.shape[1]
        out = None if self.in_runs(about) and not self.traced else self.empty((batch, time, self.gates, columns // self.gates))
        if self.in_runs(about):
            return out, (x, packed(self, kernel, features, columns), bias)
        product(self, out, x, kernel, bias, rows=batch * time, columns=columns, depth=features, left_row=features, left_depth=1,
                right_depth=columns, right_column=1)
        return out, (None, None, None)

    def by_units(self, about, mask, recurrent_mask):
        """Whether units, not rows, are shared out, a call a step: of few rows each would read all the weights, which are many."""
        few = any(0 < about["batch"] < rows for units, rows in self.few_rows if about["units"] >= units)
        return few and about["time"] > 0 and mask is None and recurrent_mask is None and not about.get("rounded")

    def each_step(self, kernel, about, last_h, h, before, after):
        """A call kernel(h after, *before, h, *after) for each step."""
        spare = [self.empty(last_h.shape), self.empty(last_h.shape)]
        about = {k: v for k, v in about.items() if k not in ("features", "block", "zero_masked", "rounded")}
        if h is None:
            h = self.empty(last_h.shape)
            kernels.fill(h, size=h.size, value=0.0)
        for step in range(about["time"]):
            to = last_h if step == about["time"] - 1 else spare[step % 2]
            kernel(to, *before, h, *after, step=step, **about)
            h = to

    def each_step_grad(self, kernel, about, d_h, d_outs, before, after):
        """A call kernel(*before, d_out, *after) for each step, and one before the first; d_h: one of these, what arrives at the last h."""
        d_out, d_last_h = d_outs[:2]
        kernels.copy(d_h, d_last_h, size=d_h.size)
        if not about["sequences"]:
            kernels.accumulate(d_h, d_out, size=d_h.size)
            d_out = None
        about = {k: v for k, v in about.items() if k not in ("features", "block", "zero_masked", "sequences", "rounded")}
        for step in range(about["time"] - 1, -2, -1):
            kernel(*before, d_out, *after, step=step, **about)

    def used(self, previous, recurrent_mask):
        """What h @ recurrent_kernel multiplied, at all steps."""
        if recurrent_mask is None:
            return previous
        used = self.empty(previous.shape)
        broadcast(self, kernels.multiply, used, previous, recurrent_mask.reshape(len(previous), 1, -1))
        return used

    def products(self, about, x, kernel, d_x, d_kernel, d_recurrent_kernel):
        """What the way back fills and needs to make all that is made of the gates' gradients: d_x and the blocks' shares of both kernels'
        gradients; x and kernel transposed. Nones where the products are apart."""
        if not self.in_runs(about):
            return (None,) * 3, (None, None)
        blocks = -(-about["batch"] // about["block"])
        shares = [None if d is None else self.empty((blocks, *d.shape)) for d in (d_kernel, d_recurrent_kernel)]
        return (d_x, *shares), (x, None if d_x is None else packed_transposed(self, kernel, kernel.shape[1], x.shape[2]))

    def add_shares(self, gradients, of_all):
        """Each gradient = the sum of the blocks' shares of it; where neither is None."""
        for d, shares in zip(gradients, of_all):
            if d is not None and shares is not None:
                kernels.sum_parts(d, shares, outer=1, count=len(shares), size=d.size)

    def d_inputs(self, d_x, d_gates, kernel):
        """The gradient of x from that of its projection."""
        if d_x is not None:
            features, columns = kernel.shape
            product(self, d_x, d_gates, kernel, rows=d_x.shape[0] * d_x.shape[1], columns=features, depth=columns, left_row=columns,
                    left_depth=1, right_depth=1, right_column=columns)

    def d_weights(self, d_gates, *of):
        """For each (d, left) d_weight(d, left, d_gates), which is rounded once."""
        of = [(d, left) for d, left in of if d is not None and d.size]
        if not self.bfloat16 or not of:
            for d, left in of:
                self.d_weight(d, left, d_gates)
            return
        batch, time, gates, units = d_gates.shape
        panels = pack(self, d_gates, depth=batch * time, columns=gates * units, b_depth=gates * units, b_column=1)
        for d, left in of:
            kernels.matrix_product_bf16(d, left, panels, None, None, outer=1, inner=1, rows=left.shape[-1], columns=gates * units, depth=batch * time,
                                        split=0, left_outer=0, left_inner=0, left_row=1, left_depth=left.shape[-1], right_outer=0, right_inner=0,
                                        activation=0)

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
