/* pooling kernels. */
#include "kernel.h"
