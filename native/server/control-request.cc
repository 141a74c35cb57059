#include "control-request.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <limits>
#include <optional>
#include <span>

namespace {

/** A key of a verb: where its value goes. */
struct Key {
  std::string_view name;
  std::string ControlRequest::*text = nullptr;
  uint64_t ControlRequest::*number = nullptr;
};

struct VerbForm {
  ControlVerb verb;
  std::string_view name;
  size_t descriptors;
  std::span<const Key> keys;
};

constexpr Key kSwitchKeys[] = {
    {.name = "old", .text = &ControlRequest::old_name},     {.name = "kept", .text = &ControlRequest::kept_name},
    {.name = "next", .text = &ControlRequest::next_name},   {.name = "top", .text = &ControlRequest::top_name},
    {.name = "map", .number = &ControlRequest::map_offset}, {.name = "data", .number = &ControlRequest::data_offset},
    {.name = "owned", .number = &ControlRequest::owned_end}};
constexpr Key kAbsorbKeys[] = {{.name = "slot", .number = &ControlRequest::slot},
                               {.name = "from", .number = &ControlRequest::block}};
constexpr Key kMovedKeys[] = {{.name = "slot", .number = &ControlRequest::slot},
                              {.name = "into", .number = &ControlRequest::into},
                              {.name = "to", .number = &ControlRequest::block}};
constexpr Key kDropKeys[] = {{.name = "slot", .number = &ControlRequest::slot}};
constexpr Key kGrowKeys[] = {{.name = "size", .number = &ControlRequest::size_bytes}};

constexpr VerbForm kForms[] = {
    {ControlVerb::kStatus, "status", 0, {}},          {ControlVerb::kLayers, "layers", 0, {}},
    {ControlVerb::kSwitch, "switch", 2, kSwitchKeys}, {ControlVerb::kFlush, "flush", 0, {}},
    {ControlVerb::kAbsorb, "absorb", 0, kAbsorbKeys}, {ControlVerb::kMoved, "moved", 0, kMovedKeys},
    {ControlVerb::kDrop, "drop", 0, kDropKeys},       {ControlVerb::kGrow, "grow", 0, kGrowKeys},
    {ControlVerb::kRelease, "release", 0, {}},        {ControlVerb::kUnguard, "unguard", 0, {}}};

constexpr size_t kMaxName = 255;

/** Digits only: no sign, no space, no zero in front. */
std::optional<uint64_t> ParseNumber(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (text.size() > 1 && text[0] == '0') return std::nullopt;
  if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
  return value;
}

bool IsFileName(std::string_view text) {
  return !text.empty() && text.size() <= kMaxName && text != "." && text != ".." && text.find('/') == text.npos;
}

/** Takes the first line, which must be ended, off `rest`. */
std::optional<std::string_view> TakeLine(std::string_view& rest) {
  const size_t end = rest.find('\n');
  if (end == rest.npos) return std::nullopt;
  const std::string_view line = rest.substr(0, end);
  rest.remove_prefix(end + 1);
  return line;
}

bool Assign(ControlRequest& request, const Key& key, std::string_view value) {
  if (key.text) {
    if (!IsFileName(value)) return false;
    request.*key.text = value;
    return true;
  }
  const std::optional<uint64_t> number = ParseNumber(value);
  if (number) request.*key.number = *number;
  return number.has_value();
}

ControlRefusal Refuse(int error, const char* text) {
  return {error, text};
}

/** The verb's form, from the first line. */
std::variant<const VerbForm*, ControlRefusal> ParseVerb(std::string_view line) {
  constexpr std::string_view kMagic = "loopbox ";
  if (!line.starts_with(kMagic)) return Refuse(EINVAL, "this is no request");
  line.remove_prefix(kMagic.size());
  const size_t space = line.find(' ');
  const std::optional<uint64_t> version = ParseNumber(line.substr(0, space));
  if (!version || space == line.npos) return Refuse(EINVAL, "this is no request");
  if (*version != kControlVersion) return Refuse(EPROTONOSUPPORT, "only version 1 of the protocol is known");
  line.remove_prefix(space + 1);
  const auto form = std::find_if(std::begin(kForms), std::end(kForms), [&](auto& known) { return known.name == line; });
  if (form == std::end(kForms)) return Refuse(EOPNOTSUPP, "the verb is not known");
  return form;
}

}  // namespace

std::variant<ControlRequest, ControlRefusal> ParseControlRequest(std::string_view packet, size_t descriptors) {
  // A terminating byte inside would end a name early in the kernel.
  if (packet.size() > kMaxControlRequest || packet.find('\0') != packet.npos) {
    return Refuse(EINVAL, "this is no request");
  }
  const std::optional<std::string_view> first = TakeLine(packet);
  if (!first) return Refuse(EINVAL, "this is no request");
  const auto verb = ParseVerb(*first);
  if (const auto* refusal = std::get_if<ControlRefusal>(&verb)) return *refusal;
  const VerbForm& form = *std::get<const VerbForm*>(verb);
  if (descriptors != form.descriptors) return Refuse(EINVAL, "the number of descriptors is wrong");

  ControlRequest request = {.verb = form.verb};
  uint32_t seen = 0;
  while (!packet.empty()) {
    const std::optional<std::string_view> line = TakeLine(packet);
    const size_t equals = line ? line->find('=') : std::string_view::npos;
    if (equals == std::string_view::npos) return Refuse(EINVAL, "a line is no key=value");
    const auto key = std::find_if(form.keys.begin(), form.keys.end(),
                                  [&](const Key& known) { return known.name == line->substr(0, equals); });
    if (key == form.keys.end()) return Refuse(EINVAL, "a key is not known");
    const uint32_t bit = 1u << (key - form.keys.begin());
    if (seen & bit) return Refuse(EINVAL, "a key is there twice");
    seen |= bit;
    if (!Assign(request, *key, line->substr(equals + 1))) return Refuse(EINVAL, "a value is not valid");
  }
  if (seen + 1 != 1u << form.keys.size()) return Refuse(EINVAL, "a key is missing");
  return request;
}
