/* shape kernels. */
#include "kernel.h"
