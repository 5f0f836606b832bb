#include "shared_memory.h"

#include "hooks.h"

#include <cstring>
#include <new>

#include <sys/mman.h>

#if defined(EMU_ASAN)
#include <sanitizer/asan_interface.h>
#endif

namespace emu {

namespace {
constexpr std::size_t kPage = 4096, kAlign = 1024;
// A NaN as float, double, half and bfloat16 alike, and not a value that a kernel is likely to write.
constexpr unsigned char kCanary[2] = {0xFB, 0x7F};

std::size_t round_up(std::size_t n, std::size_t to) { return (n + to - 1) / to * to; }
[[maybe_unused]] void fill(unsigned char* from, unsigned char* to) {
    for (; from < to; ++from) *from = kCanary[reinterpret_cast<std::uintptr_t>(from) & 1];
}
[[maybe_unused]] unsigned char* changed(unsigned char* from, unsigned char* to) {
    for (; from < to; ++from)
        if (*from != kCanary[reinterpret_cast<std::uintptr_t>(from) & 1]) return from;
    return nullptr;
}
}  // namespace

SharedMemory::~SharedMemory() {
    if (pages_) munmap(pages_, kReserved);
}

void SharedMemory::resize(std::size_t bytes) {
    if (!pages_) {
        void* p = mmap(nullptr, kReserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) throw std::bad_alloc();
        pages_ = static_cast<unsigned char*>(p);
        end_ = open_ = pages_ + kReach + kMax;
    }
    const std::size_t rounded = round_up(bytes, kAlign);
    unsigned char* open = end_ - round_up(rounded, kPage);
#if defined(EMU_ASAN)
    if (open_ < end_) __asan_unpoison_memory_region(open_, std::size_t(end_ - open_));
#endif
    if (open != open_) {
        if (open_ < end_) mprotect(open_, std::size_t(end_ - open_), PROT_NONE);
        if (open < end_ && mprotect(open, std::size_t(end_ - open), PROT_READ | PROT_WRITE)) throw std::bad_alloc();
        open_ = open;
    }
    base_ = end_ - rounded;
    bytes_ = bytes;
#if defined(EMU_ASAN)  // reports at the access what the canary shows only at the block's end
    __asan_poison_memory_region(open_, std::size_t(base_ - open_));
    __asan_poison_memory_region(base_ + bytes_, rounded - bytes_);
#else
    fill(open_, base_);
    fill(base_ + bytes_, end_);
#endif
}

void SharedMemory::poison() {
    std::memset(base_, 0xFF, bytes_);
    viewed_ = fenced_ = false;
}

unsigned char* SharedMemory::async_view() {
    if (!viewed_) view_.assign(bytes_, 0xFF);
    if (fenced_) std::memcpy(view_.data(), base_, bytes_);
    viewed_ = true;
    fenced_ = false;
    return view_.data();
}

std::ptrdiff_t SharedMemory::trespass() const {
#if !defined(EMU_ASAN)
    if (unsigned char* p = changed(base_ + bytes_, end_)) return p - base_;
    if (unsigned char* p = changed(open_, base_)) return p - base_;
#endif
    return 0;
}

}  // namespace emu
