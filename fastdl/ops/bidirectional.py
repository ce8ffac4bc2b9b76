"""A recurrent op forwards and another backwards through time, side by side."""

import numpy as np

from ..op import Op, case
from .gru import GRU
from .lstm import LSTM
from .recurrent import together
from .simple_rnn import SimpleRNN

__all__ = ["bidirectional"]

OPS = {"lstm": LSTM, "gru": GRU, "simple_rnn": SimpleRNN}


def halves(x):
    """Those of the first op and those of the second."""
    return x[:len(x) // 2], x[len(x) // 2:]


class Bidirectional(Op):
    """Two recurrent ops of one kind and of the same options, that go through time in opposite directions: the results of both.

    inputs   those of the one op, all of them, None for one left out; then as many of the other
    returns  what the one op returns, then what the other

    of is the kind: lstm, gru or simple_rnn; go_backwards that of the first. The outputs of each are in the order in which it computes
    them. A recorded program shares out the blocks of rows of both as one, so that a short batch uses two threads.
    """
    of: str = "lstm"
    return_sequences: bool = False
    go_backwards: bool = False
    zero_output_for_mask: bool = False
    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"
    reset_after: bool = True
    bfloat16: bool = False

    def directions(self):
        """The two ops."""
        if self.of not in OPS:
            raise ValueError(f"bidirectional: of is {self.of!r}\n  known are {', '.join(OPS)}")
        kind, both = OPS[self.of], []
        for backwards in bool(self.go_backwards), not self.go_backwards:
            op = kind.__new__(kind)
            op.__dict__.update({name: getattr(self, name) for name in kind.options}, go_backwards=backwards, dtype=self.dtype,
                               traced=self.traced, label=self.label)
            both.append(op)
        return both

    def shape(self, *inputs):
        return [shape for op, own in zip(self.directions(), halves(inputs)) for shape in op.shape(*own)]

    def result_dtype(self, *inputs):
        return [self.dtype] * len(self.shape(*inputs))

    def forward(self, outs, *inputs):
        self.both = self.directions()
        together(*(op.forth(own, *given) for op, own, given in zip(self.both, halves(outs), halves(inputs))))

    def backward(self, d_outs, *d_inputs):
        together(*(op.back(own, *wanted) for op, own, wanted in zip(self.both, halves(d_outs), halves(d_inputs))))

    LSTM_SHAPES = dict(x=(3, 4, 2), w=(2, 12), u=(3, 12), b=(12,), h=None, c=None, mask=None, drop=None,
                       x2=(3, 4, 2), w2=(2, 12), u2=(3, 12), b2=(12,), h2=None, c2=None, mask2=None, drop2=None)
    MASK = np.arange(12).reshape(3, 4) % 5 > 1
    cases = [
        case(**LSTM_SHAPES, return_sequences=True),
        case(**{**LSTM_SHAPES, "mask": MASK, "mask2": MASK, "h": (3, 3), "h2": (3, 3), "drop": (3, 3)}, go_backwards=True),
        case(x=(9, 3, 2), w=(2, 9), u=(3, 9), b=(2, 9), h=None, mask=None, drop=None,
             x2=(9, 3, 2), w2=(2, 9), u2=(3, 9), b2=(2, 9), h2=None, mask2=None, drop2=None, of="gru"),
        case(x=(2, 3, 2), w=(2, 5), u=(5, 5), b=(5,), h=None, mask=None, drop=None,
             x2=(2, 3, 2), w2=(2, 5), u2=(5, 5), b2=(5,), h2=None, mask2=None, drop2=None, of="simple_rnn", activation="relu"),
    ]
    bench = [case(x=(1, 80, 64), w=(64, 256), u=(64, 256), b=(256,), h=None, c=None, mask=None, drop=None,
                  x2=(1, 80, 64), w2=(64, 256), u2=(64, 256), b2=(256,), h2=None, c2=None, mask2=None, drop2=None)]
    wrong = [case(**LSTM_SHAPES, of="bidirectional")]

    def definition(self, *inputs):
        self.dtype = inputs[0].dtype
        return [out for op, own in zip(self.directions(), halves(inputs)) for out in op.definition(*own)]


bidirectional = Bidirectional.apply
