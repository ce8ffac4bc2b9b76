/* random kernels. */
#include "kernel.h"
