// Dropout strides over its elements as every pointwise kernel does.
#pragma once
#include "../pointwise/pointwise_config.h"

using DropoutConfig = PointwiseConfig;
