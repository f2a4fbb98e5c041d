// cuBLASLt, or with -DHIP hipBLASLt, for one kind of product in the memory of this process.
// Arguments other than those that a product of weights and activations has are refused.
// FAKE_PRODUCTS: "wrong" for a wrong element, "none" for a library without kernels, "trial" for
// zeros in all products but that of 64 rows.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef HIP
#define NAME(rest) hipblasLt##rest
enum {
  COMPUTE_FLOAT = 2,
  TRANSPOSE_FIRST = 0,
  TRANSPOSED = 112,
  ALGORITHM_WORDS = 3,
  RESULT_WORDS = 7
};
#else
#define NAME(rest) cublasLt##rest
enum {
  COMPUTE_FLOAT = 68,
  TRANSPOSE_FIRST = 3,
  TRANSPOSED = 1,
  ALGORITHM_WORDS = 8,
  RESULT_WORDS = 12
};
#endif
enum { SUCCESS = 0, INVALID = 7, MAGIC = 4711 };

typedef struct {
  int transposed, has_limit, type;
  uint64_t rows, columns;
  int64_t stride;
} Thing;

static int is_mode(const char* mode) {
  const char* wanted = getenv("FAKE_PRODUCTS");
  return wanted && strcmp(wanted, mode) == 0;
}
static int make(void** to) { return (*to = calloc(1, sizeof(Thing))) ? SUCCESS : INVALID; }
static int drop(void* thing) { return free(thing), SUCCESS; }

int NAME(Create)(void** handle) { return make(handle); }
int NAME(Destroy)(void* handle) { return drop(handle); }
int NAME(MatmulDescCreate)(void** product, int compute, int scale) {
  return compute == COMPUTE_FLOAT && scale == 0 ? make(product) : INVALID;
}
int NAME(MatmulDescDestroy)(void* product) { return drop(product); }
int NAME(MatmulDescSetAttribute)(Thing* product, int attribute, const void* value, size_t bytes) {
  if (attribute != TRANSPOSE_FIRST || bytes != 4 || *(const int*)value != TRANSPOSED)
    return INVALID;
  return product->transposed = 1, SUCCESS;
}
int NAME(MatrixLayoutCreate)(Thing** layout, int type, uint64_t rows, uint64_t columns,
                             int64_t stride) {
  if (make((void**)layout)) return INVALID;
  return **layout = (Thing){0, 0, type, rows, columns, stride}, SUCCESS;
}
int NAME(MatrixLayoutDestroy)(void* layout) { return drop(layout); }
int NAME(MatmulPreferenceCreate)(void** preference) { return make(preference); }
int NAME(MatmulPreferenceDestroy)(void* preference) { return drop(preference); }
int NAME(MatmulPreferenceSetAttribute)(Thing* preference, int attribute, const void* value,
                                       size_t bytes) {
  if (attribute != 1 || bytes != 8 || *(const uint64_t*)value != 32 << 20) return INVALID;
  return preference->has_limit = 1, SUCCESS;
}
int NAME(MatmulAlgoGetHeuristic)(void* handle, const Thing* product, const Thing* a, const Thing* b,
                                 const Thing* c, const Thing* d, const Thing* preference, int most,
                                 uint64_t* results, int* found) {
  if (!handle || !product->transposed || !preference->has_limit || most != 1 || c != d)
    return INVALID;
  if (a->type != 14 || b->type != 14 || d->type != 0) return INVALID;
  if (a->rows != b->rows || a->columns != d->rows || b->columns != d->columns) return INVALID;
  for (int i = 0; i < RESULT_WORDS; ++i) results[i] = MAGIC + i;
  return *found = !is_mode("none"), SUCCESS;
}

static float of_bf16(uint16_t bits) {
  const uint32_t word = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &word, sizeof value);
  return value;
}

int NAME(Matmul)(void* handle, const Thing* product, const float* alpha, const uint16_t* w,
                 const Thing* w_layout, const uint16_t* x, const Thing* x_layout, const float* beta,
                 const float* c, const Thing* c_layout, float* y, const Thing* y_layout,
                 const uint64_t* algorithm, char* workspace, size_t workspace_bytes, void* stream) {
  if (!handle || !product->transposed || *alpha != 1 || *beta != 0 || c != y ||
      c_layout != y_layout)
    return INVALID;
  if (!stream || workspace_bytes != 32 << 20 ||
      algorithm[ALGORITHM_WORDS - 1] != MAGIC + ALGORITHM_WORDS - 1)
    return INVALID;
  memset(workspace, 7, workspace_bytes);
  for (uint64_t column = 0; column < y_layout->columns; ++column)
    for (uint64_t row = 0; row < y_layout->rows; ++row) {
      float sum = 0;
      for (uint64_t i = 0; i < w_layout->rows; ++i)
        sum += of_bf16(w[row * w_layout->stride + i]) * of_bf16(x[column * x_layout->stride + i]);
      y[column * y_layout->stride + row] = is_mode("trial") && y_layout->rows != 64 ? 0 : sum;
    }
  if (is_mode("wrong")) y[y_layout->columns * 64 - 1] += 1;
  return SUCCESS;
}
