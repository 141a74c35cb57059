// All that tests in test/root and test/e2e take what they use from; each cleans up behind itself.
export { alice, busyboxTar } from './busybox-tar';
export { probe } from './capability';
export { SeededRandom, seededRandom, soakCount } from './counts';
export { type ExecuteResult, execute, plainEnvironment, shell } from './execute';
export { lockIsFree, smallFileSystem, xfsDirectory } from './file-systems';
export { expectNothingLeft, leftSince, snapshotOfLeftovers } from './host-state';
export { loopbox, program, TestStore } from './store';
export { cleanUp, keepsTemporaryFiles, temporaryDirectory } from './temporary';
