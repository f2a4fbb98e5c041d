#pragma once

#include "cpu/kernels.hpp"

namespace rocmforge::cpu {
struct SampleArgs {};
struct SampleResult {};
}
