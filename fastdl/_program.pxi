# Part of _core.pyx: programs, which are lists of recorded calls.

cdef enum: HELD_ARRAY = 1 << 17, HELD = 1 << 21


cdef class Program:
    """A list of calls and the memory they work in. Made by recording: start(), launch kernels, stop().

    Its prologue, the first calls of the list, computes what depends on weights alone: it runs when weights have changed since it
    ran, the rest at every run. A program that changes weights itself has none: all its calls run, in the order of the recording.
    """
    cdef bytearray calls, reach               # fd_call after fd_call; while recording, what each touches
    cdef int64_t seen                         # the version of the weights that the prologue has seen
    cdef Pool pool, early_pool                # early_pool: what the prologue makes; no other call may overwrite it
    cdef dict kept                            # arrays from outside that a call names
    cdef dict checked                         # call -> arguments, for the error of bad data
    cdef readonly list about                  # a call's (kernel, label, bytes touched, sizes)
    cdef readonly int64_t prologue            # how many calls it has
    cdef readonly bint changes_weights
    cdef list twin_calls                      # with the NumPy twins: (function, arrays, sizes)
    cdef list held                            # while recording: small arrays
    cdef int64_t held_bytes
    cdef fd_pace pace
    cdef list tables                          # while recording: of calls whose results may be kept from memory, (call, arguments, sizes); or None
    cdef list is_early                        # while recording: which calls depend on weights alone
    cdef int early                            # while recording: how deep in computations from weights alone
    cdef object of_weights                    # while recording: the arrays that are weights or depend on them alone, by id
    cdef readonly str isa
    cdef int of_isa
    cdef int64_t of_settings

    def __cinit__(self):
        self.pool, self.early_pool = Pool(True), Pool(True)
        self.kept, self.checked, self.about, self.twin_calls, self.is_early = {}, {}, [], [], []
        self.calls, self.reach, self.of_weights = bytearray(), bytearray(), weakref.WeakValueDictionary()
        self.held = []
        memset(&self.pace, 0, sizeof(self.pace))
        self.isa, self.of_isa, self.of_settings = get_isa(), isa, settings

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

    @property
    def alone(self):
        """Whether it runs on one thread, as sharing it was slower at the last trial."""
        return bool(self.pace.alone)

    @property
    def work(self):
        """Of each call, the work that it counts for (csrc/fastdl.h says in what unit), whether it is shared by threads, and whether in a chain."""
        cdef fd_call *calls = <fd_call *>PyByteArray_AS_STRING(self.calls)
        return [] if self.isa == "numpy" else [(calls[i].work, bool(calls[i].team), bool(calls[i].parts)) for i in range(len(self.about))]

    def start(self):
        """Record what this thread launches from now on. What the step that ran plainly has left is given back before."""
        global recording, recording_thread
        if recording is not None:
            raise RuntimeError("a program is being recorded already")
        main_pool.trim()
        recording, recording_thread, self.seen = self, PyThread_get_thread_ident(), weights_version

    def stop(self):
        """End the recording; what depends on weights alone moves to the front, and calls that work row by row are chained."""
        global recording, weights_version
        recording = None
        self.held, self.tables = [], None
        if self.changes_weights:
            weights_version += 1
        else:
            self.prologue = sum(self.is_early)
            self.reorder(sorted(range(len(self.about)), key=lambda i: not self.is_early[i]))
        if self.isa == "numpy":
            return
        cdef int64_t first = self.prologue, n = len(self.about) - first
        cdef bytearray order = bytearray(8 * n)
        if fd_calls_chain(self.at(first), <fd_reach *>PyByteArray_AS_STRING(self.reach) + first, n, <int64_t *>PyByteArray_AS_STRING(order)):
            raise MemoryError("no memory to order a program's calls")
        order_of = [first + i for i in memoryview(order).cast("q")]
        self.name(list(range(first)) + order_of)
        fd_calls_share(self.at(0), first)
        fd_calls_share(self.at(first), n)
        self.reach = bytearray()

    cdef hold(self, object array, int64_t bytes):
        """Keep a small array's memory from being used again: calls that share none can be put in another order."""
        if bytes <= HELD_ARRAY and self.held_bytes + bytes <= HELD:
            self.held.append(array)
            self.held_bytes += bytes

    cdef fd_call *at(self, int64_t i):
        return <fd_call *>PyByteArray_AS_STRING(self.calls) + i

    cdef name(self, list order):
        """The names of calls that were moved."""
        self.about = [self.about[i] for i in order]
        self.checked = {order.index(i): arguments for i, arguments in self.checked.items()}

    cdef reorder(self, list order):
        """The recorded calls in another order."""
        cdef int call = sizeof(fd_call), reach = sizeof(fd_reach)
        self.name(order)
        if self.isa == "numpy":
            self.twin_calls = [self.twin_calls[i] for i in order]
        else:
            self.calls = bytearray().join([self.calls[i * call:(i + 1) * call] for i in order])
            self.reach = bytearray().join([self.reach[i * reach:(i + 1) * reach] for i in order])

    cdef append(self, fd_call *call, Kernel kernel, tuple args, dict sizes):
        cdef int64_t bytes = 0
        cdef fd_reach reach
        cdef int i
        memset(&reach, 0, sizeof(reach))
        reach.arrays, reach.checks = len(args), kernel.checks
        for i, a in enumerate(args):
            if a is None:
                continue
            reach.bytes[i] = a.nbytes
            reach.outputs |= <int64_t>kernel.output[i] << i
            bytes += reach.bytes[i]
            if call is not NULL and not fd_pool_owns((self.early_pool if self.early else self.pool).pool, <void *>call.word[i]):
                self.kept[id(a)] = a
        if kernel.checks:
            self.checked[len(self.about)] = (kernel, args, sizes)
        if self.tables is not None and kernel.name == "take_grad":
            self.tables.append((len(self.about), args, sizes))
        self.about.append((kernel.name, label_now, bytes, sizes))
        self.is_early.append(self.early > 0)
        if call is NULL:
            self.twin_calls.append((kernel, twins[kernel.name], args, sizes))
            return
        if call.items == 0:                   # an empty call stays in the listing and does nothing
            call.team = 0
        self.calls += (<char *>call)[:sizeof(fd_call)]
        self.reach += (<char *>&reach)[:sizeof(fd_reach)]

    cdef take_back(self, cnp.ndarray gradient):
        """See rows_of."""
        cdef fd_reach *reach = <fd_reach *>PyByteArray_AS_STRING(self.reach)
        cdef fd_call *calls = <fd_call *>PyByteArray_AS_STRING(self.calls)
        cdef int64_t begin = <int64_t>cnp.PyArray_DATA(gradient), end = begin + gradient.nbytes, k, i, at, n = len(self.about)
        for at, args, sizes in self.tables if self.isa != "numpy" else ():
            if <int64_t>cnp.PyArray_DATA(args[0]) != begin or args[0].nbytes != gradient.nbytes or sizes["outer"] != 1:
                continue
            for k in range(n):
                for i in range(reach[k].arrays):
                    if k != at and calls[k].word[i] < end and calls[k].word[i] + reach[k].bytes[i] > begin:
                        return None
            self.reorder([k for k in range(n) if k != at])
            del self.is_early[at]
            self.tables = [(k - (k > at), *rest) for k, *rest in self.tables if k != at]
            return args[1:], sizes
        return None

    def run(self, int64_t repeats=1, double seconds=0):
        """Run the calls `repeats` times, or until `seconds` have passed (0: no limit); returns how often they ran."""
        return self.run_clocked(repeats, seconds, NULL)

    def replay(self, tuple own, tuple given):
        """Copy given arrays into the program's own and run once. False: something is not as when it was recorded (an array's shape or
        dtype, the instruction set, a setting), and nothing was done."""
        cdef cnp.ndarray to, array
        cdef int i, n = len(own)
        if n != len(given) or self.of_settings != settings or self.of_isa != isa:
            return False
        for i in range(n):
            to = own[i]
            a = given[i]
            if type(a) is not cnp.ndarray:
                return False
            array = a
            if cnp.PyArray_TYPE(to) != cnp.PyArray_TYPE(array) or cnp.PyArray_NDIM(to) != cnp.PyArray_NDIM(array) or \
                    not cnp.PyArray_CHKFLAGS(array, cnp.NPY_ARRAY_C_CONTIGUOUS) or not cnp.PyArray_ISNOTSWAPPED(array) or \
                    memcmp(cnp.PyArray_DIMS(to), cnp.PyArray_DIMS(array), cnp.PyArray_NDIM(to) * sizeof(cnp.npy_intp)):
                return False
        for i in range(n):
            to, array = own[i], given[i]
            memcpy(cnp.PyArray_DATA(to), cnp.PyArray_DATA(array), cnp.PyArray_NBYTES(to))
        self.run_clocked(1, 0, NULL)
        return True

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
            done = fd_run(calls, end - begin, repeats, seconds, &fault, clock, &self.pace if begin == self.prologue else NULL)
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
                kernel, twin, args, sizes = self.twin_calls[i]
                started = time.perf_counter()
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


def gradients_unseen():
    """Promise that nobody looks at gradients once the step that is being recorded, if any, has used them: rows_of may take calls back."""
    if recording_now():
        recording.tables = []


def rows_of(gradient):
    """Where the recorded step has made a gradient by take_grad, to be read by nobody else: d_out, order and first, and the sizes, and that
    call is taken back; else None."""
    return recording.take_back(gradient) if recording_now() and recording.tables else None


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
