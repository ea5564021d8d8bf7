// notify_ready: tells whoever started this program that it can be used (systemd's Type=notify; tests).
#pragma once

namespace cairn {

// sd_notify(3)'s READY=1 to $NOTIFY_SOCKET; does nothing if that is not set. Any thread. Call it when signals are
// already caught: whoever hears it may send one at once.
void notify_ready();

}  // namespace cairn
