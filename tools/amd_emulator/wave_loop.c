// Runs the instructions of one wave until something is needed that only the caller can do. Most are
// functions that the emulator compiled; those it lacks or gets wrong are here. Built by machine.py.
#include <stdint.h>
#include <string.h>

enum {
  kUnknown,
  kCall,
  kBarrier,
  kSkip,
  kGetPc,
  kSwizzle,
  kDpp,
  kMoveRelative,
  kMatrix
};  // at a place
enum { kEnded, kAtBarrier, kNotCompiled, kTooLong };  // why the loop returns
enum { kNumMemories = 7, kScalars = 0, kVectors = 1, kSnapshot = 4, kAccumulators = 5 };
enum {
  kGfx11,
  kGfx12,
  kGfx9,
  kAccOperandA = 4,
  kAccOperandB = 8,
  kAccSums = 16,
  kHalf = 32
};  // of kMatrix
enum { kExec = 126, kPcLow = 256, kPcHigh = 257, kMaxWave = 64 };

typedef void (*Instruction)(void*, void*, void*, void*, void*, void*, void*);

struct Place {
  Instruction run;
  uint8_t kind;
  uint8_t bytes;                 // of the instruction, where `run` does not move on
  uint8_t memory[kNumMemories];  // which of a wave's memories each parameter of `run` is
  uint8_t destination, source;   // registers
  uint16_t control;              // ds_swizzle's offset, DPP's control, an operand, which matrices
  uint16_t operands[3];          // of a product of matrices
};

static uint64_t active_lanes(const uint32_t* sgprs) {
  return sgprs[kExec] | (uint64_t)sgprs[kExec + 1] << 32;
}

// ds_swizzle_b32 in bit mode: within 32 lanes, lane ((i & and) | or) ^ xor; 0 from one switched
// off.
static void swizzle(const struct Place* p, const uint32_t* sgprs, uint32_t* vgprs, int wave) {
  const uint64_t active = active_lanes(sgprs);
  const int and_mask = p->control & 31, or_mask = p->control >> 5 & 31, xor_mask = p->control >> 10;
  uint32_t values[kMaxWave];
  memcpy(values, vgprs + p->source * wave, sizeof(uint32_t) * wave);
  for (int i = 0; i < wave; ++i) {
    const int from = (i & ~31) | ((((i & 31) & and_mask) | or_mask) ^ xor_mask);
    if (active >> i & 1) vgprs[p->destination * wave + i] = active >> from & 1 ? values[from] : 0;
  }
}

// The lane that a data parallel primitive reads, or -1 for none.
static int dpp_source(int control, int lane) {
  const int row = lane & ~15, in_row = lane & 15, n = control & 15;
  if (control < 0x100) return (lane & ~3) | (control >> 2 * (lane & 3) & 3);  // quad_perm
  switch (control & ~15) {
    case 0x100:  // row_shl
      return in_row + n < 16 ? lane + n : -1;
    case 0x110:  // row_shr
      return in_row - n >= 0 ? lane - n : -1;
    case 0x120:  // row_ror
      return row | ((in_row - n) & 15);
    case 0x150:  // row_share
      return row | n;
    case 0x160:  // row_xmask
      return row | (in_row ^ n);
    default:  // row_mirror, row_half_mirror
      return control == 0x140 ? row | (15 - in_row) : (lane & ~7) | (7 - (lane & 7));
  }
}

// What the instruction's first operand is in every lane: 0 where there is nothing to read.
static void take_snapshot(const struct Place* p, const uint32_t* sgprs, const uint32_t* vgprs,
                          uint32_t* snapshot, int wave) {
  const uint64_t active = active_lanes(sgprs);
  for (int i = 0; i < wave; ++i) {
    const int from = dpp_source(p->control, i);
    snapshot[i] = from >= 0 && (active >> from & 1) ? vgprs[p->source * wave + from] : 0;
  }
}

// v_movreld_b32, and v_mov_b32 under s_set_gpr_idx_on: a register behind the destination.
static void move_relative(const struct Place* p, const uint32_t* sgprs, uint32_t* vgprs, int wave) {
  const uint64_t active = active_lanes(sgprs);
  uint32_t* const to = vgprs + (p->destination + (sgprs[p->source] & 0xff)) * wave;
  for (int i = 0; i < wave; ++i)
    if (active >> i & 1)
      to[i] = p->control >= 256 ? vgprs[(p->control - 256) * wave + i] : sgprs[p->control];
}

static float of_half(uint16_t bits) {
  _Float16 value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static float of_bf16(uint16_t bits) {
  const uint32_t whole = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &whole, sizeof value);
  return value;
}

// Row (of B: column) lane % 16, and which of the 16 products element i of a lane takes part in.
// Both operands count these alike, so their order in gfx12's registers makes no difference to the
// sum.
static void load_operand(float (*to)[16], const uint32_t* registers, int control, int wave) {
  const int generation = control & 3;
  const int count = generation == kGfx11 ? 16 : generation == kGfx12 ? 8 : 4;
  const int lanes = generation == kGfx11 ? 16 : wave;  // gfx11's other lanes repeat these
  for (int lane = 0; lane < lanes; ++lane)
    for (int i = 0; i < count; ++i) {
      const uint16_t bits = registers[i / 2 * wave + lane] >> i % 2 * 16 & 0xffff;
      to[lane % 16][lane / 16 * count + i] = control & kHalf ? of_half(bits) : of_bf16(bits);
    }
}

// v_wmma_f32_16x16x16 and v_mfma_f32_16x16x16 of bf16 and f16: sums += A B in float32, whatever
// EXEC is.
static void multiply_matrices(const struct Place* p, void** memories, int wave) {
  const int generation = p->control & 3;
  uint32_t* const vgprs = memories[kVectors];
  uint32_t* const accumulators = memories[kAccumulators];
  float a[16][16], b[16][16], result[8 * kMaxWave];
  load_operand(a,
               (p->control & kAccOperandA ? accumulators : vgprs) + (p->operands[0] - 256) * wave,
               p->control, wave);
  load_operand(b,
               (p->control & kAccOperandB ? accumulators : vgprs) + (p->operands[1] - 256) * wave,
               p->control, wave);
  uint32_t* const file = p->control & kAccSums ? accumulators : vgprs;
  const int registers = 256 / wave;
  for (int r = 0; r < registers; ++r)
    for (int lane = 0; lane < wave; ++lane) {
      const int row = generation == kGfx11 ? 2 * r + lane / 16 : lane / 16 * registers + r;
      const uint32_t* sums = p->operands[2] < 256
                                 ? (const uint32_t*)memories[kScalars] + p->operands[2]
                                 : file + (p->operands[2] - 256 + r) * wave + lane;
      float sum;
      memcpy(&sum, sums, sizeof sum);
      for (int k = 0; k < 16; ++k) sum += a[row][k] * b[lane % 16][k];
      result[r * wave + lane] = sum;
    }
  memcpy(file + p->destination * wave, result, sizeof(float) * registers * wave);
}

int run_wave(const struct Place* places, uint64_t num_places, uint64_t code, void** memories,
             int wave, uint64_t limit, uint64_t* executed, int flush_subnormals) {
  uint32_t* const sgprs = memories[kScalars];
  uint32_t saved, mode;
  __asm__ volatile("stmxcsr %0" : "=m"(saved));
  mode = flush_subnormals ? saved | 0x8040u : saved & ~0x8040u;
  __asm__ volatile("ldmxcsr %0" ::"m"(mode));
  int reason = kTooLong;
  while (*executed < limit) {
    uint64_t pc = sgprs[kPcLow] | (uint64_t)sgprs[kPcHigh] << 32;
    if (pc == UINT64_MAX) {
      reason = kEnded;
      break;
    }
    const uint64_t index = (pc - code) / 4;
    const struct Place* p = places + index;
    if (index >= num_places || p->kind == kUnknown) {
      reason = kNotCompiled;
      break;
    }
    ++*executed;
    if (p->kind == kDpp) take_snapshot(p, sgprs, memories[kVectors], memories[kSnapshot], wave);
    if (p->run) {
      const uint8_t* m = p->memory;
      p->run(memories[m[0]], memories[m[1]], memories[m[2]], memories[m[3]], memories[m[4]],
             memories[m[5]], memories[m[6]]);
      if (p->kind != kBarrier) continue;
      reason = kAtBarrier;
      break;
    }
    pc += p->bytes;
    if (p->kind == kGetPc) {
      sgprs[p->destination] = (uint32_t)pc;
      sgprs[p->destination + 1] = (uint32_t)(pc >> 32);
    } else if (p->kind == kSwizzle) {
      swizzle(p, sgprs, memories[kVectors], wave);
    } else if (p->kind == kMoveRelative) {
      move_relative(p, sgprs, memories[kVectors], wave);
    } else if (p->kind == kMatrix) {
      multiply_matrices(p, memories, wave);
    }
    sgprs[kPcLow] = (uint32_t)pc;
    sgprs[kPcHigh] = (uint32_t)(pc >> 32);
  }
  __asm__ volatile("ldmxcsr %0" ::"m"(saved));
  return reason;
}
