// The activations that kernels know, by the names Python gives them.
#pragma once
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

enum class Activation { none, relu, leaky_relu, elu, gelu, gelu_tanh, silu, mish, softplus, sigmoid, tanh, hardswish };

struct ActivationChoice {
    Activation kind = Activation::none;
    double parameter = 0;  // leaky_relu: slope; elu: alpha; softplus: beta
};

// `parameter` NaN stands for the activation's default.
inline ActivationChoice activation_from_name(const std::string& name, double parameter) {
    struct Row {
        const char* name;
        Activation kind;
        double standard;
    };
    static constexpr Row table[] = {{"none", Activation::none, 0},
                                    {"relu", Activation::relu, 0},
                                    {"leaky_relu", Activation::leaky_relu, 0.01},
                                    {"elu", Activation::elu, 1},
                                    {"gelu", Activation::gelu, 0},
                                    {"gelu_tanh", Activation::gelu_tanh, 0},
                                    {"silu", Activation::silu, 0},
                                    {"mish", Activation::mish, 0},
                                    {"softplus", Activation::softplus, 1},
                                    {"sigmoid", Activation::sigmoid, 0},
                                    {"tanh", Activation::tanh, 0},
                                    {"hardswish", Activation::hardswish, 0}};
    for (const Row& row : table)
        if (name == row.name) return {row.kind, std::isnan(parameter) ? row.standard : parameter};
    throw std::invalid_argument("unknown activation \"" + name + "\"");
}
