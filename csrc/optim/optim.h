// Optimizer steps over lists of arrays, in place: one launch for up to kOptimArrays arrays of one dtype (their pointers
// travel in the kernel's parameters, of which a launch has 4 KB), several launches for longer lists. So there is no
// table in device memory to fill, to keep alive, or to go stale in a captured graph.
//
// Each array is a run of `size` elements whatever its shape: param, gradient and momentum share one memory order.
// param and momentum are updated; gradient is read only. Arrays must not overlap one another. 16-byte accesses where
// the three pointers allow, single elements elsewhere. The caller owns all memory. Every element is independent of
// every other, so results do not depend on config.
#pragma once
#include "../host/dtype.h"
#include "optim_config.h"
#include <vector>

constexpr int kOptimArrays = 88;

struct OptimArray {
    void* param;
    const void* grad;
    void* momentum;                      // null without momentum
    int64_t size;
};

struct SgdStep {
    double lr;                           // used where lr_array is null
    const float* lr_array;               // one element on the device
    double momentum, dampening, weight_decay;
    bool nesterov, maximize, first_step; // first_step: the momenta are set to the gradient, not read
};

void sgd_step(const std::vector<OptimArray>& arrays, DType dtype, const SgdStep& step, const OptimConfig& config, cudaStream_t stream);
