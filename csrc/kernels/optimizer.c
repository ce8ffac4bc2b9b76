/* optimizer kernels. */
#include "kernel.h"
