/** The snapshots of an image whose engine runs in the emulator's own thread, for `localDisk` of `qcow2-wasm/v86`. */
import type { Qcow2Image } from '../image/qcow2-image.js';
import { SnapshotService } from '../operations/snapshots/snapshot-service.js';
import { settle } from '../storage/not-resident.js';
import type { RemoteSnapshots } from './remote-disk.js';

export function localSnapshots(image: Qcow2Image): RemoteSnapshots {
  const service = new SnapshotService(image);
  return {
    list: () => settle(() => service.list()),
    create: (snapshot) => settle(() => service.create(snapshot)),
    goto: (id) => settle(() => service.goto(id)),
    delete: async (id) => {
      const steps = await settle(() => service.delete(id));
      while ((await settle(() => steps.next())).done !== true);
    },
    readVmState: async (id, offset, length) => {
      const target = new Uint8Array(length);
      await settle(() => service.readVmState(id, offset, target));
      return target;
    },
    writeVmState: (offset, source, options) => settle(() => service.writeVmState(offset, source, options)),
    discardVmState: () => settle(() => service.discardVmState()),
  };
}
