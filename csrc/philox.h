/* Random numbers: Philox 4x32-10 (Salmon et al., 2011), a function of key and counter, so that every number depends only on
   the generator's seed, on how many draws came before, and on its own index.

   The numbers of a draw come in groups of 64: 16 lanes by the 4 words of a Philox block. Number i is word i % 64 / 16 of block
   16 (i / 64) + i % 16. The counter is (block: 64 bits, draw: 48 bits, attempt: 16 bits); the key is the seed. */
#ifndef PHILOX_H
#define PHILOX_H

#include "kernel.h"

typedef struct { uint32_t bits[64]; } philox;

INLINE vu vuset(uint32_t x) { return (vu)viset((int32_t)x); }

INLINE philox philox_group(const int64_t *key, int64_t group, uint32_t attempt)
{
    philox p;
    const uint64_t first = (uint64_t)group * 16;          /* the 16 blocks of a group differ in their lower half only */
    for (int l = 0; l < 16; l += VL) {
        vu c0 = vuset((uint32_t)first + (uint32_t)l) + (vu)vlanes(), c1 = vuset((uint32_t)(first >> 32)), c2 = vuset((uint32_t)key[1]);
        vu c3 = vuset((uint32_t)((uint64_t)key[1] >> 32) << 16 | attempt);
        uint32_t k0 = (uint32_t)key[0], k1 = (uint32_t)((uint64_t)key[0] >> 32);
        for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
            vu high0, low0, high1, low1;
            vmul_wide(c0, 0xD2511F53u, &high0, &low0);
            vmul_wide(c2, 0xCD9E8D57u, &high1, &low1);
            c0 = high1 ^ c1 ^ vuset(k0);
            c1 = low1;
            c2 = high0 ^ c3 ^ vuset(k1);
            c3 = low0;
        }
        vistore((int32_t *)p.bits + l, (vi)c0);
        vistore((int32_t *)p.bits + 16 + l, (vi)c1);
        vistore((int32_t *)p.bits + 32 + l, (vi)c2);
        vistore((int32_t *)p.bits + 48 + l, (vi)c3);
    }
    return p;
}

/* `kept` times x where the random bits are at least `threshold`, else 0. */
INLINE vf drop(vf x, const uint32_t *bits, uint32_t threshold, vf kept)
{
    const vi order = viload((const int32_t *)bits) ^ viset(INT32_MIN);                        /* unsigned order */
    return vpick(order >= viset((int32_t)(threshold ^ 0x80000000u)), x * kept, vset(0));
}

#endif
