// Safetensors: what the format's specification allows is read, everything else is refused with its reason.
#include <limits>

#include "checkpoint/describe.h"
#include "fixtures.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;
using Catch::Matchers::Contains;

namespace {
std::string refusal(const std::string& bytes) {
  return error_of([&] {
    parse_safetensors_header({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()}, bytes.size(), "here.st");
  });
}

SafetensorsHeader parse(const std::string& bytes) {
  return parse_safetensors_header({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()}, bytes.size(), "x");
}

// One F32 tensor of two elements with the given offsets, and `data_bytes` bytes of data.
std::string one_tensor(const std::string& shape, const std::string& offsets, size_t data_bytes,
                       const std::string& dtype = "F32") {
  return raw_file("{\"a\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}}",
                  std::string(data_bytes, 'x'));
}
}  // namespace

TEST_CASE("A file by hand is read: order, metadata, scalars, empty tensors, spaces after the header") {
  const std::string header =
      R"( {"b":{"shape":[],"dtype":"I64","data_offsets":[8,16]},"__metadata__":{"format":"pt","k":"\u00fc"},)"
      R"("z":{"data_offsets":[8,8],"dtype":"F32","shape":[0,3]},"a":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]}}   )";
  const SafetensorsHeader parsed = parse(raw_file(header.substr(1), std::string(16, 'x')));
  REQUIRE(parsed.tensors.size() == 3);
  CHECK(parsed.tensors[0].name == "a");
  CHECK(parsed.tensors[0].type == DType::bf16);
  CHECK(parsed.tensors[0].shape == std::vector<int64_t>{2, 2});
  CHECK(parsed.tensors[1].name == "z");
  CHECK(parsed.tensors[1].bytes() == 0);
  CHECK(parsed.tensors[2].shape.empty());
  CHECK(parsed.tensors[2].begin == 8);
  CHECK(parsed.metadata == std::map<std::string, std::string>{{"format", "pt"}, {"k", "\xc3\xbc"}});
  CHECK(parsed.data_start == 8 + header.size() - 1);
  CHECK(parse(raw_file("{}", "")).tensors.empty());
}

TEST_CASE("Types that this program does not compute with are listed, known by size or not") {
  const SafetensorsHeader parsed = parse(raw_file(
      R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},)"
      R"("b":{"dtype":"F4","shape":[6],"data_offsets":[4,7]},"c":{"dtype":"Q9","shape":[5],"data_offsets":[7,9]}})",
      std::string(9, 'x')));
  REQUIRE(parsed.tensors.size() == 3);
  for (const TensorEntry& entry : parsed.tensors) CHECK_FALSE(entry.type.has_value());
  CHECK(parsed.tensors[2].dtype == "Q9");
  CHECK_THAT(refusal(one_tensor("[5]", "[0,3]", 3, "F4")), Contains("no whole number of bytes"));
  CHECK_THAT(refusal(one_tensor("[5]", "[0,5]", 5, "F16")), Contains("10 bytes by its shape"));
}

TEST_CASE("Lengths that lie are refused before anything is allocated") {
  CHECK_THAT(refusal(""), Contains("here.st") && Contains("too few"));
  CHECK_THAT(refusal("1234567"), Contains("too few"));
  CHECK_THAT(refusal("version https://git-lfs.github.com/spec/v1\noid sha256:9e556afd\nsize 499723\n"),
             Contains("here.st") && Contains("pointer of Git LFS") && Contains("git lfs pull"));
  std::string lying = one_tensor("[2]", "[0,8]", 8);
  lying[7] = 0x10;  // a header of 2^60 bytes and some
  CHECK_THAT(refusal(lying), Contains("limit"));
  std::string just_over(8, '\0');
  const uint64_t over = max_safetensors_header + 1;
  for (size_t i = 0; i < 8; ++i) just_over[i] = static_cast<char>(over >> (8 * i));
  CHECK_THAT(refusal(just_over), Contains("limit"));
  CHECK_THAT(refusal(one_tensor("[2]", "[0,8]", 8).substr(0, 20)), Contains("truncated"));
}

TEST_CASE("Every prefix of a file is refused") {
  const std::string whole = one_tensor("[2]", "[0,8]", 8);
  REQUIRE(refusal(whole).empty());
  for (size_t length = 0; length < whole.size(); ++length) {
    INFO("length " << length);
    CHECK_FALSE(refusal(whole.substr(0, length)).empty());
  }
}

TEST_CASE("Data must be covered exactly") {
  const auto two = [](const std::string& first, const std::string& second, size_t bytes) {
    return refusal(raw_file(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + first +
                                R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + second + "}}",
                            std::string(bytes, 'x')));
  };
  CHECK(two("[0,4]", "[4,8]", 8).empty());
  CHECK(two("[4,8]", "[0,4]", 8).empty());
  CHECK_THAT(two("[0,4]", "[2,6]", 6), Contains("overlap"));
  CHECK_THAT(two("[0,4]", "[0,4]", 4), Contains("overlap"));
  CHECK_THAT(two("[0,4]", "[5,9]", 9), Contains("hole"));
  CHECK_THAT(two("[1,5]", "[5,9]", 9), Contains("hole"));
  CHECK_THAT(two("[0,4]", "[4,8]", 9), Contains("1 bytes follow"));
  CHECK_THAT(two("[0,4]", "[4,8]", 7), Contains("truncated"));
  CHECK_THAT(two("[0,4]", "[8,4]", 8), Contains("before it begins"));
  CHECK_THAT(refusal(raw_file("{}", "x")), Contains("1 bytes follow"));
}

TEST_CASE("Sizes must agree, and may not overflow") {
  CHECK_THAT(refusal(one_tensor("[3]", "[0,8]", 8)), Contains("12 bytes by its shape and 8"));
  CHECK_THAT(refusal(one_tensor("[4294967296,4294967296]", "[0,0]", 0)), Contains("below 2^64"));
  CHECK_THAT(refusal(one_tensor("[4611686018427387904]", "[0,0]", 0)), Contains("below 2^64"));  // 2^62 * 32 bits
  CHECK_THAT(refusal(one_tensor("[9223372036854775808]", "[0,0]", 0)), Contains("too large"));
  CHECK_THAT(refusal(one_tensor("[18446744073709551616]", "[0,0]", 0)), Contains("where a size"));  // a float to JSON
  CHECK_THAT(refusal(one_tensor("[2]", "[18446744073709551607,18446744073709551615]", 8)), Contains("hole"));
}

TEST_CASE("Numbers are whole and not negative") {
  CHECK_THAT(refusal(one_tensor("[2]", "[-8,0]", 8)), Contains("negative"));
  CHECK_THAT(refusal(one_tensor("[-2]", "[0,8]", 8)), Contains("negative"));
  CHECK_THAT(refusal(one_tensor("[2]", "[0,8.0]", 8)), Contains("8.0"));
  CHECK_THAT(refusal(one_tensor("[2e0]", "[0,8]", 8)), Contains("where a size"));
  CHECK_THAT(refusal(one_tensor("[2]", "[0,true]", 8)), Contains("true or false"));
  CHECK_THAT(refusal(one_tensor("[2]", "[\"0\",8]", 8)), Contains("a string"));
  CHECK_THAT(refusal(one_tensor("[2]", "[0,8,8]", 8)), Contains("more than two"));
  CHECK_THAT(refusal(one_tensor("[2]", "[0]", 8)), Contains("two numbers"));
  CHECK_THAT(refusal(one_tensor("[[2]]", "[0,8]", 8)), Contains("an array"));
  CHECK_THAT(refusal(one_tensor("null", "[0,8]", 8)), Contains("null"));
}

TEST_CASE("No key appears twice, and none is unknown") {
  const std::string a = R"("a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  CHECK(refusal(raw_file("{" + a + "}", "")).empty());
  CHECK_THAT(refusal(raw_file("{" + a + "," + a + "}", "")), Contains("twice"));
  CHECK_THAT(refusal(raw_file("{" + a + R"(,"\u0061":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})", "")),
             Contains("twice"));
  CHECK_THAT(refusal(raw_file(R"({"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}})", "")),
             Contains("twice"));
  CHECK_THAT(refusal(raw_file(R"({"__metadata__":{"k":"1","k":"2"}})", "")), Contains("twice"));
  CHECK_THAT(refusal(raw_file(R"({"__metadata__":{},"__metadata__":{}})", "")), Contains("twice"));
  CHECK_THAT(refusal(raw_file(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":1}})", "")),
             Contains("unknown key"));
  CHECK_THAT(refusal(raw_file(R"({"a":{"dtype":"U8","shape":[0]}})", "")), Contains("needs dtype"));
  CHECK_THAT(refusal(raw_file(R"({"__metadata__":{"k":1}})", "")), Contains("where a string"));
  CHECK_THAT(refusal(raw_file(R"({"__metadata__":"k"})", "")), Contains("where an object of strings"));
  CHECK_THAT(refusal(raw_file(R"({"a":[]})", "")), Contains("an array"));
}

TEST_CASE("The header is UTF-8 JSON from `{` to `}`, and spaces") {
  CHECK_THAT(refusal(raw_file(" {}", "")), Contains("does not begin with '{'"));
  CHECK_THAT(refusal(raw_file("[]", "")), Contains("does not begin with '{'"));
  CHECK_THAT(refusal(raw_file("", "")), Contains("does not begin with '{'"));
  CHECK_THAT(refusal(raw_file("\xef\xbb\xbf{}", "")), Contains("does not begin with '{'"));
  CHECK_THAT(refusal(raw_file("{}\n", "")), Contains("does not end"));
  CHECK_THAT(refusal(raw_file("{}{}", "")), Contains("not valid JSON"));
  CHECK_THAT(refusal(raw_file("{\"a", "")), Contains("does not end"));
  CHECK_THAT(refusal(raw_file("{\"a}", "")), Contains("not valid JSON"));
  CHECK_THAT(refusal(raw_file("{\"\xff\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", "")),
             Contains("not valid JSON"));
  CHECK_THAT(refusal(raw_file("{\"\xc0\xaf\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", "")),
             Contains("not valid JSON"));
  CHECK_THAT(refusal(raw_file(R"({"\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})", "")),
             Contains("not valid JSON"));
  // A JSON parser that takes a zero byte for the end would accept what follows here.
  CHECK_THAT(refusal(raw_file(std::string("{}\0{\"a\":1}", 10), "")), Contains("zero byte"));
  CHECK_FALSE(refusal(raw_file("{\"a\":" + std::string(100'000, '[') + "}", "")).empty());
}

TEST_CASE("Written bytes are those of the format, in the order of the reference writer") {
  const TemporaryDirectory directory;
  const std::vector<NamedTensor> tensors{tensor_of<bf16>("b", {2}, {bf16(1.0f), bf16(-2.0f)}),
                                         tensor_of<float>("w", {1, 2}, {1.0f, -2.0f}),
                                         tensor_of<float>("a", {}, {0.5f})};
  const FileDigest digest = write_safetensors(directory / "m.safetensors", tensors);
  std::string header =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
      R"("w":{"dtype":"F32","shape":[1,2],"data_offsets":[4,12]},"b":{"dtype":"BF16","shape":[2],"data_offsets":[12,16]}})";
  while (header.size() % 8 != 0) header += ' ';
  const std::string data("\x00\x00\x00\x3f\x00\x00\x80\x3f\x00\x00\x00\xc0\x80\x3f\x00\xc0", 16);
  CHECK(get(directory / "m.safetensors") == raw_file(header, data));
  CHECK(digest == digest_of_file(directory / "m.safetensors"));
  CHECK(digest.bytes == 8 + header.size() + 16);
  CHECK_FALSE(std::filesystem::exists(directory / "m.safetensors.tmp"));
}

TEST_CASE("What is written is read back: all types, not-a-numbers, large tensors in pieces, odd names") {
  const TemporaryDirectory directory;
  std::vector<float> large(3'000'001);  // several pieces, the last one partial
  for (size_t i = 0; i < large.size(); ++i) large[i] = static_cast<float>(i) * 0.25f;
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  const std::vector<NamedTensor> tensors{tensor_of<double>("f64", {1}, {1e300}),
                                         tensor_of<int32_t>("i32", {2}, {-1, 7}),
                                         tensor_of<int64_t>("i64", {1, 1}, {INT64_MIN}),
                                         tensor_of<uint16_t>("u16", {1}, {65535}),
                                         tensor_of<uint8_t>("u8", {3}, {1, 2, 255}),
                                         tensor_of<float>("nan \"\\\n\xc3\xbc", {3}, {nan, infinity, -0.0f}),
                                         tensor_of<float>("large", {3'000'001}, large),
                                         tensor_of<float>("none", {4, 0}, {})};
  const std::string path = directory / "m.safetensors";
  write_safetensors(path, tensors, {{"note", "line\n"}});
  const SafetensorsFile file(path);
  CHECK(file.metadata() == std::map<std::string, std::string>{{"note", "line\n"}});
  REQUIRE(file.tensors().size() == tensors.size());
  for (const NamedTensor& tensor : tensors) {
    const TensorEntry* entry = file.find(tensor.name);
    REQUIRE(entry != nullptr);
    CHECK(entry->type == tensor.dtype);
    CHECK(entry->shape == tensor.shape);
    std::vector<std::byte> expected(entry->bytes());
    if (!expected.empty()) tensor.read(expected.data(), 0, expected.size());
    const auto found = file.bytes(*entry);
    CHECK(std::equal(found.begin(), found.end(), expected.begin(), expected.end()));
  }
  CHECK(file.find("absent") == nullptr);
  CHECK_THAT(describe_safetensors(path), Contains("large") && Contains("[3000001]") && Contains("12.0 MB"));
}

TEST_CASE("Tensors around the size of a piece arrive whole") {
  UnsyncedLayer layer;
  const InterposedFileLayer unsynced(layer);
  const TemporaryDirectory directory;
  constexpr size_t piece = safetensors_piece_bytes;
  std::vector<NamedTensor> tensors;
  std::map<std::string, std::vector<uint16_t>> expected;
  for (const size_t bytes : {piece - 2, piece, piece + 2, piece * 5 / 2}) {
    std::vector<uint16_t> values(bytes / 2);
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint16_t>(i * 40503 >> 4);
    const std::string name = "of " + std::to_string(bytes);
    expected[name] = values;
    const auto elements = static_cast<int64_t>(values.size());
    tensors.push_back(tensor_of(name, {elements}, std::move(values)));
  }
  const std::string path = directory / "file.safetensors";
  const FileDigest written = write_safetensors(path, tensors);
  CHECK(written == digest_of_file(path));
  const SafetensorsFile file(path);
  for (const auto& [name, values] : expected) {
    INFO(name);
    const TensorEntry* entry = file.find(name);
    REQUIRE(entry != nullptr);
    const auto bytes = file.bytes(*entry);
    REQUIRE(bytes.size() == values.size() * 2);
    CHECK(std::memcmp(bytes.data(), values.data(), bytes.size()) == 0);
  }
}

TEST_CASE("The writer refuses names that no reader would accept, and leaves nothing behind") {
  const TemporaryDirectory directory;
  const std::string path = directory / "m.safetensors";
  const auto refused = [&](std::vector<NamedTensor> tensors) {
    return error_of([&] { write_safetensors(path, tensors); });
  };
  const auto named = [](const char* name) { return tensor_of<float>(name, {1}, {1.0f}); };
  CHECK_THAT(refused({named("a"), named("a")}), Contains("two tensors"));
  CHECK_THAT(refused({named("__metadata__")}), Contains("__metadata__"));
  CHECK_THAT(refused({named("\xff")}), Contains("UTF-8"));
  NamedTensor huge = named("huge");
  huge.shape = {int64_t{1} << 62, 8};
  CHECK_THAT(refused({huge}), Contains("too large"));
  NamedTensor failing = named("failing");
  failing.read = [](void*, size_t, size_t) { fail("the device is gone"); };
  CHECK_THAT(refused({failing}), Contains("the device is gone"));
  CHECK(std::filesystem::is_empty(directory.path()));
}
