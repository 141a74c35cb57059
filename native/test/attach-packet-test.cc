#include "attach-packet.h"

#include <string>

#include "assert.h"

using namespace std::string_literals;

int main() {
  // The first byte is the stream; all others, zeroes included, are content.
  const std::string output = "\2a\0b\n"s;
  const auto packet = ParsePacket(output);
  EXPECT(packet && packet->stream == Stream::kOutput && packet->content == "a\0b\n"s);
  const std::string error = "\3oops"s;
  EXPECT(ParsePacket(error)->stream == Stream::kError);
  EXPECT(ParsePacket("\2")->content.empty());

  EXPECT(!ParsePacket(""));
  EXPECT(!ParsePacket("\1x"));
  EXPECT(!ParsePacket("\377x"));

  EXPECT(ResizeLine({.ws_row = 24, .ws_col = 80, .ws_xpixel = 0, .ws_ypixel = 0}) == "1 24 80\n");
  EXPECT(ResizeLine({.ws_row = 2000, .ws_col = 1001, .ws_xpixel = 0, .ws_ypixel = 0}) == "1 1000 1000\n");
}
