// Readers of multiple-choice files. Every length is checked against what is left of the file before
// anything of that length is made.
#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/strict_json.h"
#include "evaluation_file_format.h"
#include "lathe/error.h"
#include "lathe/files.h"
#include "lathe/multiple_choice.h"
#include "refuse_data.h"

namespace lathe {
namespace {

using nlohmann::json;

// The header of a file of `size` bytes, from what is there of its first bytes.
EvaluationHeader read_header(std::span<const std::byte> start, std::uint64_t size,
                             const std::string& name) {
  EvaluationHeader header{};
  // An empty span may have no address, which memcpy must not be given.
  if (!start.empty()) {
    std::memcpy(&header, start.data(), std::min(start.size(), sizeof header));
  }
  if (size >= sizeof header.magic && header.magic != EvaluationHeader::kMagic) {
    refuse(name, "byte 0: magic number {}; that of an llm.c evaluation file is {}", header.magic,
           EvaluationHeader::kMagic);
  }
  if (size < EvaluationHeader::kBytes) {
    refuse(name, "has {} bytes; the header of an llm.c evaluation file alone has {}", size,
           EvaluationHeader::kBytes);
  }
  if (header.version != EvaluationHeader::kVersion) {
    refuse(name, "byte 4: version {}; Lathe reads version {} of llm.c evaluation files",
           header.version, EvaluationHeader::kVersion);
  }
  if (header.examples < 1 || header.examples > EvaluationHeader::kMostExamples) {
    refuse(name, "byte 8: {} examples; there must be between 1 and {}", header.examples,
           EvaluationHeader::kMostExamples);
  }
  if (header.longest_example < 1 || header.longest_example > EvaluationHeader::kMostExampleBytes) {
    refuse(name, "byte 12: a longest example of {} bytes; it must be between 1 and {}",
           header.longest_example, EvaluationHeader::kMostExampleBytes);
  }
  const std::int64_t most = std::int64_t{header.examples} * header.longest_example;
  const auto rest = static_cast<std::int64_t>(size) - EvaluationHeader::kBytes;
  if (rest > most) {
    refuse(name, "byte 12: {} examples of at most {} bytes, but {} bytes follow the header",
           header.examples, header.longest_example, rest);
  }
  return header;
}

// Reads the examples of an llm.c evaluation file one after another.
class ExampleReader {
 public:
  ExampleReader(std::span<const std::byte> bytes, const std::string& name)
      : bytes_(bytes), name_(name) {}

  MultipleChoiceExample read() {
    const std::size_t begin = at_;
    end_ = bytes_.size();
    const std::uint16_t start = take("mark");
    if (start != EvaluationHeader::kExampleStart) {
      refuse_at(begin, "begins with {}, not with the mark of an example, {}", start,
                EvaluationHeader::kExampleStart);
    }
    const std::uint16_t size = take("size");
    if (size > bytes_.size() - begin) {
      refuse_at(at_ - kWord, "says it has {} bytes, but the file has {} from there on", size,
                bytes_.size() - begin);
    }
    end_ = begin + size;
    if (const std::uint16_t index = take("index"); index != index_) {
      refuse_at(at_ - kWord, "says it is example {}", index);
    }
    const std::size_t label_at = at_;
    MultipleChoiceExample example{.context = {}, .completions = {}, .label = take("label")};
    const std::uint16_t completions = take("number of completions");
    if (completions < 2 || example.label >= completions) {
      refuse_at(label_at,
                "has label {} of {} completions; there must be at least 2, and the label "
                "is below their number",
                example.label, completions);
    }
    example.context = take_tokens("context");
    for (std::uint16_t i = 0; i < completions; ++i) {
      example.completions.push_back(take_tokens("completion"));
    }
    if (at_ != end_) refuse_at(at_, "has {} bytes behind its last completion", end_ - at_);
    longest_ = std::max<std::int64_t>(longest_, size);
    ++index_;
    return example;
  }

  std::size_t position() const { return at_; }
  std::int64_t longest_example() const { return longest_; }  // bytes, of those that were read

 private:
  static constexpr std::size_t kWord = sizeof(std::uint16_t);

  template <class... Args>
  [[noreturn]] void refuse_at(std::size_t at, fmt::format_string<Args...> format,
                              Args&&... args) const {
    refuse(name_, "byte {}: example {} {}", at, index_,
           fmt::format(format, std::forward<Args>(args)...));
  }

  std::uint16_t take(const char* what) {
    if (at_ + kWord > end_) {
      refuse_at(at_, "has no {}: {} ends", what, end_ == bytes_.size() ? "the file" : "its size");
    }
    std::uint16_t value = 0;
    std::memcpy(&value, bytes_.data() + at_, kWord);
    at_ += kWord;
    return value;
  }

  // A length and as many tokens.
  std::vector<std::int32_t> take_tokens(const char* what) {
    const std::uint16_t count = take(what);
    const std::size_t left = (end_ - at_) / kWord;
    if (count < 1 || count > left) {
      refuse_at(at_ - kWord, "has a {} of {} tokens; there must be 1 or more, and {} can follow",
                what, count, left);
    }
    std::vector<std::int32_t> tokens;
    tokens.reserve(count);
    for (std::uint16_t i = 0; i < count; ++i) {
      tokens.push_back(take(what));
      if (tokens.back() == EvaluationHeader::kExampleStart) {
        refuse_at(at_ - kWord, "has the mark of an example, {}, in its {}", tokens.back(), what);
      }
    }
    return tokens;
  }

  std::span<const std::byte> bytes_;
  const std::string& name_;
  std::int64_t index_ = 0;  // of the example that is read
  std::size_t at_ = EvaluationHeader::kBytes;
  std::size_t end_ = 0;  // of the example
  std::int64_t longest_ = 0;
};

const json& member(const json& line, const char* key, const std::string& source) {
  const auto found = line.find(key);
  if (found == line.end()) refuse(source, "has no \"{}\"", key);
  return *found;
}

const std::string& text_of(const json& value, const char* what, const std::string& source) {
  if (!value.is_string() || value.get_ref<const std::string&>().empty()) {
    refuse(source, "{} must be a text that is not empty", what);
  }
  return value.get_ref<const std::string&>();
}

// A whole number, or one written as a text: HellaSwag comes both ways.
std::int64_t label_of(const json& value, std::size_t endings, const std::string& source) {
  std::uint64_t label = endings;
  if (value.is_number_unsigned()) label = value.get<std::uint64_t>();
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), label);
    if (error != std::errc() || end != text.data() + text.size()) label = endings;
  }
  if (label >= endings) {
    refuse(source, "\"label\" must be a whole number below {}, the number of endings", endings);
  }
  return static_cast<std::int64_t>(label);
}

// As llm.c's script does: an ending is a new word.
MultipleChoiceExample parse_line(const json& line, const std::string& source, Encoder& encoder) {
  if (!line.is_object())
    refuse(source, "must be an object with \"ctx\", \"endings\" and \"label\"");
  const json& endings = member(line, "endings", source);
  if (!endings.is_array() || endings.size() < 2) {
    refuse(source, "\"endings\" must be a list of at least two");
  }
  MultipleChoiceExample example{
      .context = {},
      .completions = {},
      .label = label_of(member(line, "label", source), endings.size(), source)};
  encoder.encode(text_of(member(line, "ctx", source), "\"ctx\"", source), example.context);
  for (const json& ending : endings) {
    encoder.encode(" " + text_of(ending, "each of \"endings\"", source),
                   example.completions.emplace_back());
  }
  return example;
}

}  // namespace

MultipleChoiceTask parse_llmc_evaluation(std::span<const std::byte> bytes,
                                         const std::string& name) {
  const EvaluationHeader header = read_header(bytes, bytes.size(), name);
  MultipleChoiceTask task{.name = name, .examples = {}};
  ExampleReader reader(bytes, name);
  for (std::int64_t i = 0; i < header.examples; ++i) task.examples.push_back(reader.read());
  if (reader.position() != bytes.size()) {
    refuse(name, "byte {}: {} bytes follow the last of {} examples", reader.position(),
           bytes.size() - reader.position(), header.examples);
  }
  if (reader.longest_example() != header.longest_example) {
    refuse(name, "byte 12: the longest example has {} bytes, the header says {}",
           reader.longest_example(), header.longest_example);
  }
  return task;
}

MultipleChoiceTask parse_multiple_choice_lines(std::string_view text, const Tokenizer& tokenizer,
                                               const std::string& name) {
  MultipleChoiceTask task{.name = name, .examples = {}};
  const auto encoder = tokenizer.make_encoder();
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string source = fmt::format("{}: line {}", name, number);
    task.examples.push_back(
        parse_line(parse_json(text.substr(0, end), source, ExitCode::data), source, *encoder));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  if (task.examples.empty()) refuse(name, "is empty; it must have an example on each line");
  return task;
}

MultipleChoiceTask open_multiple_choice(const std::string& path,
                                        const std::function<const Tokenizer&()>& tokenizer) {
  if (path.ends_with(".jsonl")) {
    const std::string text = read_file(path, ExitCode::data);
    return parse_multiple_choice_lines(text, tokenizer(), path);
  }
  const InputFile file(path, ExitCode::data);
  std::vector<std::byte> bytes(
      std::min<std::uint64_t>(file.size(), std::uint64_t{EvaluationHeader::kBytes}));
  file.read(0, bytes);
  read_header(bytes, file.size(), path);  // which bounds the size of what is read now
  bytes.resize(file.size());
  file.read(0, bytes);
  return parse_llmc_evaluation(bytes, path);
}

}  // namespace lathe
