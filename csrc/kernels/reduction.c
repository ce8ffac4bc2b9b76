/* reduction kernels. */
#include "kernel.h"
