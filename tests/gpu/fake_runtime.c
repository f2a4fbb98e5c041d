// A GPU runtime without a GPU, for the drivers that open one: memory is malloc's, work is done when
// it is queued. Built as the HIP runtime, or with -DCUDA as the CUDA driver. FAKE_LIMIT is the
// largest allocation in bytes.
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#ifdef CUDA
#define NAME(hip, cuda) cuda
#else
#define NAME(hip, cuda) hip
#endif

enum { SUCCESS = 0, INVALID = 1, OUT_OF_MEMORY = 2, NOT_FOUND = 500, NOT_READY = 600 };

static int polls;   // of events; every other one finds the event done
static int graphs;  // launched
static int context; // made current

int NAME(hipInit, cuInit)(unsigned flags) { return flags; }
int NAME(hipGetDeviceCount, cuDeviceGetCount)(int* count) { return *count = 2, SUCCESS; }
int NAME(hipDeviceGetName, cuDeviceGetName)(char* name, int size, int device) {
  if (size < 8) return INVALID;
  return strcpy(name, device ? "fake 1" : "fake 0"), SUCCESS;
}
int NAME(hipDeviceGetAttribute, cuDeviceGetAttribute)(int* value, int attribute, int device) {
  return *value = attribute + 1000 * device, SUCCESS;
}
#ifdef CUDA
int cuDevicePrimaryCtxRetain(void** c, int device) { return *c = (char*)0 + 70 + device, SUCCESS; }
int cuCtxSetCurrent(void* c) { return context = (int)(size_t)c, SUCCESS; }
#else
int hipSetDevice(int device) { return context = 70 + device, SUCCESS; }
#endif
int NAME(hipMemGetInfo, cuMemGetInfo_v2)(size_t* free_bytes, size_t* total) {
  return *free_bytes = (size_t)context, *total = 99, SUCCESS;
}

static int allocate(void** p, size_t bytes) {
  const char* limit = getenv("FAKE_LIMIT");
  if (limit && bytes > (size_t)atol(limit)) return OUT_OF_MEMORY;
  return (*p = malloc(bytes)) ? SUCCESS : OUT_OF_MEMORY;
}
static int release(void* p) { return free(p), SUCCESS; }
static int copy(void* to, const void* from, size_t bytes, void* stream) {
  return stream ? (memcpy(to, from, bytes), SUCCESS) : INVALID;
}
int NAME(hipMalloc, cuMemAlloc_v2)(void** p, size_t bytes) { return allocate(p, bytes); }
int NAME(hipFree, cuMemFree_v2)(void* p) { return release(p); }
int NAME(hipHostMalloc, cuMemHostAlloc)(void** p, size_t bytes, unsigned flags) {
  return flags ? INVALID : allocate(p, bytes);
}
int NAME(hipHostFree, cuMemFreeHost)(void* p) { return release(p); }
#ifdef CUDA
int cuMemcpyHtoDAsync_v2(void* to, const void* from, size_t n, void* s) { return copy(to, from, n, s); }
int cuMemcpyDtoHAsync_v2(void* to, const void* from, size_t n, void* s) { return copy(to, from, n, s); }
int cuMemcpyDtoDAsync_v2(void* to, const void* from, size_t n, void* s) { return copy(to, from, n, s); }
int cuMemsetD8Async(void* to, unsigned char value, size_t n, void* s) {
  return s ? (memset(to, value, n), SUCCESS) : INVALID;
}
#else
int hipMemcpyAsync(void* to, const void* from, size_t n, int kind, void* s) {
  return kind >= 1 && kind <= 3 ? copy(to, from, n, s) : INVALID;
}
int hipMemsetAsync(void* to, int value, size_t n, void* s) {
  return s ? (memset(to, value, n), SUCCESS) : INVALID;
}
#endif

int NAME(hipStreamCreateWithFlags, cuStreamCreate)(void** s, unsigned flags) {
  return flags == 1 ? allocate(s, 8) : INVALID;  // not synchronizing with the default stream
}
int NAME(hipStreamDestroy, cuStreamDestroy_v2)(void* s) { return release(s); }
int NAME(hipStreamQuery, cuStreamQuery)(void* s) { return s ? SUCCESS : INVALID; }
int NAME(hipStreamSynchronize, cuStreamSynchronize)(void* s) { return s ? SUCCESS : INVALID; }
int NAME(hipStreamWaitEvent, cuStreamWaitEvent)(void* s, void* e, unsigned flags) {
  return s && e && !flags ? SUCCESS : INVALID;
}
int NAME(hipEventCreateWithFlags, cuEventCreate)(void** e, unsigned flags) {
  return flags == 0 || flags == 2 ? allocate(e, 8) : INVALID;  // 2: without timing
}
int NAME(hipEventDestroy, cuEventDestroy_v2)(void* e) { return release(e); }
int NAME(hipEventRecord, cuEventRecord)(void* e, void* s) { return e && s ? SUCCESS : INVALID; }
int NAME(hipEventQuery, cuEventQuery)(void* e) { return e && polls++ % 2 ? SUCCESS : NOT_READY; }
int NAME(hipEventSynchronize, cuEventSynchronize)(void* e) { return e ? SUCCESS : INVALID; }
int NAME(hipEventElapsedTime, cuEventElapsedTime)(float* ms, void* from, void* to) {
  return from && to ? (*ms = 2.5f, SUCCESS) : INVALID;
}

int NAME(hipModuleLoadData, cuModuleLoadData)(void** m, const void* image) {
  (void)image;
  return allocate(m, 8);
}
int NAME(hipModuleUnload, cuModuleUnload)(void* m) { return release(m); }
int NAME(hipModuleGetFunction, cuModuleGetFunction)(void** f, void* m, const char* name) {
  if (!m || strcmp(name, "rf_count_w32")) return NOT_FOUND;
  return allocate(f, 8);
}
// The one kernel adds its launch's numbers of blocks and threads to where its argument points.
struct Args {
  int* sum;
};
int NAME(hipModuleLaunchKernel, cuLaunchKernel)(void* f, unsigned gx, unsigned gy, unsigned gz,
                                                unsigned bx, unsigned by, unsigned bz,
                                                unsigned shared, void* stream, void** params,
                                                void** extra) {
  if (!f || !stream || extra || shared) return INVALID;
  const struct Args* args = params[0];
  *args->sum += (int)(gx * gy * gz * 1000 + bx * by * bz);
  return SUCCESS;
}

int NAME(hipStreamBeginCapture, cuStreamBeginCapture_v2)(void* s, int mode) {
  return s && mode == 1 ? SUCCESS : INVALID;  // of this thread's work alone
}
int NAME(hipStreamEndCapture, cuStreamEndCapture)(void* s, void** graph) {
  return s ? allocate(graph, 8) : INVALID;
}
int NAME(hipGraphInstantiateWithFlags, cuGraphInstantiateWithFlags)(void** executable, void* graph,
                                                                     unsigned long long flags) {
  return graph && !flags ? allocate(executable, 8) : INVALID;
}
int NAME(hipGraphLaunch, cuGraphLaunch)(void* executable, void* s) {
  // The third one finds the device gone.
  return executable && s && ++graphs < 3 ? SUCCESS : 719;
}
int NAME(hipGraphExecDestroy, cuGraphExecDestroy)(void* executable) { return release(executable); }
int NAME(hipGraphDestroy, cuGraphDestroy)(void* graph) { return release(graph); }

static const char* text(int error) { return error == 719 ? "launch failure" : "fake error"; }
#ifdef CUDA
int cuGetErrorString(int error, const char** t) { return *t = text(error), SUCCESS; }
#elif !defined(WITHOUT_ERROR_STRING)
const char* hipGetErrorString(int error) { return text(error); }
#endif
