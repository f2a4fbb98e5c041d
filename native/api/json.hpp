// JSON (RFC 8259) as a tree, for reports of this library's own. Strict; depth is bounded.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace rocmforge::api {

class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;

  // Throws Error(kModelFile) with the byte at which it fails.
  static Json parse(std::string_view text);

  bool is_null() const { return std::holds_alternative<std::nullptr_t>(value_); }
  // Throw Error(kModelFile) naming `what` for a value of another kind.
  bool boolean(const std::string& what) const;
  double number(const std::string& what) const;
  std::int64_t integer(const std::string& what) const;
  const std::string& text(const std::string& what) const;
  const Array& array(const std::string& what) const;
  const Object& object(const std::string& what) const;
  // A member of an object; null if it has none of that name.
  const Json* find(std::string_view name) const;
  const Json& at(const std::string& name) const;

 private:
  friend class JsonParser;
  std::variant<std::nullptr_t, bool, double, std::string, Array, Object> value_ = nullptr;
};

}  // namespace rocmforge::api
