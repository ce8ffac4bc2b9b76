/* Runs calls and splits their items over the threads of one team: the only file with OpenMP.

   A whole list of calls runs inside one parallel region. Every thread walks the list; a call that is worth it is cut into
   one range of items per thread, any other is done by thread 0. Between two calls there is a wait, unless both are thread
   0's. What an item gives does not depend on the cut, so every number of threads gives the same bits. */
#define _GNU_SOURCE
#include "fastdl.h"

#include <omp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifndef _WIN32
#include <pthread.h>
#include <unistd.h>
#endif

enum { MOST_THREADS = 256 };
static double grain = 32768;        /* least work (in fd_kernel's cost) for which a second thread is woken */

static int wanted;                  /* fd_set_threads; 0: by the process */
static int forked;                  /* in a child of fork libgomp's team is gone: one thread */
static atomic_flag busy = ATOMIC_FLAG_INIT;   /* another Python thread has the team */

/* ---- how many threads ---- */

static int quota(void)              /* the cgroup's limit in whole CPUs; 0: none */
{
    long long most = -1, period = 0;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (f) {
        if (fscanf(f, "%lld %lld", &most, &period) != 2) most = -1;
        fclose(f);
    } else if ((f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "r"))) {
        if (fscanf(f, "%lld", &most) != 1) most = -1;
        fclose(f);
        if (most > 0 && (f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "r"))) {
            if (fscanf(f, "%lld", &period) != 1) period = 0;
            fclose(f);
        }
    }
    return most > 0 && period > 0 ? (int)((most + period - 1) / period) : 0;
}

static int usable(void)
{
    static int cached;
    if (!cached) {
        int n = omp_get_num_procs(), q = quota();   /* heeds the affinity mask */
        cached = q && q < n ? q : n;
    }
    return cached;
}

int fd_threads(void)
{
    int n = wanted;
    if (!n) {
        n = omp_get_max_threads();                       /* OMP_NUM_THREADS, threadpoolctl */
        if (n == omp_get_num_procs()) n = usable();      /* nobody asked for a number */
    }
    return forked || n < 1 ? 1 : n > MOST_THREADS ? MOST_THREADS : n;
}

void fd_set_threads(int n) { wanted = n; }
void fd_set_grain(double work) { grain = work; }

static void in_child(void) { forked = 1; atomic_flag_clear(&busy); }

void fd_launch_init(void)
{
#ifndef _WIN32
    pthread_atfork(0, 0, in_child);
#endif
}

/* ---- scratch, one block a thread, kept ---- */

static char *scratch_of[MOST_THREADS];

static char *scratch(int thread)
{
    if (!scratch_of[thread]) {
        void *p = 0;
        if (!posix_memalign(&p, 4096, FD_SCRATCH)) scratch_of[thread] = p;
    }
    return scratch_of[thread];
}

/* ---- the wait between calls ---- */

typedef struct { atomic_int arrived; atomic_int turn; int team; } barrier;

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static void await(barrier *b)
{
    int turn = atomic_load_explicit(&b->turn, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&b->arrived, 1, memory_order_acq_rel) == b->team - 1) {
        atomic_store_explicit(&b->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&b->turn, turn + 1, memory_order_release);
        return;
    }
    for (int spins = 0; atomic_load_explicit(&b->turn, memory_order_acquire) == turn; spins++)
        if (spins < 4000) relax();
        else sched_yield();             /* more threads than processors */
}

/* ---- running ---- */

typedef struct {
    const fd_call *calls;
    int64_t n, repeats;
    double deadline;                    /* 0: none */
    double *clock;
    barrier wait;
    _Atomic int64_t call, item;         /* the first fault; item INT64_MAX: none */
    atomic_int over;                    /* thread 0's word that this repeat was the last */
    int64_t done;
} run;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void report(run *r, int64_t call, int64_t item)
{
    int64_t least = atomic_load(&r->item);
    while (item < least && !atomic_compare_exchange_weak(&r->item, &least, item)) ;
    atomic_store(&r->call, call);       /* all threads that report at once are in the same call */
}

static void range(const fd_call *c, int thread, int team, int64_t *begin, int64_t *end)
{
    int64_t size = (c->items + team - 1) / team;
    if (size >= 512) size = (size + 63) & ~(int64_t)63;     /* whole cache lines */
    *begin = size * thread < c->items ? size * thread : c->items;
    *end = *begin + size < c->items ? *begin + size : c->items;
}

/* Thread `thread` of `team` walks the list. */
static void walk(run *r, int thread, int team, fd_worker *worker)
{
    for (int64_t repeat = 0; repeat < r->repeats; repeat++) {
        int stopped = 0, apart = 0;     /* apart: thread 0 has worked alone since the last wait */
        double t0 = r->clock && thread == 0 ? now() : 0;
        for (int64_t i = 0; i < r->n; i++) {
            const fd_call *c = &r->calls[i];
            int shared = c->team && team > 1;
            if (shared && apart) {
                await(&r->wait);
                apart = 0;
                if (atomic_load(&r->item) != INT64_MAX) { stopped = 1; break; }
            }
            if (!stopped && (shared || thread == 0)) {
                int64_t begin = 0, end = c->items;
                if (shared) range(c, thread, team, &begin, &end);
                if (begin < end) {
                    c->kernel->run(c->word, begin, end, worker);
                    if (worker->bad != INT64_MAX) {
                        report(r, i, worker->bad);
                        worker->bad = INT64_MAX;
                        stopped = 1;
                    }
                }
            }
            if (shared) {
                await(&r->wait);
                if (atomic_load(&r->item) != INT64_MAX) { stopped = 1; break; }
            } else {
                apart = 1;
                if (stopped && team == 1) break;
            }
            if (r->clock && thread == 0) { double t1 = now(); r->clock[i] += t1 - t0; t0 = t1; }
        }
        if (thread == 0) {
            int failed = atomic_load(&r->item) != INT64_MAX;
            if (!failed) r->done++;
            if (failed || (r->deadline > 0 && now() >= r->deadline)) atomic_store(&r->over, 1);
        }
        if (team > 1) await(&r->wait);
        if (atomic_load(&r->over)) return;
        if (team > 1) await(&r->wait);  /* before thread 0 may say `over` of the next repeat */
    }
}

int64_t fd_run(const fd_call *calls, int64_t n, int64_t repeats, double seconds, fd_fault *fault, double *clock)
{
    run r = { .calls = calls, .n = n, .repeats = repeats, .deadline = seconds > 0 ? now() + seconds : 0, .clock = clock };
    atomic_init(&r.item, INT64_MAX);
    atomic_init(&r.call, -1);
    int team = 1;
    for (int64_t i = 0; i < n && team == 1; i++) if (calls[i].team) team = 2;
    if (team > 1) team = fd_threads();
    if (team > 1 && atomic_flag_test_and_set(&busy)) team = -1;     /* the team is taken: work alone, on own scratch */
    if (team > 1) {
        for (int t = 0; t < team; t++) if (!scratch(t)) { team = 1; atomic_flag_clear(&busy); break; }
    }
    if (team > 1) {
        #pragma omp parallel num_threads(team)
        {
            #pragma omp single
            r.wait.team = omp_get_num_threads();
            int thread = omp_get_thread_num();
            fd_worker worker = { scratch(thread), INT64_MAX };
            walk(&r, thread, r.wait.team, &worker);
        }
        atomic_flag_clear(&busy);
    } else {
        void *own = 0;
        static _Thread_local char *alone;                            /* a Python thread's own scratch */
        if (!alone && !posix_memalign(&own, 4096, FD_SCRATCH)) alone = own;
        fd_worker worker = { alone, INT64_MAX };
        walk(&r, 0, 1, &worker);
    }
    fault->item = atomic_load(&r.item);
    fault->call = fault->item == INT64_MAX ? -1 : atomic_load(&r.call);
    return r.done;
}

void fd_call_set(fd_call *c, const fd_kernel *kernel, int32_t label)
{
    c->kernel = kernel;
    c->label = label;
    c->items = kernel->items(c->word);
    if (c->items < 0) c->items = 0;
    c->team = (double)c->items * kernel->cost(c->word) >= grain;
}
