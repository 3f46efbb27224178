// Real spherical harmonics in the basis and sign convention of 3D Gaussian splatting, degree 0 to 3.
#pragma once

#include "cpu_simd.h"

namespace dreamsplat {

// basis[k] for k < coefficients, at unit vectors d.
DREAMSPLAT_INLINE void sh_basis(const V16* d, int coefficients, V16* basis) {
    basis[0] = 0.28209479177387814f;
    if (coefficients < 4) return;
    const V16 x = d[0], y = d[1], z = d[2];
    basis[1] = y * -0.4886025119029199f;
    basis[2] = z * 0.4886025119029199f;
    basis[3] = x * -0.4886025119029199f;
    if (coefficients < 9) return;
    const V16 xx = x * x, yy = y * y, zz = z * z, xy = x * y;
    basis[4] = xy * 1.0925484305920792f;
    basis[5] = y * z * -1.0925484305920792f;
    basis[6] = (zz + zz - xx - yy) * 0.31539156525252005f;
    basis[7] = x * z * -1.0925484305920792f;
    basis[8] = (xx - yy) * 0.5462742152960396f;
    if (coefficients < 16) return;
    const V16 four(4), three(3);
    basis[9] = y * (three * xx - yy) * -0.5900435899266435f;
    basis[10] = xy * z * 2.890611442640554f;
    basis[11] = y * (four * zz - xx - yy) * -0.4570457994644658f;
    basis[12] = z * (zz + zz - three * (xx + yy)) * 0.3731763325901154f;
    basis[13] = x * (four * zz - xx - yy) * -0.4570457994644658f;
    basis[14] = z * (xx - yy) * 1.445305721320277f;
    basis[15] = x * (xx - three * yy) * -0.5900435899266435f;
}

// Gradient of sum_k weight[k] basis[k] by (x, y, z), as polynomials of free x, y, z. The part along d means nothing.
DREAMSPLAT_INLINE void sh_gradient(const V16* d, int coefficients, const V16* weight, V16* out) {
    out[0] = out[1] = out[2] = 0.0f;
    if (coefficients < 4) return;
    const V16 x = d[0], y = d[1], z = d[2];
    out[0] = weight[3] * -0.4886025119029199f;
    out[1] = weight[1] * -0.4886025119029199f;
    out[2] = weight[2] * 0.4886025119029199f;
    if (coefficients < 9) return;
    const V16 a4 = weight[4] * 1.0925484305920792f, a5 = weight[5] * -1.0925484305920792f;
    const V16 a6 = weight[6] * 0.6307831305050401f, a7 = weight[7] * -1.0925484305920792f;
    const V16 a8 = weight[8] * 1.0925484305920792f;
    out[0] += y * a4 - x * a6 + z * a7 + x * a8;
    out[1] += x * a4 + z * a5 - y * a6 - y * a8;
    out[2] += y * a5 + (z + z) * a6 + x * a7;
    if (coefficients < 16) return;
    const V16 xx = x * x, yy = y * y, zz = z * z, xy = x * y, two(2), three(3), four(4), six(6);
    const V16 b9 = weight[9] * -0.5900435899266435f, b10 = weight[10] * 2.890611442640554f;
    const V16 b11 = weight[11] * -0.4570457994644658f, b12 = weight[12] * 0.3731763325901154f;
    const V16 b13 = weight[13] * -0.4570457994644658f, b14 = weight[14] * 1.445305721320277f;
    const V16 b15 = weight[15] * -0.5900435899266435f;
    const V16 ring = four * zz - xx - yy;
    out[0] += six * xy * b9 + y * z * b10 - two * xy * b11 - six * x * z * b12 + (ring - two * xx) * b13 +
              two * x * z * b14 + three * (xx - yy) * b15;
    out[1] += three * (xx - yy) * b9 + x * z * b10 + (ring - two * yy) * b11 - six * y * z * b12 - two * xy * b13 -
              two * y * z * b14 - six * xy * b15;
    out[2] += xy * b10 + four * two * y * z * b11 + three * (two * zz - xx - yy) * b12 + four * two * x * z * b13 +
              (xx - yy) * b14;
}

}  // namespace dreamsplat
