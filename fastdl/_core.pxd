# csrc/fastdl.h, in the same order.
from libc.stdint cimport int64_t


cdef extern from "fastdl.h" nogil:
    enum: FD_WORDS

    ctypedef struct fd_kernel:
        const char *name
        const char *fields
        int64_t size
        int64_t (*items)(const void *) noexcept nogil

    ctypedef struct fd_call:
        const fd_kernel *kernel
        int64_t items
        int64_t team
        int64_t joined
        int64_t chained
        int64_t parts
        int64_t part_items
        double work
        int64_t word[32]

    ctypedef struct fd_fault:
        int64_t call
        int64_t item

    void fd_call_set(fd_call *, const fd_kernel *)
    void fd_calls_share(fd_call *, int64_t)

    ctypedef struct fd_reach:
        int64_t arrays
        int64_t outputs
        int64_t checks
        int64_t bytes[32]

    int fd_calls_chain(fd_call *, const fd_reach *, int64_t, int64_t *)
    ctypedef struct fd_pace:
        int64_t alone

    int64_t fd_run(const fd_call *, int64_t, int64_t, double, fd_fault *, double *, fd_pace *)
    int fd_threads()
    void fd_set_threads(int)
    void fd_set_grain(double)
    void fd_launch_init()

    ctypedef struct fd_isa:
        const char *name
        const fd_kernel *const *table
        int supported

    const fd_isa *fd_isas()

    ctypedef struct fd_pool:
        pass

    fd_pool *fd_pool_new(int)
    void fd_pool_delete(fd_pool *)
    void *fd_pool_take(fd_pool *, int64_t)
    void fd_pool_give(fd_pool *, void *, int64_t)
    int fd_pool_owns(const fd_pool *, const void *)
    int64_t fd_pool_bytes(const fd_pool *)
    int64_t fd_pool_peak(const fd_pool *)
    int64_t fd_pool_trim(fd_pool *)
    void fd_memory_poison(int)
    void fd_memory_guard(int)
