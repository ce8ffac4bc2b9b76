/* Aligned memory in two kinds of pools. A pool is used by one thread at a time (Python holds its lock).

   A quick pool rounds sizes up to one of eight steps per power of two, and a freed block goes to the list of its size. Blocks of
   2 MiB and more lie on huge pages.

   A dense pool, in which a program records, is one range of addresses whose free spans are joined and split; the smallest that is
   large enough is taken. It needs hardly more memory than what is handed out at the same time. Where no range can be had, it is
   a quick one. */
#define _GNU_SOURCE
#include "fastdl.h"

#include <stdlib.h>
#include <string.h>
#ifndef _WIN32
#include <sys/mman.h>
#include <unistd.h>
#endif

enum { ALIGNMENT = 64, HUGE_PAGE = 2 << 20, CLASSES = 8 * 64 };

typedef struct block { struct block *next; } block;          /* lies in the free memory itself */
typedef struct { char *start; int64_t bytes; char *map; int64_t map_bytes; } chunk;

typedef struct { int64_t start, bytes; } span;

struct fd_pool {
    block *free[CLASSES];
    chunk *chunks;                                           /* every block ever made that is not in the range */
    int64_t n, room, bytes, guarded;                         /* guarded: how many chunks lie between protected pages */
    int64_t live, peak;                                      /* bytes handed out: now, and the most ever */
    char *map, *range;                                       /* RANGE bytes of addresses; null: a quick pool */
    int64_t top, highest, ready;                             /* ends in it of what is handed out, ever was, can be written to */
    span *spans;                                             /* free ones below the top, upwards; no two touch */
    int64_t n_spans, spans_room;
};

static int poison, guard;

/* What a request takes of a range: whole lines of the cache. */
static int64_t whole_lines(int64_t bytes) { return bytes < ALIGNMENT ? ALIGNMENT : (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

void fd_memory_poison(int on) { poison = on; }
void fd_memory_guard(int where) { guard = where; }

/* The class of a size, and the size of the class. */
static int64_t class_of(int64_t bytes, int64_t *size)
{
    if (bytes < ALIGNMENT) bytes = ALIGNMENT;
    int top = 63 - __builtin_clzll((unsigned long long)bytes);
    int64_t step = top >= 9 ? 1LL << (top - 3) : ALIGNMENT;
    *size = (bytes + step - 1) / step * step;
    top = 63 - __builtin_clzll((unsigned long long)*size);
    return top * 8 + (top >= 3 ? ((*size >> (top - 3)) & 7) : 0);
}

#define RANGE ((int64_t)1 << 35)

fd_pool *fd_pool_new(int dense)
{
    fd_pool *pool = calloc(1, sizeof(fd_pool));
#ifndef _WIN32
    if (pool && dense) {
        char *p = mmap(0, RANGE + HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p != MAP_FAILED) {
            pool->map = p;
            pool->range = p + (HUGE_PAGE - (uintptr_t)p % HUGE_PAGE) % HUGE_PAGE;
        }
    }
#endif
    return pool;
}

#ifndef _WIN32
/* Make the range writable up to `end`. */
static int grow(fd_pool *pool, int64_t end)
{
    if (end <= pool->ready) return 1;
    const int64_t to = (end + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    if (to > RANGE || mprotect(pool->range + pool->ready, (size_t)(to - pool->ready), PROT_READ | PROT_WRITE)) return 0;
#ifdef MADV_HUGEPAGE
    madvise(pool->range + pool->ready, (size_t)(to - pool->ready), MADV_HUGEPAGE);
#endif
    pool->ready = to;
    return 1;
}

static void *take_span(fd_pool *pool, int64_t bytes)
{
    int64_t best = -1;
    for (int64_t i = 0; i < pool->n_spans; i++)
        if (pool->spans[i].bytes >= bytes && (best < 0 || pool->spans[i].bytes < pool->spans[best].bytes)) best = i;
    if (best < 0) {
        if (!grow(pool, pool->top + bytes)) return 0;
        pool->top += bytes;
        if (pool->top > pool->highest) pool->highest = pool->top;
        return pool->range + pool->top - bytes;
    }
    span *s = &pool->spans[best];
    char *start = pool->range + s->start;
    s->start += bytes;
    s->bytes -= bytes;
    if (!s->bytes) memmove(s, s + 1, (size_t)(--pool->n_spans - best) * sizeof *s);
    return start;
}

/* A span that finds no place in the list is lost until the pool goes. */
static void give_span(fd_pool *pool, int64_t start, int64_t bytes)
{
    int64_t i = pool->n_spans;
    while (i > 0 && pool->spans[i - 1].start > start) i--;
    const int before = i > 0 && pool->spans[i - 1].start + pool->spans[i - 1].bytes == start;
    const int after = i < pool->n_spans && start + bytes == pool->spans[i].start;
    if (before) {
        pool->spans[i - 1].bytes += bytes + (after ? pool->spans[i].bytes : 0);
        if (after) memmove(pool->spans + i, pool->spans + i + 1, (size_t)(--pool->n_spans - i) * sizeof(span));
        i--;
    } else if (after) {
        pool->spans[i].start = start;
        pool->spans[i].bytes += bytes;
    } else {
        if (pool->n_spans == pool->spans_room) {
            const int64_t room = pool->spans_room ? 2 * pool->spans_room : 64;
            span *grown = realloc(pool->spans, (size_t)room * sizeof *grown);
            if (!grown) return;
            pool->spans = grown;
            pool->spans_room = room;
        }
        memmove(pool->spans + i + 1, pool->spans + i, (size_t)(pool->n_spans++ - i) * sizeof(span));
        pool->spans[i] = (span){ start, bytes };
    }
    if (pool->spans[i].start + pool->spans[i].bytes == pool->top) {
        pool->top = pool->spans[i].start;
        pool->n_spans--;
    }
}
#endif

static int in_range(const fd_pool *pool, const void *p)
{
    return pool->range && (const char *)p >= pool->range && (const char *)p < pool->range + RANGE;
}

static void drop(chunk *c)
{
#ifndef _WIN32
    if (c->map) { munmap(c->map, (size_t)c->map_bytes); return; }
#endif
    free(c->start);
}

void fd_pool_delete(fd_pool *pool)
{
    if (!pool) return;
    for (int64_t i = 0; i < pool->n; i++) drop(&pool->chunks[i]);
#ifndef _WIN32
    if (pool->map) munmap(pool->map, RANGE + HUGE_PAGE);
#endif
    free(pool->chunks);
    free(pool->spans);
    free(pool);
}

static int add(fd_pool *pool, chunk c)
{
    if (pool->n == pool->room) {
        int64_t room = pool->room ? 2 * pool->room : 64;
        chunk *grown = realloc(pool->chunks, (size_t)room * sizeof *grown);
        if (!grown) return 0;
        pool->chunks = grown;
        pool->room = room;
    }
    pool->chunks[pool->n++] = c;
    pool->bytes += c.bytes;
    return 1;
}

#ifndef _WIN32
/* A block of exactly `bytes` between two protected pages, touching the one or the other. */
static void *take_guarded(fd_pool *pool, int64_t bytes)
{
    int64_t page = sysconf(_SC_PAGESIZE), inner = (bytes + page - 1) / page * page + (bytes == 0 ? page : 0);
    char *map = mmap(0, (size_t)(inner + 2 * page), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) return 0;
    mprotect(map + page, (size_t)inner, PROT_READ | PROT_WRITE);
    char *start = guard == FD_GUARD_START ? map + page : map + page + inner - bytes;
    if (!add(pool, (chunk){ start, bytes, map, inner + 2 * page })) { munmap(map, (size_t)(inner + 2 * page)); return 0; }
    pool->guarded++;
    return start;
}
#endif

void *fd_pool_take(fd_pool *pool, int64_t bytes)
{
    if (bytes < 0 || bytes > (int64_t)1 << 47) return 0;
    char *start = 0;
    int64_t size = bytes;
#ifndef _WIN32
    if (guard) start = take_guarded(pool, bytes);
    else if (pool->range) start = take_span(pool, whole_lines(bytes));
    if (!start && !guard)
#endif
    {
        int64_t c = class_of(bytes, &size);
        block *b = pool->free[c];
        if (b) {
            pool->free[c] = b->next;
            start = (char *)b;
        } else {
            size_t alignment = size >= HUGE_PAGE ? HUGE_PAGE : ALIGNMENT;
            void *p = 0;
            if (posix_memalign(&p, alignment, (size_t)size)) return 0;
#if !defined(_WIN32) && defined(MADV_HUGEPAGE)
            if (size >= HUGE_PAGE) madvise(p, (size_t)size, MADV_HUGEPAGE);
#endif
            start = p;
            if (!add(pool, (chunk){ start, size, 0, 0 })) { free(p); return 0; }
        }
    }
    if ((pool->live += whole_lines(bytes)) > pool->peak) pool->peak = pool->live;
    if (start && poison) memset(start, 0xff, (size_t)bytes);   /* as float32 or float64: NaN; as int: -1 */
    return start;
}

void fd_pool_give(fd_pool *pool, void *p, int64_t bytes)
{
    pool->live -= whole_lines(bytes);
    for (int64_t i = pool->guarded ? pool->n : 0; i-- > 0;)    /* guarded blocks are not used twice */
        if (pool->chunks[i].map && pool->chunks[i].start == p) {
            pool->guarded--;
            drop(&pool->chunks[i]);
            pool->bytes -= pool->chunks[i].bytes;
            pool->chunks[i] = pool->chunks[--pool->n];
            return;
        }
#ifndef _WIN32
    if (in_range(pool, p)) {
        give_span(pool, (char *)p - pool->range, whole_lines(bytes));
        return;
    }
#endif
    int64_t size, c = class_of(bytes, &size);
    block *b = p;
    b->next = pool->free[c];
    pool->free[c] = b;
}

static int64_t most_bytes(int64_t bytes) { return bytes ? bytes : 1; }

int fd_pool_owns(const fd_pool *pool, const void *p)
{
    if (in_range(pool, p)) return 1;
    for (int64_t i = pool->n; i-- > 0;)
        if ((const char *)p >= pool->chunks[i].start && (const char *)p < pool->chunks[i].start + most_bytes(pool->chunks[i].bytes)) return 1;
    return 0;
}

int64_t fd_pool_bytes(const fd_pool *pool) { return pool->bytes + pool->highest; }
int64_t fd_pool_peak(const fd_pool *pool) { return pool->peak; }

static int by_start(const void *a, const void *b)
{
    const char *x = ((const chunk *)a)->start, *y = ((const chunk *)b)->start;
    return (x > y) - (x < y);
}

int64_t fd_pool_trim(fd_pool *pool)
{
    const int64_t before = pool->bytes;
    if (pool->n) qsort(pool->chunks, (size_t)pool->n, sizeof(chunk), by_start);
    for (int c = 0; c < CLASSES; c++) {
        for (block *b = pool->free[c], *next; b; b = next) {
            next = b->next;
            chunk *found = bsearch(&(chunk){ .start = (char *)b }, pool->chunks, (size_t)pool->n, sizeof(chunk), by_start);
            drop(found);
            pool->bytes -= found->bytes;
            found->bytes = -1;
        }
        pool->free[c] = 0;
    }
    int64_t kept = 0;
    for (int64_t i = 0; i < pool->n; i++)
        if (pool->chunks[i].bytes >= 0) pool->chunks[kept++] = pool->chunks[i];
    pool->n = kept;
    return before - pool->bytes;
}
