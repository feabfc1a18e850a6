/** The images that operations are crashed on: some data, holes, zeroes and compressed clusters everywhere. */
import { readFileSync, writeFileSync } from 'node:fs';
import {
  createImage,
  MemoryStorage,
  openImage,
  RawDisk,
  type CreateOptions,
  type OpenOptions,
  type Qcow2Image,
} from '../../src/index.js';
import { cryptoAreaOf } from '../../src/format/header.js';
import { readHeader } from '../../src/metadata/header-state.js';
import { amendImage } from '../../src/operations/amend.js';
import type { Storage } from '../../src/storage/storage.js';
import { runToEnd } from '../../src/util/steps.js';
import { inTemporaryDirectory, qemuImg } from '../interop/qemu.js';
import { sharedEncryption } from '../support/encrypted-image.js';
import { expectSameBytes } from '../support/model-disk.js';
import { BACKING_NAME, DATA_NAME, ENCRYPTED_WITH } from './crash-judges.js';

/** Bytes of each disk. */
export const SIZE = 0x8_0000;

const ENCRYPTIONS = {
  luks: await sharedEncryption({ format: 'luks', cipher: 'aes-128', iterTime: 0, passphrase: ENCRYPTED_WITH }),
  aes: await sharedEncryption({ format: 'aes', passphrase: ENCRYPTED_WITH }),
};

export interface ImageShape {
  readonly create?: Omit<CreateOptions, 'size' | 'dataFile' | 'backing'>;
  /** Over a raw disk that is twice as long. */
  readonly backing?: boolean;
  readonly dataFile?: 'plain' | 'raw';
  /** Not with `compressed`. */
  readonly encryption?: keyof typeof ENCRYPTIONS;
  /** Takes a snapshot, with QEMU, of the image that is prepared, and writes to it again. */
  readonly snapshot?: boolean;
  /** Some clusters are compressed. */
  readonly compressed?: boolean;
  /** Refcount table and blocks have moved away from the start of the file, and guest data has come there. */
  readonly moved?: boolean;
}

/** Bytes that are neither zero nor a pattern of the guest. */
function noiseBytes(length: number): Uint8Array {
  return new Uint8Array(length).map((_, index) => 0x80 | (index * 7) | (index >>> 9));
}

const BACKING_BYTES = noiseBytes(2 * SIZE);

/** Opens an image over `files`: the image file and, where its shape has one, the data file. */
export function openShape(shape: ImageShape, files: readonly Storage[], options: OpenOptions = {}): Qcow2Image {
  const backing = shape.backing ? new RawDisk(new MemoryStorage(BACKING_BYTES.slice())) : null;
  const beside = shape.dataFile ? { dataFile: files[1]! } : {};
  const key = shape.encryption ? { encryption: { ...ENCRYPTIONS[shape.encryption].opened, borrowed: true } } : {};
  return openImage(files[0]!, { ...options, backing, ...beside, ...key });
}

/** Makes `files` an empty image of `size` bytes. */
export function createShape(shape: ImageShape, files: readonly Storage[], size = SIZE): void {
  const { create = {}, backing, dataFile, encryption } = shape;
  const over = backing ? { backing: { name: BACKING_NAME, format: 'raw' } as const } : {};
  const beside = dataFile ? { dataFile: { name: DATA_NAME, storage: files[1]!, raw: dataFile === 'raw' } } : {};
  const key = encryption ? { encryption: ENCRYPTIONS[encryption] } : {};
  createImage(files[0]!, { size, ...create, ...over, ...beside, ...key });
}

/** Throws unless the key slots of an image in `file` are what they were when it was made. */
export function expectKeySlots({ encryption }: ImageShape, file: Storage): void {
  const area = encryption ? ENCRYPTIONS[encryption].area : null;
  if (area === null) return;
  const place = cryptoAreaOf(readHeader(file))!;
  const found = new Uint8Array(place.length);
  file.read(place.offset, found);
  expectSameBytes(found, area, 'the key slots');
}

function fill(image: Qcow2Image, shape: ImageShape, salt: number): void {
  for (let index = 0; index < 12; index++) {
    image.write(index * 40_000 + salt, new Uint8Array(15_000).fill(index + salt + 1));
  }
  image.writeZeroes(80_000, 30_000);
  image.writeZeroes(200_000, 30_000, { unmap: true });
  if (shape.compressed) compressSome(image, salt);
}

/** Several of them share a host cluster. */
function compressSome(image: Qcow2Image, salt: number): void {
  const { clusterSize, size } = image;
  for (let at = 0; at < size; at += Math.max(clusterSize, SIZE / 16)) {
    image.writeCompressed(at, new Uint8Array(clusterSize).fill(0x40 + salt));
  }
}

/** The first free place, which is looked for when the image is opened, is the one that they leave. */
function moveRefcounts(shape: ImageShape, files: readonly Storage[]): void {
  const image = openShape(shape, files);
  runToEnd(amendImage(image, { refcountBits: 64 }));
  image.close();
  const again = openShape(shape, files);
  for (let index = 0; index < 12; index++)
    again.write(index * 40_000 + 16_000, new Uint8Array(6000).fill(0x60 + index));
  again.close();
}

/** The files of an image of `shape`, filled and closed cleanly. */
export async function prepareImage(shape: ImageShape): Promise<readonly Uint8Array[]> {
  const files = [new MemoryStorage(), new MemoryStorage()].slice(0, shape.dataFile ? 2 : 1);
  createShape(shape, files);
  const fillAgain = (storages: readonly Storage[], salt: number) => {
    const image = openShape(shape, storages);
    fill(image, shape, salt);
    image.close();
  };
  fillAgain(files, 0);
  if (shape.moved) moveRefcounts(shape, files);
  if (!shape.snapshot) return files.map((file) => file.toBytes());
  const withSnapshot = await inTemporaryDirectory((path) => {
    const file = path('image.qcow2');
    writeFileSync(path(BACKING_NAME), BACKING_BYTES);
    writeFileSync(file, files[0]!.toBytes());
    qemuImg('snapshot', '-c', 'one', file);
    return new Uint8Array(readFileSync(file));
  });
  const again = new MemoryStorage(withSnapshot);
  fillAgain([again], 7);
  return [again.toBytes()];
}
