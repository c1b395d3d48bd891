// The C interface of a simulated device, the same for every engine. DESIGN names the engine's adapter, a header that defines
//
//   struct Model {
//     bool rst, rx_valid, tx_ready; uint8_t rx_payload;      // inputs
//     bool rx_ready, tx_valid, busy; uint8_t tx_payload;     // outputs
//     void cycle();   // outputs of the present cycle, from the inputs; then the clock edge
//   };
#include <cstddef>
#include <cstdint>
#include DESIGN

namespace {
// More cycles than there are between two bytes of a frame.
constexpr uint64_t PAUSE = 64;

struct Device {
  Model model;
  uint64_t cycles = 0;

  void cycle() {
    model.cycle();
    cycles++;
  }
};
}  // namespace

extern "C" {

void *polyspike_create() {
  Device *device = new Device;
  device->model.rst = true;
  device->model.rx_valid = false;
  device->model.tx_ready = false;
  for (int i = 0; i < 4; i++) device->model.cycle();
  device->model.rst = false;
  return device;
}

void polyspike_destroy(void *handle) { delete static_cast<Device *>(handle); }

uint64_t polyspike_cycles(void *handle) { return static_cast<Device *>(handle)->cycles; }

void polyspike_step(void *handle, uint64_t cycles) {
  Device *device = static_cast<Device *>(handle);
  device->model.rx_valid = false;
  device->model.tx_ready = false;
  while (cycles--) device->cycle();
}

// Send up to `size` bytes and receive up to `capacity`; return the number received. Ends when `capacity` was received,
// after `quiet` cycles in which nothing moved and the device was not busy, or after `limit` cycles. `sent` tells how much
// was sent.
size_t polyspike_exchange(void *handle, const uint8_t *data, size_t size, size_t *sent, uint8_t *answer, size_t capacity,
                          uint64_t quiet, uint64_t limit) {
  Device *device = static_cast<Device *>(handle);
  Model &model = device->model;
  size_t out = 0, in = 0;
  uint64_t still = 0;
  while (in < capacity && still < (in ? PAUSE : quiet) && limit--) {
    model.rx_valid = out < size;
    model.rx_payload = out < size ? data[out] : 0;
    model.tx_ready = in < capacity;
    device->cycle();
    still++;
    if (model.rx_valid && model.rx_ready) out++, still = 0;
    if (model.tx_valid && model.tx_ready) answer[in++] = model.tx_payload, still = 0;
    if (model.busy && !in) still = 0;
  }
  model.rx_valid = false;
  model.tx_ready = false;
  *sent = out;
  return in;
}
}
