// Formats whose codes stand for entries of a table: IQ4's 16 integers and the floats of 4 bits.
#pragma once

#include "quant/encode/fit.hpp"

namespace rocmforge::quant {

// x ~ d * iq4_value(code).
float fit_iq4_scale(const Group& g);
float assign_iq4(std::uint8_t* codes, const Group& g, float d);  // the error, as assign()'s

// The E8M0 exponent, and a code for each of 32 weights.
std::uint8_t fit_mxfp4(std::uint8_t* codes, const Group& g);

}  // namespace rocmforge::quant
