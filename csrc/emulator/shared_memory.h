// A block's shared memory: between two unmapped zones, with a canary in what page and alignment rounding leave over.
//
//   | kReach, no access | canary | base, bytes | canary | kReach, no access |
//                       ^ page boundary                 ^ page boundary
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace emu {

class SharedMemory {
public:
    SharedMemory() = default;
    SharedMemory(const SharedMemory&) = delete;
    ~SharedMemory();

    void resize(std::size_t bytes);      // before the first block of a launch
    void poison();                       // before every block: NaN in every floating-point format
    // The byte outside [base, base + bytes) that was overwritten, as an offset from base; 0 if none was.
    std::ptrdiff_t trespass() const;

    // What TMA and wgmma see of it, allocated when they first look. fenced() makes all that threads wrote visible there.
    unsigned char* async_view();
    void fenced() { fenced_ = true; }

    unsigned char* base() const { return base_; }
    std::size_t bytes() const { return bytes_; }
    bool contains(const void* p) const { return p >= base_ && p < base_ + bytes_; }
    bool near(const void* p) const { return p >= pages_ && p < pages_ + kReserved; }     // window or unmapped zones

    static constexpr std::size_t kMax = 228 * 1024;        // no GPU has more
    static constexpr std::size_t kReach = 1024 * 1024;     // a wrong index up to here is known for what it is
    static constexpr std::size_t kReserved = kReach + kMax + kReach;

private:
    unsigned char *pages_ = nullptr, *open_ = nullptr, *end_ = nullptr;    // all; what can be accessed
    unsigned char* base_ = nullptr;
    std::size_t bytes_ = 0;
    std::vector<unsigned char> view_;
    bool viewed_ = false, fenced_ = false;       // whether view_ is of this block; whether to copy before the next look
};

}  // namespace emu
