/* Random numbers and dropout. Which number is which: philox.h. */
#include "philox.h"

/* 24 bits as a number in 0 .. 1, 1 not included */
INLINE vf unit(const uint32_t *bits) { return vtofloat(viload((const int32_t *)bits) >> 8 & viset(0xffffff)) * vset(0x1p-24f); }

/* 32 bits as a number in 0 .. 1, 0 not included */
INLINE vf above_zero(const uint32_t *bits)
{
    const vi b = viload((const int32_t *)bits);
    return vfma(vtofloat(b >> 16 & viset(0xffff)), vset(0x1p-16f), vtofloat(b & viset(0xffff)) * vset(0x1p-32f) + vset(0x1p-32f));
}

/* Two independent standard normal numbers of two words (Box and Muller, 1958). */
INLINE void normal_pair(const uint32_t *first, const uint32_t *second, vf *a, vf *b)
{
    const vf radius = vsqrt(vset(-2) * vlog(above_zero(first))), angle = unit(second) * vset(6.283185307179586f);
    *a = radius * vcos(angle);
    *b = radius * vsin(angle);
}

/* 64 standard normal numbers in the order of their indices */
INLINE void normal_group(float *normal, const philox *p)
{
    for (int w = 0; w < 4; w += 2)
        for (int l = 0; l < 16; l += VL) {
            vf a, b;
            normal_pair(p->bits + w * 16 + l, p->bits + w * 16 + 16 + l, &a, &b);
            vstore(normal + w * 16 + l, a);
            vstore(normal + w * 16 + 16 + l, b);
        }
}

/* key = state; state[1] += 1: a key for one draw.  One item. */
KERNEL(next_key, 1, 1,
    int64_t *key;         /* (2) */
    int64_t *state;       /* (2) seed, draws so far */)
{
    a->key[0] = a->state[0];
    a->key[1] = a->state[1]++;
}

/* y uniform in low .. high.  One item: 64 numbers. */
KERNEL(random_uniform, pieces(a->size, 64), 200,
    float *y;             /* (size) */
    const int64_t *key;   /* (2) */
    int64_t size;
    double low;
    double high;)
{
    const vf low = vset((float)a->low), width = vset((float)(a->high - a->low));
    for (int64_t i = begin; i < end; i++) {
        const philox p = philox_group(a->key, i, 0);
        for (int64_t j = 0; j < 64 && i * 64 + j < a->size; j += VL)
            vstore_n(a->y + i * 64 + j, vfma(unit(p.bits + j), width, low), a->size - i * 64 - j);
    }
}

/* y = low .. low + range - 1, each as likely.  One item: 64 numbers. */
KERNEL(random_integers, pieces(a->size, 64), 200,
    int32_t *y;           /* (size) */
    const int64_t *key;   /* (2) */
    int64_t size;
    int64_t low;
    int64_t range;)
{
    for (int64_t i = begin; i < end; i++) {
        const philox p = philox_group(a->key, i, 0);
        for (int64_t j = 0; j < 64 && i * 64 + j < a->size; j++)
            a->y[i * 64 + j] = (int32_t)(a->low + (int64_t)((uint64_t)p.bits[j] * (uint64_t)a->range >> 32));
    }
}

/* y = x + mean + deviation * normal numbers; those beyond `most` deviations are drawn again.  One item: 64 numbers. */
KERNEL(random_normal, pieces(a->size, 64), 500,
    float *y;             /* (size) */
    OPTIONAL const float *x;  /* (size) */
    const int64_t *key;   /* (2) */
    int64_t size;
    double mean;
    double deviation;
    double most;)         /* infinity: none is drawn again */
{
    const vf mean = vset((float)a->mean), deviation = vset((float)a->deviation);
    for (int64_t i = begin; i < end; i++) {
        float normal[64], again[64];
        philox p = philox_group(a->key, i, 0);
        normal_group(normal, &p);
        for (uint32_t attempt = 1, wrong = isfinite(a->most); wrong && attempt < 65536; attempt++) {
            wrong = 0;
            for (int j = 0; j < 64; j++) wrong |= fabsf(normal[j]) > (float)a->most;
            if (!wrong) break;
            p = philox_group(a->key, i, attempt);
            normal_group(again, &p);
            for (int j = 0; j < 64; j++) if (fabsf(normal[j]) > (float)a->most) normal[j] = again[j];
        }
        for (int64_t j = 0; j < 64 && i * 64 + j < a->size; j += VL) {
            const int64_t at = i * 64 + j, n = a->size - at;
            vf y = vfma(vload(normal + j), deviation, mean);
            if (a->x) y += vload_n(a->x + at, n);
            vstore_n(a->y + at, y, n);
        }
    }
}

/* y = x * scale where the number's 32 random bits are at least `threshold`, else 0.  One item: 64 numbers. */
KERNEL(dropout, pieces(a->size, 64), 200,
    float *y;             /* (size) */
    const float *x;       /* (size) */
    const int64_t *key;   /* (2) */
    int64_t size;
    int64_t threshold;
    double scale;)
{
    const vf scale = vset((float)a->scale);
    for (int64_t i = begin; i < end; i++) {
        const philox p = philox_group(a->key, i, 0);
        for (int64_t j = 0; j < 64 && i * 64 + j < a->size; j += VL) {
            const int64_t at = i * 64 + j, n = a->size - at;
            vstore_n(a->y + at, drop(vload_n(a->x + at, n), p.bits + j, (uint32_t)a->threshold, scale), n);
        }
    }
}
