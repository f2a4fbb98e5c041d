#include "mapped_model.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

using rocmforge::Error;
using rocmforge::ErrorCode;

MappedModel::MappedModel(const rocmforge::api::ModelIndex& index) {
  for (const rocmforge::api::IndexedWeight& weight : index.weights) {
    const File& from = file(weight.file);
    rocmforge::Tensor view = weight.view;
    if (weight.offset > from.bytes - view.bytes())
      throw Error(ErrorCode::kModelFile, weight.name + " leaves " + from.path);
    view.data = from.data + weight.offset;
    // With the descriptor, pages whose weights have been copied can be given back.
    view.file = {from.fd, weight.offset};
    weights_.emplace(weight.name, view);
  }
}

MappedModel::~MappedModel() {
  for (const File& f : files_) {
    ::munmap(const_cast<std::byte*>(f.data), static_cast<std::size_t>(f.bytes));
    ::close(f.fd);
  }
}

const MappedModel::File& MappedModel::file(const std::string& path) {
  for (const File& known : files_)
    if (known.path == path) return known;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status{};
  if (fd < 0 || ::fstat(fd, &status) != 0)
    throw Error(ErrorCode::kModelFile, "cannot open " + path);
  void* data =
      ::mmap(nullptr, static_cast<std::size_t>(status.st_size), PROT_READ, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) {
    ::close(fd);
    throw Error(ErrorCode::kModelFile, "cannot map " + path);
  }
  files_.push_back({path, fd, static_cast<const std::byte*>(data), status.st_size});
  return files_.back();
}
