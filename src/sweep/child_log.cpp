#include "child_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <string_view>

#include "base/strict_json.h"
#include "gpu_slots.h"
#include "lathe/error.h"
#include "lathe/files.h"
#include "run/session_facts.h"

namespace lathe {

std::string shell_word(const std::string& word) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./,:@%";
  if (!word.empty() && word.find_first_not_of(kPlain) == word.npos) return word;
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + '\'';
}

std::uint64_t begin_log(const std::filesystem::path& log, const std::vector<std::string>& arguments,
                        const std::optional<std::string>& gpu) {
  std::string line = fmt::format("# {}{} lathe", utc_now(),
                                 gpu ? fmt::format(" {}={}", kVisibleGpus, shell_word(*gpu)) : "");
  for (const std::string& argument : arguments) line.append(" ").append(shell_word(argument));
  OutputFile file(log, OutputFile::Mode::append);
  file.write(line + "\n");
  const std::uint64_t bytes = file.size();
  file.close();
  return bytes;
}

std::string last_error(const std::filesystem::path& log, std::uint64_t from) {
  constexpr std::uint64_t kMost = 1 << 16;
  constexpr std::string_view kBegin = "lathe: ";
  try {
    const InputFile file(log, ExitCode::storage);
    if (file.size() <= from) return "";
    const std::uint64_t bytes = std::min(file.size() - from, kMost);
    std::string text(bytes, '\0');
    file.read(file.size() - bytes, std::as_writable_bytes(std::span(text)));
    const std::string lines = "\n" + text;
    const std::size_t at = lines.rfind(fmt::format("\n{}", kBegin));
    if (at == lines.npos) return "";
    const std::size_t begin = at + 1 + kBegin.size();
    return printable(lines.substr(begin, lines.find('\n', begin) - begin));
  } catch (const Error&) {
    return "";
  }
}

}  // namespace lathe
