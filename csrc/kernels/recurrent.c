/* recurrent kernels. */
#include "kernel.h"
