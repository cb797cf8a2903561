// exp, erf, sine and cosine on sixteen lanes, ours so that they are the same
// bits everywhere. The coefficients are minimax fits made for these intervals.
// A NaN gives a NaN: Max and Min return their second operand for it.
#ifndef CONCLAVE_KERNELS_FAST_MATH_H_
#define CONCLAVE_KERNELS_FAST_MATH_H_

namespace conclave::kernels {

// `S` is SimdScalar or a twin.
template <typename S>
struct FastMath {
  using F = typename S::F;

  // e^x; 0 below -87.33, where fp32's normal numbers end, and infinity above
  // 88.72.
  static F Exp(F x) {
    const F low = S::Set1(-87.33f);
    const F high = S::Set1(88.72283f);
    const F clamped = S::Min(high, S::Max(low, x));
    const F n = S::Round(S::Mul(clamped, S::Set1(1.44269504f)));
    // ln 2 in two parts: the product with the first is exact.
    F r = S::Fnma(n, S::Set1(0.693359375f), clamped);
    r = S::Fnma(n, S::Set1(-2.12194440e-4f), r);
    F p = S::Set1(0.0013814610429108143f);
    p = S::Fma(p, r, S::Set1(0.008368710987269878f));
    p = S::Fma(p, r, S::Set1(0.04166838899254799f));
    p = S::Fma(p, r, S::Set1(0.1666652113199234f));
    p = S::Fma(p, r, S::Set1(0.4999999403953552f));
    p = S::Fma(S::Mul(r, r), p, r);
    p = S::Add(p, S::Set1(1.0f));
    // 2^n in two factors, because n can be 128.
    const F half = S::Round(S::Mul(n, S::Set1(0.5f)));
    p = S::Mul(S::Mul(p, S::PowerOfTwo(half)), S::PowerOfTwo(S::Sub(n, half)));
    p = S::IfLess(x, low, S::Set1(0.0f), p);
    return S::IfLess(high, x, S::Set1(__builtin_inff()), p);
  }

  // x / (1 + e^-x)
  static F Silu(F x) {
    const F one = S::Set1(1.0f);
    return S::Div(x, S::Add(one, Exp(S::Sub(S::Set1(0.0f), x))));
  }

  // x (1 + tanh(u)) / 2 with u = sqrt(2 / pi) (x + 0.044715 x^3), which is
  // x / (1 + e^-2u).
  static F GeluTanh(F x) {
    const F cubic =
        S::Fma(S::Mul(x, x), S::Set1(0.0713548163f), S::Set1(1.5957691216f));
    const F minus_2u = S::Mul(S::Sub(S::Set1(0.0f), x), cubic);
    return S::Div(x, S::Add(S::Set1(1.0f), Exp(minus_2u)));
  }

  static F Erf(F x) {
    const F square = S::Mul(x, x);
    F small = S::Set1(-0.0005862115067429841f);
    small = S::Fma(small, square, S::Set1(0.004967514891177416f));
    small = S::Fma(small, square, S::Set1(-0.02674887143075466f));
    small = S::Fma(small, square, S::Set1(0.11281321197748184f));
    small = S::Fma(small, square, S::Set1(-0.37612447142601013f));
    small = S::Fma(small, square, S::Set1(0.12837913632392883f));
    small = S::Fma(small, x, x);
    // 1 - e^(-t P(t)); from 4 on the answer is 1.
    const F t = S::Min(S::Set1(4.0f), S::Abs(x));
    F large = S::Set1(1.07631485661841e-05f);
    large = S::Fma(large, t, S::Set1(-0.0003180594649165869f));
    large = S::Fma(large, t, S::Set1(0.0036229179240763187f));
    large = S::Fma(large, t, S::Set1(-0.023720184341073036f));
    large = S::Fma(large, t, S::Set1(0.1061876118183136f));
    large = S::Fma(large, t, S::Set1(0.6351814866065979f));
    large = S::Fma(large, t, S::Set1(1.1286410093307495f));
    large = Exp(S::Sub(S::Set1(0.0f), S::Mul(large, t)));
    large = S::CopySign(S::Sub(S::Set1(1.0f), large), x);
    return S::IfLess(S::Abs(x), S::Set1(0.92f), small, large);
  }

  // The exact form: x (1 + erf(x / sqrt 2)) / 2.
  static F Gelu(F x) {
    const F erf = Erf(S::Mul(x, S::Set1(0.70710678f)));
    const F half = S::Mul(x, S::Set1(0.5f));
    return S::Fma(half, erf, half);
  }

  static void SinCos(double position, F freq, F& sin, F& cos) {
    F r;
    F quadrant;
    S::ReduceAngle(position, freq, r, quadrant);
    const F square = S::Mul(r, r);
    F s = S::Set1(2.7181215500604594e-06f);
    s = S::Fma(s, square, S::Set1(-0.00019839312881231308f));
    s = S::Fma(s, square, S::Set1(0.008333329111337662f));
    s = S::Fma(s, square, S::Set1(-0.1666666716337204f));
    s = S::Fma(S::Mul(square, r), s, r);
    F c = S::Set1(2.443845005473122e-05f);
    c = S::Fma(c, square, S::Set1(-0.001388736767694354f));
    c = S::Fma(c, square, S::Set1(0.04166664555668831f));
    c = S::Fma(c, square, S::Set1(-0.5f));
    c = S::Fma(c, square, S::Set1(1.0f));
    // Quadrants 1 and 3 exchange the two; then come the signs.
    const F one = S::Set1(1.0f);
    const F from_odd =
        S::Abs(S::Sub(S::Abs(S::Sub(quadrant, S::Set1(2.0f))), one));
    const F limit = S::Set1(0.5f);
    const F sin_magnitude = S::IfLess(from_odd, limit, c, s);
    const F cos_magnitude = S::IfLess(from_odd, limit, s, c);
    const F zero = S::Set1(0.0f);
    sin = S::IfLess(quadrant, S::Set1(1.5f), sin_magnitude,
                    S::Sub(zero, sin_magnitude));
    cos = S::IfLess(S::Abs(S::Sub(quadrant, S::Set1(1.5f))), one,
                    S::Sub(zero, cos_magnitude), cos_magnitude);
  }
};

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_FAST_MATH_H_
