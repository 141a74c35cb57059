#include "expedited-rcu.h"

#include <fcntl.h>
#include <unistd.h>

ExpeditedRcu::ExpeditedRcu(FreezeMarker& marker)
    : marker_(marker), switch_(open("/sys/kernel/rcu_expedited", O_RDWR | O_CLOEXEC)) {
  char value;
  if (!switch_ || pread(switch_.get(), &value, 1, 0) != 1 || value != '0') return;
  marker_.Note('e');
  is_set_ = pwrite(switch_.get(), "1", 1, 0) == 1;
}

ExpeditedRcu::~ExpeditedRcu() {
  if (is_set_ && pwrite(switch_.get(), "0", 1, 0) == 1) marker_.Note('-');
}
