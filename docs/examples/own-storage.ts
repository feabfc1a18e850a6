/**
 * A storage of one's own: the bytes of an image wherever they may be. This one keeps them in pages of a Map, as if each were a record
 * of a database. The engine asks for five things: a size, reads, writes, truncation and flushes.
 */
import { createImage, openImage, type Storage } from 'qcow2-wasm';

const PAGE = 4096;

export class PagedStorage implements Storage {
  readonly readOnly = false;
  readonly pages = new Map<number, Uint8Array>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** Past the end, and where nothing was written, there are zeroes. */
  read(offset: number, target: Uint8Array): void {
    this.#eachPage(offset, target.length, (page, inPage, at, length) => {
      const bytes = this.pages.get(page)?.subarray(inPage, inPage + length);
      if (bytes === undefined) target.fill(0, at, at + length);
      else target.set(bytes, at);
    });
  }

  write(offset: number, source: Uint8Array): void {
    this.#eachPage(offset, source.length, (page, inPage, at, length) => {
      const bytes = this.pages.get(page) ?? new Uint8Array(PAGE);
      bytes.set(source.subarray(at, at + length), inPage);
      this.pages.set(page, bytes);
    });
    this.#size = Math.max(this.#size, offset + source.length);
  }

  truncate(size: number): void {
    for (const page of this.pages.keys()) if (page * PAGE >= size) this.pages.delete(page);
    this.pages.get(Math.floor(size / PAGE))?.fill(0, size % PAGE);
    this.#size = size;
  }

  /** What was written before must outlive a power cut once this has returned. */
  flush(): void {}

  close(): void {}

  #eachPage(
    offset: number,
    length: number,
    visit: (page: number, inPage: number, at: number, length: number) => void,
  ): void {
    for (let at = 0; at < length;) {
      const inPage = (offset + at) % PAGE;
      const part = Math.min(PAGE - inPage, length - at);
      visit(Math.floor((offset + at) / PAGE), inPage, at, part);
      at += part;
    }
  }
}

export function diskInPages(): { storage: PagedStorage; read(offset: number, length: number): Uint8Array } {
  const storage = new PagedStorage();
  createImage(storage, { size: 2 ** 30 });
  const image = openImage(storage);
  image.write(12345, new TextEncoder().encode('hello'));
  const read = (offset: number, length: number): Uint8Array => {
    const bytes = new Uint8Array(length);
    image.read(offset, bytes);
    return bytes;
  };
  return { storage, read };
}
