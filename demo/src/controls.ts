/** Buttons, file picker, drag and drop. */
import { isQcow2Error } from 'qcow2-wasm/opfs';
import type { PassphraseAsker } from './image-passphrase.js';
import { messageOf, showNotice, showRefusedImage } from './notice.js';
import { currentState, element } from './page.js';
import { connectPassphraseDialogs, imagePassphraseAsker } from './passphrase-dialogs.js';
import { PassphraseForm } from './passphrase-form.js';
import type { Session } from './session.js';

export function connectControls(session: Session): void {
  connectDownload(session);
  connectReset(session);
  connectPassphraseDialogs(session);
  const ask = imagePassphraseAsker();
  const file = element('file', HTMLInputElement);
  element('open', HTMLButtonElement).addEventListener('click', () => file.click());
  file.addEventListener('change', () => {
    const [image] = file.files ?? [];
    // The same file can be chosen again.
    file.value = '';
    if (image) void openImage(session, image, ask);
  });
  connectDrop((image) => void openImage(session, image, ask));
}

async function openImage(session: Session, image: File, ask: PassphraseAsker): Promise<void> {
  try {
    await session.openImage(image, ask);
  } catch (error) {
    // A boot that failed has its own panel, and who gave up knows it.
    if (currentState() === 'error' || isQcow2Error(error, 'ABORTED')) return;
    showRefusedImage(error);
  }
}

function connectDownload(session: Session): void {
  const button = element('download', HTMLButtonElement);
  button.addEventListener('click', async () => {
    const label = button.textContent;
    button.disabled = true;
    try {
      await session.flush();
      const blob = await session.exportDisk((fraction) => {
        button.textContent = `Packing: ${Math.round(100 * fraction)} %`;
      });
      saveAs(blob, 'disk.qcow2');
    } catch (error) {
      showNotice({
        title: 'The disk could not be downloaded',
        what: messageOf(error),
        advice: 'The disk itself is unchanged. A download needs room for a second copy: free some space and try again.',
      });
    } finally {
      button.disabled = false;
      button.textContent = label;
    }
  });
}

function saveAs(blob: Blob, name: string): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // The browser has opened the file by then.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
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
  dialog.showModal();
}

function connectDrop(onImage: (image: File) => void): void {
  const veil = element('drop', HTMLElement);
  let depth = 0;
  const hasFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes('Files') ?? false;
  const show = (change: number): void => {
    depth = Math.max(0, depth + change);
    veil.classList.toggle('over', depth > 0);
  };
  window.addEventListener('dragenter', (event) => hasFiles(event) && show(1));
  window.addEventListener('dragleave', (event) => hasFiles(event) && show(-1));
  window.addEventListener('dragover', (event) => event.preventDefault());
  window.addEventListener('drop', (event) => {
    event.preventDefault();
    show(-depth);
    const [image] = event.dataTransfer?.files ?? [];
    if (image) onImage(image);
  });
}
