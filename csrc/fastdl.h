/* The whole C interface that Python sees: memory, processor, call, program. */
#ifndef FASTDL_H
#define FASTDL_H

#include <stddef.h>
#include <stdint.h>

/* ---- kernels and calls ------------------------------------------------------------------------------------------ */

enum { FD_WORDS = 32 };          /* arguments a kernel may have, each one 8-byte word */
enum { FD_SCRATCH = 1 << 21 };   /* bytes of scratch that each thread owns */

typedef struct fd_worker {       /* what a running kernel gets besides its arguments */
    char *scratch;               /* FD_SCRATCH bytes, aligned to 64, contents undefined */
    int64_t bad;                 /* lowest item found wrong in the data so far; INT64_MAX: none */
    const struct fd_call *call;  /* the call itself, in a list, */
    int64_t calls_after;         /* in which so many follow it */
} fd_worker;

typedef struct fd_slices {       /* how the items of a call belong to rows of what it reads and writes */
    int64_t rows;                /* 0: not at all, or not in this order */
    int64_t unit;                /* so many rows (the last ones: fewer) belong to */
    int64_t items;               /* so many items that follow one another */
    int64_t stride[FD_WORDS];    /* of each array, the bytes that a unit has to itself, from unit to unit; 0: every item may need all of it */
} fd_slices;

typedef struct fd_kernel {
    const char *name;
    const char *fields;          /* the struct body of the arguments, as text without comments */
    int64_t size;                /* sizeof that struct */
    int64_t (*items)(const void *arguments);
    double (*cost)(const void *arguments);   /* of one item; one unit: a float read, used and written in a vector loop */
    void (*run)(const void *arguments, int64_t begin, int64_t end, fd_worker *);
    void (*slices)(const void *arguments, fd_slices *);      /* null: no slices */
} fd_kernel;

typedef struct fd_call {
    const fd_kernel *kernel;
    int64_t items;
    int64_t team;                /* 1: worth it, every thread takes a range of the items; 0: one thread does all */
    int64_t joined;              /* 1: needs nothing of the call before, and the items of both are shared out as one range */
    int64_t chained;             /* 1: a thread goes on with it after its share of the call before, without a wait */
    int64_t parts, part_items;   /* of calls in a chain: how many parts it has, and the items of one; else 0 */
    double work;                 /* items times the kernel's cost */
    int64_t word[FD_WORDS];
} fd_call;

typedef struct fd_fault {        /* the first call that met bad data */
    int64_t call;                /* -1: none */
    int64_t item;
} fd_fault;

void fd_call_set(fd_call *, const fd_kernel *);   /* items and team, once the words are filled */

void fd_calls_share(fd_call *calls, int64_t n);   /* team again, for the calls of a list */

typedef struct fd_reach {        /* what a call touches */
    int64_t arrays, outputs;     /* its first words are arrays; bit i: array i is written */
    int64_t checks;              /* 1: it marks bad data, and calls after it rely on that */
    int64_t bytes[FD_WORDS];     /* of each array */
} fd_reach;

/* Find chains in a list, and put their calls side by side; order[i]: where call i was. Returns 0, or -1: there is no memory. */
int fd_calls_chain(fd_call *calls, const fd_reach *reach, int64_t n, int64_t *order);

typedef struct fd_pace {         /* of a list that is run often: zeros at first */
    int64_t alone, trial;        /* alone: one thread was faster than all; trial: these runs are done the other way */
    int64_t runs, wait;          /* so far, of how many before the next trial */
    double sum, mean;            /* seconds of these runs; of one, before the trial */
} fd_pace;

/* Run the n calls, `repeats` times or until `seconds` have passed (0: no limit). Returns how often the list was
   completed; -1: there is no memory for scratch. Stops at the first call that marks a data item as bad. With `clock` (n
   doubles), adds each call's time. With `pace`, a short list is run by all threads or by one, whichever is faster. */
int64_t fd_run(const fd_call *calls, int64_t n, int64_t repeats, double seconds, fd_fault *fault, double *clock, fd_pace *pace);

int fd_threads(void);                 /* the team's size for the next call */
void fd_set_threads(int);             /* 0: what this process may use */
void fd_set_grain(double work);        /* calls of less work stay on one thread */
double fd_grain(void);
void fd_launch_init(void);

/* ---- instruction sets ------------------------------------------------------------------------------------------- */

typedef struct fd_isa {
    const char *name;
    const fd_kernel *const *table;    /* ends with a null; null where this build lacks the set */
    int supported;                    /* by the processor */
} fd_isa;

const fd_isa *fd_isas(void);          /* slowest first; ends with a null name */

/* ---- memory ----------------------------------------------------------------------------------------------------- */

typedef struct fd_pool fd_pool;

fd_pool *fd_pool_new(int dense);                      /* dense: in little memory, else quickly */
void fd_pool_delete(fd_pool *);                       /* all its memory, handed out or not */
void *fd_pool_take(fd_pool *, int64_t bytes);         /* aligned to 64; null: no memory */
void fd_pool_give(fd_pool *, void *, int64_t bytes);  /* bytes: as taken */
int fd_pool_owns(const fd_pool *, const void *);
int64_t fd_pool_bytes(const fd_pool *);               /* all it holds, handed out or not */
int64_t fd_pool_peak(const fd_pool *);                /* the most it had handed out at one time */
int64_t fd_pool_trim(fd_pool *);                      /* frees what is not handed out; returns the bytes */

enum { FD_GUARD_OFF, FD_GUARD_END, FD_GUARD_START };
void fd_memory_poison(int on);        /* new blocks are filled with NaN */
void fd_memory_guard(int where);      /* blocks end at, or start right after, a protected page */

#endif
