/** Buttons, file picker, drag and drop. */
import { messageOf, showNotice, showRefusedImage } from './notice.js';
import { currentState, element } from './page.js';
import type { Session } from './session.js';

export function connectControls(session: Session): void {
  connectDownload(session);
  connectReset(session);
  const file = element('file', HTMLInputElement);
  element('open', HTMLButtonElement).addEventListener('click', () => file.click());
  file.addEventListener('change', () => {
    const [image] = file.files ?? [];
    // The same file can be chosen again.
    file.value = '';
    if (image) void openImage(session, image);
  });
  connectDrop((image) => void openImage(session, image));
}

async function openImage(session: Session, image: File): Promise<void> {
  try {
    await session.openImage(image);
  } catch (error) {
    // A boot that failed has its own panel.
    if (currentState() === 'error') return;
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
  element('reset', HTMLButtonElement).addEventListener('click', () => {
    dialog.returnValue = '';
    dialog.showModal();
  });
  dialog.addEventListener('close', () => {
    // What goes wrong shows its own panel.
    if (dialog.returnValue === 'reset') session.reset().catch(() => undefined);
  });
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
