// Stage 4 backwards: gradients of the pixels to sums per (tile, Gaussian).
//
// It walks front to back like the forward pass, so transmittance and every decision come out the same and nothing per
// (pixel, Gaussian) pair need be kept. With q_i = dL/dvalue . value_i, weights w_i and the rest
//   R_i = sum_{j > i} w_j q_j + T_final (background . dL/drgb - dL/dalpha),
// which starts from the final pixel and shrinks by w_i q_i at a time, alpha_i dL/dalpha_i = w_i q_i - R_i alpha_i / (1 - alpha_i).
#pragma once

#include "cpu_composite.h"

namespace dreamsplat {

// Per block: the gradients of its pixels, both as lanes and pixel by pixel, and the running state.
struct alignas(64) TileGradients {
    float value[4][kBlocks][16];     // dL/d(red, green, blue, depth)
    float by_pixel[kBlocks][16][4];  // the same, transposed
    float remainder[kBlocks][16], transmittance[kBlocks][16], threshold[kBlocks][16];
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

// A visit of a Gaussian to a block, whose sums over the 16 pixels are still to be made.
constexpr int kPending = 4;
struct alignas(64) Pending {
    float g[kPending][16], weight[kPending][16];  // alpha dL/dalpha; weight in the blend
    int entry[kPending];
};

// Sums over pixels as products with constant matrices: no shuffles, and the loads are shared by the visits.
template <int Count>
DREAMSPLAT_INLINE void reduce(const Pending& pending, const float (*by_pixel)[4], int block, const Chunk& chunk, GradientRow* rows) {
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
        const Splat& s = chunk.splats[pending.entry[i]];
        GradientRow& row = rows[pending.entry[i]];
        const float x = float(block % 8 * kBlock) - s.x, y = float(block / 8 * kBlock) - s.y;
        float m[8];
        moments[i].store(m);
        row.moments[0] += m[0];
        row.moments[1] += m[1] + x * m[0];
        row.moments[2] += m[2] + y * m[0];
        row.moments[3] += m[3] + x * (2 * m[1] + x * m[0]);
        row.moments[4] += m[4] + x * m[2] + y * (m[1] + x * m[0]);
        row.moments[5] += m[5] + y * (2 * m[2] + y * m[0]);
        (V4::load(row.colour) + colour[i]).store(row.colour);
    }
}

DREAMSPLAT_INLINE void reduce_rest(int count, const Pending& p, const float (*by_pixel)[4], int block, const Chunk& chunk, GradientRow* rows) {
    if (count == 1) reduce<1>(p, by_pixel, block, chunk, rows);
    if (count == 2) reduce<2>(p, by_pixel, block, chunk, rows);
    if (count == 3) reduce<3>(p, by_pixel, block, chunk, rows);
}

// Reads the pixels' gradients into block order; returns the gradient of the background in `background`.
inline void load_gradients(const Scene& scene, const Tile& t, const OutputGradients& v, const TilePixels& pixels, TileGradients& out, float* background) {
    std::memset(out.value, 0, sizeof out.value);
    float alpha[kBlocks][16] = {};
    for (int row = 0; row < t.rows; ++row) {
        const int64_t line = (int64_t(t.camera) * scene.height + t.top + row) * scene.width + t.left;
        for (int column = 0; column < t.columns; ++column) {
            const int block = row / kBlock * 8 + column / kBlock, lane = row % kBlock * kBlock + column % kBlock;
            for (int c = 0; c < 3 && v.rgb; ++c) out.value[c][block][lane] = v.rgb[3 * (line + column) + c];
            if (v.depth) out.value[3][block][lane] = v.depth[line + column];
            if (v.alpha) alpha[block][lane] = v.alpha[line + column];
        }
    }
    const float* behind = scene.background + 3 * t.camera;
    V16 sums[3] = {0, 0, 0};
    for (int block = 0; block < kBlocks; ++block) {
        for (int lane = 0; lane < 16; ++lane)
            for (int c = 0; c < 4; ++c) out.by_pixel[block][lane][c] = out.value[c][block][lane];
        const V16 rest = V16::load(pixels.transmittance[block]);
        V16 last = -V16::load(alpha[block]), blended = V16::load(pixels.depth[block]) * V16::load(out.value[3][block]);
        for (int c = 0; c < 3; ++c) {
            const V16 value = V16::load(out.value[c][block]);
            last = fma(value, V16(behind[c]), last);
            blended = fma(value, V16::load(pixels.colour[c][block]), blended);
            sums[c] = fma(value, rest, sums[c]);
        }
        fma(rest, last, blended).store(out.remainder[block]);
        V16(1).store(out.transmittance[block]);
        first_threshold(t, block).store(out.threshold[block]);
    }
    for (int c = 0; c < 3; ++c) {
        float lanes[16];
        sums[c].store(lanes);
        background[c] = 0;
        for (float lane : lanes) background[c] += lane;
    }
}

inline void composite_tile_backward(const Scene& scene, Frame& frame, int64_t index, const OutputGradients& v) {
    const Tile t = make_tile(scene, frame, index);
    TileGradients state;
    load_gradients(scene, t, v, frame.pixels[index], state, frame.tile_background.data() + 3 * index);
    uint64_t alive = blocks_inside(t);
    Chunk chunk;
    GradientRow rows[kChunk];
    Pending pending;
    const uint32_t done = frame.tile_done[index];
    for (uint32_t first = t.first; first < done; first += kChunk) {
        gather(t, frame, first, chunk);
        transpose_masks(frame.block_masks.data() + first, chunk);
        std::memset(rows, 0, sizeof(GradientRow) * size_t(chunk.count));
        for (uint64_t blocks = alive; blocks; blocks &= blocks - 1) {
            const int block = __builtin_ctzll(blocks);
            const V16 x = block_x(block), y = block_y(block);
            const V16 red = V16::load(state.value[0][block]), green = V16::load(state.value[1][block]);
            const V16 blue = V16::load(state.value[2][block]), z = V16::load(state.value[3][block]);
            V16 rest = V16::load(state.transmittance[block]), limit = V16::load(state.threshold[block]);
            V16 remainder = V16::load(state.remainder[block]);
            int count = 0;
            for (int word = 0; word < kWords; ++word)
                for (uint64_t set = chunk.touches[word][block]; set; set &= set - 1) {
                    const int entry = 64 * word + __builtin_ctzll(set);
                    const Splat& s = chunk.splats[entry];
                    const V16 e = exponent(s, x, y), free = exp2(e), a = min(free, V16(kMaxAlpha)), next = fnma(a, rest, rest);
                    M16 hit = e >= limit;
                    const M16 ends = hit & (next <= V16(kMinTransmittance));
                    if (__builtin_expect(ends.any(), 0)) {
                        limit = select(ends, V16(kEnded), limit);
                        hit = hit & ~ends;
                        if (!(limit < V16(kEnded)).any()) {  // the whole block has ended: leave both loops after this visit
                            alive &= ~(1ull << block);
                            set = 1;
                            word = kWords;
                        }
                    }
                    const V16 weight = select(hit, a * rest, V16(0));
                    rest = select(hit, next, rest);
                    const V16 q = fma(red, V16(s.colour[0]), fma(green, V16(s.colour[1]), fma(blue, V16(s.colour[2]), z * s.depth)));
                    const V16 own = weight * q;
                    remainder = remainder - own;
                    const V16 g = fnma(remainder, a / (V16(1) - a), own);
                    select(hit & (free < V16(kMaxAlpha)), g, V16(0)).store(pending.g[count]);
                    weight.store(pending.weight[count]);
                    pending.entry[count] = entry;
                    if (++count == kPending) {
                        reduce<kPending>(pending, state.by_pixel[block], block, chunk, rows);
                        count = 0;
                    }
                }
            reduce_rest(count, pending, state.by_pixel[block], block, chunk, rows);
            rest.store(state.transmittance[block]);
            limit.store(state.threshold[block]);
            remainder.store(state.remainder[block]);
        }
        for (int i = 0; i < chunk.count; ++i) frame.rows[frame.entries[first + i].slot] = rows[i];
    }
    for (uint32_t i = done; i < t.last; ++i) frame.rows[frame.entries[i].slot] = GradientRow{};
}

}  // namespace dreamsplat
