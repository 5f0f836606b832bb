// The extension module, built twice: _cuda by nvcc, _emulated by the host compiler. Nothing here but registration.
#include "array_view.h"

// One line an operation, in alphabetical order.
#define FASTNET_OPERATIONS(X) \
    X(attention) \
    X(augment) \
    X(conv) \
    X(dropout) \
    X(embedding) \
    X(matmul) \
    X(norm) \
    X(optim) \
    X(pointwise) \
    X(pool) \
    X(random) \
    X(reduction) \
    X(rnn) \
    X(rotary) \
    X(softmax)

void register_device(py::module_&);
#define DECLARE(op) void register_##op(py::module_&);
FASTNET_OPERATIONS(DECLARE)
#ifdef FASTNET_EMULATED
void register_emulator(py::module_&);
#endif

PYBIND11_MODULE(FASTNET_MODULE, m) {
    register_device(m);
#define REGISTER(op) register_##op(m);
    FASTNET_OPERATIONS(REGISTER)
#ifdef FASTNET_EMULATED
    register_emulator(m);
#endif
}
