// The files of a model in memory, and its weights as views of them.
#pragma once

#include <rocmforge/decoder.hpp>
#include <rocmforge/index.hpp>
#include <string>
#include <vector>

class MappedModel {
 public:
  // Throws rocmforge::Error for a file that cannot be mapped or is shorter than the index says.
  explicit MappedModel(const rocmforge::api::ModelIndex& index);
  ~MappedModel();
  MappedModel(const MappedModel&) = delete;
  MappedModel& operator=(const MappedModel&) = delete;

  const rocmforge::api::Weights& weights() const { return weights_; }

 private:
  struct File {
    std::string path;
    int fd;
    const std::byte* data;
    std::int64_t bytes;
  };
  const File& file(const std::string& path);

  std::vector<File> files_;
  rocmforge::api::Weights weights_;
};
