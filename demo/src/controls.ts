/** The buttons of the label, and the reset. */
import { Qcow2Error } from 'qcow2-wasm/opfs';
import { connectDownload } from './download-dialog.js';
import { DisksDialog } from './disks-dialog.js';
import { connectImport } from './import-controls.js';
import { JobStrip } from './job-strip.js';
import { showRefusedReset } from './notice.js';
import { element } from './page.js';
import { connectPassphraseDialogs } from './passphrase-dialogs.js';
import { PassphraseForm } from './passphrase-form.js';
import type { Session } from './session.js';

export function connectControls(session: Session): void {
  const strip = new JobStrip();
  connectDownload(session, strip);
  connectReset(session);
  connectPassphraseDialogs(session);
  connectImport(session, strip);
  const disks = new DisksDialog(
    {
      list: () => session.disks(),
      start: (name, passphrase) => session.startDisk(name, passphrase),
      make: (name, passphrase) => session.makeDisk(name, passphrase),
      duplicate: (name, newName, options) => session.duplicateDisk(name, newName, options),
      rename: (name, newName) => session.renameDisk(name, newName),
      delete: (name) => session.deleteDisk(name),
    },
    strip,
  );
  element('disks', HTMLButtonElement).addEventListener('click', () => void disks.open());
}

function connectReset(session: Session): void {
  const dialog = element('confirm-reset', HTMLDialogElement);
  const fields = element('reset-passphrase', HTMLFieldSetElement);
  const protects = element('reset-protects', HTMLInputElement);
  const showFields = (): void => {
    fields.disabled = !protects.checked;
    fields.hidden = !protects.checked;
  };
  const form = new PassphraseForm(dialog.querySelector('form')!, {
    busyLabel: 'Resetting…',
    run: async ({ next }) => {
      dialog.close();
      // While the question was open another disk may have been started, which was asked for before.
      if (nameOnLabel() !== dialog.dataset['disk']) {
        showRefusedReset(new Qcow2Error('IN_USE', 'another disk has been started meanwhile; nothing was changed'));
        return;
      }
      // What goes wrong shows its own panel.
      void session.reset(next).catch(() => undefined);
    },
  });
  protects.addEventListener('change', () => {
    showFields();
    if (protects.checked) form.focus();
  });
  dialog.querySelector('button.cancel')!.addEventListener('click', () => dialog.close());
  dialog.addEventListener('close', () => {
    form.clear();
    showFields();
  });
  element('reset', HTMLButtonElement).addEventListener('click', () => askToReset());
}

/** Asks whether to throw the disk away. */
export function askToReset(): void {
  const dialog = element('confirm-reset', HTMLDialogElement);
  dialog.dataset['disk'] = nameOnLabel();
  dialog.showModal();
}

function nameOnLabel(): string {
  return element('disk-name', HTMLElement).textContent ?? '';
}
