/* What lays out the lanes of many vectors anew; part of simd.h. */
#ifndef SIMD_LANES_H
#define SIMD_LANES_H

/* Lane i: the lanes of r[i], added as VFOLD does; VL vectors. */
SIMD vf vsums(const vf *r)
{
#if defined(__AVX512F__)
    __m512 x[8], y[4], z[2];
    for (int i = 0; i < 8; i++) {                /* i / 4 * 8 + i % 4 in the lower half, 4 more in the upper */
        const __m512 a = r[i / 4 * 8 + i % 4], b = r[i / 4 * 8 + i % 4 + 4];
        x[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    }
    for (int i = 0; i < 4; i++)                  /* i, 4 + i, 8 + i, 12 + i: a quarter each */
        y[i] = _mm512_add_ps(_mm512_shuffle_f32x4(x[i], x[i + 4], 0x88), _mm512_shuffle_f32x4(x[i], x[i + 4], 0xdd));
    for (int i = 0; i < 2; i++)
        z[i] = _mm512_add_ps((__m512)_mm512_unpacklo_pd((__m512d)y[2 * i], (__m512d)y[2 * i + 1]),
                             (__m512)_mm512_unpackhi_pd((__m512d)y[2 * i], (__m512d)y[2 * i + 1]));
    return _mm512_add_ps(_mm512_shuffle_ps(z[0], z[1], 0x88), _mm512_shuffle_ps(z[0], z[1], 0xdd));
#elif defined(__AVX2__)
    __m256 x[4], z[2];
    for (int i = 0; i < 4; i++)                  /* i in the lower half, 4 + i in the upper */
        x[i] = _mm256_add_ps(_mm256_permute2f128_ps(r[i], r[i + 4], 0x20), _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    for (int i = 0; i < 2; i++)
        z[i] = _mm256_add_ps((__m256)_mm256_unpacklo_pd((__m256d)x[2 * i], (__m256d)x[2 * i + 1]),
                             (__m256)_mm256_unpackhi_pd((__m256d)x[2 * i], (__m256d)x[2 * i + 1]));
    return _mm256_add_ps(_mm256_shuffle_ps(z[0], z[1], 0x88), _mm256_shuffle_ps(z[0], z[1], 0xdd));
#else
    vf y;
    for (int i = 0; i < VL; i++) {
        vf x = r[i];
        VFOLD(vadd, x);
        y[i] = x[0];
    }
    return y;
#endif
}

/* Lane i: vsum16 of the i-th of VL sums, at less cost than one after the other. */
SIMD vf vsums16(vf (*s)[SUM16])
{
    vf x[VL];
    for (int i = 0; i < VL; i++)
        x[i] = SUM16 == 1 ? s[i][0] : SUM16 == 2 ? s[i][0] + s[i][SUM16 / 2] :
               (s[i][0] + s[i][SUM16 / 2]) + (s[i][SUM16 / 4] + s[i][SUM16 * 3 / 4]);
    return vsums(x);
}

/* p[4 i], p[4 i + 1] …: lane i of a, b, c and d. */
SIMD void vstore_by_four(float *p, vf a, vf b, vf c, vf d)
{
#if defined(__AVX2__)
#if defined(__AVX512F__)
#define OF(f) _mm512_##f
    typedef __m512d pairs;
#else
#define OF(f) _mm256_##f
    typedef __m256d pairs;
#endif
    const vf ab = OF(unpacklo_ps)(a, b), ab2 = OF(unpackhi_ps)(a, b), cd = OF(unpacklo_ps)(c, d), cd2 = OF(unpackhi_ps)(c, d);
    const vf x[4] = {                            /* quarter q of vector k: of lane 4 q + k */
        (vf)OF(unpacklo_pd)((pairs)ab, (pairs)cd), (vf)OF(unpackhi_pd)((pairs)ab, (pairs)cd),
        (vf)OF(unpacklo_pd)((pairs)ab2, (pairs)cd2), (vf)OF(unpackhi_pd)((pairs)ab2, (pairs)cd2),
    };
#undef OF
    for (int k = 0; k < 4; k++) {
#if defined(__AVX512F__)
        _mm_storeu_ps(p + 4 * k, _mm512_castps512_ps128(x[k]));
        _mm_storeu_ps(p + 16 + 4 * k, _mm512_extractf32x4_ps(x[k], 1));
        _mm_storeu_ps(p + 32 + 4 * k, _mm512_extractf32x4_ps(x[k], 2));
        _mm_storeu_ps(p + 48 + 4 * k, _mm512_extractf32x4_ps(x[k], 3));
#else
        _mm_storeu_ps(p + 4 * k, _mm256_castps256_ps128(x[k]));
        _mm_storeu_ps(p + 16 + 4 * k, _mm256_extractf128_ps(x[k], 1));
#endif
    }
#else
    for (int i = 0; i < VL; i++, p += 4) p[0] = a[i], p[1] = b[i], p[2] = c[i], p[3] = d[i];
#endif
}

#endif
