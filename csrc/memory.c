/* Aligned memory with free lists. A pool is used by one thread at a time (Python holds its lock).

   Sizes are rounded up to one of eight steps per power of two, and a freed block goes to the list of its size: a program
   that repeats the same requests in the same order gets the same blocks. Blocks of 2 MiB and more lie on huge pages. */
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

struct fd_pool {
    block *free[CLASSES];
    chunk *chunks;                                           /* every block ever made */
    int64_t n, room, bytes, guarded;                         /* guarded: how many chunks lie between protected pages */
};

static int poison, guard;

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

fd_pool *fd_pool_new(void) { return calloc(1, sizeof(fd_pool)); }

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
    free(pool->chunks);
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
    else
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
    if (start && poison) memset(start, 0xff, (size_t)bytes);   /* as float32 or float64: NaN; as int: -1 */
    return start;
}

void fd_pool_give(fd_pool *pool, void *p, int64_t bytes)
{
    for (int64_t i = pool->guarded ? pool->n : 0; i-- > 0;)    /* guarded blocks are not used twice */
        if (pool->chunks[i].map && pool->chunks[i].start == p) {
            pool->guarded--;
            drop(&pool->chunks[i]);
            pool->bytes -= pool->chunks[i].bytes;
            pool->chunks[i] = pool->chunks[--pool->n];
            return;
        }
    int64_t size, c = class_of(bytes, &size);
    block *b = p;
    b->next = pool->free[c];
    pool->free[c] = b;
}

static int64_t most_bytes(int64_t bytes) { return bytes ? bytes : 1; }

int fd_pool_owns(const fd_pool *pool, const void *p)
{
    for (int64_t i = pool->n; i-- > 0;)
        if ((const char *)p >= pool->chunks[i].start && (const char *)p < pool->chunks[i].start + most_bytes(pool->chunks[i].bytes)) return 1;
    return 0;
}

int64_t fd_pool_bytes(const fd_pool *pool) { return pool->bytes; }

int64_t fd_pool_trim(fd_pool *pool)
{
    int64_t before = pool->bytes;
    for (int c = 0; c < CLASSES; c++)
        for (block *b = pool->free[c], *next; b; b = next) {
            next = b->next;
            for (int64_t i = 0; i < pool->n; i++)
                if (pool->chunks[i].start == (char *)b) {
                    pool->bytes -= pool->chunks[i].bytes;
                    drop(&pool->chunks[i]);
                    pool->chunks[i] = pool->chunks[--pool->n];
                    break;
                }
            pool->free[c] = 0;
        }
    return before - pool->bytes;
}
