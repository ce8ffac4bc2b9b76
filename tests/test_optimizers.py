"""Optimisers beyond the updates that test_losses.py compares with Keras: runs of neighbours, recording, checkpoints, constraints."""

import numpy as np
import pytest

import fastdl
from fastdl import _core, constraints, optimizers, regularizers
from fastdl.optimizers.optimizer import neighbours
from fastdl.optimizers import schedules
from fastdl.record import Program


def parameters(rng, packed, sizes=((3, 4), (5,), (2, 2))):
    values = [rng.standard_normal(s).astype("float32") for s in sizes]
    gradients = [rng.standard_normal(s).astype("float32") for s in sizes]
    if packed:
        block, grads, at = _core.empty((sum(v.size for v in values),)), _core.empty((sum(v.size for v in values),)), 0
        for i, v in enumerate(values):
            place = slice(at, at + v.size)
            block[place], grads[place] = v.ravel(), gradients[i].ravel()
            values[i], gradients[i] = block[place].reshape(v.shape), grads[place].reshape(v.shape)
            at += v.size
    found = [fastdl.Parameter(v, f"p{i}") for i, v in enumerate(values)]
    for p, g in zip(found, gradients):
        p.grad = g
    return found


@pytest.mark.parametrize("make", [lambda: optimizers.Adam(0.1, amsgrad=True), lambda: optimizers.SGD(0.1, momentum=0.9, clipnorm=0.5),
                                  lambda: optimizers.RMSprop(0.1, centered=True, global_clipnorm=1.0), lambda: optimizers.AdamW(0.1)])
def test_neighbours_are_updated_in_one_call_to_the_same_bits(make):
    found = []
    for packed in True, False:
        ps, optimizer, program = parameters(np.random.default_rng(0), packed), make(), Program()
        with program.recorded():
            optimizer.update(ps)
        updates = [name for name, *_ in program.about if name in ("adam", "sgd", "rmsprop")]
        assert len(updates) == (1 if packed and not optimizer.clipnorm else 3)
        program.run(2)
        assert int(optimizer.iterations) == 3
        found.append([p.numpy() for p in ps] + [v.numpy() for v in optimizer.variables])
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, rtol=1e-6)          # the norm of a run is summed in other pieces
    assert optimizers.Adam and all(a.shape == b.shape for a, b in zip(*found))


def test_neighbours_need_one_block_and_one_kind():
    a, b = np.zeros(10, "float32"), np.zeros(10, "float32")
    rows = [(a[:4], b[:4]), (a[4:6], b[4:6]), (a[6:], b[5:9])]
    assert neighbours(rows) == [[0, 1], [2]]
    assert neighbours([rows[1], rows[0]]) == [[1, 0]]
    assert neighbours(rows, [0, 1, 1]) == [[0], [1], [2]]


def test_learning_rate_and_steps_are_seen_by_recorded_updates():
    p = fastdl.Parameter(np.zeros(3, "float32"), "p")
    p.grad = np.ones(3, "float32")
    optimizer, program = optimizers.SGD(1.0), Program()
    with program.recorded():
        optimizer.update([p])
    program.run()
    optimizer.learning_rate = 0.25
    program.run(2)
    assert p.numpy().tolist() == [-2.5] * 3 and float(optimizer.learning_rate) == 0.25 and int(optimizer.iterations) == 4


def test_schedules_are_recorded_and_python_ones_are_refused():
    p = fastdl.Parameter(np.zeros(1, "float32"), "p")
    p.grad = np.ones(1, "float32")
    optimizer, program = optimizers.SGD(schedules.PiecewiseConstantDecay([1, 2], [1.0, 10.0, 100.0])), Program()
    with program.recorded():
        optimizer.update([p])
    program.run(3)
    assert p.numpy().tolist() == [-112.0]
    with pytest.raises(TypeError, match="cannot be set to a number"):
        optimizer.learning_rate = 0.1

    class Own(schedules.LearningRateSchedule):
        def __call__(self, step):
            return 1.0 + step
    own = optimizers.SGD(Own())
    own.update([p])
    own.update([p])
    assert p.numpy().tolist() == [-115.0]
    with pytest.raises(fastdl.RecordingError, match="would be frozen"), Program().recorded():
        own.update([p])
    assert float(optimizers.SGD(lambda: 0.5).learning_rate) == 0.5


def test_a_checkpoint_resumes_to_the_same_bits(rng):
    ps = parameters(rng, True)
    first = optimizers.Adam(0.1)
    for _ in range(3):
        first.update(ps)
    saved = [v.numpy().copy() for v in first.variables], [p.numpy().copy() for p in ps]
    first.update(ps)
    expected = [p.numpy().tobytes() for p in ps]
    for p, v in zip(ps, saved[1]):
        p.assign(v)
    second = optimizers.get(optimizers.serialize(first))
    second.build(ps)
    assert [v.name for v in second.variables] == ["iteration", "learning_rate"] + [f"p{i}_{s}" for i in range(3) for s in ("momentum", "velocity")]
    for v, value in zip(second.variables, saved[0]):
        v.assign(value)
    second.update(ps)
    assert [p.numpy().tobytes() for p in ps] == expected


def test_configuration():
    for optimizer in (optimizers.SGD(0.1, momentum=0.5, nesterov=True), optimizers.RMSprop(centered=True), optimizers.AdamW(clipnorm=1.0),
                      optimizers.Adam(schedules.CosineDecay(0.1, 10, warmup_target=0.2, warmup_steps=3))):
        assert optimizers.deserialize(optimizers.serialize(optimizer)).get_config() == optimizer.get_config()
    assert isinstance(optimizers.get("rmsprop"), optimizers.RMSprop) and isinstance(optimizers.get("SGD"), optimizers.SGD)
    with pytest.raises(ValueError, match="optimizer: 'adamm' is not known"):
        optimizers.get("adamm")
    with pytest.raises(ValueError, match="only one of clipnorm"):
        optimizers.Adam(clipnorm=1.0, clipvalue=1.0)


def test_parameters_without_gradients_and_strangers(rng):
    ps = parameters(rng, False)
    optimizer, before = optimizers.Adam(), ps[1].numpy().copy()
    ps[1].grad = None
    with pytest.warns(UserWarning, match="no gradient for p1"):
        optimizer.update(ps)
    assert (ps[1].numpy() == before).all()
    with pytest.raises(ValueError, match="other parameters than p0"):
        optimizer.update(parameters(rng, False))
    with pytest.raises(ValueError, match="none of the parameters"):
        optimizers.SGD().apply([None], [ps[0]])


def test_weight_decay_can_leave_some_out(rng):
    ps = parameters(rng, True)
    for p in ps:
        p.grad[...] = 0
    before = [p.numpy().copy() for p in ps]
    optimizer = optimizers.SGD(0.5, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["p1"])
    optimizer.update(ps)
    for p, b, factor in zip(ps, before, (0.75, 1, 0.75)):
        assert (p.numpy() == b * np.float32(factor)).all()


def test_clipping_by_a_norm_that_is_not_finite():
    p = fastdl.Parameter(np.zeros(2, "float32"), "p")
    p.grad = np.float32([np.inf, 1])
    optimizers.SGD(global_clipnorm=1.0).update([p])
    assert np.isnan(p.numpy()).all()


def test_regularizers():
    w = fastdl.tensor([[1.0, -2.0], [0.0, 3.0]], requires_grad=True)
    penalty = regularizers.get({"class_name": "L1L2", "config": {"l1": 0.5, "l2": 0.25}})(w)
    assert float(penalty) == 0.5 * 6 + 0.25 * 14
    penalty.backward()
    assert w.grad.tolist() == [[1, -1.5], [0, 2]]
    assert regularizers.get("l2").get_config() == {"l2": 0.01} and regularizers.get(None) is None
    with pytest.raises(ValueError, match="at least 0"):
        regularizers.L2(-1)


def test_constraints(rng):
    w = fastdl.tensor(rng.standard_normal((4, 3)) * 5)
    norms = lambda t: np.linalg.norm(t.numpy(), axis=0)
    assert (constraints.get("non_neg")(w).numpy() == np.maximum(w.numpy(), 0)).all()
    np.testing.assert_allclose(norms(constraints.UnitNorm()(w)), 1, rtol=1e-5)
    np.testing.assert_allclose(norms(constraints.MaxNorm(3)(w)), np.minimum(norms(w), 3), rtol=1e-5)
    np.testing.assert_allclose(norms(constraints.MinMaxNorm(1, 2, rate=0.5)(w)), (np.clip(norms(w), 1, 2) + norms(w)) / 2, rtol=1e-5)
    p = fastdl.Parameter(np.ones((2, 2), "float32"), "p")
    p.constraint, p.grad = constraints.NonNeg(), np.float32([[20, -20], [20, -20]])
    optimizers.SGD(0.1).update([p])
    assert p.numpy().tolist() == [[0, 3], [0, 3]]


@pytest.mark.parametrize("make, twice, rows", [
    (lambda: optimizers.Adam(0.1, amsgrad=True, clipvalue=0.01), False, True), (lambda: optimizers.AdamW(0.1), False, True),
    (lambda: optimizers.Adam(0.1), True, False), (lambda: optimizers.Adam(0.1, clipnorm=1.0), False, False),
    (lambda: optimizers.SGD(0.1), False, False)])
def test_a_recorded_step_updates_a_table_without_its_gradient_in_memory_to_the_same_bits(make, twice, rows):
    r, found = np.random.default_rng(0), []
    x, y = r.integers(0, 900, (6, 16, 7)).astype("int32"), r.standard_normal((6, 16, 1)).astype("float32")
    for eager in True, False:
        fastdl.set_random_seed(1)
        table, tokens = fastdl.layers.Embedding(1000, 19), fastdl.Input((7,), dtype="int32")
        inner = table(tokens) + table(tokens) if twice else table(tokens)
        model = fastdl.Model(tokens, fastdl.layers.Dense(1)(fastdl.layers.Flatten()(inner)))
        model.compile(make(), "mse", run_eagerly=eager)
        for k in range(6):
            model.train_on_batch(x[k], y[k])
        found.append([w.numpy().tobytes() for w in (*model.weights, *model.optimizer.variables)])
        assert (table.weights[0].grad is None) == (rows and not eager)
    assert found[0] == found[1]
    names = [name for name, *_ in model.programs()[0].about]
    assert ("adam_of_rows" in names) == rows == ("take_grad" not in names)


def test_adam_of_rows_agrees_with_its_twin(rng):
    size, inner, count = 700, 33, 90
    order, first, tokens = np.empty(count, "int32"), np.empty(size + 1, "int32"), rng.integers(0, 50, count).astype("int32")
    _core.twins["order_indices"](order, first, tokens, size=size, count=count)
    arrays = [rng.random((size, inner)).astype("float32") for _ in range(4)]
    others = (rng.standard_normal((count, inner)).astype("float32"), order, first, np.array([0.01]), np.array([3]))
    results = []
    for run in fastdl.op.kernels.adam_of_rows, _core.twins["adam_of_rows"]:
        results.append([a.copy() for a in arrays])
        run(*results[-1], *others, size=size, inner=inner, count=count, beta_1=0.9, beta_2=0.99, epsilon=1e-7, weight_decay=0.1, clip=1.5)
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_arguments_that_are_no_numbers_of_their_kind():
    for arguments, message in (dict(clipnorm=-1), "at least 0"), (dict(clipvalue=float("nan")), "at least 0"), (dict(learning_rate="a"), "learning_rate is 'a'"):
        with pytest.raises(ValueError, match=message):
            optimizers.SGD(**arguments)
    weight = fastdl.Parameter(np.ones(2, "float32"), "w")
    optimizers.SGD(1.0, clipvalue=0).apply([np.full(2, 3, "float32")], [weight])          # 0 clips nothing, as in Keras
    assert weight.tolist() == [-2, -2]
    for seed in "a", 1.5, None:
        with pytest.raises(ValueError, match="seed must be a whole number"):
            fastdl.set_random_seed(seed)
