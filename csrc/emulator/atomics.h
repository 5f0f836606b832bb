// Atomic functions. One OS thread runs all CUDA threads and never switches inside an update, so a plain
// read-modify-write is atomic; only ThreadSanitizer must be shown an atomic access.
#pragma once
#include "hooks.h"

#include <type_traits>

namespace emu {

// *p = update(*p); returns what was there before.
template <class T, class F>
T atomic_update(T* p, F update) {
#if defined(EMU_TSAN)
    T before, after;
    __atomic_load(p, &before, __ATOMIC_RELAXED);
    do after = update(before);
    while (!__atomic_compare_exchange(p, &before, &after, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return before;
#else
    T before = *p;
    *p = update(before);
    return before;
#endif
}

template <class T>
using Same = std::type_identity_t<T>;     // only the pointer decides what T is

}  // namespace emu

#define EMU_ATOMIC(name, result) \
    template <class T> \
    T name(T* p, emu::Same<T> value) { \
        return emu::atomic_update(p, [&]([[maybe_unused]] T old) { return T(result); }); \
    } \
    template <class T> \
    T name##_block(T* p, emu::Same<T> value) { return name(p, value); } \
    template <class T> \
    T name##_system(T* p, emu::Same<T> value) { return name(p, value); }

EMU_ATOMIC(atomicAdd, old + value)
EMU_ATOMIC(atomicSub, old - value)
EMU_ATOMIC(atomicExch, value)
EMU_ATOMIC(atomicMin, value < old ? value : old)
EMU_ATOMIC(atomicMax, old < value ? value : old)
EMU_ATOMIC(atomicAnd, old& value)
EMU_ATOMIC(atomicOr, old | value)
EMU_ATOMIC(atomicXor, old ^ value)
EMU_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
EMU_ATOMIC(atomicDec, old == 0 || old > value ? value : old - 1)
#undef EMU_ATOMIC

template <class T>
T atomicCAS(T* p, emu::Same<T> expected, emu::Same<T> value) {
    return emu::atomic_update(p, [&](T old) { return old == expected ? value : old; });
}
template <class T>
T atomicCAS_block(T* p, emu::Same<T> expected, emu::Same<T> value) { return atomicCAS(p, expected, value); }
template <class T>
T atomicCAS_system(T* p, emu::Same<T> expected, emu::Same<T> value) { return atomicCAS(p, expected, value); }
