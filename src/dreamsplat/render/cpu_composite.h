// Stage 4, composite: blend each tile's Gaussians front to back.
//
// A tile is 32 x 32 px in 8 x 8 blocks of 4 x 4 px; the 16 pixels of a block are the 16 lanes of a vector. Entries are
// taken in chunks: gathered into the first-level cache, given a 64-bit mask of the blocks that their ellipse touches,
// and the masks transposed as a bit matrix, which gives each block the list of its Gaussians.
#pragma once

#include <algorithm>
#include <cmath>

#include "cpu_frame.h"
#include "cpu_project.h"
#include "cpu_simd.h"

namespace dreamsplat {

constexpr int kChunk = 128;                 // entries at a time
constexpr int kWords = kChunk / 64;
constexpr float kMaxAlpha = 0.99f;          // largest opacity of one Gaussian at one pixel
constexpr float kMinTransmittance = 1e-4f;  // a Gaussian that would bring a pixel to this or under ends it, unblended
constexpr float kEnded = 1e30f;             // threshold that no exponent reaches

// Pixel centres of a block relative to its corner.
alignas(64) constexpr float kPixelX[16] = {.5f, 1.5f, 2.5f, 3.5f, .5f, 1.5f, 2.5f, 3.5f,
                                           .5f, 1.5f, 2.5f, 3.5f, .5f, 1.5f, 2.5f, 3.5f};
alignas(64) constexpr float kPixelY[16] = {.5f, .5f, .5f, .5f, 1.5f, 1.5f, 1.5f, 1.5f,
                                           2.5f, 2.5f, 2.5f, 2.5f, 3.5f, 3.5f, 3.5f, 3.5f};

DREAMSPLAT_INLINE V16 block_x(int block) { return V16::load(kPixelX) + float(block % 8 * kBlock); }
DREAMSPLAT_INLINE V16 block_y(int block) { return V16::load(kPixelY) + float(block / 8 * kBlock); }

// Which blocks of a tile the ellipse alpha >= 1/255 touches: bit 8 row + column. Exact but for a slack that only adds
// blocks. `s` is relative to the tile's corner; the 8 rows of blocks are 8 lanes.
DREAMSPLAT_INLINE uint64_t touched_blocks(const Splat& s) {
    alignas(32) static constexpr float kRowY[8] = {.5f, 4.5f, 8.5f, 12.5f, 16.5f, 20.5f, 24.5f, 28.5f};
    const float slack = 1e-3f;
    const V8 zero(0), reach(s.log2_opacity + kLog2Of255 + slack), top = V8::load(kRowY) - s.y;
    const V8 low = max(top, V8(-s.half_height - slack)), high = min(top + 3.0f, V8(s.half_height + slack));
    // Each row of blocks cuts a strip from the ellipse; its outermost points lie nearest to the ellipse's own.
    const V8 right_dy = min(max(V8(s.right_dy), low), high), left_dy = min(max(V8(-s.right_dy), low), high);
    const V8 right_v = right_dy * s.l3, left_v = left_dy * s.l3;
    const V8 right_u = sqrt(max(fnma(right_v, right_v, reach), zero));
    const V8 left_u = sqrt(max(fnma(left_v, left_v, reach), zero));
    const V8 right = fma(fnma(V8(s.l2), right_dy, right_u), V8(s.inverse_l1), V8(s.x + slack));
    const V8 left = fma(-fma(V8(s.l2), left_dy, left_u), V8(s.inverse_l1), V8(s.x - slack));
    // Column c spans pixel centres 4 c + 0.5 to 4 c + 3.5. The added 1 makes truncation round down; for `first`, which
    // is to round up, it stands for the rest, so a whole number costs a block too many.
    const V8 last = select(low <= high, min(max((right - 0.5f) * 0.25f + 1.0f, zero), V8(8)), zero);  // end excluded
    const V8 first = min(max((left - 3.5f) * 0.25f + 1.0f, zero), V8(8));
    float lasts[8], firsts[8];
    last.store(lasts);
    first.store(firsts);
    uint64_t mask = 0;
    for (int row = 0; row < 8; ++row) {
        const uint32_t end = uint32_t(lasts[row]), begin = uint32_t(firsts[row]);
        mask |= uint64_t((0xffu >> (8 - end)) & (0xffu << begin) & 0xffu) << (8 * row);
    }
    return mask;
}

// m[i] bit j <-> m[j] bit i, for 64 words.
inline void transpose_bits(uint64_t* m) {
    uint64_t low = 0x00000000ffffffffull;
    for (int width = 32; width > 0; width /= 2, low ^= low << width)
        for (int base = 0; base < 64; base += 2 * width)
            for (int i = base; i < base + width; ++i) {
                const uint64_t swap = ((m[i] >> width) ^ m[i + width]) & low;
                m[i] ^= swap << width;
                m[i + width] ^= swap;
            }
}

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

// The entries at work, relative to the tile's corner, and for each block the set of those that may touch it.
struct Chunk {
    Splat splats[kChunk];
    uint64_t touches[kWords][kBlocks];
    int count;
};

DREAMSPLAT_INLINE void gather(const Tile& t, const Frame& frame, uint32_t first, Chunk& chunk) {
    chunk.count = int(std::min<uint32_t>(kChunk, t.last - first));
    for (int i = 0; i < chunk.count; ++i) {
        if (first + i + 8 < t.last) __builtin_prefetch(&frame.splats[frame.entries[first + i + 8].splat]);
        Splat& s = chunk.splats[i];
        s = frame.splats[frame.entries[first + i].splat];
        s.x -= float(t.left);
        s.y -= float(t.top);
    }
}

DREAMSPLAT_INLINE void transpose_masks(const uint64_t* masks, Chunk& chunk) {
    for (int word = 0; word < kWords; ++word) {
        uint64_t* m = chunk.touches[word];
        for (int i = 0; i < 64; ++i) m[i] = 64 * word + i < chunk.count ? masks[64 * word + i] : 0;
        transpose_bits(m);
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

// Blends a chunk, whose first entry is number `before` of the tile's, into one block. Returns whether any of the
// block's pixels lives on.
DREAMSPLAT_INLINE bool blend_block(const Chunk& chunk, int block, float before, TilePixels& pixels, TileSums& sums) {
    const V16 x = block_x(block), y = block_y(block);
    V16 rest = V16::load(pixels.transmittance[block]), limit = V16::load(sums.threshold[block]);
    V16 red = V16::load(sums.colour[0][block]), green = V16::load(sums.colour[1][block]);
    V16 blue = V16::load(sums.colour[2][block]), z = V16::load(sums.depth[block]);
    bool alive = true;
    for (int word = 0; word < kWords; ++word)
        for (uint64_t set = chunk.touches[word][block]; set; set &= set - 1) {
            const int entry = 64 * word + __builtin_ctzll(set);
            const Splat& s = chunk.splats[entry];
            const V16 e = exponent(s, x, y), a = min(exp2(e), V16(kMaxAlpha)), next = fnma(a, rest, rest);
            M16 hit = e >= limit;
            const M16 ends = hit & (next <= V16(kMinTransmittance));
            if (__builtin_expect(ends.any(), 0)) {
                select(ends, V16(before + float(entry)), V16::load(pixels.end[block])).store(pixels.end[block]);
                limit = select(ends, V16(kEnded), limit);
                hit = hit & ~ends;
                if (!(limit < V16(kEnded)).any()) {  // all pixels have ended: leave both loops after this visit
                    alive = false;
                    set = 1;
                    word = kWords;
                }
            }
            const V16 weight = select(hit, a * rest, V16(0));
            rest = select(hit, next, rest);
            red = fma(weight, V16(s.colour[0]), red);
            green = fma(weight, V16(s.colour[1]), green);
            blue = fma(weight, V16(s.colour[2]), blue);
            z = fma(weight, V16(s.depth), z);
        }
    rest.store(pixels.transmittance[block]);
    limit.store(sums.threshold[block]);
    red.store(sums.colour[0][block]);
    green.store(sums.colour[1][block]);
    blue.store(sums.colour[2][block]);
    z.store(sums.depth[block]);
    return alive;
}

inline void write_tile(const Scene& scene, const Tile& t, const TilePixels& pixels, const TileSums& sums,
                       float* rgb, float* alpha, float* depth) {
    const float* background = scene.background + 3 * t.camera;
    for (int row = 0; row < t.rows; ++row) {
        const int64_t line = (int64_t(t.camera) * scene.height + t.top + row) * scene.width + t.left;
        for (int column = 0; column < t.columns; ++column) {
            const int block = row / kBlock * 8 + column / kBlock, lane = row % kBlock * kBlock + column % kBlock;
            const float rest = pixels.transmittance[block][lane];
            for (int c = 0; c < 3; ++c)
                rgb[3 * (line + column) + c] = sums.colour[c][block][lane] + rest * background[c];
            alpha[line + column] = 1.0f - rest;
            depth[line + column] = sums.depth[block][lane];
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
    for (; first < t.last && alive; first += kChunk) {
        gather(t, frame, first, chunk);
        uint64_t* masks = frame.block_masks.data() + first;
        for (int i = 0; i < chunk.count; ++i) masks[i] = touched_blocks(chunk.splats[i]);
        transpose_masks(masks, chunk);
        for (uint64_t blocks = alive; blocks; blocks &= blocks - 1) {
            const int block = __builtin_ctzll(blocks);
            if (!blend_block(chunk, block, float(first - t.first), pixels, sums)) alive &= ~(1ull << block);
        }
    }
    frame.tile_done[index] = std::min(first, t.last);
    write_tile(scene, t, pixels, sums, rgb, alpha, depth);
}

}  // namespace dreamsplat
