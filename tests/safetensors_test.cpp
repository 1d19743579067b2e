#include "lathe/safetensors.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "lathe/bf16.h"
#include "support/compare.h"
#include "support/error_of.h"
#include "support/host_backend.h"
#include "support/json.h"
#include "support/temp_dir.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::error_of;
using test::TempDir;

std::string little_endian(std::uint64_t value) {
  std::string bytes;
  for (int shift = 0; shift < 64; shift += 8) bytes += static_cast<char>(value >> shift & 0xff);
  return bytes;
}

// A file of any header, right or wrong.
std::string file_of(const std::string& header, const std::string& data) {
  return little_endian(header.size()) + header + data;
}

std::string entry(const std::string& type, const std::string& shape, int begin, int end) {
  return R"({"dtype":")" + type + R"(","shape":)" + shape + R"(,"data_offsets":[)" +
         std::to_string(begin) + "," + std::to_string(end) + "]}";
}

template <class T>
Tensor tensor_of(std::vector<T>& values) {
  return Tensor(values.data(), kDTypeOf<T>, {std::ssize(values)});
}

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

// Values that a wrong conversion or byte order would change: NaNs with payload, infinities,
// subnormals, ties between two bfloat16, and both zeros.
std::vector<float> peculiar_values() {
  std::vector<float> values = {0.0f,      -0.0f,       1.0f,         -1.5f,  0x1.01p0f,
                               0x1.03p0f, 0x1.0101p0f, 3.4e38f,      1e-40f, -1e-45f,
                               INFINITY,  -INFINITY,   0x1.fffep127f};
  values.push_back(std::bit_cast<float>(0x7fc12345u));
  values.push_back(std::bit_cast<float>(0xff800001u));
  return values;
}

TEST(SafetensorsReader, ReadsAFileOfAnotherWriter) {
  const TempDir folder;
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"b":)" + entry("BF16", "[3]", 8, 14) + R"(,"nothing":)" +
      entry("F32", "[2,0]", 18, 18) + R"(,"a":)" + entry("F32", "[1,2]", 0, 8) + R"(,"scalar":)" +
      entry("I32", "[]", 14, 18) + "}   ";
  const std::string path = folder.write("x", file_of(header, "abcdefghijklmnopqr"));
  const SafetensorsReader reader(path, ExitCode::data);
  EXPECT_EQ(reader.metadata(), (std::map<std::string, std::string>{{"format", "pt"}}));
  ASSERT_EQ(reader.tensors().size(), 4u);
  EXPECT_EQ(reader.tensors()[0].name, "a");
  EXPECT_EQ(reader.tensors()[0].shape, (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(reader.tensors()[1].name, "b");
  EXPECT_EQ(reader.tensors()[1].type, StoredType::bf16);
  EXPECT_EQ(reader.tensors()[2].name, "scalar");
  EXPECT_EQ(reader.tensors()[2].count(), 1);
  EXPECT_EQ(reader.tensors()[3].count(), 0);
  EXPECT_EQ(reader.find("c"), nullptr);
  std::string bytes(3, ' ');
  reader.read(*reader.find("b"), 2, std::as_writable_bytes(std::span(bytes)));
  EXPECT_EQ(bytes, "klm");
}

TEST(SafetensorsReader, ReadsAFileWithoutTensors) {
  const TempDir folder;
  EXPECT_TRUE(
      SafetensorsReader(folder.write("x", file_of("{}", "")), ExitCode::data).tensors().empty());
}

struct Refusal {
  std::string header, data, message;
};

TEST(SafetensorsReader, RefusesWhateverBreaksARule) {
  const std::string a = entry("F32", "[2]", 0, 8);
  const std::string deep(300'000, '[');
  const std::string name = "safetensors header";
  const std::string types = "F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL";
  const std::vector<Refusal> refusals = {
      {R"(["a"])", "", name + R"( starts with "[", must start with '{')"},
      {" {}", "", name + R"( starts with " ", must start with '{')"},
      {"\xef\xbb\xbf{}", "", name + R"( starts with "\ufffd", must start with '{')"},
      {"{", "", "header length 1, must be from 2 to 1 in a safetensors file of 9 bytes"},
      {"{}x", "", name + ": not valid JSON at byte 3"},
      {std::string("{}\0", 3), "", name + ": not valid JSON at byte 3"},
      {R"({"a":)" + a, "12345678", name + ": not valid JSON at byte 54"},
      {"{\"\xff\":" + a + "}", "12345678", name + ": not valid JSON at byte 3"},
      {R"({"a":)" + a + R"(,"a":)" + a + "}", "12345678", name + R"(: key "a" stands twice)"},
      {R"({"a":)" + a + R"(,"\u0061":)" + a + "}", "12345678", name + R"(: key "a" stands twice)"},
      {R"({"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})", "12345678",
       name + R"(: key "dtype" stands twice)"},
      {R"({"a":)" + deep, "", name + ": JSON nested deeper than 8 levels"},
      {R"({"a":)" + entry("F32", "[1e999]", 0, 8) + "}", "12345678",
       name + ": holds a number out of range"},
      {R"({"__metadata__":{"a":1}})", "", name + ": __metadata__ must map strings to strings"},
      {R"({"__metadata__":["a"]})", "", name + ": __metadata__ must map strings to strings"},
      {R"({"a":7})", "",
       R"(tensor "a": header entry must hold dtype, shape and data_offsets, nothing else)"},
      {R"({"a":{"dtype":"F32","shape":[2]}})", "",
       R"(tensor "a": header entry must hold dtype, shape and data_offsets, nothing else)"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":0}})", "12345678",
       R"(tensor "a": header entry must hold dtype, shape and data_offsets, nothing else)"},
      {R"({"a":{"dtype":4,"shape":[2],"data_offsets":[0,8]}})", "12345678",
       R"(tensor "a": dtype must be a string)"},
      {R"({"a":)" + entry("F8", "[8]", 0, 8) + "}", "12345678",
       R"(tensor "a": type "F8", must be one of )" + types},
      {R"({"a\n\u001b[2J":)" + entry("f32", "[2]", 0, 8) + "}", "12345678",
       R"(tensor "a\n\u001b[2J": type "f32", must be one of )" + types},
      {R"({"a":)" + entry("F32", "2", 0, 8) + "}", "12345678",
       R"(tensor "a": shape must be a list)"},
      {R"({"a":)" + entry("F32", "[2.0]", 0, 8) + "}", "12345678",
       R"(tensor "a": shape must hold whole numbers from 0 to 2^63 - 1)"},
      {R"({"a":)" + entry("F32", "[-1,-2]", 0, 8) + "}", "12345678",
       R"(tensor "a": shape must hold whole numbers from 0 to 2^63 - 1)"},
      {R"({"a":)" + entry("F32", "[9223372036854775808]", 0, 8) + "}", "12345678",
       R"(tensor "a": shape must hold whole numbers from 0 to 2^63 - 1)"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}})", "12345678",
       R"(tensor "a": data_offsets must be two whole numbers)"},
      {R"({"a":)" + entry("F32", "[2]", -8, 0) + "}", "12345678",
       R"(tensor "a": data_offsets must be two whole numbers)"},
      {R"({"a":)" + entry("F32", "[2]", 8, 0) + "}", "12345678",
       R"(tensor "a": data_offsets must not decrease)"},
      {R"({"a":)" + entry("F32", "[3]", 0, 8) + "}", "12345678",
       R"(tensor "a": 8 bytes at data_offsets, shape (3) of F32 takes 12)"},
      // 2^62 + 2 floats are 8 bytes in 64 bits.
      {R"({"a":)" + entry("F32", "[4611686018427387906]", 0, 8) + "}", "12345678",
       R"(tensor "a": 8 bytes at data_offsets, shape (4611686018427387906) of F32 takes more than 2^63)"},
      {R"({"a":)" + entry("F32", "[4294967296,4294967296]", 0, 0) + "}", "",
       R"(tensor "a": 0 bytes at data_offsets, shape (4294967296, 4294967296) of F32 takes more than 2^63)"},
      {R"({"a":)" + entry("F32", "[1]", 4, 8) + "}", "12345678",
       R"(tensor "a" begins at data byte 4, must begin at 0 where the one before ends)"},
      {R"({"a":)" + a + R"(,"b":)" + entry("F32", "[2]", 4, 12) + "}", "123456789012",
       R"(tensor "b" begins at data byte 4, must begin at 8 where the one before ends)"},
      {R"({"a":)" + a + R"(,"b":)" + entry("F32", "[1]", 12, 16) + "}", "1234567890123456",
       R"(tensor "b" begins at data byte 12, must begin at 8 where the one before ends)"},
      {R"({"a":)" + a + R"(,"b":)" + a + "}", "12345678",
       R"(tensor "b" begins at data byte 0, must begin at 8 where the one before ends)"},
      {R"({"a":)" + a + "}", "1234567", "7 bytes of tensor data, its header says 8"},
      {R"({"a":)" + a + "}", "123456789", "9 bytes of tensor data, its header says 8"},
      {"{}", "1", "1 bytes of tensor data, its header says 0"},
  };
  const TempDir folder;
  for (const Refusal& refusal : refusals) {
    const std::string path = folder.write("x", file_of(refusal.header, refusal.data));
    EXPECT_EQ(error_of([&] { SafetensorsReader(path, ExitCode::data); }),
              "exit 3: " + path + ": " + refusal.message)
        << refusal.header.substr(0, 200);
  }
}

TEST(SafetensorsReader, RefusesHeaderLengthsThatCannotBe) {
  const TempDir folder;
  const auto open = [&](const std::string& bytes, std::uint64_t file_bytes) {
    const std::string path = folder.write("x", bytes);
    fs::resize_file(path, file_bytes);  // holes read as zeros
    return error_of([&] { SafetensorsReader(path, ExitCode::data); }).substr(10 + path.size());
  };
  EXPECT_EQ(open("", 0), "0 bytes, a safetensors file has at least 10");
  EXPECT_EQ(open(little_endian(0), 7), "7 bytes, a safetensors file has at least 10");
  EXPECT_EQ(open(little_endian(2), 9),
            "header length 2, must be from 2 to 1 in a safetensors file of 9 bytes");
  EXPECT_EQ(open(little_endian(0) + "{}", 10),
            "header length 0, must be from 2 to 2 in a safetensors file of 10 bytes");
  EXPECT_EQ(
      open(little_endian(~std::uint64_t{0}) + "{}", 10),
      "header length 18446744073709551615, must be from 2 to 2 in a safetensors file of 10 bytes");
  EXPECT_EQ(
      open(little_endian(100'000'001) + "{", 200'000'000),
      "header length 100000001, must be from 2 to 100000000 in a safetensors file of 200000000 "
      "bytes");
}

TEST(SafetensorsReader, RefusesReadsBeyondATensor) {
  const TempDir folder;
  const std::string path =
      folder.write("x", file_of(R"({"a":)" + entry("F32", "[2]", 0, 8) + R"(,"b":)" +
                                    entry("F32", "[1]", 8, 12) + "}",
                                "123456789012"));
  const SafetensorsReader reader(path, ExitCode::data);
  std::vector<std::byte> bytes(8);
  EXPECT_EQ(error_of([&] { reader.read(*reader.find("a"), 1, bytes); }),
            R"(exit 1: [safetensors] 8 bytes from 1 of tensor "a", it has 8)");
}

// What the format's description says, read without Lathe.
struct PlainFile {
  explicit PlainFile(const std::string& bytes) {
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data(), 8);
    header = test::parse_json(bytes.substr(8, length));
    header_end = 8 + length;
    data = bytes.substr(header_end);
  }
  std::string tensor(const std::string& name) const {
    const auto offsets = header.at(name).at("data_offsets");
    return data.substr(offsets[0], offsets[1].get<std::size_t>() - offsets[0].get<std::size_t>());
  }
  json header;
  std::size_t header_end;
  std::string data;
};

TEST(WriteSafetensors, WritesTheFormat) {
  const TempDir folder;
  test::HostBackend backend;
  std::vector<float> a = {1.0f, -2.5f, 3.0f, 4.0f, 5.0f, 6.0f};
  std::vector<Bf16> b = {to_bf16(1.0f), to_bf16(-0.5f), to_bf16(8.0f)};
  std::vector<std::int32_t> c = {-7};
  const std::vector<NamedTensor> tensors = {{"z.first", {2, 3}, tensor_of(a)},
                                            {"b", {3}, tensor_of(b)},
                                            {"a \"quoted\"", {1}, tensor_of(c)}};
  const FileDigest digest =
      write_safetensors(folder / "x", backend, tensors, {{"format", "lathe"}, {"heads", "3"}});

  const std::string bytes = test::read_file(folder / "x");
  const PlainFile file(bytes);
  EXPECT_EQ(file.header, test::parse_json(R"({
    "__metadata__": {"format": "lathe", "heads": "3"},
    "z.first": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "BF16", "shape": [3], "data_offsets": [24, 30]},
    "a \"quoted\"": {"dtype": "I32", "shape": [1], "data_offsets": [30, 34]}})"));
  EXPECT_EQ(file.data.size(), 34u);
  EXPECT_EQ(file.header_end % 8, 0u);
  EXPECT_EQ(bytes[8], '{');
  EXPECT_EQ(file.tensor("z.first").substr(0, 8), std::string("\0\0\x80\x3f\0\0\x20\xc0", 8));
  EXPECT_EQ(file.tensor("b"), std::string("\x80\x3f\0\xbf\0\x41", 6));
  EXPECT_EQ(file.tensor("a \"quoted\""), "\xf9\xff\xff\xff");
  EXPECT_EQ(digest, digest_file(InputFile(folder / "x", ExitCode::data)));
}

TEST(WriteSafetensors, EqualTensorsLeaveEqualFiles) {
  const TempDir folder;
  test::HostBackend backend;
  for (const std::string name : {"one", "other"}) {
    std::vector<float> values = peculiar_values();
    fs::create_directory(folder / name);
    write_safetensors(folder / (name + "/x"), backend, {{{"a", {15}, tensor_of(values)}}}, {});
  }
  EXPECT_EQ(test::read_file(folder / "one/x"), test::read_file(folder / "other/x"));
}

TEST(WriteSafetensors, RefusesAShapeThatIsNotItsMemory) {
  const TempDir folder;
  test::HostBackend backend;
  std::vector<float> a(6);
  const auto write = [&](const std::vector<NamedTensor>& tensors) {
    return error_of([&] { write_safetensors(folder / "x", backend, tensors, {}); }).substr(0, 50);
  };
  EXPECT_EQ(write({{"a", {7}, tensor_of(a)}}),
            "exit 1: [safetensors] a (7) is not its memory's 24");
  EXPECT_EQ(write({{"a", {6}, tensor_of(a)}, {"a", {6}, tensor_of(a)}}),
            "exit 1: [safetensors] a (6) comes twice or is too ");
}

template <class T>
class RoundTrip : public testing::Test {};
using Types = testing::Types<float, Bf16, std::int32_t>;
TYPED_TEST_SUITE(RoundTrip, Types);

// Any bits at all, and rows past the shape (padding) that must neither be saved nor touched.
TYPED_TEST(RoundTrip, KeepsEveryBitAndThePadding) {
  const TempDir folder;
  test::HostBackend backend;
  constexpr std::int64_t kRows = 5, kPaddedRows = 8, kColumns = 7;
  std::vector<TypeParam> saved(kPaddedRows * kColumns), loaded(kPaddedRows * kColumns);
  std::mt19937 random(1);
  for (std::byte& byte : std::as_writable_bytes(std::span(saved)))
    byte = static_cast<std::byte>(random());
  for (std::byte& byte : std::as_writable_bytes(std::span(loaded))) byte = std::byte{0x5a};
  const auto named = [&](std::vector<TypeParam>& values) {
    return NamedTensor{"table", {kRows, kColumns}, tensor_of(values).prefix({kRows, kColumns})};
  };
  write_safetensors(folder / "x", backend, {{named(saved)}}, {});
  const SafetensorsReader reader(folder / "x", ExitCode::data);
  load_tensor(reader, backend, named(loaded));
  constexpr std::size_t kBytes = kRows * kColumns * sizeof(TypeParam);
  EXPECT_TRUE(test::same_bits(bytes_of(loaded).first(kBytes), bytes_of(saved).first(kBytes)));
  for (const std::byte byte : bytes_of(loaded).subspan(kBytes)) EXPECT_EQ(byte, std::byte{0x5a});
  EXPECT_EQ(reader.find("table")->end, kBytes);
}

TEST(LoadTensor, RoundsFp32ToBf16AndWidensBf16Exactly) {
  const TempDir folder;
  test::HostBackend backend;
  std::vector<float> wide = peculiar_values();
  std::vector<Bf16> narrow(wide.size()), expected_narrow;
  std::vector<float> widened(wide.size()), expected_wide;
  for (const float x : wide) {
    expected_narrow.push_back(to_bf16(x));
    expected_wide.push_back(to_float(to_bf16(x)));
  }
  const std::vector<std::int64_t> shape = {std::ssize(wide)};
  write_safetensors(folder / "fp32", backend, {{{"a", shape, tensor_of(wide)}}}, {});
  load_tensor(SafetensorsReader(folder / "fp32", ExitCode::data), backend,
              {"a", shape, tensor_of(narrow)});
  EXPECT_TRUE(test::same_bits(bytes_of(narrow), bytes_of(expected_narrow)));
  EXPECT_EQ(narrow[4].bits, 0x3f80);  // 1 + 2^-8 lies between two bfloat16: to the even one
  EXPECT_EQ(narrow[5].bits, 0x3f82);

  write_safetensors(folder / "bf16", backend, {{{"a", shape, tensor_of(narrow)}}}, {});
  load_tensor(SafetensorsReader(folder / "bf16", ExitCode::data), backend,
              {"a", shape, tensor_of(widened)});
  EXPECT_TRUE(test::same_bits(bytes_of(widened), bytes_of(expected_wide)));
}

// Beyond one piece of 16 MiB, in every combination of types.
TEST(LoadTensor, MovesLargeTensorsInPieces) {
  const TempDir folder;
  test::HostBackend backend;
  constexpr std::int64_t kCount = (std::int64_t{1} << 23) + 3;
  const auto value = [](std::size_t i) { return static_cast<float>(i % 251); };  // exact in bf16
  std::vector<float> wide(kCount), wide_again(kCount);
  std::vector<Bf16> narrow(kCount), narrow_again(kCount);
  for (std::size_t i = 0; i < wide.size(); ++i) narrow[i] = to_bf16(wide[i] = value(i));
  write_safetensors(folder / "wide", backend, {{{"a", {kCount}, tensor_of(wide)}}}, {});
  write_safetensors(folder / "narrow", backend, {{{"a", {kCount}, tensor_of(narrow)}}}, {});
  EXPECT_LE(backend.largest_download, std::int64_t{16} << 20);
  for (const std::string source : {"wide", "narrow"}) {
    std::fill(wide_again.begin(), wide_again.end(), -1.0f);
    std::fill(narrow_again.begin(), narrow_again.end(), Bf16{0});
    const SafetensorsReader reader(folder / source, ExitCode::data);
    load_tensor(reader, backend, {"a", {kCount}, tensor_of(wide_again)});
    load_tensor(reader, backend, {"a", {kCount}, tensor_of(narrow_again)});
    EXPECT_TRUE(test::same_bits(bytes_of(wide_again), bytes_of(wide))) << source;
    EXPECT_TRUE(test::same_bits(bytes_of(narrow_again), bytes_of(narrow))) << source;
  }
}

TEST(LoadTensor, NamesWhatDoesNotFit) {
  const TempDir folder;
  test::HostBackend backend;
  std::vector<float> a(6);
  std::vector<std::int32_t> b(6);
  const std::string path = folder / "x";
  write_safetensors(path, backend, {{{"a", {2, 3}, tensor_of(a)}, {"b", {6}, tensor_of(b)}}}, {});
  const SafetensorsReader reader(path, ExitCode::checkpoint);
  const auto load = [&](const NamedTensor& tensor) {
    return error_of([&] { load_tensor(reader, backend, tensor); });
  };
  EXPECT_EQ(load({"c", {2, 3}, tensor_of(a)}), "exit 4: " + path + R"(: has no tensor "c")");
  EXPECT_EQ(load({"a", {3, 2}, tensor_of(a)}),
            "exit 4: " + path + R"(: tensor "a" is (2, 3), the model's is (3, 2))");
  EXPECT_EQ(load({"a", {2, 3}, tensor_of(b)}),
            "exit 4: " + path + R"(: tensor "a" is F32, needed is I32)");
  EXPECT_EQ(load({"b", {6}, tensor_of(a)}),
            "exit 4: " + path + R"(: tensor "b" is I32, needed is F32)");
}

// Opens a damaged file and reads all that it then claims to hold.
std::string open_and_read(const std::string& path) {
  return error_of([&] {
    const SafetensorsReader reader(path, ExitCode::data);
    for (const TensorInfo& tensor : reader.tensors()) {
      std::vector<std::byte> bytes(tensor.end - tensor.begin);
      reader.read(tensor, 0, bytes);
    }
  });
}

TEST(SafetensorsFuzz, EveryTruncationIsRefused) {
  const TempDir folder;
  test::HostBackend backend;
  std::vector<float> a = peculiar_values();
  const std::string path = folder / "x";
  const FileDigest whole = write_safetensors(
      path, backend, {{{"a", {15}, tensor_of(a)}, {"b", {3, 5}, tensor_of(a)}}}, {{"k", "v"}});
  for (std::uint64_t length = whole.bytes; length-- > 0;) {
    fs::resize_file(path, length);
    EXPECT_TRUE(open_and_read(path).starts_with("exit 3: " + path + ": ")) << length;
  }
}

// A flip may give another valid file (a name, a value); it must never give anything but that or
// an error.
TEST(SafetensorsFuzz, DamagedHeadersNeverMisbehave) {
  const TempDir folder;
  const std::string header = R"({"__metadata__":{"k":"v"},"a":)" + entry("F32", "[2,2]", 0, 16) +
                             R"(,"b":)" + entry("BF16", "[4]", 16, 24) + "}";
  const std::string whole = file_of(header, "123456789012345678901234");
  const std::string path = folder / "x";
  int refused = 0, accepted = 0;
  const auto try_bytes = [&](const std::string& bytes) {
    fs::remove(path);  // a new file: ext4 flushes one that is cut and written again
    folder.write("x", bytes);
    const std::string error = open_and_read(path);
    EXPECT_TRUE(error.empty() || error.starts_with("exit 3: " + path + ": ")) << error;
    ++(error.empty() ? accepted : refused);
  };
  for (std::size_t bit = 0; bit < (8 + header.size()) * 8; ++bit) {
    std::string bytes = whole;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ 1 << bit % 8);
    try_bytes(bytes);
  }
  std::mt19937 random(7);
  const std::string alphabet = "{}[]\",:0123456789eE.-\\u \n\t\xff" + std::string(1, '\0');
  for (int round = 0; round < 3000; ++round) {
    std::string changed = header;
    for (std::uint32_t edits = 1 + random() % 4; edits > 0; --edits) {
      const std::size_t at = random() % changed.size();
      const std::size_t from = random() % changed.size();
      switch (random() % 4) {
        case 0:
          changed[at] = alphabet[random() % alphabet.size()];
          break;
        case 1:
          changed.insert(at, 1, alphabet[random() % alphabet.size()]);
          break;
        case 2:
          changed.erase(at, 1 + random() % 6);
          break;
        default:
          changed.insert(at, changed.substr(from, 1 + random() % 40));
          break;
      }
      if (changed.empty()) changed.push_back('{');
    }
    try_bytes(file_of(changed, whole.substr(8 + header.size())));
  }
  EXPECT_GT(refused, 3000);
  EXPECT_GT(accepted, 10);
}

}  // namespace
}  // namespace lathe
