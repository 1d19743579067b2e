// What a run's process says, in a file beside its folder: every process behind the ones before.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace lathe {

// "'a b'": a word of a command line as a shell takes it.
std::string shell_word(const std::string& word);

// Writes a line with the time and the command, and returns the bytes before what the process will
// say. Error(storage).
std::uint64_t begin_log(const std::filesystem::path& log, const std::vector<std::string>& arguments,
                        const std::optional<std::string>& gpu);

// The last line that begins with "lathe: ", without that, from a byte on; "" where there is none.
std::string last_error(const std::filesystem::path& log, std::uint64_t from);

}  // namespace lathe
