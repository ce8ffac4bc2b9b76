"""Embedding and long short-term memory in one, over sequences of tokens."""

import numpy as np

from ..errors import shape_error
from ..op import Spec, case, integers, kernels
from .indexing import as_int32
from .linear import product
from .lstm import LSTM
from .recurrent import small_weights

__all__ = ["embedded_lstm"]


class EmbeddedLSTM(LSTM):
    """Long short-term memory over the rows of a table that tokens name: as lstm of embedding, from zeros, without masks.

    tokens            (batch, time); integers, 0 to input_dim - 1
    table             (input_dim, features)
    kernel            (features, 4 * units)   gates in the order input, forget, cell, output
    recurrent_kernel  (units, 4 * units)
    bias              (4 * units), or None
    returns           (batch, time, units) with return_sequences, else (batch, units), the last output;
                      (batch, units) h;  (batch, units) c after the last step

    Each row of the table is multiplied by kernel once, and so is the sum of the gradients of its tokens: where tokens are more than
    rows, that is less work. DataError for a token out of range.
    """

    @classmethod
    def takes(cls, shape, rows, units):
        """Whether it pays for tokens of a shape: there are so many more of them than rows of the table (sums by token take time, too)."""
        few = any(shape[0] < batch for least, batch in cls.few_rows if units >= least)
        return len(shape) == 2 and shape[0] * shape[1] >= 2 * rows and not few

    def shape(self, tokens, table, kernel, recurrent_kernel, bias=None):
        if tokens.ndim != 2 or table.ndim != 2:
            raise shape_error(self.name, "tokens and table must have 2 axes", tokens=(tokens.shape, "batch, time"),
                              table=(table.shape, "input_dim, features"))
        return self.check(self.inputs(tokens, table), kernel, recurrent_kernel, bias, None, None, initial_h=None, initial_c=None)

    def inputs(self, tokens, table):
        """What stands for the embedding's output."""
        return Spec(tokens.shape + table.shape[1:], table.dtype)

    def forth(self, outs, tokens, table, kernel, recurrent_kernel, bias=None):
        (batch, time), (rows, features), units = tokens.shape, table.shape, len(recurrent_kernel)
        tokens, about = as_int32(self, tokens), {**self.sizes(self.inputs(tokens, table), units), "rounded": self.bfloat16}
        kernels.check_tokens(tokens, size=tokens.size, limit=rows)
        given = self.empty((rows, 4, units))
        product(self, given, table, kernel, bias, rows=rows, columns=4 * units, depth=features, left_row=features, left_depth=1,
                right_depth=4 * units, right_column=1)
        gates = previous = cells = None
        if self.traced:
            gates, previous, cells = self.empty((batch, time, 4, units)), self.empty((batch, time, units)), self.empty((batch, time, units))
            self.saved = tokens, table, kernel, recurrent_kernel, gates, previous, cells, about
        panels = self.forth_panels(recurrent_kernel, units)
        yield
        kernels.lstm(*outs, gates, previous, cells, None, None, None, given, tokens, panels, None, None, None, None, **about)

    def back(self, d_outs, d_tokens, d_table, d_kernel, d_recurrent_kernel, d_bias=None):
        tokens, table, kernel, recurrent_kernel, gates, previous, cells, about = self.saved
        (batch, time, _, units), rows, blocks = gates.shape, len(table), -(-len(tokens) // about["block"])
        d_gates, of_bias = self.empty(gates.shape), self.empty((blocks, 4, units))
        shares = None if d_recurrent_kernel is None or not self.small(about) else self.empty((blocks, *d_recurrent_kernel.shape))
        panels = self.back_panels(recurrent_kernel, units)
        yield
        kernels.lstm_grad(d_gates, None, None, shares, None, self.empty((batch, units)), of_bias, None, *d_outs, gates,
                          previous, cells, None, None, panels, None, None, None, **about)
        yield
        self.add_shares((d_bias, d_recurrent_kernel), (of_bias, shares))
        if shares is None:
            self.d_weight(d_recurrent_kernel, previous, d_gates)
        if d_table is not None or d_kernel is not None:
            order, first = self.empty((tokens.size,), "int32"), self.empty((rows + 1,), "int32")
            kernels.order_indices(order, first, tokens, size=rows, count=tokens.size)
            d_given = self.empty((1, rows, 4, units))            # a batch of one sequence: the table
            kernels.take_grad(d_given, d_gates, order, first, outer=1, size=rows, inner=4 * units, count=tokens.size)
            self.d_inputs(None if d_table is None else d_table[None], d_given, kernel)
            self.d_weight(d_kernel, table[None], d_given)
        if d_tokens is not None:
            kernels.fill(d_tokens, size=d_tokens.size, value=0.0)

    cases = [
        case(tokens=integers((3, 4), 5), table=(5, 2), kernel=(2, 12), recurrent_kernel=(3, 12), bias=(12,), return_sequences=True),
        case(tokens=integers((2, 7), 3, "int64"), table=(3, 17), kernel=(17, 68), recurrent_kernel=(17, 68), bias=None, go_backwards=True),
        case(tokens=integers((0, 3), 2), table=(2, 3), kernel=(3, 8), recurrent_kernel=(2, 8), bias=(8,)),
        case(tokens=integers((31, 3), 4), table=(4, 3), kernel=(3, 64), recurrent_kernel=small_weights(16, 64), bias=(64,), return_sequences=True),
        case(tokens=integers((3, 4), 5), table=(5, 2), kernel=(2, 12), recurrent_kernel=(3, 12), bias=(12,), return_sequences=True, bfloat16=True),
        case(tokens=integers((29, 7), 3), table=(3, 3), kernel=(3, 132), recurrent_kernel=small_weights(33, 132), bias=None, bfloat16=True),
    ]
    bench = [case(tokens=integers((128, 200), 10000), table=(10000, 64), kernel=(64, 256), recurrent_kernel=(64, 256), bias=(256,))]
    wrong = [case(tokens=integers((3,), 5), table=(5, 2), kernel=(2, 12), recurrent_kernel=(3, 12)),
             case(tokens=integers((3, 4), 5), table=(5, 3), kernel=(2, 12), recurrent_kernel=(3, 12))]

    def definition(self, tokens, table, kernel, recurrent_kernel, bias=None):
        return super().definition(table[tokens], kernel, recurrent_kernel, bias)


embedded_lstm = EmbeddedLSTM.apply
