/* Depthwise convolution over (batch, height, width, channels): vectors over channels, one filter a channel. With several filters
   a channel the images are repeated first. */
#include "tile.h"

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

/* One place of the kernel, as a row of outputs meets it: output i reads row `from` at column i * stride + offset. */
typedef struct depthwise_place { const float *from, *weights; int64_t offset; } depthwise_place;

enum { AT_ONCE = 6 };            /* outputs that share the loads of the weights */

INLINE void depthwise_outputs(const int count, float *out, int64_t out_step, int64_t i, const depthwise_place *places, int64_t n,
                              int64_t width, int64_t channels, int64_t stride, const float *bias, int64_t activation,
                              const int inside)
{
    for (int64_t c = 0; c < channels; c += VL) {
        const int64_t m = channels - c;
        vf sum[AT_ONCE];
        for (int j = 0; j < count; j++) sum[j] = vset(0);
        for (int64_t p = 0; p < n; p++) {
            const int64_t x = i * stride + places[p].offset;
            if (!inside && (x < 0 || x >= width)) continue;
            const vf w = vload_n(places[p].weights + c, m);
            const float *from = places[p].from + x * channels + c;
            for (int j = 0; j < count; j++) sum[j] = vfma(vload_n(from + j * stride * channels, m), w, sum[j]);
        }
        const vf b = bias ? vload_n(bias + c, m) : vset(-0.0f);
        for (int j = 0; j < count; j++) {
            const vf y = sum[j] + b;
            vstore_n(out + (i + j) * out_step + c, activation == ACT_RELU ? vrelu(y) : y, m);
        }
    }
}

/* out[i * out_step] for i < count, from the n places. */
static void depthwise_row(float *out, int64_t out_step, int64_t count, const depthwise_place *places, int64_t n, int64_t width,
                          int64_t channels, int64_t stride, const float *bias, int64_t activation)
{
    int64_t low = 0, high = 0;                       /* what the places reach to the left and to the right */
    for (int64_t p = 0; p < n; p++) low = most(low, -places[p].offset), high = most(high, places[p].offset);
    const int64_t first = least(pieces(low, stride), count);
    const int64_t stop = high < width ? most(least((width - 1 - high) / stride + 1, count), first) : first;
    for (int64_t i = 0; i < count; i++) {
        if (i < first || i >= stop) depthwise_outputs(1, out, out_step, i, places, n, width, channels, stride, bias, activation, 0);
        else if (i + AT_ONCE <= stop) {
            depthwise_outputs(AT_ONCE, out, out_step, i, places, n, width, channels, stride, bias, activation, 1);
            i += AT_ONCE - 1;
        } else depthwise_outputs(1, out, out_step, i, places, n, width, channels, stride, bias, activation, 1);
    }
    if (activation > ACT_RELU) tile_activate(out, out_step, count, channels, activation);
}

/* out = activation(bias + convolution of each channel).  One item: one row of one image's output. */
KERNEL(depthwise_conv2d, a->batch * a->out_height, 0.7 * a->out_width * a->channels * a->kernel_height * a->kernel_width,
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
    depthwise_place *places = (depthwise_place *)worker->scratch;
    for (int64_t i = begin; i < end; i++) {
        int64_t n = 0;
        for (int64_t k = 0; k < a->kernel_height * a->kernel_width; k++) {
            const int64_t y = i % a->out_height * a->stride_height - a->top + k / a->kernel_width * a->dilation_height;
            if (y < 0 || y >= a->height) continue;
            places[n++] = (depthwise_place){
                a->images + (i / a->out_height * a->height + y) * a->width * a->channels, a->kernel + k * a->channels,
                k % a->kernel_width * a->dilation_width - a->left };
        }
        depthwise_row(a->out + i * a->out_width * a->channels, a->channels, a->out_width, places, n, a->width, a->channels,
                      a->stride_width, a->bias, a->activation);
    }
}

/* d_images: a position x meets the places with (x + left - kx * dilation) divisible by the stride, so the positions of one class
   x % stride are the outputs of a convolution of stride 1 over d_out.  One item: one row of one image. */
KERNEL(depthwise_conv2d_d_images, a->batch * a->height,
       0.7 * a->width * a->channels * a->kernel_height * a->kernel_width / (a->stride_height * a->stride_width),
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
    depthwise_place *places = (depthwise_place *)worker->scratch;
    for (int64_t i = begin; i < end; i++)
        for (int64_t class = 0; class < least(a->stride_width, a->width); class++) {
            int64_t n = 0;
            for (int64_t k = 0; k < a->kernel_height * a->kernel_width; k++) {
                const int64_t y = i % a->height + a->top - k / a->kernel_width * a->dilation_height;
                const int64_t x = class + a->left - k % a->kernel_width * a->dilation_width;
                if (y < 0 || y % a->stride_height || y / a->stride_height >= a->out_height || x % a->stride_width) continue;
                places[n++] = (depthwise_place){
                    a->d_out + (i / a->height * a->out_height + y / a->stride_height) * a->out_width * a->channels,
                    a->kernel + k * a->channels, x / a->stride_width };
            }
            depthwise_row(a->d_images + (i * a->width + class) * a->channels, a->stride_width * a->channels,
                          pieces(a->width - class, a->stride_width), places, n, a->out_width, a->channels, 1, 0, ACT_LINEAR);
        }
}

enum { PLACES = 4 };             /* of a kernel's row, that share the loads of d_out */

/* Add to n places of d_kernel what one row of d_out gives, for up to VL channels: place k of output o sees column
   x + o * stride + k * dilation of the image's row `from`. */
INLINE void depthwise_sums(const int n, float *d_kernel, const float *d_out, const float *from, int64_t x, int64_t stride,
                           int64_t dilation, int64_t width, int64_t out_width, int64_t channels, int64_t m)
{
    const int64_t first = least(most(pieces(-x, stride), 0), out_width), room = width - 1 - x - (n - 1) * dilation;
    const int64_t stop = most(room < 0 ? 0 : least(room / stride + 1, out_width), first);    /* between, all places see the image */
    vf sum[PLACES];
    for (int k = 0; k < n; k++) sum[k] = vload_n(d_kernel + k * channels, m);
    for (int64_t o = 0; o < out_width; o++) {
        const int64_t at = x + o * stride;
        const vf d = vload_n(d_out + o * channels, m);
        if (o >= first && o < stop)
            for (int k = 0; k < n; k++) sum[k] = vfma(vload_n(from + (at + k * dilation) * channels, m), d, sum[k]);
        else
            for (int k = 0; k < n; k++)
                if (at + k * dilation >= 0 && at + k * dilation < width)
                    sum[k] = vfma(vload_n(from + (at + k * dilation) * channels, m), d, sum[k]);
    }
    for (int k = 0; k < n; k++) vstore_n(d_kernel + k * channels, sum[k], m);
}

/* Each piece's part of d_kernel, a piece being so many rows of outputs.  One item: one piece. */
KERNEL(depthwise_conv2d_d_kernel, pieces(a->batch * a->out_height, a->piece),
       0.7 * a->piece * a->out_width * a->channels * a->kernel_height * a->kernel_width,
    float *d_kernel;      /* (pieces, kernel_height, kernel_width, channels) */
    const float *d_out;   /* (batch, out_height, out_width, channels), before the activation */
    const float *images;  /* (batch, height, width, channels) */
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
    int64_t piece;)
{
    const int64_t channels = a->channels;
    for (int64_t i = begin; i < end; i++) {
        float *own = a->d_kernel + i * a->kernel_height * a->kernel_width * channels;
        memset(own, 0, (size_t)(a->kernel_height * a->kernel_width * channels) * sizeof(float));
        for (int64_t row = i * a->piece; row < least((i + 1) * a->piece, a->batch * a->out_height); row++)
            for (int64_t ky = 0; ky < a->kernel_height; ky++) {
                const int64_t y = row % a->out_height * a->stride_height - a->top + ky * a->dilation_height;
                if (y < 0 || y >= a->height) continue;
                const float *d = a->d_out + row * a->out_width * channels;
                const float *image = a->images + (row / a->out_height * a->height + y) * a->width * channels;
                for (int64_t kx = 0; kx < a->kernel_width; kx += PLACES) {
                    const int64_t n = least(a->kernel_width - kx, PLACES), x = kx * a->dilation_width - a->left;
                    for (int64_t c = 0; c < channels; c += VL) {
                        float *to = own + (ky * a->kernel_width + kx) * channels + c;
#define CASE(n) case n: depthwise_sums(n, to, d + c, image + c, x, a->stride_width, a->dilation_width, a->width, a->out_width, \
                                       channels, channels - c); break;
                        switch (n) { CASE(1) CASE(2) CASE(3) CASE(4) }
#undef CASE
                    }
                }
            }
    }
}
