// Optimizer steps over lists of arrays, in place: one launch for as many arrays of one dtype as 4 KB of kernel
// parameters hold (their pointers travel there: 88 of them for SGD, 65 for Adam), several launches
// for longer lists. So there is no table in device memory to fill, to keep alive, or to go stale in a captured graph.
//
// Each array is a run of `size` elements whatever its shape: param, gradient and states share one memory order. Param
// and states are updated; the gradient is read only. Arrays must not overlap one another. 16-byte accesses where all
// the pointers of an array allow them, single elements elsewhere. The caller owns all memory. Every element is
// independent of every other, so results do not depend on config.
//
// Steps: how often an array was updated before. Either a number, or in device memory, where the launch counts it up:
// the last block to finish does so for all its arrays. For that it takes tickets from `ticket`, which must be zero
// before and is zero after; no other launch may use it at the same time.
#pragma once
#include "../host/dtype.h"
#include "optim_config.h"
#include <vector>

constexpr int kOptimPointers = 5;

struct OptimArray {
    void* pointers[kOptimPointers];  // param, gradient, states in the order of the rule below; null where absent
    int64_t size;
    float* step_array;  // one element on the device, of every array of a list or of none
    double step;        // used where step_array is null
};

struct LearningRate {
    double number;      // used where array is null
    const void* array;  // one element on the device: double if wide, else float
    bool wide;
};

struct SgdStep {  // states: momentum, null without
    LearningRate lr;
    double momentum, dampening, weight_decay;
    bool nesterov, maximize, first_step;  // first_step: the momenta are set to the gradient, not read
};

struct AdamStep {  // states: exp_avg, exp_avg_sq, max_exp_avg_sq (null without amsgrad)
    LearningRate lr;
    double beta1, beta2, weight_decay, eps;
    bool maximize, decoupled;             // decoupled: weight decay shrinks the param instead of joining the gradient
    double log_beta1 = 0, log_beta2 = 0;  // set by adam_step
};

struct AdagradStep {  // states: sum
    LearningRate lr;
    double lr_decay, weight_decay, eps;
    bool maximize;
};

struct RmspropStep {  // states: square_avg, momentum_buffer, grad_avg (null without)
    LearningRate lr;
    double alpha, eps, weight_decay, momentum;
    bool maximize, centered;
};

void sgd_step(const std::vector<OptimArray>& arrays, DType dtype, const SgdStep& step, unsigned* ticket,
              const OptimConfig& config, cudaStream_t stream);
void adam_step(const std::vector<OptimArray>& arrays, DType dtype, const AdamStep& step, unsigned* ticket,
               const OptimConfig& config, cudaStream_t stream);
void adagrad_step(const std::vector<OptimArray>& arrays, DType dtype, const AdagradStep& step, unsigned* ticket,
                  const OptimConfig& config, cudaStream_t stream);
void rmsprop_step(const std::vector<OptimArray>& arrays, DType dtype, const RmspropStep& step, unsigned* ticket,
                  const OptimConfig& config, cudaStream_t stream);
