// Random fills stride over their elements as every pointwise kernel does.
#pragma once
#include "../pointwise/pointwise_config.h"

using RandomConfig = PointwiseConfig;
