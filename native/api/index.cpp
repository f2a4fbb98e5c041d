#include "api/index.hpp"

#include <functional>
#include <initializer_list>
#include <limits>
#include <unordered_map>
#include <utility>

#include "api/json.hpp"
#include "core/error.hpp"

namespace rocmforge::api {
namespace {

// Sizes of models stay far below; products of two fit 64 bits.
constexpr std::int64_t kMaxSize = std::numeric_limits<std::int32_t>::max();

template <class Enum>
using Names = std::initializer_list<std::pair<const char*, Enum>>;

void read(std::int32_t& to, const Json& json, const std::string& what) {
  const std::int64_t value = json.integer(what);
  check(value >= 0 && value <= kMaxSize, ErrorCode::kModelFile, "a size of the index is too large");
  to = static_cast<std::int32_t>(value);
}
void read(float& to, const Json& json, const std::string& what) {
  to = static_cast<float>(json.number(what));
}
void read(bool& to, const Json& json, const std::string& what) { to = json.boolean(what); }

template <class Enum>
Enum named(const Json& json, const std::string& what, Names<Enum> names) {
  const std::string& name = json.text(what);
  for (const auto& [known, value] : names)
    if (name == known) return value;
  throw Error(ErrorCode::kUnsupported, what + " is " + name + ", which this build does not know");
}

void read(NormKind& to, const Json& json, const std::string& what) {
  to = named<NormKind>(json, what, {{"RMS", NormKind::kRms}, {"LAYER", NormKind::kLayer}});
}
void read(QkNorm& to, const Json& json, const std::string& what) {
  to = named<QkNorm>(
      json, what,
      {{"HEAD", QkNorm::kHead}, {"EACH_HEAD", QkNorm::kEachHead}, {"WHOLE", QkNorm::kWhole}});
}
void read(ExpertGate& to, const Json& json, const std::string& what) {
  to = named<ExpertGate>(json, what,
                         {{"SOFTMAX", ExpertGate::kSoftmax},
                          {"SIGMOID", ExpertGate::kSigmoid},
                          {"SPARSE_MIXER", ExpertGate::kSparseMixer}});
}
void read(RopeUse& to, const Json& json, const std::string& what) {
  to = named<RopeUse>(
      json, what, {{"NONE", RopeUse::kNone}, {"MAIN", RopeUse::kMain}, {"LOCAL", RopeUse::kLocal}});
}
void read(Activation& to, const Json& json, const std::string& what) {
  to = named<Activation>(json, what,
                         {{"SILU_GATED", Activation::kSiluGated},
                          {"GELU_GATED", Activation::kGeluGated},
                          {"OAI_GATED", Activation::kOaiGated},
                          {"GELU", Activation::kGelu},
                          {"RELU_SQUARED", Activation::kReluSquared}});
}

void read(RopeSpec& to, const Json& json, const std::string& what);
void read(LatentSpec& to, const Json& json, const std::string& what);
void read(LayerSpec& to, const Json& json, const std::string& what);
template <class T>
void read(std::vector<T>& to, const Json& json, const std::string& what);

// A struct as an object: a field that is not there keeps its default, one that is not known would
// change what the model computes.
struct Field {
  const char* name;
  std::function<void(const Json&, const std::string&)> read;
};
template <class T>
Field field(const char* name, T& to) {
  return {name, [&to](const Json& json, const std::string& what) { read(to, json, what); }};
}
void read_fields(const Json& json, const std::string& what, const std::vector<Field>& fields) {
  for (const auto& [name, value] : json.object(what)) {
    const Field* known = nullptr;
    for (const Field& f : fields)
      if (name == f.name) known = &f;
    if (!known)
      throw Error(ErrorCode::kUnsupported,
                  what + " has a field " + name + ", which this build does not know");
    known->read(value, what + "." + name);
  }
}

void read(RopeSpec& to, const Json& json, const std::string& what) {
  read_fields(json, what,
              {field("interleaved", to.interleaved), field("inv_freq", to.inv_freq),
               field("magnitude", to.magnitude)});
}
void read(LatentSpec& to, const Json& json, const std::string& what) {
  read_fields(json, what,
              {field("size", to.size), field("query_size", to.query_size),
               field("key_dim", to.key_dim), field("value_dim", to.value_dim)});
}
void read(LayerSpec& to, const Json& json, const std::string& what) {
  read_fields(json, what, {field("window", to.window), field("rope", to.rope)});
}

template <class T>
void read(std::vector<T>& to, const Json& json, const std::string& what) {
  to.clear();
  for (const Json& item : json.array(what)) read(to.emplace_back(), item, what);
}

void read(DecoderSpec& to, const Json& json, const std::string& what) {
#define RF_FIELD(name) field(#name, to.name)
  read_fields(json, what,
              {RF_FIELD(num_layers),
               RF_FIELD(hidden_size),
               RF_FIELD(num_heads),
               RF_FIELD(num_kv_heads),
               RF_FIELD(head_dim),
               RF_FIELD(value_dim),
               RF_FIELD(ffn_size),
               RF_FIELD(vocab_size),
               RF_FIELD(num_experts),
               RF_FIELD(num_experts_used),
               RF_FIELD(num_dense_layers),
               RF_FIELD(dense_ffn_size),
               RF_FIELD(shared_ffn_size),
               RF_FIELD(num_positions),
               RF_FIELD(norm_eps),
               RF_FIELD(attention_scale),
               RF_FIELD(attention_cap),
               RF_FIELD(logit_cap),
               RF_FIELD(embedding_scale),
               RF_FIELD(residual_scale),
               RF_FIELD(logit_scale),
               RF_FIELD(norm),
               RF_FIELD(activation),
               RF_FIELD(qk_norm),
               RF_FIELD(expert_gate),
               RF_FIELD(expert_weights_scale),
               RF_FIELD(expert_weights_sum_to_one),
               RF_FIELD(attention_sinks),
               RF_FIELD(output_bias),
               RF_FIELD(parallel_residual),
               RF_FIELD(causal),
               RF_FIELD(distance_slopes),
               RF_FIELD(latent),
               RF_FIELD(rope),
               RF_FIELD(local_rope),
               RF_FIELD(layers)});
#undef RF_FIELD
}

quant::Format format_named(const std::string& name) {
  for (int i = 0; i < quant::kNumFormats; ++i)
    if (quant::kFormats[static_cast<std::size_t>(i)].name == name)
      return static_cast<quant::Format>(i);
  throw Error(ErrorCode::kUnsupported, "tensor format " + name + " is not known to this build");
}

IndexedWeight weight_of(const Json& json) {
  IndexedWeight weight;
  weight.name = json.at("name").text("a weight's name");
  weight.file = json.at("file").text("a weight's file");
  weight.offset = json.at("offset").integer("a weight's offset");
  weight.view.format = format_named(json.at("type").text("a weight's type"));
  const Json::Array& shape = json.at("shape").array("a weight's shape");
  std::int64_t sizes[3] = {};
  check(shape.size() == 3 && weight.offset >= 0, ErrorCode::kModelFile,
        "a weight of the index has matrices, rows, columns and an offset");
  for (std::size_t i = 0; i < 3; ++i) {
    sizes[i] = shape[i].integer("a weight's shape");
    check(sizes[i] > 0 && sizes[i] <= kMaxSize, ErrorCode::kModelFile,
          "a size of the index is out of range");
  }
  Tensor& t = weight.view;
  t.num_matrices = sizes[0];
  t.rows = sizes[1];
  t.cols = sizes[2];
  std::int64_t bytes = t.row_bytes();
  const bool overflow = __builtin_mul_overflow(bytes, t.rows, &bytes) ||
                        __builtin_mul_overflow(bytes, t.num_matrices, &bytes);
  if (overflow || t.cols % quant::info(t.format).block_weights != 0 ||
      bytes != json.at("nbytes").integer("a weight's bytes"))
    throw Error(ErrorCode::kModelFile,
                "the shape and type of " + weight.name + " do not make its number of bytes");
  return weight;
}

}  // namespace

ModelIndex read_index(std::string_view json) {
  const Json report = Json::parse(json);
  if (const Json& problem = report.at("problem"); !problem.is_null())
    throw Error(ErrorCode::kUnsupported, problem.text("problem"));
  const Json& decoder = report.at("decoder");
  ModelIndex index;
  read(index.spec, decoder.at("spec"), "spec");
  index.max_model_len = decoder.at("max_model_len").integer("max_model_len");
  for (const Json& weight : decoder.at("weights").array("weights"))
    index.weights.push_back(weight_of(weight));
  return index;
}

}  // namespace rocmforge::api
