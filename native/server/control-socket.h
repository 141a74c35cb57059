#pragma once

#include <string>

#include "system.h"

/**
 * Listens for control connections (SOCK_SEQPACKET, mode 0600) at a path of any length, in place of what a killed
 * predecessor left there. Not blocking.
 */
Fd ListenForControl(const std::string& path);
