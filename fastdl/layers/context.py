"""What a call of a layer hands on to the layers inside it, for each thread apart; and the names of layers."""

import contextlib
import re
import threading


class Context(threading.local):
    """The state of the calls that this thread is in."""

    training = None                  # the training flag of the innermost call that has one
    outermost = None                 # the layer whose call all others are inside of
    tracing = False                  # inside a call on Symbols
    updates = None                   # list that takes add_update's pairs; None: they happen at once
    budget = None                    # bytes that weights may still take while a file is loaded


context = Context()


@contextlib.contextmanager
def deferred_updates():
    """Context manager: weight updates of the forward pass (moving statistics) inside it do not happen; it yields the list
    of (parameter, tensor), for the end of the step."""
    before, context.updates = context.updates, []
    try:
        yield context.updates
    finally:
        context.updates = before


@contextlib.contextmanager
def tracing(layer, nodes=False):
    """Context manager: calls on Symbols inside belong to a call of the layer.

    nodes   whether the layers called note it, for their .input and .output
    """
    before, outermost = context.tracing, context.outermost
    context.tracing, context.outermost = not nodes, outermost or layer
    try:
        yield
    finally:
        context.tracing, context.outermost = before, outermost


_counts = {}


def snake_case(name):
    """Keras' rule: MaxPooling2D is max_pooling2d, ReLU is re_lu."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<!^)(?<!_)(?=[A-Z][a-z])", "_", re.sub(r"\W+", "", name)).lower()


def auto_name(prefix):
    """prefix, prefix_1, prefix_2 …: a name that this process has not given yet."""
    count = _counts.get(prefix, 0)
    _counts[prefix] = count + 1
    return f"{prefix}_{count}" if count else prefix


def clear_session():
    """Start the numbering of automatic names again."""
    _counts.clear()
