"""The primer's three programs do what Keras 3 does: the same losses, histories, names and defaults.

Compared with tests/records/*.json, made by make_keras_record.py beside them; and with Keras itself where this Python has it, or
where FASTDL_KERAS_PYTHON names one that has.
"""

import functools
import importlib.util
import inspect
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import fastdl

RECORDS = pathlib.Path(__file__).parent / "records"
MAKER = RECORDS / "make_keras_record.py"
spec = importlib.util.spec_from_file_location("make_keras_record", MAKER)
maker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(maker)

KERAS_PYTHON = os.environ.get("FASTDL_KERAS_PYTHON") or (sys.executable if importlib.util.find_spec("keras") else None)
SOURCES = ["record"] + ["live"] * bool(KERAS_PYTHON)
NAMES = [program.__name__ for program in maker.PROGRAMS]
CASES = [(source, name) for source in SOURCES for name in NAMES if source == "record" or name != "repeating"]


@functools.cache
def keras(source):
    """What Keras did: from the record, or now."""
    if source == "record":
        return json.loads((RECORDS / "keras_losses.json").read_text())
    run = subprocess.run([KERAS_PYTHON, str(MAKER), "losses"], capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


@functools.cache
def ours(name):
    """What fastdl does."""
    return maker.trained(fastdl, getattr(maker, name)) if name in NAMES else maker.metrics(fastdl)


@pytest.mark.parametrize("source, name", CASES)
def test_losses_of_100_steps(source, name):
    expected, got = keras(source)[name], ours(name)
    assert got["shapes"] == expected["shapes"]
    np.testing.assert_allclose(got["norms"], expected["norms"], rtol=1e-3)
    expected, got = np.array(expected["steps"]), np.array(got["steps"])
    assert got.shape == expected.shape == (maker.STEPS, 1 if name == "dense" else 2)
    np.testing.assert_allclose(got[:, 0], expected[:, 0], rtol=1e-3)
    assert np.abs(got[:, 1:] - expected[:, 1:]).max(initial=0) <= 1.01 / maker.BATCH      # accuracy: at most one sample apart


@pytest.mark.parametrize("source, name", CASES)
def test_history_evaluate_predict(source, name):
    expected, got = keras(source)[name], ours(name)
    assert list(got["history"]) == list(expected["history"]) and got["epochs"] == expected["epochs"]
    for key, values in expected["history"].items():
        np.testing.assert_allclose(got["history"][key], values, rtol=1e-3, atol=0.016 if "accuracy" in key else 0)
    assert list(got["evaluate"]) == list(expected["evaluate"])
    for key, value in expected["evaluate"].items():
        np.testing.assert_allclose(got["evaluate"][key], value, rtol=1e-3, atol=0.011 if "accuracy" in key else 0)
    np.testing.assert_allclose(got["predict"], expected["predict"], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("source", SOURCES)
def test_metrics_names_and_values(source):
    assert list(ours("metrics")) == list(keras(source)["metrics"])
    for case, expected in keras(source)["metrics"].items():
        assert list(ours("metrics")[case]) == list(expected), case
        for name, value in expected.items():
            np.testing.assert_allclose(ours("metrics")[case][name], value, rtol=1e-4, err_msg=f"{case}: {name}")


SIGNATURES = json.loads((RECORDS / "keras_signatures.json").read_text())
ELSEWHERE = {                    # arguments of Keras that mean something only on its backends
    "lora_rank", "lora_alpha", "quantization_config", "use_cudnn", "unroll", "jit_compile", "auto_scale_loss", "pss_evaluation_shards",
    "synchronized", "overwrite_with_gradient", "loss_scale_factor", "gradient_accumulation_steps", "data_format", "sparse", "ragged",
    "input_tensor", "optional"}

NOT_YET = {"renorm", "renorm_clipping", "renorm_momentum"}


def public():
    """Every class and method that both have: (name, ours)."""
    for name in SIGNATURES:
        folder, _, attribute = name.partition(".")
        if attribute == "CallbackList":                     # made by fit alone
            continue
        found = getattr(getattr(fastdl, folder, None), attribute, None)
        if inspect.isclass(found) or inspect.isfunction(found):
            yield pytest.param(name, found, id=name)


@pytest.mark.parametrize("name, function", list(public()))
def test_arguments_and_defaults(name, function):
    expected = {argument: default for argument, *default in SIGNATURES[name]}
    got = {argument: default for argument, *default in maker.arguments(function)}
    shared = [argument for argument in got if argument in expected]
    assert shared == [argument for argument in expected if argument in got], "another order"
    for argument in shared:
        assert got[argument] == expected[argument] or not expected[argument], f"{argument} has another default"
    if inspect.Parameter.VAR_KEYWORD not in [p.kind for p in inspect.signature(function).parameters.values()]:
        assert set(expected) - set(got) <= ELSEWHERE | NOT_YET, "arguments are missing"
