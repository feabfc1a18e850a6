/** Images from elsewhere: by the file picker, by an address, or dropped onto the page. Each becomes a disk of its own, named after its file. */
import { isQcow2Error } from 'qcow2-wasm/opfs';
import { freeName, isSameName, nameFromFile, nameProblem, tidyName } from './disk-names.js';
import type { JobStrip } from './job-strip.js';
import { showRefusedImage } from './notice.js';
import { currentState, element, setText } from './page.js';
import { imagePassphraseAsker } from './passphrase-dialogs.js';
import type { Session } from './session.js';

type OnImage = (image: File | URL) => void;

export function connectImport(session: Session, strip: JobStrip): void {
  const ask = imagePassphraseAsker();
  const askName = nameAsker();
  const open = async (image: File | URL): Promise<void> => {
    try {
      const taken = (await session.disks()).map(({ name }) => name);
      const name = await askName(nameOfImage(image), taken);
      if (name === null) return;
      await strip.run(`Taking in “${name}”`, (job) => session.openImage(image, { ...job, name, ask }));
    } catch (error) {
      // A boot that failed has its own panel, and who gave up knows it.
      if (currentState() !== 'error' && !isQcow2Error(error, 'ABORTED')) showRefusedImage(error);
    }
  };
  const onImage: OnImage = (image) => void open(image);
  connectDialog(onImage);
  connectDrop(onImage);
}

/** What a disk is called that is made of `image`. */
export function nameOfImage(image: Blob | URL): string {
  if (image instanceof URL) return nameFromFile(decodedPath(image));
  return nameFromFile(image instanceof File ? image.name : '');
}

function decodedPath({ pathname }: URL): string {
  try {
    return decodeURIComponent(pathname);
  } catch {
    return pathname;
  }
}

function connectDialog(onImage: OnImage): void {
  const dialog = element('import-dialog', HTMLDialogElement);
  const file = element('file', HTMLInputElement);
  const address = element('import-address', HTMLInputElement);
  element('open', HTMLButtonElement).addEventListener('click', () => dialog.showModal());
  element('import-file', HTMLButtonElement).addEventListener('click', () => file.click());
  file.addEventListener('change', () => {
    const [image] = file.files ?? [];
    // The same file can be chosen again.
    file.value = '';
    dialog.close();
    if (image) onImage(image);
  });
  address.addEventListener('input', () => {
    const isAddress = imageAddress(address.value) !== null;
    address.setCustomValidity(isAddress ? '' : 'An address begins with https://, or is one of this site.');
  });
  dialog.querySelector('form')!.addEventListener('submit', (event) => {
    event.preventDefault();
    const url = imageAddress(address.value);
    if (url === null) return;
    dialog.close();
    onImage(url);
  });
  dialog.querySelector('button.cancel')!.addEventListener('click', () => dialog.close());
  dialog.addEventListener('close', () => (address.value = ''));
}

function imageAddress(text: string): URL | null {
  const address = text.trim();
  if (address === '' || !URL.canParse(address, document.baseURI)) return null;
  const url = new URL(address, document.baseURI);
  return url.protocol === 'https:' || url.protocol === 'http:' ? url : null;
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

function connectDrop(onImage: OnImage): void {
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
