// Stages 2 and 3: sort each camera's visible Gaussians by depth, once, then bin them to tiles by a stable counting
// sort. This is cheap because it sorts N keys rather than the many more (tile, Gaussian) pairs.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu_frame.h"
#include "cpu_simd.h"
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
    uint32_t count = 0, smallest = UINT32_MAX, largest = 0, slot = 0;
    for (int64_t i = 0; i < n; ++i) {
        const TileRect r = frame.rects[base + i];
        const uint32_t pitch = uint32_t(r.x1 - r.x0);
        frame.first_slot[base + camera + i] = slot;
        frame.splats[base + i].slot_base = slot - r.y0 * pitch - r.x0;
        frame.splats[base + i].slot_pitch = pitch;
        slot += r.area();
        uint32_t key;
        std::memcpy(&key, &frame.depths[base + i], sizeof key);
        if (key == 0) continue;
        smallest = std::min(smallest, key);
        largest = std::max(largest, key);
        a[count++] = uint64_t(key) << 32 | uint64_t(i);
    }
    frame.first_slot[base + camera + n] = slot;
    for (uint32_t i = 0; i < count; ++i) a[i] -= uint64_t(smallest) << 32;
    radix_sort(a, b, count, smallest, largest);
    for (uint32_t i = 0; i < count; ++i) frame.order[base + i] = uint32_t(a[i]);
    frame.visible[camera] = count;
}

// Calls visit(tile, inside) for the tiles of a rectangle, and perhaps for others with inside = false. Most rectangles
// are at most 2 x 2 tiles; branches on their exact size would be badly predicted.
template <class Visit>
DREAMSPLAT_INLINE void for_each_tile(TileRect r, int64_t tiles_x, const Visit& visit) {
    const int64_t first = r.y0 * tiles_x + r.x0, wide = r.x1 - r.x0, high = r.y1 - r.y0;
    if (wide <= 2 && high <= 2) {
        visit(first, true);
        visit(first + 1, wide == 2);
        visit(first + tiles_x, high == 2);
        visit(first + tiles_x + 1, wide == 2 && high == 2);
        return;
    }
    for (int64_t y = 0; y < high; ++y)
        for (int64_t x = 0; x < wide; ++x) visit(first + y * tiles_x + x, true);
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

    // Per task: entries per tile, and room for the tiles beyond the last that for_each_tile may name.
    const int64_t pitch = tiles + frame.tiles_x + 2;
    frame.counts.reserve(size_t(cameras * parts * pitch));
    pool.parallel_for(cameras * parts, threads, [&](int64_t task) {
        uint32_t* counts = frame.counts.data() + task * pitch;
        std::fill(counts, counts + pitch, 0u);
        run(task, [&](int64_t base, int64_t i) {
            const TileRect r = frame.rects[base + frame.order[i]];
            frame.ordered_rects[i] = r;
            for_each_tile(r, frame.tiles_x, [&](int64_t tile, bool inside) { counts[tile] += inside; });
        });
    });

    // Counts become first places.
    frame.tile_start.reserve(size_t(cameras * tiles + 1));
    uint64_t place = 0;
    for (int64_t camera = 0; camera < cameras; ++camera) {
        frame.camera_slot[camera] = uint32_t(place);
        for (int64_t tile = 0; tile < tiles; ++tile) {
            frame.tile_start[camera * tiles + tile] = uint32_t(place);
            for (int64_t part = 0; part < parts; ++part) {
                uint32_t& count = frame.counts[(camera * parts + part) * pitch + tile];
                const uint32_t here = count;
                count = uint32_t(place);
                place += here;
            }
        }
    }
    if (place > UINT32_MAX) throw std::bad_alloc();
    frame.tile_start[cameras * tiles] = uint32_t(place);

    frame.entries.reserve(place + uint64_t(cameras * parts));  // Plus a spare one per task.
    frame.touches.reserve(first_chunk(uint32_t(place), cameras * tiles));
    pool.parallel_for(cameras * parts, threads, [&](int64_t task) {
        uint32_t* next = frame.counts.data() + task * pitch;
        const uint32_t spare = uint32_t(place + task);
        run(task, [&](int64_t base, int64_t i) {
            const TileRect r = frame.ordered_rects[i];
            const uint32_t splat = uint32_t(base) + frame.order[i];
            for_each_tile(r, frame.tiles_x, [&](int64_t tile, bool inside) {
                frame.entries[inside ? next[tile] : spare] = splat;
                next[tile] += inside;
            });
        });
    });
}

}  // namespace dreamsplat
