// What the stages pass to each other: the inputs, one row per (camera, Gaussian), and the lists of a forward pass,
// which its backward pass reads again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>

namespace dreamsplat {

// The inputs of one call; mirrored in __init__.py. All arrays are dense, row-major float32. screen_offsets may be null.
struct Scene {
    int32_t gaussians, cameras, width, height, coefficients;  // N, C, W, H, K
    const float* means;            // [N, 3]
    const float* scales;           // [N, 3]
    const float* quats;            // [N, 4]
    const float* opacities;        // [N]
    const float* sh;               // [N, K, 3]
    const float* world_to_camera;  // [C, 4, 4]
    const float* intrinsics;       // [C, 3, 3]
    const float* background;       // [C, 3]
    const float* screen_offsets;   // [C, N, 2]
};

// Gradients of the outputs; any may be null, which means zero.
struct OutputGradients {
    const float* rgb;    // [C, H, W, 3]
    const float* alpha;  // [C, H, W]
    const float* depth;  // [C, H, W]
};

// Gradients of the inputs, overwritten; background and screen_offsets may be null.
struct InputGradients {
    float *means, *scales, *quats, *opacities, *sh, *background, *screen_offsets;
};

// A Gaussian on one camera's screen, one cache line. Its exponent at a pixel, with dx and dy from the centre, is
//   log2 alpha = log2_opacity - u^2 - v^2,  u = l1 dx + l2 dy,  v = l3 dy:
// a Cholesky factor of the inverse covariance times log2(e) / 2, so no rounding can make the quadratic form negative.
struct alignas(64) Splat {
    float x, y;                     // centre, px
    float l2, l3;                   // 1 / px
    float log2_opacity;
    float half_height;              // of the box around the ellipse alpha >= 1/255, px
    float right_dy;                 // dy of that ellipse's rightmost point, px
    float inverse_l1;               // px
    float l1;                       // 1 / px
    float colour[3], depth;
    uint32_t slot_base, slot_pitch;  // see gradient_slot
    uint32_t unused;
};
static_assert(sizeof(Splat) == 64, "one cache line");

// Sums over the pixels of one tile that one Gaussian receives in the backward pass.
struct GradientRow {
    float moments[6];  // of g = alpha dL/dalpha over u and v of Splat: g, g u, g v, g u^2, g u v, g v^2
    float colour[4];   // dL/dcolour, dL/ddepth
};

// Gradient rows lie camera by camera and Gaussian by Gaussian, in the order of the tiles of its rectangle, so that the
// backward pass over the Gaussians reads them in sequence. Modulo 2^32, slot_base = first_slot - y0 pitch - x0.
inline uint32_t gradient_slot(const Splat& s, uint32_t camera_slot, uint32_t tile_x, uint32_t tile_y) {
    return camera_slot + s.slot_base + tile_y * s.slot_pitch + tile_x;
}

// A grow-only array of plain values, uninitialised. Kept between calls, because fresh pages cost as much as a small image.
template <class T>
class Buffer {
  public:
    Buffer() = default;
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { release(); }
    void reserve(size_t count) {
        if (count <= capacity_) return;
        release();
        const size_t wanted = count + count / 8;
        data_ = static_cast<T*>(::operator new(wanted * sizeof(T), std::align_val_t(64)));
        capacity_ = wanted;
    }
    T* data() { return data_; }
    const T* data() const { return data_; }
    T& operator[](size_t i) { return data_[i]; }
    const T& operator[](size_t i) const { return data_[i]; }

  private:
    void release() {
        ::operator delete(data_, std::align_val_t(64));
        data_ = nullptr;
        capacity_ = 0;
    }
    T* data_ = nullptr;
    size_t capacity_ = 0;
};

constexpr int kTile = 32, kBlock = 4, kBlocks = 64;  // px, px, blocks per tile (8 x 8)

// A tile's entries are blended in chunks of this many.
constexpr int kChunk = 128, kWords = kChunk / 64;

// For each block of a tile, the set of a chunk's entries whose ellipse alpha >= 1/255 may touch it: bit i for entry i.
struct Touches {
    uint64_t words[kBlocks][kWords];
    bool any(int block) const {
        uint64_t all = 0;
        for (uint64_t word : words[block]) all |= word;
        return all != 0;
    }
};

// Where a tile's first chunk lies, over all tiles: a tile has at most one chunk that is not full.
inline uint32_t first_chunk(uint32_t first_entry, int64_t tile) { return first_entry / kChunk + uint32_t(tile); }

// The final state of a tile's pixels, in block order, for the backward pass. `end` counts the tile's entries before the
// one that ended the pixel: kNever where none did, 0 outside the image. Counts are exact up to 2^24 entries in a tile.
struct alignas(64) TilePixels {
    float transmittance[kBlocks][16], end[kBlocks][16];
};
constexpr float kNever = 1e30f;

// Rectangle of tiles that a Gaussian's box touches, ends excluded; empty where it is culled.
struct TileRect {
    uint16_t x0, y0, x1, y1;
    uint32_t area() const { return uint32_t(x1 - x0) * uint32_t(y1 - y0); }
};

// A forward pass, kept for its backward passes, which run one at a time.
struct Frame {
    std::mutex backward;
    int64_t tiles_x = 0, tiles_y = 0, tiles = 0;  // of one camera
    Buffer<Splat> splats;                          // [C, N]
    Buffer<float> depths;                          // [C, N], 0 where culled
    Buffer<TileRect> rects;                        // [C, N]
    Buffer<uint32_t> first_slot;                   // [C, N + 1] of a Gaussian's gradient rows, from its camera's first
    Buffer<uint32_t> camera_slot;                  // [C] a camera's first
    Buffer<uint32_t> order;                        // [C, N] visible Gaussians front to back
    Buffer<uint32_t> visible;                      // [C] how many those are
    Buffer<uint64_t> sort_pairs;                   // [C, 2, N] scratch
    Buffer<TileRect> ordered_rects;                // [C, N] scratch
    Buffer<uint32_t> counts;                       // scratch of the bin stage
    Buffer<uint32_t> tile_start;                   // [C * tiles + 1] into entries
    Buffer<uint32_t> tile_done;                    // [C * tiles] entries looked at before all pixels had ended
    Buffer<uint32_t> entries;                      // (tile, Gaussian) pairs, tile by tile, front to back: into splats
    Buffer<Touches> touches;                       // per chunk, see first_chunk
    Buffer<TilePixels> pixels;                     // [C * tiles]
    Buffer<GradientRow> rows;                      // per (tile, Gaussian) pair, see gradient_slot
    Buffer<float> tile_background;                 // [C * tiles, 3] gradient of the background
};

}  // namespace dreamsplat
