// Kernels with one planted mistake each, beside the same kernels without it, for tests/test_emulator.py.
//
// A case runs its kernel, with the mistake or without, and says whether the result is right. A test can call it by name
// through planted_run(), in this process: a kernel's mistake is an exception and nothing worse.
#pragma once
#include "gpu.h"

#include <functional>
#include <map>
#include <string>
#include <vector>

using Case = std::function<bool(bool planted)>;
std::map<std::string, Case>& cases();

struct Register {
    Register(const char* name, Case run) { cases()[name] = std::move(run); }
};
// CASE(name) { body, which sees `planted` and returns whether the result is right }
#define CASE(name) \
    bool name##_case(bool planted); \
    const Register name##_registered(#name, name##_case); \
    bool name##_case([[maybe_unused]] bool planted)

inline constexpr cudaStream_t kNoStream = nullptr;
