// A differentiable rasteriser of 3D Gaussians for the CPU behind a C interface; __init__.py loads it.
//
// Stages, named as in reference.py, each in its own header with its backward pass:
//   project    cpu_project.h        one 64-byte row (Splat) per (camera, Gaussian)
//   sort, bin  cpu_bin.h            by depth per camera, then to 32 x 32 px tiles
//   composite  cpu_composite.h      front to back, a block of 4 x 4 px at a time
//
// Threading: cpu_threads.h. Tasks are runs of Gaussians, cameras or tiles; each writes only its own memory, and every
// sum is taken in an order that depends on the inputs alone, so results are bitwise equal for any number of threads.
// There are no atomics on floats and no buffers per thread.
//
// Numerics: float32 throughout. alpha is exp2(log2 opacity - quadratic form), so opacity costs no multiplication and
// the cut at 1/255 is a comparison of exponents. The quadratic form is a sum of squares; the determinant of the
// covariance on screen is too. Contraction into fused multiply-adds is explicit only (cpu_simd.h).
#include "cpu_bin.h"
#include "cpu_composite.h"
#include "cpu_composite_backward.h"
#include "cpu_frame.h"
#include "cpu_project.h"
#include "cpu_project_backward.h"
#include "cpu_threads.h"

#include <pthread.h>

#include <memory>
#include <vector>

#define DREAMSPLAT_EXPORT extern "C" __attribute__((visibility("default")))

namespace dreamsplat {
namespace {

// The pool, and frames that wait for their next use: they keep their memory, which is cheaper than fresh pages.
struct Runtime {
    ThreadPool pool;
    std::mutex mutex;
    std::vector<std::unique_ptr<Frame>> idle;
};
constexpr size_t kIdleFrames = 2;

std::atomic<Runtime*> current{nullptr};

// Never destroyed, for its threads are never joined. A fork leaves the child without those threads and with locks in
// any state, so the child drops the runtime and makes another.
Runtime& runtime() {
    Runtime* r = current.load();
    if (r == nullptr) {
        Runtime* fresh = new Runtime;
        if (current.compare_exchange_strong(r, fresh)) {
            static std::atomic<bool> registered{false};
            if (!registered.exchange(true)) pthread_atfork(nullptr, nullptr, [] { current.store(nullptr); });
            return *fresh;
        }
        delete fresh;
    }
    return *r;
}

std::unique_ptr<Frame> take_frame(Runtime& r) {
    std::lock_guard<std::mutex> lock(r.mutex);
    if (r.idle.empty()) return std::make_unique<Frame>();
    std::unique_ptr<Frame> frame = std::move(r.idle.back());
    r.idle.pop_back();
    return frame;
}

constexpr int64_t kRun = 32;  // batches of 16 Gaussians per task

template <class Work>
void for_each_batch(Runtime& r, const Scene& s, int threads, const Work& work) {
    const int64_t batches = (s.gaussians + 15) / 16;
    r.pool.parallel_for((batches + kRun - 1) / kRun, threads, [&](int64_t run) {
        for (int64_t i = run * kRun; i < std::min(batches, (run + 1) * kRun); ++i) work(16 * i);
    });
}

std::vector<View> make_views(const Scene& s) {
    std::vector<View> views;
    for (int camera = 0; camera < s.cameras; ++camera) views.push_back(make_view(s, camera));
    return views;
}

// Returns whether the inputs hold only values that can be rendered; if not, nothing is drawn. Looking here costs less
// than looking before, since every value is in a register once.
bool forward(Runtime& r, const Scene& s, Frame& f, float* rgb, float* alpha, float* depth, float* radii, int threads) {
    f.tiles_x = (s.width + kTile - 1) / kTile;
    f.tiles_y = (s.height + kTile - 1) / kTile;
    f.tiles = f.tiles_x * f.tiles_y;
    const size_t splats = size_t(s.cameras) * size_t(s.gaussians), tiles = size_t(s.cameras * f.tiles);
    if (splats > UINT32_MAX) throw std::bad_alloc();  // Entry numbers them in 32 bits
    f.splats.reserve(splats);
    f.depths.reserve(splats);
    f.order.reserve(splats);
    f.rects.reserve(splats);
    f.ordered_rects.reserve(splats);
    f.first_slot.reserve(splats + size_t(s.cameras));
    f.camera_slot.reserve(size_t(s.cameras));
    f.sort_pairs.reserve(2 * splats);
    f.visible.reserve(size_t(s.cameras));
    f.tile_done.reserve(tiles);
    f.pixels.reserve(tiles);

    const std::vector<View> views = make_views(s);
    std::atomic<bool> valid{true};
    for (const View& view : views) valid = valid && view.valid;
    for_each_batch(r, s, threads, [&](int64_t first) {
        Batch b;
        load_batch(s, first, b);
        bool fine = b.valid;
        for (int camera = 0; camera < s.cameras; ++camera)
            fine &= project_view(s, views[size_t(camera)], camera, first, b, f, radii);
        if (!fine) valid = false;
    });
    if (!valid) return false;
    r.pool.parallel_for(s.cameras, threads, [&](int64_t camera) { sort_camera(s, f, int(camera)); });
    bin(s, f, r.pool, threads);
    r.pool.parallel_for(int64_t(tiles), threads, [&](int64_t tile) { composite_tile(s, f, tile, rgb, alpha, depth); });
    return true;
}

void backward(Runtime& r, const Scene& s, Frame& f, const OutputGradients& v, const InputGradients& out, int threads) {
    std::lock_guard<std::mutex> lock(f.backward);
    const int64_t tiles = s.cameras * f.tiles;
    f.rows.reserve(f.tile_start[size_t(tiles)]);
    f.tile_background.reserve(size_t(3 * tiles));
    r.pool.parallel_for(tiles, threads, [&](int64_t tile) { composite_tile_backward(s, f, tile, v); });
    const std::vector<View> views = make_views(s);
    for_each_batch(r, s, threads, [&](int64_t first) { project_backward(s, f, views.data(), first, out); });
    for (int64_t i = 0; i < 3 * s.cameras && out.background; ++i) {
        const float* parts = f.tile_background.data() + i / 3 * f.tiles * 3 + i % 3;
        double sum = 0;
        for (int64_t tile = 0; tile < f.tiles; ++tile) sum += parts[3 * tile];
        out.background[i] = float(sum);
    }
}

}  // namespace
}  // namespace dreamsplat

using dreamsplat::Frame;
using dreamsplat::InputGradients;
using dreamsplat::OutputGradients;
using dreamsplat::Scene;

// The best of x86-64-v2, v3, v4 that this processor and its system run; 0 on other architectures.
DREAMSPLAT_EXPORT int dreamsplat_x86_level() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl");
    return v4 ? 4 : v3 ? 3 : 2;
#else
    return 0;
#endif
}

// What the functions below return.
enum Outcome { kDone = 0, kOutOfMemory = 1, kInvalidValues = 2 };

// Fills rgb [C, H, W, 3], alpha [C, H, W], depth [C, H, W] and radii [C, N], and sets `frame` to what the backward pass
// needs, to be given back with dreamsplat_release. Unless it returns kDone it leaves `frame` alone.
DREAMSPLAT_EXPORT int dreamsplat_forward(const Scene* scene, float* rgb, float* alpha, float* depth, float* radii,
                                         int threads, void** frame) {
    try {
        dreamsplat::Runtime& r = dreamsplat::runtime();
        std::unique_ptr<Frame> mine = dreamsplat::take_frame(r);
        if (!dreamsplat::forward(r, *scene, *mine, rgb, alpha, depth, radii, threads)) return kInvalidValues;
        *frame = mine.release();
        return kDone;
    } catch (const std::bad_alloc&) {
        return kOutOfMemory;
    }
}

// Fills the gradients; `scene` must hold what the forward pass was given.
DREAMSPLAT_EXPORT int dreamsplat_backward(void* frame, const Scene* scene, const OutputGradients* outputs,
                                          const InputGradients* inputs, int threads) {
    try {
        dreamsplat::backward(dreamsplat::runtime(), *scene, *static_cast<Frame*>(frame), *outputs, *inputs, threads);
        return kDone;
    } catch (const std::bad_alloc&) {
        return kOutOfMemory;
    }
}

DREAMSPLAT_EXPORT void dreamsplat_release(void* frame) {
    std::unique_ptr<Frame> owned(static_cast<Frame*>(frame));
    if (owned == nullptr) return;
    dreamsplat::Runtime& r = dreamsplat::runtime();
    std::lock_guard<std::mutex> lock(r.mutex);
    if (r.idle.size() < dreamsplat::kIdleFrames) r.idle.push_back(std::move(owned));
}
