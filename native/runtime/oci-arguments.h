#pragma once

#include <string>
#include <vector>

/** What loopbox-oci was asked: its own options (but `runtime`, only for a create), then `--` and the OCI runtime's
 * arguments. */
struct OciArguments {
  /** The detached mount of the container's file system, as a path below /proc. */
  std::string mount;
  /** The directory that the mount goes onto. */
  std::string rootfs;
  /** The starter's pipe, as a path below /proc. */
  std::string guardian;
  /** cgroup.procs of the container's own cgroup. */
  std::string processes;
  /** The OCI runtime's program. */
  std::string runtime;
  /** Where the OCI runtime keeps its state. */
  std::string root;
  std::string id;
  std::vector<std::string> runtime_arguments;

  /** Whether the runtime is asked to create a container; any other verb needs no mount and no guardian. */
  bool IsCreate() const;

  /** The file that the runtime writes last in a create that succeeds; empty where it was not asked to. */
  std::string PidFile() const;
};

/** Throws std::invalid_argument that names what is missing or unknown. */
OciArguments ParseOciArguments(const std::vector<std::string>& arguments);
