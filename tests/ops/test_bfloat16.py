"""Products of operands rounded to bfloat16: rounding, the order of sums, what is flushed, and the same bits everywhere."""

import numpy as np
import pytest

import fastdl
from fastdl import _core
from fastdl.ops.bfloat16 import pairs, rounded, unpaired
from fastdl.ops.convolution import Conv2D
from fastdl.ops.linear import MatMul
from fastdl.tensor import Tensor, backward

FUSED = [name for name in fastdl.config.available_isas() if name not in ("numpy", "baseline")]


def product(a, b):
    return MatMul.apply(a, b, bfloat16=True).numpy()


def bits(x):
    return np.asarray(x, "float32").view("uint32")


SPECIAL = np.uint32([0, 0x80000000, 0x3F800000, 0x3F808000, 0x3F808001, 0x3F818000, 0x3F807FFF, 0x7F7FFFFF, 0xFF7F8000, 0x7F7F7FFF,
                     0x7F800000, 0xFF800000, 0x7F800001, 0xFFC00000, 0x7FFFFFFF, 0x00000001, 0x807FFFFF, 0x00800000, 0x007FFFFF,
                     0x00FFFFFF]).view("float32")


def test_rounding(c_isa):
    """To nearest, ties to even; infinity and NaN stay, denormal numbers become 0."""
    with np.errstate(all="ignore"):
        got = product(SPECIAL[:, None], np.ones((1, 1), "float32"))[:, 0]
    wanted = rounded(SPECIAL)
    assert (np.isnan(got) == np.isnan(SPECIAL)).all()
    assert (bits(got) == bits(wanted))[~np.isnan(SPECIAL) & (wanted != 0)].all() and (got[wanted == 0] == 0).all()
    assert bits(wanted[3]) == 0x3F800000 and bits(wanted[5]) == 0x3F820000 and bits(wanted[4]) == 0x3F810000
    assert wanted[7] == np.inf and wanted[9] < np.inf and (wanted[15:17] == 0).all() and bits(wanted[17]) == 0x00800000


@pytest.mark.parametrize("isa", FUSED)
@pytest.mark.parametrize("rows, depth, columns", [(1, 1, 1), (3, 7, 5), (15, 34, 33), (29, 261, 70)])
def test_sums_take_pairs_upwards_and_the_second_product_first(isa, rows, depth, columns, rng):
    a, b = (rounded(np.asarray(rng.standard_normal(s), "float32")) for s in ((rows, depth), (depth, columns)))
    wanted = np.zeros((rows, columns), "float32")
    for p in range(0, depth, 2):
        for q in (p + 1, p):
            if q < depth:                                # a product of two bfloat16 is exact in float64, and so is almost every sum
                wanted = (wanted + a[:, q:q + 1].astype("float64") * b[q]).astype("float32")
    with fastdl.isa(isa):
        assert (bits(product(a, b)) == bits(wanted)).all()
        assert (bits(product(a[-1:], b)) == bits(wanted[-1:])).all(), "bits depend on the rows beside"
        assert (bits(product(np.ascontiguousarray(a.T).T, b)) == bits(wanted)).all()


@pytest.mark.parametrize("guard", ["start", "end"])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("rows, depth, columns", [(57, 300, 65), (169, 513, 257), (450, 40, 10), (16, 601, 5), (5, 2049, 3), (1, 1000, 700)])
def test_exact_in_blocks(rows, depth, columns, turned, guard, c_isa, rng):
    """Whole numbers: every partial sum is exact, so that one wrong index shows. Buffers end or start at a protected page."""
    _core.set_guard(guard)
    arrays = []
    for shape in (depth, rows) if turned else (rows, depth), (columns, depth) if turned else (depth, columns):
        arrays.append(_core.empty(shape))
        arrays[-1][...] = rng.integers(-3, 4, shape)
    a, b = (x.T if turned else x for x in arrays)
    got = MatMul.apply(*arrays, transpose_a=turned, transpose_b=turned, bfloat16=True).numpy()
    assert (got == a.astype("float64") @ b).all()


@pytest.mark.parametrize("isa", FUSED)
def test_denormal_sums_are_zero(isa):
    tiny = np.float32(2.0 ** -70)
    with fastdl.isa(isa):
        assert product([[tiny]], [[tiny]]) == 0
        assert product([[tiny, tiny, 1, 1]], [[tiny], [tiny], [0], [0]]) == 0
        assert product([[1.5, 1.25]], np.float32([[2.0 ** -126], [-2.0 ** -126]])) == 0      # flushed, not 2 ** -128
        assert np.float32(1e-40) * np.float32(1) > 0, "the mode of the processor is not as it was"


def test_nan_and_infinity(c_isa):
    a = np.zeros((3, 6), "float32")
    a[0, 1], a[1, 4], a[2, 5] = np.nan, np.inf, -np.inf
    with np.errstate(all="ignore"):
        got = product(a, np.ones((6, 35), "float32"))
    assert np.isnan(got[0]).all() and (got[1] == np.inf).all() and (got[2] == -np.inf).all()


def test_pairs(rng):
    for depth in 0, 1, 4, 5:
        x = np.asarray(rng.standard_normal((2, depth, 3)), "float32")
        assert pairs(x).shape == (2, (depth + 1) // 2, 3) and (unpaired(pairs(x), depth) == rounded(x)).all()


def test_float64_is_not_rounded():
    x = np.full((1, 1), 1 + 2.0 ** -40)
    with fastdl.isa("numpy"):
        assert MatMul.apply(fastdl.Tensor(x), fastdl.Tensor(x), bfloat16=True).numpy() == x * x


def test_winograd_is_as_good_as_the_direct_sum(rng):
    """Its error is about 1.5 times as large; float32 is the yardstick."""
    images, kernel = (np.asarray(rng.standard_normal(s), "float32") for s in ((2, 8, 8, 64), (3, 3, 64, 48)))
    exact, fast = (fastdl.ops.conv2d(images, kernel, padding="same", algorithm="implicit").numpy(),
                   fastdl.ops.convolution.Conv2D.apply(images, kernel, padding="same", bfloat16=True).numpy())
    direct = fastdl.ops.conv2d(rounded(images), rounded(kernel), padding="same", algorithm="implicit").numpy()
    error = lambda y: np.sqrt(((y - exact) ** 2).mean() / (exact ** 2).mean())
    assert 0.001 < error(direct) < 0.003 and error(fast) < 2 * error(direct)


def from_exact(images, filters, kind, rng, algorithm="auto"):
    """Errors of out, d_images and d_kernel of a convolution of 3 x 3, in parts of the root mean square and of the largest of float32's."""
    batch, height, width, channels = images
    x, kernel, d_out = (rng.standard_normal(s).astype("float32") for s in (images, (3, 3, channels, filters), (batch, height, width, filters)))
    x = np.maximum(x, 0) if kind == "relu" else x
    kernel *= np.float32((2 / (9 * channels)) ** 0.5)

    def computed(**options):
        inputs = [Tensor(x.copy(), True), Tensor(kernel.copy(), True)]
        out = Conv2D.apply(*inputs, padding="same", **options)
        return [np.asarray(a, "float64") for a in (out.array, *backward([out], [d_out], targets=inputs))]

    for got, exact in zip(computed(bfloat16=True, algorithm=algorithm), computed(algorithm="implicit")):
        yield np.sqrt(((got - exact) ** 2).mean() / (exact ** 2).mean()), np.abs(got - exact).max() / np.abs(exact).max()


@pytest.mark.parametrize("images, filters", [((3, 16, 16, 64), 48), ((2, 14, 14, 33), 130), ((6, 7, 7, 512), 32), ((32, 4, 4, 16), 512)])
@pytest.mark.parametrize("kind", ["normal", "relu"])
def test_error_of_winograd_in_training(images, filters, kind, rng):
    """1.0 to 1.4 % of the root mean square, at most 3 % of the largest; the direct sum's is 0.24 %."""
    for mean, largest in from_exact(images, filters, kind, rng):
        assert 0.005 < mean < 0.015 and largest < 0.03
    for mean, largest in from_exact(images, filters, kind, rng, "implicit"):
        assert 0.001 < mean < 0.003 and largest < 0.01


@pytest.mark.parametrize("images, filters", [((2, 9, 11, 70), 67), ((33, 8, 8, 160), 35), ((40, 4, 4, 20), 130)])
def test_winograd_gives_the_same_bits_emulated_and_for_every_batch(images, filters, rng):
    x, kernel, d_out = (rng.standard_normal(s).astype("float32") for s in (images, (3, 3, images[3], filters), (*images[:3], filters)))
    found, first = set(), set()
    for isa in FUSED:
        with fastdl.isa(isa):
            inputs = [Tensor(x.copy(), True), Tensor(kernel.copy(), True)]
            out = Conv2D.apply(*inputs, padding="same", bfloat16=True)
            found.add(b"".join(np.asarray(a).tobytes() for a in (out.array, *backward([out], [d_out], targets=inputs))))
            first |= {out.array[0].tobytes(), Conv2D.apply(Tensor(x[:1].copy(), True), kernel, padding="same", bfloat16=True).array[0].tobytes()}
    assert len(found) <= 1 and len(first) <= 1


@pytest.mark.parametrize("isa", fastdl.config.available_isas())
@pytest.mark.parametrize("size, strides", [((2, 7, 9, 33), (1, 1)), ((2, 8, 8, 64), (1, 1)), ((2, 7, 8, 36), (2, 2)), ((2, 7, 8, 36), (1, 2))])
def test_gradients_are_added_to_what_has_arrived(isa, rng, size, strides):
    """In a recorded step by the convolution, with the bits of a sum made after it."""
    x, kernel = rng.standard_normal(size).astype("float32"), rng.standard_normal((3, 3, size[3], 40)).astype("float32")
    seed = lambda t: np.resize(np.float32([0.3, -1.7, 2.9, 0.01, -0.6]), t.shape)

    def gradient(x, both):
        x = Tensor(x.array, True)
        once = x * 1.0
        outs = [Conv2D.apply(once, kernel, padding="same", strides=strides, bfloat16=True), *([once * 3.0] if both else [])]
        return Tensor(backward(outs, [seed(t) for t in outs], targets=[x])[0])

    with fastdl.isa(isa):
        step = fastdl.record(gradient)
        for _ in range(3):
            np.testing.assert_array_equal(step(x, True).numpy(), step(x, False).numpy() + seed(x) * np.float32(3))
        assert isa == "numpy" or [about[0] for program, *_ in step.programs.values() for about in program.about].count("accumulate") == 0


def test_winograd_can_be_turned_off(rng):
    x, kernel = (rng.standard_normal(s).astype("float32") for s in ((2, 8, 8, 64), (3, 3, 64, 32)))
    run = lambda **options: Conv2D.apply(x, kernel, bfloat16=True, **options).array.tobytes()
    chosen, direct = run(), run(algorithm="implicit")
    fastdl.config.set_winograd(False)
    try:
        assert run() == direct != chosen == run(algorithm="winograd2x2")
    finally:
        fastdl.config.set_winograd(True)
