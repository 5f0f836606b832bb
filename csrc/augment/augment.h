// Augmentation of a batch of 8-bit images in one pass: brightness, contrast, crop with padding, rotation, horizontal
// flip, normalisation, in this order, with numbers drawn for each image by Philox.
//
// Pointers: x (images, height, width, channels) uint8, out (images, out_height, out_width, channels) float32, both
// contiguous; scale_shift (2, channels) float32. out is overwritten and overlaps nothing. `state` is two uint64 in
// device memory, seed and base offset, which the kernel reads. The draws of image n are those of indices 8 n to 8 n + 5:
// top, left, angle, flip, brightness, contrast; one that is not asked for is left out and moves no other.
//
// Colours are rounded to 8 bits after each step, as Pillow does, and the mean that contrast keeps is of integers: these
// steps give the same bits everywhere. Rotation interpolates in float32. Deterministic.
#pragma once
#include "augment_config.h"
#include <cuda_runtime.h>

struct Range {
    float low, width;  // uniform from low to low + width
};

struct Augmentation {
    int64_t images;
    int height, width, channels, out_height, out_width;
    int pad_y, pad_x;         // pixels of 0 around the image before the crop
    uint32_t flip_threshold;  // 0 to 2^24: flipped where the upper 24 bits of the draw are below it
    bool rotates, brightens, contrasts;
    Range degrees, brightness, contrast;  // degrees counter-clockwise
    const uint64_t* state;
    uint64_t offset;  // added to the state's
};

// out = scale * augmented + shift, of values from 0 to 255. contrasts asks for 1 or 3 channels.
void augment(float* out, const uint8_t* x, const float* scale_shift, const Augmentation& how,
             const AugmentConfig& config, cudaStream_t stream);
