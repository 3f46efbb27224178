// Stage 1, project: Gaussians to ellipses on each camera's screen, and the gradient back. 16 Gaussians at a time.
#pragma once

#include <algorithm>
#include <cmath>

#include "cpu_frame.h"
#include "cpu_simd.h"
#include "cpu_spherical_harmonics.h"

namespace dreamsplat {

constexpr float kNear = 0.01f;       // camera-space z at or below which a Gaussian is culled, world units
constexpr float kWidening = 0.3f;    // share of tan(fov / 2) by which the frustum is widened to clamp the Jacobian
constexpr float kBlur = 0.3f;        // added to the variances on screen, px^2
constexpr float kLog2Of255 = 7.994353437f;
constexpr float kHalfLog2E = 0.72134752044f, kLn2 = 0.69314718056f;
constexpr float kLargest = 1e18f;    // variance on screen, px^2, beyond which float32 overflows: culled

// One camera in the form that the loops want.
struct View {
    float rotation[3][3], translation[3], centre[3];
    float focal[2], principal[2], lowest[2], highest[2];  // the last two: range that x/z and y/z are clamped to
    bool valid;  // finite, with focal lengths above 0; the background too
};

inline View make_view(const Scene& scene, int camera) {
    View v;
    const float* m = scene.world_to_camera + 16 * camera;
    const float* k = scene.intrinsics + 9 * camera;
    const float size[2] = {float(scene.width), float(scene.height)};
    for (int i = 0; i < 3; ++i) {
        v.translation[i] = m[4 * i + 3];
        for (int j = 0; j < 3; ++j) v.rotation[i][j] = m[4 * i + j];
    }
    for (int j = 0; j < 3; ++j)
        v.centre[j] = -(m[j] * v.translation[0] + m[4 + j] * v.translation[1] + m[8 + j] * v.translation[2]);
    for (int a = 0; a < 2; ++a) {
        v.focal[a] = k[4 * a];
        v.principal[a] = k[3 * a + 2];
        const float margin = kWidening * 0.5f * size[a] / v.focal[a];
        v.lowest[a] = -v.principal[a] / v.focal[a] - margin;
        v.highest[a] = (size[a] - v.principal[a]) / v.focal[a] + margin;
    }
    v.valid = v.focal[0] > 0 && v.focal[1] > 0;
    for (int i = 0; i < 16; ++i) v.valid &= std::isfinite(m[i]);
    for (int i = 0; i < 9; ++i) v.valid &= std::isfinite(k[i]);
    for (int i = 0; i < 3; ++i) v.valid &= std::isfinite(scene.background[3 * camera + i]);
    return v;
}

// Moves `columns` floats of 16 rows to the lanes of as many vectors, as many squares of N x N as fit from column j on.
template <int N>
DREAMSPLAT_INLINE void load_squares(const float* const* rows, int columns, int& j, V16* out) {
    for (; j + N <= columns; j += N)
        for (int lane = 0; lane < 16; lane += N) {
            Floats<N> r[N];
            for (int i = 0; i < N; ++i) r[i] = Floats<N>::load(rows[lane + i] + j);
            transpose(r);
            for (int i = 0; i < N; ++i) r[i].store(reinterpret_cast<float*>(out + j + i) + lane);
        }
}

// And back, for the first `count` lanes.
template <int N, bool Streamed>
DREAMSPLAT_INLINE void store_squares(const V16* in, int columns, int& j, int64_t count, int64_t stride, float* a) {
    for (; j + N <= columns; j += N)
        for (int64_t lane = 0; lane < count; lane += N) {
            Floats<N> r[N];
            for (int i = 0; i < N; ++i) r[i] = Floats<N>::load(reinterpret_cast<const float*>(in + j + i) + lane);
            transpose(r);
            for (int i = 0; i < N && lane + i < count; ++i) {
                float* to = a + (lane + i) * stride + j;
                if constexpr (Streamed) r[i].stream(to);
                else r[i].store(to);
            }
        }
}

// out[j] = lane by lane a[(first + lane) * stride + j]; rows past the end repeat the last one.
DREAMSPLAT_INLINE void load_columns(const float* a, int64_t first, int64_t rows, int stride, int columns, V16* out) {
    const float* row[16];
    for (int lane = 0; lane < 16; ++lane) row[lane] = a + std::min(first + lane, rows - 1) * stride;
    int j = 0;
    load_squares<kNativeLanes>(row, columns, j, out);
    load_squares<4>(row, columns, j, out);
    for (; j < columns; ++j)
        for (int lane = 0; lane < 16; ++lane) reinterpret_cast<float*>(out + j)[lane] = row[lane][j];
}

template <bool Streamed = false>
DREAMSPLAT_INLINE void store_columns(const V16* in, int64_t first, int64_t rows, int stride, int columns, float* a) {
    const int64_t count = std::min<int64_t>(16, rows - first);
    a += first * stride;
    int j = 0;
    store_squares<kNativeLanes, Streamed>(in, columns, j, count, stride, a);
    store_squares<4, Streamed>(in, columns, j, count, stride, a);
    for (; j < columns; ++j) {
        const float* lanes = reinterpret_cast<const float*>(in + j);
        for (int64_t lane = 0; lane < 16 && lane < count; ++lane) a[lane * stride + j] = lanes[lane];
    }
}

// What does not depend on the camera.
struct Batch {
    V16 mean[3], scale[3], quat[4], inverse_length, opacity, log2_opacity;  // quat normalised
    V16 rotation[3][3];
    V16 sh[48];
    bool valid;  // finite, and in range
};

// 0 where all values are finite, not-a-number elsewhere.
DREAMSPLAT_INLINE V16 zero_if_finite(const V16* values, int count, V16 zero) {
    for (int i = 0; i < count; ++i) zero = fma(values[i], V16(0), zero);
    return zero;
}

// Fetches one of the four quarters of the coefficients of the batch after the next. A batch of degree 3 is 48 cache
// lines, and a core can wait for about two dozen at once; requested together they would stall everything else.
DREAMSPLAT_INLINE void prefetch_sh(const Scene& s, int64_t first, int quarter) {
    const int64_t row = 3 * s.coefficients, begin = (first + 32 + 4 * quarter) * row;
    for (int64_t i = begin; i < std::min(begin + 4 * row, s.gaussians * row); i += 16) __builtin_prefetch(s.sh + i);
}

inline void load_batch(const Scene& s, int64_t first, Batch& b) {
    load_columns(s.means, first, s.gaussians, 3, 3, b.mean);
    load_columns(s.scales, first, s.gaussians, 3, 3, b.scale);
    load_columns(s.quats, first, s.gaussians, 4, 4, b.quat);
    load_columns(s.opacities, first, s.gaussians, 1, 1, &b.opacity);
    prefetch_sh(s, first, 0);
    load_columns(s.sh, first, s.gaussians, 3 * s.coefficients, 3 * s.coefficients, b.sh);

    V16* q = b.quat;
    V16 largest(0);  // divided out first, so that the square of no length overflows or vanishes
    for (int i = 0; i < 4; ++i) largest = max(largest, max(q[i], -q[i]));
    V16 finite = zero_if_finite(q, 4, zero_if_finite(b.mean, 3, zero_if_finite(b.scale, 3, V16(0))));
    finite = zero_if_finite(b.sh, 3 * s.coefficients, finite);
    b.valid = ((finite >= V16(0)) & (largest > V16(0)) & (min(b.scale[0], min(b.scale[1], b.scale[2])) > V16(0)) &
               (b.opacity >= V16(0)) & (b.opacity <= V16(1))).all();
    for (int i = 0; i < 4; ++i) q[i] = q[i] / largest;
    const V16 inverse = V16(1) / sqrt(fma(q[0], q[0], fma(q[1], q[1], fma(q[2], q[2], q[3] * q[3]))));
    for (int i = 0; i < 4; ++i) q[i] *= inverse;
    b.inverse_length = inverse / largest;

    const V16 w = q[0], x = q[1], y = q[2], z = q[3], two(2), one(1);
    const V16 r[3][3] = {{one - two * (y * y + z * z), two * (x * y - w * z), two * (x * z + w * y)},
                         {two * (x * y + w * z), one - two * (x * x + z * z), two * (y * z - w * x)},
                         {two * (x * z - w * y), two * (y * z + w * x), one - two * (x * x + y * y)}};
    for (int i = 0; i < 9; ++i) b.rotation[i / 3][i % 3] = r[i / 3][i % 3];
    b.log2_opacity = log2(max(b.opacity, V16(1e-6f)));
}

// A Gaussian in one camera: covariance on screen = factor factor^T + blur, factor = J M, M = camera rotation * Gaussian
// rotation * scales. The determinant is a sum of squares (Cauchy-Binet), so it stays accurate for needles.
struct Projection {
    V16 position[3], inverse_z;
    V16 slope[2];      // x/z and y/z, clamped
    M16 unclamped[2];
    V16 axes[3][3];    // M
    V16 factor[2][3];  // J M
    V16 xx, xy, yy;    // covariance on screen, px^2
    V16 l1, l2, l3;    // Cholesky factor of its inverse, see Splat
};

DREAMSPLAT_INLINE void project_batch(const View& v, const Batch& b, Projection& p) {
    for (int i = 0; i < 3; ++i) {
        const V16 x(v.rotation[i][0]), y(v.rotation[i][1]), z(v.rotation[i][2]);
        p.position[i] = fma(b.mean[0], x, fma(b.mean[1], y, fma(b.mean[2], z, V16(v.translation[i]))));
        for (int k = 0; k < 3; ++k)
            p.axes[i][k] = b.scale[k] * fma(b.rotation[0][k], x, fma(b.rotation[1][k], y, b.rotation[2][k] * z));
    }
    const M16 in_front = p.position[2] > V16(kNear);
    p.inverse_z = V16(1) / select(in_front, p.position[2], V16(1));
    for (int a = 0; a < 2; ++a) {
        const V16 slope = p.position[a] * p.inverse_z;
        p.unclamped[a] = (slope >= V16(v.lowest[a])) & (slope <= V16(v.highest[a]));
        p.slope[a] = min(max(slope, V16(v.lowest[a])), V16(v.highest[a]));
        const V16 scale = p.inverse_z * v.focal[a];
        for (int k = 0; k < 3; ++k) p.factor[a][k] = scale * fnma(p.slope[a], p.axes[2][k], p.axes[a][k]);
    }
    const V16 *f = p.factor[0], *g = p.factor[1];
    const V16 ff = fma(f[0], f[0], fma(f[1], f[1], f[2] * f[2])), gg = fma(g[0], g[0], fma(g[1], g[1], g[2] * g[2]));
    const V16 c0 = f[1] * g[2] - f[2] * g[1], c1 = f[2] * g[0] - f[0] * g[2], c2 = f[0] * g[1] - f[1] * g[0];
    p.xx = ff + kBlur;
    p.yy = gg + kBlur;
    p.xy = fma(f[0], g[0], fma(f[1], g[1], f[2] * g[2]));
    const V16 determinant = fma(c0, c0, fma(c1, c1, c2 * c2)) + fma(V16(kBlur), ff + gg, V16(kBlur * kBlur));
    p.l1 = sqrt(p.yy / determinant * kHalfLog2E);
    p.l2 = -(p.xy / p.yy) * p.l1;
    p.l3 = sqrt(V16(kHalfLog2E) / p.yy);
}

struct Direction {
    V16 unit[3], inverse_length;
};

DREAMSPLAT_INLINE Direction view_direction(const View& v, const Batch& b) {
    Direction d;
    for (int i = 0; i < 3; ++i) d.unit[i] = b.mean[i] - v.centre[i];
    const V16 square = fma(d.unit[0], d.unit[0], fma(d.unit[1], d.unit[1], d.unit[2] * d.unit[2]));
    d.inverse_length = V16(1) / sqrt(max(square, V16(1e-30f)));
    for (int i = 0; i < 3; ++i) d.unit[i] *= d.inverse_length;
    return d;
}

// Colours before the clamp at 0.
DREAMSPLAT_INLINE void view_colour(const V16* basis, const V16* sh, int coefficients, V16* colour) {
    for (int c = 0; c < 3; ++c) {
        colour[c] = 0.5f;
        for (int k = 0; k < coefficients; ++k) colour[c] = fma(basis[k], sh[3 * k + c], colour[c]);
    }
}

// The tiles that boxes touch. Boxes may be too large, never too small.
DREAMSPLAT_INLINE void store_rects(const V16* centre, const V16* half, const M16& shows, int64_t first, int64_t rows,
                                   const int64_t* tiles, TileRect* out) {
    const V16 slack(1e-3f), per_px(1.0f / kTile), zero(0);
    uint32_t corners[2][16];  // x | y << 16 of the first tile and of the end
    for (int corner = 0; corner < 2; ++corner) {
        float edges[2][16];
        for (int a = 0; a < 2; ++a) {
            const V16 reach = half[a] + slack, edge = corner ? centre[a] + reach : centre[a] - reach;
            const V16 tile = max(edge * per_px, zero) + float(corner);
            select(shows, min(tile, V16(float(tiles[a] - 1 + corner))), zero).store(edges[a]);
        }
        for (int lane = 0; lane < 16; ++lane)
            corners[corner][lane] = uint32_t(int32_t(edges[0][lane])) | uint32_t(int32_t(edges[1][lane])) << 16;
    }
    for (int64_t lane = 0; lane < 16 && first + lane < rows; ++lane) {
        const uint32_t pair[2] = {corners[0][lane], corners[1][lane]};
        std::memcpy(out + first + lane, pair, sizeof pair);
    }
}

// Returns whether all screen offsets are finite.
inline bool project_view(const Scene& s, const View& v, int camera, int64_t first, const Batch& b, Frame& frame,
                         float* radii) {
    Projection p;
    project_batch(v, b, p);
    const int64_t base = int64_t(camera) * s.gaussians;
    V16 offset[2] = {0, 0};
    if (s.screen_offsets) load_columns(s.screen_offsets + 2 * base, first, s.gaussians, 2, 2, offset);
    V16 out[16] = {};  // a Splat, in its order; its slots follow later
    for (int a = 0; a < 2; ++a)
        out[a] = fma(p.position[a] * p.inverse_z, V16(v.focal[a]), V16(v.principal[a])) + offset[a];

    prefetch_sh(s, first, 1);
    const V16 reach2 = (b.log2_opacity + kLog2Of255) / kHalfLog2E;  // squared, in standard deviations
    out[2] = p.l2;
    out[3] = p.l3;
    out[4] = b.log2_opacity;
    out[7] = V16(1) / p.l1;
    out[8] = p.l1;
    const Direction d = view_direction(v, b);
    V16 basis[16];
    sh_basis(d.unit, s.coefficients, basis);
    view_colour(basis, b.sh, s.coefficients, out + 9);
    for (int c = 0; c < 3; ++c) out[9 + c] = max(out[9 + c], V16(0));
    out[12] = p.position[2];
    prefetch_sh(s, first, 2);
    const V16 half_width = sqrt(max(reach2 * p.xx, V16(0))), half_height = sqrt(max(reach2 * p.yy, V16(0)));
    // Not-a-number, from overflow of huge finite inputs, fails a comparison and so is culled.
    const M16 shows = (p.position[2] > V16(kNear)) & (reach2 >= V16(0)) & (p.xx + p.yy < V16(kLargest)) &
                      (out[0] + half_width > V16(0)) & (out[0] - half_width < V16(float(s.width))) &
                      (out[1] + half_height > V16(0)) & (out[1] - half_height < V16(float(s.height)));
    out[5] = half_height;
    out[6] = p.xy / p.xx * half_width;

    const int64_t tiles[2] = {frame.tiles_x, frame.tiles_y};
    const V16 half[2] = {half_width, half_height};
    store_rects(out, half, shows, first, s.gaussians, tiles, frame.rects.data() + base);

    prefetch_sh(s, first, 3);
    const V16 half_difference = (p.xx - p.yy) * 0.5f;
    const V16 largest = (p.xx + p.yy) * 0.5f + sqrt(fma(half_difference, half_difference, p.xy * p.xy));
    const V16 radius = select(shows, sqrt(max(reach2 * largest, V16(0))), V16(0));
    store_columns(&radius, first, s.gaussians, 1, 1, radii + base);
    store_columns(out, first, s.gaussians, 16, 16, reinterpret_cast<float*>(frame.splats.data() + base));
    const V16 depth = select(shows, p.position[2], V16(0));
    store_columns(&depth, first, s.gaussians, 1, 1, frame.depths.data() + base);
    return (zero_if_finite(offset, 2, V16(0)) >= V16(0)).all();
}

}  // namespace dreamsplat
