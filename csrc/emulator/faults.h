// Faults and endless loops of kernels, made into exceptions. While a kernel runs, and only then, this OS thread has
// handlers for SIGSEGV, SIGBUS, SIGFPE, SIGILL and a CPU-time timer; what is not the kernel's goes on to the handler
// that was there before.
#pragma once
#include "fiber.h"

#include <atomic>
#include <cstdint>
#include <ctime>

#include <csignal>

namespace emu {

enum class Fault { none, memory, stack_overflow, arithmetic, illegal_instruction, endless_loop };

// What happened, for the report. Set by a handler; the fiber that was interrupted then calls Watch::abandon.
struct FaultReport {
    Fault kind = Fault::none;
    const unsigned char* address = nullptr;
};

class Watch {
public:
    // `abandon` is called on the stack of `*current`, from its start, in place of whatever ran there.
    Watch(double watchdog_seconds, Fiber** current, void (*abandon)());
    ~Watch();
    Watch(const Watch&) = delete;

    void progress() { idle_ticks_ = 0; }                   // a thread has ended
    bool expired() const { return idle_ticks_ > limit_; }
    const FaultReport& report() const { return report_; }

private:
    static void on_fault(int signal, siginfo_t* info, void* context);
    static void on_tick(int signal, siginfo_t* info, void* context);
    void leave(void* context, Fault kind, const void* address);

    static constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    static constexpr long kTickNanoseconds = 5'000'000;
    volatile std::int64_t idle_ticks_ = 0;
    std::int64_t limit_;
    Fiber** current_;
    void (*abandon_)();
    FaultReport report_;
    struct sigaction before_[4], timer_before_;
    stack_t stack_before_;
    sigset_t mask_before_;
    timer_t timer_{};
};

}  // namespace emu
