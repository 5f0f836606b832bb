#include "faults.h"

#include <cerrno>
#include <system_error>

#include <link.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

// glibc names this field only in its implementation namespace.
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

namespace emu {

namespace {

// One launch runs at a time; a handler may be called on any OS thread.
Watch* watch = nullptr;
pthread_t watched;

// The machine code this file was linked with, kernels included. Where an endless loop is interrupted inside the C
// library, it may hold a lock: then the next tick, a moment later, tries again.
std::uintptr_t code_begin, code_end;

void find_code() {
    dl_iterate_phdr(
        [](dl_phdr_info* module, std::size_t, void*) {
            const auto here = reinterpret_cast<std::uintptr_t>(&find_code);
            for (int i = 0; i < module->dlpi_phnum; ++i) {
                const auto& segment = module->dlpi_phdr[i];
                if (segment.p_type != PT_LOAD || !(segment.p_flags & PF_X)) continue;
                const std::uintptr_t begin = module->dlpi_addr + segment.p_vaddr, end = begin + segment.p_memsz;
                if (here < begin || here >= end) continue;
                code_begin = begin, code_end = end;
                return 1;
            }
            return 0;
        },
        nullptr);
}

std::uintptr_t program_counter(const ucontext_t* c) {
#if defined(__x86_64__)
    return std::uintptr_t(c->uc_mcontext.gregs[REG_RIP]);
#elif defined(__aarch64__)
    return std::uintptr_t(c->uc_mcontext.pc);
#else
    (void)c;
    return code_begin;
#endif
}

// Handlers need a stack of their own: the fiber's may be what has overflowed.
alignas(16) char handler_stack[64 * 1024];

int timer_signal() { return SIGRTMIN + 5; }
sigset_t only_tick() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, timer_signal());
    return set;
}

void check(bool ok, const char* what) {
    if (!ok) throw std::system_error(errno, std::generic_category(), what);
}

}  // namespace

Watch::Watch(double watchdog_seconds, Fiber** current, void (*abandon)())
    : limit_(std::int64_t(watchdog_seconds * (1e9 / kTickNanoseconds))), current_(current), abandon_(abandon) {
    if (!code_begin) find_code();
    watch = this;
    watched = pthread_self();

    stack_t stack{};
    stack.ss_sp = handler_stack;
    stack.ss_size = sizeof handler_stack;
    check(sigaltstack(&stack, &stack_before_) == 0, "emulator: sigaltstack");
    struct sigaction action{};
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    action.sa_sigaction = on_fault;
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < 4; ++i) sigaction(kSignals[i], &action, &before_[i]);
    action.sa_flags |= SA_RESTART;
    action.sa_sigaction = on_tick;
    sigaction(timer_signal(), &action, &timer_before_);
    const sigset_t tick = only_tick();
    pthread_sigmask(SIG_UNBLOCK, &tick, &mask_before_);  // some libraries start threads with all signals blocked

    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = timer_signal();
    event.sigev_notify_thread_id = pid_t(syscall(SYS_gettid));
    check(timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer_) == 0, "emulator: timer_create");
    itimerspec every{};
    every.it_interval.tv_nsec = every.it_value.tv_nsec = kTickNanoseconds;
    timer_settime(timer_, 0, &every, nullptr);
}

Watch::~Watch() {
    // A tick that is already on its way must not find the handler gone: an unhandled real-time signal kills.
    const sigset_t tick = only_tick();
    pthread_sigmask(SIG_BLOCK, &tick, nullptr);
    timer_delete(timer_);
    const timespec now{};
    while (sigtimedwait(&tick, nullptr, &now) > 0) {}
    sigaction(timer_signal(), &timer_before_, nullptr);
    pthread_sigmask(SIG_SETMASK, &mask_before_, nullptr);
    for (int i = 0; i < 4; ++i) sigaction(kSignals[i], &before_[i], nullptr);
    sigaltstack(&stack_before_, nullptr);
    watch = nullptr;
}

// Makes the handler return not to where the signal struck but to abandon(), at the top of the same fiber's stack.
void Watch::leave(void* context, Fault kind, const void* address) {
    report_ = {kind, static_cast<const unsigned char*>(address)};
    Fiber& fiber = **current_;
#if defined(EMU_ASAN)
    __asan_unpoison_memory_region(fiber.stack, fiber.size);
#endif
#ifdef EMU_UCONTEXT
    const sigset_t mask = static_cast<ucontext_t*>(context)->uc_sigmask;
    prepare(fiber, abandon_);
    fiber.context.uc_sigmask = mask;
    setcontext(&fiber.context);
#else
    auto* to = static_cast<ucontext_t*>(context);
    auto** top = reinterpret_cast<void**>(fiber.top);
    *--top = nullptr;  // as if abandon() had been called, from nowhere
    to->uc_mcontext.gregs[REG_RSP] = reinterpret_cast<greg_t>(top);
    to->uc_mcontext.gregs[REG_RIP] = reinterpret_cast<greg_t>(abandon_);
#endif
}

void Watch::on_fault(int signal, siginfo_t* info, void* context) {
    const bool synchronous = info->si_code > 0;  // not sent by kill()
    if (watch && synchronous && pthread_equal(watched, pthread_self()) && (*watch->current_)->stack) {
        const char* p = static_cast<const char*>(info->si_addr);
        const Fiber& fiber = **watch->current_;
        const bool overflow = signal == SIGSEGV && p >= fiber.stack - kGuardBytes && p < fiber.stack;
        if (overflow || !in_emulator) {
            Fault kind = overflow           ? Fault::stack_overflow
                         : signal == SIGFPE ? Fault::arithmetic
                         : signal == SIGILL ? Fault::illegal_instruction
                                            : Fault::memory;
            watch->leave(context, kind, p);
            return;
        }
    }
    // Not the kernel's: as if this handler had never been here. A fault strikes again on return.
    for (int i = 0; i < 4; ++i)
        if (watch && kSignals[i] == signal) sigaction(signal, &watch->before_[i], nullptr);
    if (!synchronous) raise(signal);
}

void Watch::on_tick(int, siginfo_t*, void* context) {
    if (!watch || !pthread_equal(watched, pthread_self())) return;
    watch->idle_ticks_ = watch->idle_ticks_ + 1;
    if (!watch->expired() || in_emulator || !(*watch->current_)->stack) return;  // the scheduler looks at expired()
    const std::uintptr_t pc = program_counter(static_cast<ucontext_t*>(context));
    if (pc >= code_begin && pc < code_end) watch->leave(context, Fault::endless_loop, nullptr);
}

}  // namespace emu
