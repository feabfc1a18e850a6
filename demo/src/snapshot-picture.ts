/** Pictures of snapshots in `<img>` elements, without leaving object URLs behind. */
import { hasImage } from './picture-file.js';

/** Shows the image of a picture file, or nothing. What was shown before is let go. */
export function showPicture(image: HTMLImageElement, picture: Uint8Array | null): void {
  const before = image.getAttribute('src');
  if (before) URL.revokeObjectURL(before);
  const isShown = picture !== null && hasImage(picture);
  if (isShown) image.src = URL.createObjectURL(new Blob([picture.slice()]));
  else image.removeAttribute('src');
  image.hidden = !isShown;
}
