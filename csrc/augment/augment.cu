// Augmentation: a block draws an image's numbers, sums its greys where contrast needs their mean, then computes elements
// of the result, each from the one pixel or the four that it comes from.
#include "augment.h"
#include "../device/philox.cuh"
#include "../device/reduce.cuh"

namespace {

using Sum = unsigned long long;

struct Draws {
    int top, left;  // of the crop in the padded image
    float cosine, sine, brightness, contrast;
    bool flipped;
};

__device__ __forceinline__ float uniform_in(Range range, uint32_t bits) {
    return fmaf(range.width, uniform_from(bits), range.low);
}

// A draw as one of n places; for n below 2^31 the most and the least likely differ by less than n / 2^32.
__device__ __forceinline__ int place_of(uint32_t bits, int n) { return int((uint64_t(bits) * uint32_t(n)) >> 32); }

__device__ __forceinline__ Draws draw(const Augmentation& how, int64_t image) {
    const uint64_t seed = how.state[0], offset = how.state[1] + how.offset;
    const uint4 a = philox(seed, uint64_t(image) * 2, offset), b = philox(seed, uint64_t(image) * 2 + 1, offset);
    Draws d;
    d.top = place_of(a.x, how.height + 2 * how.pad_y - how.out_height + 1);
    d.left = place_of(a.y, how.width + 2 * how.pad_x - how.out_width + 1);
    const float angle = uniform_in(how.degrees, a.z) * 0.017453292519943295f;
    d.cosine = cosf(angle), d.sine = sinf(angle);
    d.flipped = a.w >> 8 < how.flip_threshold;
    d.brightness = uniform_in(how.brightness, b.x);
    d.contrast = uniform_in(how.contrast, b.y);
    return d;
}

// Toward zero, within 8 bits: as Pillow rounds what it blends.
__device__ __forceinline__ int to_byte(float value) { return int(fminf(fmaxf(value, 0.0f), 255.0f)); }

__device__ __forceinline__ int brighten(const Augmentation& how, const Draws& d, int value) {
    return how.brightens ? to_byte(d.brightness * float(value)) : value;
}

// The grey of a pixel as Pillow computes it: weights of Rec. 601 in 16 bits.
__device__ __forceinline__ int grey(const Augmentation& how, const Draws& d, const uint8_t* pixel) {
    if (how.channels == 1) return brighten(how, d, pixel[0]);
    const int r = brighten(how, d, pixel[0]), g = brighten(how, d, pixel[1]), b = brighten(how, d, pixel[2]);
    return (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
}

struct Crop {
    const Augmentation& how;
    const Draws& d;
    const uint8_t* image;
    int mean;  // of the greys

    // Channel c of the crop at row i and column j; 0 outside it and in the padding.
    __device__ __forceinline__ float at(int i, int j, int c) const {
        const int y = d.top + i - how.pad_y, x = d.left + j - how.pad_x;
        const bool inside = unsigned(i) < unsigned(how.out_height) && unsigned(j) < unsigned(how.out_width) &&
                            unsigned(y) < unsigned(how.height) && unsigned(x) < unsigned(how.width);
        if (!inside) return 0;
        const int value = brighten(how, d, image[(int64_t(y) * how.width + x) * how.channels + c]);
        return float(how.contrasts ? to_byte(fmaf(d.contrast, float(value - mean), float(mean))) : value);
    }

    // The crop turned about its centre.
    __device__ __forceinline__ float rotated(int i, int j, int c) const {
        const float middle_y = 0.5f * float(how.out_height - 1), middle_x = 0.5f * float(how.out_width - 1);
        const float dy = float(i) - middle_y, dx = float(j) - middle_x;
        const float y = fmaf(d.sine, dx, d.cosine * dy) + middle_y, x = fmaf(d.cosine, dx, -d.sine * dy) + middle_x;
        const float y0 = floorf(y), x0 = floorf(x), fy = y - y0, fx = x - x0;
        const int iy = int(y0), ix = int(x0);
        const float upper = fmaf(fx, at(iy, ix + 1, c), (1 - fx) * at(iy, ix, c));
        const float lower = fmaf(fx, at(iy + 1, ix + 1, c), (1 - fx) * at(iy + 1, ix, c));
        return fmaf(fy, lower, (1 - fy) * upper);
    }
};

__global__ void __launch_bounds__(kAugmentThreads)
augment_kernel(float* out, const uint8_t* x, const float* scale_shift, Augmentation how, int parts) {
    GPU_SHARED(shared);
    Sum* partial = reinterpret_cast<Sum*>(shared);
    const int64_t pixels = int64_t(how.height) * how.width;
    const int64_t elements = int64_t(how.out_height) * how.out_width * how.channels;
    const int64_t share = (elements + parts - 1) / parts;
    for (int64_t work = blockIdx.x; work < how.images * parts; work += gridDim.x) {
        const int64_t n = work / parts, begin = work % parts * share;
        const int64_t end = begin + share < elements ? begin + share : elements;
        const uint8_t* image = x + n * pixels * how.channels;
        const Draws d = draw(how, n);
        int mean = 0;
        if (how.contrasts) {
            Sum sum = 0;
            for (int64_t p = threadIdx.x; p < pixels; p += kAugmentThreads)
                sum += Sum(grey(how, d, image + p * how.channels));
            sum = team_reduce(sum, kAugmentThreads, partial, Add{});
            mean = int((2 * sum + Sum(pixels)) / (2 * Sum(pixels)));  // to the nearest
        }
        const Crop crop{how, d, image, mean};
        for (int64_t e = begin + threadIdx.x; e < end; e += kAugmentThreads) {
            const int c = int(e % how.channels);
            const int64_t pixel = e / how.channels;
            const int i = int(pixel / how.out_width), column = int(pixel % how.out_width);
            const int j = d.flipped ? how.out_width - 1 - column : column;
            const float value = how.rotates ? crop.rotated(i, j, c) : crop.at(i, j, c);
            out[n * elements + e] = fmaf(value, scale_shift[c], scale_shift[how.channels + c]);
        }
    }
}

}  // namespace

void augment(float* out, const uint8_t* x, const float* scale_shift, const Augmentation& how,
             const AugmentConfig& config, cudaStream_t stream) {
    if (how.images == 0) return;
    const size_t shared_bytes = how.contrasts ? kMaxWarps * sizeof(Sum) : 0;
    gpu::launch<augment_kernel>(dim3(config.grid(how.images)), dim3(kAugmentThreads), shared_bytes, stream, out, x,
                                scale_shift, how, config.parts);
}
