"""The table of summary()."""

import numpy as np
import pytest

from fastdl import Input, Model, Sequential, layers


def text(model, **options):
    lines = []
    assert model.summary(print_fn=lines.append, **options) is None
    return "\n".join(lines)


def test_sequential():
    model = Sequential([layers.Dense(1000, input_shape=(4,), name="first"), layers.Flatten(name="flat")], name="s")
    model.layers[0].trainable = False
    table = text(model)
    assert table.splitlines()[0] == 'Model: "s"'
    row = next(line for line in table.splitlines() if line.startswith("first"))
    assert row.split() == ["first", "(Dense)", "(None,", "1000)", "5,000"]
    assert "Total params: 5,000 (19.53 KB)" in table and "Trainable params: 0 (0 B)" in table and "Non-trainable params: 5,000" in table
    assert "Connected" not in table and max(map(len, table.splitlines())) <= 80


def test_not_built():
    table = text(Sequential([layers.Dense(3, name="d")]))
    assert next(line for line in table.splitlines() if line.startswith("d ")).split() == ["d", "(Dense)", "?", "0", "(unbuilt)"]


def test_functional():
    a, b = Input((4,), name="a"), Input((4,), name="b")
    shared = layers.Dense(2, name="shared")
    model = Model([a, b], layers.Add(name="sum")([shared(a), shared(b) * 2.0]))
    rows = {line.split()[0]: line.split()[1:] for line in text(model).splitlines() if line.strip()}
    assert rows["a"] == ["(InputLayer)", "(None,", "4)", "0", "-"]
    assert rows["shared"] == ["(Dense)", "(None,", "2)", "10", "a,", "b"]
    assert rows["multiply"] == ["(Multiply)", "(None,", "2)", "0", "shared"]
    assert rows["sum"] == ["(Add)", "(None,", "2)", "0", "shared,", "multiply"]


def test_options():
    model = Sequential([Input((4,)), Sequential([layers.Dense(2, name="deep")], name="inner"), layers.Dense(1, name="out")])
    assert "deep" not in text(model)
    table = text(model, expand_nested=True, show_trainable=True)
    assert "  deep (Dense)" in table and table.count(" Y") == 3
    assert "out" not in text(model, layer_range=("inner", "inner"))
    with pytest.raises(ValueError, match="layer_range"):
        text(model, layer_range=("inner", "nowhere"))


def test_long_names_fit():
    model = Sequential([layers.Dense(2, input_shape=(3,), name="a_name_that_is_much_too_long_for_a_column_of_the_table_and_goes_on_and_on")])
    for length in (40, 60, 80, 120):
        assert max(map(len, text(model, line_length=length).splitlines())) <= length
    a = Input((4,), name="an_input_of_some_length")
    y = layers.Concatenate(name="a_layer_that_takes_many_inputs")([layers.Dense(2, name=f"branch_number_{i}")(a) for i in range(8)])
    table = text(Model(a, y))
    assert max(map(len, table.splitlines())) <= 80 and "branch_number_7" in table


def test_subclass(capsys):
    class Net(Model):
        def __init__(self):
            super().__init__()
            self.inner = layers.Dense(2, name="inner")

        def call(self, x):
            return self.inner(x)

    model = Net()
    model(np.ones((1, 3)))
    model.summary()
    assert "inner (Dense)" in capsys.readouterr().out
