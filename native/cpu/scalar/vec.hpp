// Vec of the baseline: one lane. The bodies written over Vec (attend_body.hpp,
// elementwise_body.hpp) are compiled once per ISA against that ISA's Vec.
#pragma once

#include <math.h>

#include <cstdint>

#include "quant/small_floats.hpp"

namespace rocmforge::cpu {
namespace {

struct Vec {
  static constexpr std::int64_t kWidth = 1;
  static constexpr int kBlockRows = 6, kBlockVectors = 4;
  float v;

  static Vec load(const float* p) { return {*p}; }
  static Vec load(const std::uint16_t* p) { return {quant::half_to_float(*p)}; }
  static Vec load(const std::int8_t* p) { return {static_cast<float>(*p)}; }
  static Vec load_bf16(const std::uint16_t* p) { return {quant::bf16_to_float(*p)}; }
  static Vec set_half(const std::uint16_t* p) { return load(p); }
  static Vec set(float x) { return {x}; }
  static Vec zero() { return {0.0f}; }
  void store(float* p) const { *p = v; }
  static Vec fma(Vec a, Vec b, Vec c) { return {a.v * b.v + c.v}; }
  static Vec add(Vec a, Vec b) { return {a.v + b.v}; }
  static Vec mul(Vec a, Vec b) { return {a.v * b.v}; }
  static Vec div(Vec a, Vec b) { return {a.v / b.v}; }
  static Vec max(Vec a, Vec b) { return a.v > b.v ? a : b; }  // b where either is NaN
  static Vec exp(Vec a) { return {expf(a.v)}; }
  float sum() const { return v; }
  float highest() const { return v; }
};

}  // namespace
}  // namespace rocmforge::cpu
