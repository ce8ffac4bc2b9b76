/* Chains: calls that work row by row. Row i of each needs of the others row i only, so that a thread can carry its rows through all of
   them without waiting for anybody; what needs all rows comes after. Small networks gain by it, whose calls take as long as a wait. */
#include "fastdl.h"

#include <stdlib.h>
#include <string.h>

enum { WINDOW = 96, LARGE = 1 << 21 };  /* calls looked at for a chain; bytes of a call that is long enough without one */
enum { LEAST_WORK = 1, JOINED_WORK = 12 };   /* of a chain, in grains; and most of calls that are joined */

typedef struct list { fd_call *calls; const fd_reach *reach; fd_slices *slices; } list;

/* Whether one of two calls must wait for the other: it reads or writes what that writes; but for slices of the same rows, in a chain. */
static int meet(const list *l, int64_t a, int64_t b, int chained)
{
    const fd_reach *x = &l->reach[a], *y = &l->reach[b];
    const fd_slices *s = &l->slices[a], *t = &l->slices[b];
    for (int64_t i = 0; i < x->arrays; i++)
        for (int64_t j = 0; j < y->arrays; j++) {
            const int64_t p = l->calls[a].word[i], q = l->calls[b].word[j];
            if (!((x->outputs >> i | y->outputs >> j) & 1) || p >= q + y->bytes[j] || q >= p + x->bytes[i]) continue;
            if (!chained || p != q || !s->stride[i] || s->stride[i] * t->unit != t->stride[j] * s->unit) return 1;
        }
    return 0;
}

static int64_t touched(const fd_reach *x)
{
    int64_t bytes = 0;
    for (int64_t i = 0; i < x->arrays; i++) bytes += x->bytes[i];
    return bytes;
}

/* Whether all threads have much the same to do with parts of so many rows. */
static int even(int64_t rows, int64_t unit)
{
    const int64_t threads = fd_threads(), parts = (rows + unit - 1) / unit;
    return (parts + threads - 1) / threads * unit * threads * 8 <= rows * 9;
}

/* Cut the calls chain[0 .. n - 1] into parts; 0: it does not pay. */
static int cut(const list *l, const int64_t *chain, int64_t n, int64_t unit)
{
    const int64_t parts = n ? (l->slices[chain[0]].rows + unit - 1) / unit : 0;
    double work = 0;
    int linked = 0;                     /* else there are no waits to save, and calls can be joined */
    for (int64_t i = 0; i < n; i++) {
        work += l->calls[chain[i]].work;
        for (int64_t k = 0; k < i && !linked; k++) linked = meet(l, chain[k], chain[i], 0);
    }
    if (!linked || work < LEAST_WORK * fd_grain()) return 0;
    for (int64_t i = 0; i < n; i++) {
        fd_call *c = &l->calls[chain[i]];
        const fd_slices *s = &l->slices[chain[i]];
        c->team = 1, c->chained = i > 0, c->parts = parts, c->part_items = unit / s->unit * s->items;
    }
    return 1;
}

/* Join short calls that need nothing of one another: first those that need nothing of the others around them, then those that need
   these, and so on; by their results' addresses, so that a thread goes on with what it made, as in Adam with gradients. */
static void join(const list *l, int64_t *order, int64_t n)
{
    for (int64_t first = 0, end; first < n; first = end) {
        int64_t level[WINDOW], sorted[WINDOW], done = 0, large = 0;
        double work = 0;
        for (end = first; end < n && end - first < WINDOW; end++) {
            const int64_t c = order[end];
            const fd_call *call = &l->calls[c];
            work += call->work, large += call->work >= fd_grain();       /* two would meet other items in each thread than alone */
            if (large > 1 || call->parts || call->joined || (c + 1 < n && call[1].joined) || l->reach[c].checks || touched(&l->reach[c]) > LARGE ||
                work > JOINED_WORK * fd_grain()) break;
            level[end - first] = 0;
            for (int64_t i = first; i < end; i++)
                if (level[i - first] >= level[end - first] && meet(l, order[i], c, 0)) level[end - first] = level[i - first] + 1;
        }
        for (int64_t k = 0; done < end - first; k++) {
            const int64_t from = done;
            for (int64_t i = first; i < end; i++) {
                if (level[i - first] != k) continue;
                int64_t to = done++;
                for (; to > from && l->calls[sorted[to - 1]].word[0] > l->calls[order[i]].word[0]; to--) sorted[to] = sorted[to - 1];
                sorted[to] = order[i];
            }
            for (int64_t i = from; i < done; i++) l->calls[sorted[i]].joined = i > from;
        }
        memcpy(order + first, sorted, (size_t)done * sizeof *order);
        end = end > first ? end : first + 1;
    }
}

int fd_calls_chain(fd_call *calls, const fd_reach *reach, int64_t n, int64_t *order)
{
    list l = { calls, reach, calloc((size_t)n + 1, sizeof(fd_slices)) };
    fd_call *moved = malloc(((size_t)n + 1) * sizeof(fd_call));
    int64_t *left = malloc(((size_t)n + 1) * sizeof(int64_t)), done = 0;
    const int ready = l.slices && moved && left;
    for (int64_t i = 0; i < n; i++) order[i] = i;
    for (int64_t i = 0; i < n && ready; i++) {
        left[i] = i;
        if (calls[i].kernel->slices && calls[i].items > 0) calls[i].kernel->slices(calls[i].word, &l.slices[i]);
    }
    for (int64_t from = 0; from < n && ready && fd_threads() > 1;) {       /* left[from ..] are still to be placed */
        int64_t chain[WINDOW], waiting[WINDOW], n_chain = 0, n_waiting = 0, unit = 1, at = from, last = from;
        for (; at < n && n_chain + n_waiting < WINDOW; at++) {
            const int64_t c = left[at];
            const fd_slices *s = &l.slices[c];
            if (calls[c].joined || (c + 1 < n && calls[c + 1].joined) || touched(&reach[c]) > LARGE) break;
            int fits = s->rows > 0 && even(s->rows, s->unit) &&
                       (!n_chain || (s->rows == l.slices[chain[0]].rows && (s->unit % unit == 0 || unit % s->unit == 0)));
            for (int64_t i = 0; i < n_waiting && fits; i++) fits = !meet(&l, waiting[i], c, 0);
            for (int64_t i = 0; i < n_chain && fits; i++) fits = !meet(&l, chain[i], c, 1);
            if (fits) {
                chain[n_chain++] = c, last = at;
                if (s->unit > unit) unit = s->unit;
            } else if (!n_chain || reach[c].checks) break;
            else waiting[n_waiting++] = c;
        }
        if (cut(&l, chain, n_chain, unit)) {
            for (int64_t i = 0; i < n_chain; i++) order[done++] = chain[i];
            from = at - n_waiting;
            for (int64_t i = 0; i < n_waiting; i++) left[from + i] = waiting[i];
        } else for (; from <= last; from++) order[done++] = left[from];
    }
    join(&l, order, done);
    for (int64_t i = 0; i < done; i++) moved[i] = calls[order[i]];
    for (int64_t i = 0; i < done; i++) calls[i] = moved[i];
    free(l.slices), free(moved), free(left);
    return ready ? 0 : -1;
}
