#include "expedited-rcu.h"

#include <fcntl.h>
#include <unistd.h>

namespace {

constexpr char kSet = 'e';
constexpr char kNothing = '-';

Fd OpenSwitch() {
  return Fd(open("/sys/kernel/rcu_expedited", O_RDWR | O_CLOEXEC));
}

void SetBack(const Fd& rcu_switch, FreezeMarker& marker) {
  if (pwrite(rcu_switch.get(), "0", 1, 0) == 1) marker.Note(kNothing);
}

}  // namespace

ExpeditedRcu::ExpeditedRcu(FreezeMarker& marker) : marker_(marker), switch_(OpenSwitch()) {
  char value;
  if (!switch_ || pread(switch_.get(), &value, 1, 0) != 1 || value != '0') return;
  marker_.Note(kSet);
  is_set_ = pwrite(switch_.get(), "1", 1, 0) == 1;
}

ExpeditedRcu::~ExpeditedRcu() {
  if (is_set_) SetBack(switch_, marker_);
}

void ExpeditedRcu::SetBackLeftover(FreezeMarker& marker) {
  if (marker.Notes(kSet)) SetBack(OpenSwitch(), marker);
}
