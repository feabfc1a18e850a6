/** Images from elsewhere: by the file picker, or dropped onto the page. Each becomes a disk of its own, named after its file. */
import { isQcow2Error } from 'qcow2-wasm/opfs';
import { freeName, isSameName, nameFromFile, nameProblem, tidyName } from './disk-names.js';
import type { JobStrip } from './job-strip.js';
import { showRefusedImage } from './notice.js';
import { currentState, element, setText } from './page.js';
import { imagePassphraseAsker } from './passphrase-dialogs.js';
import type { Session } from './session.js';

export function connectImport(session: Session, strip: JobStrip): void {
  const ask = imagePassphraseAsker();
  const askName = nameAsker();
  const open = async (image: File): Promise<void> => {
    try {
      const taken = (await session.disks()).map(({ name }) => name);
      const name = await askName(nameFromFile(image.name), taken);
      if (name === null) return;
      await strip.run(`Taking in “${name}”`, (job) => session.openImage(image, { ...job, name, ask }));
    } catch (error) {
      // A boot that failed has its own panel, and who gave up knows it.
      if (currentState() !== 'error' && !isQcow2Error(error, 'ABORTED')) showRefusedImage(error);
    }
  };
  const file = element('file', HTMLInputElement);
  element('open', HTMLButtonElement).addEventListener('click', () => file.click());
  file.addEventListener('change', () => {
    const [image] = file.files ?? [];
    // The same file can be chosen again.
    file.value = '';
    if (image) void open(image);
  });
  connectDrop((image) => void open(image));
}

/** Asks for another name where the one that comes from the file is taken. Resolves with null for who gives up. */
type NameAsker = (wanted: string, taken: readonly string[]) => Promise<string | null>;

function nameAsker(): NameAsker {
  const dialog = element('name-dialog', HTMLDialogElement);
  const field = element('name-field', HTMLInputElement);
  let judge: () => void = () => undefined;
  field.addEventListener('input', () => judge());
  dialog.querySelector('button.cancel')!.addEventListener('click', () => dialog.close());
  return (wanted, taken) => {
    if (!taken.some((name) => isSameName(name, wanted))) return Promise.resolve(wanted);
    setText('name-title', `There is a disk “${wanted}” already`);
    judge = () => field.setCustomValidity(complaint(tidyName(field.value), taken));
    field.value = freeName(wanted, taken);
    judge();
    dialog.returnValue = '';
    dialog.showModal();
    field.select();
    return new Promise((resolve) => {
      const answer = (): void => resolve(dialog.returnValue === 'take' ? tidyName(field.value) : null);
      dialog.addEventListener('close', answer, { once: true });
    });
  };
}

function complaint(name: string, taken: readonly string[]): string {
  const other = taken.find((there) => isSameName(there, name));
  return nameProblem(name) ?? (other === undefined ? '' : `There is a disk “${other}” already.`);
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
