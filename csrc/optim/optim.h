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

// Master weights: a 16-bit param may have a float32 copy, which is what is updated, by the same rules and with float32
// states; the param becomes the copy, rounded. Then pointers[0] is the copy, and the param follows the rule's pointers.
// All arrays of a list have one or none has.
struct OptimArray {
    void* pointers[kOptimPointers + 1];  // param, gradient, states in the order of the rule below; null where absent
    bool master;
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

// What gradient_norm found and steps obey, in device memory, so that nothing waits for it.
enum { kGradientNorm, kGradientFactor, kGradientSkip, kGradientState };  // indices, and how many

struct StepMemory {
    unsigned* ticket;         // see above; null where steps are numbers
    const double* gradients;  // (kGradientState,): gradients count times the factor, and where skip is not 0 nothing is
                              // updated or counted; null: as they are
};

// dtype: of params and gradients.
void sgd_step(const std::vector<OptimArray>& arrays, DType dtype, const SgdStep& step, const StepMemory& memory,
              const OptimConfig& config, cudaStream_t stream);
void adam_step(const std::vector<OptimArray>& arrays, DType dtype, const AdamStep& step, const StepMemory& memory,
               const OptimConfig& config, cudaStream_t stream);
void adagrad_step(const std::vector<OptimArray>& arrays, DType dtype, const AdagradStep& step, const StepMemory& memory,
                  const OptimConfig& config, cudaStream_t stream);
void rmsprop_step(const std::vector<OptimArray>& arrays, DType dtype, const RmspropStep& step, const StepMemory& memory,
                  const OptimConfig& config, cudaStream_t stream);

// The norm of many gradients as one vector, in two passes: each block writes the sum of the squares of its chunk and how
// many of its elements are infinite or NaN to partials (blocks, 2), one row a chunk, arrays in order; then one block adds
// the rows up in a fixed order. Lists of other dtypes write other rows. Squares are summed in float within a thread
// (double for double), in double beyond. Deterministic for a config. arrays: gradients are pointers[0], only read.
int64_t gradient_norm_blocks(const std::vector<OptimArray>& arrays, const OptimConfig& config);
void gradient_squares(const std::vector<OptimArray>& arrays, DType dtype, double* partials, const OptimConfig& config,
                      cudaStream_t stream);
// state (kGradientState,), written: norm = sqrt(sum) / scale; factor = min(1, max_norm / (norm + 1e-6)) / scale; skip = 1
// where there is a scale and an element that is not finite, else 0. scale: one element, or null for 1; max_norm below 0:
// no limit. NaN stays NaN in norm and factor.
void gradient_state(const double* partials, int64_t rows, const float* scale, double max_norm, double* state,
                    cudaStream_t stream);
// Gradients times the state's factor, in place.
void scale_gradients(const std::vector<OptimArray>& arrays, DType dtype, const double* state, const OptimConfig& config,
                     cudaStream_t stream);
// The factor of a scaled loss after a step, one element each, updated: with skip of `state` scale *= backoff and
// tracker = 0; else tracker += 1, and when it reaches the interval, scale *= growth, if that is finite, and tracker = 0.
void update_loss_scale(float* scale, int* tracker, const double* state, double growth, double backoff, int interval,
                       cudaStream_t stream);
