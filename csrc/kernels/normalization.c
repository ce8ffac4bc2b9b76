/* normalization kernels. */
#include "kernel.h"
