# Part of _core.pyx: calls of ops outside of programs, and the walk back over them.
#
# What a call does depends on the op, its options, and the shapes and dtypes of its inputs, not on their values. The first such call
# runs in Python and leaves a Pattern: the kernels that it launched, with places for its arrays. Later ones only fill the places.

cdef extern from *:
    """
    static _Thread_local int fd_no_grad, fd_bfloat16;
    """
    int fd_no_grad, fd_bfloat16

cdef enum: MOST_CALLS = 8, MOST_PLACES = 32, MOST_AXES = 6, MOST_KEY = 1024, MOST_PATTERNS = 1024
cdef int64_t MOST_BYTES = 1 << 20             # made by a call: larger ones take so long that Python does not count

cdef struct Place:
    char *start                               # while captured
    int64_t bytes
    int kind, axes
    cnp.npy_intp sizes[MOST_AXES]
    bint made, used, shown                    # by the pattern; by a kernel; as a result or for backward

cdef struct Pointer:
    int call, word, place
    int64_t offset

cdef struct Key:
    int n
    char at[MOST_KEY]

cdef Pattern capture = None                   # at most one call at a time leaves a pattern,
cdef unsigned long capture_thread = 0         # that of this thread
cdef object tensor_class, as_array            # see `tensors`
cdef dict numbers = {}                        # as arrays
cdef int64_t calls_of_ops = 0


class Mode:
    """What the calling thread's ops do: grad, note what gradients need; bfloat16, round the operands of products to bfloat16."""

    @property
    def grad(self):
        return not fd_no_grad

    @grad.setter
    def grad(self, bint on):
        global fd_no_grad
        fd_no_grad = not on

    @property
    def bfloat16(self):
        return bool(fd_bfloat16)

    @bfloat16.setter
    def bfloat16(self, bint on):
        global fd_bfloat16
        fd_bfloat16 = on


cdef set_mode(int no_grad, int bfloat16):
    global fd_no_grad, fd_bfloat16
    fd_no_grad, fd_bfloat16 = no_grad, bfloat16


def tensors(cls, convert):
    """The class of what ops return, and a function (number or array-like, all inputs) -> array."""
    global tensor_class, as_array
    tensor_class, as_array = cls, convert


# ---- patterns ----------------------------------------------------------------------------------------------------------

cdef class Pattern:
    """What a call of an op, or its backward, did: the kernels it launched, on places. Places are the arrays given, then those made;
    of a backward: those of the call, d_out, d_inputs, then those made."""
    cdef bytearray calls, places, pointers    # fd_call, Place, Pointer, one after another
    cdef int n_calls, n_places, n_pointers
    cdef bint team                            # a call is worth all threads
    cdef bint checks                          # a kernel looks for bad data
    cdef bint unfit, void                     # this call left no pattern; none can
    cdef int isa                              # what it is for
    cdef bint bfloat16
    cdef int64_t settings
    cdef int64_t bytes
    cdef list kept                            # arrays of the op's own, such as constants
    cdef list seen                            # while captured: weak references to the arrays
    cdef tuple results                        # for each the place, and the shape of a view of it or None
    cdef bint several                         # the op returns a list
    cdef bint traced                          # gradients flow back:
    cdef Pattern back                         # by this; None: not known yet
    cdef tuple same                           # inputs whose gradient is that of the output
    cdef tuple idle                           # places that backward does not need
    cdef Apply owner                          # whose pattern it is, of what key and options
    cdef object key
    cdef dict options

    def __cinit__(self):
        self.calls, self.places, self.pointers, self.kept, self.seen = bytearray(), bytearray(), bytearray(), [], []
        self.isa, self.bfloat16, self.settings = isa, fd_bfloat16, settings

    cdef Place *place(self, int i):
        return <Place *>PyByteArray_AS_STRING(self.places) + i

    cdef add(self, object a, bint made, bint twice=False):
        """One more place. twice: it may be the very memory of one before."""
        cdef Place p
        cdef int i
        memset(&p, 0, sizeof(Place))
        if a is not None:
            p.start, p.bytes, p.kind, p.axes = <char *>cnp.PyArray_DATA(a), cnp.PyArray_NBYTES(a), cnp.PyArray_TYPE(a), cnp.PyArray_NDIM(a)
            if p.axes > MOST_AXES or p.bytes == 0 or not cnp.PyArray_CHKFLAGS(a, cnp.NPY_ARRAY_CARRAY):
                self.void = True
                return
            for i in range(p.axes):
                p.sizes[i] = cnp.PyArray_DIMS(a)[i]
            for i in range(0 if made else self.n_places):
                if self.place(i).start < p.start + p.bytes and p.start < self.place(i).start + self.place(i).bytes:
                    self.unfit |= not (twice and self.place(i).start == p.start and self.place(i).bytes == p.bytes)
        self.bytes += made * p.bytes
        self.void |= self.n_places == MOST_PLACES or self.bytes > MOST_BYTES
        p.made = made
        self.places += (<char *>&p)[:sizeof(Place)]
        self.seen.append(None if a is None else weakref.ref(a))
        self.n_places += 1

    cdef int find(self, char *start, int64_t bytes):
        """The place in which these bytes lie: the latest, as it may lie where one that is gone was; -1: in none."""
        cdef int i
        for i in range(self.n_places - 1, -1, -1):
            if self.place(i).start <= start and start + bytes <= self.place(i).start + self.place(i).bytes:
                return i
        return -1

    cdef append(self, fd_call *call, Kernel kernel, tuple arrays):
        cdef Pointer p
        for p.word in range(len(arrays)):
            a = arrays[p.word]
            if a is None:
                continue
            p.call, p.place = self.n_calls, self.find(<char *>cnp.PyArray_DATA(a), cnp.PyArray_NBYTES(a))
            if p.place < 0:
                self.kept.append(a)
                continue
            p.offset = <char *>cnp.PyArray_DATA(a) - self.place(p.place).start
            self.place(p.place).used = True
            self.pointers += (<char *>&p)[:sizeof(Pointer)]
            self.n_pointers += 1
        self.calls += (<char *>call)[:sizeof(fd_call)]
        self.n_calls += 1
        self.void |= self.n_calls > MOST_CALLS
        self.team |= call.team != 0
        self.checks |= kernel.checks

    cdef new(self, int i):
        """A new array for a place."""
        cdef Place *place = self.place(i)
        return new(place.axes, place.sizes, place.kind, place.bytes, main_pool)

    cdef result(self, object a):
        """(place, shape of a view of it or None) of an array that the call returned."""
        cdef int i = self.find(<char *>cnp.PyArray_DATA(a), cnp.PyArray_NBYTES(a))
        cdef bint whole = i >= 0 and self.seen[i]() is a
        if i < 0 or cnp.PyArray_NBYTES(a) != self.place(i).bytes or not whole and cnp.PyArray_TYPE(a) != self.place(i).kind or \
                whole and not (self.place(i).made and self.place(i).used):
            self.void = True
            return None
        self.place(i).shown = True
        return i, None if whole else a.shape

    cdef object run(self, list arrays):
        """Launch the kernels on arrays, one for each place; None is replaced by a new one. False: bad data."""
        cdef fd_call calls[MOST_CALLS]
        cdef char *at[MOST_PLACES]
        cdef bint scratch[MOST_PLACES]
        cdef Place *place = self.place(0)
        cdef Pointer *pointer = <Pointer *>PyByteArray_AS_STRING(self.pointers)
        cdef fd_pool *pool = main_pool.pool
        cdef fd_fault fault
        cdef int64_t done = 0
        cdef int i
        fault.call = -1
        for i in range(self.n_places):
            a = arrays[i]
            scratch[i] = a is None and place[i].used and not place[i].shown
            if a is not None:
                at[i] = <char *>cnp.PyArray_DATA(a)
            elif place[i].shown:
                a = arrays[i] = self.new(i)
                at[i] = <char *>cnp.PyArray_DATA(a)
            elif scratch[i]:
                at[i] = <char *>fd_pool_take(pool, place[i].bytes)
                if at[i] is NULL:
                    raise MemoryError("no memory for what an op works in")
        if self.n_calls:
            memcpy(calls, PyByteArray_AS_STRING(self.calls), self.n_calls * sizeof(fd_call))
            for i in range(self.n_pointers):
                calls[pointer[i].call].word[pointer[i].word] = <int64_t>(at[pointer[i].place] + pointer[i].offset)
            if self.team:
                with nogil:
                    done = fd_run(calls, self.n_calls, 1, 0, &fault, NULL, NULL)
            else:
                done = fd_run(calls, self.n_calls, 1, 0, &fault, NULL, NULL)
        for i in range(self.n_places):
            if scratch[i]:
                fd_pool_give(pool, at[i], place[i].bytes)
        if done < 0:
            raise MemoryError("no memory for a thread's scratch")
        return fault.call < 0

    cdef object take(self, list arrays, int i):
        """Result i of a run."""
        place, shape = self.results[i]
        a = arrays[place]
        return a if shape is None else cnp.PyArray_Reshape(a, shape)

    cdef call(self, object op, tuple inputs, list arrays):
        """What the op returns; None: bad data, which the plain way explains."""
        cdef Node node = None
        cdef int i
        arrays.extend([None] * (self.n_places - len(arrays)))
        if not self.run(arrays):
            return None
        made = [self.take(arrays, i) for i in range(len(self.results))] if self.several else self.take(arrays, 0)
        if self.traced:
            node = bare(op)
            node.enter(inputs)
            node.pattern, node.back, node.arrays = self, self.back, arrays
            for i in self.idle:
                arrays[i] = None
        if not self.several:
            return new_tensor(made, node, 0)
        return [new_tensor(a, node, i) for i, a in enumerate(made)]


cdef inline bint capturing():
    return capture is not None and capture_thread == PyThread_get_thread_ident()


cdef begin_capture(Pattern pattern):
    global capture, capture_thread
    capture, capture_thread = pattern, PyThread_get_thread_ident()


cdef end_capture():
    global capture
    capture = None


cdef tuple nothing = ()


cdef inline object bare(type cls):
    """An object of the class, without __init__."""
    return (<PyTypeObject *>cls).tp_new(cls, <PyObject *>nothing, NULL)


cdef object new_tensor(object array, Node node, int index):
    cdef Value t = bare(tensor_class)
    t.array, t.node, t.index, t.requires_grad = array, node, index, node is not None
    return t


cdef tuple sources_of(tuple inputs):
    """Where the gradient of each input is to go: a leaf, (op, which of its outputs), or None."""
    cdef list sources = []
    cdef Value t
    for x in inputs:
        if isinstance(x, Value) and (<Value>x).requires_grad:
            t = <Value>x
            sources.append(t if t.node is None else (t.node, t.index))
        else:
            sources.append(None)
    return tuple(sources)


# ---- calls -------------------------------------------------------------------------------------------------------------

cdef bint put(Key *key, const void *bytes, int n):
    if key.n + n > MOST_KEY:
        return False
    memcpy(key.at + key.n, bytes, n)
    key.n += n
    return True


cdef bint put_value(Key *key, object value) except -1:
    """Put an option's value into the key; False: of a kind that is not known."""
    cdef Py_ssize_t n = 0
    cdef const char *text
    cdef int64_t whole
    cdef double real
    kind = type(value)
    if value is None:
        return put(key, b"n", 1)
    if kind is int:
        if not -1 << 62 < value < 1 << 62:
            return False
        whole = value
        return put(key, b"i", 1) and put(key, &whole, 8)
    if kind is bool:
        return put(key, b"t" if value else b"f", 1)
    if kind is float:
        real = value
        return put(key, b"r", 1) and put(key, &real, 8)
    if kind is str:
        text = PyUnicode_AsUTF8AndSize(value, &n)
        return put(key, b"s", 1) and put(key, &n, sizeof(n)) and put(key, text, n)
    if kind is tuple:
        n = len(value)
        if not put(key, b"(", 1) or not put(key, &n, sizeof(n)):
            return False
        for item in value:
            if not put_value(key, item):
                return False
        return True
    return False


cdef bint put_array(Key *key, object a, bint traced, list before) except -1:
    """Put what counts of an array into the key, and which of the arrays before lies where it does."""
    cdef char about[4]
    cdef int i
    about[0], about[1], about[2], about[3] = -1, 0, traced, -1
    if a is None:
        return put(key, about, 4)
    if type(a) is not cnp.ndarray or not cnp.PyArray_CHKFLAGS(a, cnp.NPY_ARRAY_CARRAY) or not cnp.PyArray_ISNOTSWAPPED(a):
        return False
    about[0], about[1] = cnp.PyArray_TYPE(a), cnp.PyArray_NDIM(a)
    for i in range(len(before) if len(before) < 100 else 0):
        other = before[i]
        if other is not None and cnp.PyArray_DATA(other) == cnp.PyArray_DATA(a) and cnp.PyArray_NBYTES(other) == cnp.PyArray_NBYTES(a):
            about[3] = i
            break
    return put(key, about, 4) and put(key, cnp.PyArray_DIMS(a), cnp.PyArray_NDIM(a) * sizeof(cnp.npy_intp))


cdef object number(object x, tuple inputs):
    """A number beside one tensor as an array of the dtype that it takes there; None: x is something else."""
    if type(x) is not float and type(x) is not int or len(inputs) != 2:
        return None
    other = inputs[1] if inputs[0] is x else inputs[0]
    if not isinstance(other, Value):
        return None
    key = x or str(x), type(x), cnp.PyArray_TYPE((<Value>other).array)           # 0.0 and -0.0 are equal
    found = numbers.get(key)
    if found is None:
        if len(numbers) >= MOST_PATTERNS:
            numbers.clear()
        found = numbers[key] = as_array(x, inputs)
    return found


cdef class Apply:
    """An op as a function of tensors, arrays or numbers and its options; returns a Tensor (a list of them for several outputs)."""
    cdef readonly object op
    cdef bint repeats                         # calls leave patterns
    cdef dict patterns                        # by key; None: there can be none
    cdef Pattern latest                       # that was used

    def __init__(self, op, bint repeats):
        self.op, self.repeats, self.patterns = op, repeats, {}

    @property
    def __name__(self):
        return self.op.name

    @property
    def __doc__(self):
        return self.op.__doc__

    @property
    def __signature__(self):
        import inspect
        inputs = list(inspect.signature(self.op.forward if self.op.views else self.op.shape).parameters.values())[1:]
        options = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value) for name, value in self.op.options.items()]
        return inspect.Signature([*inputs, *options])

    def __reduce__(self):
        return getattr, (self.op, "apply")

    def __repr__(self):
        return f"<op {self.op.name}>"

    def __call__(self, *inputs, **options):
        cdef Key key
        cdef list arrays = []
        cdef Pattern pattern
        cdef Node op
        name = None
        if self.fit() and self.put_call(&key, inputs, options, arrays):
            pattern = self.latest
            if pattern is None or PyBytes_GET_SIZE(pattern.key) != key.n or memcmp(PyBytes_AS_STRING(pattern.key), key.at, key.n):
                name = PyBytes_FromStringAndSize(key.at, key.n)
                pattern = self.patterns.get(name)
            if pattern is not None:
                made = pattern.call(self.op, inputs, arrays)
                if made is not None:
                    self.latest = pattern
                    return made
            if name in self.patterns:
                name = None
        op = self.op.__new__(self.op)
        if options:
            for option in options:
                if option not in self.op.options:
                    raise TypeError(f"{self.op.name}: no option {option!r}; it has {', '.join(self.op.options) or 'none'}")
            op.__dict__.update(options)
        if capture is not None:
            if capturing():
                capture.void = True           # an op of ops
            return op(*inputs)
        return op(*inputs) if name is None else self.first(op, inputs, arrays, name, options)

    cdef bint fit(self):
        """Whether calls can repeat others now."""
        return self.repeats and isa >= 0 and recording is None and checker is None

    cdef bint put_call(self, Key *key, tuple inputs, dict options, list arrays) except -1:
        """Put all that a call depends on into the key, and its arrays into the list; False: it cannot be told."""
        cdef char head[4]
        cdef bint traced
        key.n = 0
        head[0], head[1], head[2], head[3] = isa, fd_bfloat16, len(inputs), 0
        put(key, head, 4)
        put(key, &settings, 8)
        for x in inputs:
            traced = False
            if isinstance(x, Value):
                a, traced = (<Value>x).array, (<Value>x).requires_grad and not fd_no_grad
            elif x is None:
                a = None
            else:
                a = number(x, inputs)
                if a is None:
                    a = as_array(x, inputs)
                    if a is None:
                        return False
            if not put_array(key, a, traced, arrays):
                return False
            arrays.append(a)
        for option, value in options.items():
            if not put_value(key, option) or not put_value(key, value):
                return False
        return True

    cdef first(self, Node op, tuple inputs, list arrays, key, dict options):
        """A plain call that leaves a pattern."""
        cdef Pattern pattern = Pattern()
        pattern.owner, pattern.key, pattern.options, pattern.idle = self, key, options, ()
        for a in arrays:
            pattern.add(a, False, True)
        begin_capture(pattern)
        try:
            made = op(*[x if isinstance(x, Value) or x is None else new_tensor(a, None, 0) for x, a in zip(inputs, arrays)])
        finally:
            end_capture()
        pattern.several = type(made) is list
        pattern.results = tuple([pattern.result((<Value>t).array) for t in (made if pattern.several else [made])])
        pattern.traced = op.sources is not None
        if pattern.traced and not pattern.void:
            op.leaves = pattern
        else:
            pattern.seen = None
        if pattern.void or not pattern.unfit:
            self.keep(key, None if pattern.void else pattern)
        return made

    cdef keep(self, key, Pattern pattern):
        if len(self.patterns) >= MOST_PATTERNS:
            self.patterns.clear()
        self.patterns[key], self.latest = pattern, None


def operator(apply, tuple operands, bint reflected=False):
    """A method of two operands that calls a function of them where the other is of these classes."""
    if reflected:
        def method(self, other):
            return apply(other, self) if isinstance(other, operands) else NotImplemented
    else:
        def method(self, other):
            return apply(self, other) if isinstance(other, operands) else NotImplemented
    return method
