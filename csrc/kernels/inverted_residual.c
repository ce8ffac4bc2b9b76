/* The block of MobileNet (Sandler et al. 2018) in one: a 1x1 convolution to many channels, a depthwise one, and a 1x1 convolution to few,
   for predictions. The many channels are never stored: of a group of them a thread keeps the rows that a window sees. The operands of the
   1x1 convolutions may be rounded to bfloat16: what they read is then pairs of tile_bf16.h, else numbers; a word is either. */
#include "depthwise.h"
#include "tile_bf16.h"

enum { GROUP = PANEL, MOST_DOWN = 8 };                 /* channels; most rows of a window */
enum { BAND = 1 << 16, CHUNK = 4 * GROUP };      /* words, and channels, of what is multiplied at once */

typedef struct block {
    const uint32_t *expand, *project;
    const float *expand_bias, *kernel, *bias;
    int64_t rounded, height, width, taken, channels, filters, out_width, kernel_height, kernel_width, stride_height, stride_width, top, left;
    int64_t expand_activation, activation;
    int64_t kept, given, pitch;                         /* rows of the expanded image; words from pixel to pixel of what is expanded and projected */
    float *line;                                        /* a row of outputs before they are rounded */
} block;

INLINE int64_t words(const block *b, int64_t n) { return b->rounded ? pieces(n, 2) : n; }

/* Between the words of two pixels lies room, lest all fall on the same sets of a cache. */
INLINE int64_t pitch_of(int64_t channels) { return (channels + 15) / 16 * 16 + 16; }
INLINE int64_t pair_pitch(int64_t channels) { return (pieces(channels, 32) | 1) * 16; }

/* What is soon read, and has not been fetched. */
typedef struct span { const uint32_t *at, *end; } span;

/* `rows` rows of a product: t, but for its operands. later: what is fetched meanwhile, a line for each term or pair of a tile, or null. */
static void multiply(const block *b, tile *t, const uint32_t *left, const uint32_t *panels, int64_t rows, const uint32_t *later)
{
    if (!b->rounded) {
        t->a = (const float *)left, t->a_depth = 1, t->b = (const float *)panels, t->b_row = PANEL, t->b_panel = PANEL * t->depth;
        t->later = (const char *)later;
        tile_multiply(t, rows);
        return;
    }
    const int64_t pairs = pieces(t->depth, 2);
    for (int64_t j = 0; j < t->columns; j += PANEL, panels += PANEL * pairs) {
        const pair_tile p = {
            .out = t->out + j, .out_row = t->out_row, .a = left, .a_row = t->a_row, .a_depth = 1, .b = panels, .bias = t->bias ? t->bias + j : 0,
            .residual = t->residual ? t->residual + j : 0, .pairs = pairs, .columns = least(t->columns - j, PANEL), .accumulate = t->accumulate,
            .activation = t->activation, .later = (const char *)later,
        };
        pair_multiply(&p, rows);
        if (later) later += pieces(rows, PAIR_ROWS) * 16 * pairs;
    }
}

/* `rows` rows of n numbers, one after another, as pairs. */
static void round_rows(uint32_t *to, int64_t to_row, const float *from, int64_t n, int64_t rows)
{
    if (n == 2 * VL) for (int64_t i = 0; i < rows; i++) vustore(to + i * to_row, vpairs_along(vload(from + i * n), vload(from + i * n + VL)));
    else for (int64_t i = 0; i < rows; i++) pair_run(to + i * to_row, from + i * n, n);
}

/* Weights come from memory: while a group of channels is expanded, what the next one and the projection read is fetched.

   What the depthwise convolution gives for the rows y .. y + n - 1 of the result and the `own` channels from c. Row r of the expanded image
   is kept in rows, at r modulo kept; those below `ready` are there already, and the first that is not is returned. They are made of
   `given`, which is the image or its pairs. */
static int64_t filter_rows(const block *b, uint32_t *filtered, float *rows, const float *image, const uint32_t *given, int64_t y, int64_t n,
                           int64_t c, int64_t own, int64_t ready, span *of_expand, span *of_project)
{
    const int64_t line = b->width * own, depth = words(b, b->taken), most_rows = b->rounded ? PAIR_ROWS : TILE_ROWS;
    for (int64_t k = 0; k < n; k++) {
        const int64_t first = (y + k) * b->stride_height - b->top, last = least(first + b->kernel_height, b->height);
        const int64_t wanted = b->kept == b->height ? b->height : last;
        ready = most(ready, most(first, 0));
        for (int64_t m; b->expand && ready < wanted; ready += m) {
            m = least(wanted - ready, b->kept - ready % b->kept);
            tile t = {
                .out_row = own, .a_row = b->given, .bias = b->expand_bias ? b->expand_bias + c : 0, .depth = b->taken, .columns = own,
                .activation = b->expand_activation,
            };
            const int64_t pixels = m * b->width, tiles = pieces(pixels, most_rows);
            for (int64_t i = 0, stop; i < tiles; i = stop) {
                span *s = of_expand->at < of_expand->end ? of_expand : of_project;
                const int fetches = s->at < s->end;
                stop = fetches ? least(i + pieces(s->end - s->at, 16 * depth), tiles) : tiles;
                const int64_t at = tile_begin(pixels, tiles, i);
                t.out = rows + ready % b->kept * line + at * own;
                multiply(b, &t, given + (ready * b->width + at) * b->given, b->expand + c * depth, tile_begin(pixels, tiles, stop) - at,
                         fetches ? s->at : 0);
                s->at += (stop - i) * 16 * depth;
            }
        }
        depthwise_line seen[MOST_DOWN];
        int64_t n_seen = 0;
        for (int64_t ky = most(-first, 0); first + ky < last; ky++)
            seen[n_seen++] = (depthwise_line){ b->expand ? rows + (first + ky) % b->kept * line : image + (first + ky) * b->width * b->channels,
                                               b->kernel + ky * b->kernel_width * b->channels + c };
        uint32_t *out = filtered + k * b->out_width * b->pitch;
        const depthwise_sum s = {
            .out = b->rounded ? b->line : (float *)out, .out_step = b->rounded ? own : b->pitch, .lines = seen, .n_lines = n_seen,
            .taps = b->kernel_width, .step = b->channels, .first = -b->left, .stride = b->stride_width, .dilation = 1,
            .width = b->width, .channels = own, .bias = b->bias ? b->bias + c : 0, .activation = b->activation };
        depthwise_row(&s, b->out_width);
        if (b->rounded) round_rows(out, b->pitch, b->line, own, b->out_width);
    }
    return ready;
}

/* Rows first .. stop - 1 of an image in pairs. Returns where row 0 would be. */
static const uint32_t *round_image(const block *b, uint32_t *to, const float *image, int64_t first, int64_t stop)
{
    const int64_t pixels = (stop - first) * b->width, together = b->taken % 2 ? 1 : pixels;      /* whose pairs lie beside one another */
    if (pixels > 0) round_rows(to, b->given, image + first * b->width * b->taken, together * b->taken, pixels / together);
    return to - first * b->width * b->given;
}

/* out = activate(project(depthwise(expand(images))) + residual).  One item: one row of one image's output; with parts, where activate does
   nothing, one part of the channels of an image, and what they give to the result: out is then the sum over the parts. */
KERNEL(inverted_residual, a->batch * (a->parts ? a->parts : a->out_height),
       a->channels / (double)most(a->parts, 1) * (a->parts ? a->out_height : 1) *
       ((a->expand ? a->stride_height * a->width * a->taken / (a->rounded ? 12.0 : 6.0) : 0) +
        a->out_width * (a->filters / (a->rounded ? 12.0 : 6.0) + a->kernel_height * a->kernel_width * 0.4)),
    float *out;           /* (batch, out_height, out_width, filters), or (parts, batch, out_height, out_width, filters) */
    const float *images;  /* (batch, height, width, taken) */
    OPTIONAL const void *expand;  /* panels of (taken, channels); None: the depthwise convolution sees the images */
    OPTIONAL const float *expand_bias;    /* (channels) */
    const float *kernel;  /* (kernel_height, kernel_width, channels) */
    OPTIONAL const float *bias;   /* (channels) */
    const void *project;  /* panels of (channels, filters); with parts, of each chunk of their channels, one after another */
    OPTIONAL const float *project_bias;   /* (filters) */
    OPTIONAL const float *residual;       /* (batch, out_height, out_width, filters) */
    int64_t batch;
    int64_t height;
    int64_t width;
    int64_t taken;
    int64_t channels;
    int64_t filters;
    int64_t out_height;
    int64_t out_width;
    int64_t kernel_height;
    int64_t kernel_width;
    int64_t stride_height;
    int64_t stride_width;
    int64_t top;
    int64_t left;
    int64_t expand_activation;
    int64_t activation;
    int64_t project_activation;
    int64_t parts;
    int64_t rounded;)     /* 1: panels of pairs, by pack_bf16 */
{
    const uint32_t state = a->rounded ? flush_denormals() : 0;
    const int64_t channels = a->channels, group = a->expand ? GROUP : channels, groups = pieces(channels, group), depth = a->parts ? CHUNK : channels;
    const int64_t pixels = a->out_height * a->out_width, wide = pieces(a->filters, PANEL) * PANEL;
    block b = {
        a->expand, a->project, a->expand_bias, a->kernel, a->bias, a->rounded, a->height, a->width, a->taken, channels, a->filters, a->out_width,
        a->kernel_height, a->kernel_width, a->stride_height, a->stride_width, a->top, a->left, a->expand_activation, a->activation,
        a->parts ? a->height : least(a->kernel_height, a->height), a->rounded ? a->taken % 2 ? pair_pitch(a->taken) : a->taken / 2 : a->taken,
        a->rounded ? pair_pitch(depth) : pitch_of(depth), 0,
    };
    const int64_t kept = a->expand ? b.kept * a->width : 0, band = most(BAND / most(a->out_width * b.pitch, 1), 1);
    const int64_t panel = words(&b, a->taken), seen = least(a->parts ? a->height : (band - 1) * a->stride_height + a->kernel_height, a->height);
    float *ring = (float *)worker->scratch;
    uint32_t *pairs = (uint32_t *)ring + pieces(kept * (a->parts ? group : channels), 16) * 16;
    uint32_t *filtered = pairs + (a->rounded && a->expand ? pieces(seen * a->width * b.given, 16) * 16 + 16 : 0);
    if (a->rounded) b.line = (float *)filtered, filtered += pieces(a->out_width * group, 16) * 16;
    for (int64_t i = begin; a->parts && i < end; i++) {
        const int64_t part = i / a->batch, first = groups * part / a->parts * group, stop = least(groups * (part + 1) / a->parts * group, channels);
        const float *image = a->images + i % a->batch * a->height * a->width * a->taken;
        const uint32_t *given = a->rounded ? round_image(&b, pairs, image, 0, a->height) : (const uint32_t *)image;
        float *out = a->out + i * pixels * a->filters;
        span of_project = { b.project + words(&b, first) * wide, b.project + words(&b, least(first + CHUNK, stop)) * wide };
        for (int64_t c = first, chunk; c < stop; c += chunk) {
            chunk = least(CHUNK, stop - c);
            for (int64_t k = 0; k < chunk; k += group) {
                span of_expand = { b.expand + (c + k + group) * panel, b.expand + least(c + k + 2 * group, stop) * panel };
                filter_rows(&b, filtered + words(&b, k), ring, image, given, 0, a->out_height, c + k, least(group, chunk - k), 0, &of_expand,
                            &of_project);
            }
            tile t = { .out = out, .out_row = a->filters, .a_row = b.pitch, .depth = chunk, .columns = a->filters, .accumulate = c > first };
            if (c + chunk == channels) t.bias = a->project_bias, t.residual = a->residual ? a->residual + i % a->batch * pixels * a->filters : 0;
            multiply(&b, &t, filtered, b.project + words(&b, c) * wide, pixels, c + chunk < stop ? b.project + words(&b, c + chunk) * wide : 0);
        }
        if (first == stop) memset(out, 0, (size_t)(pixels * a->filters) * sizeof(float));
    }
    int64_t ready = 0;
    for (int64_t i = begin, n; !a->parts && i < end; i += n) {
        const int64_t y = i % a->out_height, before = y && i > begin ? ready : 0, top = y * a->stride_height - a->top;
        const float *image = a->images + i / a->out_height * a->height * a->width * a->taken;
        n = least(least(band, end - i), a->out_height - y);
        const uint32_t *given = (const uint32_t *)image;
        if (a->rounded && a->expand)
            given = round_image(&b, pairs, image, most(before, most(top, 0)),
                               b.kept == a->height ? a->height : least(top + (n - 1) * a->stride_height + a->kernel_height, a->height));
        span of_project = { b.project, b.project + (i == begin ? words(&b, channels) * wide : 0) };
        for (int64_t c = 0; c < channels; c += group) {
            span of_expand = { b.expand + (c + group) * panel, b.expand + (i == begin ? least(c + 2 * group, channels) * panel : 0) };
            ready = filter_rows(&b, filtered + words(&b, c), ring + kept * c, image, given, y, n, c, least(group, channels - c), before,
                                &of_expand, &of_project);
        }
        tile t = {
            .out = a->out + i * a->out_width * a->filters, .out_row = a->filters, .a_row = b.pitch, .depth = channels, .columns = a->filters,
            .bias = a->project_bias, .residual = a->residual ? a->residual + i * a->out_width * a->filters : 0, .activation = a->project_activation,
        };
        multiply(&b, &t, filtered, b.project, n * a->out_width, 0);
    }
    if (a->rounded) keep_denormals(state);
}
