"""Winograd's algorithm for convolutions of 3 x 3 with stride 1, which ops.convolution calls where it pays.

F(4x4, 3x3) takes 36 multiplications for a tile of 4 x 4 results where the direct sum takes 144, F(2x2, 3x3) 16 for 36. In exact arithmetic
the results are those of the direct sum; in float32 their error stays below 1e-5 of the largest output (tests/ops/test_winograd.py), with
up to 512 channels it is about 4e-6 for F(4x4). The points 0, 3/4, -3/4, 3/2, -3/2 and infinity do that: with the usual 0, 1, -1, 2, -2
the error is four times as large. A number that is not finite spoils its whole tile. See csrc/kernels/winograd.c for the formulas.
"""

import numpy as np

from ..config import winograd_enabled
from ..op import case, kernels, twin
from .linear import activate, strided

__all__ = []

WINDOW = "kernel_height", "kernel_width", "stride_height", "stride_width", "dilation_height", "dilation_width"
CHUNK = 64                                  # as in csrc/winograd.h
WORKSPACE = 1 << 22                         # floats of transformed windows, gradients or kernels worth keeping: in the last cache
PIECES = 8                                  # of the work on a kernel's gradient, at least
NEAR, FAR = 0.75, 1.5


def matrices(tile, taps=3):
    """A (points, tile), G (points, taps) and B (points, points): results = A^T ((G g) * (B d)), the points in the order of the kernels."""
    p = [0.0, np.inf, 1.0, -1.0] if tile + taps == 5 else [0.0, np.inf, NEAR, -NEAR, FAR, -FAR]
    finite = [x for x in p if x != np.inf]
    powers = lambda n: np.array([[float(k == n - 1) if x == np.inf else x ** k for k in range(n)] for x in p])
    lagrange = np.array([1.0 if x == np.inf else np.prod([x - q for q in finite if q != x]) for x in p])
    b = np.zeros((len(p), len(p)))
    for i, x in enumerate(p):
        roots = np.poly([q for q in finite if q != x])[::-1]
        b[i, :len(roots)] = roots
    return powers(tile), powers(taps) / lagrange[:, None], b


def places(batch, height, width, tile):
    """(5, tiles): the image, the first row and column of each tile and how many it has, in the order of csrc/winograd.h: those that would reach
    beyond the image have one less."""
    down, across = -(-height // tile), -(-width // tile)
    short = np.array([min(down * tile - height, down), min(across * tile - width, across)])
    whole, found = np.array([down, across]) - short, []
    for kind in ((1, 0), (0, 0), (0, 1), (1, 1)):
        n = [s if is_short else w for is_short, s, w in zip(kind, short, whole)]
        image, i, j = np.indices((batch, *n)).reshape(3, -1)
        first = [w * tile + k * (tile - 1) if is_short else k * tile for is_short, k, w in zip(kind, (i, j), whole)]
        found.append(np.stack([image, *first, *(np.full(i.size, tile - is_short) for is_short in kind)]))
    return np.concatenate(found, 1)


def windows(images, found, size, top, left, own=False, step=1):
    """(size, size, tiles, channels): what each tile sees, from `top` rows above and `left` columns beside the first of its own on, its own
    results only if so wanted, zeros outside the images; first ones step apart."""
    image, row, column, down, across = found[:, None, None]
    i, j = np.indices((size, size))[..., None]
    y, x = step * row - top + i, step * column - left + j
    inside = (y >= 0) & (y < images.shape[1]) & (x >= 0) & (x < images.shape[2])
    if own:
        inside &= (i < down) & (j < across)
    seen = images[np.broadcast_to(image, y.shape), np.where(inside, y, 0), np.where(inside, x, 0)]
    return np.where(inside[..., None], seen, images.dtype.type(0))


def store(out, found, y):
    """Put (tile, tile, tiles, filters) results into out, (batch, height, width, filters)."""
    image, row, column, down, across = found[:, None, None]
    i, j = np.indices(y.shape[:2])[..., None]
    own = (i < down) & (j < across) & (row + i < out.shape[1]) & (column + j < out.shape[2])
    out[np.broadcast_to(image, own.shape)[own], (row + i + 0 * own)[own], (column + j + 0 * own)[own]] = y[own]


def both(matrix, x):
    """The matrix applied to the first two axes: (rows, rows, ...)."""
    matrix = matrix.astype(x.dtype)
    return np.einsum("ai,bj,ij...->ab...", matrix, matrix, x, optimize=True)


def at_points(images, *, batch, height, width, channels, out_height, out_width, top, left, tile, **_):
    """(points, points, tiles, channels)."""
    found = places(batch, out_height, out_width, tile)
    return both(matrices(tile)[2], windows(images.reshape(batch, height, width, channels), found, tile + 2, top, left))


def chunks_of(v, tiles, channels, points):
    """(first channel, how many, view (tiles, points * 64 + 16)) of the chunks of winograd_images' output."""
    for k, first in enumerate(range(0, channels, CHUNK)):
        yield first, min(channels - first, CHUNK), v.reshape(-1, tiles, points * CHUNK + 16)[k]


@twin
def winograd_images(v, images, *, channels, tile, block, **sizes):
    x = at_points(images, channels=channels, tile=tile, **sizes)
    x = x.reshape(-1, *x.shape[2:])
    for first, count, part in chunks_of(v, x.shape[1], channels, len(x)):
        part[...] = 0
        part[:, :-16].reshape(-1, len(x), CHUNK)[..., :count] = x[..., first:first + count].swapaxes(0, 1)


def kernel_at_points(kernel, channels, filters, place, row, column, flipped, tile):
    """(points, points, channels, filters)."""
    taken = strided(kernel, (3, 3, channels, filters), 3 * place, place, row, column)
    return both(matrices(tile)[1], taken[::-1, ::-1] if flipped else taken)


@twin
def winograd_kernel(u, kernel, *, channels, filters, place, row, column, flipped, tile):
    found = kernel_at_points(kernel, channels, filters, place, row, column, flipped, tile).reshape(-1, channels, filters)
    u = u.reshape(-1, -(-channels // CHUNK), len(found), CHUNK * CHUNK + 16)
    u[...] = 0
    for g, k in np.ndindex(u.shape[:2]):
        part = found[:, k * CHUNK:(k + 1) * CHUNK, g * CHUNK:(g + 1) * CHUNK]
        u[g, k, :, :-16].reshape(-1, CHUNK, CHUNK)[:, :part.shape[1], :part.shape[2]] = part


def _flops(*, batch, out_height, out_width, channels, filters, tile, **_):
    return 2 * batch * -(-out_height // tile) * -(-out_width // tile) * (tile + 2) ** 2 * channels * filters


@twin(flops=_flops, error=1e-5)
def winograd(out, images, v, kernel, u, bias, *, batch, out_height, out_width, channels, filters, place, row, column, flipped, activation,
             tile, block, parts, **sizes):
    if not out.size:
        return
    found, points = places(batch, out_height, out_width, tile), tile + 2
    if v is None:
        x = at_points(images, batch=batch, out_height=out_height, out_width=out_width, channels=channels, tile=tile, **sizes)
    else:
        whole = [part[:, :-16].reshape(-1, points ** 2, CHUNK)[..., :count]
                 for _, count, part in chunks_of(v, found.shape[1], channels, points ** 2)]
        x = np.concatenate(whole, -1).swapaxes(0, 1).reshape(points, points, -1, channels)
    if u is None:
        g = kernel_at_points(kernel, channels, filters, place, row, column, flipped, tile)
    else:
        chunks = -(-channels // CHUNK)
        g = u.reshape(-1, chunks, points ** 2, CHUNK * CHUNK + 16)[..., :-16].reshape(-1, chunks, points, points, CHUNK, CHUNK)
        g = g.transpose(2, 3, 1, 4, 0, 5).reshape(points, points, chunks * CHUNK, -1)[:, :, :channels, :filters]
    y = both(matrices(tile)[0].T, x @ g)
    store(out.reshape(batch, out_height, out_width, filters), found, activate(y if bias is None else y + bias, activation))


@twin(flops=_flops, error=1e-5)
def winograd_d_kernel(d_kernel, d_out, images, *, batch, out_height, out_width, channels, filters, tile, piece, **sizes):
    x = at_points(images, batch=batch, out_height=out_height, out_width=out_width, channels=channels, tile=tile, **sizes)
    d_out = d_out.reshape(batch, out_height, out_width, filters)
    d = both(matrices(tile)[0], windows(d_out, places(batch, out_height, out_width, tile), tile, 0, 0, own=True))
    d_kernel = d_kernel.reshape(-1, 3, 3, channels, filters)
    for i in range(len(d_kernel)):
        own = slice(i * piece, (i + 1) * piece)
        d_kernel[i] = both(matrices(tile)[1].T, x[:, :, own].swapaxes(2, 3) @ d[:, :, own])


# ---- what Conv2D calls ------------------------------------------------------------------------------------------------

TILES = {"winograd4x4": 4, "winograd2x2": 2}


def tile_of(op, filters):
    """4 for F(4x4, 3x3), 2 for F(2x2, 3x3), 0 for another algorithm."""
    sizes = op.sizes
    suits = op.groups == 1 and all(sizes[name] == (3 if name[0] == "k" else 1) for name in WINDOW)
    if op.algorithm in TILES:
        if not suits:
            raise ValueError(f"{op.name}: algorithm {op.algorithm!r} is for kernels of 3 x 3 with strides, dilation and groups of 1")
        return TILES[op.algorithm]
    if not suits or op.algorithm != "auto" or not winograd_enabled():
        return 0
    return fastest(sizes["channels"], filters, sizes["out_height"], sizes["out_width"])


def fastest(channels, filters, height, width):
    """The tile for outputs of height x width, 0 for the direct sum: by the shape of the layer, so that neither the batch nor the machine
    changes bits."""
    # Measured with 8 to 512 channels, one thread: with 16 or more of both, Winograd takes 1 / 3 to 2 / 3 of the direct time where it has at
    # most 2 / 3 of the products. Products decide between the tiles; where they are the same (5 x 5, 6 x 6) the smaller is faster.
    products = {tile: -(-height // tile) * -(-width // tile) * (tile + 2) ** 2 for tile in (2, 4)}
    tile = min(products, key=products.get)
    return tile if min(channels, filters) >= 16 and 3 * products[tile] <= 2 * 9 * height * width else 0


def convolve(op, out, images, kernel, bias):
    """out = activation(bias + convolution)."""
    channels, filters = kernel.shape[2:]
    _convolve(op, out, images, kernel, bias, op.sizes, dict(place=channels * filters, row=filters, column=1, flipped=0), op.act)


def images_gradient(op, d_images, d_out):
    """The gradient of the images from d_out, before the activation: a convolution with the kernel turned by 180 degrees."""
    channels, filters = op.kernel.shape[2:]
    s = op.sizes
    sizes = dict(batch=s["batch"], height=s["out_height"], width=s["out_width"], channels=filters, out_height=s["height"],
                 out_width=s["width"], top=2 - s["top"], left=2 - s["left"])
    _convolve(op, d_images, d_out, op.kernel, None, sizes, dict(place=channels * filters, row=1, column=filters, flipped=1))


def _axes(sizes):
    return {name: sizes[name] for name in ("batch", "height", "width", "channels", "out_height", "out_width", "top", "left")}


def _tiles(sizes, tile):
    return sizes["batch"] * -(-sizes["out_height"] // tile) * -(-sizes["out_width"] // tile)


def _convolve(op, out, images, kernel, bias, sizes, taps, activation=0):
    points = (op.tile + 2) ** 2
    by_kernels(op, out, images, kernel, bias, sizes, taps, activation, op.tile, (kernels.winograd_images, kernels.winograd_kernel, kernels.winograd),
               points * CHUNK + 16, points * (CHUNK * CHUNK + 16), {"tile": op.tile})


def by_kernels(op, out, images, kernel, bias, sizes, taps, activation, tile, of, window, matrix, own, dtype=None, at_end={}):
    """The convolution by these kernels of the windows, of the kernel and of all: window numbers for 64 channels of a tile, matrix numbers for
    64 channels by 64 filters. own: what these kernels take beside what others do; at_end: what the last of them does."""
    if not out.size:
        return
    of_images, of_kernel, of_all = of
    sizes, filters, v, u = _axes(sizes), out.shape[-1], None, None
    channels, tiles, parts = sizes["channels"], _tiles(sizes, tile), -(-filters // CHUNK)
    chunks = -(-channels // CHUNK)
    if chunks <= 2 and tiles >= 112:                                   # a block's windows stay in the second cache for all its filters
        parts, most = 1, 42 if chunks == 1 else 28
    elif parts > 1 and chunks * tiles * window <= WORKSPACE:           # else each part of the filters transforms the windows again
        v = op.empty((chunks * tiles * window,), dtype)
        of_images(v, images, **sizes, **own, block=8)
        most = 70
    else:
        most = 42                                                      # tiles whose windows and products the second cache holds
    blocks = max(-(-tiles // most), min(-(-4 // parts), tiles // 14), 1)                # and work for several threads
    blocks += blocks % 2 if 1 < blocks else 0                          # of the same number for two threads
    size = -(-filters // CHUNK) * chunks * matrix
    if blocks > 3 and size <= WORKSPACE:                               # else each block transforms the kernel again
        def fill(to):
            of_kernel(to, kernel, channels=channels, filters=filters, **taps, **own)
        if taps["flipped"]:
            fill(u := op.empty((size,), dtype))
        else:
            u = op.prepared((size,), fill, kernel, dtype=dtype)
    of_all(out, images if v is None else None, v, kernel if u is None else None, u, bias, **sizes, filters=filters, **taps,
           activation=activation, **own, **at_end, block=-(-tiles // blocks), parts=parts)


def kernel_gradient(op, d_kernel, d_out):
    """The gradient of the kernel from d_out, before the activation."""
    in_pieces(op, d_kernel, d_out, op.tile, kernels.winograd_d_kernel, {"tile": op.tile})


def in_pieces(op, d_kernel, d_out, tile, gradient, own):
    """The gradient of the kernel as the sum of those of pieces of tiles, by this kernel, which takes own beside what others do."""
    tiles, size, (channels, filters) = _tiles(op.sizes, tile), d_kernel.size, d_kernel.shape[2:]
    if not tiles:
        kernels.fill(d_kernel, size=size, value=0.0)
        return
    items = -(-channels // CHUNK) * -(-filters // CHUNK)
    piece = -(-tiles // max(min(tiles // 112, -(-PIECES // items)), 1))           # work for several threads
    count = -(-tiles // piece)
    parts = d_kernel if count == 1 else op.empty((count, size))
    gradient(parts, d_out, op.images, **_axes(op.sizes), filters=filters, **own, piece=piece)
    if count > 1:
        kernels.sum_parts(d_kernel, parts, outer=1, count=count, size=size)


def _case(images, filters, algorithm="auto", **options):
    return case(images=images, kernel=(3, 3, images[3], filters), algorithm=algorithm, **options)


cases = [
    _case((1, 4, 4, 1), 1, "winograd4x4"),
    _case((2, 7, 6, 3), 17, "winograd4x4", bias=(17,), padding="same", activation="relu"),
    _case((2, 6, 9, 17), 33, "winograd4x4", bias=(33,), padding=((3, 2), (0, 1))),
    _case((1, 8, 5, 65), 5, "winograd4x4", padding="same"),
    _case((2, 5, 8, 18), 35, "winograd2x2", bias=(35,), padding="same", activation="tanh"),
    _case((1, 4, 3, 66), 3, "winograd2x2", padding=((0, 3), (4, 1)), activation="sigmoid"),
    _case((0, 5, 5, 3), 4, "winograd4x4", bias=(4,)),
    _case((1, 9, 9, 130), 16, "winograd4x4"),
]
bench = [_case((8, n, n, c), c, bias=(c,), activation="relu", padding="same") for n, c in ((56, 64), (28, 128), (14, 256), (7, 512))]
