#include "api/json.hpp"

#include <charconv>
#include <cmath>
#include <cstddef>

#include "core/error.hpp"

namespace rocmforge::api {

namespace {

constexpr int kMaxDepth = 64;

template <class T, class Variant>
const T& get(const Variant& value, const std::string& what, const char* kind) {
  if (const T* found = std::get_if<T>(&value)) return *found;
  throw Error(ErrorCode::kModelFile, "the index has no " + std::string(kind) + " as " + what);
}

void append_utf8(std::string& out, std::uint32_t c) {
  const auto put = [&out](std::uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (c < 0x80) return put(c);
  if (c < 0x800) {
    put(0xc0 | c >> 6);
  } else {
    if (c < 0x10000) {
      put(0xe0 | c >> 12);
    } else {
      put(0xf0 | c >> 18);
      put(0x80 | (c >> 12 & 0x3f));
    }
    put(0x80 | (c >> 6 & 0x3f));
  }
  put(0x80 | (c & 0x3f));
}

}  // namespace

class JsonParser {
 public:
  explicit JsonParser(std::string_view text) : text_(text) {}

  Json document() {
    Json value = this->value(0);
    skip_space();
    if (at_ != text_.size()) fail("text behind the value");
    return value;
  }

 private:
  [[noreturn]] void fail(const char* what) const {
    throw Error(ErrorCode::kModelFile,
                "the index is no JSON at byte " + std::to_string(at_) + ": " + what);
  }
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void skip_space() {
    while (at_ < text_.size() && std::string_view(" \t\n\r").find(text_[at_]) != text_.npos) ++at_;
  }
  bool take(char c) {
    skip_space();
    if (peek() != c || at_ == text_.size()) return false;
    ++at_;
    return true;
  }
  void expect(char c, const char* what) {
    if (!take(c)) fail(what);
  }

  Json value(int depth) {
    if (depth > kMaxDepth) fail("too deep");
    skip_space();
    Json json;
    if (take('{')) {
      json.value_ = object(depth);
    } else if (take('[')) {
      json.value_ = array(depth);
    } else if (take('"')) {
      json.value_ = string();
    } else if (word("true") || word("false")) {
      json.value_ = text_[at_ - 2] == 'u';
    } else if (!word("null")) {
      json.value_ = number();
    }
    return json;
  }

  bool word(std::string_view name) {
    if (text_.substr(at_, name.size()) != name) return false;
    at_ += name.size();
    return true;
  }

  double number() {
    if (peek() != '-' && (peek() < '0' || peek() > '9')) fail("no value");
    double value = 0.0;
    const auto [end, problem] =
        std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (problem != std::errc() || !std::isfinite(value)) fail("no finite number");
    at_ = static_cast<std::size_t>(end - text_.data());
    return value;
  }

  Json::Array array(int depth) {
    Json::Array items;
    if (take(']')) return items;
    do {
      items.push_back(value(depth + 1));
    } while (take(','));
    expect(']', "no end of an array");
    return items;
  }

  Json::Object object(int depth) {
    Json::Object members;
    if (take('}')) return members;
    do {
      expect('"', "no name of a member");
      std::string name = string();
      expect(':', "no value of a member");
      members.emplace_back(std::move(name), value(depth + 1));
    } while (take(','));
    expect('}', "no end of an object");
    return members;
  }

  std::string string() {
    std::string out;
    while (true) {
      if (at_ == text_.size()) fail("no end of a string");
      const char c = text_[at_++];
      if (c == '"') return out;
      if (static_cast<unsigned char>(c) < 0x20) fail("a control character in a string");
      if (c == '\\')
        escape(out);
      else
        out.push_back(c);
    }
  }

  void escape(std::string& out) {
    const char c = peek();
    ++at_;
    constexpr std::string_view kShort = "\"\\/bfnrt", kMeant = "\"\\/\b\f\n\r\t";
    if (const std::size_t i = kShort.find(c); i != kShort.npos && c != '\0')
      return out.push_back(kMeant[i]);
    if (c != 'u') fail("an unknown escape");
    std::uint32_t unit = hex();
    if (unit >= 0xd800 && unit < 0xdc00) {
      if (!word("\\u")) fail("half a surrogate pair");
      const std::uint32_t low = hex();
      if (low < 0xdc00 || low >= 0xe000) fail("half a surrogate pair");
      unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
    } else if (unit >= 0xdc00 && unit < 0xe000) {
      fail("half a surrogate pair");
    }
    append_utf8(out, unit);
  }

  std::uint32_t hex() {
    std::uint32_t value = 0;
    if (text_.size() - at_ < 4) fail("no end of a string");
    const char* begin = text_.data() + at_;
    const auto [end, problem] = std::from_chars(begin, begin + 4, value, 16);
    if (problem != std::errc() || end != begin + 4) fail("no four hexadecimal digits");
    at_ += 4;
    return value;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

Json Json::parse(std::string_view text) { return JsonParser(text).document(); }

bool Json::boolean(const std::string& what) const { return get<bool>(value_, what, "boolean"); }
double Json::number(const std::string& what) const { return get<double>(value_, what, "number"); }

std::int64_t Json::integer(const std::string& what) const {
  const double value = number(what);
  constexpr double kExact = 9007199254740992.0;  // 2^53: beyond it doubles skip integers
  if (std::abs(value) > kExact || value != std::floor(value))
    throw Error(ErrorCode::kModelFile, "the index has no integer as " + what);
  return static_cast<std::int64_t>(value);
}

const std::string& Json::text(const std::string& what) const {
  return get<std::string>(value_, what, "text");
}
const Json::Array& Json::array(const std::string& what) const {
  return get<Array>(value_, what, "array");
}
const Json::Object& Json::object(const std::string& what) const {
  return get<Object>(value_, what, "object");
}

const Json* Json::find(std::string_view name) const {
  if (const Object* members = std::get_if<Object>(&value_))
    for (const auto& [key, value] : *members)
      if (key == name) return &value;
  return nullptr;
}

const Json& Json::at(const std::string& name) const {
  if (const Json* found = find(name)) return *found;
  throw Error(ErrorCode::kModelFile, "the index has no member " + name);
}

}  // namespace rocmforge::api
