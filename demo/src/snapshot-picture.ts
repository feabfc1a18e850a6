/** Pictures of snapshots in `<img>` elements, without leaving object URLs behind. */

/** Shows the picture file, or nothing. What was shown before is let go. */
export function showPicture(image: HTMLImageElement, picture: Uint8Array | null): void {
  const before = image.getAttribute('src');
  if (before) URL.revokeObjectURL(before);
  if (picture) image.src = URL.createObjectURL(new Blob([picture.slice()]));
  else image.removeAttribute('src');
  image.hidden = !picture;
}
