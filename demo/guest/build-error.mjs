/**
 * A failure of the guest build that its reader can do something about: the message is the whole story and is printed
 * without a stack. Anything else that is thrown is a mistake of ours and keeps its stack.
 */
export class GuestBuildError extends Error {
  /** @param {string} message @param {ErrorOptions} [options] */
  constructor(message, options) {
    super(message, options);
    this.name = 'GuestBuildError';
  }
}

/** What to do on a machine where the guest can't be built. */
export const GIVE_YOUR_OWN_IMAGE = `The demo runs with any guest. Give it one of your own:
  demo/guest/linux.qcow2                 a bootable i386 disk image (MBR, IDE disk); it should print
                                         "GUEST-READY" on its first serial port when it is up
  demo/guest/bios/bios.bin               SeaBIOS          (a QEMU installation has both files,
  demo/guest/bios/vgabios-stdvga.bin     its VGA BIOS      often in /usr/share/qemu or /usr/share/seabios)
or build the guest on Debian 12 (amd64), for example in a container, and copy these three files.`;
