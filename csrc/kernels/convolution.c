/* convolution kernels. */
#include "kernel.h"
