/* loss kernels. */
#include "kernel.h"
