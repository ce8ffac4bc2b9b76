/* indexing kernels. */
#include "kernel.h"
