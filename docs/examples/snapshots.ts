/** Buttons for "save" and "go back": disk and memory of one moment, inside the qcow2. The list is what QEMU would show, too. */
import type { Attachment } from 'qcow2-wasm/v86';

export function snapshotButtons(machine: Attachment, save: HTMLButtonElement, list: HTMLElement): void {
  const show = async (): Promise<void> => {
    const snapshots = await machine.listSnapshots();
    list.replaceChildren(
      ...snapshots.map(({ id, name }) => {
        const button = document.createElement('button');
        button.textContent = name;
        button.addEventListener('click', () => void machine.loadSnapshot({ id }));
        return button;
      }),
    );
  };
  save.addEventListener('click', () => void machine.saveSnapshot(new Date().toLocaleString()).then(show));
  void show();
}
