/* Runs calls and splits their items over the threads of one team: the only file with threads. OpenMP is asked for their number only:
   its region takes half a microsecond to a whole one, as all threads must come and go, where to hand a call to a thread that waits for
   it takes a tenth.

   A call that is worth it is cut into one range of items per thread, any other is done by one thread. What an item gives does not
   depend on the cut, so every number of threads gives the same bits. */
#define _GNU_SOURCE
#include "fastdl.h"

#include <math.h>
#include <omp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <pthread.h>
#ifndef _WIN32
#include <signal.h>
#include <unistd.h>
#endif

enum { MOST_THREADS = 256 };
static double grain = 20000;        /* least work (in fd_kernel's cost) of a call that is shared: a microsecond */
/* In grains, least work of the shared calls of a run for which threads are woken, which takes tens of microseconds; for less where runs
   follow one another closely, as the steps of a loop do: they will not have gone to sleep by the next. For a run without pace not for
   less than AWAKE, as what it reads may have to come from the caller's cache. */
enum { WAKING = 12, AWAKE = 3, SMALL = 8 };
static const double CLOSELY = 5e-5;  /* seconds */

static int wanted;                  /* fd_set_threads; 0: by the process */
static int forked;                  /* in a child of fork the workers are gone: one thread */
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
double fd_grain(void) { return grain; }

static void in_child(void) { forked = 1; atomic_flag_clear(&busy); }

void fd_launch_init(void)
{
#ifndef _WIN32
    pthread_atfork(0, 0, in_child);
#endif
}

/* ---- scratch: one block a thread of the team, and some for those who work alone; all kept ---- */

enum { SPARES = 16 };
static _Atomic(char *) spare[SPARES];

static char *borrow(void)
{
    for (int i = 0; i < SPARES; i++) {
        char *p = atomic_load_explicit(&spare[i], memory_order_relaxed) ? atomic_exchange(&spare[i], 0) : 0;
        if (p) return p;
    }
    void *p = 0;
    return posix_memalign(&p, 4096, FD_SCRATCH) ? 0 : p;
}

static void give_back(char *p)
{
    for (int i = 0; i < SPARES; i++) {
        char *none = 0;
        if (atomic_compare_exchange_strong(&spare[i], &none, p)) return;
    }
    free(p);
}

static char *scratch_of[MOST_THREADS];

static char *scratch(int thread)
{
    if (!scratch_of[thread]) {
        void *p = 0;
        if (!posix_memalign(&p, 4096, FD_SCRATCH)) scratch_of[thread] = p;
    }
    return scratch_of[thread];
}

/* ---- pace: now and then some runs of a short list are left to one thread, or to all where one does the others, and the faster stays.
   Where another program has one of the processors, or they are far from one another, a list of some microseconds loses by sharing. ---- */

enum { PACED = 200 };                   /* most work of such a list, in grains */
enum { TRIAL = 256, LEAST_WAIT = 1024, MOST_WAIT = 32768 };     /* runs that are timed: some slices of the scheduler; before the next trial */

static int pace_alone(const fd_pace *p) { return (int)(p->alone ^ p->trial); }

/* How many runs of a trial go by until the threads have woken, at the latest. */
static int64_t pace_woken(const fd_pace *p) { return p->mean * TRIAL > 3e-4 ? (int64_t)(3e-4 / p->mean) : TRIAL; }

/* Whether this run is to be timed: the last ones before a trial, and in it. */
static int pace_timed(const fd_pace *p) { return p->runs >= (p->trial ? pace_woken(p) : p->wait - TRIAL); }

static void pace_done(fd_pace *p, double seconds)
{
    if (pace_timed(p)) p->sum += seconds;
    if (++p->runs < (p->trial ? pace_woken(p) + TRIAL : p->wait)) return;
    const double mean = p->sum / TRIAL;
    if (!p->trial) p->mean = mean;
    else if (mean > 0.93 * p->mean) p->wait = p->wait < MOST_WAIT ? 2 * p->wait : MOST_WAIT;
    else p->alone = !p->alone, p->wait = LEAST_WAIT;
    if (!p->wait) p->wait = LEAST_WAIT;
    else p->trial = !p->trial;
    p->runs = 0, p->sum = 0;
}

/* ---- running ---- */

/* The state of one fd_run. At any time one shared call is under way, or one thread alone walks from one shared call to the
   next (`go_on`). A shared call is cut into as many shares as there are threads; thread t takes share t, so that it meets the
   same rows in every step and finds them in its cache. A share that nobody has taken, because its thread does not run (it sleeps, or
   the processor is busy with something else), is taken by another: nobody waits for a thread that sleeps. */
typedef struct {
    _Alignas(64) _Atomic int64_t taken; /* the last shared call in which it was taken */
    atomic_int cpu;                     /* on which its thread was last seen, plus 1; 0: not known */
} share;

typedef struct {
    int64_t n, repeats, done;           /* done: how often the list was completed */
    double deadline, since;             /* 0: none; when the call under way began */
    fd_pace *pace;                      /* or null */
    double began;                       /* this repeat, with pace */
    _Atomic int64_t fault;              /* the first one: call << FAULT_BITS | item; INT64_MAX: none */
    _Alignas(64) _Atomic int64_t turn;  /* the number of the shared call under way << TEAM_BITS | threads that share it */
    int64_t at, end;                    /* the shared calls that are under way: one, and those joined to it or chained */
    const fd_call *calls;               /* in one line of the cache with the turn, as all that a share needs */
    double *clock;                      /* or null */
    int team, alone;                    /* alone: one thread does this repeat */
    _Alignas(64) _Atomic int64_t finished;  /* shares of it */
    atomic_int over;
} run;
enum { FAULT_BITS = 40, TEAM_BITS = 16 };

/* Of all runs with more than one thread, which follow one another: a worker may look at it at any time. Turns only grow, and a share is
   taken by whoever first raises `taken` to the turn, which is then under way until that share is finished. */
static run together;
static share shares[MOST_THREADS];

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Whether they were bad. */
static int run_items(run *r, int64_t at, int64_t begin, int64_t end, fd_worker *worker)
{
    if (begin >= end) return 0;
    worker->call = &r->calls[at], worker->calls_after = r->n - at - 1;
    r->calls[at].kernel->run(r->calls[at].word, begin, end, worker);
    if (worker->bad == INT64_MAX) return 0;
    const int64_t found = at << FAULT_BITS | worker->bad;
    int64_t least = atomic_load(&r->fault);
    while (found < least && !atomic_compare_exchange_weak(&r->fault, &least, found)) ;
    worker->bad = INT64_MAX;
    return 1;
}

/* The end of the run of calls joined to call `at`, or chained. */
static int64_t joined_end(const fd_call *calls, int64_t n, int64_t at)
{
    do at++; while (at < n && (calls[at].joined || calls[at].chained));
    return at;
}

/* Walk on after call `at` until a call is shared or all is over. Only one thread at a time is here. */
static void go_on(run *r, int64_t at, fd_worker *worker)
{
    for (;;) {
        if (r->clock) {
            double t = now();
            if (at >= 0 && at < r->n) r->clock[at] += t - r->since;
            r->since = t;
        }
        if (atomic_load_explicit(&r->fault, memory_order_relaxed) != INT64_MAX) break;
        if (++at == r->n) {
            const double t = r->deadline > 0 || (r->pace && pace_timed(r->pace)) ? now() : 0;
            if (r->pace) {
                pace_done(r->pace, t - r->began);
                r->alone = pace_alone(r->pace), r->began = t > 0 || !pace_timed(r->pace) ? t : now();
            }
            if (++r->done == r->repeats || (r->deadline > 0 && t >= r->deadline)) break;
            at = -1;
            continue;
        }
        if (r->team > 1 && !r->alone && r->calls[at].team) {
            r->at = at, r->end = joined_end(r->calls, r->n, at);
            atomic_store_explicit(&r->finished, 0, memory_order_relaxed);
            const int64_t turn = atomic_load_explicit(&r->turn, memory_order_relaxed) >> TEAM_BITS;
            atomic_store_explicit(&r->turn, (turn + 1) << TEAM_BITS | r->team, memory_order_release);
            return;
        }
        run_items(r, at, 0, r->calls[at].items, worker);
    }
    atomic_store_explicit(&r->over, 1, memory_order_release);
}

/* Share s of a chain: its rows through all the calls, until one of them finds bad data. */
static void run_chain(run *r, int s, int64_t at, int64_t stop, fd_worker *worker)
{
    const int64_t parts = r->calls[at].parts, first = parts * s / r->team, last = parts * (s + 1) / r->team;
    for (int64_t i = at; i < stop; i++) {
        const fd_call *c = &r->calls[i];
        const int64_t begin = first * c->part_items, end = last * c->part_items;
        if (run_items(r, i, begin, last == parts || end > c->items ? c->items : end, worker)) return;
        if (r->clock && s == 0 && i + 1 < stop) {              /* the others' time is much the same */
            const double t = now();
            r->clock[i] += t - r->since;
            r->since = t;
        }
    }
}

/* Where a share begins that has so much of a call's work before it. */
static double weight(const fd_call *c) { return c->work > 0 ? c->work : 1; }
static int64_t item_at(const fd_call *c, double work)
{
    if (work >= weight(c)) return c->items;
    int64_t item = work > 0 ? (int64_t)ceil(work / weight(c) * (double)c->items - 1e-6) : 0;
    if (c->items >= 1024) item = (item + 63) & ~(int64_t)63;   /* whole cache lines */
    return item < c->items ? item : c->items;
}

/* Take share s of this turn and do it; whoever does the last one goes on. */
static void take(run *r, int s, int64_t turn, fd_worker *worker)
{
    int64_t before = atomic_load_explicit(&shares[s].taken, memory_order_relaxed);
    if (before >= turn || !atomic_compare_exchange_strong(&shares[s].taken, &before, turn)) return;
    const int64_t at = r->at, stop = r->end, team = r->team;   /* a share of it was free: the call is still under way, until this one is done */
    if (r->calls[at].parts) run_chain(r, s, at, stop, worker);
    else {
        double work = 0, before = 0;
        for (int64_t i = at; i < stop; i++) work += weight(&r->calls[i]);
        for (int64_t i = at; i < stop; i++) {
            const fd_call *c = &r->calls[i];
            run_items(r, i, item_at(c, work * s / (double)team - before), item_at(c, work * (s + 1) / (double)team - before), worker);
            before += weight(c);
        }
    }
    if (atomic_fetch_add_explicit(&r->finished, 1, memory_order_acq_rel) + 1 == team) go_on(r, stop - 1, worker);
}

/* A scheduler may wake a worker on the processor on which the caller runs, and as neither ever sleeps it can leave them there for
   tenths of a second, each at half its speed, beside an idle processor. A worker that sees this moves. */
static void spread(int thread)
{
#ifdef __linux__
    const int cpu = sched_getcpu();
    cpu_set_t allowed, free;
    int shared = 0;
    if (atomic_load_explicit(&shares[thread].cpu, memory_order_relaxed) != cpu + 1) atomic_store(&shares[thread].cpu, cpu + 1);
    for (int t = 0; t < thread; t++) shared |= atomic_load(&shares[t].cpu) == cpu + 1;
    if (!shared || sched_getaffinity(0, sizeof allowed, &allowed)) return;
    free = allowed;
    for (int t = 0; t < thread; t++)
        if (atomic_load(&shares[t].cpu)) CPU_CLR(atomic_load(&shares[t].cpu) - 1, &free);
    if (CPU_COUNT(&free) && !sched_setaffinity(0, sizeof free, &free)) sched_setaffinity(0, sizeof allowed, &allowed);
#else
    (void)thread;
#endif
}

/* ---- workers: threads that wait for turns, at first awake ---- */

enum { LEFT_LYING = 100, PATIENCE = 20000, SLEEP = 40000 };     /* in looks at the turn: some microseconds, tenths of milliseconds, milliseconds */
static int workers;                 /* that there are; worker t is thread t of the team, from 1 */
static atomic_int awake, naps;      /* of them; how often one went to sleep */
static int64_t wakings;             /* with `dormitory` */
static pthread_mutex_t dormitory = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t bell = PTHREAD_COND_INITIALIZER;

/* Look for work once, having looked `looks` times in vain since the last turn, `seen`; returns how often it is now. */
static int look(run *r, int thread, int64_t *seen, int looks, fd_worker *worker)
{
    const int64_t turn = atomic_load_explicit(&r->turn, memory_order_acquire);
    const int team = (int)(turn & ((1 << TEAM_BITS) - 1));
    if (turn != *seen) {
        *seen = turn;
        if (thread < team) take(r, thread, turn, worker);
        return 0;
    }
    if (looks == LEFT_LYING) {
        for (int s = 0; s < team; s++) take(r, s, turn, worker);
    } else if (looks < PATIENCE) relax();
    else sched_yield();             /* more threads than processors */
    return looks + 1;
}

static void *work(void *thread)
{
    run *const r = &together;
    const int t = (int)(intptr_t)thread;
    fd_worker worker = { .scratch = scratch_of[t], .bad = INT64_MAX };
    int64_t seen = 0;
    for (int looks = 0;;) {
        looks = look(r, t, &seen, looks, &worker);
        if (looks == LEFT_LYING) spread(t);
        if (looks < SLEEP) continue;
        pthread_mutex_lock(&dormitory);
        atomic_fetch_sub(&awake, 1), atomic_fetch_add(&naps, 1);
        for (const int64_t heard = wakings; wakings == heard;) pthread_cond_wait(&bell, &dormitory);
        atomic_fetch_add(&awake, 1);
        pthread_mutex_unlock(&dormitory);
        looks = 0;
    }
    return 0;
}

/* Have workers for a team that are awake; what they were not in time for, or where there can be none, the caller does. */
static void call_workers(int team)
{
    for (; workers < team - 1; workers++) {
        pthread_t thread;
#ifndef _WIN32
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);            /* signals are for Python's threads */
#endif
        const int failed = pthread_create(&thread, 0, work, (void *)(intptr_t)(workers + 1));
#ifndef _WIN32
        pthread_sigmask(SIG_SETMASK, &before, 0);
#endif
        if (failed) return;
        pthread_detach(thread);
        atomic_fetch_add(&awake, 1);
    }
    static int rung;                                            /* naps, then */
    if (atomic_load(&awake) >= team - 1 || rung == atomic_load(&naps)) return;
    rung = atomic_load(&naps);
    pthread_mutex_lock(&dormitory);
    wakings++;
    pthread_cond_broadcast(&bell);
    pthread_mutex_unlock(&dormitory);
}

/* Whether such a run was asked for a moment ago. */
static int closely(void)
{
    static _Atomic double last;
    const double before = atomic_load(&last), t = now();
    atomic_store(&last, t);
    return t - before < CLOSELY;
}

int64_t fd_run(const fd_call *calls, int64_t n, int64_t repeats, double seconds, fd_fault *fault, double *clock, fd_pace *pace)
{
    const double deadline = seconds > 0 ? now() + seconds : 0;
    int team = 1;
    double work = -1;                   /* of the shared calls; -1: there are none */
    for (int64_t i = 0; i < n && work < (pace ? PACED : WAKING) * grain; i++)
        if (calls[i].team) work = (work < 0 ? 0 : work) + calls[i].work;
    if (work >= 0) {
        const int threads = fd_threads();
        if (work * (double)repeats >= WAKING * grain ||
            ((pace || work >= AWAKE * grain) && (atomic_load_explicit(&awake, memory_order_relaxed) >= threads - 1 || closely())))
            team = threads;
    }
    const int paced = pace && team > 1 && work < PACED * grain && !clock;
    int alone = paced ? pace_alone(pace) : 0;
    if (alone && repeats == 1) team = 1;
    const double began = paced && pace_timed(pace) ? now() : 0;
    if (team > 1 && atomic_flag_test_and_set(&busy)) team = -1;     /* another Python thread has the team: work alone */
    for (int t = 0; t < team && team > 1; t++)
        if (!scratch(t)) { team = -1; atomic_flag_clear(&busy); }
    char *own = team > 1 ? scratch(0) : borrow();
    if (!own) return -1;
    run mine, *r = team > 1 ? &together : &mine;
    fd_worker worker = { .scratch = own, .bad = INT64_MAX };
    r->calls = calls, r->n = n, r->repeats = repeats, r->done = 0, r->deadline = deadline, r->clock = clock, r->since = 0;
    r->team = team > 1 ? team : 1, r->alone = alone, r->pace = paced ? pace : 0, r->began = began;
    atomic_init(&r->fault, INT64_MAX);
    atomic_store_explicit(&r->over, 0, memory_order_relaxed);
    if (team > 1) {
        call_workers(team);
        spread(0);
        int64_t seen = atomic_load_explicit(&r->turn, memory_order_relaxed);
        go_on(r, -1, &worker);
        for (int looks = 0; !atomic_load_explicit(&r->over, memory_order_acquire);) looks = look(r, 0, &seen, looks, &worker);
    } else if (n && repeats > 0) go_on(r, -1, &worker);
    const int64_t found = atomic_load(&r->fault), done = r->done;
    if (team > 1) atomic_flag_clear(&busy);
    else give_back(own);
    fault->call = found == INT64_MAX ? -1 : found >> FAULT_BITS;
    fault->item = found & (((int64_t)1 << FAULT_BITS) - 1);
    return done;
}

void fd_call_set(fd_call *c, const fd_kernel *kernel)
{
    c->kernel = kernel;
    c->items = kernel->items(c->word);
    if (c->items < 0) c->items = 0;
    c->work = (double)c->items * kernel->cost(c->word);
    c->team = c->work >= grain;
    c->joined = c->chained = c->parts = c->part_items = 0;
}

/* Where some calls of a list are shared, small ones are, too: what they read lies in the caches of all threads, and one thread alone
   would have to fetch it from there. */
void fd_calls_share(fd_call *calls, int64_t n)
{
    int shared = 0;
    for (int64_t i = 0, end; i < n; i = end) {
        int64_t items = 0;
        double work = 0;
        end = joined_end(calls, n, i);
        shared |= calls[i].parts > 0;
        if (calls[i].parts) continue;
        for (int64_t k = i; k < end; k++) items += calls[k].items, work += calls[k].work;
        if (end > i + 1) calls[i].team = items > 1 && work >= (shared ? grain / SMALL : grain);
        shared |= (int)calls[i].team;
    }
    for (int64_t i = 0; i < n && shared; i++)
        if (calls[i].items > 1 && calls[i].work * SMALL >= grain) calls[i].team = 1;
}
