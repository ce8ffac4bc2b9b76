/* Depthwise convolution over (batch, height, width, channels): vectors over channels, one filter a channel. With several filters
   a channel the images are repeated first. */
#include "depthwise.h"

/* y[i, c * times + m] = x[i, c].  One item: one pixel. */
KERNEL(repeat_channels, a->pixels, a->channels * a->times,
    float *y;             /* (pixels, channels, times) */
    const float *x;       /* (pixels, channels) */
    int64_t pixels;
    int64_t channels;
    int64_t times;)
{
    for (int64_t i = begin * a->channels; i < end * a->channels; i++)
        for (int64_t m = 0; m < a->times; m++) a->y[i * a->times + m] = a->x[i];
}

/* d_x[i, c] = sum over m of d_y[i, c, m].  One item: one pixel. */
KERNEL(repeat_channels_grad, a->pixels, a->channels * a->times,
    float *d_x;           /* (pixels, channels) */
    const float *d_y;     /* (pixels, channels, times) */
    int64_t pixels;
    int64_t channels;
    int64_t times;)
{
    for (int64_t i = begin * a->channels; i < end * a->channels; i++) {
        float sum = 0;
        for (int64_t m = 0; m < a->times; m++) sum += a->d_y[i * a->times + m];
        a->d_x[i] = sum;
    }
}

enum { AT_ONCE = 7, SOME = 3 };  /* outputs whose sums are kept in registers: the widths of common networks are multiples of 7 */

/* Makes the compiler keep a pointer in a register rather than compute it again. */
#define KEEP_POINTER(x) __asm__("" : "+r"(x))

/* n numbers from p where the column lies in 0 .. width - 1, else zeros; `safe` can be read: a load of no number from a page that is not
   there is slow on some processors. */
INLINE vf seen(const float *p, const float *safe, int64_t column, int64_t width, int64_t n)
{
    const int inside = (uint64_t)column < (uint64_t)width;
    return vload_n(inside ? p : safe, inside ? n : 0);
}

enum { ANY };                    /* taps, stride: as the sum says */

/* Outputs i .. i + count - 1 of the channels from c; taps and stride may be known to the compiler, and then each input is read once
   a line. `whole`: no column lies outside, and vectors are full up to `stop`. */
INLINE void depthwise_outputs(const depthwise_sum s, int64_t i, int64_t c, int64_t stop, const int count, const int taps,
                              const int stride, const int whole)
{
    const int64_t x = s.first + i * s.stride;
    const int rectified = s.activation == ACT_RELU || s.activation == ACT_RELU6;
    const vf low = vset(rectified ? 0 : -INFINITY), high = vset(s.activation == ACT_RELU6 ? 6 : INFINITY);
    for (; c < stop; c += VL) {
        const int64_t m = whole ? VL : stop - c;
        vf sum[AT_ONCE];
        UNROLL_ALL for (int j = 0; j < count; j++) sum[j] = vset(0);
        if (s.next) UNROLL_ALL for (int j = 0; j < count; j++) __builtin_prefetch(s.next + (x + j) * s.channels + c);
#define READ(p) (whole ? vload(p) : vload_n(p, m))
#define SEEN(p, column) (whole ? vload(p) : seen(p, line->from, x + (column), s.width, m))
        for (const depthwise_line *line = s.lines; line < s.lines + s.n_lines; line++) {
            const float *from = line->from + x * s.channels + c, *weights = line->weights + c;
            if (taps == ANY)
                for (int64_t t = 0; t < s.taps; t++) {
                    const vf w = READ(weights + t * s.step);
                    UNROLL_ALL for (int j = 0; j < count; j++) {
                        const int64_t column = j * s.stride + t * s.dilation;
                        sum[j] = vfma(SEEN(from + column * s.channels, column), w, sum[j]);
                    }
                }
            else {
                vf w[5];
                UNROLL_ALL for (int t = 0; t < taps; t++) w[t] = READ(weights + t * s.step);
                UNROLL_ALL for (int p = 0; p < (count - 1) * stride + taps; p++) {
                    const vf v = vheld(SEEN(from, p));
                    from += s.channels;
                    KEEP_POINTER(from);
                    UNROLL_ALL for (int t = 0; t < taps; t++)
                        if (p >= t && (p - t) % stride == 0 && (p - t) / stride < count)
                            sum[(p - t) / stride] = vfma(v, w[t], sum[(p - t) / stride]);
                }
            }
        }
        const vf b = s.bias ? READ(s.bias + c) : vset(-0.0f);
        float *out = s.out + i * s.out_step + c;
        UNROLL_ALL for (int j = 0; j < count; j++) {
            const vf y = vlesser(high, vgreater(low, sum[j] + b));
            vstore_to(out + j * s.out_step, y, m, whole && s.streamed);
        }
#undef READ
#undef SEEN
    }
}

INLINE void depthwise_channels(const depthwise_sum *s, int64_t i, const int count, const int taps, const int stride)
{
    const int64_t x = s->first + i * s->stride, last = x + (count - 1) * s->stride + (s->taps - 1) * s->dilation;
    const int64_t full = x >= 0 && last < s->width ? s->channels / VL * VL : 0;
    depthwise_outputs(*s, i, 0, full, count, taps, stride, 1);
    depthwise_outputs(*s, i, full, s->channels, count, taps, stride, 0);
}

#if VL == 16
/* AT_ONCE outputs of the channels from c, from their sums. */
INLINE void depthwise_store(const depthwise_sum *s, float *out, int64_t c, vf *sum)
{
    if (s->bias) UNROLL_ALL for (int j = 0; j < AT_ONCE; j++) sum[j] = sum[j] + vload(s->bias + c);
    if (s->activation == ACT_RELU || s->activation == ACT_RELU6) UNROLL_ALL for (int j = 0; j < AT_ONCE; j++) sum[j] = vrelu(sum[j]);
    if (s->activation == ACT_RELU6) UNROLL_ALL for (int j = 0; j < AT_ONCE; j++) sum[j] = vlesser(vset(6), sum[j]);
    UNROLL_ALL for (int j = 0; j < AT_ONCE; j++, out += s->out_step) {
        KEEP_POINTER(out);
        vstore_to(out, sum[j], VL, s->streamed);
    }
}

/* The outputs begin .. stop - 1 of the channels below `channels`, a multiple of VL, where lines, 3 taps and the stride are known to the compiler
   and no more than one column on each side lies outside: a vector's weights stay in registers for all of them. Blocks end at `count`. */
INLINE void depthwise_span(const depthwise_sum *s, int64_t begin, int64_t stop, int64_t count, int64_t channels, const int lines, const int stride)
{
    enum { TAPS = 3 };
    static const float zeros[VL];
    const int last = (AT_ONCE - 1) * stride + TAPS - 1;
    const int64_t step = s->channels;
    for (int64_t c = 0; c < channels; c += VL) {
        vf w[3][TAPS];
        UNROLL_ALL for (int l = 0; l < lines; l++) UNROLL_ALL for (int t = 0; t < TAPS; t++) w[l][t] = vload(s->lines[l].weights + t * s->step + c);
        for (int64_t block = begin; block < stop; block += AT_ONCE) {
            const int64_t i = least(block, count - AT_ONCE), x = s->first + i * stride;
            if (s->next) UNROLL_ALL for (int j = 0; j < AT_ONCE; j++) __builtin_prefetch(s->next + (x + j) * step + c);
            vf sum[AT_ONCE];
            UNROLL_ALL for (int j = 0; j < AT_ONCE; j++) sum[j] = vset(0);
            UNROLL_ALL for (int l = 0; l < lines; l++) {
                const float *from = s->lines[l].from + x * step + c;
                UNROLL_ALL for (int p = 0; p <= last; p++) {
                    const int outside = (p == 0 && x < 0) || (p == last && x + last >= s->width);
                    const vf v = vheld(vload(outside ? zeros : from));
                    from += step;
                    KEEP_POINTER(from);
                    UNROLL_ALL for (int t = 0; t < TAPS; t++)
                        if (p >= t && (p - t) % stride == 0 && (p - t) / stride < AT_ONCE) sum[(p - t) / stride] = vfma(v, w[l][t], sum[(p - t) / stride]);
                }
            }
            depthwise_store(s, s->out + i * s->out_step + c, c, sum);
        }
    }
}

/* Two rows of outputs from the four lines that they see, of which the first and the last may be missing (null), with 3x3 taps and stride 1:
   a number that comes from the second cache serves both. Whether that could be done: as above, and vectors must be full. Not for results that
   are stored past the caches: two threads reach the memory's speed without it, and lose up to a fifth by writing two rows at a time. */
static int depthwise_two_rows(const depthwise_sum *sum, int64_t count)
{
    const depthwise_sum copy = *sum, *s = &copy;         /* which no store can change, as the compiler sees */
    enum { TAPS = 3, LINES = 4 };
    static const float zeros[VL];
    const int64_t step = s->channels;
    if (count < AT_ONCE || s->first < -1 || s->first + count + 1 > s->width || step % VL) return 0;
    for (int64_t block = 0; block < count; block += AT_ONCE) {
        const int64_t i = least(block, count - AT_ONCE), x = s->first + i;
        for (int64_t c = 0; c < step; c += VL) {
            vf w[TAPS * TAPS], upper[AT_ONCE], lower[AT_ONCE];
            const float *weights = s->lines[0].weights + c, *next = s->next ? s->next + x * step + c : 0;
            UNROLL_ALL for (int t = 0; t < TAPS * TAPS; t++, weights += step) { KEEP_POINTER(weights); w[t] = vload(weights); }
            UNROLL_ALL for (int j = 0; j < AT_ONCE; j++) upper[j] = lower[j] = vset(0);
            UNROLL_ALL for (int j = 0; j < AT_ONCE && next; j++, next += step) {
                KEEP_POINTER(next);
                __builtin_prefetch(next);
                __builtin_prefetch(next + s->width * step);
            }
            UNROLL_ALL for (int l = 0; l < LINES; l++) {
                if (!s->lines[l].from) continue;
                const float *from = s->lines[l].from + x * step + c;
                UNROLL_ALL for (int p = 0; p < AT_ONCE + TAPS - 1; p++) {
                    const int outside = (p == 0 && x < 0) || (p == AT_ONCE + TAPS - 2 && x + p >= s->width);
                    const vf v = vheld(vload(outside ? zeros : from));
                    from += step;
                    KEEP_POINTER(from);
                    UNROLL_ALL for (int t = 0; t < TAPS; t++) {
                        if (p < t || p - t >= AT_ONCE) continue;
                        if (l < TAPS) upper[p - t] = vfma(v, w[l * TAPS + t], upper[p - t]);
                        if (l > 0) lower[p - t] = vfma(v, w[(l - 1) * TAPS + t], lower[p - t]);
                    }
                }
            }
            depthwise_store(s, s->out + i * s->out_step + c, c, upper);
            depthwise_store(s, s->out + (count + i) * s->out_step + c, c, lower);
        }
    }
    return 1;
}

/* Whether that was all. */
INLINE int depthwise_spans(const depthwise_sum *s, int64_t count, const int stride)
{
    const int64_t span = s->order == BY_VECTORS ? count : AT_ONCE, channels = s->channels / VL * VL;
    if (s->order == BY_LINES || count < AT_ONCE || s->first < -1 || s->first + (count - 1) * stride + 2 > s->width) return 0;
    for (int64_t i = 0; i < count; i += span) {
        const int64_t stop = least(i + span, count);
        switch (s->n_lines) {
        case 1: depthwise_span(s, i, stop, count, channels, 1, stride); break;
        case 2: depthwise_span(s, i, stop, count, channels, 2, stride); break;
        case 3: depthwise_span(s, i, stop, count, channels, 3, stride); break;
        default: return 0;
        }
        for (int64_t j = i; j < stop && channels < s->channels; j += AT_ONCE)
            depthwise_outputs(*s, least(j, count - AT_ONCE), channels, s->channels, AT_ONCE, 3, stride, 0);
    }
    return 1;
}
#else
INLINE int depthwise_two_rows(const depthwise_sum *s, int64_t count) { (void)s, (void)count; return 0; }
INLINE int depthwise_spans(const depthwise_sum *s, int64_t count, const int stride) { (void)s, (void)count, (void)stride; return 0; }
#endif

/* The outputs i < count; where they are no multiple of a block, two blocks overlap. */
INLINE void depthwise_blocks(const depthwise_sum *s, int64_t count, const int taps, const int stride)
{
    if (count >= AT_ONCE)
        for (int64_t i = 0; i < count; i += AT_ONCE) depthwise_channels(s, least(i, count - AT_ONCE), AT_ONCE, taps, stride);
    else if (count >= SOME) for (int64_t i = 0; i < count; i += SOME) depthwise_channels(s, least(i, count - SOME), SOME, taps, stride);
    else for (int64_t i = 0; i < count; i++) depthwise_channels(s, i, 1, taps, stride);
}

void depthwise_row(const depthwise_sum *s, int64_t count)
{
    const int64_t known = s->dilation == 1 && s->stride <= 2 ? s->taps * 10 + s->stride : 0;
    switch (known) {
    case 31: if (!depthwise_spans(s, count, 1)) depthwise_blocks(s, count, 3, 1); break;
    case 32: if (!depthwise_spans(s, count, 2)) depthwise_blocks(s, count, 3, 2); break;
    case 51: depthwise_blocks(s, count, 5, 1); break;
    case 52: depthwise_blocks(s, count, 5, 2); break;
    default: depthwise_blocks(s, count, ANY, ANY);
    }
    if (s->activation == ACT_SIGMOID || s->activation == ACT_TANH) tile_activate(s->out, s->out_step, count, s->channels, s->activation);
}

#define DEPTHWISE_NUMBERS(a) ((a)->batch * ((a)->height * (a)->width + (a)->out_height * (a)->out_width) * (a)->channels)

/* Out of the caches each row is fetched while the one before is used, as the processor does not foresee how the blocks jump about in them. */
#define BEYOND_CACHES(a) (DEPTHWISE_NUMBERS(a) > 2 << 20)

/* out = activation(bias + convolution of each channel).  One item: one row of one image's output. */
KERNEL(depthwise_conv2d, a->batch * a->out_height, 0.5 * a->out_width * a->channels * a->kernel_height * a->kernel_width,
    float *out;           /* (batch, out_height, out_width, channels) */
    const float *images;  /* (batch, height, width, channels) */
    const float *kernel;  /* (kernel_height, kernel_width, channels) */
    OPTIONAL const float *bias;   /* (channels) */
    int64_t batch;
    int64_t height;
    int64_t width;
    int64_t channels;
    int64_t out_height;
    int64_t out_width;
    int64_t kernel_height;
    int64_t kernel_width;
    int64_t stride_height;
    int64_t stride_width;
    int64_t dilation_height;
    int64_t dilation_width;
    int64_t top;
    int64_t left;
    int64_t activation;)
{
    depthwise_line *lines = (depthwise_line *)worker->scratch;
    const int streamed = a->activation != ACT_SIGMOID && a->activation != ACT_TANH && streams(a->out, DEPTHWISE_NUMBERS(a), a->channels);
    const int plain = !streamed && a->kernel_height == 3 && a->kernel_width == 3 && a->stride_height == 1 && a->stride_width == 1 &&
                      a->dilation_height == 1 && a->dilation_width == 1 && a->activation != ACT_SIGMOID && a->activation != ACT_TANH;
    for (int64_t i = begin; i < end; i++) {
        int64_t n = 0;
        const int64_t top = i % a->out_height * a->stride_height - a->top, line = a->width * a->channels;
        const float *image = a->images + i / a->out_height * a->height * line;
        depthwise_sum s = {
            .out = a->out + i * a->out_width * a->channels, .out_step = a->channels, .lines = lines, .taps = a->kernel_width,
            .step = a->channels, .first = -a->left, .stride = a->stride_width, .dilation = a->dilation_width, .width = a->width,
            .channels = a->channels, .bias = a->bias, .activation = a->activation, .streamed = streamed,
            .order = BEYOND_CACHES(a) ? BY_LINES : BY_VECTORS };
        if (plain && i + 1 < end && i % a->out_height + 1 < a->out_height && top >= -1 && top + 2 < a->height) {
            for (int64_t l = 0; l < 4; l++)
                lines[l] = (depthwise_line){ top + l >= 0 && top + l < a->height ? image + (top + l) * line : 0, a->kernel };
            s.next = BEYOND_CACHES(a) ? image + (top + 4) * line : 0;
            if (depthwise_two_rows(&s, a->out_width)) { i++; continue; }
        }
        for (int64_t ky = 0; ky < a->kernel_height; ky++) {
            const int64_t y = top + ky * a->dilation_height;
            if (y >= 0 && y < a->height) lines[n++] = (depthwise_line){ image + y * line, a->kernel + ky * a->kernel_width * a->channels };
        }
        s.n_lines = n, s.next = n && BEYOND_CACHES(a) ? lines[n - 1].from + line : 0;
        depthwise_row(&s, a->out_width);
    }
    if (streamed) vstreams_end();
}

INLINE int64_t common_divisor(int64_t a, int64_t b) { while (b) { const int64_t r = a % b; a = b; b = r; } return a; }

/* Rows of d_images; `fetch`: the rows of d_out after them, too. */
static void d_images_rows(const void *arguments, int64_t begin, int64_t end, fd_worker *worker, int streamed, int fetch);

/* d_images: position x meets the taps with (x + left - kx * dilation) divisible by the stride, every `apart`-th of them, so the
   positions of one class x % stride are the outputs of a convolution of stride 1 over d_out, the taps from the last to the first.
   One item: one row of one image. */
KERNEL(depthwise_conv2d_d_images, a->batch * a->height,
       0.5 * a->width * a->channels * a->kernel_height * a->kernel_width / (a->stride_height * a->stride_width),
    float *d_images;      /* (batch, height, width, channels) */
    const float *d_out;   /* (batch, out_height, out_width, channels), before the activation */
    const float *kernel;  /* (kernel_height, kernel_width, channels) */
    int64_t batch;
    int64_t height;
    int64_t width;
    int64_t channels;
    int64_t out_height;
    int64_t out_width;
    int64_t kernel_height;
    int64_t kernel_width;
    int64_t stride_height;
    int64_t stride_width;
    int64_t dilation_height;
    int64_t dilation_width;
    int64_t top;
    int64_t left;)
{
    const int streamed = streams(a->d_images, DEPTHWISE_NUMBERS(a), a->channels);
    d_images_rows(a, begin, end, worker, streamed, BEYOND_CACHES(a));
    if (streamed) vstreams_end();
}

static void d_images_rows(const void *arguments, int64_t begin, int64_t end, fd_worker *worker, int streamed, int fetch)
{
    const depthwise_conv2d_d_images_args *a = arguments;
    depthwise_line *lines = (depthwise_line *)worker->scratch;
    const int64_t divisor = common_divisor(a->stride_width, a->dilation_width), apart = a->stride_width / divisor;
    for (int64_t i = begin; i < end; i++)
        for (int64_t class = 0; class < least(a->stride_width, a->width); class++) {
            int64_t last = a->kernel_width - 1, n = 0;
            while (last >= 0 && (class + a->left - last * a->dilation_width) % a->stride_width) last--;
            for (int64_t ky = 0; ky < a->kernel_height && last >= 0; ky++) {
                const int64_t y = i % a->height + a->top - ky * a->dilation_height;
                if (y < 0 || y % a->stride_height || y / a->stride_height >= a->out_height) continue;
                lines[n++] = (depthwise_line){
                    a->d_out + (i / a->height * a->out_height + y / a->stride_height) * a->out_width * a->channels,
                    a->kernel + (ky * a->kernel_width + last) * a->channels };
            }
            const depthwise_sum s = {
                .out = a->d_images + (i * a->width + class) * a->channels, .out_step = a->stride_width * a->channels, .lines = lines,
                .n_lines = n, .taps = last / apart + 1, .step = -apart * a->channels,
                .first = (class + a->left - last * a->dilation_width) / a->stride_width, .stride = 1,
                .dilation = a->dilation_width / divisor, .width = a->out_width, .channels = a->channels, .streamed = streamed,
                .order = BEYOND_CACHES(a) ? BY_BLOCKS : BY_VECTORS, .next = n && !class && fetch ? lines[0].from + a->out_width * a->channels : 0 };
            depthwise_row(&s, pieces(a->width - class, a->stride_width));
        }
}

/* GROUP outputs are read at once, BLOCK_OUTPUTS for all channels before the next ones where they lie in no cache. */
enum { MOST_ROWS = 3, MOST_TAPS = 5, GROUP = VL == 16 ? 7 : 4, BLOCK_OUTPUTS = VL == 16 ? 7 : 8 };

#define EACH(statement) UNROLL_ALL for (int r = 0; r < rows; r++) UNROLL_ALL for (int k = 0; k < taps; k++) { statement; }

/* Adds to the sums of `rows` x `taps` places of the kernel what `count` outputs from o give; each input is read once. `whole`: there are full
   vectors, and no more than one column on each side lies outside. `ahead`: how far away the next row of d_out lies, which is to be fetched with
   that of the images; 0: they lie in a cache. */
INLINE void depthwise_group(vf sum[MOST_ROWS][MOST_TAPS], const int count, const int rows, const int taps, const int stride,
                            const int whole, const float *d_out, const float *const *images, int64_t at, int64_t width, int64_t channels,
                            int64_t m, int64_t ahead)
{
    static const float zeros[VL];
    const int last = (count - 1) * stride + taps - 1;
    const float *from[MOST_ROWS];
    vf d[GROUP];
    if (ahead)
        UNROLL_ALL for (int j = 0; j < count; j++) {
            __builtin_prefetch(d_out + ahead + j * channels);
            __builtin_prefetch(images[rows - 1] + (width + at + j) * channels);
        }
    UNROLL_ALL for (int j = 0; j < count; j++) d[j] = whole ? vload(d_out + j * channels) : vload_n(d_out + j * channels, m);
    UNROLL_ALL for (int r = 0; r < rows; r++) from[r] = images[r] + at * channels;
    UNROLL_ALL for (int p = 0; p <= last; p++)
        UNROLL_ALL for (int r = 0; r < rows; r++) {
            const int outside = (p == 0 && at < 0) || (p == last && at + p >= width);
            const vf v = vheld(whole ? vload(outside ? zeros : from[r]) : seen(from[r], images[r], at + p, width, m));
            from[r] += channels;
            KEEP_POINTER(from[r]);
            UNROLL_ALL for (int k = 0; k < taps; k++)
                if (p >= k && (p - k) % stride == 0 && (p - k) / stride < count) sum[r][k] = vfma(v, d[(p - k) / stride], sum[r][k]);
        }
}

/* Adds to `rows` x `taps` places of d_kernel, for m channels, what the outputs begin .. stop - 1 of a row give: tap k of output o
   sees column x + o * step + k * dilation of the images' rows. stride is the step, or ANY. */
INLINE void depthwise_products(const int rows, const int taps, const int stride, float *d_kernel, int64_t d_row, const float *d_out,
                               const float *const *images, int64_t begin, int64_t stop, int64_t x, int64_t step, int64_t dilation,
                               int64_t width, int64_t channels, int64_t m, int64_t ahead)
{
    vf sum[MOST_ROWS][MOST_TAPS];
    EACH(sum[r][k] = vload_n(d_kernel + r * d_row + k * channels, m))
    for (int64_t o = begin, n; o < stop; o += n) {
        const int64_t at = x + o * step;
        const float *d = d_out + o * channels;
        n = stride != ANY && stop - o >= GROUP ? GROUP : 1;
        if (n == 1) {
            const vf v = vload_n(d, m);
            EACH(const int64_t column = at + k * dilation;
                 sum[r][k] = vfma(seen(images[r] + column * channels, images[r], column, width, m), v, sum[r][k]))
        } else if (m >= VL && at >= -1 && at + (GROUP - 1) * stride + taps - 1 <= width)
            depthwise_group(sum, GROUP, rows, taps, stride, 1, d, images, at, width, channels, m, ahead);
        else depthwise_group(sum, GROUP, rows, taps, stride, 0, d, images, at, width, channels, m, ahead);
    }
    EACH(vstore_n(d_kernel + r * d_row + k * channels, sum[r][k], m))
}

/* The row of the images from which on their gradient is computed with row r of the outputs. */
#define IMAGES_ROW(a, r) ((r) / (a)->out_height * (a)->height + least((r) % (a)->out_height * (a)->stride_height, (a)->height))

/* Each piece's part of d_kernel and of d_bias, a piece being so many rows of outputs; with an activation, d_z is d_out before it. And
   d_images: row by row of the piece, while d_out lies in the cache.  One item: one piece. */
KERNEL(depthwise_conv2d_d_kernel, pieces(a->batch * a->out_height, a->piece),
       (a->d_images ? 1.1 : 0.6) * a->piece * a->out_width * a->channels * a->kernel_height * a->kernel_width,
    float *d_kernel;      /* (pieces, kernel_height, kernel_width, channels) */
    OPTIONAL float *d_bias;       /* (pieces, channels) */
    OPTIONAL float *d_z;          /* as d_out */
    OPTIONAL float *d_images;     /* (batch, height, width, channels), where there is no activation */
    const float *d_out;   /* (batch, out_height, out_width, channels) */
    OPTIONAL const float *out;    /* as d_out; None: no activation */
    const float *images;  /* (batch, height, width, channels) */
    OPTIONAL const float *kernel; /* (kernel_height, kernel_width, channels), for d_images */
    int64_t batch;
    int64_t height;
    int64_t width;
    int64_t channels;
    int64_t out_height;
    int64_t out_width;
    int64_t kernel_height;
    int64_t kernel_width;
    int64_t stride_height;
    int64_t stride_width;
    int64_t dilation_height;
    int64_t dilation_width;
    int64_t top;
    int64_t left;
    int64_t activation;
    int64_t piece;)
{
    const int64_t channels = a->channels, line = a->out_width * channels, d_row = a->kernel_width * channels;
    const int streamed = a->d_images && streams(a->d_images, DEPTHWISE_NUMBERS(a), a->channels);
    const int64_t block = BEYOND_CACHES(a) ? BLOCK_OUTPUTS : a->out_width;
    const depthwise_conv2d_d_images_args of_images = {
        a->d_images, a->d_out, a->kernel, a->batch, a->height, a->width, channels, a->out_height, a->out_width, a->kernel_height, a->kernel_width,
        a->stride_height, a->stride_width, a->dilation_height, a->dilation_width, a->top, a->left };
    for (int64_t i = begin; i < end; i++) {
        float *own = a->d_kernel + i * a->kernel_height * d_row, *bias = a->d_bias ? a->d_bias + i * channels : 0;
        memset(own, 0, (size_t)(a->kernel_height * d_row) * sizeof(float));
        if (bias) memset(bias, 0, (size_t)channels * sizeof(float));
        for (int64_t row = i * a->piece; row < least((i + 1) * a->piece, a->batch * a->out_height); row++) {
            const float *d = a->d_out + row * line;
            if (a->out) {
                activation_gradient(a->d_z + row * line, d, a->out + row * line, line, a->activation);
                d = a->d_z + row * line;
            }
            if (bias)
                for (int64_t o = 0; o < a->out_width; o++)
                    for (int64_t c = 0; c < channels; c++) bias[c] += d[o * channels + c];
            const int64_t top = row % a->out_height * a->stride_height - a->top;
            int64_t low = 0, high = a->kernel_height;                /* the kernel's rows that see the image */
            while (low < high && top + low * a->dilation_height < 0) low++;
            while (low < high && top + (high - 1) * a->dilation_height >= a->height) high--;
            const float *image = a->images + (row / a->out_height * a->height + top) * a->width * channels;
            for (int64_t o = 0; o < a->out_width; o += block)
                for (int64_t ky = low, rows; ky < high; ky += rows) {
                    rows = a->kernel_width == 3 ? least(high - ky, MOST_ROWS) : 1;
                    const float *images[MOST_ROWS];
                    const int64_t ahead = BEYOND_CACHES(a) && ky + rows == high ? line : 0;
                    for (int64_t r = 0; r < rows; r++) images[r] = image + (ky + r) * a->dilation_height * a->width * channels;
                    for (int64_t kx = 0; kx < a->kernel_width; kx += MOST_TAPS) {
                        const int64_t taps = least(a->kernel_width - kx, MOST_TAPS), stop = least(o + block, a->out_width);
                        const int plain = a->dilation_width == 1 && a->stride_width <= 2 && (taps == 3 || taps == 5);
                        for (int64_t c = 0; c < channels; c += VL) {
                            const float *const from[MOST_ROWS] =
                                { images[0] + c, rows > 1 ? images[1] + c : 0, rows > 2 ? images[2] + c : 0 };
#define CASE(rows, taps, stride)                                                                                       \
                            case rows * 100 + taps * 10 + stride:                                                      \
                                depthwise_products(rows, taps, stride, own + ky * d_row + kx * channels + c, d_row, d + c, from, o, stop, \
                                                   kx * a->dilation_width - a->left, a->stride_width, a->dilation_width, a->width,        \
                                                   channels, channels - c, ahead);                                          \
                                break;
#define STRIDES(rows, taps) CASE(rows, taps, ANY) CASE(rows, taps, 1) CASE(rows, taps, 2)
                            switch (rows * 100 + taps * 10 + (plain ? a->stride_width : ANY)) {
                            CASE(1, 1, ANY) CASE(1, 2, ANY) CASE(1, 4, ANY) STRIDES(1, 3) STRIDES(2, 3) STRIDES(3, 3) STRIDES(1, 5)
                            }
#undef STRIDES
#undef CASE
                        }
                    }
                }
            if (a->d_images) d_images_rows(&of_images, IMAGES_ROW(a, row), IMAGES_ROW(a, row + 1), worker, streamed, 0);
        }
    }
    if (streamed) vstreams_end();
}
#undef EACH
