/* Attention: softmax(query @ key^T) @ value in blocks, without the matrix of scores (Milakov and Gimelshein, 2018; Dao et al., 2022).

   Scores lie transposed, (keys, QUERIES): a lane is a query. So the softmax has no sums across lanes, the block of probabilities is
   read as rows or as columns by the products that follow, and query, key and value are read where they are, heads interleaved. */
#include <float.h>

#include "philox.h"
#include "tile.h"

enum { QUERIES = PANEL, KEYS = 128, VECTORS = QUERIES / VL };      /* of a block; KEYS is even: 64 random numbers are those of two keys */
#define UNSEEN (-0.7f * FLT_MAX)           /* the score of a key that a query may not see: where it sees none, all weigh the same */

/* The arguments that attention and its gradient share, in the order of their structs. */
typedef struct heads {
    const float *query, *key, *value;
    const uint8_t *mask;
    const float *bias;
    const int64_t *draw;
    int64_t batch, query_time, key_time, heads, key_heads, size, value_size, causal;
    int64_t mask_batch, mask_head, mask_query, mask_key, bias_batch, bias_head, bias_query, bias_key;
    uint32_t threshold;
    float scale, kept;
} heads;

#define HEADS(a) {                                                                                                                  \
    a->query, a->key, a->value, a->mask, a->bias, a->draw, a->batch, a->query_time, a->key_time, a->heads, a->key_heads, a->size,  \
    a->value_size, a->causal, a->mask_batch, a->mask_head, a->mask_query, a->mask_key, a->bias_batch, a->bias_head, a->bias_query, \
    a->bias_key, (uint32_t)a->threshold, (float)a->scale, (float)a->kept }

/* Some keys of a head, for a block of its queries. */
typedef struct head_block { int64_t batch, head, query, queries, key, keys; } head_block;

INLINE int64_t row_of(int64_t batch, int64_t time, int64_t step, int64_t heads, int64_t head) { return (batch * time + step) * heads + head; }

INLINE int64_t key_row(const heads *h, const head_block *at) { return row_of(at->batch, h->key_time, at->key, h->key_heads, at->head / (h->heads / h->key_heads)); }

/* s[i, j] = the score of key i for query j, from queries in a panel (size, QUERIES). */
static void score(const heads *h, const head_block *at, const float *panel, float *s)
{
    const tile t = {
        .out = s, .out_row = QUERIES, .a = h->key + key_row(h, at) * h->size, .a_row = h->key_heads * h->size, .a_depth = 1,
        .b = panel, .b_row = PANEL, .depth = h->size, .columns = QUERIES,
    };
    tile_multiply(&t, at->keys);
    if (h->bias) {
        const float *bias = h->bias + at->batch * h->bias_batch + at->head * h->bias_head + at->query * h->bias_query + at->key * h->bias_key;
        for (int64_t i = 0; i < at->keys; i++)
            for (int64_t j = 0; j < at->queries; j++) s[i * QUERIES + j] += bias[i * h->bias_key + j * h->bias_query];
    }
    if (h->mask) {
        const uint8_t *mask = h->mask + at->batch * h->mask_batch + at->head * h->mask_head + at->query * h->mask_query + at->key * h->mask_key;
        for (int64_t i = 0; i < at->keys; i++)
            if (!h->mask_query) {
                if (!mask[i * h->mask_key]) for (int j = 0; j < QUERIES; j += VL) vstore(s + i * QUERIES + j, vset(UNSEEN));
            } else
                for (int64_t j = 0; j < at->queries; j++)
                    if (!mask[i * h->mask_key + j * h->mask_query]) s[i * QUERIES + j] = UNSEEN;
    }
    if (h->causal)
        for (int64_t i = most(at->query - at->key + 1, 0); i < at->keys; i++)
            for (int j = 0; j < QUERIES; j += VL) {
                const vi future = vlanes() + viset(j) < viset((int32_t)least(at->key + i - at->query, QUERIES));
                vstore(s + i * QUERIES + j, vpick(future, vset(UNSEEN), vload(s + i * QUERIES + j)));
            }
}

/* The random numbers for keys i and i + 1 of a block, QUERIES each. */
INLINE philox draw_pair(const heads *h, const head_block *at, int64_t i)
{
    const int64_t blocks = pieces(h->query_time, QUERIES), pairs = pieces(h->key_time, 2);
    return philox_group(h->draw, ((at->batch * h->heads + at->head) * blocks + at->query / QUERIES) * pairs + (at->key + i) / 2, 0);
}

/* Up to which key a block of queries looks, where each query sees at least one: all keys weigh the same for one that sees none. */
static int64_t keys_seen(const heads *h, const head_block *at, const float *highest)
{
    if (!h->causal) return h->key_time;
    for (int64_t j = 0; j < at->queries; j++) if (highest[j] == UNSEEN) return h->key_time;
    return least(h->key_time, at->query + at->queries);
}

/* Where a block's queries begin, in rows of `size` numbers. */
INLINE int64_t query_row_of(const heads *h, const head_block *at) { return row_of(at->batch, h->query_time, at->query, h->heads, at->head); }

/* out (rows, value_size) += left @ right, right being rows of value_size numbers where they are. */
static void add_rows(float *out, int64_t out_row, const float *left, int64_t left_row, int64_t left_depth, const float *right, int64_t right_row,
                     int64_t rows, int64_t depth, int64_t columns, int64_t accumulate)
{
    const tile t = {
        .out = out, .out_row = out_row, .a = left, .a_row = left_row, .a_depth = left_depth, .b = right, .b_row = right_row, .b_panel = PANEL,
        .b_next = right + depth * right_row, .depth = depth, .columns = columns, .accumulate = accumulate,
    };
    tile_multiply(&t, rows);
}

/* A row that is read soon, fetched into the second cache: heads are interleaved, so rows lie too far apart for the processor to do it. */
INLINE void fetch_row(const float *x, int64_t columns)
{
    for (int64_t c = 0; c < columns; c += 16) __builtin_prefetch(x + c, 0, 2);
}

/* A row that is written soon. */
INLINE void fetch_result(float *x, int64_t columns)
{
    for (int64_t c = 0; c < columns; c += 16) __builtin_prefetch(x + c, 1, 2);
}

/* The n-th row of key and value, in turn, of a head; the heads of all batches are counted through. */
INLINE void fetch_key(const heads *h, int64_t head, int64_t n)
{
    if (head >= h->batch * h->key_heads || n >= 2 * h->key_time) return;
    const int64_t row = row_of(head / h->key_heads, h->key_time, n / 2, h->key_heads, head % h->key_heads);
    if (n % 2) fetch_row(h->value + row * h->value_size, h->value_size);
    else fetch_row(h->key + row * h->size, h->size);
}

/* Block i of a head's n: from both ends in turn, so that any range of them is about the same work where later ones see more keys. */
INLINE int64_t in_turn(int64_t i, int64_t n) { return i % 2 ? n - 1 - i / 2 : i / 2; }

/* The item-th block of queries of the heads, `blocks` a head. */
INLINE head_block block_of(const heads *h, int64_t item, int64_t blocks)
{
    const int64_t query = in_turn(item % blocks, blocks) * QUERIES;
    return (head_block){ .batch = item / blocks / h->heads, .head = item / blocks % h->heads, .query = query,
                         .queries = least(h->query_time - query, QUERIES) };
}

/* A block of queries of the `group` heads that share the item-th head of key and value. */
INLINE head_block grad_block_of(const heads *h, int64_t item, int64_t block, int64_t group)
{
    const int64_t query = block / group * QUERIES;
    return (head_block){ .batch = item / h->key_heads, .head = item % h->key_heads * group + block % group, .query = query,
                         .queries = least(h->query_time - query, QUERIES) };
}

INLINE double heads_cost(double queries, double keys, double depth, int64_t causal)
{
    return queries * keys * (depth / 6 + 5) * (causal ? 0.6 : 1);
}

/* out = softmax(scale query @ key^T + bias) @ value for each head; what a query may not see has the score UNSEEN.
   One item: QUERIES queries of a head. */
KERNEL(attention, a->batch * a->heads * pieces(a->query_time, QUERIES),
             heads_cost(QUERIES, a->key_time, a->size + a->value_size, a->causal),
    float *out;                    /* (batch, query_time, heads, value_size) */
    OPTIONAL float *extent;        /* (2, batch, heads, query_time) highest score of each query; sum of exp(score - highest) */
    const float *query;            /* (batch, query_time, heads, size) */
    const float *key;              /* (batch, key_time, key_heads, size) */
    const float *value;            /* (batch, key_time, key_heads, value_size) */
    OPTIONAL const uint8_t *mask;  /* (batch, heads, query_time, key_time) by strides: 0 where a query may not see a key */
    OPTIONAL const float *bias;    /* the same by strides: added to the scores */
    OPTIONAL const int64_t *draw;  /* (2) key of the random numbers for dropout */
    int64_t batch;
    int64_t query_time;
    int64_t key_time;
    int64_t heads;
    int64_t key_heads;
    int64_t size;
    int64_t value_size;
    int64_t causal;
    int64_t mask_batch;
    int64_t mask_head;
    int64_t mask_query;
    int64_t mask_key;
    int64_t bias_batch;
    int64_t bias_head;
    int64_t bias_query;
    int64_t bias_key;
    int64_t threshold;
    double scale;
    double kept;)
{
    const heads h = HEADS(a);
    const int64_t blocks = pieces(h.query_time, QUERIES), out_row = h.heads * h.value_size, all = h.batch * h.heads * h.query_time;
    float *s = (float *)worker->scratch, *panel = s + KEYS * QUERIES;
    const int64_t group = h.heads / h.key_heads;
    int64_t fetched = 0;                                    /* rows of the next head */
    for (int64_t item = begin; item < end; item++) {
        const head_block next = block_of(&h, least(item + 1, end - 1), blocks);
        head_block at = block_of(&h, item, blocks);
        const float *next_query = h.query + query_row_of(&h, &next) * h.size;
        if (item % blocks == 0) fetched = 0;
        float *out = a->out + query_row_of(&h, &at) * h.value_size;
        float highest[QUERIES], total[QUERIES], factor[QUERIES];
        panel_pack(panel, h.query + query_row_of(&h, &at) * h.size, 1, h.heads * h.size, h.size, at.queries);
        for (int64_t i = 0; i < h.size * QUERIES; i += VL) vstore(panel + i, vload(panel + i) * vset(h.scale));
        for (int j = 0; j < QUERIES; j += VL) vstore(highest + j, vset(-INFINITY)), vstore(total + j, vset(0));
        int64_t stop = h.causal ? least(h.key_time, at.query + at.queries) : h.key_time;
        while (at.key < stop) {
            at.keys = least(stop - at.key, KEYS);
            score(&h, &at, panel, s);
            vf high[VECTORS], sum[VECTORS];
            UNROLL for (int j = 0; j < VECTORS; j++) high[j] = vload(highest + j * VL), sum[j] = vset(0);
            for (int64_t i = 0; i < at.keys; i++)
                UNROLL for (int j = 0; j < VECTORS; j++) high[j] = vgreater(vload(s + i * QUERIES + j * VL), high[j]);
            for (int64_t i = 0; i < at.keys; i++) {
                UNROLL for (int j = 0; j < VECTORS; j++) {
                    const vf p = vexp_negative(vload(s + i * QUERIES + j * VL) - high[j]);
                    vstore(s + i * QUERIES + j * VL, p);
                    sum[j] += p;
                }
                fetch_key(&h, (item / blocks + 1) / group, fetched++);
                if (!at.key && i < at.queries) fetch_result(out + i * out_row, h.value_size);
            }
            for (int j = 0; j < VECTORS; j++) {
                const vf f = vexp_negative(vload(highest + j * VL) - high[j]);
                vstore(highest + j * VL, high[j]);
                vstore(factor + j * VL, f);
                vstore(total + j * VL, vfma(vload(total + j * VL), f, sum[j]));
            }
            for (int64_t i = 0; h.draw && i < at.keys; i += 2) {
                const philox p = draw_pair(&h, &at, i);
                for (int64_t j = 0; j < QUERIES * least(at.keys - i, 2); j += VL)
                    vstore(s + i * QUERIES + j, drop(vload(s + i * QUERIES + j), p.bits + j, h.threshold, vset(h.kept)));
            }
            for (int64_t j = 0; at.key && j < at.queries; j++)
                if (factor[j] != 1)
                    for (int64_t c = 0; c < h.value_size; c += VL)
                        vstore_n(out + j * out_row + c, vload_n(out + j * out_row + c, h.value_size - c) * vset(factor[j]), h.value_size - c);
            add_rows(out, out_row, s, 1, QUERIES, h.value + key_row(&h, &at) * h.value_size, h.key_heads * h.value_size, at.queries, at.keys,
                     h.value_size, at.key > 0);
            at.key += at.keys;
            if (at.key == stop) stop = keys_seen(&h, &at, highest);
        }
        for (int64_t j = 0; j < at.queries; j++) {
            if (j < next.queries) fetch_row(next_query + j * h.heads * h.size, h.size);
            for (int64_t c = 0; c < h.value_size; c += VL)
                vstore_n(out + j * out_row + c, vload_n(out + j * out_row + c, h.value_size - c) / vset(total[j]), h.value_size - c);
        }
        const int64_t first = (at.batch * h.heads + at.head) * h.query_time + at.query;
        for (int64_t j = 0; a->extent && j < QUERIES; j += VL) {
            vstore_n(a->extent + first + j, vload(highest + j), most(at.queries - j, 0));
            vstore_n(a->extent + all + first + j, vload(total + j), most(at.queries - j, 0));
        }
    }
}

/* along[j] = d_out[j] . out[j] for QUERIES rows, of which `rows` are there. */
static void row_products(float *along, const float *d_out, const float *out, int64_t row, int64_t rows, int64_t columns)
{
    for (int64_t first = 0; first < QUERIES; first += VL) {
        vf sums[VL][SUM16] = {{{0}}};
        for (int64_t j = 0; j < least(rows - first, VL); j++) {
            const float *x = d_out + (first + j) * row, *y = out + (first + j) * row;
            EACH_OF_SUM16(k, c, width, columns, { sums[j][k] = vfma(vload_n(x + c, width), vload_n(y + c, width), sums[j][k]); });
        }
        vstore(along + first, vsums16(sums));
    }
}

/* Sums over queries, some rows of keys by `columns`: added to the first `done` rows of out, and stored in the others. */
static void add_keys(float *out, int64_t out_row, int64_t done, const float *left, const float *right, int64_t right_row, int64_t rows, int64_t depth,
                     int64_t columns)
{
    const int64_t old = most(least(done, rows), 0);
    if (old) add_rows(out, out_row, left, QUERIES, 1, right, right_row, old, depth, columns, 1);
    if (rows > old) add_rows(out + old * out_row, out_row, left + old * QUERIES, QUERIES, 1, right, right_row, rows - old, depth, columns, 0);
}

/* Gradients of attention; the probabilities are computed again, from `extent`.
   One item: a head of key and value, with all the heads of query that share it. */
KERNEL(attention_grad, a->batch * a->key_heads,
             heads_cost((double)a->query_time * (a->heads / a->key_heads), a->key_time, 2.5 * (a->size + a->value_size), a->causal),
    OPTIONAL float *d_query;       /* (batch, query_time, heads, size) */
    OPTIONAL float *d_key;         /* (batch, key_time, key_heads, size) */
    OPTIONAL float *d_value;       /* (batch, key_time, key_heads, value_size) */
    OPTIONAL float *d_scores;      /* (batch, heads, query_time, key_time), 0 at first: of the scores, for the bias */
    const float *d_out;            /* (batch, query_time, heads, value_size) */
    const float *out;              /* (batch, query_time, heads, value_size) */
    const float *extent;           /* (2, batch, heads, query_time) */
    const float *query;
    const float *key;
    const float *value;
    OPTIONAL const uint8_t *mask;
    OPTIONAL const float *bias;
    OPTIONAL const int64_t *draw;
    int64_t batch;
    int64_t query_time;
    int64_t key_time;
    int64_t heads;
    int64_t key_heads;
    int64_t size;
    int64_t value_size;
    int64_t causal;
    int64_t mask_batch;
    int64_t mask_head;
    int64_t mask_query;
    int64_t mask_key;
    int64_t bias_batch;
    int64_t bias_head;
    int64_t bias_query;
    int64_t bias_key;
    int64_t threshold;
    double scale;
    double kept;)
{
    const heads h = HEADS(a);
    const int64_t group = h.heads / h.key_heads, query_row = h.heads * h.size, out_row = h.heads * h.value_size;
    const int64_t all = h.batch * h.heads * h.query_time;
    float *p = (float *)worker->scratch, *d = p + KEYS * QUERIES, *panel = d + KEYS * QUERIES, *d_panel = panel + h.size * QUERIES;
    for (int64_t item = begin; item < end; item++) {
        const int64_t n = group * pieces(h.query_time, QUERIES);
        head_block at = grad_block_of(&h, item, 0, group);
        float *d_key = a->d_key ? a->d_key + key_row(&h, &at) * h.size : 0, *d_value = a->d_value ? a->d_value + key_row(&h, &at) * h.value_size : 0;
        const int64_t d_key_row = h.key_heads * h.size, d_value_row = h.key_heads * h.value_size;
        int64_t done = 0, fetched = 0;                      /* keys whose gradients have begun; rows of the next head */
        for (int64_t block = 0; block < n; block++) {
            const int64_t ahead = block + 1 < n ? block + 1 : 0, next_item = least(ahead ? item : item + 1, end - 1);
            const head_block next = grad_block_of(&h, next_item, ahead, group);
            at = grad_block_of(&h, item, block, group);
            const int64_t row = query_row_of(&h, &at), next_row = query_row_of(&h, &next);
            const int64_t first = (at.batch * h.heads + at.head) * h.query_time + at.query;
            const float *query = h.query + row * h.size, *d_out = a->d_out + row * h.value_size, *out = a->out + row * h.value_size;
            float highest[QUERIES], share[QUERIES], along[QUERIES];        /* along[j]: d_out . out */
            panel_pack(panel, query, 1, query_row, h.size, at.queries);
            for (int64_t i = 0; i < h.size * QUERIES; i += VL) vstore(panel + i, vload(panel + i) * vset(h.scale));
            panel_pack(d_panel, d_out, 1, out_row, h.value_size, at.queries);
            row_products(along, d_out, out, out_row, at.queries, h.value_size);
            for (int64_t j = 0; j < QUERIES; j++) {
                highest[j] = j < at.queries ? a->extent[first + j] : INFINITY;              /* so that p is 0 */
                share[j] = j < at.queries ? 1 / a->extent[all + first + j] : 0;
            }
            const int64_t stop = keys_seen(&h, &at, highest);
            int64_t fetched_rows = 0;                       /* of query, d_out and out, for the next block */
            const int64_t at_once = pieces(3 * QUERIES, most(stop / 2, 1));
            for (at.key = 0; at.key < stop; at.key += KEYS) {
                at.keys = least(stop - at.key, KEYS);
                score(&h, &at, panel, p);
                const tile t = {
                    .out = d, .out_row = QUERIES, .a = h.value + key_row(&h, &at) * h.value_size, .a_row = d_value_row, .a_depth = 1,
                    .b = d_panel, .b_row = PANEL, .depth = h.value_size, .columns = QUERIES,
                };
                tile_multiply(&t, at.keys);
                for (int64_t i = 0; i < at.keys; i += 2) {
                    philox bits;
                    if (h.draw) bits = draw_pair(&h, &at, i);
                    for (int j = 0; j < QUERIES * least(at.keys - i, 2); j += VL) {
                        float *to_p = p + i * QUERIES + j, *to_d = d + i * QUERIES + j;
                        const vf s = vload(to_p), x = vexp_negative(s - vload(highest + j % QUERIES)) * vload(share + j % QUERIES);
                        vf g = vload(to_d), y = x;
                        if (h.draw) {
                            g = drop(g, bits.bits + j, h.threshold, vset(h.kept));
                            y = drop(x, bits.bits + j, h.threshold, vset(h.kept));
                        }
                        vstore(to_p, y);
                        vstore(to_d, vpick(s == vset(UNSEEN), vset(0), x * (g - vload(along + j % QUERIES))));
                    }
                    fetch_key(&h, item + 1, fetched++);
                    fetch_key(&h, item + 1, fetched++);
                    for (int64_t k = i; k < least(i + 2, at.keys); k++) {
                        if (d_value && at.key + k >= done) fetch_result(d_value + (at.key + k) * d_value_row, h.value_size);
                        if (d_key && at.key + k >= done) fetch_result(d_key + (at.key + k) * d_key_row, h.size);
                        if (a->d_query && !at.key && k < at.queries) fetch_result(a->d_query + row * h.size + k * query_row, h.size);
                    }
                    for (int64_t k = fetched_rows; k < least(fetched_rows + at_once, 3 * next.queries); k++) {
                        if (k % 3 == 0) fetch_row(h.query + next_row * h.size + k / 3 * query_row, h.size);
                        else fetch_row((k % 3 == 1 ? a->d_out : a->out) + next_row * h.value_size + k / 3 * out_row, h.value_size);
                    }
                    fetched_rows += at_once;
                }
                if (a->d_scores)
                    for (int64_t j = 0; j < at.queries; j++)
                        for (int64_t i = 0; i < at.keys; i++) a->d_scores[(first + j) * h.key_time + at.key + i] = d[i * QUERIES + j];
                for (int64_t i = 0; i < at.keys * QUERIES; i += VL) vstore(d + i, vload(d + i) * vset(h.scale));
                if (d_value)
                    add_keys(d_value + at.key * d_value_row, d_value_row, done - at.key, p, d_out, out_row, at.keys, at.queries, h.value_size);
                if (d_key) add_keys(d_key + at.key * d_key_row, d_key_row, done - at.key, d, query, query_row, at.keys, at.queries, h.size);
                if (a->d_query)
                    add_rows(a->d_query + row * h.size, query_row, d, 1, QUERIES, h.key + key_row(&h, &at) * h.size, d_key_row, at.queries, at.keys,
                             h.size, at.key > 0);
            }
            done = most(done, stop);
        }
        for (; done < h.key_time; done++) {                 /* keys that no query sees */
            if (d_key) memset(d_key + done * d_key_row, 0, (size_t)h.size * sizeof(float));
            if (d_value) memset(d_value + done * d_value_row, 0, (size_t)h.value_size * sizeof(float));
        }
    }
}
