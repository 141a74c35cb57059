#pragma once

#include "oci-arguments.h"

/**
 * Forks the guardian of a start: a process that waits on the starter's pipe. A byte means that the container was
 * started, and ends it. The pipe's end means that the starter died or gave up: the guardian then kills the calling
 * process (which goes on as the OCI runtime's create) and what is in the container's cgroup, and has the runtime delete
 * the container.
 *
 * To be called before the mount is opened: the guardian must never hold it.
 */
void StartGuardian(const OciArguments& arguments);
