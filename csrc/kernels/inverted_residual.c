/* The block of MobileNet (Sandler et al. 2018) in one: a 1x1 convolution to many channels, a depthwise one, and a 1x1 convolution to few,
   for predictions. The many channels are never stored: of a group of them a thread keeps the rows that a window sees. */
#include "depthwise.h"

enum { GROUP = PANEL, MOST_DOWN = 8 };                 /* channels; most rows of a window */
enum { BAND = 1 << 16, CHUNK = 4 * GROUP };            /* numbers, and channels, of what is multiplied at once */

typedef struct block {
    const float *expand, *expand_bias, *kernel, *bias, *project;
    int64_t height, width, taken, channels, filters, out_width, kernel_height, kernel_width, stride_height, stride_width, top, left;
    int64_t expand_activation, activation;
    int64_t kept, pitch;                                /* rows of the expanded image; numbers from pixel to pixel of what is multiplied */
} block;

/* Between the numbers of two pixels lies room, lest all fall on the same sets of a cache. */
INLINE int64_t pitch_of(int64_t channels) { return (channels + 15) / 16 * 16 + 16; }

/* What is soon read, and has not been fetched. */
typedef struct span { const float *at, *end; } span;

/* Weights come from memory: while a group of channels is expanded, what the next one and the projection read is fetched.

   What the depthwise convolution gives for the rows y .. y + n - 1 of the result and the `own` channels from c. Row r of the expanded image
   is kept in rows, at r modulo kept; those below `ready` are there already, and the first that is not is returned. */
static int64_t filter_rows(const block *b, float *filtered, float *rows, const float *image, int64_t y, int64_t n, int64_t c, int64_t own,
                           int64_t ready, span *of_expand, span *of_project)
{
    const int64_t line = b->width * own;
    for (int64_t k = 0; k < n; k++) {
        const int64_t first = (y + k) * b->stride_height - b->top, last = least(first + b->kernel_height, b->height);
        const int64_t wanted = b->kept == b->height ? b->height : last;
        ready = most(ready, most(first, 0));
        for (int64_t m; b->expand && ready < wanted; ready += m) {
            m = least(wanted - ready, b->kept - ready % b->kept);
            tile t = {
                .out_row = own, .a_row = b->taken, .a_depth = 1, .b = b->expand + c * b->taken, .b_row = PANEL,
                .bias = b->expand_bias ? b->expand_bias + c : 0, .depth = b->taken, .columns = own, .activation = b->expand_activation,
            };
            const int64_t pixels = m * b->width, tiles = pieces(pixels, TILE_ROWS);
            for (int64_t i = 0, stop; i < tiles; i = stop) {
                span *s = of_expand->at < of_expand->end ? of_expand : of_project;
                const int fetches = s->at < s->end;
                stop = fetches ? least(i + pieces(s->end - s->at, 16 * t.depth), tiles) : tiles;
                const int64_t at = tile_begin(pixels, tiles, i);
                t.a = image + (ready * b->width + at) * b->taken, t.out = rows + ready % b->kept * line + at * own;
                t.later = fetches ? (const char *)s->at : 0;
                s->at += (stop - i) * 16 * t.depth;
                tile_multiply(&t, tile_begin(pixels, tiles, stop) - at);
            }
        }
        depthwise_line seen[MOST_DOWN];
        int64_t n_seen = 0;
        for (int64_t ky = most(-first, 0); first + ky < last; ky++)
            seen[n_seen++] = (depthwise_line){ b->expand ? rows + (first + ky) % b->kept * line : image + (first + ky) * b->width * b->channels,
                                               b->kernel + ky * b->kernel_width * b->channels + c };
        const depthwise_sum s = {
            .out = filtered + k * b->out_width * b->pitch, .out_step = b->pitch, .lines = seen, .n_lines = n_seen, .taps = b->kernel_width,
            .step = b->channels, .first = -b->left, .stride = b->stride_width, .dilation = 1,
            .width = b->width, .channels = own, .bias = b->bias ? b->bias + c : 0, .activation = b->activation };
        depthwise_row(&s, b->out_width);
    }
    return ready;
}

/* The product of what `filtered` holds of so many channels with their panels. */
INLINE tile projection(const block *b, const float *filtered, const float *panels, int64_t depth, float *out)
{
    return (tile){ .out = out, .out_row = b->filters, .a = filtered, .a_row = b->pitch, .a_depth = 1, .b = panels, .b_row = PANEL,
                   .b_panel = PANEL * depth, .depth = depth, .columns = b->filters };
}

/* out = activate(project(depthwise(expand(images))) + residual).  One item: one row of one image's output; with parts, where activate does
   nothing, one part of the channels of an image, and what they give to the result: out is then the sum over the parts. */
KERNEL(inverted_residual, a->batch * (a->parts ? a->parts : a->out_height),
       a->channels / (double)most(a->parts, 1) * (a->parts ? a->out_height : 1) *
       ((a->expand ? a->stride_height * a->width * a->taken / 6.0 : 0) +
        a->out_width * (a->filters / 6.0 + a->kernel_height * a->kernel_width * 0.4)),
    float *out;           /* (batch, out_height, out_width, filters), or (parts, batch, out_height, out_width, filters) */
    const float *images;  /* (batch, height, width, taken) */
    OPTIONAL const float *expand; /* panels of (taken, channels); None: the depthwise convolution sees the images */
    OPTIONAL const float *expand_bias;    /* (channels) */
    const float *kernel;  /* (kernel_height, kernel_width, channels) */
    OPTIONAL const float *bias;   /* (channels) */
    const float *project; /* panels of (channels, filters); with parts, of each chunk of their channels, one after another */
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
    int64_t parts;)
{
    const int64_t channels = a->channels, group = a->expand ? GROUP : channels, groups = pieces(channels, group);
    const int64_t pixels = a->out_height * a->out_width, wide = pieces(a->filters, PANEL) * PANEL;
    const block b = {
        a->expand, a->expand_bias, a->kernel, a->bias, a->project, a->height, a->width, a->taken, channels, a->filters, a->out_width,
        a->kernel_height, a->kernel_width, a->stride_height, a->stride_width, a->top, a->left, a->expand_activation, a->activation,
        a->parts ? a->height : least(a->kernel_height, a->height), pitch_of(a->parts ? CHUNK : channels),
    };
    const int64_t kept = a->expand ? b.kept * a->width : 0;
    float *ring = (float *)worker->scratch, *filtered = ring + pieces(kept * (a->parts ? group : channels), 16) * 16;
    for (int64_t i = begin; a->parts && i < end; i++) {
        const int64_t part = i / a->batch, first = groups * part / a->parts * group, stop = least(groups * (part + 1) / a->parts * group, channels);
        const float *image = a->images + i % a->batch * a->height * a->width * a->taken;
        float *out = a->out + i * pixels * a->filters;
        span of_project = { a->project + first * wide, a->project + least(first + CHUNK, stop) * wide };
        for (int64_t c = first, depth; c < stop; c += depth) {
            depth = least(CHUNK, stop - c);
            for (int64_t k = 0; k < depth; k += group) {
                span of_expand = { a->expand + (c + k + group) * a->taken, a->expand + least(c + k + 2 * group, stop) * a->taken };
                filter_rows(&b, filtered + k, ring, image, 0, a->out_height, c + k, least(group, depth - k), 0, &of_expand, &of_project);
            }
            tile t = projection(&b, filtered, a->project + c * wide, depth, out);
            t.accumulate = c > first, t.later = c + depth < stop ? (const char *)(a->project + (c + depth) * wide) : 0;
            if (c + depth == channels) t.bias = a->project_bias, t.residual = a->residual ? a->residual + i % a->batch * pixels * a->filters : 0;
            tile_multiply(&t, pixels);
        }
        if (first == stop) memset(out, 0, (size_t)(pixels * a->filters) * sizeof(float));
    }
    int64_t ready = 0;
    const int64_t band = most(BAND / (a->out_width * b.pitch), 1);
    for (int64_t i = begin, n; !a->parts && i < end; i += n) {
        const int64_t y = i % a->out_height, before = y && i > begin ? ready : 0;
        const float *image = a->images + i / a->out_height * a->height * a->width * a->taken;
        n = least(least(band, end - i), a->out_height - y);
        span of_project = { a->project, a->project + (i == begin ? channels * wide : 0) };
        for (int64_t c = 0; c < channels; c += group) {
            span of_expand = { a->expand + (c + group) * a->taken, a->expand + (i == begin ? least(c + 2 * group, channels) * a->taken : 0) };
            ready = filter_rows(&b, filtered + c, ring + kept * c, image, y, n, c, least(group, channels - c), before, &of_expand, &of_project);
        }
        tile t = projection(&b, filtered, a->project, channels, a->out + i * a->out_width * a->filters);
        t.bias = a->project_bias, t.residual = a->residual ? a->residual + i * a->out_width * a->filters : 0, t.activation = a->project_activation;
        tile_multiply(&t, n * a->out_width);
    }
}
