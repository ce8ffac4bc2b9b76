# cython: language_level=3, boundscheck=False, wraparound=False
"""The one binding between Python and C: Block and Pool (memory), Kernel (a call), Program (recorded calls).

No loop over elements, no arithmetic on data, no branch on an op's name.
"""
from cpython.buffer cimport (PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release,
                             PyObject_GetBuffer)
from cpython.dict cimport PyDict_GetItem
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

import re

import numpy as np


cdef extern from "pythread.h":
    unsigned long PyThread_get_thread_ident()


# ---- memory -----------------------------------------------------------------------------------------------------------

cdef class Pool:
    """Memory with free lists; a freed block is handed out again for the next request of its size."""
    cdef fd_pool *pool

    def __cinit__(self):
        self.pool = fd_pool_new()
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
    block.pool = recording.pool if recording is not None and recording_thread == PyThread_get_thread_ident() else main_pool
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
        cdef bint mine = recording is not None and recording_thread == PyThread_get_thread_ident()
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
            recording.append_twin(self, args, sizes)


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
    """A list of calls and the memory they work in. Made by recording: start(), launch kernels, stop()."""
    cdef fd_call *calls
    cdef int64_t n, room
    cdef Pool pool
    cdef dict kept                            # arrays from outside that a call names
    cdef dict checked                         # call -> arguments, for the error of bad data
    cdef readonly list about                  # a call's (kernel, label, bytes touched, sizes)
    cdef list twin_calls                      # with the NumPy twins: (function, arrays, sizes)
    cdef readonly str isa

    def __cinit__(self):
        self.pool = Pool()
        self.kept, self.checked, self.about, self.twin_calls = {}, {}, [], []
        self.isa = get_isa()

    def __dealloc__(self):
        PyMem_Free(self.calls)

    def __len__(self):
        return len(self.about)

    @property
    def nbytes(self):
        """Bytes of memory that the program's tensors share."""
        return self.pool.nbytes

    def start(self):
        """Record what this thread launches from now on."""
        global recording, recording_thread
        if recording is not None:
            raise RuntimeError("a program is being recorded already")
        recording, recording_thread = self, PyThread_get_thread_ident()

    def stop(self):
        """End the recording."""
        global recording
        recording = None

    cdef append(self, fd_call *call, Kernel kernel, tuple args, dict sizes):
        cdef int64_t bytes = 0
        for i, a in enumerate(args):
            if a is None:
                continue
            bytes += a.nbytes
            if not fd_pool_owns(self.pool.pool, <void *>call.word[i]):
                self.kept[id(a)] = a
        if kernel.checks:
            self.checked[self.n] = (kernel, args, sizes)
        self.about.append((kernel.name, label_now, bytes, sizes))
        if call.items == 0:                   # an empty call stays in the listing and does nothing
            call.team = 0
        if self.n == self.room:
            self.room = 2 * self.room if self.room else 64
            self.calls = <fd_call *>PyMem_Realloc(self.calls, self.room * sizeof(fd_call))
            if self.calls is NULL:
                raise MemoryError("no memory for a program")
        self.calls[self.n] = call[0]
        self.n += 1

    cdef append_twin(self, Kernel kernel, tuple args, dict sizes):
        self.about.append((kernel.name, label_now, sum([a.nbytes for a in args if a is not None]), sizes))
        self.twin_calls.append((kernel, twins[kernel.name], args, sizes))

    def run(self, int64_t repeats=1, double seconds=0):
        """Run the calls `repeats` times, or until `seconds` have passed (0: no limit); returns how often they ran."""
        return self.run_clocked(repeats, seconds, NULL)

    def profile(self, int64_t repeats):
        """Seconds that each call took, summed over the repeats."""
        if self.isa == "numpy":
            seconds = [0.0] * len(self.twin_calls)
            self.run_twins(repeats, 0, seconds)
            return seconds
        cdef double *clock = <double *>PyMem_Malloc((self.n + 1) * sizeof(double))
        memset(clock, 0, (self.n + 1) * sizeof(double))
        try:
            self.run_clocked(repeats, 0, clock)
            return [clock[i] for i in range(self.n)]
        finally:
            PyMem_Free(clock)

    cdef run_clocked(self, int64_t repeats, double seconds, double *clock):
        cdef fd_fault fault
        cdef int64_t done
        if self.isa == "numpy":
            return self.run_twins(repeats, seconds)
        if self.n == 0 or repeats <= 0:
            return max(repeats, 0)
        with nogil:
            done = fd_run(self.calls, self.n, repeats, seconds, &fault, clock)
        if done < 0:
            raise MemoryError("no memory for a thread's scratch")
        if fault.call >= 0:
            kernel, args, sizes = self.checked[fault.call]
            raise hooks["fault"](kernel, args, sizes, fault.item, self.about[fault.call][1])
        return done

    def run_twins(self, repeats, seconds, clock=None):
        import time
        end = time.monotonic() + seconds
        for done in range(repeats):
            for i, (kernel, twin, args, sizes) in enumerate(self.twin_calls):
                begin = time.perf_counter()
                item = twin(*args, **sizes)
                if item is not None:
                    raise hooks["fault"](kernel, args, sizes, item, self.about[i][1])
                if clock is not None:
                    clock[i] += time.perf_counter() - begin
            if seconds > 0 and time.monotonic() >= end:
                return done + 1
        return max(repeats, 0)


def recording_now():
    """Whether this thread records a program."""
    return recording is not None and recording_thread == PyThread_get_thread_ident()


def recorded_calls():
    """How many calls the program being recorded has; -1: this thread records none."""
    return len(recording.about) if recording is not None and recording_thread == PyThread_get_thread_ident() else -1


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
