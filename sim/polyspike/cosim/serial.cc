// The C interface of a simulated board: a device behind two wires, and a host's serial port at their other end. DESIGN names the
// engine's adapter as in harness.cc, here with the ports of polyspike.gateware.serial_core.SerialCore: rx, tx, idle, running, error.
//
// The host's port sends and receives bits of any length in clock cycles, whole or not, so the two ends need not agree.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include DESIGN

namespace {
constexpr int FRAME_BITS = 10;

struct Board {
  Model model;
  uint64_t cycles = 0;
  uint64_t last_event = 0;  // the last cycle in which a wire or a program was active

  // What the host sends: a whole frame, stop bit first in the highest place.
  bool sending = false;
  unsigned frame = 0;
  double send_start = 0, send_bit = 1, send_end = 0;

  // What the host receives.
  bool receiving = false, before = true;
  unsigned taken = 0, shift = 0;
  double receive_start = 0, receive_bit = 1;

  // How the wires were used.
  uint64_t first_start = 0, last_end = 0;
  double sent = 0, received = 0;
  uint64_t bytes = 0;

  void cycle() {
    model.cycle();
    cycles++;
  }

  // Start a byte as soon as the wire is free; return whether it did.
  bool send(uint8_t byte, double bit) {
    if (sending && cycles < send_end) return false;
    // Back to back, a frame starts where the last one ended, between two clock edges.
    send_start = sending && cycles < send_end + 1 ? send_end : (double)cycles;
    sending = true;
    frame = 1u << (FRAME_BITS - 1) | byte << 1;
    send_bit = bit;
    send_end = send_start + FRAME_BITS * bit;
    if (bytes++ == 0) first_start = (uint64_t)send_start;
    sent += FRAME_BITS * bit;
    last_end = (uint64_t)std::ceil(send_end);
    return true;
  }

  bool sent_level() {
    if (!sending || cycles < send_start) return true;
    if (cycles >= send_end) {
      sending = cycles < send_end + 1;
      return true;
    }
    return frame >> (unsigned)((cycles - send_start) / send_bit) & 1;
  }

  // Watch the wire to the host; return whether a byte is complete. A missing stop bit is no matter to a host's port.
  bool receive(bool level, double bit, uint8_t *byte) {
    bool complete = false;
    if (!receiving) {
      if (before && !level) receiving = true, taken = 0, shift = 0, receive_start = cycles, receive_bit = bit;
    } else if (cycles >= receive_start + (taken + 0.5) * receive_bit) {
      if (taken == 0 && level) receiving = false;
      shift |= (unsigned)level << taken++;
      if (taken == FRAME_BITS) receiving = false, complete = true, *byte = shift >> 1, received += FRAME_BITS * bit;
    }
    before = level;
    return complete;
  }
};
}  // namespace

extern "C" {

void *polyspike_create() {
  Board *board = new Board;
  board->model.rst = true;
  board->model.rx = true;
  for (int i = 0; i < 4; i++) board->model.cycle();
  board->model.rst = false;
  return board;
}

void polyspike_destroy(void *handle) { delete static_cast<Board *>(handle); }

uint64_t polyspike_cycles(void *handle) { return static_cast<Board *>(handle)->cycles; }

// Cycles since anything happened: a wire was low, a frame was on its way, or a program was running.
uint64_t polyspike_quiet(void *handle) {
  Board *board = static_cast<Board *>(handle);
  return board->cycles - board->last_event;
}

// What the lights show: bit 0 idle, bit 1 running, bit 2 error.
unsigned polyspike_lights(void *handle) {
  Model &model = static_cast<Board *>(handle)->model;
  return model.idle | model.running << 1 | model.error << 2;
}

// How the wires were used so far: cycles in which that to the board and that from it carried a byte, start bit to stop bit, and cycles
// between the beginning of the first byte to the board and the end of the last one.
void polyspike_usage(void *handle, double *sent, double *received, uint64_t *span) {
  Board *board = static_cast<Board *>(handle);
  *sent = board->sent;
  *received = board->received;
  *span = board->bytes ? board->last_end - board->first_start : 0;
}

// Begin a new measurement of `polyspike_usage`.
void polyspike_usage_clear(void *handle) {
  Board *board = static_cast<Board *>(handle);
  board->sent = board->received = 0;
  board->bytes = 0;
}

// Simulate at most `limit` cycles, the host's port having `bit` cycles a bit. Sends of `size` bytes what the wire takes and
// receives at most `capacity`; returns the number received. Ends early when `enough` were received, or when `capacity` were.
// `sent` tells how many bytes were begun.
size_t polyspike_exchange(void *handle, const uint8_t *data, size_t size, size_t *sent, uint8_t *answer, size_t capacity,
                          size_t enough, double bit, uint64_t limit) {
  Board *board = static_cast<Board *>(handle);
  Model &model = board->model;
  size_t out = 0, in = 0;
  while (in < capacity && in < enough && limit--) {
    if (out < size && board->send(data[out], bit)) out++;
    model.rx = board->sent_level();
    board->cycle();
    if (board->receive(model.tx, bit, &answer[in])) in++;
    if (board->sending || !model.tx || board->receiving || model.running) board->last_event = board->cycles;
  }
  *sent = out;
  return in;
}
}
