// Runs the instructions of one wave until something is needed that only the caller can do. Most are
// functions that the emulator compiled; those it lacks or gets wrong are here. Built by machine.py.
#include <stdint.h>
#include <string.h>

enum { kUnknown, kCall, kBarrier, kSkip, kGetPc, kSwizzle, kDpp, kMoveRelative };  // at a place
enum { kEnded, kAtBarrier, kNotCompiled, kTooLong };  // why the loop returns
enum { kNumMemories = 6, kScalars = 0, kVectors = 1, kSnapshot = 4 };
enum { kExec = 126, kPcLow = 256, kPcHigh = 257, kMaxWave = 64 };

typedef void (*Instruction)(void*, void*, void*, void*, void*, void*);

struct Place {
  Instruction run;
  uint8_t kind;
  uint8_t bytes;                 // of the instruction, where `run` does not move on
  uint8_t memory[kNumMemories];  // which of a wave's memories each parameter of `run` is
  uint8_t destination, source;   // registers
  uint16_t control;              // ds_swizzle's offset, DPP's control, an operand
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
             memories[m[5]]);
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
    }
    sgprs[kPcLow] = (uint32_t)pc;
    sgprs[kPcHigh] = (uint32_t)(pc >> 32);
  }
  __asm__ volatile("ldmxcsr %0" ::"m"(saved));
  return reason;
}
