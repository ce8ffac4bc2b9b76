/* Which instruction sets this build has kernels for, and which of them this processor runs. */
#include "fastdl.h"

/* setup.py defines FD_<NAME> for each set that it builds. */
#ifdef FD_BASELINE
extern const fd_kernel *const fd_kernels_baseline[];
#else
#define fd_kernels_baseline 0
#endif
#ifdef FD_AVX2
extern const fd_kernel *const fd_kernels_avx2[];
#else
#define fd_kernels_avx2 0
#endif
#ifdef FD_AVX512
extern const fd_kernel *const fd_kernels_avx512[];
#else
#define fd_kernels_avx512 0
#endif
#ifdef FD_AVX512_BF16
extern const fd_kernel *const fd_kernels_avx512_bf16[];
#else
#define fd_kernels_avx512_bf16 0
#endif

const fd_isa *fd_isas(void)
{
    static fd_isa isas[5];
    int n = 0;
#ifdef __x86_64__
    __builtin_cpu_init();
    isas[n++] = (fd_isa){ "baseline", fd_kernels_baseline, __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt") };
    isas[n++] = (fd_isa){ "avx2", fd_kernels_avx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                          __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") };
    const int avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
                       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    isas[n++] = (fd_isa){ "avx512", fd_kernels_avx512, avx512 };
    isas[n++] = (fd_isa){ "avx512_bf16", fd_kernels_avx512_bf16, avx512 && __builtin_cpu_supports("avx512bf16") };
#else
    isas[n++] = (fd_isa){ "baseline", fd_kernels_baseline, 1 };
#endif
    isas[n] = (fd_isa){ 0, 0, 0 };
    return isas;
}
