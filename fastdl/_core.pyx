# cython: language_level=3, boundscheck=False, wraparound=False
"""The one binding between Python and C: Block and Pool (memory), Kernel (a call), Program (recorded calls).

No loop over elements, no arithmetic on data, no branch on an op's name.
"""
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject, PyTypeObject
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int64_t
from libc.string cimport memcmp, memcpy, memset

import re
import time
import weakref
from heapq import heappop, heappush

import numpy as np

cimport numpy as cnp

cnp.import_array()


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

    def __dealloc__(self):
        if self.start is not NULL:
            fd_pool_give(self.pool.pool, self.start, self.bytes)


cdef Pool main_pool = Pool()
cdef Program recording = None                 # at most one program at a time is being recorded,
cdef unsigned long recording_thread = 0       # by this thread
cdef int64_t weights_version = 0              # grows with every change of weights
cdef dict dtypes = {name: np.dtype(name) for name in ("float32", "int32", "int64", "float64", "uint8", "bool", "uint32", "uint64")}
dtypes.update({d: d for d in dtypes.values()})


def empty(tuple shape, dtype="float32"):
    """An uninitialised array of the pool: of the program's while one is recorded. shape is a tuple of ints."""
    cdef cnp.dtype kind = dtypes[dtype]
    cdef cnp.npy_intp sizes[32]
    cdef int64_t bytes = cnp.PyDataType_ELSIZE(kind), n
    cdef int axis, axes = len(shape)
    if axes > 32:
        raise ValueError(f"an array of {axes} axes; 32 are allowed")
    for axis in range(axes):
        n = sizes[axis] = shape[axis]
        if n < 0 or (n > 0 and bytes > (<int64_t>1 << 47) // n):
            raise MemoryError(f"an array of shape {shape} and dtype {dtype} is too large")
        bytes *= n
    if not recording_now():
        made = new(axes, sizes, kind.num, bytes, main_pool)
    else:
        made = new(axes, sizes, kind.num, bytes, recording.early_pool if recording.early else recording.pool)
        recording.hold(made, bytes)
    if capturing():
        capture.add(made, True)
    return made


cdef object new(int axes, cnp.npy_intp *sizes, int kind, int64_t bytes, Pool pool):
    """An array in a block of the pool."""
    cdef Block block = Block.__new__(Block)
    block.pool, block.bytes, block.start = pool, bytes, fd_pool_take(pool.pool, bytes)
    if block.start is NULL:
        raise MemoryError(f"no memory for an array of shape {tuple([sizes[i] for i in range(axes)])} ({bytes / 1e6:.1f} MB)")
    cdef cnp.ndarray array = cnp.PyArray_SimpleNewFromData(axes, sizes, kind, block.start)
    cnp.set_array_base(array, block)
    return array


# ---- tensors ----------------------------------------------------------------------------------------------------------

cdef class Value:
    """What a Tensor holds; see fastdl/tensor.py."""
    cdef public object array, node, grad, mask
    cdef public object logits                 # of a softmax or sigmoid: (what it was given, its name)
    cdef public object buffer                 # of a Parameter
    cdef public int index
    cdef public bint requires_grad
    cdef object __weakref__

    def __init__(self, array, bint requires_grad=False, node=None, int index=0):
        self.array, self.requires_grad, self.node, self.index = array, requires_grad, node, index


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
cdef int64_t settings = 0                     # grows with every change of what ops heed besides it, options, shapes and dtypes
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


def settings_changed():
    """To be called after a change of such a setting: what was recorded before is void."""
    global settings
    settings += 1


# ---- kernels ----------------------------------------------------------------------------------------------------------

cdef enum: MOST_ISAS = 4
cdef dict types = {"float": (np.float32,), "double": (np.float64,), "int32_t": (np.int32,), "int64_t": (np.int64, np.longlong),
                   "uint8_t": (np.uint8, np.bool_), "uint32_t": (np.uint32,), "uint64_t": (np.uint64, np.ulonglong)}
types["void"] = sum(types.values(), ())       # any of them
cdef bint joined_now = False                  # calls need nothing of the one before
cdef object label_now = ""                    # name of the layer whose op runs
hooks = {}                                    # 'fault': makes the error of bad data; 'recording': the class of errors in recorded steps
cdef object checker = None                    # FASTDL_CHECK's comparison


def set_checker(function):
    """Outside of recordings, kernels in C are launched by function(kernel, arrays, sizes); None: as ever."""
    global checker
    checker = function


def checking():
    """Whether set_checker has been given a function."""
    return checker is not None


def label(name):
    """Set the name under which launches are known from now on; returns the one before."""
    global label_now
    before = label_now
    label_now = name
    return before


def join(bint on):
    """Whether a call that is launched from now on needs nothing of the one before, nor shares outputs with it.

    A recorded program shares out the items of both as one range; their arrays must be alive until the last is launched.
    """
    global joined_now
    joined_now = on


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
    cdef int accepted[FD_WORDS]               # dtypes, a bit for each of NumPy's type numbers
    cdef bint output[FD_WORDS]
    cdef bint optional[FD_WORDS]
    cdef bint scalar[FD_WORDS]
    cdef int n_tensors, n_sizes

    def __cinit__(self):
        memset(self.of, 0, sizeof(self.of))
        memset(self.accepted, 0, sizeof(self.accepted))

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
                for scalar in types[m[3]]:
                    self.accepted[i] |= 1 << np.dtype(scalar).num
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
        hint = '\n  float64 is computed on the NumPy twins only: with fastdl.isa("numpy")\n' if "has dtype float64" in what else ""
        return TypeError(f"kernel {self.name}: {what};{hint} its arguments are{lines}")

    def is_output(self, int i):
        return bool(self.output[i])

    def __call__(self, *args, **sizes):
        if checker is not None and isa >= 0 and recording is None:
            return checker(self, args, sizes)
        self.launch(args, sizes)

    cpdef launch(self, tuple args, dict sizes):
        cdef fd_call call
        cdef fd_fault fault
        cdef int64_t done
        cdef cnp.ndarray array
        cdef int i, j, wanted = cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED
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
            if type(a) is not cnp.ndarray and not isinstance(a, cnp.ndarray):
                raise self.mistake(f"{self.tensors[i]} is not a C-contiguous{' writable' if self.output[i] else ''} array ({type(a).__name__})")
            array = <cnp.ndarray>a
            if not cnp.PyArray_CHKFLAGS(array, wanted | (cnp.NPY_ARRAY_WRITEABLE if self.output[i] else 0)):
                raise self.mistake(f"{self.tensors[i]} is not a C-contiguous{' writable' if self.output[i] else ''} array")
            call.word[i] = <int64_t>cnp.PyArray_DATA(array)
            if not self.accepted[i] >> cnp.PyArray_TYPE(array) & 1 or not cnp.PyArray_ISNOTSWAPPED(array):
                raise self.mistake(f"{self.tensors[i]} has dtype {a.dtype}")
        self.read(sizes, &call.word[self.n_tensors])
        fd_call_set(&call, self.of[isa])
        if call.items > 0:
            if call.team:
                with nogil:
                    done = fd_run(&call, 1, 1, 0, &fault, NULL, NULL)
            else:
                done = fd_run(&call, 1, 1, 0, &fault, NULL, NULL)
            if done < 0:
                raise MemoryError("no memory for a thread's scratch")
            if fault.call >= 0:
                raise hooks["fault"](self, args, sizes, fault.item, label_now)
            if capturing():
                capture.append(&call, self, args)
        if mine:
            call.joined = joined_now
            recording.append(&call, self, args, sizes)

    cdef read(self, dict sizes, int64_t *words):
        """Sizes as the words of a call."""
        cdef int j
        cdef PyObject *value
        cdef double real
        for j in range(self.n_sizes):
            value = PyDict_GetItem(sizes, self.sizes[j])
            if value is NULL:
                raise self.mistake(f"{self.sizes[j]} is missing; given are {', '.join(sizes)}")
            if self.scalar[j]:
                real = <object>value
                memcpy(&words[j], &real, 8)
            else:
                words[j] = <object>value

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


include "_program.pxi"
include "_eager.pxi"
include "_tape.pxi"


# ---- threads ----------------------------------------------------------------------------------------------------------

def get_threads():
    """How many threads the next call may use."""
    return fd_threads()


def set_threads(int n):
    """Use n threads; 0: what this process may use."""
    if n < 0:
        raise ValueError(f"the number of threads must be at least 1, or 0 for the default, not {n}")
    fd_set_threads(n)


def set_grain(double work=20000):
    """Calls of less work than this stay on one thread; the tests set 0."""
    fd_set_grain(work)
    settings_changed()


fd_launch_init()
