#include "parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "instruction_parser.h"
#include "machine.h"
#include "scanner.h"

namespace lathe::ptx {
namespace {

bool has_directive(const std::string& text, std::string_view directive) {
  const auto parts = words(text);
  return std::find(parts.begin(), parts.end(), directive) != parts.end();
}

class Parser {
 public:
  Module run(std::string_view ptx) {
    const std::vector<Statement> statements = scan(ptx);
    for (const Statement& statement : statements) {
      try {
        read(statement);
      } catch (const Error& error) {
        throw Error(
            fmt::format("PTX line {}: {}: {}", statement.line, error.what(), statement.text));
      }
    }
    if (depth_ != 0) throw Error("PTX ends inside a function");
    for (auto& [name, kernel] : module_.kernels) kernel.files = files_;
    return std::move(module_);
  }

 private:
  void read(const Statement& statement) {
    if (statement.kind == Statement::Kind::open) {
      ++depth_;
      if (builder_) builder_->open_scope();
    } else if (statement.kind == Statement::Kind::close) {
      if (depth_ == 0) throw Error("a brace too many");
      close();
    } else if (depth_ == 0) {
      read_outside(statement.text);
    } else if (builder_) {
      read_inside(statement);
    }
  }

  void close() {
    --depth_;
    if (!builder_) return;
    builder_->close_scope();
    if (depth_ > 0) return;
    builder_->finish();
    builder_.reset();
  }

  void read_outside(const std::string& text) {
    if (text.starts_with(".version ") || text.starts_with(".target ") ||
        text.starts_with(".address_size ") || text.starts_with(".pragma ")) {
      return;
    }
    if (text.starts_with(".file ")) return read_file(text);
    if (has_directive(text, ".entry")) return open_kernel(text);
    if (has_directive(text, ".func")) return;  // a call of it is refused
    if (has_directive(text, ".shared")) {
      const Declaration declaration = parse_declaration(text);
      names_.shared[declaration.name] = declaration;
    } else if (has_directive(text, ".global") || has_directive(text, ".const")) {
      add_variable(text);
    } else {
      throw Error("unknown statement");
    }
  }

  // .file 1 "path"
  void read_file(const std::string& text) {
    const std::size_t quote = text.find('"');
    const auto number = parse_immediate(words(text).at(1));
    if (quote == std::string::npos || !number) throw Error("unknown statement");
    (*files_)[static_cast<int>(*number)] =
        text.substr(quote + 1, text.find('"', quote + 1) - quote - 1);
  }

  // .visible .entry name( parameters ) attributes
  void open_kernel(const std::string& text) {
    const std::size_t parenthesis = text.find('(');
    const std::size_t close = std::min(text.rfind(')'), text.size());
    const std::size_t name_begin = text.find(".entry ") + 7;
    const std::string name =
        trim(text.substr(name_begin, std::min(parenthesis, text.size()) - name_begin));
    Kernel& kernel = module_.kernels[name];
    kernel = Kernel{};
    kernel.name = name;
    builder_.emplace(kernel, names_);
    place_ = inlined_at_ = {};
    if (parenthesis != std::string::npos) {
      for (const std::string& parameter :
           split(std::string_view(text).substr(parenthesis + 1, close - parenthesis - 1), ','))
        builder_->add_parameter(parse_declaration(parameter));
      read_attributes(kernel, text.substr(close + 1));
    }
  }

  static void read_attributes(Kernel& kernel, const std::string& text) {
    std::string spaced = text;
    std::replace(spaced.begin(), spaced.end(), ',', ' ');
    bool threads = false;
    for (const std::string& word : words(spaced)) {
      const auto number = parse_immediate(word);
      if (number && threads) kernel.max_threads *= static_cast<int>(*number);
      if (number) continue;
      threads = word == ".maxntid" || word == ".reqntid";
      if (threads) kernel.max_threads = 1;
      if (!threads && word != ".minnctapersm" && word != ".maxnreg") {
        throw Error(fmt::format("unknown attribute '{}'", word));
      }
    }
  }

  // ".global .align 4 .b8 name[2] = {1, 2}": zero where it lists no values.
  void add_variable(const std::string& text) {
    const std::size_t equal = text.find('=');
    const Declaration declaration = parse_declaration(trim(text.substr(0, equal)));
    if (declaration.unsized) throw Error("a variable of another module");
    const auto bytes = static_cast<std::size_t>(declaration.bytes());
    auto* memory = static_cast<std::uint8_t*>(machine().memory.allocate(bytes));
    if (memory == nullptr) throw Error("no memory");
    std::memset(memory, 0, bytes);
    module_.variables[declaration.name] = {memory, bytes};
    if (equal == std::string::npos) return;
    std::string values = trim(text.substr(equal + 1));
    if (values.starts_with('{') && values.ends_with('}'))
      values = values.substr(1, values.size() - 2);
    std::size_t at = 0;
    for (const std::string& value : split(values, ',')) {
      const auto bits = parse_immediate(value);
      const auto size = static_cast<std::size_t>(declaration.element_bytes);
      if (!bits || at + size > bytes) throw Error(fmt::format("unknown value '{}'", value));
      std::memcpy(memory + at, &*bits, size);
      at += size;
    }
  }

  void read_inside(const Statement& statement) {
    const std::string& text = statement.text;
    if (statement.kind == Statement::Kind::label) return builder_->add_label(text);
    if (text.starts_with(".loc ")) return read_place(text);
    if (text.starts_with(".pragma ")) return;
    if (text.starts_with('.')) {
      const std::string directive = words(text).front();
      if (directive != ".reg" && directive != ".shared" && directive != ".local" &&
          directive != ".param") {
        throw Error("unknown statement");
      }
      return builder_->declare(text);
    }
    parse_instruction(text, statement.line, place_, inlined_at_, *builder_);
  }

  // .loc file line column[, function_name ..., inlined_at file line column]
  void read_place(const std::string& text) {
    const auto place_at = [&](std::size_t begin) {
      const auto parts = words(std::string_view(text).substr(begin));
      const auto file = parse_immediate(parts.at(1)), line = parse_immediate(parts.at(2));
      if (!file || !line) throw Error("unknown statement");
      return SourcePlace{static_cast<int>(*file), static_cast<int>(*line)};
    };
    place_ = place_at(0);
    const std::size_t inlined = text.find("inlined_at ");
    inlined_at_ = inlined == std::string::npos ? SourcePlace{} : place_at(inlined);
  }

  Module module_;
  std::shared_ptr<std::map<int, std::string>> files_ =
      std::make_shared<std::map<int, std::string>>();
  ModuleNames names_{{}, &module_.variables};
  std::optional<KernelBuilder> builder_;  // inside a kernel
  int depth_ = 0;
  SourcePlace place_, inlined_at_;
};

}  // namespace

Module parse(std::string_view ptx) {
  return Parser().run(ptx);
}

}  // namespace lathe::ptx
