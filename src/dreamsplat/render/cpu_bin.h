// Stages 2 and 3: sort each camera's visible Gaussians by depth, once, then bin them to tiles by a stable counting
// sort. Sorting N keys and not the larger number of (tile, Gaussian) pairs is what makes this cheap.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu_frame.h"
#include "cpu_threads.h"

namespace dreamsplat {

// Stable least-significant-digit radix sort of (key << 32 | index) pairs by key; the result is in `a`.
inline void radix_sort(uint64_t*& a, uint64_t*& b, uint32_t count, uint32_t smallest, uint32_t largest) {
    uint32_t bits = 0;
    while (bits < 32 && (uint64_t(largest - smallest) >> bits) != 0) ++bits;
    const uint32_t passes = (bits + 11) / 12;
    if (passes == 0) return;
    const uint32_t digit = (bits + passes - 1) / passes, buckets = 1u << digit;
    uint32_t start[4096];
    for (uint32_t pass = 0; pass < passes; ++pass) {
        const uint32_t shift = 32 + pass * digit;
        std::memset(start, 0, sizeof(uint32_t) * buckets);
        for (uint32_t i = 0; i < count; ++i) ++start[(a[i] >> shift) & (buckets - 1)];
        for (uint32_t d = 0, sum = 0; d < buckets; ++d) {
            const uint32_t n = start[d];
            start[d] = sum;
            sum += n;
        }
        for (uint32_t i = 0; i < count; ++i) b[start[(a[i] >> shift) & (buckets - 1)]++] = a[i];
        std::swap(a, b);
    }
}

// Front to back by camera-space z, ties by index: depths are positive, so their bits order like their values.
inline void sort_camera(const Scene& scene, Frame& frame, int camera) {
    const int64_t n = scene.gaussians, base = camera * n;
    uint64_t *a = frame.sort_pairs.data() + 2 * base, *b = a + n;
    uint32_t count = 0, smallest = UINT32_MAX, largest = 0;
    for (int64_t i = 0; i < n; ++i) {
        uint32_t key;
        std::memcpy(&key, &frame.depths[base + i], sizeof key);
        if (key == 0) continue;
        smallest = std::min(smallest, key);
        largest = std::max(largest, key);
        a[count++] = uint64_t(key) << 32 | uint64_t(i);
    }
    for (uint32_t i = 0; i < count; ++i) a[i] -= uint64_t(smallest) << 32;
    radix_sort(a, b, count, smallest, largest);
    for (uint32_t i = 0; i < count; ++i) frame.order[base + i] = uint32_t(a[i]);
    frame.visible[camera] = count;
}

inline TileRect tile_rect(const Splat& s, const Frame& frame) {
    const float slack = 1e-3f;  // px; boxes may be too large, never too small
    const auto clamp = [](float v, int64_t tiles) { return uint16_t(std::min(std::max(v, 0.0f), float(tiles))); };
    return {clamp(std::floor((s.x - s.half_width - slack) / kTile), frame.tiles_x - 1),
            clamp(std::floor((s.y - s.half_height - slack) / kTile), frame.tiles_y - 1),
            clamp(std::floor((s.x + s.half_width + slack) / kTile) + 1, frame.tiles_x),
            clamp(std::floor((s.y + s.half_height + slack) / kTile) + 1, frame.tiles_y)};
}

// Each camera's sorted Gaussians are cut into `parts` runs, so that one camera keeps several threads busy. The counts
// of all runs before a run say where its entries go, so the result is that of a serial stable sort for any `parts`.
inline void bin(const Scene& scene, Frame& frame, ThreadPool& pool, int threads) {
    const int64_t n = scene.gaussians, tiles = frame.tiles, cameras = scene.cameras;
    const int64_t parts = std::max<int64_t>(1, (threads + cameras - 1) / cameras);
    const auto run = [&](int64_t task, auto&& each) {
        const int64_t camera = task / parts, part = task % parts, count = frame.visible[camera];
        for (int64_t i = count * part / parts; i < count * (part + 1) / parts; ++i) each(camera * n, camera * n + i);
    };

    frame.counts.reserve(size_t(cameras * parts * (tiles + 1)));  // per task: entries per tile, then all its entries
    pool.parallel_for(cameras * parts, threads, [&](int64_t task) {
        uint32_t* counts = frame.counts.data() + task * (tiles + 1);
        std::fill(counts, counts + tiles + 1, 0u);
        run(task, [&](int64_t base, int64_t i) {
            const TileRect r = tile_rect(frame.splats[base + frame.order[i]], frame);
            frame.rects[i] = r;
            counts[tiles] += uint32_t(r.x1 - r.x0) * uint32_t(r.y1 - r.y0);
            for (int64_t y = r.y0; y < r.y1; ++y)
                for (int64_t x = r.x0; x < r.x1; ++x) ++counts[y * frame.tiles_x + x];
        });
    });

    // Counts become first places: of entries per tile, and of slots per task.
    frame.tile_start.reserve(size_t(cameras * tiles + 1));
    uint64_t place = 0, slot = 0;
    for (int64_t camera = 0; camera < cameras; ++camera) {
        for (int64_t tile = 0; tile < tiles; ++tile) {
            frame.tile_start[camera * tiles + tile] = uint32_t(place);
            for (int64_t part = 0; part < parts; ++part) {
                uint32_t& count = frame.counts[(camera * parts + part) * (tiles + 1) + tile];
                const uint32_t here = count;
                count = uint32_t(place);
                place += here;
            }
        }
        for (int64_t part = 0; part < parts; ++part) {
            uint32_t& count = frame.counts[(camera * parts + part) * (tiles + 1) + tiles];
            const uint32_t here = count;
            count = uint32_t(slot);
            slot += here;
        }
    }
    if (place > UINT32_MAX) throw std::bad_alloc();
    frame.tile_start[cameras * tiles] = uint32_t(place);

    frame.entries.reserve(place);
    frame.block_masks.reserve(place);
    pool.parallel_for(cameras * parts, threads, [&](int64_t task) {
        uint32_t* next = frame.counts.data() + task * (tiles + 1);
        run(task, [&](int64_t base, int64_t i) {
            const TileRect r = frame.rects[i];
            const uint32_t splat = uint32_t(base) + frame.order[i];
            frame.splats[splat].first_slot = next[tiles];
            frame.splats[splat].slots = uint32_t(r.x1 - r.x0) * uint32_t(r.y1 - r.y0);
            for (int64_t y = r.y0; y < r.y1; ++y)
                for (int64_t x = r.x0; x < r.x1; ++x)
                    frame.entries[next[y * frame.tiles_x + x]++] = {splat, next[tiles]++};
        });
    });
}

}  // namespace dreamsplat
