// The door for ctypes.
#include "planted.h"

#include "emulator/device.h"

#include <atomic>
#include <csignal>
#include <cstring>
#include <thread>

namespace ptx {
void reset_block() {}  // the emulated instructions are not linked in
}  // namespace ptx

std::map<std::string, Case>& cases() {
    static std::map<std::string, Case> all;
    return all;
}

namespace {
constexpr int kRestorer = 0x04000000;  // SA_RESTORER: glibc's own, added by every call of sigaction

// What a program sees of the emulator's signal handling: handlers and the signal stack.
struct Signals {
    struct sigaction actions[5];
    stack_t stack;
    sigset_t mask;
    Signals() {
        std::memset(static_cast<void*>(this), 0, sizeof *this);
        const int numbers[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGRTMIN + 5};
        for (int i = 0; i < 5; ++i) sigaction(numbers[i], nullptr, &actions[i]);
        sigaltstack(nullptr, &stack);
        pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    }
    bool operator==(const Signals& other) const {
        for (int i = 0; i < 5; ++i)
            if (actions[i].sa_sigaction != other.actions[i].sa_sigaction ||
                (actions[i].sa_flags ^ other.actions[i].sa_flags) & ~kRestorer)
                return false;
        return std::memcmp(&mask, &other.mask, sizeof mask) == 0 && stack.ss_sp == other.stack.ss_sp &&
               stack.ss_size == other.stack.ss_size && stack.ss_flags == other.stack.ss_flags;
    }
};

std::atomic<int> running = 0, calls = 0;

__global__ void short_loop_kernel(volatile int* out) {
    for (int i = 0; i < 1'000'000'000; ++i) *out = i;
}
}  // namespace

extern "C" {
// 0: the result is right; 1: it is wrong; 2: emu::Error; 3: the emulator left its signal handling behind; 4: no such
// case.
int planted_run(const char* name, int planted, int order, unsigned seed, int late, double watchdog_seconds,
                char* message, std::size_t size) {
    auto found = cases().find(name);
    if (found == cases().end()) return 4;
    emu::set_options({emu::Order(order), seed, late != 0, watchdog_seconds});
    // Handlers belong to the whole process: while another thread runs a kernel they are the emulator's.
    bool alone = running++ == 0;
    const int call = ++calls;
    const Signals before;
    int result;
    try {
        result = found->second(planted) ? 0 : 1;
        message[0] = 0;
    } catch (const emu::Error& e) {
        std::snprintf(message, size, "%s", e.what());
        result = 2;
    }
    const bool changed = !(before == Signals());
    alone = alone && call == calls;
    --running;
    return changed && alone ? 3 : result;
}

// Crashes, but not by a kernel's fault: the handler from before must see it.
void planted_crash() {
    std::thread other([] {
        timespec pause{0, 100'000'000};
        nanosleep(&pause, nullptr);
        *static_cast<volatile int*>(nullptr) = 1;
    });
    int out;
    gpu::launch<short_loop_kernel>(dim3(1), dim3(1), 0, kNoStream, &out);
    other.join();
}

void planted_device(const char* name) { emu::posed_device() = known_device(name); }
}
