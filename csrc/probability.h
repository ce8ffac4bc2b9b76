/* Probabilities clipped as in Keras, for the losses that take their logarithm. */
#ifndef PROBABILITY_H
#define PROBABILITY_H

#include "kernel.h"

#define LEAST 1e-7f
#define MOST (1 - 1e-7f)

INLINE vf clip_probability(vf p) { return vpick(p < vset(LEAST), vset(LEAST), vpick(p > vset(MOST), vset(MOST), p)); }

#endif
