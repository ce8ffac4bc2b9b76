"""compile, fit, evaluate, predict: what arrives, what is refused, what stays."""

import warnings

import numpy as np
import pytest

import fastdl
from fastdl import callbacks, layers, ops
from fastdl.op import Op

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((50, 6)).astype("f"), RNG.integers(0, 3, 50)


def classifier(**compiled):
    fastdl.set_random_seed(1)
    model = fastdl.Sequential([layers.Dense(8, activation="relu", input_shape=(6,)), layers.Dense(3, activation="softmax")])
    model.compile(**{"optimizer": "adam", "loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"], **compiled})
    return model


def test_history_and_figures_agree_with_evaluate():
    model = classifier()
    history = model.fit(X, Y, batch_size=16, epochs=3, validation_data=(X, Y), verbose=0)
    assert set(history.history) == {"accuracy", "loss", "val_accuracy", "val_loss"}
    assert history.epoch == [0, 1, 2] and all(len(v) == 3 for v in history.history.values())
    found = model.evaluate(X, Y, batch_size=7, verbose=0, return_dict=True)
    np.testing.assert_allclose(found["loss"], history.history["val_loss"][-1], rtol=1e-5)
    p = model.predict(X, batch_size=9, verbose=0)
    assert p.shape == (50, 3) and isinstance(p, np.ndarray)
    np.testing.assert_allclose((p.argmax(1) == Y).mean(), found["accuracy"], rtol=1e-6)
    np.testing.assert_allclose(-np.log(p[np.arange(50), Y]).mean(), found["loss"], rtol=1e-4)


def test_recorded_equals_eager_to_the_bit():
    weights = []
    for eager in False, True:
        model = classifier(run_eagerly=eager)
        model.fit(X, Y, batch_size=16, epochs=3, verbose=0)
        weights.append([w.tobytes() for w in model.get_weights()])
    assert weights[0] == weights[1]


def test_a_generator_trains_like_its_arrays():
    results = []
    batches = [(X[i:i + 10], Y[i:i + 10]) for i in range(0, 50, 10)]
    for data in ((X, Y), (iter(batches * 2),), (batches_of(batches),)):
        model = classifier()
        model.fit(*data, batch_size=10 if len(data) == 2 else None, epochs=2, shuffle=False, verbose=0,
                  steps_per_epoch=None if not hasattr(data[0], "__next__") else 5)
        results.append([w.tobytes() for w in model.get_weights()])
    assert results[0] == results[1] == results[2]


def batches_of(batches):
    class Sequence:
        def __len__(self):
            return len(batches)

        def __getitem__(self, i):
            if i >= len(batches):
                raise IndexError(i)
            return batches[i]
    return Sequence()


def test_weights_of_samples_and_classes():
    by_class, by_sample = classifier(), classifier()
    by_class.fit(X, Y, epochs=2, verbose=0, shuffle=False, class_weight={0: 2.0, 2: 0.5})
    by_sample.fit(X, Y, epochs=2, verbose=0, shuffle=False, sample_weight=np.array([2.0, 1.0, 0.5])[Y])
    for a, b in zip(by_class.get_weights(), by_sample.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_validation_split_takes_the_end():
    seen = []
    model = classifier()
    model.fit(X, Y, validation_split=0.2, epochs=1, verbose=0, callbacks=[callbacks.LambdaCallback(on_epoch_end=lambda e, logs: seen.append(logs))])
    np.testing.assert_allclose(seen[0]["val_loss"], model.evaluate(X[40:], Y[40:], verbose=0)[0], rtol=1e-5)


def test_callbacks_by_batch_see_every_step_and_can_stop():
    steps, model = [], classifier()

    class Each(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            steps.append((batch, logs["loss"]))
            if batch == 2:
                self.model.stop_training = True
    model.fit(X, Y, batch_size=10, epochs=4, verbose=0, callbacks=[Each()])
    assert [b for b, _ in steps] == [0, 1, 2] and all(np.isfinite(v) for _, v in steps)


def test_initial_epoch_and_steps_per_epoch():
    model, epochs = classifier(), []
    model.fit(X, Y, batch_size=10, initial_epoch=2, epochs=4, steps_per_epoch=3, verbose=0,
              callbacks=[callbacks.LambdaCallback(on_epoch_begin=lambda e, logs: epochs.append(e))])
    assert epochs == [2, 3] and int(model.optimizer.iterations) == 6


def test_early_stopping_and_its_best_weights(capsys):
    model = classifier(optimizer=fastdl.optimizers.SGD(0.0))
    history = model.fit(X, Y, epochs=10, verbose=2, callbacks=[callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True)])
    assert 2 < len(history.epoch) < 5
    assert "Epoch 1/10" in capsys.readouterr().out


def test_several_inputs_and_outputs():
    a, b = fastdl.Input((6,), name="a"), fastdl.Input((6,), name="b")
    joined = layers.Concatenate()([layers.Dense(4)(a), layers.Dense(4)(b)])
    model = fastdl.Model([a, b], [layers.Dense(3, activation="softmax", name="kind")(joined), layers.Dense(1, name="size")(joined)])
    model.compile("adam", loss=["sparse_categorical_crossentropy", "mse"], loss_weights=[1.0, 0.5], metrics=[["accuracy"], ["mae"]])
    history = model.fit([X, X], [Y, X[:, 0]], epochs=2, verbose=0).history
    assert {"loss", "kind_loss", "size_loss", "kind_accuracy", "size_mae"} <= set(history)
    np.testing.assert_allclose(history["loss"], np.array(history["kind_loss"]) + 0.5 * np.array(history["size_loss"]), rtol=1e-5)
    kind, size = model.predict([X, X], verbose=0)
    assert kind.shape == (50, 3) and size.shape == (50, 1)
    assert model.predict_on_batch([X[:1], X[:1]])[0].shape == (1, 3)


@pytest.mark.parametrize("arguments, error, message", [
    (dict(x=X, y=Y[:-1]), ValueError, "x 50, y 49"),
    (dict(x=X[:0], y=Y[:0]), ValueError, "x: is empty"),
    (dict(x=X, y=None), ValueError, "y: is missing"),
    (dict(x=np.stack([X, X], 2), y=Y), ValueError, r"shape of input[^\0]*given   \(32, 6, 2\)\n  wanted  \(None, 6\)"),
    (dict(x=X[:, :5], y=Y), ValueError, r"shape of input[^\0]*given   \(32, 5\)"),
    (dict(x=np.array([["a"] * 6] * 50), y=Y), TypeError, "x: has dtype"),
    (dict(x=X, y=Y, batch_size=0), ValueError, "batch_size"),
    (dict(x=X, y=Y, batch_size=2.5), ValueError, "batch_size"),
    (dict(x=X, y=Y, sample_weight=np.ones(3)), ValueError, "sample_weight"),
    (dict(x=X, y=Y, validation_split=1.5), ValueError, "validation_split"),
    (dict(x=[[1, 2], [3]], y=Y[:2]), ValueError, "x: cannot be made one array"),
])
def test_bad_data_name_the_argument(arguments, error, message):
    model = classifier()
    before = [w.copy() for w in model.get_weights()]
    with pytest.raises(error, match=message):
        model.fit(**arguments, verbose=0)
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("place", [3, 33])
@pytest.mark.parametrize("eager", [False, True])
def test_a_label_out_of_range_leaves_the_weights_of_the_step_before(place, eager):
    bad = Y.copy()
    bad[place] = 3
    good, model = classifier(run_eagerly=eager), classifier(run_eagerly=eager)
    with pytest.raises(fastdl.DataError, match=rf"label 3 at \[{place % 10}\].*3 classes") as e:
        model.fit(X, bad, batch_size=10, shuffle=False, verbose=0)
    assert f"sample {place} of the data" in str(e.value)
    if place >= 10:
        good.fit(X[:place // 10 * 10], Y[:place // 10 * 10], batch_size=10, shuffle=False, verbose=0)
    for a, b in zip(good.get_weights(), model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_a_token_out_of_range_names_the_layer():
    model = fastdl.Sequential([layers.Embedding(20, 4, name="words"), layers.LSTM(3), layers.Dense(2, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    tokens = RNG.integers(0, 20, (30, 5))
    tokens[25, 2] = 20
    with pytest.raises(fastdl.DataError, match=r"words: token 20 at \[1, 2\] is out of range for Embedding\(input_dim=20\)"):
        model.fit(tokens, np.zeros(30, int), batch_size=8, shuffle=False, verbose=0)
    with pytest.raises(fastdl.DataError, match="token 20"):
        model.predict(tokens, verbose=0)


@pytest.mark.parametrize("what", ["data", "loss"])
def test_check_finite_stops_before_the_update(what):
    x = X.copy()
    if what == "data":
        x[47, 2] = np.nan
    else:
        x[47, 2] = 3e38
    model = fastdl.Sequential([layers.Dense(4, input_shape=(6,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(X[:8], X[:8, 0], epochs=1, verbose=0)
    model.set_weights([np.full_like(w, 2.0) for w in model.get_weights()])
    model.optimizer.learning_rate = 0.0
    with pytest.raises(fastdl.NotFiniteError, match="x: the value nan at|loss: the value") as e:
        model.fit(x, X[:, 0], batch_size=8, shuffle=False, verbose=0, check_finite=True)
    assert ("[7, 2]" in str(e.value)) == (what == "data")
    for w in model.get_weights():
        np.testing.assert_array_equal(w, np.full_like(w, 2.0))


def test_moving_statistics_stay_too_when_a_step_fails():
    model = fastdl.Sequential([layers.Dense(4, input_shape=(6,)), layers.BatchNormalization(), layers.Dense(3, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    before = [w.copy() for w in model.get_weights()]
    with pytest.raises(fastdl.DataError):
        model.fit(X, Y + 5, verbose=0)
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_a_model_that_cannot_be_recorded_is_told_once_and_trains():
    class Sine(Op):
        def shape(self, x):
            return x.shape

        def forward(self, y, x):
            y[...] = np.sin(x)
            self.x = x

        def backward(self, d_y, d_x):
            d_x[...] = d_y * np.cos(self.x)

    class Net(fastdl.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.drop = layers.Dense(3), layers.Dropout(0.2, seed=3)

        def call(self, x):
            return ops.softmax(self.drop(Sine.apply(self.dense(x))))
    weights = []
    for eager in False, True:
        fastdl.set_random_seed(2)
        model = Net()
        model.compile("adam", "sparse_categorical_crossentropy", run_eagerly=eager)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            model.fit(X, Y, batch_size=10, epochs=2, verbose=0)
        assert len([w for w in told if "not recorded: sine" in str(w.message)]) == (not eager)
        weights.append([w.tobytes() for w in model.get_weights()])
    assert weights[0] == weights[1]


def test_train_test_and_predict_on_batch():
    model = classifier()
    values = [model.train_on_batch(X[:10], Y[:10]) for _ in range(5)]
    assert all(len(v) == 2 for v in values) and values[-1][0] < values[0][0]
    found = model.test_on_batch(X[:10], Y[:10], return_dict=True)
    assert set(found) == {"loss", "accuracy"}
    for _ in range(4):                                                    # each batch alone, replayed or not
        model.test_on_batch(X[10:], Y[10:])
        assert model.test_on_batch(X[:10], Y[:10], return_dict=True) == found
    model.optimizer.learning_rate = 0.0
    values = [model.train_on_batch(X[:10], Y[:10]) for _ in range(5)]
    np.testing.assert_allclose(values, [[found["loss"], found["accuracy"]]] * 5, rtol=1e-6)
    first = model.predict_on_batch(X[:4])
    kept = first.copy()
    model.predict_on_batch(X[4:8])
    np.testing.assert_array_equal(first, kept)


def test_freezing_a_layer_keeps_its_weights():
    model = classifier()
    model.fit(X, Y, verbose=0)
    model.layers[0].trainable = False
    model.compile("adam", "sparse_categorical_crossentropy")
    before = [w.copy() for w in model.get_weights()]
    model.fit(X, Y, verbose=0)
    after = model.get_weights()
    assert np.array_equal(before[0], after[0]) and not np.array_equal(before[2], after[2])


def test_two_models_share_a_layer():
    shared = layers.Dense(5, input_shape=(6,))
    one, two = fastdl.Sequential([shared, layers.Dense(1)]), fastdl.Sequential([shared, layers.Dense(1)])
    for model in one, two, one, two:
        if model.optimizer is None:
            model.compile("sgd", "mse")
        before = shared.get_weights()[0]
        model.fit(X, X[:, 0], verbose=0)
        assert not np.array_equal(before, shared.get_weights()[0])
    np.testing.assert_allclose(one.predict(X, verbose=0), (X @ shared.get_weights()[0] + shared.get_weights()[1]) @ one.get_weights()[2]
                               + one.get_weights()[3], rtol=1e-4, atol=1e-5)


def test_fit_before_compile_is_told():
    with pytest.raises(RuntimeError, match="compile"):
        fastdl.Sequential([layers.Dense(1, input_shape=(6,))]).fit(X, Y)


def test_the_learning_rate_can_change_between_replays():
    model = classifier(optimizer=fastdl.optimizers.SGD(0.1))
    for _ in range(4):
        model.train_on_batch(X, Y)
    model.optimizer.learning_rate = 0.0
    before = [w.copy() for w in model.get_weights()]
    model.train_on_batch(X, Y)
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_predictions_follow_the_weights():
    model = classifier()
    wanted = lambda: model(X[:10]).numpy()
    for change in (lambda: model.fit(X, Y, verbose=0), lambda: model.set_weights([w * 0.5 for w in model.get_weights()]),
                   lambda: model.train_on_batch(X, Y), lambda: None):
        for _ in range(4):
            np.testing.assert_array_equal(model.predict_on_batch(X[:10]), wanted())
            np.testing.assert_array_equal(model.predict(X, batch_size=10, verbose=0)[:10], wanted())
        change()


def test_batches_of_any_dtype_and_many_steps_agree():
    results = []
    for x, y in ((X, Y), (X.astype("float64"), Y.astype("int32")), (X, Y.astype("uint8"))):
        model = classifier()
        for _ in range(5):
            values = model.train_on_batch(x, y)
        results.append(values)
    assert results[0] == results[1] == results[2]


def test_a_token_beyond_int32_is_still_out_of_range():
    model = fastdl.Sequential([layers.Embedding(20, 4), layers.Flatten(), layers.Dense(2, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    good = np.ones((4, 3), "int64")
    for _ in range(3):
        model.train_on_batch(good, np.zeros(4, int))
    with pytest.raises(fastdl.DataError, match="token 2147483647 or more"):
        model.train_on_batch(good + 2**32, np.zeros(4, int))


def test_averaged_weights_are_taken_over_after_fit():
    plain, averaged = (classifier(optimizer=fastdl.optimizers.SGD(0.5, use_ema=ema, ema_momentum=0.5)) for ema in (False, True))
    for model in plain, averaged:
        model.fit(X, Y, batch_size=50, epochs=3, verbose=0)
    assert not np.array_equal(plain.get_weights()[0], averaged.get_weights()[0])


def test_training_wants_compile_and_an_optimizer():
    model = fastdl.Sequential([layers.Dense(1)])
    x, y = np.ones((4, 3), "float32"), np.ones((4, 1), "float32")
    for train in (model.fit, model.train_on_batch):
        with pytest.raises(RuntimeError, match="call compile"):
            train(x, y)
    model.compile(optimizer=None, loss="mse")
    assert model.evaluate(x, y, verbose=0) >= 0
    for train in (model.fit, model.train_on_batch):
        with pytest.raises(RuntimeError, match="optimizer=None"):
            train(x, y)


def test_metrics_in_training_heed_masks():
    tokens, labels = RNG.integers(0, 5, (12, 6)), RNG.integers(0, 3, (12, 6))
    tokens[:, 3:] = 0
    model = fastdl.Sequential([layers.Embedding(5, 4, mask_zero=True), layers.GRU(3, return_sequences=True), layers.Dense(3, activation="softmax")])
    model.compile(fastdl.optimizers.SGD(0.0), "sparse_categorical_crossentropy", metrics=["accuracy"], weighted_metrics=["accuracy"])
    for eager in False, True:
        model.run_eagerly = eager
        history = model.fit(tokens, labels, epochs=3, batch_size=4, verbose=0).history
        right = (model.predict(tokens, verbose=0).argmax(-1) == labels)[tokens != 0].mean()
        np.testing.assert_allclose(history["accuracy"] + history["weighted_accuracy"], right, rtol=1e-6)


def test_metrics_of_one_name_are_numbered():
    metrics = fastdl.metrics
    model = classifier(loss="categorical_crossentropy", metrics=[metrics.Precision(), metrics.Precision(thresholds=0.9), "mae"],
                       weighted_metrics=[metrics.Precision(), metrics.Precision(), "mse"])
    y = np.eye(3)[Y]
    names = set(model.fit(X, y, verbose=0).history)
    assert names == {"loss", "precision", "precision_1", "weighted_precision", "weighted_precision_1", "mae", "mse"}
    first = model.evaluate(X, y, verbose=0, return_dict=True)
    assert model.evaluate(X, y, verbose=0, return_dict=True) == first and set(first) == names          # all are reset


def test_sample_weights_by_output():
    inputs = layers.Input((6,))
    model = fastdl.Model(inputs, [layers.Dense(1, name="a")(inputs), layers.Dense(1, name="b")(inputs)])
    y, w, v = [X[:, :1], X[:, 1:2]], RNG.random(50), RNG.random(50)
    model.compile("sgd", ["mse", "mae"], weighted_metrics=[["mse"], ["mae"]])
    p = model.predict(X, verbose=0)
    wanted = [np.mean(w * (p[0] - y[0])[:, 0] ** 2), np.mean(v * abs(p[1] - y[1])[:, 0])]
    for given in [w, v], {"b": v, "a": w}, (w, v):
        found = model.evaluate(X, y, sample_weight=given, batch_size=25, verbose=0, return_dict=True)
        np.testing.assert_allclose([found["a_loss"], found["b_loss"]], wanted, rtol=1e-5)
        np.testing.assert_allclose([found["a_mse"], found["b_mae"]], [wanted[0] / w.mean(), wanted[1] / v.mean()], rtol=1e-5)
    found = model.evaluate(X, y, sample_weight=[w, None], batch_size=25, verbose=0, return_dict=True)
    np.testing.assert_allclose(found["b_loss"], np.mean(abs(p[1] - y[1])), rtol=1e-5)
    assert len(model.fit(X, y, sample_weight=[w, v], batch_size=16, epochs=2, validation_split=0.2, verbose=0).history["loss"]) == 2
    model.train_on_batch(X, y, sample_weight={"a": w})
    with pytest.raises(ValueError, match="sample_weight: names.*'c'"):
        model.evaluate(X, y, sample_weight={"c": w}, verbose=0)


def test_validation_after_listed_epochs(tmp_path):
    model = classifier()
    path = tmp_path / "log.csv"
    found = model.fit(X, Y, epochs=3, validation_data=(X, Y), validation_freq=[2], verbose=0, callbacks=callbacks.CSVLogger(path)).history
    assert len(found["val_loss"]) == 1 and len(found["loss"]) == 3
    head, *rows = [line.split(",") for line in path.read_text().split()]
    assert head == ["epoch", "accuracy", "loss", "val_accuracy", "val_loss"] and rows[0][3:] == ["NA", "NA"] and "NA" not in rows[1]


@pytest.mark.parametrize("arguments, message", [
    (dict(validation_freq=0), "validation_freq: must be a whole number, at least 1, not 0"), (dict(batch_size="4"), "batch_size: must be"),
    (dict(batch_size=float("nan")), "batch_size: must be"), (dict(validation_steps=0.5), "validation_steps: must be"), (dict(verbose="x"), "verbose: must be"),
    (dict(class_weight=[1, 2, 3]), "class_weight: must be a dict"), (dict(class_weight={"a": 1}), "class_weight: must be a dict"),
    (dict(callbacks=["a"]), "callbacks: must be a Callback"), (dict(initial_epoch=-1), "initial_epoch: must be")])
def test_arguments_that_do_not_fit_are_named(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        classifier().fit(X, Y, verbose=0, validation_data=(X, Y), **arguments) if "verbose" not in arguments else classifier().fit(X, Y, **arguments)


def test_batch_sizes_of_evaluate_and_predict_are_checked():
    model = classifier()
    for call in (lambda size: model.predict(X, batch_size=size, verbose=0), lambda size: model.evaluate(X, Y, batch_size=size, verbose=0)):
        for size in 0, -1, 2.5:
            with pytest.raises(ValueError, match="batch_size: must be a whole number"):
                call(size)


def test_callbacks_in_the_older_ways():
    class Counter(callbacks.Callback):
        seen = 0
        logs = None

        def on_batch_end(self, batch, logs=None):
            self.seen += 1

        def on_train_end(self, logs=None):
            self.logs = logs

    counter, model = Counter(), classifier()
    nothing = callbacks.LambdaCallback(on_epoch_end=None)
    model.fit(X, Y, batch_size=10, epochs=2, verbose=0, callbacks=[counter, nothing, callbacks.LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1))])
    assert counter.seen == 10 and set(counter.logs) == {"loss", "accuracy", "learning_rate"} and float(model.optimizer.learning_rate) == 0.05


def test_a_metric_of_several_numbers(capsys):
    model = classifier(loss="categorical_crossentropy", metrics=[fastdl.metrics.Recall(thresholds=[0.2, 0.8])])
    y = np.eye(3)[Y]
    history = model.fit(X, y, epochs=2, verbose=2).history
    assert [np.shape(v) for v in history["recall"]] == [(2,), (2,)] and "recall: " in capsys.readouterr().out
    loss, recall = model.evaluate(X, y, verbose=0)
    p = model.predict(X, verbose=0)
    np.testing.assert_allclose(recall, [(p[y == 1] > t).mean() for t in (0.2, 0.8)], rtol=1e-6)
    assert np.shape(model.train_on_batch(X, y)[1]) == (2,)
