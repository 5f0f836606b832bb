// What a binding sees of a NumPy or CuPy array: pointer, dtype, shape, strides. Holds no reference: the caller's
// argument outlives the call. The Python side (fastnet/kernels) has validated before it gets here; what is checked
// again is only what would make this conversion itself wrong.
#pragma once
#include "../host/dtype.h"
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

namespace py = pybind11;

struct ArrayView {
    void* data = nullptr;
    DType dtype = DType::float32;
    std::vector<int64_t> shape, strides;  // strides in elements
    bool present = false;                 // false stands for None

    int ndim() const { return int(shape.size()); }
    int64_t size() const {
        int64_t n = 1;
        for (int64_t d : shape) n *= d;
        return n;
    }
    template <class T> T* as() const { return static_cast<T*>(data); }
};

inline DType dtype_from_name(const std::string& name) {
    static const std::pair<const char*, DType> table[] = {{"float32", DType::float32}, {"float64", DType::float64},
                                                          {"float16", DType::float16}, {"bfloat16", DType::bfloat16},
                                                          {"int32", DType::int32},     {"int64", DType::int64},
                                                          {"uint8", DType::uint8},     {"bool", DType::bool_},
                                                          {"uint32", DType::uint32},   {"uint64", DType::uint64}};
    for (auto& [text, dtype] : table)
        if (name == text) return dtype;
    throw py::type_error("no kernel takes arrays of dtype " + name);
}

namespace pybind11::detail {
template <> struct type_caster<ArrayView> {
    PYBIND11_TYPE_CASTER(ArrayView, const_name("numpy.ndarray | cupy.ndarray | None"));

    bool load(handle source, bool) {
        if (source.is_none()) {
            value = ArrayView{};
            return true;
        }
        value.present = true;
        int64_t itemsize;
        if (isinstance<array>(source)) {
            auto a = reinterpret_borrow<array>(source);
            value.data = const_cast<void*>(a.data());
            itemsize = a.itemsize();
            value.shape.assign(a.shape(), a.shape() + a.ndim());
            value.strides.assign(a.strides(), a.strides() + a.ndim());
        } else {
            if (!hasattr(source, "__cuda_array_interface__")) return false;
            value.data = reinterpret_cast<void*>(source.attr("data").attr("ptr").cast<uintptr_t>());
            itemsize = source.attr("itemsize").cast<int64_t>();
            value.shape = source.attr("shape").cast<std::vector<int64_t>>();
            value.strides = source.attr("strides").cast<std::vector<int64_t>>();
        }
        value.dtype = dtype_from_name(source.attr("dtype").attr("name").cast<std::string>());
        for (int64_t& s : value.strides) {
            if (s % itemsize) throw value_error("array strides must be multiples of the item size");
            s /= itemsize;
        }
        return true;
    }
};
}  // namespace pybind11::detail

using Stream = uintptr_t;  // a cudaStream_t as Python holds it; 0 under the emulator
inline cudaStream_t as_stream(Stream s) { return reinterpret_cast<cudaStream_t>(s); }
