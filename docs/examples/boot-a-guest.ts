/**
 * Boots a guest from a base image on the site's own server, which is read by ranges as the guest needs it. What the guest writes is in
 * `mine.qcow2` in the visitor's browser, and there again after a reload.
 */
import { openDisk } from 'qcow2-wasm/opfs';
import { attach, remoteDisk } from 'qcow2-wasm/v86';
import { V86 } from 'v86';

const base = { name: 'base', url: '/base.qcow2' };
const create = { backing: { name: base.name, format: 'qcow2' } } as const;
const disk = remoteDisk(await openDisk({ name: 'mine.qcow2', create, backing: [base] }));
const bios = { bios: { url: '/bios/bios.bin' }, vga_bios: { url: '/bios/vgabios-stdvga.bin' } };
const emulator = new V86({ ...bios, wasm_path: '/v86.wasm', memory_size: 128 * 2 ** 20, hda: disk, autostart: false });
await attach(emulator, disk);
let text = '';
emulator.add_listener('serial0-output-byte', (byte: number) => {
  text += String.fromCharCode(byte);
  if (byte === 10) document.body.innerText = text;
});
await emulator.run();
