"""Every op, every case, every check; none by hand. See fastdl/op.py for what a case is."""

import inspect

import numpy as np
import pytest

import fastdl
from fastdl import _core, check
from fastdl.op import Spec, Symbol, ops_by_name
from fastdl.record import Program
from fastdl.tensor import Tensor, backward

ISAS = [i for i in fastdl.config.available_isas() if i != "numpy"]
CASES = [pytest.param(op, c, id=f"{op.name}-{i}") for op in ops_by_name.values() for i, c in enumerate(op.cases)]


def seed_of(op, c):
    return sum(map(ord, op.name + repr(c))) % 1000


def inputs_and_options(op, c, fill="real"):
    """The case's arrays in the order of the op's shape rule, and its options. Fill: 'real' or small 'whole' numbers."""
    rng = np.random.default_rng(seed_of(op, c))
    names = [p for p in inspect.signature(op.shape if not op.views else op.forward).parameters if p != "self"]
    rest = dict(c.arguments)
    arrays = []
    variadic = [n for n in names if inspect.signature(op.shape if not op.views else op.forward).parameters[n].kind is inspect.Parameter.VAR_POSITIONAL]
    if variadic:
        names = [n for n in c.arguments if n not in op.options]
    for name in names:
        value = rest.pop(name, None)
        if isinstance(value, tuple) and all(isinstance(n, int) for n in value):
            value = rng.integers(-3, 4, value) if fill == "whole" else rng.standard_normal(value)
            value = np.asarray(value, "float32")
        arrays.append(value if value is None else np.array(value))
    unknown = set(rest) - set(op.options)
    assert not unknown, f"{op.name}: case names {unknown}, which is neither an input nor an option"
    return arrays, rest


def run(op, arrays, options, seed=0, whole=False):
    """Forward and backward on copies in the pool's memory: outputs and gradients as a list of arrays."""
    tensors = []
    for a in arrays:
        if a is None:
            tensors.append(None)
            continue
        own = _core.empty(a.shape, a.dtype)
        own[...] = a
        tensors.append(Tensor(own, a.dtype.kind == "f"))
    made = op.apply(*tensors, **options)
    outs = made if isinstance(made, list) else [made]
    results = [o.array for o in outs]
    floats = [o for o in outs if o.requires_grad]
    if floats:
        rng = np.random.default_rng(seed)
        seeds = []
        for o in floats:
            d = _core.empty(o.array.shape, o.array.dtype)
            d[...] = rng.integers(-3, 4, d.shape) if whole else rng.standard_normal(d.shape)
            seeds.append(d)
        results += [g for g in backward(floats, seeds, targets=[t for t in tensors if t is not None and t.requires_grad]) if g is not None]
    return results


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("op, c", CASES)
def test_kernels_equal_their_twins_beside_protected_pages(op, c, isa):
    with fastdl.isa(isa):
        check.start()
        try:
            for guard in "end", "start":
                _core.set_guard(guard)
                for fill in "real", "whole":
                    arrays, options = inputs_and_options(op, c, fill)
                    run(op, arrays, options, whole=fill == "whole")
        finally:
            check.stop()
            _core.set_guard(None)


@pytest.mark.parametrize("op, c", CASES)
def test_gradient_is_that_of_finite_differences(op, c):
    if not op.differentiable:
        return
    arrays, options = inputs_and_options(op, c)
    arrays = [a.astype("float64") if a is not None and a.dtype.kind == "f" else a for a in arrays]
    rng = np.random.default_rng(1)
    with fastdl.isa("numpy"):
        def outputs(values):
            made = op.apply(*[None if v is None else Tensor(v.copy()) for v in values], **options)
            return [o.array for o in (made if isinstance(made, list) else [made])]

        tensors = [None if a is None else Tensor(a.copy(), a.dtype.kind == "f") for a in arrays]
        made = op.apply(*tensors, **options)
        outs = [o for o in (made if isinstance(made, list) else [made])]
        assert all(o.array.dtype == "float64" for o in outs if o.requires_grad), "the twins change float64 to float32"
        weights = [rng.standard_normal(o.array.shape) if o.requires_grad else None for o in outs]
        floats = [i for i, o in enumerate(outs) if o.requires_grad]
        if not floats:
            return
        targets = [t for t in tensors if t is not None and t.requires_grad]
        gradients = backward([outs[i] for i in floats], [weights[i] for i in floats], targets=targets)
        places = [i for i, t in enumerate(tensors) if t is not None and t.requires_grad]
        for i, gradient in zip(places, gradients):
            if gradient is None:
                gradient = np.zeros(arrays[i].shape)
            assert gradient.shape == arrays[i].shape
            some = rng.permutation(arrays[i].size)[:12]
            for k in some:
                difference = 0.0
                step = 1e-6 * max(1.0, abs(arrays[i].flat[k]))
                for sign in 1, -1:
                    moved = [a if a is None else a.copy() for a in arrays]
                    moved[i].flat[k] += sign * step
                    difference += sign * sum(float((w * o).sum()) for w, o in zip(weights, outputs(moved)) if w is not None)
                wanted = difference / (2 * step)
                assert abs(gradient.flat[k] - wanted) <= 1e-5 + 2e-5 * abs(wanted), (
                    f"{op.name}: gradient of input {i} at {np.unravel_index(k, arrays[i].shape)} is {gradient.flat[k]}, finite differences give {wanted}")


@pytest.mark.parametrize("op, c", [p for p in CASES if hasattr(p.values[0], "definition")])
def test_forward_is_the_definition(op, c):
    arrays, options = inputs_and_options(op, c)
    arrays = [a.astype("float64") if a is not None and a.dtype.kind == "f" else a for a in arrays]
    instance = op.__new__(op)
    instance.__dict__.update(options)
    wanted = instance.definition(*arrays)
    with fastdl.isa("numpy"):
        made = op.apply(*[None if a is None else Tensor(a) for a in arrays], **options)
    got = [o.array for o in (made if isinstance(made, list) else [made])]
    for g, w in zip(got, wanted if isinstance(wanted, (list, tuple)) else [wanted]):
        assert g.shape == np.shape(w)
        np.testing.assert_allclose(g, w, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("op, c", CASES)
def test_same_bits_for_any_threads_and_replayed(op, c):
    arrays, options = inputs_and_options(op, c)
    _core.set_grain(0)
    results = []
    for threads in 1, 2, 4:
        _core.set_threads(threads)
        results.append([r.tobytes() for r in run(op, arrays, options)])
    assert results[0] == results[1] == results[2], "the number of threads changes bits"
    own = []
    for a in arrays:
        own.append(None)
        if a is not None:
            own[-1] = Tensor(_core.empty(a.shape, a.dtype), a.dtype.kind == "f")
            own[-1].array[...] = a
    program = Program()
    with program.recorded():
        made = op.apply(*own, **options)
        outs = made if isinstance(made, list) else [made]
        recorded = [o.array for o in outs]
        floats = [o for o in outs if o.requires_grad]
        if floats:
            rng = np.random.default_rng(0)
            seeds = [np.asarray(rng.standard_normal(o.array.shape), "float32") for o in floats]
            recorded += [g for g in backward(floats, seeds, targets=[t for t in own if t is not None and t.requires_grad]) if g is not None]
    if op.views or not len(program):
        return
    for t, a in zip(own, arrays):
        if t is not None:
            t.array[...] = a
    for r in recorded:
        if not any(t is not None and np.shares_memory(r, t.array) for t in own) and not any(np.shares_memory(r, s) for s in (seeds if floats else ())):
            r.view("uint8" if r.ndim else r.dtype)[...] = 0
    program.run()
    assert [r.tobytes() for r in recorded] == results[0], "replaying gives other bits"


@pytest.mark.parametrize("op, c", CASES)
def test_same_bits_where_a_call_repeats_another(op, c):
    arrays, options = inputs_and_options(op, c)
    rng = np.random.default_rng(2)
    others = [a if a is None else rng.permutation(a.reshape(-1)).reshape(a.shape) for a in arrays]
    plain = []
    for values in arrays, others:
        _core.settings_changed()                            # what other calls have left is void
        plain.append([r.tobytes() for r in run(op, values, options)])
        with fastdl.no_grad():
            plain[-1] += [r.tobytes() for r in run(op, values, options)]
    for k in 0, 1, 0:                                       # they repeat the last of those above
        again = [r.tobytes() for r in run(op, (arrays, others)[k], options)]
        with fastdl.no_grad():
            again += [r.tobytes() for r in run(op, (arrays, others)[k], options)]
        assert again == plain[k]
    _core.settings_changed()
    tensors = [[a if a is None else Tensor(a.copy(), a.dtype.kind == "f") for a in values] for values in (arrays, others, arrays)]
    made = [op.apply(*t, **options) for t in tensors]       # before any backward
    for k in 1, 2, 0:
        outs = made[k] if isinstance(made[k], list) else [made[k]]
        floats = [o for o in outs if o.requires_grad]
        found = [o.array.tobytes() for o in outs]
        if floats:
            rng = np.random.default_rng(0)
            seeds = [rng.standard_normal(o.array.shape).astype(o.array.dtype) for o in floats]
            targets = [t for t in tensors[k] if t is not None and t.requires_grad]
            found += [g.tobytes() for g in backward(floats, seeds, targets=targets) if g is not None]
        assert found == plain[k % 2][:len(found)]


@pytest.mark.parametrize("op, c", CASES)
def test_symbolic_shapes_are_the_real_ones(op, c):
    arrays, options = inputs_and_options(op, c)
    made = op.apply(*[None if a is None else Tensor(a) for a in arrays], **options)
    if not any(a is not None and a.dtype.kind == "f" for a in arrays):
        return
    symbols = op.apply(*[a if a is None or a.dtype.kind != "f" else Symbol(a.shape, str(a.dtype)) for a in arrays], **options)
    for o, s in zip(made if isinstance(made, list) else [made], symbols if isinstance(symbols, list) else [symbols]):
        assert o.shape == s.shape and o.dtype == s.dtype


@pytest.mark.parametrize("op, c", [pytest.param(op, c, id=f"{op.name}-wrong{i}") for op in ops_by_name.values() for i, c in enumerate(getattr(op, "wrong", ()))])
def test_wrong_inputs_are_refused(op, c):
    arrays, options = inputs_and_options(op, c)
    with pytest.raises((fastdl.ShapeError, ValueError, TypeError)) as e:
        op.apply(*arrays, **options)
    assert op.name.split("_")[0] in str(e.value).lower()


def test_every_op_has_cases():
    without = [op.name for op in ops_by_name.values() if not len(op.cases) and op.__name__ not in ("CustomGradient",)]
    assert not without, f"ops without cases: {without}"


def test_specs_look_like_arrays():
    assert Spec((2, 3), "float32").size == 6 and Spec((), "int32").ndim == 0
