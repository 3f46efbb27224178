// Drives the rasteriser without Python, for compilers' sanitizers: `make sanitize`.
//
// Random scenes, well-behaved and wild, go forward and backward from several threads at once, each with its own number
// of threads. Every result must be bitwise that of a single thread.
#include "../src/dreamsplat/render/cpu/cpu.cpp"

#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <string>

namespace {

using Floats = std::vector<float>;

struct Inputs {
    Scene scene;
    Floats means, scales, quats, opacities, sh, world_to_camera, intrinsics, background, offsets;
};

// `wild` scenes have needles, giants, Gaussians around the camera and, now and then, a value that is not finite.
std::unique_ptr<Inputs> draw_inputs(unsigned seed) {
    std::mt19937 random(seed);
    const auto uniform = [&](float a, float b) { return std::uniform_real_distribution<float>(a, b)(random); };
    const auto integer = [&](int a, int b) { return std::uniform_int_distribution<int>(a, b)(random); };
    const auto fill = [&](Floats& values, size_t count, float low, float high) {
        values.resize(count);
        for (float& value : values) value = uniform(low, high);
    };
    auto in = std::make_unique<Inputs>();
    const int n = integer(0, 3) ? integer(0, 700) : 0, cameras = integer(1, 3), degree = integer(0, 3);
    const int width = integer(1, 130), height = integer(1, 90), coefficients = (degree + 1) * (degree + 1);
    const bool wild = integer(0, 1);
    const size_t count = size_t(n);
    fill(in->means, 3 * count, wild ? -4.0f : -0.7f, wild ? 4.0f : 0.7f);
    fill(in->scales, 3 * count, -3, wild ? 3.0f : -1.0f);
    for (float& scale : in->scales) scale = std::pow(10.0f, scale);
    fill(in->quats, 4 * count, 0.1f, 1);
    fill(in->opacities, count, 0, 1);
    fill(in->sh, 3 * count * size_t(coefficients), -2, 2);
    fill(in->background, 3 * size_t(cameras), 0, 1);
    fill(in->offsets, 2 * count * size_t(cameras), -1, 1);
    for (int camera = 0; camera < cameras; ++camera) {
        const float angle = 2.1f * float(camera), c = std::cos(angle), s = std::sin(angle);
        const float pose[16] = {c, s, 0, 0, 0, 0, -1, 0, -s, c, 0, wild ? 0.5f : 3.0f, 0, 0, 0, 1};
        const float lens[9] = {60, 0, 0.5f * float(width), 0, 60, 0.5f * float(height), 0, 0, 1};
        in->world_to_camera.insert(in->world_to_camera.end(), pose, pose + 16);
        in->intrinsics.insert(in->intrinsics.end(), lens, lens + 9);
    }
    if (wild && n > 0 && integer(0, 4) == 0)
        in->means[size_t(integer(0, 3 * n - 1))] = integer(0, 1) ? std::numeric_limits<float>::quiet_NaN() : INFINITY;
    in->scene = {n, cameras, width, height, coefficients, in->means.data(), in->scales.data(), in->quats.data(),
                 in->opacities.data(), in->sh.data(), in->world_to_camera.data(), in->intrinsics.data(),
                 in->background.data(), in->offsets.data()};
    return in;
}

// All outputs and gradients, one after another; empty where the values were refused.
Floats render(const Inputs& in, int threads) {
    const Scene& s = in.scene;
    const size_t pixels = size_t(s.cameras) * size_t(s.width) * size_t(s.height), n = size_t(s.gaussians);
    Floats rgb(3 * pixels), alpha(pixels), depth(pixels), radii(size_t(s.cameras) * n);
    void* frame = nullptr;
    const int outcome = dreamsplat_forward(&s, rgb.data(), alpha.data(), depth.data(), radii.data(), threads, &frame);
    if (outcome == kInvalidValues) return {};
    if (outcome != kDone) std::abort();
    Floats means(in.means.size()), scales(in.scales.size()), quats(in.quats.size()), opacities(n), sh(in.sh.size());
    Floats background(in.background.size()), offsets(in.offsets.size());
    const OutputGradients outputs{rgb.data(), alpha.data(), depth.data()};  // as good as any
    const InputGradients inputs{means.data(), scales.data(), quats.data(), opacities.data(), sh.data(),
                                background.data(), offsets.data()};
    if (dreamsplat_backward(frame, &s, &outputs, &inputs, threads) != kDone) std::abort();
    dreamsplat_release(frame);
    Floats all;
    for (const Floats* part : {&rgb, &alpha, &depth, &radii, &means, &scales, &quats, &opacities, &sh, &background,
                               &offsets})
        all.insert(all.end(), part->begin(), part->end());
    return all;
}

bool same(const Floats& a, const Floats& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

}  // namespace

int main(int count, char** arguments) {
    const unsigned scenes = count > 1 ? unsigned(std::atoi(arguments[1])) : 60;
    std::FILE* file = count > 2 ? std::fopen(arguments[2], "wb") : nullptr;
    std::atomic<int> wrong{0}, refused{0};
    for (unsigned seed = 0; seed < scenes; ++seed) {
        const std::unique_ptr<Inputs> inputs = draw_inputs(seed);
        const Floats alone = render(*inputs, 1);
        if (file) std::fwrite(alone.data(), sizeof(float), alone.size(), file);
        refused += alone.empty() && inputs->scene.gaussians > 0;
        std::vector<std::thread> callers;
        for (int threads : {1, 2, 4})
            callers.emplace_back([&, threads] { wrong += !same(render(*inputs, threads), alone); });
        for (std::thread& caller : callers) caller.join();
    }
    if (file) std::fclose(file);
    std::printf("%u scenes, %d refused, %d results that depend on the threads\n", scenes, refused.load(), wrong.load());
    return wrong != 0;
}
