// Stage 4 backwards: gradients of the pixels to sums per (tile, Gaussian).
//
// It walks back to front. With q_i = dL/dvalue . value_i for colour and depth, and weight w_i = alpha_i T_i,
//   alpha_i dL/dalpha_i = w_i (q_i - B_i),   B_{i-1} = B_i + alpha_i (q_i - B_i),
// where B_i is what lies behind i, unattenuated; it starts from B = background . dL/drgb - dL/dalpha. T is
// divided out again from its final value. Walking front to back would need neither that nor the end of each pixel, but
// would compute B_i T_i as a difference of sums over the whole pixel, which is noise for hidden Gaussians.
// Exponents round as in the forward pass, so the same Gaussians hit the same pixels.
#pragma once

#include "cpu_composite.h"

namespace dreamsplat {

// Per block: the gradients of its pixels, both as lanes and pixel by pixel, and the running state.
struct alignas(64) TileGradients {
    float value[4][kBlocks][16];     // dL/d(red, green, blue, depth)
    float by_pixel[kBlocks][16][4];  // the same, transposed
    float behind[kBlocks][16], transmittance[kBlocks][16];
    float end[kBlocks];              // of the pixel that ended last
};

struct alignas(64) Moments {
    float of[16][8];  // 1, x, y, x^2, xy, y^2, 0, 0 per pixel of a block, from the block's corner
};

constexpr Moments make_moments() {
    Moments m{};
    for (int i = 0; i < 16; ++i) {
        const float x = kPixelX[i], y = kPixelY[i], values[8] = {1, x, y, x * x, x * y, y * y, 0, 0};
        for (int j = 0; j < 8; ++j) m.of[i][j] = values[j];
    }
    return m;
}
constexpr Moments kMoments = make_moments();

// Adds to a row the moments m of one block, taken over (x, y) from the block's corner, as moments over (u, v). Moments
// over (x, y) from the Gaussian's centre would be simpler, but on a needle u and v are small differences of large x
// and y, and their squares would be lost in rounding. Within a block they are not large.
DREAMSPLAT_INLINE void add_moments(const Splat& s, int block, const float* m, float* row) {
    const float x = float(block % 8 * kBlock) - s.x, y = float(block / 8 * kBlock) - s.y;
    const float u = s.l1 * x + s.l2 * y, v = s.l3 * y;  // at the corner
    const float gu = s.l1 * m[1] + s.l2 * m[2], gv = s.l3 * m[2];  // moments over u and v from the corner
    const float along_x = s.l1 * m[3] + s.l2 * m[4], along_y = s.l1 * m[4] + s.l2 * m[5];
    const float guu = s.l1 * along_x + s.l2 * along_y, guv = s.l3 * along_y, gvv = s.l3 * s.l3 * m[5];
    const float from_u = gu + u * m[0], from_v = gv + v * m[0];
    row[0] += m[0];
    row[1] += from_u;
    row[2] += from_v;
    row[3] += guu + u * (gu + from_u);
    row[4] += guv + u * gv + v * from_u;
    row[5] += gvv + v * (gv + from_v);
}

// A gradient row at work, in whole registers.
struct alignas(64) RowSums {
    float moments[8], colour[4], unused[4];
    void store(GradientRow& row) const {
        std::memcpy(row.moments, moments, sizeof row.moments);
        std::memcpy(row.colour, colour, sizeof row.colour);
    }
};

// A visit of a Gaussian to a block, whose sums over the 16 pixels are still pending.
constexpr int kPending = 4;
struct alignas(64) Pending {
    float g[kPending][16], weight[kPending][16];  // alpha dL/dalpha; weight in the blend
    int entry[kPending];
};

// Sums over pixels as products with constant matrices: no shuffles, and the loads are shared by the visits.
template <int Count>
DREAMSPLAT_INLINE void reduce(const Pending& pending, const float (*by_pixel)[4], int block, const Chunk& chunk,
                              RowSums* rows) {
    V8 moments[Count];
    V4 colour[Count];
    for (int i = 0; i < Count; ++i) moments[i] = 0.0f, colour[i] = 0.0f;
    for (int pixel = 0; pixel < 16; ++pixel) {
        const V8 m = V8::load(kMoments.of[pixel]);
        const V4 v = V4::load(by_pixel[pixel]);
        for (int i = 0; i < Count; ++i) {
            moments[i] = fma(V8(pending.g[i][pixel]), m, moments[i]);
            colour[i] = fma(V4(pending.weight[i][pixel]), v, colour[i]);
        }
    }
    for (int i = 0; i < Count; ++i) {
        RowSums& row = rows[pending.entry[i]];
        float m[8];
        moments[i].store(m);
        add_moments(chunk.splats[pending.entry[i]], block, m, row.moments);
        (V4::load(row.colour) + colour[i]).store(row.colour);
    }
}

DREAMSPLAT_INLINE void reduce_rest(int count, const Pending& p, const float (*by_pixel)[4], int block,
                                   const Chunk& chunk, RowSums* rows) {
    if (count == 1) reduce<1>(p, by_pixel, block, chunk, rows);
    if (count == 2) reduce<2>(p, by_pixel, block, chunk, rows);
    if (count == 3) reduce<3>(p, by_pixel, block, chunk, rows);
}

// n floats and zeros up to `size`.
template <int size>
DREAMSPLAT_INLINE void copy_some(const float* from, int n, float* to) {
    if (from != nullptr && n == size) {
        std::memcpy(to, from, sizeof(float) * size);
    } else {
        std::memset(to, 0, sizeof(float) * size);
        if (from != nullptr) std::memcpy(to, from, sizeof(float) * size_t(n));
    }
}

// Reads the pixels' gradients into block order, dL/dalpha into `alpha`; zeros outside the image.
inline void load_pixel_gradients(const Scene& scene, const Tile& t, const OutputGradients& v, TileGradients& out,
                                 float (*alpha)[16]) {
    for (int row = 0; row < kTile; ++row) {
        const int64_t line = (int64_t(t.camera) * scene.height + t.top + row) * scene.width + t.left;
        for (int left = 0; left < kTile; left += kBlock) {
            const int block = row / kBlock * 8 + left / kBlock, lane = row % kBlock * kBlock;
            const int count = row < t.rows ? std::max(0, std::min(kBlock, t.columns - left)) : 0;
            const auto at = [&](const float* plane, int64_t stride) {
                return plane && count ? plane + stride * (line + left) : nullptr;
            };
            float together[12], z[4];
            copy_some<12>(at(v.rgb, 3), 3 * count, together);
            copy_some<4>(at(v.depth, 1), count, z);
            copy_some<4>(at(v.alpha, 1), count, alpha[block] + lane);
            V4 values[4];
            deinterleave(together, values[0], values[1], values[2]);
            values[3] = V4::load(z);
            for (int c = 0; c < 4; ++c) values[c].store(out.value[c][block] + lane);
            transpose(values);
            for (int i = 0; i < 4; ++i) values[i].store(out.by_pixel[block][lane + i]);
        }
    }
}

// The state behind the last Gaussian; `background` receives the tile's part of the background's gradient.
inline void start_tile(const Scene& scene, const Tile& t, const OutputGradients& v, const TilePixels& pixels,
                       TileGradients& out, float* background) {
    alignas(64) float alpha[kBlocks][16];
    load_pixel_gradients(scene, t, v, out, alpha);
    V16 sums[3] = {0, 0, 0};
    for (int block = 0; block < kBlocks; ++block) {
        const V16 rest = V16::load(pixels.transmittance[block]);
        V16 behind = -V16::load(alpha[block]);
        for (int c = 0; c < 3; ++c) {
            const V16 value = V16::load(out.value[c][block]);
            behind = fma(value, V16(scene.background[3 * t.camera + c]), behind);
            sums[c] = fma(value, rest, sums[c]);
        }
        behind.store(out.behind[block]);
        rest.store(out.transmittance[block]);
        out.end[block] = *std::max_element(pixels.end[block], pixels.end[block] + 16);
    }
    for (int c = 0; c < 3; ++c) {
        float lanes[16];
        sums[c].store(lanes);
        background[c] = 0;
        for (float lane : lanes) background[c] += lane;
    }
}

// Takes one block back through a chunk, whose first entry is number `before` of the tile's.
DREAMSPLAT_INLINE void unblend_block(const Chunk& chunk, const uint64_t* touches, int block, float before,
                                     const TilePixels& pixels, TileGradients& state, RowSums* rows) {
    const V16 x = block_x(block), y = block_y(block), end = V16::load(pixels.end[block]) - before;
    const V16 red = V16::load(state.value[0][block]), green = V16::load(state.value[1][block]);
    const V16 blue = V16::load(state.value[2][block]), z = V16::load(state.value[3][block]);
    V16 rest = V16::load(state.transmittance[block]), behind = V16::load(state.behind[block]);
    Pending pending;
    int count = 0;
    for (int word = kWords - 1; word >= 0; --word) {
        uint64_t set = touches[word] & low_bits(state.end[block] - before - float(64 * word));
        while (set) {
            const int bit = 63 - __builtin_clzll(set), entry = 64 * word + bit;
            set ^= 1ull << bit;
            const Splat& s = chunk.splats[entry];
            const V16 e = exponent(s, x, y), free = exp2(e), a = min(free, V16(kMaxAlpha));
            const M16 hit = (e >= V16(-kLog2Of255)) & (V16(float(entry)) < end);
            rest = select(hit, rest / (V16(1) - a), rest);
            const V16 seen = select(hit, a, V16(0)), weight = seen * rest;
            const V16 own = fma(blue, V16(s.colour[2]), z * s.depth);
            const V16 ahead = fma(red, V16(s.colour[0]), fma(green, V16(s.colour[1]), own)) - behind;
            behind = fma(seen, ahead, behind);
            select(free < V16(kMaxAlpha), weight * ahead, V16(0)).store(pending.g[count]);
            weight.store(pending.weight[count]);
            pending.entry[count] = entry;
            if (++count == kPending) {
                reduce<kPending>(pending, state.by_pixel[block], block, chunk, rows);
                count = 0;
            }
        }
    }
    reduce_rest(count, pending, state.by_pixel[block], block, chunk, rows);
    rest.store(state.transmittance[block]);
    behind.store(state.behind[block]);
}

inline void composite_tile_backward(const Scene& scene, Frame& frame, int64_t index, const OutputGradients& v) {
    const Tile t = make_tile(scene, frame, index);
    const TilePixels& pixels = frame.pixels[index];
    TileGradients state;
    start_tile(scene, t, v, pixels, state, frame.tile_background.data() + 3 * index);
    Chunk chunk;
    RowSums rows[kChunk];
    const uint32_t done = frame.tile_done[index];
    const uint32_t camera_slot = frame.camera_slot[t.camera], x = uint32_t(t.left / kTile), y = uint32_t(t.top / kTile);
    const auto row_of = [&](const Splat& s) -> GradientRow& { return frame.rows[gradient_slot(s, camera_slot, x, y)]; };
    for (uint32_t i = done; i < t.last; ++i) row_of(frame.splats[frame.entries[i]]) = GradientRow{};
    for (uint32_t chunks = (done - t.first + kChunk - 1) / kChunk; chunks > 0; --chunks) {
        const uint32_t skipped = (chunks - 1) * kChunk, first = t.first + skipped;
        gather(t, frame, first, chunk);
        const Touches& touches = frame.touches[t.first_chunk + chunks - 1];
        std::memset(rows, 0, sizeof(RowSums) * size_t(chunk.count));
        for (uint64_t blocks = blocks_inside(t); blocks; blocks &= blocks - 1) {
            const int block = __builtin_ctzll(blocks);
            if (touches.any(block) && state.end[block] > float(skipped))
                unblend_block(chunk, touches.words[block], block, float(skipped), pixels, state, rows);
        }
        for (int i = 0; i < chunk.count; ++i) rows[i].store(row_of(chunk.splats[i]));
    }
}

}  // namespace dreamsplat
