/**
 * A small picture of what the visitor looked at: the VGA screen, or the last lines of the serial console. One image file of
 * at most 16 KiB, WebP where the browser can write it.
 */
import type { V86 } from 'v86';

const WIDTH = 320;
const HEIGHT = 200;
const IMAGE_BYTES = 16 * 1024;

/** Tried in turn until the file is small enough. The last one always is. */
const ATTEMPTS = [
  { scale: 1, quality: 0.8 },
  { scale: 1, quality: 0.5 },
  { scale: 0.5, quality: 0.5 },
  { scale: 0.2, quality: 0.3 },
] as const;

const FONT_PIXELS = 12;
const LINE_PIXELS = 15;
const MARGIN_PIXELS = 8;

/** A line of text in runs of one colour. */
export type ColouredLine = readonly { readonly text: string; readonly colour: string }[];

/** The VGA screen as it is, in text and in graphics modes. */
export async function pictureOfScreen(emulator: V86): Promise<Uint8Array> {
  const screen = emulator.screen_make_screenshot() as HTMLImageElement;
  await whenLoaded(screen);
  const [canvas, context] = newCanvas(WIDTH, HEIGHT);
  fill(context, '#000');
  const scale = Math.min(WIDTH / screen.naturalWidth, HEIGHT / screen.naturalHeight);
  const [width, height] = [screen.naturalWidth * scale, screen.naturalHeight * scale];
  context.drawImage(screen, (WIDTH - width) / 2, (HEIGHT - height) / 2, width, height);
  return encode(canvas);
}

/** How many lines of text a picture shows. */
export const TEXT_LINES = Math.floor((HEIGHT - MARGIN_PIXELS) / LINE_PIXELS);

/** Lines of text, top to bottom; what is too long is cut. */
export function pictureOfText(lines: readonly ColouredLine[], background: string, font: string): Promise<Uint8Array> {
  const [canvas, context] = newCanvas(WIDTH, HEIGHT);
  fill(context, background);
  context.font = `${FONT_PIXELS}px ${font}`;
  context.textBaseline = 'top';
  lines.slice(-TEXT_LINES).forEach((line, row) => {
    let x = MARGIN_PIXELS;
    for (const { text, colour } of line) {
      context.fillStyle = colour;
      context.fillText(text, x, MARGIN_PIXELS + row * LINE_PIXELS);
      x += context.measureText(text).width;
    }
  });
  return encode(canvas);
}

/** Not `decode()`: that may wait until the page is seen. */
function whenLoaded(image: HTMLImageElement): Promise<void> {
  if (image.complete) return Promise.resolve();
  return new Promise((resolve, reject) => {
    image.addEventListener('load', () => resolve());
    image.addEventListener('error', () => reject(new Error('the screenshot could not be loaded')));
  });
}

async function encode(canvas: HTMLCanvasElement): Promise<Uint8Array> {
  for (const { scale, quality } of ATTEMPTS) {
    const [small, context] = newCanvas(canvas.width * scale, canvas.height * scale);
    context.drawImage(canvas, 0, 0, small.width, small.height);
    const blob = await new Promise<Blob | null>((resolve) => small.toBlob(resolve, 'image/webp', quality));
    if (blob && blob.size <= IMAGE_BYTES) return new Uint8Array(await blob.arrayBuffer());
  }
  throw new Error(`no picture of at most ${IMAGE_BYTES} bytes could be made`);
}

function newCanvas(width: number, height: number): [HTMLCanvasElement, CanvasRenderingContext2D] {
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext('2d', { alpha: false });
  if (!context) throw new Error('this browser has no 2D canvas');
  context.imageSmoothingQuality = 'high';
  return [canvas, context];
}

function fill(context: CanvasRenderingContext2D, colour: string): void {
  context.fillStyle = colour;
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
}
