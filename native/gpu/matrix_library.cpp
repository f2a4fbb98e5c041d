#include "gpu/matrix_library.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/error.hpp"
#include "gpu/runtime_driver.hpp"

namespace rocmforge::gpu {

// cublasLt.h of CUDA 12 and 13, hipblaslt.h of ROCm 6 and 7: pointers to opaque structures
// throughout, sizes in bytes.
struct MatrixApi {
  Call<int(void**)> create;
  Call<int(void*)> destroy;
  Call<int(void**, int, int)> product_create;
  Call<int(void*)> product_destroy;
  Call<int(void*, int, const void*, std::size_t)> product_set;
  Call<int(void**, int, std::uint64_t, std::uint64_t, std::int64_t)> layout_create;
  Call<int(void*)> layout_destroy;
  Call<int(void**)> preference_create;
  Call<int(void*)> preference_destroy;
  Call<int(void*, int, const void*, std::size_t)> preference_set;
  Call<int(void*, void*, void*, void*, void*, void*, void*, int, void*, int*)> heuristic;
  Call<int(void*, void*, const void*, const void*, void*, const void*, void*, const void*,
           const void*, void*, void*, void*, const void*, void*, std::size_t, Stream)>
      multiply;
  // Their numbers of: sums in float32, the attribute of w's transposition, transposed; the size of
  // an algorithm, and of a result of the heuristic, which begins with one.
  int compute_float, transpose_first, transposed;
  std::size_t algorithm_bytes, result_bytes;
};

namespace {

// Numbers that both share: cudaDataType_t and hipDataType, and the limit of the workspace as a
// preference.
constexpr int kFloat32 = 0, kBf16 = 14, kMaxWorkspace = 1;
constexpr float kOne = 1, kZero = 0;

MatrixApi loaded(const SharedLibrary& library, const std::string& prefix, MatrixApi numbers) {
  MatrixApi api = std::move(numbers);
  load(api.create, library, prefix + "Create");
  load(api.destroy, library, prefix + "Destroy");
  load(api.product_create, library, prefix + "MatmulDescCreate");
  load(api.product_destroy, library, prefix + "MatmulDescDestroy");
  load(api.product_set, library, prefix + "MatmulDescSetAttribute");
  load(api.layout_create, library, prefix + "MatrixLayoutCreate");
  load(api.layout_destroy, library, prefix + "MatrixLayoutDestroy");
  load(api.preference_create, library, prefix + "MatmulPreferenceCreate");
  load(api.preference_destroy, library, prefix + "MatmulPreferenceDestroy");
  load(api.preference_set, library, prefix + "MatmulPreferenceSetAttribute");
  load(api.heuristic, library, prefix + "MatmulAlgoGetHeuristic");
  load(api.multiply, library, prefix + "Matmul");
  return api;
}

struct Opened {
  SharedLibrary library;
  MatrixApi api;
};

// A file says by its name whose it is.
bool is_hip(const std::string& driver, const std::string& file) {
  return file.empty() ? driver == "hip" : file.find("hipblaslt") != std::string::npos;
}

Opened open(const std::string& driver, const std::string& file) {
  MatrixApi numbers{};
  if (is_hip(driver, file)) {
    SharedLibrary library =
        file.empty()
            ? SharedLibrary("hipBLASLt", {"libhipblaslt.so.1", "libhipblaslt.so.0",
                                          "libhipblaslt.so", "/opt/rocm/lib/libhipblaslt.so"})
            : SharedLibrary("hipBLASLt", {file.c_str()});
    numbers.compute_float = 2;
    numbers.transpose_first = 0;
    numbers.transposed = 112;
    numbers.algorithm_bytes = 24;
    numbers.result_bytes = 56;
    MatrixApi api = loaded(library, "hipblasLt", numbers);
    return {std::move(library), std::move(api)};
  }
  SharedLibrary library =
      file.empty()
          ? SharedLibrary("cuBLASLt", {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so",
                                       "/usr/local/cuda/lib64/libcublasLt.so"})
          : SharedLibrary("cuBLASLt", {file.c_str()});
  numbers.compute_float = 68;
  numbers.transpose_first = 3;
  numbers.transposed = 1;
  numbers.algorithm_bytes = 64;
  numbers.result_bytes = 96;
  MatrixApi api = loaded(library, "cublasLt", numbers);
  return {std::move(library), std::move(api)};
}

// Opened once: libraries stay until the process ends.
const Opened& opened(const std::string& driver, const std::string& file) {
  static std::map<std::pair<std::string, std::string>, Opened> libraries;
  const std::pair key{driver, file};
  const auto found = libraries.find(key);
  return found != libraries.end() ? found->second
                                  : libraries.emplace(key, open(driver, file)).first->second;
}

std::string name_of(const std::string& driver, const std::string& file) {
  return std::string(is_hip(driver, file) ? "hipBLASLt" : "cuBLASLt") + " (" +
         opened(driver, file).library.name() + ")";
}

template <class F, class... Args>
void must(const Call<F>& call, Args... args) {
  if (const int result = call.function(args...); result != 0)
    throw Error(ErrorCode::kDevice, call.name + " failed with " + std::to_string(result));
}

// The numbers of columns that kernels are chosen for.
std::int64_t bucket_of(std::int64_t columns) {
  std::int64_t bucket = MatrixLibrary::kLeastColumns;
  while (bucket < columns) bucket *= 2;
  return bucket;
}

}  // namespace

// Matrices as these libraries see them, column by column: w [k, rows] to be transposed, x [k,
// columns], y [rows, columns].
struct MatrixLibrary::Layouts {
  const MatrixApi& api;
  void *w = nullptr, *x = nullptr, *y = nullptr;

  Layouts(const MatrixApi& the_api, std::int64_t rows, std::int64_t columns, std::int64_t k,
          std::int64_t y_stride)
      : api(the_api) {
    const auto size = [](std::int64_t n) { return static_cast<std::uint64_t>(n); };
    must(api.layout_create, &w, kBf16, size(k), size(rows), k);
    must(api.layout_create, &x, kBf16, size(k), size(columns), k);
    must(api.layout_create, &y, kFloat32, size(rows), size(columns), y_stride);
  }
  ~Layouts() {
    for (void* layout : {w, x, y})
      if (layout) api.layout_destroy.function(layout);
  }
  Layouts(const Layouts&) = delete;
  Layouts& operator=(const Layouts&) = delete;
};

std::string MatrixLibrary::find(const std::string& driver) { return name_of(driver, ""); }

MatrixLibrary::MatrixLibrary(const std::string& driver, const std::string& file)
    : api_(opened(driver, file).api), name_(name_of(driver, file)) {
  must(api_.create, &handle_);
  must(api_.product_create, &product_, api_.compute_float, kFloat32);
  must(api_.product_set, product_, api_.transpose_first, static_cast<const void*>(&api_.transposed),
       sizeof(int));
}

MatrixLibrary::~MatrixLibrary() {
  if (product_) api_.product_destroy.function(product_);
  if (handle_) api_.destroy.function(handle_);
}

bool MatrixLibrary::choose(std::int64_t rows, std::int64_t k, std::int64_t max_columns,
                           std::int64_t y_stride) {
  void* preference = nullptr;
  must(api_.preference_create, &preference);
  const auto limit = static_cast<std::uint64_t>(kWorkspaceBytes);
  must(api_.preference_set, preference, kMaxWorkspace, static_cast<const void*>(&limit),
       sizeof limit);
  bool all = true;
  for (std::int64_t bucket = kLeastColumns;; bucket *= 2) {
    const Layouts layouts(api_, rows, std::min(bucket, max_columns), k, y_stride);
    std::vector<std::byte> result(api_.result_bytes);
    int found = 0;
    const int status = api_.heuristic.function(handle_, product_, layouts.w, layouts.x, layouts.y,
                                               layouts.y, preference, 1, result.data(), &found);
    if (status == 0 && found > 0) {
      Algorithm algorithm{};
      std::memcpy(&algorithm, result.data(), api_.algorithm_bytes);
      algorithms_[{{rows, k}, bucket}] = algorithm;
    } else {
      all = false;
    }
    if (bucket >= max_columns) break;
  }
  api_.preference_destroy.function(preference);
  return all;
}

bool MatrixLibrary::multiply(float* y, const void* w, const void* x, std::int64_t rows,
                             std::int64_t columns, std::int64_t k, std::int64_t y_stride,
                             Stream stream) {
  const auto found = algorithms_.find({{rows, k}, bucket_of(columns)});
  if (found == algorithms_.end()) return false;
  const Layouts layouts(api_, rows, columns, k, y_stride);
  must(api_.multiply, handle_, product_, static_cast<const void*>(&kOne), w, layouts.w, x,
       layouts.x, static_cast<const void*>(&kZero), static_cast<const void*>(y), layouts.y,
       static_cast<void*>(y), layouts.y, static_cast<const void*>(&found->second), workspace_,
       static_cast<std::size_t>(kWorkspaceBytes), stream);
  return true;
}

}  // namespace rocmforge::gpu
