/* exp, log, tanh, sigmoid, erf over vectors. */
#ifndef SIMD_MATH_H
#define SIMD_MATH_H

/* exp: x = n ln2 + r, |r| <= ln2 / 2, exp(x) = 2^n p(r). Two factors 2^(n/2), so that n = 128 and denormals come out right. */
SIMD vf vexp(vf x)
{
    vf n = vround(x * vset(1.44269504088896341f));
    n = vpick(n > vset(130), vset(130), vpick(n < vset(-152), vset(-152), n));
    vf r = vfma(n, vset(-0.693145751953125f), x);
    r = vfma(n, vset(-1.42860682030941723212e-6f), r);
    vf p = vset(1.9875691500e-4f);
    p = vfma(p, r, vset(1.3981999507e-3f));
    p = vfma(p, r, vset(8.3334519073e-3f));
    p = vfma(p, r, vset(4.1665795894e-2f));
    p = vfma(p, r, vset(1.6666665459e-1f));
    p = vfma(p, r, vset(5.0000001201e-1f));
    p = vfma(p, r * r, r) + vset(1);
    vi k = vtoint(n), half = k >> 1, rest = k - half;
    vf y = p * (vf)((half + viset(127)) << 23) * (vf)((rest + viset(127)) << 23);
    y = vpick(x > vset(88.7228394f), vset(INFINITY), y);
    y = vpick(x < vset(-103.972084f), vset(0), y);
    return vpick(x != x, x, y);
}

SIMD vf vsigmoid(vf x)
{
    vf e = vexp(-vabs(x)), s = vset(1) / (vset(1) + e);
    return vpick(x < vset(0), e * s, s);
}

SIMD vf vtanh(vf x)
{
    vf a = vabs(x), x2 = x * x;
    vf p = vset(-5.70498872745e-3f);                      /* |x| < 0.625 */
    p = vfma(p, x2, vset(2.06390887954e-2f));
    p = vfma(p, x2, vset(-5.37397155531e-2f));
    p = vfma(p, x2, vset(1.33314422036e-1f));
    p = vfma(p, x2, vset(-3.33332819422e-1f));
    vf small = vfma(p * x2, x, x);
    vf e = vexp(a + a), large = vset(1) - vset(2) / (e + vset(1));
    large = (vf)((vi)large | ((vi)x & viset(INT32_MIN)));
    return vpick(x != x, x, vpick(a < vset(0.625f), small, large));
}

#endif
