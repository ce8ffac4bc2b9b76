"""Sums of products by the names of axes."""

from ..errors import shape_error
from ..op import Op, case, kernels
from .layout import move, strides_of
from .linear import LONG, product
from .reduction import sum as sum_
from .shape import reshape, shape_of, transpose

__all__ = ["Einsum", "einsum"]


def contract(op, out, a, b):
    """out = a times b, summed over the axes that out lacks; each an array and a letter for each of its axes.

    Every letter is in two of the three at least. Arrays are read where they are, unless their axes lie too mixed for a product.
    """
    (out, to), (a, of_a), (b, of_b) = out, a, b
    batch = [x for x in to if x in of_a and x in of_b]
    rows, columns = [x for x in to if x not in of_b], [x for x in to if x not in of_a]
    depth = [x for x in of_a if x not in to]
    size = {**dict(zip(of_a, a.shape)), **dict(zip(of_b, b.shape))}
    if to[len(batch):] == (*columns, *rows) and rows and columns:
        return contract(op, (out, to), (b, of_b), (a, of_a))
    if to != (*batch, *rows, *columns):
        order = (*batch, *rows, *columns)
        full = op.empty(tuple(size[x] for x in order))
        contract(op, (full, order), (a, of_a), (b, of_b))
        own = dict(zip(order, strides_of(full.shape)))
        return move(out, full, out.shape, strides_of(out.shape), tuple(own[x] for x in to))
    a, of_a = _laid_out(op, a, of_a, size, batch, rows, depth)
    b, of_b = _laid_out(op, b, of_b, size, batch, depth, columns)
    number = lambda letters: _product(size[x] for x in letters)
    if not number(depth):
        return kernels.fill(out, size=out.size, value=0.0)
    axes = [(size[x], s, of_a[x], of_b[x]) for x, s in zip(to, strides_of(out.shape)) if x in batch]
    product(op, out, a, b, rows=number(rows), columns=number(columns), depth=number(depth), left_row=_stride(rows, of_a, size),
            left_depth=_stride(depth, of_a, size), right_depth=_stride(depth, of_b, size), right_column=_stride(columns, of_b, size),
            batch=axes, long=0 if batch else LONG)


def _product(sizes):
    n = 1
    for size in sizes:
        n *= size
    return n


def _stride(letters, strides, size):
    """Stride of the axes taken as one; None where they lie too mixed for that."""
    letters = [x for x in letters if size[x] != 1]
    if any(strides[x] != strides[y] * size[y] for x, y in zip(letters, letters[1:])):
        return None
    return strides[letters[-1]] if letters else 1


def _laid_out(op, x, letters, size, batch, first, second):
    """x, and its strides by letter: where it is, or copied so that `first` and `second` are one axis each, one of them contiguous."""
    strides = dict(zip(letters, strides_of(x.shape)))
    if None not in (both := (_stride(first, strides, size), _stride(second, strides, size))) and 1 in both:
        return x, strides
    order = (*batch, *first, *second)
    shape = tuple(size[n] for n in order)
    copy = op.empty(shape)
    move(copy, x, shape, strides_of(shape), tuple(strides[n] for n in order))
    return copy, dict(zip(order, strides_of(shape)))


class Einsum(Op):
    """Sum of products of two tensors over the axes that the result lacks. (Einstein's convention; names of axes as in NumPy.)

    a, b     an axis for each letter
    returns  an axis for each letter after the arrow

    equation is "letters of a,letters of b->letters of the result": no letter twice in one tensor, none in one tensor only.
    """
    equation: str = "ij,jk->ik"

    def letters(self):
        """Those of a, of b, of the result."""
        operands, to = self.equation.split("->")
        return tuple(map(tuple, (*operands.split(","), to)))

    def shape(self, a, b):
        of_a, of_b, to = self.letters()
        if any(len(set(x)) < len(x) for x in (of_a, of_b, to)) or set(of_a) ^ set(of_b) ^ set(to) ^ (set(of_a) & set(of_b) & set(to)):
            raise ValueError(f"einsum: {self.equation!r} has a letter twice in one tensor, or in one tensor only")
        if len(of_a) != a.ndim or len(of_b) != b.ndim:
            raise shape_error("einsum", f"{self.equation!r} names another number of axes", a=a.shape, b=b.shape)
        size = dict(zip(of_a, a.shape))
        wrong = [x for x, n in zip(of_b, b.shape) if size.setdefault(x, n) != n]
        if wrong:
            raise shape_error("einsum", f"the sizes of {', '.join(wrong)} differ in {self.equation!r}", a=a.shape, b=b.shape)
        return tuple(size[x] for x in to)

    def forward(self, out, a, b):
        self.a, self.b = a, b
        of_a, of_b, to = self.letters()
        contract(self, (out, to), (a, of_a), (b, of_b))

    def backward(self, d_out, d_a, d_b):
        of_a, of_b, to = self.letters()
        if d_a is not None:
            contract(self, (d_a, of_a), (d_out, to), (self.b, of_b))
        if d_b is not None:
            contract(self, (d_b, of_b), (self.a, of_a), (d_out, to))

    def definition(self, a, b):
        import numpy
        return numpy.einsum(self.equation, a, b)

    cases = [case(a=(3, 5), b=(5, 7)), case(a=(2, 3, 5), b=(5, 2, 7), equation="abc,cde->abde"), case(a=(2, 3, 4, 5), b=(4, 5, 7), equation="abcd,cde->abe"),
             case(a=(2, 3, 2, 4), b=(2, 5, 2, 4), equation="btnh,bsnh->bnts"), case(a=(2, 3, 4, 5), b=(2, 5, 3, 6), equation="bnts,bsnh->btnh"),
             case(a=(2, 3, 5), b=(5, 3), equation="abc,cb->ab"), case(a=(2,), b=(3,), equation="i,j->ji"), case(a=(4,), b=(4,), equation="i,i->"),
             case(a=(3, 4), b=(3, 4), equation="ij,ij->ij"), case(a=(2, 0), b=(0, 3)), case(a=(3, 2, 4), b=(2, 5, 4), equation="xyz,ywz->wxy")]
    wrong = [case(a=(3, 5), b=(4, 7)), case(a=(3, 5), b=(5,)), case(a=(3, 3), b=(3, 7), equation="ii,ij->j"), case(a=(3, 5), b=(5, 7), equation="ij,jk->i")]
    bench = [case(a=(16, 128, 256), b=(256, 4, 64), equation="abc,cde->abde")]


def einsum(subscripts, *operands):
    """Sums of products of tensors by the names of their axes; NumPy's rules, but no letter twice in one tensor.

    subscripts  "letters,letters->letters"; ... stands for axes without a name; without an arrow the letters that occur once, sorted
    operands    tensors, each with an axis for each of its letters; axes of size 1 under ... are broadcast
    returns     an axis for each letter after the arrow

    Several tensors are taken in from left to right.
    """
    terms, to = _named(subscripts, [tuple(shape_of(x)) for x in operands])
    sizes = {}
    for letters, x in zip(terms, operands):
        for letter, n in zip(letters, shape_of(x)):
            sizes[letter] = n if sizes.get(letter, 1) == 1 else sizes[letter]
    found = None
    for i, (letters, x) in enumerate(zip(terms, operands)):
        later = set(to).union(*terms[i + 1:])
        others = later.union(*terms[:i]) if i else later
        x, letters = _without(x, letters, [k for k, n in enumerate(shape_of(x)) if n == 1 and sizes[letters[k]] != 1])
        alone = [k for k, letter in enumerate(letters) if letter not in others]
        if alone:
            x, letters = sum_(x, axis=tuple(alone)), tuple(letter for letter in letters if letter in others)
        if found is None:
            found, have = x, letters
            continue
        gone = [k for k, letter in enumerate(have) if letter not in later and letter not in letters]
        if gone:
            found, have = sum_(found, axis=tuple(gone)), tuple(x for k, x in enumerate(have) if k not in gone)
        kept = tuple(x for x in dict.fromkeys(have + letters) if x in later)
        kept = to if set(kept) == set(to) and i == len(operands) - 1 else kept
        found, have = Einsum.apply(found, x, equation=f"{''.join(have)},{''.join(letters)}->{''.join(kept)}"), kept
    gone = tuple(k for k, letter in enumerate(have) if letter not in to)
    if gone:
        found, have = sum_(found, axis=gone), tuple(x for x in have if x in to)
    return found if have == to else transpose(found, [have.index(x) for x in to])


def _without(x, letters, axes):
    if not axes:
        return x, letters
    keep = [k for k in range(len(letters)) if k not in axes]
    return reshape(x, tuple(shape_of(x)[k] for k in keep)), tuple(letters[k] for k in keep)


def _named(subscripts, shapes):
    """The letters of each operand and of the result, with letters of its own for what ... stands for."""
    text = subscripts.replace(" ", "").replace("...", ".")
    terms, arrow, to = text.partition("->")
    terms = terms.split(",")
    refuse = lambda what: shape_error("einsum", f"{subscripts!r}: {what}", **{f"operand_{i}": s for i, s in enumerate(shapes)})
    if len(terms) != len(shapes):
        raise refuse(f"it names {len(terms)} tensors, {len(shapes)} were given")
    if not all(x.isalpha() or x in ".," for x in "".join(terms) + to) or any(len(set(t)) < len(t) for t in (*terms, to)):
        raise refuse("wants letters, none twice in one tensor, and at most one ... in each")
    unnamed = [len(s) - len(t.replace(".", "")) for t, s in zip(terms, shapes)]
    if any(n < 0 or n and "." not in t for t, n in zip(terms, unnamed)):
        raise refuse("names another number of axes than a tensor has")
    free = [x for x in map(chr, range(0x3b1, 0x3b1 + 24)) if x not in text]
    most = max(unnamed)
    terms = [t.replace(".", "".join(free[most - n:most])) for t, n in zip(terms, unnamed)]
    if not arrow:
        once = [x for x in sorted(set("".join(terms))) if sum(t.count(x) for t in terms) == 1 and x not in free[:most]]
        to = "." + "".join(once)
    to = to.replace(".", "".join(free[:most]))
    if not set(to) <= set("".join(terms)):
        raise refuse("the result has a letter that no tensor has")
    return [tuple(t) for t in terms], tuple(to)
