# cython: language_level=3, boundscheck=False, wraparound=False
"""The one binding between Python and C: Block and Pool (memory), Kernel (a call), Program (recorded calls).

No loop over elements, no arithmetic on data, no branch on an op's name.
"""
from cpython.buffer cimport (PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release,
                             PyObject_GetBuffer)
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

import re
import time
import weakref

import numpy as np


cdef extern from "pythread.h":
    unsigned long PyThread_get_thread_ident()


# ---- memory -----------------------------------------------------------------------------------------------------------

cdef class Pool:
    """Memory whose freed blocks are handed out again: `dense`, in little memory, else quickly."""
    cdef fd_pool *pool

    def __cinit__(self, bint dense=False):
        self.pool = fd_pool_new(dense)
        if self.pool is NULL:
            raise MemoryError("no memory for a pool")

    def __dealloc__(self):
        fd_pool_delete(self.pool)

    @property
    def nbytes(self):
        """Bytes held, handed out or not."""
        return fd_pool_bytes(self.pool)

    def trim(self):
        """Give back to the system what is not handed out; returns the bytes."""
        return fd_pool_trim(self.pool)


cdef class Block:
    """A piece of a pool's memory; goes back to the pool when the last array on it dies."""
    cdef void *start
    cdef int64_t bytes
    cdef Pool pool

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.start, self.bytes, 0, flags)

    def __dealloc__(self):
        if self.start is not NULL:
            fd_pool_give(self.pool.pool, self.start, self.bytes)


cdef Pool main_pool = Pool()
cdef Program recording = None                 # at most one program at a time is being recorded,
cdef unsigned long recording_thread = 0       # by this thread
cdef int64_t weights_version = 0              # grows with every change of weights
cdef object ndarray = np.ndarray
cdef dict itemsizes = {"float32": 4, "int32": 4, "int64": 8, "float64": 8, "uint8": 1, "bool": 1, "uint32": 4, "uint64": 8}
itemsizes.update({np.dtype(name): size for name, size in itemsizes.items()})


def empty(shape, dtype="float32"):
    """An uninitialised array of the pool: of the program's while one is recorded. shape is a tuple of ints."""
    cdef int64_t bytes = itemsizes[dtype], n
    for n in shape:
        if n < 0 or (n > 0 and bytes > (<int64_t>1 << 47) // n):
            raise MemoryError(f"an array of shape {shape} and dtype {dtype} is too large")
        bytes *= n
    cdef Block block = Block.__new__(Block)
    block.pool = main_pool if not recording_now() else recording.early_pool if recording.early else recording.pool
    block.start = fd_pool_take(block.pool.pool, bytes)
    if block.start is NULL:
        raise MemoryError(f"no memory for an array of shape {shape} and dtype {dtype} ({bytes / 1e6:.1f} MB)")
    block.bytes = bytes
    return ndarray(shape, dtype, block)


def pool():
    """The pool that serves what is not recorded."""
    return main_pool


def set_poison(on):
    """New blocks are filled with NaN."""
    fd_memory_poison(1 if on else 0)


def set_guard(where):
    """New blocks end at ('end') or start right after ('start') a protected page; None: neither."""
    fd_memory_guard({None: 0, "end": 1, "start": 2}[where])


# ---- instruction sets -------------------------------------------------------------------------------------------------

cdef int isa = -1                             # index into fd_isas(); -1: the NumPy twins
cdef dict kernels_by_name = {}
twins = {}                                    # name -> function, filled by fastdl.op.twin


def isas():
    """{name: supported by this processor and in this build}, slowest first."""
    cdef const fd_isa *i = fd_isas()
    found = {"numpy": True}
    while i.name is not NULL:
        found[i.name.decode()] = bool(i.supported and i.table is not NULL)
        i += 1
    return found


def get_isa():
    """Name of the instruction set in use."""
    return "numpy" if isa < 0 else (<bytes>fd_isas()[isa].name).decode()


def set_isa(name):
    """Choose the instruction set of every kernel launched from now on."""
    global isa
    known = isas()
    if not known.get(name):
        have = ", ".join(n for n in known if known[n])
        raise ValueError(f"instruction set {name!r} is not available: this processor and this build have {have}")
    isa = list(known).index(name) - 1


# ---- kernels ----------------------------------------------------------------------------------------------------------

cdef enum: MOST_ISAS = 4
cdef dict formats = {"float": b"f", "double": b"d", "int32_t": b"i", "int64_t": b"lq", "uint8_t": b"B?", "uint32_t": b"IL",
                     "uint64_t": b"LQ", "void": b"*"}    # *: any of them
cdef object label_now = ""                    # name of the layer whose op runs
hooks = {}                                    # 'fault': makes the error of bad data; 'check': FASTDL_CHECK's comparison


def label(name):
    """Set the name under which launches are known from now on; returns the one before."""
    global label_now
    before = label_now
    label_now = name
    return before


def get_label():
    """Name of the layer whose op runs."""
    return label_now


cdef class Kernel:
    """A C function by its name. Call it with arrays by position, in the order of its struct, and sizes by name."""
    cdef readonly str name
    cdef readonly str fields                  # the struct, as text
    cdef readonly tuple tensors, sizes        # names
    cdef readonly bint checks                 # it can mark an item as bad
    cdef const fd_kernel *of[MOST_ISAS]
    cdef char code[FD_WORDS][4]
    cdef bint output[FD_WORDS], optional[FD_WORDS], scalar[FD_WORDS]
    cdef int n_tensors, n_sizes

    def __cinit__(self):
        memset(self.of, 0, sizeof(self.of))

    cdef parse(self, const fd_kernel *k):
        self.name, self.fields = k.name.decode(), k.fields.decode()
        tensors, sizes = [], []
        for declaration in self.fields.split(";"):
            if not declaration.strip():
                continue
            m = re.fullmatch(r"(OPTIONAL )?(const )?(\w+) (\*?)(\w+)", declaration.strip())
            if m is None or m[4] and sizes:
                raise ImportError(f"kernel {self.name}: cannot read the field {declaration.strip()!r}; arrays stand before sizes")
            if m[4]:
                i = len(tensors)
                tensors.append(m[5])
                self.optional[i], self.output[i] = bool(m[1]), not m[2]
                memset(self.code[i], 0, 4)
                for j, c in enumerate(formats[m[3]]):
                    self.code[i][j] = c
            else:
                self.scalar[len(sizes)] = m[3] == "double"
                sizes.append(m[5])
        if 8 * (len(tensors) + len(sizes)) != k.size:
            raise ImportError(f"kernel {self.name}: its struct has {k.size} bytes, its fields {8 * (len(tensors) + len(sizes))}")
        self.tensors, self.sizes = tuple(tensors), tuple(sizes)
        self.n_tensors, self.n_sizes = len(tensors), len(sizes)
        self.checks = self.name.startswith("check_")

    def __repr__(self):
        return f"kernel {self.name}({self.fields})"

    def mistake(self, what):
        lines = "".join(f"\n  {f.strip()}" for f in self.fields.split(";") if f.strip())
        return TypeError(f"kernel {self.name}: {what}; its arguments are{lines}")

    def is_output(self, int i):
        return bool(self.output[i])

    def __call__(self, *args, **sizes):
        if hooks and "check" in hooks and isa >= 0 and recording is None:
            return hooks["check"](self, args, sizes)
        self.launch(args, sizes)

    cpdef launch(self, tuple args, dict sizes):
        cdef fd_call call
        cdef fd_fault fault
        cdef int64_t done
        cdef Py_buffer view
        cdef int i, j
        cdef PyObject *value
        cdef double real
        cdef bint mine = recording_now()
        if len(args) != self.n_tensors:
            raise self.mistake(f"{len(args)} arrays were given, {self.n_tensors} are wanted")
        if len(sizes) != self.n_sizes:
            raise self.mistake(f"the sizes given are {', '.join(sizes)}")
        if isa < 0:
            self.launch_twin(args, sizes, mine)
            return
        for i in range(self.n_tensors):
            a = args[i]
            if a is None:
                if not self.optional[i]:
                    raise self.mistake(f"{self.tensors[i]} cannot be None")
                call.word[i] = 0
                continue
            try:
                PyObject_GetBuffer(a, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (PyBUF_WRITABLE if self.output[i] else 0))
            except Exception as e:
                raise self.mistake(f"{self.tensors[i]} is not a C-contiguous{' writable' if self.output[i] else ''} array ({e})") from None
            call.word[i] = <int64_t>view.buf
            for j in range(4):
                if self.code[i][j] == view.format[0] or self.code[i][j] == 0 or self.code[i][j] == b'*':
                    break
            if j == 4 or self.code[i][j] == 0 or view.format[1] != 0:
                PyBuffer_Release(&view)
                raise self.mistake(f"{self.tensors[i]} has dtype {a.dtype}")
            PyBuffer_Release(&view)
        for j in range(self.n_sizes):
            value = PyDict_GetItem(sizes, self.sizes[j])
            if value is NULL:
                raise self.mistake(f"{self.sizes[j]} is missing; given are {', '.join(sizes)}")
            if self.scalar[j]:
                real = <object>value
                memcpy(&call.word[self.n_tensors + j], &real, 8)
            else:
                call.word[self.n_tensors + j] = <object>value
        fd_call_set(&call, self.of[isa])
        if call.items > 0:
            if call.team:
                with nogil:
                    done = fd_run(&call, 1, 1, 0, &fault, NULL)
            else:
                done = fd_run(&call, 1, 1, 0, &fault, NULL)
            if done < 0:
                raise MemoryError("no memory for a thread's scratch")
            if fault.call >= 0:
                raise hooks["fault"](self, args, sizes, fault.item, label_now)
        if mine:
            recording.append(&call, self, args, sizes)

    cdef launch_twin(self, tuple args, dict sizes, bint mine):
        for name in self.sizes:
            if name not in sizes:
                raise self.mistake(f"{name} is missing; given are {', '.join(sizes)}")
        item = twins[self.name](*args, **sizes)
        if item is not None:
            raise hooks["fault"](self, args, sizes, item, label_now)
        if mine:
            recording.append(NULL, self, args, sizes)


class Kernels:
    """Every kernel, by name as an attribute."""


def load():
    """The kernels of this build; the table of contents of csrc/kernels.c."""
    cdef const fd_isa *i = fd_isas()
    cdef const fd_kernel *const *t
    cdef Kernel k
    cdef int n = 0
    all_kernels = Kernels()
    while i.name is not NULL:
        t = i.table
        while t is not NULL and t[0] is not NULL:
            name = t[0].name.decode()
            k = kernels_by_name.get(name)
            if k is None:
                k = Kernel.__new__(Kernel)
                k.parse(t[0])
                kernels_by_name[name] = k
                setattr(all_kernels, name, k)
            k.of[n] = t[0]
            t += 1
        i += 1
        n += 1
    return all_kernels


# ---- programs ---------------------------------------------------------------------------------------------------------

cdef class Program:
    """A list of calls and the memory they work in. Made by recording: start(), launch kernels, stop().

    Its prologue, the first calls of the list, computes what depends on weights alone: it runs when weights have changed since it
    ran, the rest at every run. A program that changes weights itself has none: all its calls run, in the order of the recording.
    """
    cdef bytearray calls                      # fd_call after fd_call
    cdef int64_t seen                         # the version of the weights that the prologue has seen
    cdef Pool pool, early_pool                # early_pool: what the prologue makes; no other call may overwrite it
    cdef dict kept                            # arrays from outside that a call names
    cdef dict checked                         # call -> arguments, for the error of bad data
    cdef readonly list about                  # a call's (kernel, label, bytes touched, sizes)
    cdef readonly int64_t prologue            # how many calls it has
    cdef readonly bint changes_weights
    cdef list twin_calls                      # with the NumPy twins: (function, arrays, sizes)
    cdef list is_early                        # while recording: which calls depend on weights alone
    cdef int early                            # while recording: how deep in computations from weights alone
    cdef object of_weights                    # while recording: the arrays that are weights or depend on them alone, by id
    cdef readonly str isa

    def __cinit__(self):
        self.pool, self.early_pool = Pool(True), Pool(True)
        self.kept, self.checked, self.about, self.twin_calls, self.is_early = {}, {}, [], [], []
        self.calls, self.of_weights, self.isa = bytearray(), weakref.WeakValueDictionary(), get_isa()

    def __len__(self):
        return len(self.about)

    @property
    def nbytes(self):
        """Bytes of memory that the program's tensors share."""
        return self.pool.nbytes + self.early_pool.nbytes

    @property
    def peak(self):
        """Bytes of the tensors that are needed at the same time: the least that nbytes could be."""
        return fd_pool_peak(self.pool.pool) + fd_pool_peak(self.early_pool.pool)

    def start(self):
        """Record what this thread launches from now on."""
        global recording, recording_thread
        if recording is not None:
            raise RuntimeError("a program is being recorded already")
        recording, recording_thread, self.seen = self, PyThread_get_thread_ident(), weights_version

    def stop(self):
        """End the recording; what depends on weights alone moves to the front."""
        global recording, weights_version
        cdef int size = sizeof(fd_call)
        recording = None
        if self.changes_weights:
            weights_version += 1
            return
        order = sorted(range(len(self.about)), key=lambda i: not self.is_early[i])
        self.prologue, self.about = sum(self.is_early), [self.about[i] for i in order]
        if self.isa == "numpy":
            self.twin_calls = [self.twin_calls[i] for i in order]
            return
        self.calls = bytearray().join([self.calls[i * size:(i + 1) * size] for i in order])
        self.checked = {order.index(i): arguments for i, arguments in self.checked.items()}

    cdef append(self, fd_call *call, Kernel kernel, tuple args, dict sizes):
        cdef int64_t bytes = 0
        for i, a in enumerate(args):
            if a is None:
                continue
            bytes += a.nbytes
            if call is not NULL and not fd_pool_owns((self.early_pool if self.early else self.pool).pool, <void *>call.word[i]):
                self.kept[id(a)] = a
        if kernel.checks:
            self.checked[len(self.about)] = (kernel, args, sizes)
        self.about.append((kernel.name, label_now, bytes, sizes))
        self.is_early.append(self.early > 0)
        if call is NULL:
            self.twin_calls.append((kernel, twins[kernel.name], args, sizes))
            return
        if call.items == 0:                   # an empty call stays in the listing and does nothing
            call.team = 0
        self.calls += (<char *>call)[:sizeof(fd_call)]

    def run(self, int64_t repeats=1, double seconds=0):
        """Run the calls `repeats` times, or until `seconds` have passed (0: no limit); returns how often they ran."""
        return self.run_clocked(repeats, seconds, NULL)

    def profile(self, int64_t repeats):
        """Seconds that each call after the prologue took, summed over the repeats."""
        cdef int64_t n = len(self.about) - self.prologue
        cdef bytearray clock = bytearray(8 * n + 8)
        self.run_clocked(repeats, 0, <double *>PyByteArray_AS_STRING(clock))
        return np.frombuffer(clock)[:n].tolist()

    cdef run_clocked(self, int64_t repeats, double seconds, double *clock):
        global weights_version
        cdef int64_t version = weights_version
        if self.prologue and self.seen != version:
            self.run_part(0, self.prologue, 1, 0, NULL)
            self.seen = version               # weights that another thread changed since are for the next run
        try:
            return self.run_part(self.prologue, len(self.about), repeats, seconds, clock)
        finally:
            weights_version += self.changes_weights

    cdef run_part(self, int64_t begin, int64_t end, int64_t repeats, double seconds, double *clock):
        cdef fd_call *calls = <fd_call *>PyByteArray_AS_STRING(self.calls) + begin
        cdef fd_fault fault
        cdef int64_t done
        if self.isa == "numpy":
            return self.run_twins(begin, end, repeats, seconds, clock)
        if begin == end or repeats <= 0:
            return max(repeats, 0)
        with nogil:
            done = fd_run(calls, end - begin, repeats, seconds, &fault, clock)
        if done < 0:
            raise MemoryError("no memory for a thread's scratch")
        if fault.call >= 0:
            kernel, args, sizes = self.checked[begin + fault.call]
            raise hooks["fault"](kernel, args, sizes, fault.item, self.about[begin + fault.call][1])
        return done

    cdef run_twins(self, int64_t begin, int64_t end, int64_t repeats, double seconds, double *clock):
        cdef int64_t i
        stop = time.monotonic() + seconds
        for done in range(repeats):
            for i in range(begin, end):
                (kernel, twin, args, sizes), started = self.twin_calls[i], time.perf_counter()
                item = twin(*args, **sizes)
                if item is not None:
                    raise hooks["fault"](kernel, args, sizes, item, self.about[i][1])
                if clock is not NULL:
                    clock[i - begin] += time.perf_counter() - started
            if seconds > 0 and time.monotonic() >= stop:
                return done + 1
        return max(repeats, 0)


cpdef bint recording_now():
    """Whether this thread records a program."""
    return recording is not None and recording_thread == PyThread_get_thread_ident()


def recorded_calls():
    """How many calls the program being recorded has; -1: this thread records none."""
    return len(recording.about) if recording_now() else -1


def weights_changed():
    """To be called after each change of weights. Inside a recorded step: every run of it changes them."""
    global weights_version
    if recording_now():
        recording.changes_weights = True
    else:
        weights_version += 1


def of_weights(array, bint mark=False):
    """Whether the recorded step knows the array as weights, or computed from them alone; `mark`: from now on it does."""
    if mark:
        recording.of_weights[id(array)] = array
    return id(array) in recording.of_weights


class prologue:
    """Context manager inside a recorded step: what is launched and allocated inside depends on weights alone."""

    def __enter__(self):
        recording.early += 1

    def __exit__(self, *_):
        recording.early -= 1


# ---- threads ----------------------------------------------------------------------------------------------------------

def get_threads():
    """How many threads the next call may use."""
    return fd_threads()


def set_threads(int n):
    """Use n threads; 0: what this process may use."""
    if n < 0:
        raise ValueError(f"the number of threads must be at least 1, or 0 for the default, not {n}")
    fd_set_threads(n)


def set_grain(double work=32768):
    """Calls of less work than this stay on one thread; the tests set 0."""
    fd_set_grain(work)


fd_launch_init()
