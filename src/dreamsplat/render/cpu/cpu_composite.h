// Stage 4, composite: blend each tile's Gaussians front to back.
//
// A tile is 32 x 32 px in 8 x 8 blocks of 4 x 4 px; the 16 pixels of a block are the 16 lanes of a vector. Entries are
// taken in chunks: gathered into the first-level cache, then each block gets, as bits, the set of those that touch it.
#pragma once

#include <algorithm>
#include <cmath>

#include "cpu_frame.h"
#include "cpu_project.h"
#include "cpu_simd.h"

namespace dreamsplat {

constexpr float kMaxAlpha = 0.99f;          // largest opacity of one Gaussian at one pixel
constexpr float kMinTransmittance = 1e-4f;  // a Gaussian that would bring a pixel to this or less ends it, unblended
constexpr float kEnded = 1e30f;             // threshold that no exponent reaches

// Pixel centres of a block relative to its corner.
alignas(64) constexpr float kPixelX[16] = {.5f, 1.5f, 2.5f, 3.5f, .5f, 1.5f, 2.5f, 3.5f,
                                           .5f, 1.5f, 2.5f, 3.5f, .5f, 1.5f, 2.5f, 3.5f};
alignas(64) constexpr float kPixelY[16] = {.5f, .5f, .5f, .5f, 1.5f, 1.5f, 1.5f, 1.5f,
                                           2.5f, 2.5f, 2.5f, 2.5f, 3.5f, 3.5f, 3.5f, 3.5f};

DREAMSPLAT_INLINE V16 block_x(int block) { return V16::load(kPixelX) + float(block % 8 * kBlock); }
DREAMSPLAT_INLINE V16 block_y(int block) { return V16::load(kPixelY) + float(block / 8 * kBlock); }

// log2 alpha of a Gaussian at the 16 pixels (x, y).
DREAMSPLAT_INLINE V16 exponent(const Splat& s, const V16& x, const V16& y) {
    const V16 dx = x - s.x, dy = y - s.y, u = fma(V16(s.l2), dy, dx * s.l1), v = dy * s.l3;
    return fnma(v, v, fnma(u, u, V16(s.log2_opacity)));
}

// Where a tile lies.
struct Tile {
    int camera;
    int64_t index;           // over all cameras
    int left, top, columns, rows;  // px; columns and rows inside the image, at most kTile
    uint32_t first, last;    // entries
    uint32_t first_chunk;    // of Touches
};

inline Tile make_tile(const Scene& scene, const Frame& frame, int64_t index) {
    Tile t;
    t.camera = int(index / frame.tiles);
    t.index = index;
    t.left = int(index % frame.tiles % frame.tiles_x) * kTile;
    t.top = int(index % frame.tiles / frame.tiles_x) * kTile;
    t.columns = std::min(kTile, scene.width - t.left);
    t.rows = std::min(kTile, scene.height - t.top);
    t.first = frame.tile_start[index];
    t.last = frame.tile_start[index + 1];
    t.first_chunk = first_chunk(t.first, index);
    return t;
}

DREAMSPLAT_INLINE uint64_t blocks_inside(const Tile& t) {
    uint64_t blocks = 0;
    for (int block = 0; block < kBlocks; ++block)
        if (block % 8 * kBlock < t.columns && block / 8 * kBlock < t.rows) blocks |= 1ull << block;
    return blocks;
}

DREAMSPLAT_INLINE M16 pixels_inside(const Tile& t, int block) {
    return (block_x(block) < V16(float(t.columns))) & (block_y(block) < V16(float(t.rows)));
}

// The entries at work, relative to the tile's corner.
struct Chunk {
    Splat splats[kChunk];
    int count;
};

DREAMSPLAT_INLINE void gather(const Tile& t, const Frame& frame, uint32_t first, Chunk& chunk) {
    chunk.count = int(std::min<uint32_t>(kChunk, t.last - first));
    for (int i = 0; i < chunk.count; ++i) {
        if (first + i + 8 < t.last) __builtin_prefetch(&frame.splats[frame.entries[first + i + 8]]);
        Splat& s = chunk.splats[i];
        s = frame.splats[frame.entries[first + i]];
        s.x -= float(t.left);
        s.y -= float(t.top);
    }
}

// For 16 splats, from `first_lane` on, and each row of blocks, a byte: the columns of the blocks that an ellipse touches,
// exact except for a slack that only adds blocks. A row cuts a strip from the ellipse, whose outermost points lie nearest
// to the ellipse's own.
DREAMSPLAT_INLINE void touched_columns(const Splat* splats, int first_lane, uint8_t (*columns)[64]) {
    V16 f[8];
    load_columns(&splats->x, 0, 16, sizeof(Splat) / sizeof(float), 8, f);
    const V16 zero(0), eight(8), slack(1e-3f), wider(1.0005f), quarter(0.25f);
    const V16 x = f[0], y = f[1], l2 = f[2], l3 = f[3], reach = f[4] + kLog2Of255 + slack, half_height = f[5] + slack;
    const V16 right_dy = f[6], blocks_per_u = f[7] * quarter;
    // Column c spans pixel centres 4 c + 0.5 to 4 c + 3.5. The added 1 makes truncation round down; for `first`, which
    // is to round up, it stands for the rest, so a whole number costs a block too many.
    const V16 past = fma(x + slack - 0.5f, quarter, V16(1)), before = fma(x - slack - 3.5f, quarter, V16(1));
    for (int row = 0; row < 8; ++row) {
        const V16 top = V16(float(row * kBlock) + 0.5f) - y;
        const V16 low = max(top, -half_height), high = min(top + 3.0f, half_height);
        const V16 right_at = min(max(right_dy, low), high), left_at = min(max(-right_dy, low), high);
        const V16 right_v = right_at * l3, left_v = left_at * l3;
        const V16 right_u = rough_sqrt(fnma(right_v, right_v, reach)) * wider;
        const V16 left_u = rough_sqrt(fnma(left_v, left_v, reach)) * wider;
        const V16 last = fma(fnma(l2, right_at, right_u), blocks_per_u, past);  // end excluded
        const V16 first = fma(-fma(l2, left_at, left_u), blocks_per_u, before);
        store_bits_between(min(max(first, zero), eight), select(low <= high, min(max(last, zero), eight), zero),
                           columns[row] + first_lane);
    }
}

// The lowest `count` bits, for counts of any size.
DREAMSPLAT_INLINE uint64_t low_bits(float count) {
    return count >= 64 ? ~0ull : count <= 0 ? 0 : (1ull << int(count)) - 1;
}

inline void touch_blocks(const Chunk& chunk, Touches& touches) {
    for (int word = 0; word < kWords; ++word) {
        alignas(64) uint8_t columns[8][64];
        const int count = chunk.count - 64 * word;
        for (int first = 0; first < 64 && first < count; first += 16)
            touched_columns(chunk.splats + 64 * word + first, first, columns);
        const uint64_t filled = low_bits(float(count));
        for (int row = 0; row < 8; ++row) {
            bit_planes(columns[row], &touches.words[8 * row][word], kWords);
            for (int column = 0; column < 8; ++column) touches.words[8 * row + column][word] &= filled;
        }
    }
}

// The state of a tile's pixels while it is blended, in block order, beside TilePixels: colour without background,
// depth, and the exponent under which a Gaussian is skipped: kEnded once the pixel has ended, or outside the image.
struct alignas(64) TileSums {
    float colour[3][kBlocks][16], depth[kBlocks][16], threshold[kBlocks][16];
};

inline void clear_tile(const Tile& t, TilePixels& pixels, TileSums& sums) {
    const V16 zero(0);
    for (int block = 0; block < kBlocks; ++block) {
        const M16 inside = pixels_inside(t, block);
        V16(1).store(pixels.transmittance[block]);
        select(inside, V16(kNever), zero).store(pixels.end[block]);
        for (int c = 0; c < 3; ++c) zero.store(sums.colour[c][block]);
        zero.store(sums.depth[block]);
        select(inside, V16(-kLog2Of255), V16(kEnded)).store(sums.threshold[block]);
    }
}

// Blends a chunk, whose first entry is number `before` of the tile's, into one block. Returns whether any pixel
// of the block is still alive.
DREAMSPLAT_INLINE bool blend_block(const Chunk& chunk, const uint64_t* touches, int block, float before,
                                   TilePixels& pixels, TileSums& sums) {
    const V16 x = block_x(block), y = block_y(block);
    V16 rest = V16::load(pixels.transmittance[block]), limit = V16::load(sums.threshold[block]);
    V16 red = V16::load(sums.colour[0][block]), green = V16::load(sums.colour[1][block]);
    V16 blue = V16::load(sums.colour[2][block]), z = V16::load(sums.depth[block]);
    const auto store = [&] {
        rest.store(pixels.transmittance[block]);
        limit.store(sums.threshold[block]);
        red.store(sums.colour[0][block]);
        green.store(sums.colour[1][block]);
        blue.store(sums.colour[2][block]);
        z.store(sums.depth[block]);
    };
    for (int word = 0; word < kWords; ++word)
        for (uint64_t set = touches[word]; set; set &= set - 1) {
            const int entry = 64 * word + __builtin_ctzll(set);
            const Splat& s = chunk.splats[entry];
            const V16 e = exponent(s, x, y), a = min(exp2(e), V16(kMaxAlpha)), next = fnma(a, rest, rest);
            M16 hit = e >= limit;
            const M16 ends = hit & (next <= V16(kMinTransmittance));
            if (__builtin_expect(ends.any(), 0)) {
                select(ends, V16(before + float(entry)), V16::load(pixels.end[block])).store(pixels.end[block]);
                limit = select(ends, V16(kEnded), limit);
                hit = hit & ~ends;
                if (!(limit < V16(kEnded)).any()) {  // All pixels have ended, so that this Gaussian hits none of them.
                    store();
                    return false;
                }
            }
            const V16 weight = select(hit, a * rest, V16(0));
            rest = select(hit, next, rest);
            red = fma(weight, V16(s.colour[0]), red);
            green = fma(weight, V16(s.colour[1]), green);
            blue = fma(weight, V16(s.colour[2]), blue);
            z = fma(weight, V16(s.depth), z);
        }
    store();
    return true;
}

inline void write_tile(const Scene& scene, const Tile& t, const TilePixels& pixels, const TileSums& sums,
                       float* rgb, float* alpha, float* depth) {
    const float* background = scene.background + 3 * t.camera;
    for (int row = 0; row < t.rows; ++row) {
        const int64_t line = (int64_t(t.camera) * scene.height + t.top + row) * scene.width + t.left;
        for (int left = 0; left < t.columns; left += kBlock) {
            const int block = row / kBlock * 8 + left / kBlock, lane = row % kBlock * kBlock;
            const V4 rest = V4::load(pixels.transmittance[block] + lane);
            V4 colour[3];
            for (int c = 0; c < 3; ++c)
                colour[c] = fma(rest, V4(background[c]), V4::load(sums.colour[c][block] + lane));
            float together[12], opaque[4];
            interleave(colour[0], colour[1], colour[2], together);
            (V4(1) - rest).store(opaque);
            const size_t bytes = sizeof(float) * size_t(std::min(kBlock, t.columns - left));
            const auto copy = [&](size_t n) {
                std::memcpy(rgb + 3 * (line + left), together, 3 * n);
                std::memcpy(alpha + line + left, opaque, n);
                std::memcpy(depth + line + left, sums.depth[block] + lane, n);
            };
            if (bytes == sizeof opaque) copy(sizeof opaque);  // A constant size is copied without a call.
            else copy(bytes);
        }
    }
}

inline void composite_tile(const Scene& scene, Frame& frame, int64_t index, float* rgb, float* alpha, float* depth) {
    const Tile t = make_tile(scene, frame, index);
    TilePixels& pixels = frame.pixels[index];
    TileSums sums;
    clear_tile(t, pixels, sums);
    uint64_t alive = blocks_inside(t);
    Chunk chunk;
    uint32_t first = t.first;
    Touches* touches = frame.touches.data() + t.first_chunk;
    for (; first < t.last && alive; first += kChunk, ++touches) {
        gather(t, frame, first, chunk);
        touch_blocks(chunk, *touches);
        for (uint64_t blocks = alive; blocks; blocks &= blocks - 1) {
            const int block = __builtin_ctzll(blocks);
            if (touches->any(block) &&
                !blend_block(chunk, touches->words[block], block, float(first - t.first), pixels, sums))
                alive &= ~(1ull << block);
        }
    }
    frame.tile_done[index] = std::min(first, t.last);
    write_tile(scene, t, pixels, sums, rgb, alpha, depth);
}

}  // namespace dreamsplat
