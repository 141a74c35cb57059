import { ContainerCgroups } from './cgroups';
import { Driver } from './driver';
import { type Limits, makeOciUpdate } from './oci-config';
import type { RunDirectory } from './run-directory';

/** Sets the limits of a running container, at once; what is missing is lifted. */
export async function updateLimits(directory: RunDirectory, runtime: string, limits: Limits): Promise<void> {
  const cgroups = new ContainerCgroups(directory.cgroupParent);
  const driver = new Driver(directory.readRecord()?.runtime ?? runtime, directory);
  await driver.update(makeOciUpdate(limits, { canLimitSwap: cgroups.canLimitSwap() }));
}
