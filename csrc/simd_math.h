/* exp, log, tanh, sigmoid, erf, sin, cos over vectors: at most 4 units in the last place from the true value for every float
   (tests/test_math_accuracy.py), NaN for NaN, and the same bits on every instruction set that has fma.

   Coefficients: minimax fits of the relative error over the interval named beside them. */
#ifndef SIMD_MATH_H
#define SIMD_MATH_H

/* p 2^n for a whole n of -152 to 128, rounded once. Two factors, so that 2^128 and results below 2^-126 come out right. */
SIMD vf vscale(vf p, vf n)
{
#if defined(__AVX512F__)
    return _mm512_scalef_ps(p, n);
#else
    vi k = vtoint(n), half = k >> 1;
    return (vf)((vi)p + (half << 23)) * (vf)((k - half + viset(127)) << 23);
#endif
}

/* 2^n for a whole n of -126 to 127 */
SIMD vf vpower_of_two(vf n)
{
#if defined(__AVX512F__)
    return _mm512_scalef_ps(vset(1), n);
#else
    return (vf)((vtoint(n) + viset(127)) << 23);
#endif
}

/* |y| with the sign of x */
SIMD vf vsign_of(vf y, vf x) { return (vf)(((vi)y & ~viset(INT32_MIN)) | ((vi)x & viset(INT32_MIN))); }

/* x = n ln2 + r, |r| <= ln2 / 2, n whole */
SIMD vf vreduce_exp(vf x, vf *n)
{
    *n = vround(x * vset(1.44269504f));
    vf r = vfma(*n, vset(-0.693145752f), x);             /* ln2 in two parts: 15 bits of it, the rest */
    return vfma(*n, vset(-1.42860677e-6f), r);
}

/* (exp(r) - 1 - r) / r^2 for |r| <= ln2 / 2, to 1.4e-8 of expm1 */
SIMD vf vexp_tail(vf r)
{
    vf q = vset(1.38825161e-3f);
    q = vfma(q, r, vset(8.36654711e-3f));
    q = vfma(q, r, vset(4.16672007e-2f));
    q = vfma(q, r, vset(1.66665434e-1f));
    return vfma(q, r, vset(0.499999981f));
}

SIMD vf vexp(vf x)
{
    vf n, r = vreduce_exp(vlesser(vset(89), vgreater(vset(-104.5f), x)), &n);
    return vscale(vfma(vfma(vexp_tail(r), r, vset(1)), r, vset(1)), n);
}

/* exp(x) - 1 = 2^n (exp(r) - 1) + (2^n - 1); for n = 128 half of it, doubled */
SIMD vf vexpm1(vf x)
{
    vf n, r = vreduce_exp(vlesser(vset(89), vgreater(vset(-18), x)), &n);
    vf s = vfma(vexp_tail(r) * r, r, r), large = vpick_less(vset(127), n, vset(1), vset(0));
    vf scale = vpower_of_two(n - large), y = vfma(s, scale, scale - vset(1));
    return vpick(vabs(x) < vset(1e-8f), x, vpick_less(vset(0), large, y + y, y));
}

/* x = 2^k m, 2/3 <= m < 4/3; y = log(x) = log(1 + (m - 1)) + k ln2. For x > 0 and finite. */
SIMD vf vlog_positive(vf x)
{
    vi tiny = x < vset(1.17549435e-38f);
    x = vpick(tiny, x * vset(8388608), x);
    vi k = ((vi)x - viset(0x3f2aaaab)) >> 23;
    vf f = (vf)((vi)x - (k << 23)) - vset(1), e = vtofloat(k - (tiny & viset(23)));
    vf q = vset(0.140263720f);                           /* (log(1 + f) - f) / f^2 for |f| <= 1/3, to 2.6e-8 of log(1 + f) */
    q = vfma(q, f, vset(-0.153885352f));
    q = vfma(q, f, vset(0.139958040f));
    q = vfma(q, f, vset(-0.164159617f));
    q = vfma(q, f, vset(0.200111689f));
    q = vfma(q, f, vset(-0.250078188f));
    q = vfma(q, f, vset(0.333331981f));
    q = vfma(q, f, vset(-0.499999361f));
    vf low = vfma(q * f, f, e * vset(-2.12194440e-4f));  /* ln2 in two parts: 9 bits of it, the rest */
    return vfma(e, vset(0.693359375f), f + low);
}

SIMD vf vlog(vf x)
{
    vf y = vpick_less(x, vset(INFINITY), vlog_positive(x), x);                       /* inf and NaN stay */
    return vpick_less(vset(0), x, y, vpick(x == vset(0), vset(-INFINITY), x - x + vset(NAN)));
}

/* log(1 + x) = log(u) + (x - (u - 1)) / u for u = 1 + x rounded */
SIMD vf vlog1p(vf x)
{
    vf u = x + vset(1), y = vlog(u) + (x - (u - vset(1))) / u;
    return vpick(u == vset(1), x, vpick((u == vset(0)) | (u == vset(INFINITY)), vlog(u), y));
}

/* 1.5 2^23: x + ROUNDING is x rounded, in the low bits of the sum, for |x| < 2^22 */
#define ROUNDING 12582912.0f

/* exp(r) for x = n ln2 + r, to 9.2e-8; *t = n + bias, rounded so, bias some ROUNDING more */
SIMD vf vexp_rest(vf x, float bias, vf *t)
{
    *t = vfma(x, vset(1.44269504f), vset(bias));
    vf n = *t - vset(bias), r = vfma(n, vset(-1.42860677e-6f), vfma(n, vset(-0.693145752f), x));
    vf q = vset(8.28957744e-3f);
    q = vfma(q, r, vset(4.18978222e-2f));
    q = vfma(q, r, vset(0.166676491f));
    q = vfma(q, r, vset(0.499991506f));
    return vfma(vfma(q, r, vset(0.999999702f)), r, vset(1));
}

/* exp(x) for x <= 0, cheaper */
SIMD vf vexp_negative(vf x)
{
    vf t, e = vexp_rest(vgreater(vset(-104.5f), x), ROUNDING, &t);
    return vscale(e, t - vset(ROUNDING));
}

/* 1 + exp(x) for -87 <= x <= 88.8; infinity from 88.4 on, where n is 128 */
SIMD vf vone_and_exp(vf x)
{
    vf t, e = vexp_rest(x, ROUNDING + 127, &t);
    return vfma(e, (vf)((vu)t << 23), vset(1));          /* 2^n: the bits of n + 127 are its exponent */
}

SIMD vf vsigmoid(vf x)
{
    vf e = vexp_negative((vf)((vi)x | viset(INT32_MIN)));       /* exp(-|x|) */
    return vpick_less(x, vset(0), e, vset(1)) / (vset(1) + e);
}

/* m / (2 - m) with the sign of x, m = 1 - 2^(n + r) = -2^n (2^r - 1) + (1 - 2^n), by t = n + TANH_BIAS, whose low bits are -2^n's exponent
   (256 becomes the sign); 2^r - 1 to 1.7e-8, with log2 e as it is rounded in vtanh */
#define TANH_BIAS (ROUNDING + 127 + 256)
SIMD vf vtanh_of_power(vf t, vf r, vf x)
{
    vf power = (vf)((vu)t << 23), p = vset(1.53923043e-4f);
    p = vfma(p, r, vset(1.33815024e-3f));
    p = vfma(p, r, vset(9.61824879e-3f));
    p = vfma(p, r, vset(5.55038489e-2f));
    p = vfma(p, r, vset(0.240226507f));
    p = vfma(p, r, vset(0.693147182f));
    vf m = vfma(p, power * r, power + vset(1));
    return (vf)((vi)(m / (vset(2) - m)) | ((vi)x & viset(INT32_MIN)));
}

/* tanh(|x|) with 2^(n + r) = exp(-2|x|) */
SIMD vf vtanh(vf x)
{
    vf a = vlesser(vset(9.02f), vabs(x)), t = vfma(a, vset(-2.88539004f), vset(TANH_BIAS));
    return vtanh_of_power(t, vfma(a, vset(-2.88539004f), vset(TANH_BIAS) - t), x);
}

/* tanh(x R(x^2)), R a polynomial for |x| <= 3.93, to 4.4e-8 of erf; beyond that float32 knows only 1. Here it is R 2 log2 e. */
SIMD vf verf(vf x)
{
    vf a = vlesser(vset(3.93f), vabs(x)), s = a * a, r = vset(-3.58701513e-9f);
    r = vfma(r, s, vset(1.22515054e-7f));
    r = vfma(r, s, vset(-1.13437664e-6f));
    r = vfma(r, s, vset(-7.12730926e-6f));
    r = vfma(r, s, vset(2.24989344e-4f));
    r = vfma(r, s, vset(-1.74658897e-3f));
    r = vfma(r, s, vset(-5.81578503e-4f));
    r = vfma(r, s, vset(0.296535522f));
    r = -a * vfma(r, s, vset(3.25581408f));
    vf t = r + vset(TANH_BIAS);
    return vtanh_of_power(t, r + (vset(TANH_BIAS) - t), x);
}

/* Up to here a sine is reduced by vfma, whose products must be exact. */
#if defined(__FMA__) || defined(__aarch64__)
#define SINE_LIMIT 100000
#else
#define SINE_LIMIT 0
#endif

/* y, with sin(x + quarter pi/2) in double in the lanes beyond; once for all that call it, as it takes a kilobyte and seldom runs. */
static __attribute__((noinline, unused)) vf vsin_far(vf x, vf y, int32_t quarter)
{
    for (int i = 0; i < VL; i++)
        if (!(fabsf(x[i]) <= SINE_LIMIT)) y[i] = (float)(quarter ? cos(x[i]) : sin(x[i]));
    return y;
}

/* sin(x + quarter pi/2): x = n pi/2 + r, |r| <= pi/4, by pi/2 in three parts, while n is small; else in double. */
SIMD vf vsin_shifted(vf x, int32_t quarter)
{
    vf n = vround(x * vset(0.636619772f));
    vf r = vfma(n, vset(-1.57079637f), x);
    r = vfma(n, vset(4.37113883e-8f), r);
    r = vfma(n, vset(1.71512489e-15f), r);
    vi k = vtoint(n) + viset(quarter);
    vf t = r * r, s = vset(-1.95149575e-4f), c = vset(2.44324942e-5f);
    s = vfma(s, t, vset(8.33215841e-3f));
    s = vfma(s, t, vset(-0.166666546f));
    s = vfma(s * t, r, r);
    c = vfma(c, t, vset(-1.38873101e-3f));
    c = vfma(c, t, vset(4.16666455e-2f));
    c = vfma(c, t, vset(-0.5f));
    c = vfma(c, t, vset(1));
    vf y = vpick((k & viset(1)) == viset(1), c, s);
    y = (vf)((vi)y ^ ((k & viset(2)) << 30));
    if (!quarter) y = vpick(x == vset(0), x, y);         /* -0 */
    const vf near = vpick_less(vset(SINE_LIMIT), vabs(x), vset(NAN), y);
    return vall(vordered(near, near)) ? y : vsin_far(x, y, quarter);
}

SIMD vf vsin(vf x) { return vsin_shifted(x, 0); }
SIMD vf vcos(vf x) { return vsin_shifted(x, 1); }

#endif
