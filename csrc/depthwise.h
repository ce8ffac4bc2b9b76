/* A row of outputs of a depthwise convolution. */
#ifndef DEPTHWISE_H
#define DEPTHWISE_H

#include "tile.h"

/* One row of outputs of a convolution: output i is the sum over the lines and over tap t < taps of
       line.from[first + i * stride + t * dilation] * line.weights[t * step]
   where that column lies in 0 .. width - 1. Lines and taps are added in their order. */
typedef struct depthwise_line { const float *from, *weights; } depthwise_line;

/* What comes first, where the compiler knows the taps: all outputs of a vector of channels; some outputs of all channels; and of these the
   lines one after another. The latter are for rows that lie in no cache: gradients of images are 5 to 7 % faster by blocks, forward not. */
enum { BY_VECTORS, BY_BLOCKS, BY_LINES };

typedef struct depthwise_sum {
    float *out; int64_t out_step;                    /* floats from output to output */
    const depthwise_line *lines;
    int64_t n_lines, taps, step, first, stride, dilation, width, channels;
    const float *bias;                               /* may be null */
    int64_t activation;
    int streamed;                                    /* see kernel.h */
    int order;                                       /* of the above */
    const float *next;                               /* the row that the next outputs see first, to be fetched; null: it lies in a cache */
} depthwise_sum;

#define depthwise_row FD_OF_REST(depthwise_row)
void depthwise_row(const depthwise_sum *s, int64_t count);

#endif
