"""Winograd's convolutions of 3 x 3 with stride 2: how exact they are, which layers they are for, what they depend on."""

import numpy as np
import pytest

import fastdl
from fastdl import ops
from fastdl.ops.phase_winograd import pays
from fastdl.record import Program
from fastdl.tensor import Tensor, backward

ERROR = 1e-5                                                  # of the largest output


def direct(images, kernel, d_out, top, left):
    """out, d_images and d_kernel in float64, place by place of the kernel."""
    batch, height, width, channels = images.shape
    rows, columns = d_out.shape[1:3]
    padded = np.zeros((batch, max(2 * rows + 2, height + top), max(2 * columns + 2, width + left), channels))
    padded[:, top:top + height, left:left + width] = images
    out, d_padded, d_kernel = np.zeros(d_out.shape), np.zeros(padded.shape), np.zeros(kernel.shape)
    kernel, d_out = kernel.astype("float64"), d_out.astype("float64")
    for y, x in np.ndindex(3, 3):
        part = np.s_[:, y:y + 2 * rows:2, x:x + 2 * columns:2]
        out += padded[part] @ kernel[y, x]
        d_kernel[y, x] = padded[part].reshape(-1, channels).T @ d_out.reshape(-1, d_out.shape[3])
        d_padded[part] += d_out @ kernel[y, x].T
    return out, d_padded[:, top:top + height, left:left + width], d_kernel


def computed(images, kernel, d_out, **options):
    inputs = [Tensor(images.copy(), True), Tensor(kernel.copy(), True)]
    out = ops.conv2d(*inputs, strides=2, algorithm="winograd_phases", **options)
    return out.array, *backward([out], [d_out], targets=inputs)


def numbers(rng, images, filters, padding):
    (top, bottom), (left, right) = padding
    shape = images[0], (images[1] + top + bottom - 3) // 2 + 1, (images[2] + left + right - 3) // 2 + 1, filters
    kernel = rng.standard_normal((3, 3, images[3], filters)) * (2 / (9 * images[3])) ** 0.5
    return [a.astype("float32") for a in (rng.standard_normal(images), kernel, rng.standard_normal(shape))]


def close(got, wanted, about):
    for name, g, w in zip(("out", "d_images", "d_kernel"), got, wanted):
        found = np.abs(g - w).max(initial=0) / max(np.abs(w).max(initial=0), 1e-30)
        assert found <= ERROR, f"{name}: {found:.2e} {about}"


@pytest.mark.parametrize("kind", ["normal", "relu", "offset"])
@pytest.mark.parametrize("images, filters", [((2, 32, 32, 64), 64), ((2, 28, 28, 256), 32), ((6, 14, 14, 512), 32), ((16, 8, 8, 32), 512)])
def test_error(rng, images, filters, kind):
    """At most 1e-5 of the largest output for normal numbers, their positive part, and numbers far from 0."""
    x, kernel, d_out = numbers(rng, images, filters, ((1, 1), (1, 1)))
    x = {"normal": lambda x: x, "relu": lambda x: np.maximum(x, 0), "offset": lambda x: x + 5}[kind](x)
    for isa in fastdl.config.available_isas()[-2:]:
        with fastdl.isa(isa):
            close(computed(x, kernel, d_out, padding=((1, 1), (1, 1))), direct(x, kernel, d_out, 1, 1), isa)


def configurations():
    """Edges of tiles, vectors, chunks, blocks and pieces, and a fixed sample."""
    yield (1, 9, 9, 64), 64, ((0, 0), (0, 0))
    yield (2, 13, 60, 65), 33, ((1, 1), (1, 1))
    yield (40, 13, 14, 3), 129, ((0, 1), (0, 1))
    yield (1, 1, 1, 130), 2, ((4, 3), (5, 1))
    rng = np.random.default_rng(5)
    for _ in range(16):
        padding = tuple(map(tuple, rng.integers(0, 4, (2, 2)).tolist()))
        yield (int(rng.integers(1, 4)), *rng.integers(3, 24, 2).tolist(), int(rng.integers(1, 70))), int(rng.integers(1, 70)), padding


@pytest.mark.parametrize("images, filters, padding", list(configurations()))
def test_is_the_direct_sum(rng, images, filters, padding):
    arrays = numbers(rng, images, filters, padding)
    wanted = direct(*arrays, padding[0][0], padding[1][0])
    for isa in fastdl.config.available_isas():
        with fastdl.isa(isa):
            close(computed(*arrays, padding=padding), wanted, isa)


def kernels_of(images, filters, algorithm="auto", strides=2, **options):
    program = Program()
    with program.recorded():
        ops.conv2d(np.zeros(images, "float32"), np.zeros((3, 3, images[3], filters), "float32"), algorithm=algorithm, strides=strides, **options)
    return {call[0] for call in program.about}


@pytest.mark.parametrize("images, filters", [((9, 28, 28, 70), 40), ((40, 14, 14, 40), 200)])
def test_bits_depend_neither_on_the_batch_nor_on_the_instruction_set(rng, images, filters):
    x, kernel, d_out = numbers(rng, images, filters, ((1, 1), (1, 1)))
    found, last = set(), set()
    for isa in fastdl.config.available_isas():
        if isa in ("avx2", "avx512"):
            with fastdl.isa(isa):
                for part in slice(1), slice(2), slice(len(x)):
                    out, d_images, _ = computed(x[part], kernel, d_out[part], padding=((1, 1), (1, 1)))
                    found.add(out[0].tobytes() + d_images[0].tobytes())
                last.add(b"".join(a.tobytes() for a in computed(x, kernel, d_out, padding=((1, 1), (1, 1)))))
    assert len(found) <= 1 and len(last) <= 1


def test_chosen_by_the_shape_of_the_layer():
    assert pays(128, 128, 28, 28) and pays(512, 512, 7, 7) and pays(32, 32, 4, 4)
    assert not pays(16, 64, 28, 28) and not pays(64, 16, 28, 28) and not pays(1024, 64, 28, 28) and not pays(64, 64, 2, 28)
    same = dict(padding="same")
    assert "phase_winograd" in kernels_of((2, 16, 16, 32), 32, **same)
    for options in dict(strides=1), dict(strides=(2, 1)), dict(algorithm="implicit"):
        assert "phase_winograd" not in kernels_of((2, 16, 16, 32), 32, **same, **options)


def test_can_be_turned_off():
    try:
        fastdl.config.set_winograd(False)
        assert "phase_winograd" not in kernels_of((2, 16, 16, 32), 32, padding="same")
    finally:
        fastdl.config.set_winograd(True)
    assert "phase_winograd" in kernels_of((2, 16, 16, 32), 32, padding="same")


def test_refused():
    images = np.zeros((1, 7, 7, 4), "float32")
    for shape, options in ((3, 2, 4, 4), {}), ((3, 3, 4, 4), dict(strides=1)), ((3, 3, 4, 4), dict(dilation=2)), ((3, 3, 2, 4), dict(groups=2)):
        with pytest.raises(ValueError, match="3 x 3"):
            ops.conv2d(images, np.zeros(shape, "float32"), algorithm="winograd_phases", **{"strides": 2, **options})
