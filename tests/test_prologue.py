"""The prologue of a recorded prediction: what depends on weights alone is computed once for each change of the weights."""

import numpy as np
import pytest

import fastdl
from fastdl import layers, ops
from fastdl.models import Input, Model, Sequential
from fastdl.record import Program
from fastdl.tensor import State


def network():
    fastdl.set_random_seed(1)
    model = Sequential([Input((6, 6, 3)), layers.Conv2D(5, 3, padding="same"), layers.BatchNormalization(), layers.ReLU(),
                        layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)])
    model.compile("sgd", "mse")
    return model


def eagerly(model, x):
    with fastdl.no_grad():
        return model(x).numpy()


@pytest.fixture
def x(rng):
    return rng.standard_normal((2, 6, 6, 3)).astype("f")


def recorded(model, x):
    """The program of model.predict(x), which has run."""
    for _ in range(3):
        model.predict_on_batch(x)
    return model.programs()[-1]


def check(model, x):
    np.testing.assert_array_equal(model.predict_on_batch(x), eagerly(model, x))
    np.testing.assert_array_equal(model.predict(x, verbose=0), eagerly(model, x))


def test_prologue_runs_once_for_each_change(x):
    model = network()
    program = recorded(model, x)
    assert 0 < program.prologue < len(program)
    assert "prologue" in str(program).splitlines()[0]
    assert {label for _, label, _, _ in program.about[:program.prologue]} and len(program.profile(2).rows) <= len(program) - program.prologue
    before = model.predict_on_batch(x)
    kernel = model.layers[0].kernel
    kernel.array[...] = 0                              # unseen, as documented: until mark_changed
    np.testing.assert_array_equal(model.predict_on_batch(x), before)
    kernel.mark_changed()
    assert (model.predict_on_batch(x) != before).any()
    check(model, x)


CHANGES = {
    "assign": lambda model, x, tmp: model.layers[0].kernel.assign(np.ones(model.layers[0].kernel.shape)),
    "assign of moving statistics": lambda model, x, tmp: model.layers[1].moving_variance.assign(np.full(5, 7.0)),
    "ops.assign": lambda model, x, tmp: ops.assign(model.layers[0].kernel, np.ones(model.layers[0].kernel.shape, "f")),
    "ops.assign_add": lambda model, x, tmp: ops.assign_add(model.layers[3].kernel, np.ones(model.layers[3].kernel.shape, "f")),
    "set_weights": lambda model, x, tmp: model.set_weights([w * 2 + 1 for w in model.get_weights()]),
    "train_on_batch": lambda model, x, tmp: [model.train_on_batch(x, np.ones((2, 3), "f")) for _ in range(4)],
    "fit": lambda model, x, tmp: model.fit(x, np.ones((2, 3), "f"), epochs=4, batch_size=1, verbose=0),
    "load_weights": lambda model, x, tmp: model.load_weights(tmp),
    "eager update": lambda model, x, tmp: step_by_hand(model, x),
    "training call": lambda model, x, tmp: model(x, training=True),          # moves the moving statistics
}


def step_by_hand(model, x):
    ops.mean(model(x, training=True)).backward()
    model.optimizer.update([w for w in model.trainable_weights if w.grad is not None])


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_of_weights_is_seen(change, x, tmp_path):
    model = network()
    other = network()
    other.set_weights([w + 0.5 for w in model.get_weights()])
    other.save_weights(str(tmp_path / "other.fastdl"))
    recorded(model, x)
    for _ in range(3):                                 # a training program is plain, recorded, replayed
        CHANGES[change](model, x, str(tmp_path / "other.fastdl"))
        recorded(model, x)
        check(model, x)


def test_evaluation_between_training(x):
    model, y = network(), np.ones((2, 3), "f")
    for _ in range(4):
        model.train_on_batch(x, y)
        program = next((p for p in model.programs() if not p.changes_weights and p.prologue), None)
        for _ in range(3):
            model.test_on_batch(x, y)
        model.reset_metrics()
        assert model.test_on_batch(x, y) == pytest.approx(float(np.mean((eagerly(model, x) - y) ** 2)), rel=1e-5)
        model.reset_metrics()
    assert program is not None


def test_a_program_that_changes_weights_keeps_its_order():
    kernel = fastdl.Parameter(np.ones((2, 2), "f"), "kernel")
    seen = fastdl.tensor(np.zeros((3,), "f"))
    program = Program()
    with fastdl.no_grad(), program.recorded():
        ops.assign_add(kernel, np.ones((2, 2), "f"))
        seen = ops.sum(ops.multiply(kernel, kernel))
    assert program.changes_weights and program.prologue == 0
    for wanted in 3, 4, 5:
        program.run()
        assert float(seen) == 4 * wanted ** 2


def test_only_weights_are_taken_for_weights(rng):
    kernel, total = fastdl.Parameter(np.ones((2, 2), "f"), "kernel"), State(np.ones((2, 2), "f"), "total")
    given = fastdl.tensor(np.ones((2, 2), "f"))
    program = Program()
    with fastdl.no_grad(), program.recorded():
        folded = ops.exp(ops.transpose(kernel) * 2 + kernel)         # weights and numbers: prologue
        first = program.about[-1][0]
        ops.exp(given), ops.exp(total), folded * given               # not
    assert first == "exp"
    main = [name for name, *_ in program.about[program.prologue:]]
    assert main.count("exp") == 2 and len(main) == 3
    program = Program()
    with program.recorded():
        ops.exp(kernel)                                              # its gradient may be asked for
    assert program.prologue == 0


def test_what_the_prologue_made_is_not_overwritten(rng):
    kernel = fastdl.Parameter(rng.standard_normal((64, 64)).astype("f"), "kernel")
    x = fastdl.tensor(rng.standard_normal((64, 64)))
    program = Program()
    with fastdl.no_grad(), program.recorded():
        y = ops.exp(ops.exp(x))                                      # its workspace is free when the kernel's is made
        y = y + ops.tanh(ops.tanh(ops.tanh(kernel)))
        y = y + ops.exp(x)
    wanted = y.numpy().copy()
    for _ in range(3):
        program.run()
        np.testing.assert_array_equal(y.numpy(), wanted)
    kernel.assign(np.zeros((64, 64)))
    program.run()
    assert (y.numpy() != wanted).any()


def test_the_array_of_a_parameter_cannot_be_written_to_in_silence():
    p = fastdl.Parameter(np.ones((3,), "f"))
    for view in p.numpy(), np.asarray(p):
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 2
    assert np.shares_memory(p.numpy(), p.array)
    np.array(p)[0] = 2
    p.assign([2, 3, 4])
    assert p.numpy()[1] == 3


def test_twins_have_prologues_too(x):
    with fastdl.isa("numpy"):
        model = network()
        program = recorded(model, x)
        assert program.prologue
        model.layers[0].kernel.assign(np.ones(model.layers[0].kernel.shape))
        check(model, x)
        assert program.profile(1).seconds > 0


def test_frozen_layers_in_a_training_program(x):
    model = network()
    model.layers[0].trainable = False
    model.compile("sgd", "mse")
    for _ in range(4):
        model.train_on_batch(x, np.ones((2, 3), "f"))
    assert model.programs()[0].changes_weights and not model.programs()[0].prologue
    check(model, x)


def test_predictions_while_another_thread_trains(x):
    import threading
    model, y = network(), np.ones((2, 3), "f")
    recorded(model, x)
    trainer = threading.Thread(target=lambda: model.fit(x, y, epochs=300, batch_size=2, verbose=0))
    trainer.start()
    while trainer.is_alive():
        model.predict_on_batch(x)
    check(model, x)
