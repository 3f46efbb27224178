// Stage 1 backwards: the sums of each Gaussian's tiles, in all cameras, to gradients of its parameters.
#pragma once

#include "cpu_project.h"

namespace dreamsplat {

// Gradients summed over the cameras. `oriented` is that of rotation * scales, [row][axis].
struct BatchGradients {
    V16 mean[3], oriented[3][3], opacity, sh[48];
};

// One camera's sums: moments of g, then dL/dcolour and dL/ddepth; see GradientRow.
struct ScreenGradients {
    V16 moments[6], colour[3], depth;
    M16 visible;
};

inline ScreenGradients sum_slots(const Scene& s, const Frame& frame, int camera, int64_t first) {
    constexpr int kFloats = sizeof(GradientRow) / sizeof(float);
    float sums[16][kFloats] = {};
    alignas(64) float visible[16] = {};
    const uint32_t* first_slot = frame.first_slot.data() + int64_t(camera) * (s.gaussians + 1) + first;
    const GradientRow* rows = frame.rows.data() + frame.camera_slot[camera];
    for (int lane = 0; lane < 16 && first + lane < s.gaussians; ++lane) {
        visible[lane] = first_slot[lane] < first_slot[lane + 1];
        for (uint32_t slot = first_slot[lane]; slot < first_slot[lane + 1]; ++slot) {
            const float* row = rows[slot].moments;
            for (int i = 0; i < kFloats; ++i) sums[lane][i] += row[i];
        }
    }
    V16 g[kFloats];
    load_columns(sums[0], 0, 16, kFloats, kFloats, g);
    return {{g[0], g[1], g[2], g[3], g[4], g[5]}, {g[6], g[7], g[8]}, g[9], V16::load(visible) > V16(0)};
}

// Through colour and view direction.
inline void colour_backward(const Scene& s, const View& v, const Batch& b, const ScreenGradients& g,
                            BatchGradients& out) {
    const Direction d = view_direction(v, b);
    V16 basis[16], colour[3], from_colour[3], weight[16], along[3];
    sh_basis(d.unit, s.coefficients, basis);
    view_colour(basis, b.sh, s.coefficients, colour);
    for (int c = 0; c < 3; ++c) from_colour[c] = select(colour[c] >= V16(0), g.colour[c], V16(0));
    for (int k = 0; k < s.coefficients; ++k) {
        weight[k] = 0.0f;
        for (int c = 0; c < 3; ++c) {
            out.sh[3 * k + c] = fma(basis[k], from_colour[c], out.sh[3 * k + c]);
            weight[k] = fma(b.sh[3 * k + c], from_colour[c], weight[k]);
        }
    }
    if (s.coefficients == 1) return;
    sh_gradient(d.unit, s.coefficients, weight, along);
    const V16 radial = fma(along[0], d.unit[0], fma(along[1], d.unit[1], along[2] * d.unit[2]));
    for (int i = 0; i < 3; ++i)
        out.mean[i] += select(g.visible, fnma(radial, d.unit[i], along[i]) * d.inverse_length, V16(0));
}

// Through the ellipse and the centre on screen; `centre` receives the gradient of the latter.
inline void ellipse_backward(const View& v, const Batch& b, const ScreenGradients& g, BatchGradients& out,
                             V16* centre) {
    Projection p;
    project_batch(v, b, p);
    const V16* m = g.moments;
    const V16 zero(0), k2(2 * kLn2);
    centre[0] = select(g.visible, k2 * p.l1 * m[1], zero);
    centre[1] = select(g.visible, k2 * fma(p.l2, m[1], p.l3 * m[2]), zero);
    // With the inverse covariance Q = 2 ln2 L^T L, displacements d and second moments M of L d, dL/dcovariance =
    // Q (sum of g d d^T) Q / 2 and dL/dfactor = 2 dL/dcovariance factor = (2 ln2)^2 L^T M (L factor).
    V16 factor[2][3], position[3], slope_scale[2];
    for (int k = 0; k < 3; ++k) {
        const V16 a = k2 * fma(p.l1, p.factor[0][k], p.l2 * p.factor[1][k]), b = k2 * p.l3 * p.factor[1][k];
        const V16 ma = k2 * fma(m[3], a, m[4] * b), mb = k2 * fma(m[4], a, m[5] * b);
        factor[0][k] = select(g.visible, p.l1 * ma, zero);
        factor[1][k] = select(g.visible, fma(p.l2, ma, p.l3 * mb), zero);
    }
    // factor[i] = focal_i / z (axes[i] - slope_i axes[2]) and centre[i] = focal_i position[i] / z + principal_i.
    position[2] = g.depth;
    for (int i = 0; i < 2; ++i) {
        const V16 scale = p.inverse_z * v.focal[i];
        V16 own(0), slope(0);
        for (int k = 0; k < 3; ++k) {
            own = fma(factor[i][k], p.factor[i][k], own);
            slope = fma(factor[i][k], p.axes[2][k], slope);
        }
        slope = select(p.unclamped[i], -(slope * scale), zero);
        const V16 true_slope = p.position[i] * p.inverse_z;
        position[i] = fma(centre[i], scale, slope * p.inverse_z);
        position[2] -= p.inverse_z * fma(true_slope, fma(centre[i], V16(v.focal[i]), slope), own);
        slope_scale[i] = scale;
    }
    for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j) out.mean[j] += select(g.visible, position[i] * v.rotation[i][j], zero);
    for (int k = 0; k < 3; ++k) {
        const V16 f = factor[0][k] * slope_scale[0], h2 = factor[1][k] * slope_scale[1];
        const V16 axes[3] = {f, h2, -fma(f, p.slope[0], h2 * p.slope[1])};
        for (int j = 0; j < 3; ++j)
            for (int i = 0; i < 3; ++i) out.oriented[j][k] = fma(axes[i], V16(v.rotation[i][j]), out.oriented[j][k]);
    }
}

// Through rotation * scales, summed over cameras, to scales and quaternions.
inline void orientation_backward(const Batch& b, const BatchGradients& g, V16* scale, V16* quat) {
    V16 r[3][3];  // dL/drotation
    for (int k = 0; k < 3; ++k) {
        scale[k] = 0.0f;
        for (int j = 0; j < 3; ++j) {
            scale[k] = fma(g.oriented[j][k], b.rotation[j][k], scale[k]);
            r[j][k] = g.oriented[j][k] * b.scale[k];
        }
    }
    const V16 w = b.quat[0], x = b.quat[1], y = b.quat[2], z = b.quat[3], two(2);
    const V16 xy = r[0][1] + r[1][0], xz = r[0][2] + r[2][0], yz = r[1][2] + r[2][1];
    const V16 turn_x = r[2][1] - r[1][2], turn_y = r[0][2] - r[2][0], turn_z = r[1][0] - r[0][1];
    quat[0] = two * (x * turn_x + y * turn_y + z * turn_z);
    quat[1] = two * (y * xy + z * xz + w * turn_x - two * x * (r[1][1] + r[2][2]));
    quat[2] = two * (x * xy + z * yz + w * turn_y - two * y * (r[0][0] + r[2][2]));
    quat[3] = two * (x * xz + y * yz + w * turn_z - two * z * (r[0][0] + r[1][1]));
    const V16 radial = quat[0] * w + quat[1] * x + quat[2] * y + quat[3] * z;
    for (int i = 0; i < 4; ++i) quat[i] = (quat[i] - radial * b.quat[i]) * b.inverse_length;
}

// Of degree 3 it is three quarters of all that is written. Where it will not stay in the caches anyway, writing past
// them saves reading the old contents of each line first. Rows of 16 coefficients are whole lines.
constexpr int64_t kCached = 1 << 20;  // bytes; what a core keeps to itself

inline void store_sh_gradient(const Scene& s, const V16* sh, int64_t first, float* out) {
    const int floats = 3 * s.coefficients;
    const bool whole_lines = s.coefficients == 16 && reinterpret_cast<uintptr_t>(out) % 64 == 0;
    if (whole_lines && s.gaussians * floats * int64_t(sizeof(float)) > kCached) {
        store_columns<true>(sh, first, s.gaussians, 48, 48, out);
        finish_streams();
    } else {
        store_columns(sh, first, s.gaussians, floats, floats, out);
    }
}

inline void project_backward(const Scene& s, const Frame& frame, const View* views, int64_t first,
                             const InputGradients& out) {
    Batch b;
    load_batch(s, first, b);
    BatchGradients sum;
    sum.opacity = 0.0f;
    for (int i = 0; i < 3; ++i) sum.mean[i] = 0.0f;
    for (int i = 0; i < 9; ++i) sum.oriented[i / 3][i % 3] = 0.0f;
    for (int i = 0; i < 3 * s.coefficients; ++i) sum.sh[i] = 0.0f;
    for (int camera = 0; camera < s.cameras; ++camera) {
        const ScreenGradients g = sum_slots(s, frame, camera, first);
        V16 centre[2];
        prefetch_sh(s, first, 1);
        sum.opacity += g.moments[0];
        colour_backward(s, views[camera], b, g, sum);
        prefetch_sh(s, first, 2);
        ellipse_backward(views[camera], b, g, sum, centre);
        prefetch_sh(s, first, 3);
        if (out.screen_offsets)
            store_columns(centre, first, s.gaussians, 2, 2, out.screen_offsets + int64_t(camera) * s.gaussians * 2);
    }
    V16 scale[3], quat[4];
    orientation_backward(b, sum, scale, quat);
    const V16 opacity = sum.opacity / max(b.opacity, V16(1e-6f));
    store_columns(sum.mean, first, s.gaussians, 3, 3, out.means);
    store_columns(scale, first, s.gaussians, 3, 3, out.scales);
    store_columns(quat, first, s.gaussians, 4, 4, out.quats);
    store_columns(&opacity, first, s.gaussians, 1, 1, out.opacities);
    store_sh_gradient(s, sum.sh, first, out.sh);
}

}  // namespace dreamsplat
